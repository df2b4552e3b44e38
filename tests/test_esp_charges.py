import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.distance import cdist

import denser
from denser.analysis.charges.esp_charges import (
    chelpg,
    chelpg_points,
    merz_kollman,
    merz_kollman_points,
    resp,
)
from denser.analysis.charges.esp_fit import equivalence_classes, fit_charges, fit_resp
from denser.atoms.radii import bonds
from denser.atoms.sad import superposition
from denser.io.bond_orders import sybyl_types
from denser.io.charges import write_charges
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR


def hartree_fock(atoms, basis="6-31g*", fitting=None):
    """Structure and potential, a function of points, of RHF in Cartesian Gaussians."""
    from pyscf import gto, scf

    mol = gto.M(atom=atoms, basis=basis, cart=True, verbose=0)
    mf = scf.RHF(mol)
    if fitting:
        mf = mf.density_fit(auxbasis=fitting)
    mf.chkfile, mf.conv_tol = None, 1e-10
    mf._chkfile.close()  # else the garbage collector warns
    mf.kernel()
    dm = mf.make_rdm1()

    def potential(points):
        blocks = np.array_split(points, len(points) // 200 + 1)
        electrons = [np.einsum("ipq,pq->i", mol.intor("int1e_grids", grids=b), dm) for b in blocks]
        ions = (mol.atom_charges() / cdist(points, mol.atom_coords())).sum(axis=1)
        return ions - np.concatenate(electrons)

    return Structure(mol.atom_charges(), mol.atom_coords()), potential


# Against other programs

ACETIC_ACID = """
C   1.45051389  -0.06628932   0.00000000
H   1.75521613  -0.62865986  -0.87500146
H   1.75521613  -0.62865986   0.87500146
H   1.92173244   0.90485897   0.00000000
C  -0.04233122   0.09849378   0.00000000
O  -0.67064817  -1.07620915   0.00000000
H  -1.60837259  -0.91016601   0.00000000
O  -0.62675864   1.13160510   0.00000000
"""

ETHANOL = (
    """
C    0.00000000  0.00000000  0.00000000
C    1.48805540 -0.00728176  0.39653260
O    2.04971655  1.37648153  0.25604810
H    3.06429978  1.37151670  0.52641124
H    1.58679428 -0.33618761  1.43102358
H    2.03441010 -0.68906454 -0.25521028
H   -0.40814044 -1.00553466  0.10208540
H   -0.54635470  0.68178278  0.65174288
H   -0.09873888  0.32890585 -1.03449097
""",
    """
C    0.00000000  0.00000000  0.00000000
C    1.48013500 -0.00724300  0.39442200
O    2.00696300  1.29224100  0.26232800
H    2.91547900  1.25572900  0.50972300
H    1.61500700 -0.32678000  1.45587700
H    2.07197500 -0.68695100 -0.26493400
H   -0.32500012  1.02293415 -0.30034094
H   -0.18892141 -0.68463906 -0.85893815
H   -0.64257065 -0.32709111  0.84987482
""",
)


def test_resp_of_acetic_acid_is_that_of_red():
    """R.E.D. III.5 with GAMESS, HF/6-31G*; printed in the tests of cdsgroup/resp (Psi4)."""
    structure, potential = hartree_fock(ACETIC_ACID)
    points = merz_kollman_points(structure)
    fitted = fit_resp([structure], [points], [potential(points)])
    published = [-0.290893, 0.098314, 0.098314, 0.098314, 0.803999, -0.661279, 0.453270, -0.600039]
    np.testing.assert_allclose(fitted.charges, published, atol=5e-6)
    assert fitted.charges.sum() == pytest.approx(0, abs=1e-12)
    assert 0.05 < fitted.rrms < 0.12


def test_two_conformers_of_ethanol_are_those_of_ambertools():
    """AmberTools' resp with restrained hydrogens, on density-fitted HF/6-31G* of Psi4.

    Printed in the tests of cdsgroup/resp.
    """
    structures, potentials = zip(
        *[hartree_fock(atoms, fitting="cc-pvdz-jkfit") for atoms in ETHANOL], strict=True
    )
    points = [merz_kollman_points(structure) for structure in structures]
    values = [v(p) for v, p in zip(potentials, points, strict=True)]
    positions = [structure.positions for structure in structures]
    first = fit_charges(points, values, positions, 0.0, 0.0005, 0.1)
    published = [-0.149134, 0.274292, -0.630868, 0.377965, -0.011016, -0.009444, 0.058576,
                 0.044797, 0.044831]  # fmt: skip
    np.testing.assert_allclose(first, published, atol=1e-5)
    fixed = np.where(np.isin(np.arange(9), [2, 3]), first, np.nan)
    second = fit_charges(
        points, values, positions, 0.0, 0.001, 0.1,
        classes=equivalence_classes(structures[0]), fixed=fixed,
    )  # fmt: skip
    published = [-0.079853, 0.253918, -0.630868, 0.377965, -0.007711, -0.007711, 0.031420,
                 0.031420, 0.031420]  # fmt: skip
    np.testing.assert_allclose(second, published, atol=1e-5)


def test_chelpg_of_water_is_that_of_breneman():
    """The test case of his program (CCL archive): STO-3G, 3953 points, O -0.6182 e."""
    half = np.radians(104.5) / 2
    x, z = 0.956 * np.sin(half), 0.956 * np.cos(half)
    structure, potential = hartree_fock(f"O 0 0 0; H {x} 0 {z}; H {-x} 0 {z}", "sto-3g")
    points = chelpg_points(structure)
    assert len(points) == pytest.approx(3953, rel=0.02)  # his lattice starts elsewhere
    charges = fit_charges([points], [potential(points)], [structure.positions])
    np.testing.assert_allclose(charges, [-0.6182, 0.3091, 0.3091], atol=5e-4)


# What a fit must do


@pytest.fixture
def charged(ethanol):
    """Charges of an ion of ethanol, points around it, and the potential of these charges."""
    charges = np.random.default_rng(4).normal(scale=0.3, size=9)
    charges += (1 - charges.sum()) / 9
    points = merz_kollman_points(ethanol)
    return charges, points, (1 / cdist(points, ethanol.positions)) @ charges


def test_the_potential_of_charges_gives_these_charges(ethanol, charged):
    charges, points, values = charged
    found = fit_charges([points], [values], [ethanol.positions], 1.0)
    np.testing.assert_allclose(found, charges, atol=1e-9)


def test_restrained_charges_are_a_minimum(ethanol, charged):
    """Any change that keeps the sum makes the restrained error larger."""
    charges, points, values = charged
    inverse = 1 / cdist(points, ethanol.positions)
    heavy = ethanol.numbers > 1
    found = fit_charges([points], [values], [ethanol.positions], 1.0, 0.02, 0.1, heavy)

    def error(q):
        penalty = (np.sqrt(q[heavy] ** 2 + 0.01) - 0.1).sum()
        return ((values - inverse @ q) ** 2).sum() + 2 * 0.02 * penalty

    assert np.abs(found - charges).max() > 1e-3
    rng = np.random.default_rng(5)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            change = rng.normal(scale=size, size=9)
            assert error(found + change - change.mean()) > error(found)


def test_classes_and_fixed_charges_hold(ethanol, charged):
    _, points, values = charged
    classes = equivalence_classes(ethanol)
    fixed = np.where(ethanol.numbers == 8, -0.6, np.nan)
    found = fit_charges(
        [points], [values], [ethanol.positions], 1.0, 0.001, classes=classes, fixed=fixed
    )
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert found[ethanol.numbers == 8] == -0.6
    for c in classes:
        assert np.ptp(found[classes == c]) < 1e-12


def test_atoms_that_bonds_do_not_tell_apart(ethanol):
    classes = equivalence_classes(ethanol)
    sizes = sorted(np.bincount(classes)[np.bincount(classes) > 0])
    assert sizes == [1, 1, 1, 1, 2, 3]  # C, C, O, OH, CH2, CH3
    benzene = equivalence_classes(Structure.from_ase(molecule("C6H6")))
    assert len(set(benzene[:6])) == len(set(benzene[6:])) == 1
    assert len(set(equivalence_classes(Structure.from_ase(molecule("CH3COOH"))))) == 6


def test_what_cannot_be_fitted(ethanol, charged):
    _, points, values = charged
    with pytest.raises(InputError, match="need as many points"):
        fit_charges([points[:5]], [values[:5]], [ethanol.positions])
    with pytest.raises(InputError, match="points \\(n, 3\\)"):
        fit_charges([points], [values[:-1]], [ethanol.positions])
    with pytest.raises(InputError, match="finite"):
        fit_charges([points], [values * np.nan], [ethanol.positions])
    other = Structure.from_ase(molecule("CH3OH"))
    with pytest.raises(InputError, match="conformer 2 is CH4O"):
        fit_resp([ethanol, other], [points] * 2, [values] * 2)


# Of densities


@pytest.fixture
def smeared(ethanol):
    """A density whose potential outside is that of charges: Gaussians of other sizes."""
    grid = Grid.around(ethanol, padding=8.0, spacing=0.3)
    rng = np.random.default_rng(6)
    valence = np.where(ethanol.numbers == 1, 1.0, ethanol.numbers - 2.0)
    charges = rng.normal(scale=0.2, size=9)
    charges -= charges.mean()
    points, values = grid.points(), np.zeros(grid.shape)
    for n, position in zip(valence - charges, ethanol.positions, strict=True):
        r2 = ((points - position) ** 2).sum(axis=-1)
        values += n * (2.5 / np.pi) ** 1.5 * np.exp(-2.5 * r2)
    return Density(grid, values, structure=ethanol, valence_charges=valence), charges


@pytest.mark.parametrize("scheme", [chelpg, merz_kollman])
def test_charges_of_a_density_of_spherical_ions(smeared, scheme):
    density, charges = smeared
    found = scheme(density)
    np.testing.assert_allclose(found.charges, charges, atol=2e-4)
    assert found.rms < 1e-5
    assert np.linalg.norm(found.dipole - density.dipole()) < 1e-3


def test_resp_of_a_density_and_its_report(smeared):
    density, _ = smeared
    found = resp([density, density])
    hydrogens = found.charges[6:9]
    assert density.structure.numbers[6:9].tolist() == [1, 1, 1] and np.ptp(hydrogens) < 1e-12
    assert found.charges.sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found.charges, resp(density).charges, atol=1e-8)
    data, lines = found.to_dict(), found.lines()
    assert data["charges_e"] == found.charges.tolist() and data["n_points"] == found.n_points
    assert len(lines) == 10 and lines[0].startswith("RESP charges")


