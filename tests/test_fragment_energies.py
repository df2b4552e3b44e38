"""Interaction energies of molecules from predicted densities."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from pyscf.dft import numint

import denser
from denser.analysis.charges.without_grid import Conformer
from denser.analysis.crystal.electrostatic_energy import coulomb_and_overlap, joined
from denser.analysis.interactions.fragment_energies import rearrangement, repulsion, terms_of
from denser.dft.induction import overlap_potential, polarisation_energy
from denser.dft.molecular import build_molecule, converge
from denser.dft.open_space import local_matrix, local_pseudopotential
from denser.dft.open_space_gradient import open_step
from denser.dft.point_charges import PointCharges
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import KCAL_PER_MOL

DONOR = [[-0.702196, -0.056060, 0.009942], [-1.022193, 0.846776, -0.011489],
         [0.257521, 0.042122, 0.005219]]  # fmt: skip
ACCEPTOR = [[2.220871, 0.026717, 0.000620], [2.597493, -0.411663, 0.766745],
            [2.593135, -0.449496, -0.744782]]  # fmt: skip


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("default")


@pytest.fixture(scope="module")
def waters(predictor) -> tuple[Conformer, Conformer]:
    """The water dimer of S66."""
    found = []
    for positions in (DONOR, ACCEPTOR):
        structure = Structure.of(Atoms("OHH", positions))
        found.append(Conformer(structure, predictor.gaussians(structure)[0]))
    return found[0], found[1]


@pytest.fixture(scope="module")
def dimer() -> Atoms:
    return Atoms("OHHOHH", DONOR + ACCEPTOR)


def test_terms_of_the_water_dimer(waters):
    """Published CCSD(T): -4.92; perturbation theory has an electrostatic energy of about -8.2."""
    found = terms_of(waters, Recipe())
    assert found.electrostatic * KCAL_PER_MOL == pytest.approx(-8.3, abs=0.3)
    assert found.total * KCAL_PER_MOL == pytest.approx(-4.92, abs=0.7)
    assert all(e < 0 for e in found.polarisation)
    assert sum(found.polarisation) * KCAL_PER_MOL == pytest.approx(-1.2, abs=0.2)
    assert found.dispersion < 0 < found.repulsion
    plain = found.to_dict()
    assert plain["interaction_kcal_per_mol"] == pytest.approx(found.total * KCAL_PER_MOL, abs=1e-3)
    assert plain["fragments"] == ["H2O", "H2O"]


def test_overlap_is_that_of_a_grid(waters, dimer):
    """The mean of products on the nodes of a fine grid."""
    first, second = waters
    _, overlap = coulomb_and_overlap(first, second)
    grid = denser.Grid.around(joined(first.structure, second.structure), 4.0, 0.22)
    product = first.density.at(grid.points().reshape(-1, 3))
    product = product * second.density.at(grid.points().reshape(-1, 3))
    assert overlap == pytest.approx(product.sum() * grid.dv, rel=0.02)
    assert repulsion(overlap) > repulsion(0.5 * overlap) > repulsion(0.0) == 0


def test_polarisation_by_a_distant_ion_is_that_of_a_charge(waters, predictor):
    """The potential on points around the atoms against analytic integrals of a point charge."""
    step = open_step(waters[0].structure, waters[0].density)
    far = np.array([0.0, 25.0, 0.0])
    ion = Structure([8, 1], far + [[0.0, 0, 0], [1.8, 0, 0]], -1)
    density = predictor.gaussians(ion)[0]
    n, first, _, _ = density.moments(far)
    assert n == pytest.approx(8)
    # charge -1 and the dipole of nuclei and electrons, as two charges
    dipole = 1 * np.array([1.8, 0, 0]) - first
    charges = PointCharges(
        np.array([far + dipole / 2, far - dipole / 2, far]), np.array([1.0, -1.0, -1.0])
    )
    matrix = step.mo_coeff.T @ charges.matrix(step.mol) @ step.mo_coeff
    lowered = np.linalg.eigvalsh(np.diag(step.mo_energy) + matrix)[:4]
    expected = 2 * (lowered.sum() - step.mo_energy[:4].sum() - np.trace(matrix[:4, :4]))
    assert expected < -1e-6
    assert polarisation_energy(step, [(ion, density)]) == pytest.approx(expected, rel=0.03)


def test_overlap_potential_is_the_slope_of_the_local_energies():
    """Of e[rho_A + rho_B] - e[rho_A], with the energies of Thomas and Fermi, Dirac, and PW92."""

    def energy(rho):
        e_xc = numint.NumInt().eval_xc_eff("LDA,PW", rho[None], deriv=0, xctype="LDA")[0]
        return rho * e_xc + 0.3 * (3 * np.pi**2) ** (2 / 3) * rho ** (5 / 3)

    own, other = np.array([[1e-3, 0.02, 0.2, 0.2], [0.01, 0.02, 1e-4, 0.0]])
    step = 1e-4 * own
    slope = (energy(own + other + step) - energy(own + other - step)) / (2 * step)
    slope -= (energy(own + step) - energy(own - step)) / (2 * step)
    np.testing.assert_allclose(overlap_potential(own, other), slope, rtol=1e-5, atol=1e-8)
    assert overlap_potential(own, other)[-1] == 0


def test_electrons_do_not_fall_into_a_neighbour(predictor):
    """Stacked ethynes: without what keeps electrons apart the energy is several times as large."""
    first = Structure.of(molecule("C2H2"))
    second = Structure(first.numbers, first.positions + [5.5, 0, 0])
    density = predictor.gaussians(second)[0]
    step = open_step(first, predictor.gaussians(first)[0])
    found = polarisation_energy(step, [(second, density)])
    points = step.linear.points
    potential = local_pseudopotential(build_molecule(second, "gth-tzv2p"), points)
    potential -= density.potential(points, np.zeros(4))
    matrix = local_matrix(step.mol, points, 0.5 * (step.linear.weights * potential)[None])
    within = step.mo_coeff.T @ matrix @ step.mo_coeff
    lowered = np.linalg.eigvalsh(np.diag(step.mo_energy) + within)[:5]
    bare = 2 * (lowered.sum() - step.mo_energy[:5].sum() - np.trace(within[:5, :5]))
    assert 2 * bare < bare < 2 * found < 0


def test_superposition_error_of_one_step_is_that_of_self_consistency(waters):
    """What the functions of a neighbour lower the energy by."""
    first, second = (conformer.structure for conformer in waters)
    step = open_step(first, waters[0].density).energy
    step -= open_step(first, waters[0].density, ghosts=second).energy
    expected = converge(first, "gth-tzv2p").e_tot
    expected -= converge(first, "gth-tzv2p", ghosts=second).e_tot
    assert expected * KCAL_PER_MOL > 0.05
    assert step == pytest.approx(expected, rel=0.05)


def test_rearrangement_holds_no_electrons(dimer, predictor):
    rho = denser.predict(dimer, spacing=0.2)
    change = rearrangement(rho, predictor)
    assert change.integrate() == pytest.approx(0, abs=0.01)
    assert np.abs(change.values).max() > 0.005
    with pytest.raises(InputError, match="give the structure in place of a density file"):
        rearrangement(rho.with_values(rho.values), predictor)


def test_command(run, tmp_path, dimer):
    dimer.write(tmp_path / "dimer.xyz")
    options = ("--interaction-energies", "--spacing", "0.25")
    code, out, err = run("analyze", "dimer.xyz", *options, "-o", "report")
    assert code == 0, err
    assert "interaction of 1 H2O + 2 H2O: -" in out
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"dimer_rearrangement.cube", "dimer_interaction-energies.png"} <= names
    for words, arguments in (
        ("all atoms of H2O are bonded", ("--smiles", "O")),
        ("atom 6 is in no fragment", ("dimer.xyz", "--fragments", "1-3,4-5")),
    ):
        code, _, err = run("analyze", *arguments, *options)
        assert code == 2
        assert words in err
