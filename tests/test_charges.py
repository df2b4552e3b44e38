"""`denser charges`: charges of many molecules without a grid."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import gamma, gammainc

import denser
import denser.workflows.charges as workflow
from denser.analysis.charges import without_grid
from denser.analysis.charges.esp_charges import (
    CHELPG_RADII,
    MERZ_KOLLMAN_RADII,
    chelpg_points,
    merz_kollman_points,
)
from denser.analysis.charges.esp_fit import equivalence_classes, fit_charges
from denser.analysis.charges.like_hf import INCREMENTS, SCALE, like_hartree_fock
from denser.analysis.charges.mbis import mbis, partition
from denser.analysis.charges.mbis import whole as in_one
from denser.analysis.charges.quadrature import Quadrature
from denser.analysis.charges.stockholder import curve, hirshfeld, traceless
from denser.analysis.charges.without_grid import (
    KINDS,
    POINTS,
    Conformer,
    charges_of,
    resp,
)
from denser.analysis.moments import moments
from denser.analysis.properties import Analysis
from denser.atoms.free_atoms import pseudo_charges
from denser.io.structures import read_structures
from denser.model import atoms_potential, deformed_atoms
from denser.model.deformed_atoms import DeformedAtoms
from denser.model.gaussian_fields import NEAR, far_potential
from denser.model.harmonics import harmonic_terms
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE


@pytest.fixture(scope="module")
def predictor():
    return Predictor("default", "cpu")


@pytest.fixture(scope="module")
def methanol(predictor):
    structure = Structure.of(molecule("CH3OH"))
    return Conformer(structure, predictor.gaussians(structure)[0])


# Without a grid


def test_the_potential_far_from_an_atom_is_that_of_its_gaussians():
    """v = sum S_lm c (2 pi / alpha) F_l(alpha r^2), with F_l from SciPy's incomplete gamma."""
    rng = np.random.default_rng(5)
    exponents = np.array([0.16, 0.9, 5.12])
    degree = np.repeat(np.arange(6), 2 * np.arange(6) + 1)
    coefficients = rng.normal(size=(2, 3, 36)) * 0.01 / 8.0**degree
    u = rng.normal(size=(3, 400))
    x = u / np.linalg.norm(u, axis=0) * np.linspace(NEAR, 80, 400)
    atoms = np.arange(400) % 2
    found = far_potential(x, atoms, coefficients, exponents)
    degrees = degree[:, None, None] + 0.5
    t = exponents[:, None] * (x * x).sum(axis=0)
    boys = gamma(degrees) * gammainc(degrees, t) / (2 * t**degrees)  # (lm, exponent, point)
    radial = np.einsum("nkm,mkn->mn", coefficients[atoms], 2 * np.pi / exponents[:, None] * boys)
    expected = (np.stack(harmonic_terms(*torch.as_tensor(x), 5)) * radial).sum(axis=0)
    np.testing.assert_allclose(found, expected, atol=2e-8)  # without what is below 1e-8


def test_predictions_without_a_grid_are_those_with_one(predictor, methanol):
    structure = methanol.structure
    prediction = predictor.predict(structure)
    atoms, excess = predictor.gaussians(structure)
    assert excess == pytest.approx(prediction.excess, abs=1e-5)
    points = structure.positions + np.random.default_rng(1).normal(size=(6, 3)) * 3
    on_grid = prediction.density.continuous
    np.testing.assert_allclose(atoms.at(points), on_grid.at(points), rtol=1e-5, atol=1e-9)
    free, deformed = on_grid.fields(points)
    found = -atoms.potential(points, np.zeros(len(structure)))
    np.testing.assert_allclose(found, free[2] + deformed[2], atol=2e-6)


def test_charges_are_those_of_analyze(predictor):
    """Fits within 2e-4 e, stockholder's charges within 3e-4 e of sums on a grid."""
    structure = Structure.of(molecule("H2O"))
    water = Conformer(structure, predictor.gaussians(structure)[0])
    density = predictor.predict(structure).density
    analysis = Analysis(density, predictor.model.recipe)
    for kind in KINDS:
        expected = analysis.property(kind).charges
        tolerance = 2e-4 if kind in ("resp", "chelpg", "mk") else 3e-4
        found = charges_of(kind, [water])
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0, err_msg=kind)
        assert found.sum() == pytest.approx(0, abs=1e-9)
    expected, found = analysis.property("hirshfeld"), water.hirshfeld
    np.testing.assert_allclose(found.volumes, expected.volumes, rtol=0.01)
    np.testing.assert_allclose(found.dipoles, expected.dipoles, atol=3e-4)