def test_points_keep_off_the_atoms(ethanol):
    distance = cdist(chelpg_points(ethanol), ethanol.positions) * BOHR
    assert distance.min(axis=1).max() <= 2.8
    assert distance[:, ethanol.numbers == 1].min() > 1.45
    assert distance[:, ethanol.numbers == 8].min() > 1.7
    distance = cdist(merz_kollman_points(ethanol), ethanol.positions) * BOHR
    assert distance[:, ethanol.numbers == 6].min() >= 1.4 * 1.5 - 1e-9
    area = len(merz_kollman_points(ethanol, 4.0)) / len(merz_kollman_points(ethanol))
    assert area == pytest.approx(4, rel=0.15)


def test_densities_that_have_no_such_charges(ethanol):
    grid = Grid.around(ethanol, padding=4.0, spacing=0.5)
    crystal = Structure(ethanol.numbers, ethanol.positions, cell=grid.cell)
    with pytest.raises(InputError, match="periodic"):
        chelpg(superposition(crystal, grid))
    with pytest.raises(InputError, match="van der Waals radius"):
        merz_kollman_points(Structure([100], np.zeros((1, 3))))


# Files


@pytest.fixture
def acetate():
    """Acetate, charges that sum to -1."""
    atoms = molecule("CH3COOH")
    structure = Structure.from_ase(atoms)
    acid = [b for b in bonds(structure).tolist() if structure.numbers[b].tolist() == [8, 1]]
    [(_, proton)] = acid
    kept = np.arange(len(structure)) != proton
    ion = Structure(structure.numbers[kept], structure.positions[kept], charge=-1)
    charges = np.random.default_rng(7).normal(size=7) / 3
    return ion, charges - (charges.sum() + 1) / 7


