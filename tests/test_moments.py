import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from denser.analysis.charges.corrected_hirshfeld import cm5
from denser.analysis.charges.esp_fit import EspCharges
from denser.analysis.charges.stockholder import hirshfeld
from denser.analysis.moments import dipole, dipole_record, dipole_text, moments
from denser.atoms.free_atoms import complete, free_atom
from denser.atoms.molecules import whole_molecules
from denser.atoms.sad import superposition, valence_charges
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import DEBYE


def pyscf_moments(mol, dm, charges, origin):
    """Dipole, Buckingham quadrupole, octupole and <r^2> from analytic integrals."""
    nao = mol.nao
    x = mol.atom_coords() - origin
    with mol.with_common_origin(origin):
        electrons = [
            np.einsum("...ij,ij->...", mol.intor(name).reshape(*[3] * order, nao, nao), dm)
            for order, name in enumerate(("int1e_r", "int1e_rr", "int1e_rrr"), start=1)
        ]
    first = charges @ x - electrons[0]
    second = np.einsum("a,ai,aj->ij", charges, x, x) - electrons[1]
    third = np.einsum("a,ai,aj,ak->ijk", charges, x, x, x) - electrons[2]
    eye, ray = np.eye(3), np.einsum("ijj->i", third)
    octupole = np.empty((3, 3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                trace = ray[i] * eye[j, k] + ray[j] * eye[i, k] + ray[k] * eye[i, j]
                octupole[i, j, k] = (5 * third[i, j, k] - trace) / 2
    quadrupole = 1.5 * second - 0.5 * np.trace(second) * eye
    return first, quadrupole, octupole, np.trace(electrons[1])


@pytest.fixture(scope="module")
def gth():
    """Orbitals of HOF, oblique, with pseudopotentials, in an isolated box."""
    from pyscf import gto
    from pyscf.pbc import gto as pbcgto

    positions = np.array([[1.9, 0.3, -0.4], [0.1, 0.1, 0.2], [-0.9, 2.2, 1.3]])
    mol = gto.M(
        atom=[[s, tuple(x)] for s, x in zip("HOF", positions, strict=True)],
        unit="bohr",
        basis={s: pbcgto.basis.load("gth-tzv2p", s) for s in "HOF"},
        pseudo={s: pbcgto.pseudo.load("gth-pbe", s) for s in "HOF"},
        verbose=0,
    )
    mf = mol.RHF()
    mf.chkfile = None
    mf._chkfile.close()  # else the garbage collector warns
    mf.kernel()
    structure = Structure([1, 8, 9], positions)
    grid = Grid.around(structure, 7.5, 0.17)
    occupied = mf.mo_coeff[:, mf.mo_occ > 0]
    values = density_on_grid(structure.numbers, positions, occupied, grid).numpy()
    charges = valence_charges(structure)
    return mol, mf.make_rdm1(), Density(grid, values, structure=structure, valence_charges=charges)


@pytest.mark.parametrize("origin", [None, (0.4, -1.0, 2.0)])
def test_moments_are_those_of_analytic_integrals(gth, origin):
    mol, dm, density = gth
    result = moments(density, origin)
    expected = pyscf_moments(mol, dm, density.valence_charges, result.origin)
    np.testing.assert_allclose(result.dipole, expected[0], atol=2e-4)
    np.testing.assert_allclose(result.quadrupole, expected[1], atol=2e-3)
    np.testing.assert_allclose(result.octupole, expected[2], atol=2e-2)
    assert result.electronic_extent == pytest.approx(expected[3], rel=1e-4)
    assert result.charge == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(density.dipole(), result.dipole, atol=2e-4)


def test_cusps_of_an_all_electron_density_do_no_harm():
    from pyscf import gto

    atoms = "O 0.03 0.02 0.01; H 0.1 0.77 0.6; H 0.0 -0.75 0.62"
    mol = gto.M(atom=atoms, basis="def2-tzvp", verbose=0)
    mf = mol.RHF()
    mf.chkfile = None
    mf._chkfile.close()  # else the garbage collector warns
    mf.kernel()
    structure = Structure([8, 1, 1], mol.atom_coords())
    grid = Grid.around(structure, 7.0, 0.2)
    ao = mol.eval_gto("GTOval", grid.points().reshape(-1, 3))
    values = ((ao @ mf.mo_coeff[:, :5]) ** 2).sum(axis=1).reshape(grid.shape) * 2
    charges = mol.atom_charges().astype(float)
    density = Density(grid, values, structure=structure, valence_charges=charges, all_electron=True)
    result = moments(density)
    expected = pyscf_moments(mol, mf.make_rdm1(), charges, result.origin)
    # the nodes miss 0.4 electrons of the cusp; what is left is that of Gaussians and Hartree-Fock
    # instead of numerical PBE atoms
    assert abs(density.integrate() - 10) > 0.4
    assert abs(result.charge) < 0.4 / 50
    assert np.abs(density.dipole() - expected[0]).max() > 0.1
    np.testing.assert_allclose(result.dipole, expected[0], atol=2e-3)
    np.testing.assert_allclose(result.quadrupole, expected[1], atol=1e-3)
    np.testing.assert_allclose(result.octupole, expected[2], atol=1e-3)
    assert result.electronic_extent == pytest.approx(expected[3], rel=1e-4)
    assert result.electrons == "all"


def test_completion_changes_the_extent_alone(gth):
    density = gth[2]
    valence, every = moments(density), moments(complete(density))
    for name in ("charge", "dipole", "quadrupole", "octupole"):
        np.testing.assert_allclose(getattr(every, name), getattr(valence, name), atol=1e-6)
    x2 = ((density.structure.positions - valence.origin) ** 2).sum(axis=1)
    r = np.linspace(0, 12, 40001)
    cores = [
        np.trapezoid(4 * np.pi * r**4 * free_atom(int(z)).core(r), r)
        for z in density.structure.numbers
    ]
    # cut at the core's radius, hence not exactly
    assert every.electronic_extent - valence.electronic_extent == pytest.approx(
        2 * x2[1:].sum() + sum(cores), abs=2e-2
    )


def gaussian_pair(origin=(0.0, 0.0, 0.0), cell=False, shift=(0.0, 0.0, 0.0)):
    """Two spherical clouds of one electron each, beside two nuclei of charge one."""
    grid = Grid(np.array(origin), np.diag([16.0, 17.0, 18.0]), (64, 68, 72))
    nuclei = np.array([[7.0, 8.0, 9.0], [8.2, 8.2, 9.3]]) + shift
    clouds = np.array([[7.3, 7.9, 9.1], [9.0, 8.8, 8.8]]) + shift
    values = np.zeros(grid.shape)
    for centre in clouds:
        offset = grid.points() - centre
        if cell:
            offset -= np.diag(grid.cell) * np.round(offset / np.diag(grid.cell))
        values += (1.2 / np.pi) ** 1.5 * np.exp(-1.2 * (offset**2).sum(axis=-1))
    structure = Structure([1, 1], nuclei, cell=grid.cell if cell else None)
    return Density(grid, values, structure=structure, valence_charges=[1.0, 1.0]), clouds


def test_point_charges_and_spheres():
    density, clouds = gaussian_pair()
    origin = np.array([7.0, 9.0, 8.0])
    result = moments(density, origin)
    x = np.concatenate([density.structure.positions, clouds]) - origin
    q = np.array([1, 1, -1, -1])
    np.testing.assert_allclose(result.dipole, q @ x, atol=1e-9)
    r2 = (x**2).sum(axis=1)
    theta = 1.5 * np.einsum("a,ai,aj->ij", q, x, x) - 0.5 * (q @ r2) * np.eye(3)
    np.testing.assert_allclose(result.quadrupole, theta, atol=1e-8)
    assert result.octupole[0, 1, 2] == pytest.approx(2.5 * q @ x.prod(axis=1), abs=1e-7)
    zzz = q @ (2.5 * x[:, 2] ** 3 - 1.5 * x[:, 2] * r2)
    assert result.octupole[2, 2, 2] == pytest.approx(zzz, abs=1e-7)
    assert np.trace(result.quadrupole) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(np.einsum("iij->j", result.octupole), 0, atol=1e-7)
    assert result.electronic_extent == pytest.approx(r2[2:].sum() + 2 * 1.5 / 1.2)


def test_a_molecule_across_the_faces_of_its_cell_has_the_same_moments():
    middle = moments(gaussian_pair(cell=True)[0])
    across = moments(gaussian_pair(cell=True, shift=(-7.6, 0.0, 8.9))[0])
    for name in ("dipole", "quadrupole", "octupole", "electronic_extent"):
        np.testing.assert_allclose(getattr(across, name), getattr(middle, name), atol=1e-6)
    assert "periodic" in across.notes[0]


def test_a_skew_box_is_no_hindrance():
    structure = Structure([1], [[0.4, 0.3, -0.2]])
    cell = np.array([[16.0, 0, 0], [3.0, 15.0, 0], [-2.0, 1.0, 16.0]])
    grid = Grid(-cell.sum(axis=0) / 2, cell, (80, 80, 80))
    x = grid.points() - np.array([0.1, -0.2, 0.3])
    values = (1 / np.pi) ** 1.5 * np.exp(-(x**2).sum(axis=-1))
    density = Density(grid, values, structure=structure, valence_charges=[1.0])
    result = moments(density)
    np.testing.assert_allclose(result.dipole, [0.3, 0.5, -0.5], atol=1e-8)
    d = np.array([-0.3, -0.5, 0.5])
    np.testing.assert_allclose(
        result.quadrupole, -(3 * np.outer(d, d) - d @ d * np.eye(3)) / 2, atol=1e-8
    )


def test_free_atoms_have_no_moments_but_their_extent():
    structure = Structure([8, 16], [[0.07, 0.0, 0.05], [0.0, 2.9, 0.1]])
    grid = Grid.around(structure, 8.0, 0.2)
    values, extent = np.zeros(grid.shape), 0.0
    r = np.linspace(0, 25, 50001)
    origin = np.array([0.0, 1.0, 0.0])
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        atom = free_atom(int(z))
        values += atom.all_electron(np.linalg.norm(grid.points() - position, axis=-1))
        extent += np.trapezoid(4 * np.pi * r**4 * atom.all_electron(r), r)
        extent += z * ((position - origin) ** 2).sum()
    density = Density(
        grid, values, structure=structure, valence_charges=[8.0, 16.0], all_electron=True
    )
    result = moments(density, origin)
    assert abs(density.integrate() - 24) > 0.5
    assert result.charge == pytest.approx(0, abs=2e-3)
    np.testing.assert_allclose(result.dipole, 0, atol=5e-3)
    np.testing.assert_allclose(result.quadrupole, 0, atol=3e-2)
    assert result.electronic_extent == pytest.approx(extent, rel=2e-3)


def test_origins():
    water = Structure.from_ase(molecule("H2O"))
    density = superposition(water, Grid.around(water, 5.0, 0.4))
    by_charge, by_mass = moments(density), moments(density, "mass")
    assert by_charge.origin_name == "centre of nuclear charge"
    weights = water.numbers / water.numbers.sum()
    np.testing.assert_allclose(by_charge.origin, weights @ water.positions, atol=1e-12)
    masses = np.array([15.999, 1.008, 1.008])
    np.testing.assert_allclose(by_mass.origin, masses @ water.positions / masses.sum(), atol=1e-6)
    np.testing.assert_allclose(by_mass.dipole, by_charge.dipole, atol=1e-9)  # neutral
    ion = replace(density, structure=replace(water, charge=1))
    assert "charged" in moments(ion).notes[0]
    for wrong in ("centre", "charges", [1.0, 2.0], [np.nan, 0, 0]):
        with pytest.raises(InputError, match="origin of moments"):
            moments(density, wrong)


def test_report_and_json(gth):
    result = moments(gth[2])
    data = json.loads(json.dumps(result.to_dict()))
    np.testing.assert_allclose(data["dipole_debye"], result.dipole * DEBYE)
    assert np.shape(data["octupole_debye_angstrom2"]) == (3, 3, 3)
    assert any(f"{np.linalg.norm(result.dipole) * DEBYE:.4f} D" in line for line in result.lines())
    assert max(map(len, result.lines())) < 130


def waters(n, length, seed=0):
    """Water molecules in random places and orientations of a cubic cell, cut by its faces."""
    rng = np.random.default_rng(seed)
    cell = Atoms(cell=[length] * 3, pbc=True)
    places = [(x, y, z) for x in (0.0, 0.5) for y in (0.0, 0.5) for z in (0.0, 0.5)]
    for place in places[:n]:
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(np.array(place) * length)
        cell += water
    cell.wrap()
    return Structure.of(cell)


def test_a_cell_has_no_dipole_but_its_molecules_have():
    """Four waters; each keeps the dipole of a molecule that no face cuts."""
    structure = waters(4, 9.0)
    tilt = np.array([0.02, -0.01, 0.015])

    def tilted(s, grid):
        """Superposed atoms, each with the same small dipole."""
        rho = superposition(s, grid)
        shift = superposition(replace(s, positions=s.positions + tilt), grid)
        return rho.with_values(shift.values)

    density = tilted(structure, Grid.periodic(structure, 0.35))
    with pytest.raises(InputError, match="no dipole moment"):
        density.dipole()
    result = moments(density)
    assert len(result.formulas) == 4 and set(result.formulas) == {"H2O"}
    np.testing.assert_allclose(result.charges, 0, atol=0.02)
    np.testing.assert_allclose(result.dipoles, np.tile(-8 * tilt, (4, 1)), atol=0.04)
    assert len(json.dumps(result.to_dict())) and len(result.lines()) == 6
    assert dipole_record(density)["dipole_norm_debye"] is None
    assert dipole_text(dipole_record(density) | {"charge": 0}) == "no dipole (periodic)"


def test_dipoles_of_molecules_do_not_depend_on_the_cut_of_the_cell():
    structure = waters(3, 8.0, seed=4)
    found = []
    for shift in (np.zeros(3), np.array([3.1, -2.2, 0.7])):
        moved = (structure.positions + shift) % np.diag(structure.cell)
        density = superposition(replace(structure, positions=moved), Grid.periodic(structure, 0.35))
        found.append(moments(density).dipoles)
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)


def test_a_crystal_without_molecules_has_none():
    salt = Structure.of(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    result = moments(superposition(salt, Grid.periodic(salt, 0.5)))
    assert result.formulas == () and "through the whole cell" in result.lines()[-1]


@pytest.mark.parametrize("shape", ["cubic", "oblique"])
def test_molecules_are_whole_across_faces(shape):
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([9.0, 9.5, 10.0] if shape == "cubic" else [[9, 0, 0], [3, 9, 0], [-2, 4, 10]])
    atoms.pbc = True
    free = Structure.of(atoms)
    cut = atoms.copy()
    cut.translate([0.3, -0.2, 0.1])
    cut.wrap()
    (whole,) = whole_molecules(Structure.of(cut))
    assert not whole.endless and whole.atoms.tolist() == list(range(9))
    distances = np.linalg.norm(whole.positions[:, None] - whole.positions, axis=-1)
    expected = np.linalg.norm(free.positions[:, None] - free.positions, axis=-1)
    np.testing.assert_allclose(distances, expected, atol=1e-9)


def test_one_origin_for_all_dipoles_of_an_ion():
    """Dipoles of an ion differ between origins; all of this package have the same one."""
    ion = Structure.from_ase(molecule("CH3CH2OH"), charge=1)
    density = superposition(ion, Grid.around(ion, 6.0, 0.3))
    result = moments(density)
    np.testing.assert_allclose(result.dipole, density.dipole(), atol=1e-9)
    np.testing.assert_allclose(result.origin, ion.nuclear_charge_centre)
    charges = hirshfeld(density)
    np.testing.assert_allclose(
        charges.charges @ (ion.positions - result.origin) + charges.dipoles.sum(axis=0),
        result.dipole,
        atol=5e-3,
    )
    about = "about the centre of nuclear charge"
    assert about in dipole_text(dipole_record(density) | {"charge": 1})
    assert about not in dipole_text(dipole_record(density) | {"charge": 0})
    fit = EspCharges("RESP", ion, charges.charges, 1, 0.0, 0.0)
    np.testing.assert_allclose(
        fit.dipole, charges.charges @ (ion.positions - ion.nuclear_charge_centre)
    )
    for part in (fit, cm5(charges)):
        assert part.to_dict()["dipole_origin"] == "centre of nuclear charge"
        assert any(about in line for line in part.lines())


def test_moments_from_a_coarse_grid_say_so():
    water = Structure.from_ase(molecule("H2O"))
    for spacing, said in ((0.3, False), (0.6, True)):
        density = superposition(water, Grid.around(water, 5.0, spacing))
        assert ("inaccurate" in " ".join(moments(density).notes)) == said
        assert ("coarse grid" in dipole_text(dipole_record(density) | {"charge": 0})) == said


def test_a_molecule_alone_in_a_cell_keeps_its_dipole():
    atoms = molecule("H2O")
    free = Structure.of(atoms)
    shift = 0.03 * np.eye(3)[2]

    def with_dipole(structure, grid):
        moved = replace(structure, positions=structure.positions + shift)
        return superposition(structure, grid).with_values(superposition(moved, grid).values)

    expected = with_dipole(free, Grid.around(free, 6.0, 0.35)).dipole()
    for length, alone in ((9.0, True), (4.0, False)):
        atoms.set_cell([length] * 3)
        atoms.pbc = True
        atoms.wrap()
        cell = Structure.of(atoms)
        density = with_dipole(cell, Grid.periodic(cell, 0.35))
        found = dipole(density)
        if alone:
            np.testing.assert_allclose(found, expected, atol=1e-3)
            assert dipole_record(density)["dipole_from"] == "grid"
        else:
            assert found is None and moments(density).formulas == ("H2O",)