def test_the_compact_quadrature_is_that_of_all_space(predictor):
    """Fewer points and pairs, the same charges; it grows with the atoms, not with their square."""
    structure = Structure.of(molecule("CH3CONH2"))
    atoms, _ = predictor.gaussians(structure)
    compact = Quadrature.compact(structure, *POINTS)
    whole = Quadrature.around(structure, *POINTS)
    assert len(compact.points) < 0.9 * len(whole.points)
    for exponent in (0.4, 1.5):
        r2 = cdist(compact.points, structure.positions, "sqeuclidean")
        found = compact.weights @ np.exp(-exponent * r2)
        np.testing.assert_allclose(found, (np.pi / exponent) ** 1.5, rtol=2e-4)
    conformer = Conformer(structure, atoms)
    rho = atoms.at(whole.points)
    promolecule, pseudo = np.zeros_like(rho), np.zeros_like(rho)
    for atom, _, index, r in whole.pairs:
        free = curve(int(structure.numbers[atom]))
        promolecule[index] += free.at(r, free.all_electron)
        pseudo[index] += free.at(r, free.pseudo)
    expected = partition(structure, in_one(whole, rho - pseudo + promolecule), 32.0)
    np.testing.assert_allclose(conformer.mbis.charges, expected.charges, atol=6e-5)
    np.testing.assert_allclose(conformer.mbis.volumes, expected.volumes, atol=0.01)


# Large structures


