"""Starting self-consistent calculations from predictions."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from pyscf import gto
from pyscf.pbc import gto as pbcgto
from pyscf.pbc.dft import rks

from denser.atoms.sad import superposition
from denser.dft.guess import structure_of
from denser.dft.scf import scf
from denser.labels.reading import read_label
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.workflows.scf_guess import dm_from_density, pyscf_guess

LABELS = Path(__file__).parent / "reference" / "labels"


@pytest.fixture(scope="module")
def predictor():
    return Predictor("default", device="cpu")


def water(**options):
    atoms = molecule("H2O")
    places = list(zip(atoms.symbols, atoms.positions, strict=True))
    settings = {"basis": "gth-szv", "pseudo": "gth-pbe", "verbose": 0} | options
    return gto.M(atom=places, **settings)


def test_a_predicted_start_saves_cycles_and_ends_at_the_same_energy(predictor):
    label = read_label(LABELS / "H2O.npz")
    plain = scf(label.structure, label.grid)
    density = predictor.density(superposition(label.structure, label.grid), periodic=True)
    dm = dm_from_density(density, Recipe())
    result = scf(label.structure, label.grid, dm0=dm)
    assert result.converged
    assert result.e_tot == pytest.approx(label.e_tot, abs=1e-8)
    assert result.cycles < plain.cycles


def test_the_users_own_molecule_in_his_own_basis_and_functional(predictor):
    mol = water()
    mf = mol.RKS(xc="pbe0")
    dm = pyscf_guess(mf, predictor, padding=2.0)
    assert dm.shape == (mol.nao, mol.nao)
    assert np.einsum("ij,ji", dm, mf.get_ovlp()) == pytest.approx(8, abs=1e-9)
    energy = mf.kernel(dm)
    plain = mol.RKS(xc="pbe0")
    assert energy == pytest.approx(plain.kernel(), abs=1e-8)
    assert mf.cycles < plain.cycles


def test_the_users_own_cell(predictor):
    mol = water()
    cell = pbcgto.M(
        atom=mol.atom, a=np.eye(3) * 12.0, unit="bohr", basis="gth-szv", pseudo="gth-pbe",
        verbose=0, precision=1e-6, mesh=[76] * 3,
    )  # fmt: skip
    cell.set_geom_(mol.atom_coords(), unit="bohr")
    mf = rks.RKS(cell, xc="pbe")
    dm = pyscf_guess(mf, predictor)
    assert np.einsum("ij,ji", dm, mf.get_ovlp()) == pytest.approx(8, abs=1e-9)
    structure = structure_of(mf)
    assert structure.formula == "H2O" and structure.is_orthorhombic


def test_other_calculations_are_refused():
    for mf, message in (
        (water().UKS(), "found UKS"),
        (water(pseudo=None, basis="sto-3g").RKS(), "has all its electrons"),
        (water(pseudo="gth-blyp").RKS(), "not 'gth-pbe'"),
    ):
        with pytest.raises(InputError, match=message):
            pyscf_guess(mf)
    cell = pbcgto.M(atom="He 0 0 0", a=np.eye(3) * 5, basis="gth-szv", pseudo="gth-pbe", verbose=0)
    with pytest.raises(InputError, match="k points"):
        pyscf_guess(cell.KRKS(kpts=cell.make_kpts([2, 1, 1])))
    with pytest.raises(InputError, match="only at the Gamma point"):
        pyscf_guess(cell.RKS(kpt=np.array([0.1, 0, 0])))
