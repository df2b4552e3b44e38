"""Small molecules, and a small network, shared by the tests."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from denser.atoms.sad import superposition
from denser.model.checkpoint import Model, build
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure


@pytest.fixture
def water() -> Atoms:
    return molecule("H2O")


@pytest.fixture
def ethanol() -> Structure:
    return Structure.from_ase(molecule("CH3CH2OH"))


@pytest.fixture(scope="session")
def small_model() -> Model:
    """An untrained, small U-Net with a head that is not zero."""
    torch.manual_seed(3)
    options = {"channels": [8, 8, 8], "blocks": [1, 1, 1], "decoder_blocks": [1, 1]}
    network = build("unet", options)
    torch.nn.init.normal_(network.head.weight, std=0.02)
    return Model("small", "unet", network.eval(), Recipe(), {})


@pytest.fixture
def sad_density(ethanol: Structure):
    """SAD of ethanol on a coarse, non-cubic grid."""
    return superposition(ethanol, Grid.around(ethanol, padding=7.0, spacing=0.4))