def large(n_atoms: int) -> DeformedAtoms:
    """Atoms at random places at the density of a liquid, with deformations and charges."""
    rng = np.random.default_rng(2)
    k = int(np.ceil(n_atoms ** (1 / 3)))
    places = np.stack(np.meshgrid(*[np.arange(k)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = 4.0 * places[:n_atoms] + rng.normal(scale=0.3, size=(n_atoms, 3))
    numbers = rng.choice([1, 6, 7, 8], n_atoms)
    exponents = np.array([0.16, 0.64, 2.56])
    degree = np.repeat(np.arange(6), 2 * np.arange(6) + 1)
    coefficients = rng.normal(size=(n_atoms, 3, 36)) * 0.02 / 4.0**degree
    structure = Structure(numbers, positions, spin=int(numbers.sum() % 2))
    found = torch.tensor(coefficients), torch.tensor(exponents)
    return DeformedAtoms.isolated(structure, "gth-szv-1e", *found)[0]


def test_groups_far_away_have_the_potential_of_their_atoms(monkeypatch):
    """Multipoles of groups against the sum over all atoms, near, inside and far away."""
    atoms = large(420)
    charges = pseudo_charges(atoms.structure)
    middle = atoms.structure.positions.mean(axis=0)
    points = middle + np.random.default_rng(3).normal(scale=18, size=(300, 3))
    found = atoms.potential(points, charges)
    monkeypatch.setattr(atoms_potential, "MANY", 421)
    expected = atoms.potential(points, charges)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=5e-6)
    assert atoms.potential(np.zeros((0, 3)), charges).shape == (0,)


def test_values_do_not_depend_on_the_order_of_points(monkeypatch):
    """Points of large structures are sorted, and blocks of them left out together."""
    atoms = large(420)
    low, high = atoms.structure.positions.min(axis=0), atoms.structure.positions.max(axis=0)
    points = np.random.default_rng(3).uniform(low - 5, high + 5, size=(400, 3))
    monkeypatch.setattr(deformed_atoms, "_TOGETHER", 50)
    found = atoms.at(points)
    monkeypatch.setattr(deformed_atoms, "MANY", 421)
    np.testing.assert_allclose(found, atoms.at(points), rtol=1e-5, atol=1e-9)
    some = atoms.structure.positions[:40] + 0.5
    free, deformed = atoms.fields(some)
    expected = np.maximum(free[0] + deformed[0], 0)
    np.testing.assert_allclose(atoms.at(some), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kept", [2000, 3])
def test_atoms_of_large_molecules_are_integrated_in_parts(predictor, monkeypatch, kept):
    """In parts of two atoms, the same charges and multipoles as in one part."""
    structure = Structure.of(molecule("CH3CONH2"))
    atoms, _ = predictor.gaussians(structure)
    whole = Conformer(structure, atoms)
    expected = whole.hirshfeld, whole.mbis
    monkeypatch.setattr(without_grid, "WHOLE", 3)
    monkeypatch.setattr(without_grid, "AT_ONCE", 2)
    monkeypatch.setattr("denser.analysis.charges.mbis.KEPT", kept)
    parts = Conformer(structure, atoms)
    for one, other in zip((parts.hirshfeld, parts.mbis), expected, strict=True):
        for name in ("charges", "dipoles", "quadrupoles", "volumes"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=2e-6)
    assert parts.mbis.divergence == pytest.approx(whole.mbis.divergence, abs=1e-8)


def test_a_prediction_without_a_grid(predictor):
    """Values, potential, dipole and charges are those of other ways."""
    atoms = molecule("CH3CONH2")
    found = denser.without_grid(atoms)
    density = predictor.predict(atoms).density
    points = found.structure.positions + 1.5
    np.testing.assert_allclose(found.at(points), density.at(points), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.dipole(), density.dipole(), atol=2e-3)
    np.testing.assert_array_equal(found.charges("hirshfeld"), charges_of("hirshfeld", [found]))
    far = found.structure.positions.mean(axis=0) + np.array([[0.0, 0.0, 60.0]])
    field = found.dipole()[2] / 60**2
    assert found.potential(far)[0] == pytest.approx(field, rel=0.1, abs=1e-5)
    with pytest.raises(InputError, match="known: resp, "):
        found.charges("mulliken")
    with pytest.raises(InputError, match=r"\(n, 3\), found shape \(3,\)"):
        found.at(np.zeros(3))
    atoms.set_cell(np.eye(3) * 10)
    atoms.pbc = True
    with pytest.raises(InputError, match="periodic"):
        denser.without_grid(atoms)


def test_too_many_charges_for_a_fit():
    n = 5001
    with pytest.raises(InputError, match="hirshfeld"):
        fit_charges([np.zeros((9, 3))], [np.zeros(9)], [np.zeros((n, 3))])


def test_points_of_fits_are_outside_all_spheres():
    """Neighbours are found with trees; all distances give the same points."""
    structure = Structure.of(molecule("CH3CONH2"))
    distances = cdist(merz_kollman_points(structure), structure.positions)
    radii = np.array([MERZ_KOLLMAN_RADII[int(z)] for z in structure.numbers]) / BOHR
    ratio = distances / radii
    on_sphere = np.abs(ratio.min(axis=1)[:, None] - [1.4, 1.6, 1.8, 2.0]) < 1e-9
    assert on_sphere.any(axis=0).all() and on_sphere.any(axis=1).all()
    points = chelpg_points(structure)
    distances = cdist(points, structure.positions)
    radii = np.array([CHELPG_RADII[int(z)] for z in structure.numbers]) / BOHR
    assert (distances > radii).all() and distances.min(axis=1).max() <= 2.8 / BOHR
    low = structure.positions.min(axis=0) - 2.8 / BOHR
    tried = low + np.random.default_rng(2).random((4000, 3)) * (points.max(axis=0) - low)
    apart = cdist(tried, structure.positions)
    outside = (apart > radii + 0.3).all(axis=1) & (apart.min(axis=1) < 2.8 / BOHR - 0.6)
    near = cdist(tried[outside], points).min(axis=1)
    assert near.max() < 0.5 * np.sqrt(3) * 0.3 / BOHR + 1e-9  # none of the lattice is missing


@pytest.mark.parametrize("name", ["H2CO", "CH3CONH2"])
def test_atomic_multipoles_add_up_to_those_of_the_molecule(predictor, name):
    """Exactly, wherever the origin is, and those of before the rest is shared nearly do."""
    atoms = molecule(name)
    atoms.positions += 3.0
    structure = Structure.of(atoms)
    conformer = Conformer(structure, predictor.gaussians(structure)[0])
    n, first, second, _ = conformer.density.moments(np.zeros(3))
    z, x = pseudo_charges(structure), structure.positions
    dipole, quadrupole = z @ x - first, traceless((z * x.T) @ x - second)
    for found in (conformer.hirshfeld, conformer.mbis):
        assert found.charges.sum() == pytest.approx(z.sum() - n, abs=1e-9)
        np.testing.assert_allclose(found.charges @ x + found.dipoles.sum(0), dipole, atol=1e-9)
        crossed = np.einsum("ai,aj->ij", x, found.dipoles)
        of_points = traceless((found.charges * x.T) @ x + crossed + crossed.T)
        np.testing.assert_allclose(of_points + found.quadrupoles.sum(0), quadrupole, atol=1e-8)
        assert np.abs(np.trace(found.quadrupoles, axis1=1, axis2=2)).max() < 1e-12


def test_atomic_quadrupoles_with_and_without_a_grid(predictor):
    structure = Structure.of(molecule("H2O"))
    conformer = Conformer(structure, predictor.gaussians(structure)[0])
    density = predictor.predict(structure).density
    for kind in (hirshfeld, mbis):
        expected, found = kind(density), getattr(conformer, kind.__name__)
        np.testing.assert_allclose(found.quadrupoles, expected.quadrupoles, atol=4e-3)
        assert np.abs(expected.quadrupoles[0]).max() > 0.1
        x = structure.positions - moments(density).origin
        crossed = np.einsum("ai,aj->ij", x, expected.dipoles)
        total = traceless((expected.charges * x.T) @ x + crossed + crossed.T)
        total += expected.quadrupoles.sum(axis=0)
        np.testing.assert_allclose(total, moments(density).quadrupole, atol=0.02)


# RESP


def test_both_stages_are_the_minimum_of_the_restrained_squares(methanol):
    """A general optimiser finds the same charges from the function that RESP minimises."""
    structure = methanol.structure
    points = merz_kollman_points(structure)
    values = methanol.potential(points)
    inverse = 1 / cdist(points, structure.positions)
    heavy = structure.numbers > 1

    def minimum(strength, spread, base):
        def loss(x):
            q = base + spread @ x
            restraint = 2 * strength * (np.hypot(q, 0.1) - 0.1)[heavy].sum()
            return 1e3 * (((values - inverse @ q) ** 2).sum() + restraint)

        sums = spread.sum(axis=0)
        rule = {"type": "eq", "fun": lambda x: sums @ x + base.sum()}
        start = np.zeros(spread.shape[1])
        best = minimize(loss, start, constraints=rule, method="SLSQP", tol=1e-14)
        return base + spread @ best.x

    assert [structure.symbols[i] for i in (0, 1, 3)] == ["C", "O", "H"]  # the H of OH
    first = minimum(0.0005, np.eye(6), np.zeros(6))
    base = np.where(np.isin(np.arange(6), [1, 3]), first, 0.0)
    classes = equivalence_classes(structure)
    methyl = [2, 4, 5]
    assert len(set(classes[methyl])) == 1
    spread = np.zeros((6, 2))
    spread[0, 0] = spread[methyl, 1] = 1.0
    second = minimum(0.001, spread, base)
    np.testing.assert_allclose(resp([methanol]).charges, second, atol=2e-5)


def test_a_conformer_twice_is_that_conformer_once(methanol):
    one, two = resp([methanol]), resp([methanol, methanol])
    np.testing.assert_allclose(two.charges, one.charges, atol=1e-8)
    assert two.n_points == 2 * one.n_points


def test_groups_have_their_charge_and_equivalent_atoms_are_equal(methanol):
    structure = methanol.structure
    methyl = [0, 2, 4, 5]
    charges = resp([methanol], [(methyl, 0.25)]).charges
    assert charges[methyl].sum() == pytest.approx(0.25, abs=1e-9)
    assert charges.sum() == pytest.approx(0, abs=1e-9)
    assert np.ptp(charges[[2, 4, 5]]) < 1e-12
    points = merz_kollman_points(structure)
    free = fit_charges([points], [methanol.potential(points)], [structure.positions])
    assert abs(free[methyl].sum() - 0.25) > 0.01  # it is a constraint


def test_conformers_of_different_molecules_are_refused(methanol, predictor):
    water = Structure.of(molecule("H2O"))
    other = Conformer(water, predictor.gaussians(water)[0])
    for kind in ("resp", "chelpg"):
        with pytest.raises(InputError, match="conformer 2 is H2O"):
            charges_of(kind, [methanol, other])


@pytest.mark.parametrize(
    "smiles", ["CC(=O)[O-]", "Cc1ccc(C)cc1", "C[N+](C)(C)CC(=O)OC", "FC(F)(F)c1cnccn1"]
)
def test_equivalent_atoms_are_those_of_rdkit(smiles):
    chem = pytest.importorskip("rdkit.Chem")
    structure = Structure.of(denser.from_smiles(smiles))
    graph = chem.RWMol()
    for z in structure.numbers:
        atom = chem.Atom(int(z))
        atom.SetNoImplicit(True)
        graph.AddAtom(atom)
    for i, j in structure.bonds.pairs.tolist():
        graph.AddBond(i, j, chem.BondType.SINGLE)
    ranks = np.array(chem.CanonicalRankAtoms(graph, breakTies=False))
    classes = equivalence_classes(structure)
    np.testing.assert_array_equal(ranks[:, None] == ranks, classes[:, None] == classes)


def test_like_hf_is_a_scale_and_increments_of_bonds(predictor):
    structure = Structure.of(molecule("H2CO"), charge=0)
    charges = resp([Conformer(structure, predictor.gaussians(structure)[0])]).charges
    found = like_hartree_fock(charges, structure)
    oxygen, carbon = (int(np.flatnonzero(structure.numbers == z)[0]) for z in (8, 6))
    of_oxygen = INCREMENTS[6, 3, 8, 1]  # of carbon, from oxygen
    of_hydrogen = INCREMENTS[1, 0, 6, 3]
    assert found.sum() == pytest.approx(0, abs=1e-12)
    assert found[oxygen] == pytest.approx(SCALE * charges[oxygen] - of_oxygen, abs=1e-12)
    expected = SCALE * charges[carbon] + of_oxygen - 2 * of_hydrogen
    assert found[carbon] == pytest.approx(expected, abs=1e-12)
    assert found[oxygen] < charges[oxygen] < 0 < charges[carbon] < found[carbon]
    ion = like_hartree_fock(charges + 1 / 4, structure)
    np.testing.assert_allclose(ion, found + 1 / 4, atol=1e-12)


def test_like_hf_leaves_unknown_bonds_and_sums_of_groups_alone():
    silane = Structure.of(molecule("SiH4"), charge=0)
    charges = np.array([0.4, -0.1, -0.1, -0.1, -0.1])
    np.testing.assert_allclose(like_hartree_fock(charges, silane), SCALE * charges, atol=1e-12)
    methanol = Structure.of(molecule("CH3OH"), charge=0)
    charges = np.array([0.1, -0.6, 0.1, 0.4, 0.0, 0.0])
    hydroxyl = [i for i, z in enumerate(methanol.numbers) if z == 8] + [3]
    found = like_hartree_fock(charges, methanol, [(hydroxyl, -0.2)])
    assert found[hydroxyl].sum() == pytest.approx(-0.2, abs=1e-12)
    assert found.sum() == pytest.approx(0, abs=1e-12)


# The command


def test_a_library_in_one_file(run, tmp_path):
    pytest.importorskip("rdkit")
    out = tmp_path / "library.json"
    listed = tmp_path / "list.smi"
    listed.write_text("CO methanol\nCC(=O)[O-].[Na+] salt\nC1CC broken\n")
    code, text, errors = run(
        "charges", str(listed), "--smiles", "C#N", "-o", str(out), "--charges", "resp,mk", "--json"
    )
    assert code == 2 and "cannot be parsed" in errors
    records = {record["input"]: record for record in map(json.loads, text.splitlines())}
    assert len(records) == 5 and sum("error" in record for record in records.values()) == 1
    found = {one["name"]: one for one in json.loads(out.read_text())}
    assert list(found) == ["methanol", "salt_1", "salt_2", "C_N"]
    for one in found.values():
        for kind in ("resp", "mk"):
            assert sum(one["charges_e"][kind]) == pytest.approx(one["charge"], abs=1e-9)
    assert found["salt_1"]["charge"] == -1 and found["salt_2"]["charges_e"]["resp"] == [1.0]
    oxygens = found["salt_1"]["charges_e"]["resp"][2:4]
    assert oxygens[0] == oxygens[1] < -0.6


def test_several_molecules_in_one_input_are_told(run, tmp_path):
    pytest.importorskip("rdkit")
    pair = molecule("H2O") + molecule("NH3")
    pair.positions[3:] += [4, 0, 0]
    write(tmp_path / "complex.xyz", pair)
    command = ("charges", str(tmp_path / "complex.xyz"), "-o", str(tmp_path / "o.csv"))
    code, text, errors = run(*command)
    assert code == 0 and "2 in " in text and ", 1 input split into molecules" in text
    assert errors.splitlines() == [
        f"denser: {tmp_path / 'complex.xyz'} (1 of 2): the input holds 2 molecules, which become "
        "complex_1 and complex_2; --parent keeps the largest alone"
    ]
    code, text, errors = run(*command, "--parent", "--json")
    (record,) = map(json.loads, text.splitlines())
    assert code == 0 and record["formula"] in ("H2O", "H3N")
    note = "the input holds 2 molecules, of which --parent keeps the largest"
    assert note in errors and record["warnings"] == [note]
    code, _, errors = run(*command, "--smiles", "[Na+].[Cl-].CO", "--charge", "0")
    assert code == 2 and "--charge 0 cannot be shared among 3 molecules" in errors
    pair.info["charge"] = 7
    write(tmp_path / "complex.xyz", pair, format="extxyz")
    code, _, errors = run(*command)
    assert code == 2 and "add up to its charge, +7; correct the charge" in errors
    code, _, errors = run("charges", "--smiles", "[Na+].[Cl-].CO", "-o", str(tmp_path / "o.csv"))
    assert code == 0 and "holds 3 molecules, which become" in errors and "_1 to " in errors


def test_a_folder_with_a_file_for_each(run, tmp_path):
    pytest.importorskip("rdkit")
    write(tmp_path / "a.xyz", molecule("H2O"))
    code, text, _ = run(
        "charges", str(tmp_path / "a.xyz"), "--smiles", "CCO.Cl", "--parent", "-o",
        str(tmp_path / "out"), "--format", "itp",
    )  # fmt: skip
    assert code == 0 and "2 of 2 done" in text
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [".charges.jsonl", "CCO.Cl.itp", "a.itp"]
    rows = [line.split() for line in (tmp_path / "out" / "a.itp").read_text().splitlines()]
    charges = [float(row[6]) for row in rows if len(row) == 8 and row[0].isdigit()]
    assert len(charges) == 3 and sum(charges) == pytest.approx(0, abs=1e-9)
    assert charges[1] == pytest.approx(charges[2], abs=1.1e-6)


def test_multipoles_and_sizes_are_columns(run, tmp_path):
    """Charges, dipoles and quadrupoles of a table give the moments of the predicted density."""
    path, out = tmp_path / "f.xyz", tmp_path / "out.csv"
    atoms = molecule("H2CO")
    write(path, atoms)
    arguments = ("--charges", "mbis,hirshfeld", "--multipoles", "-o", str(out))
    assert run("charges", str(path), "--smiles", "[Na+]", *arguments)[0] == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 5 and rows[0]["mbis_volume_bohr3"] == ""  # an ion has no Gaussians
    rows = rows[1:]
    x = np.array([[float(row[f"{axis}_angstrom"]) for axis in "xyz"] for row in rows])
    expected = moments(denser.predict(atoms))
    for kind in ("mbis", "hirshfeld"):
        q = np.array([float(row[f"{kind}_e"]) for row in rows])
        names = [f"{kind}_dipole_{axis}_debye" for axis in "xyz"]
        mu = sum(np.array([float(row[name]) for name in names]) for row in rows)
        found = q @ x / BOHR * DEBYE + mu
        np.testing.assert_allclose(found, expected.dipole * DEBYE, atol=2e-3)
        trace = sum(float(rows[0][f"{kind}_quadrupole_{i}{i}_debye_angstrom"]) for i in "xyz")
        assert abs(trace) < 1e-9
    assert 0.1 < float(rows[0]["mbis_valence_width_angstrom"]) < 0.4
    ratio = float(rows[0]["hirshfeld_volume_ratio"])  # of O: 5.4 bohr^3 and 15.6 when free
    assert float(rows[0]["ts_polarizability_bohr3"]) == pytest.approx(5.4 * ratio, rel=1e-5)
    assert float(rows[0]["ts_c6_hartree_bohr6"]) == pytest.approx(15.6 * ratio**2, rel=1e-5)
    code, _, errors = run("charges", str(path), *arguments[:3], "-o", str(tmp_path / "o.sdf"))
    assert code == 2 and "does not hold multipoles" in errors
    code, _, errors = run("charges", str(path), "--multipoles", "-o", str(out))
    assert code == 2 and "add --charges mbis" in errors


def test_conformers_in_a_file_are_one_molecule(run, tmp_path):
    path, out = tmp_path / "two.xyz", tmp_path / "out.csv"
    bent = molecule("H2O")
    bent.set_angle(1, 0, 2, 110)
    write(path, [molecule("H2O"), bent])
    assert run("charges", str(path), "--conformers", "-o", str(out))[0] == 0
    rows = out.read_text().splitlines()
    assert rows[0].startswith("molecule,title,atom,element") and len(rows) == 4
    write(path, [molecule("H2O"), molecule("NH3")])
    code, _, errors = run("charges", str(path), "--conformers", "-o", str(out))
    assert code == 2 and "conformer 2 is H3N" in errors


def test_doubt_is_told_or_left_out(run, tmp_path):
    path, out = tmp_path / "strange.xyz", tmp_path / "out.sdf"
    atoms = molecule("CH3")
    atoms.info["spin"] = 1
    write(path, atoms, format="extxyz")
    code, text, errors = run("charges", str(path), "-o", str(out), "--skip-doubt", "--json")
    assert code == 0 and json.loads(text)["left_out"] and not out.exists()
    code, _, errors = run("charges", str(path), "-o", str(out))
    assert code == 0 and "does not know this kind of molecule well" in errors and out.exists()


def test_a_run_is_resumed_by_content(run, tmp_path, monkeypatch):
    """What was computed is not computed again, under another name either; a change is."""
    pytest.importorskip("rdkit")
    listed, out = tmp_path / "list.smi", tmp_path / "out.json"
    listed.write_text("CO methanol\nN ammonia\n")
    command = ("charges", str(listed), "-o", str(out), "--charges", "resp,cm5")
    assert run(*command)[0] == 0
    first = {one["name"]: one for one in json.loads(out.read_text())}
    out.unlink()  # as after a crash before the end
    journal = tmp_path / ".out.json.jsonl"
    journal.write_text(journal.read_text() + '{"made_from": "abc", "rec')
    listed.write_text("O water\nCO alcohol\nN ammonia\n")
    computed = []
    true_charges = workflow.charges

    def counted(molecule, settings):
        computed.append(molecule.title)
        return true_charges(molecule, settings)

    monkeypatch.setattr(workflow, "charges", counted)
    code, text, _ = run(*command, "--resume")
    assert code == 0 and computed == ["water"] and "2 done before" in text
    again = json.loads(out.read_text())
    assert [one["name"] for one in again] == ["water", "alcohol", "ammonia"]
    assert again[1] == first["methanol"] | {"name": "alcohol", "title": "alcohol"}
    assert again[2] == first["ammonia"]
    computed.clear()
    assert run(*command[:-1], "resp", "--resume")[0] == 0  # other settings
    assert len(computed) == 3
    computed.clear()
    assert run(*command)[0] == 0 and len(computed) == 3  # not asked for


def test_bad_input_is_one_sentence(run, tmp_path):
    out = str(tmp_path / "o.mol2")
    far = molecule("CH4")
    far.positions *= 3
    write(tmp_path / "far.xyz", far)
    write(tmp_path / "methyl.xyz", molecule("CH3"), format="xyz")
    cell = molecule("H2O")
    cell.set_cell([9, 9, 9])
    cell.pbc = True
    write(tmp_path / "cell.xyz", cell, format="extxyz")
    water, empty = str(tmp_path / "w.xyz"), str(tmp_path / "empty.smi")
    write(water, molecule("H2O"))
    Path(empty).write_text("# no molecules\n\n")
    for arguments, expected in (
        ((str(tmp_path / "far.xyz"), "-o", out), "no two of its 5 atoms are bonded"),
        ((str(tmp_path / "methyl.xyz"), "-o", out), "odd number of electrons"),
        ((str(tmp_path / "cell.xyz"), "-o", out), "periodic"),
        ((water, "--charge", "1", "-o", out), "odd number of electrons"),
        ((water, "--spin", "1", "-o", out), "of which 1 cannot be unpaired"),
        (("--smiles", "O.[CH3]", "--spin", "1", "-o", out), "--spin 1 cannot be shared among 2"),
        ((water, "-o", str(tmp_path / "o.pdb")), "choose one of these suffixes"),
        ((water,), "no output"),
        (("-o", out), "nothing to do"),
        ((water, "--charges", "bader", "-o", out), "unknown charges 'bader'; known: resp"),
        ((water, "--like", "hf", "--charges", "mbis", "-o", out), "found mbis"),
        ((water, "--group", "O", "-o", out), "expected SMARTS=CHARGE"),
        ((empty, "-o", out), "empty.smi: the file holds no SMILES"),
        (("--smiles", "CO", "--conformers", "-o", out), "a SMILES has one geometry; leave it out"),
        ((water, "--format", "pdb", "-o", str(tmp_path / "folder")), "*.pdb: charges are written"),
        ((water, "--group", "O=0", "--charges", "mk", "-o", out), "is for RESP"),
        ((water, "-o", str(tmp_path / "none" / "o.sdf")), "does not exist"),
    ):
        code, _, errors = run("charges", *arguments)
        assert code == 2 and expected in errors and "Traceback" not in errors
    assert not Path(out).exists()


def test_a_radical_whose_file_does_not_say_so(run, tmp_path):
    write(tmp_path / "methyl.xyz", molecule("CH3"), format="xyz")
    out = tmp_path / "o.sdf"
    code, text, errors = run("charges", str(tmp_path / "methyl.xyz"), "--spin", "1", "-o", str(out))
    assert code == 0 and "CH3 (1 unpaired electron)" in text and "orders" not in errors
    (frame,) = read_structures(out)
    assert frame.atoms.info["spin"] == 1 and len(frame.atoms.info["bonds"]) == 3


def test_arrays_for_emle(run, tmp_path):
    """Nuclei, cores and valence electrons add up to the charges; widths are those of MBIS."""
    kinds = ("--charges", "mbis", "--multipoles")
    library = [word for smiles in ("C=O", "[Na+].[OH-]") for word in ("--smiles", smiles)]
    code, _, err = run("charges", *library, *kinds, "-o", "emle.npz")
    assert code == 0, err
    found = np.load(tmp_path / "emle.npz")
    assert found["z"].tolist() == [[6, 8, 1, 1], [8, 1, 0, 0]]
    assert (found["q_core"] + found["q_val"]).sum(axis=1) == pytest.approx([0, -1], abs=1e-5)
    heavy = found["z"] > 1
    assert found["q_core"][heavy] == pytest.approx(found["z"][heavy] - 1.7, abs=0.2)
    assert found["q_core"][found["z"] == 1] == pytest.approx(1, abs=1e-3)
    assert ((found["s"] > 0.25) & (found["s"] < 0.7))[found["z"] > 0].all()
    assert (found["s"][found["z"] == 0] == 0).all()
    code, _, err = run("charges", "--smiles", "C=O", "-o", "emle.npz")
    assert (code, "add --charges mbis --multipoles" in err) == (2, True)