@pytest.mark.parametrize("suffix", ["mol2", "sdf"])
def test_rdkit_reads_molecules_with_charges(acetate, tmp_path, suffix):
    chem = pytest.importorskip("rdkit.Chem")
    structure, charges = acetate
    path = tmp_path / f"acetate.{suffix}"
    write_charges(path, structure, charges)
    if suffix == "sdf":
        [found] = chem.SDMolSupplier(str(path), removeHs=False)
        q = [atom.GetDoubleProp("PartialCharge") for atom in found.GetAtoms()]
        assert chem.GetFormalCharge(found) == -1
    else:
        found = chem.MolFromMol2File(str(path), removeHs=False, sanitize=False)
        q = [float(atom.GetProp("_TriposPartialCharge")) for atom in found.GetAtoms()]
    np.testing.assert_allclose(q, charges, atol=2e-6)
    assert sum(round(x * 1e6) for x in q) == -1_000_000
    assert [atom.GetAtomicNum() for atom in found.GetAtoms()] == structure.numbers.tolist()
    np.testing.assert_allclose(
        found.GetConformer().GetPositions(), structure.positions * BOHR, atol=1e-4
    )
    pairs = {(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in found.GetBonds()}
    assert pairs == {tuple(b) for b in bonds(structure).tolist()} and len(pairs) == 6
    assert sorted(b.GetBondTypeAsDouble() for b in found.GetBonds()) == [1, 1, 1, 1, 1, 2]


CARRIED = [
    "O=C(Nc1ccc([N+](=O)[O-])cc1)c1ccccc1", "NC(=[NH2+])c1ccc2cc(C(=O)Nc3ccccc3)ccc2c1",
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "COP(=O)([O-])OC", "CN(C)c1ccc2nc3ccc(cc3[s+]c2c1)N(C)C",
]  # fmt: skip


@pytest.mark.parametrize("smiles", CARRIED)
@pytest.mark.parametrize("suffix", ["mol2", "sdf"])
def test_bonds_of_the_input_are_written(tmp_path, smiles, suffix):
    chem = pytest.importorskip("rdkit.Chem")
    structure = Structure.of(denser.from_smiles(smiles))
    path = tmp_path / f"a.{suffix}"
    assert write_charges(path, structure, np.zeros(len(structure))) == ""
    read = {"sdf": chem.MolFromMolFile, "mol2": chem.MolFromMol2File}[suffix]
    assert chem.MolToSmiles(read(str(path))) == chem.CanonSmiles(smiles)


@pytest.mark.parametrize("suffix", ["mol2", "sdf"])
def test_orders_that_nobody_knows_are_written_as_unknown(tmp_path, suffix):
    carried = Structure.of(denser.from_smiles("c1ccccc1[N+](=O)[O-]"))
    path = tmp_path / f"a.{suffix}"
    ion = Structure.of(carried, charge=2)  # the bonds of the input do not fit it
    moved = replace(carried, charge=2)
    for structure in (ion, moved):
        note = write_charges(path, structure, np.zeros(len(structure)))
        assert note.startswith(f"a.{suffix}: no orders of the bonds fit the charge")
        text = path.read_text()
        rows = text.split("@<TRIPOS>BOND\n")[-1] if suffix == "mol2" else text
        kinds = re.findall(
            r"^ *\d+ +\d+ +\d+ un$" if suffix == "mol2" else r"^ *\d+ +\d+  8  0$", rows, re.M
        )
        assert len(kinds) == len(bonds(structure))


def test_sybyl_types():
    found = []
    for smiles in ("CC(=O)NC", "C[N+](=O)[O-]", "CC(=O)[O-]", "CS(C)(=O)=O", "NC(N)=[NH2+]", "C#N"):
        structure = Structure.of(denser.from_smiles(smiles))
        types, _ = sybyl_types(structure, structure.bonds)
        found.append([kind for kind in types if kind != "H"])
    assert found == [
        ["C.3", "C.2", "O.2", "N.am", "C.3"],
        ["C.3", "N.pl3", "O.2", "O.2"],
        ["C.3", "C.2", "O.co2", "O.co2"],
        ["C.3", "S.O2", "C.3", "O.2", "O.2"],
        ["N.pl3", "C.cat", "N.pl3", "N.pl3"],
        ["C.1", "N.1"],
    ]


def test_ase_reads_the_sdf(acetate, tmp_path):
    from ase.io import read

    structure, charges = acetate
    write_charges(tmp_path / "acetate.sdf", structure, charges)
    atoms = read(tmp_path / "acetate.sdf")
    assert atoms.numbers.tolist() == structure.numbers.tolist()
    np.testing.assert_allclose(atoms.positions, structure.positions * BOHR, atol=1e-4)


def test_openmm_template(acetate, tmp_path):
    structure, charges = acetate
    write_charges(tmp_path / "ACE.xml", structure, charges)
    root = ElementTree.parse(tmp_path / "ACE.xml").getroot()
    residue = root.find("Residues/Residue")
    atoms = residue.findall("Atom")
    assert residue.get("name") == "ACE" and len({a.get("name") for a in atoms}) == 7
    np.testing.assert_allclose([float(a.get("charge")) for a in atoms], charges, atol=2e-6)
    types = {t.get("name"): t.get("element") for t in root.findall("AtomTypes/Type")}
    assert [types[a.get("type")] for a in atoms] == structure.symbols
    assert len(residue.findall("Bond")) == 6
    assert {a.get("type") for a in root.findall("NonbondedForce/Atom")} == set(types)
    assert root.find("NonbondedForce/UseAttributeFromResidue").get("name") == "charge"


def test_pqr_is_read_back(acetate, tmp_path):
    import MDAnalysis

    structure, charges = acetate
    write_charges(tmp_path / "acetate.pqr", structure, charges)
    atoms = MDAnalysis.Universe(tmp_path / "acetate.pqr").atoms
    np.testing.assert_allclose(atoms.positions, structure.positions * BOHR, atol=1e-4)
    np.testing.assert_allclose(atoms.charges, charges, atol=2e-6)
    radii = [{"H": 1.2, "C": 1.7, "O": 1.52}[symbol] for symbol in structure.symbols]
    np.testing.assert_allclose(atoms.radii, radii)


def test_files_that_cannot_be_written(acetate, tmp_path):
    structure, charges = acetate
    with pytest.raises(InputError, match=r"\.mol2, \.sdf, \.xml"):
        write_charges(tmp_path / "a.pdb", structure, charges)
    with pytest.raises(InputError, match="7 atoms need as many"):
        write_charges(tmp_path / "a.mol2", structure, charges[:3])
    with pytest.raises(InputError, match="does not exist"):
        write_charges(tmp_path / "none" / "a.mol2", structure, charges)
    assert list(tmp_path.iterdir()) == []
