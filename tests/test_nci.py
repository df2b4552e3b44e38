"""Non-covalent interactions of dimers, against derivatives of the Gaussians by PySCF."""

from pathlib import Path

import numpy as np
import pytest

from denser.analysis.fields import S_CONSTANT
from denser.analysis.interactions.nci import EXPONENTS, RHO_MIN, nci
from denser.atoms.free_atoms import complete
from denser.atoms.sad import superposition, valence_charges
from denser.dft.cell import build_cell
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

REFERENCE = Path(__file__).parent / "reference"
FINE, COARSE = np.pi / 20, np.pi / 10


def dimer(name: str, spacing: float, shift=(0.0, 0.0, 0.0)) -> tuple[Density, np.ndarray]:
    """Density of a dimer on a grid, and its orbitals."""
    with np.load(REFERENCE / f"{name}.npz") as data:
        structure, c = Structure(data["numbers"], data["positions"]), data["mo_coeff"]
    grid = Grid.around(structure, spacing=spacing)
    grid = Grid(grid.origin + np.array(shift), grid.cell, grid.shape)
    values = density_on_grid(structure.numbers, structure.positions, c, grid).numpy()
    charges = valence_charges(structure)
    return Density(grid, values, structure=structure, valence_charges=charges), c


@pytest.fixture(scope="module")
def water():
    return dimer("water_dimer", FINE)


def test_water_dimer_is_one_hydrogen_bond(water):
    found = nci(water[0])
    (bond,) = found.interactions
    assert bond.kind == "hydrogen bond"
    assert bond.atoms == (2, 3)
    assert bond.distance * BOHR == pytest.approx(1.95, abs=0.01)
    assert -0.03 < bond.strength < -0.02
    # The critical point lies on the line between the two.
    a, b = water[0].structure.positions[[2, 3]]
    along = (bond.position - a) @ (b - a) / ((b - a) @ (b - a))
    assert np.linalg.norm(bond.position - a - along * (b - a)) < 0.2
    assert 0.3 < along < 0.4
    assert set(np.unique(found.labels.values)) == {0, 1}
    nodes = found.labels.values == 1
    assert 0.4 < bond.volume / (nodes.sum() * found.labels.grid.dv) < 1  # some cells in part
    rho = bond.integrals[0] / bond.volume
    assert rho == pytest.approx(-bond.mean, rel=0.01)
    for n, integral in zip(EXPONENTS, bond.integrals, strict=True):
        assert integral / bond.volume == pytest.approx(rho**n, rel=0.02)
    assert found.signed_density.shape == found.s.shape and found.s.size <= 20_000
    assert found.s.min() < 0.4 and np.abs(found.signed_density).max() < 0.05
    assert "hydrogen bond     H3...O4 1.95 angstrom" in found.lines()[1]
    entry = found.to_dict()["interactions"][0]
    assert entry["atoms"] == [3, 4] and entry["symbols"] == ["H", "O"]


@pytest.mark.parametrize("spacing", [FINE, COARSE])
def test_regions_are_those_of_the_exact_derivatives(spacing):
    density, c = dimer("methane_dimer", spacing)
    (contact,) = nci(density).interactions
    assert contact.kind == "van der Waals"
    assert {i // 5 for i in contact.atoms} == {0, 1}
    grid, h = density.grid, np.pi / 60
    axis = np.arange(-2.5, 2.5, h) + 0.3 * h
    points = np.stack(np.meshgrid(axis, axis, axis[np.abs(axis) < 1], indexing="ij"), axis=-1)
    points = points.reshape(-1, 3) + density.structure.positions.mean(axis=0)
    molecule = build_cell(density.structure, grid).to_mol()
    rho, s = np.empty((2, len(points)))
    for part in np.array_split(np.arange(len(points)), 20):
        psi = molecule.eval_gto("GTOval_sph_deriv1", points[part] - grid.origin) @ c
        rho[part] = 2 * np.square(psi[0]).sum(axis=-1)
        slope = 4 * (psi[0] * psi[1:]).sum(axis=-1)
        s[part] = np.linalg.norm(slope, axis=0) / (S_CONSTANT * rho[part] ** (4 / 3))
    inside = (s < 0.5) & (rho < 0.05) & (rho > RHO_MIN)
    assert contact.volume == pytest.approx(inside.sum() * h**3, rel=0.05)
    assert contact.integrals[0] == pytest.approx(rho[inside].sum() * h**3, rel=0.05)
    assert abs(contact.strength) == pytest.approx(rho[np.argmin(s)], rel=0.01)


def test_spacing_frame_and_cores_do_not_matter(water):
    (fine,) = nci(water[0]).interactions
    density, _ = dimer("water_dimer", COARSE, shift=(0.05, -0.11, 0.08))
    for other in (density, complete(density)):
        (coarse,) = nci(other).interactions
        assert (coarse.kind, coarse.atoms) == (fine.kind, fine.atoms)
        assert coarse.strength == pytest.approx(fine.strength, rel=0.05)
        assert coarse.volume == pytest.approx(fine.volume, rel=0.1)


def test_a_bond_is_no_interaction():
    label = read_label(REFERENCE / "labels" / "H2CO.npz")
    structure = Structure(label.structure.numbers, label.structure.positions)
    grid = Grid.around(structure, spacing=COARSE)
    values = density_on_grid(structure.numbers, structure.positions, label.mo_coeff, grid)
    density = Density(
        grid, values.numpy(), structure=structure, valence_charges=valence_charges(structure)
    )
    assert nci(density).interactions == ()


def test_contacts_across_the_face_of_a_cell_count_in_a_crystal_only():
    length = 6.0
    positions = np.array([[length / 2, length / 2, length / 2]])
    grid = Grid(np.zeros(3), np.eye(3) * length, (40,) * 3)
    for cell, expected in ((np.eye(3) * length, "van der Waals"), (None, None)):
        atom = Structure(np.array([10]), positions, cell=cell)
        kinds = {x.kind for x in nci(superposition(atom, grid)).interactions}
        assert expected in kinds if expected else not kinds


def test_cutoffs_must_be_positive(water):
    with pytest.raises(InputError, match="s_cutoff must be positive"):
        nci(water[0], s_cutoff=0.0)
