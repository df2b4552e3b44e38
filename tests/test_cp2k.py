"""Energies, densities and forces against CP2K: see `reference/cp2k/make_cp2k.py`."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_numbers
from pyscf.pbc.grad.rks import Gradients

from denser.atoms.sad import valence_charges
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.gradient import scf_gradient
from denser.dft.scf import mean_field, scf
from denser.fields.metrics import err_rho
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE

FOLDER = Path(__file__).parent / "reference" / "cp2k"
REFERENCE = json.loads((FOLDER / "cp2k.json").read_text())["molecules"]
MEV, MEV_PER_ANGSTROM = 1e3 * HARTREE, 1e3 * HARTREE / BOHR


def placed(name: str) -> tuple[Structure, Grid]:
    entry = REFERENCE[name]
    numbers = np.array([atomic_numbers[symbol] for symbol in entry["symbols"]])
    return Structure(numbers, np.array(entry["positions"])), Grid(
        np.zeros(3), np.diag(entry["box"]), tuple(entry["mesh"])
    )


def cp2k_density(structure: Structure, grid: Grid) -> Density:
    """CP2K's density of water at every second node."""
    values = np.load(FOLDER / "H2O.npz")["values"].astype(float)
    charges = valence_charges(structure)
    return Density(grid.coarsen(2), values, structure=structure, valence_charges=charges)


@pytest.mark.slow
def test_water_is_that_of_cp2k_where_all_gaussians_are_on_the_finest_grid():
    structure, grid = placed("H2O")
    mf = mean_field(structure, grid)
    mf._numint.ntasks = 1
    mf.kernel()
    assert abs(mf.e_tot - REFERENCE["H2O"]["e_cp2k"]) * MEV < 0.1
    gradient = Gradients(mf)
    gradient.verbose = 0
    error = np.abs(gradient.kernel() + REFERENCE["H2O"]["forces_cp2k"]).max()
    assert error * MEV_PER_ANGSTROM < 0.1
    theirs = cp2k_density(structure, grid)
    rho = mf._numint.get_rho(mf.cell, np.asarray(mf.make_rdm1()), None).reshape(grid.shape)
    # The cube's five digits are most of the difference.
    assert err_rho(theirs.with_values(rho[::2, ::2, ::2]), theirs) < 2e-5


@pytest.mark.parametrize(
    "name", ["H2O", *(pytest.param(n, marks=pytest.mark.slow) for n in ("CH4", "H2CO"))]
)
def test_the_usual_multigrid_is_within_its_accuracy_of_cp2k(name):
    structure, grid = placed(name)
    result = scf(structure, grid)
    assert abs(result.e_tot - REFERENCE[name]["e_cp2k"]) * MEV < 2.0
    gradient = scf_gradient(structure, grid, result)
    assert np.abs(gradient + REFERENCE[name]["forces_cp2k"]).max() * MEV_PER_ANGSTROM < 8.0
    if name == "H2O":
        theirs = cp2k_density(structure, grid)
        rho = density_from_dm(build_cell(structure, grid), result.dm, grid, structure)
        coarse = theirs.with_values(rho.values[::2, ::2, ::2])
        assert err_rho(coarse, theirs) < 2e-4


@pytest.mark.slow
def test_a_triclinic_crystal_is_that_of_cp2k():
    """Energy at Gamma, and the density that a label of it has."""
    entry = json.loads((FOLDER / "crystal.json").read_text())
    numbers = np.array([atomic_numbers[symbol] for symbol in entry["symbols"]])
    structure = Structure(numbers, np.array(entry["positions"]), cell=np.array(entry["cell"]))
    result = scf(structure)
    assert abs(result.e_tot - entry["e_cp2k"]) * MEV < 0.5
    theirs = np.load(FOLDER / "crystal.npz")["values"]
    grid = Grid(np.zeros(3), structure.cell, theirs.shape)
    occupied = result.mo_coeff[:, result.mo_occ > 0]
    ours = density_on_grid(numbers, structure.positions, occupied, grid).numpy()
    assert np.abs(ours - theirs).sum() < 5e-5 * theirs.sum()
