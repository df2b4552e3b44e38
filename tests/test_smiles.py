import itertools

import numpy as np
import pytest

import denser
from denser.atoms.plausible import strange
from denser.io.smiles import from_smiles
from denser.types.errors import InputError
from denser.types.structure import Structure

# Lengths in angstrom of all bonds between these elements: experiment (NIST CCCBDB), PBE for ions.
REFERENCE = {
    "[H][H]": {"HH": 0.741}, "N#N": {"NN": 1.098}, "[C-]#[O+]": {"CO": 1.128},
    "FF": {"FF": 1.412}, "ClCl": {"ClCl": 1.988}, "F": {"FH": 0.917}, "Cl": {"ClH": 1.275},
    "[Li]F": {"FLi": 1.564}, "[Na]Cl": {"ClNa": 2.361}, "O": {"HO": 0.958}, "S": {"HS": 1.336},
    "N": {"HN": 1.012}, "P": {"HP": 1.420}, "C": {"CH": 1.087}, "[SiH4]": {"HSi": 1.480},
    "OO": {"OO": 1.460}, "NN": {"NN": 1.447}, "O=C=O": {"CO": 1.162}, "S=C=S": {"CS": 1.553},
    "O=C=S": {"CO": 1.156, "CS": 1.561}, "O=S=O": {"OS": 1.431}, "O=S(=O)=O": {"OS": 1.420},
    "[O-][O+]=O": {"OO": 1.278}, "C#N": {"CN": 1.156}, "[C-]#[NH+]": {"CN": 1.169},
    "[N-]=[N+]=O": {"NN": 1.128, "NO": 1.184}, "C=C=O": {"CC": 1.314, "CO": 1.162},
    "C=C=C": {"CC": 1.308}, "C=[N+]=[N-]": {"CN": 1.300, "NN": 1.139},
    "N=C=O": {"CN": 1.214, "CO": 1.166}, "N=C=S": {"CN": 1.207, "CS": 1.567},
    "[C-]#[N+]O": {"CN": 1.169}, "C#[N+][O-]": {"CN": 1.168, "NO": 1.199},
    "C#C": {"CC": 1.203}, "N#CC#N": {"CC": 1.389, "CN": 1.154}, "ClC#N": {"CCl": 1.631},
    "FC#N": {"CF": 1.262}, "O=C=C=C=O": {"CC": 1.289, "CO": 1.163}, "C#P": {"CP": 1.540},
    "C[N+](=O)[O-]": {"CN": 1.489, "NO": 1.224}, "CN=O": {"CN": 1.480, "NO": 1.211},
    "ClN=O": {"ClN": 1.975, "NO": 1.139}, "FN=O": {"FN": 1.512, "NO": 1.136},
    "[O-][N+](=O)[N+](=O)[O-]": {"NN": 1.782, "NO": 1.190}, "FN(F)F": {"FN": 1.365},
    "ClN(Cl)Cl": {"ClN": 1.759}, "C=O": {"CO": 1.205}, "C=S": {"CS": 1.611},
    "O=C(Cl)Cl": {"CCl": 1.738, "CO": 1.176}, "O=C(F)F": {"CF": 1.312, "CO": 1.170},
    "FC(F)(F)F": {"CF": 1.315}, "ClC(Cl)(Cl)Cl": {"CCl": 1.767}, "FB(F)F": {"BF": 1.307},
    "ClB(Cl)Cl": {"BCl": 1.742}, "B": {"BH": 1.190}, "OB(O)O": {"BO": 1.368},
    "[BH3-][NH3+]": {"BN": 1.658}, "FP(F)F": {"FP": 1.570}, "ClP(Cl)Cl": {"ClP": 2.043},
    "FP(F)(F)(F)F": {"FP": 1.556}, "O=P(Cl)(Cl)Cl": {"ClP": 1.993, "OP": 1.449},
    "O=P(F)(F)F": {"FP": 1.524, "OP": 1.436}, "FS(F)(F)(F)(F)F": {"FS": 1.561},
    "FS(F)(F)F": {"FS": 1.596}, "O=S(Cl)Cl": {"ClS": 2.076, "OS": 1.443},
    "ClS(=O)(=O)Cl": {"ClS": 2.012, "OS": 1.408}, "FS(F)(=O)=O": {"FS": 1.530, "OS": 1.397},
    "CS(C)=O": {"CS": 1.799, "OS": 1.485}, "CS(C)(=O)=O": {"CS": 1.777, "OS": 1.431},
    "OCl": {"ClO": 1.690}, "ClSCl": {"ClS": 2.014}, "ClOCl": {"ClO": 1.696},
    "FOF": {"FO": 1.405}, "SS": {"SS": 2.055}, "N=S=O": {"NS": 1.512, "OS": 1.451},
    "S=S=O": {"OS": 1.464, "SS": 1.884}, "C1SC1": {"CC": 1.484, "CS": 1.815},
    "C1OC1": {"CC": 1.466, "CO": 1.431}, "[SiH3]C": {"CSi": 1.867},
    "F[Si](F)(F)F": {"FSi": 1.553}, "Cl[Si](Cl)(Cl)Cl": {"ClSi": 2.019},
    "C[Li]": {"CLi": 1.959}, "[Al](Cl)(Cl)Cl": {"AlCl": 2.068}, "P=O": {"OP": 1.480},
    "[N-]=[N+]=[N-]": {"NN": 1.188}, "[C-]#N": {"CN": 1.177},
    "[S-]C#N": {"CN": 1.176, "CS": 1.660}, "[N-]=C=O": {"CN": 1.190, "CO": 1.227},
    "[O-]C(=O)[O-]": {"CO": 1.313}, "[O-][N+](=O)[O-]": {"NO": 1.264}, "O=N[O-]": {"NO": 1.270},
    "[O-]Cl(=O)(=O)=O": {"ClO": 1.480}, "[O-]S(=O)(=O)[O-]": {"OS": 1.510},
    "[O-]P(=O)([O-])[O-]": {"OP": 1.570}, "F[B-](F)(F)F": {"BF": 1.415},
    "F[P-](F)(F)(F)(F)F": {"FP": 1.630}, "[BH4-]": {"BH": 1.243}, "O=[N+]=O": {"NO": 1.150},
    "N#[N+]c1ccccc1": {"NN": 1.110}, "S=C=Nc1ccccc1": {"CS": 1.580},
    "O=C=NCCN=C=O": {"CO": 1.170}, "[C-]#C": {"CC": 1.247}, "[C]#C": {"CC": 1.217},
    "C=[N]": {"CN": 1.247}, "[N]=N": {"NN": 1.178}, "[CH]=O": {"CH": 1.119, "CO": 1.175},
    "C[C]=O": {"CC": 1.518, "CO": 1.188}, "[O]N=O": {"NO": 1.194}, "N#[S]": {"NS": 1.494},
    "C[O]": {"CO": 1.363}, "[CH]=C": {"CC": 1.316},
}  # fmt: skip


def bonds_of(atoms):
    """Lengths of the bonds of each pair of elements."""
    found = {}
    for i, j, _ in atoms.info["bonds"]:
        name = "".join(sorted([atoms.symbols[i], atoms.symbols[j]]))
        found.setdefault(name, []).append(atoms.get_distance(i, j))
    return found


@pytest.mark.parametrize("smiles", REFERENCE)
def test_bonds_of_small_molecules(smiles):
    found = bonds_of(from_smiles(smiles))
    for name, length in REFERENCE[smiles].items():
        np.testing.assert_allclose(found[name], length, atol=0.05, err_msg=name)


@pytest.mark.parametrize(
    "smiles",
    [
        "S=C=[N-]", "[N-]=C=S", "O=C=[N-]", "[C-]#[N+][O-]", "C[N-][N+]#N", "[CH2-][N+]#N",
        "C[C-]=[N+]=[N-]", "[O-][N+]#N", "[O-][S+]=O", "[O-][S+2]([O-])=O", "N#CC(=C(C#N)C#N)C#N",
        "[O-][Cl+3]([O-])([O-])[O-]", "[O-][P+](Cl)(Cl)Cl", "C[S+](C)[O-]", "CS(=O)(=O)N=C=O",
        "FS(=O)(=O)[N-]S(F)(=O)=O", "C[Si](C)(C)N=[N+]=[N-]", "CC1(C)OB(OC1(C)C)c1ccccc1",
        "F[B-](F)(F)[O+](CC)CC", "P12P3P1P23", "[O-]S(=O)(=O)[S-]", "C1=CC=C1", "FN=NF",
    ],
)  # fmt: skip
def test_other_ways_of_writing_a_molecule(smiles):
    assert strange(Structure.of(from_smiles(smiles))) == []


@pytest.mark.parametrize(
    ("smiles", "atoms", "angle"),
    [
        ("[CH]=O", (1, 0, 2), 124.4), ("C[C]=O", (0, 1, 2), 128.0), ("[CH]=C", (1, 0, 2), 137.0),
        ("[O]N=O", (0, 1, 2), 134.1), ("[CH]=N", (1, 0, 2), 124.5),
    ],
)  # fmt: skip
def test_radicals_are_bent(smiles, atoms, angle):
    """Measured; HCNH by PBE, def2-TZVP."""
    assert from_smiles(smiles).get_angle(*atoms) == pytest.approx(angle, abs=4)


@pytest.mark.parametrize(
    "smiles",
    ["F[P-](F)(F)(F)(F)F", "F[Si-2](F)(F)(F)(F)F", "FS(F)(F)(F)(F)F"],
)
def test_an_octahedron(smiles):
    atoms = from_smiles(smiles)
    bonds = atoms.get_distances(1, [0, 2, 3, 4, 5, 6], vector=True)
    lengths = np.linalg.norm(bonds, axis=1)
    assert np.ptp(lengths) < 0.01
    cosines = np.sort((bonds @ bonds.T / np.outer(lengths, lengths)).ravel())
    np.testing.assert_allclose(cosines[:6], -1, atol=1e-4)
    np.testing.assert_allclose(cosines[6:30], 0, atol=0.02)


@pytest.mark.parametrize(
    ("smiles", "flat"),
    [("C=C=C", False), ("C=C=C=C", True), ("C=C=C=C=C", False), ("CC=C=C=CC", True)],
)
def test_cumulenes_are_planar_or_at_right_angles(smiles, flat):
    atoms = from_smiles(smiles)
    n = sum(1 for *_, order in atoms.info["bonds"] if order == 2)
    chain = [i for i, j, order in atoms.info["bonds"] if order == 2]
    first, last = chain[0], chain[0] + n
    sides = [
        next(k for i, j, order in atoms.info["bonds"] if order == 1 and end in (i, j)
             for k in (i, j) if k != end)
        for end in (first, last)
    ]  # fmt: skip
    axis = atoms.positions[last] - atoms.positions[first]
    normals = [
        np.cross(axis, atoms.positions[k] - atoms.positions[end])
        for k, end in zip(sides, (first, last), strict=True)
    ]
    a, b = (v / np.linalg.norm(v) for v in normals)
    assert abs(a @ b) == pytest.approx(1.0 if flat else 0.0, abs=0.02)


def test_triatomics_have_the_right_shape():
    for smiles, angle in (
        ("O=C=O", 180), ("[N-]=[N+]=[N-]", 180), ("O=[N+]=O", 180), ("O=S=O", 119.5),
        ("[O-][O+]=O", 117), ("ClN=O", 113),
    ):  # fmt: skip
        assert from_smiles(smiles).get_angle(0, 1, 2) == pytest.approx(angle, abs=8), smiles


def test_other_shapes():
    for smiles, atoms, angle in (
        ("F[C]F", (0, 1, 2), 104.9),
        ("Cl[C]Cl", (0, 1, 2), 109.3),
        ("O=S(=O)=O", (0, 1, 2), 120), ("[O-]Cl(=O)=O", (0, 1, 2), 107), ("CN=C=O", (0, 1, 2), 138),
        ("c1ccccc1N=C=S", (5, 6, 7), 145), ("FB(F)F", (0, 1, 2), 120),
    ):  # fmt: skip
        assert from_smiles(smiles).get_angle(*atoms) == pytest.approx(angle, abs=4), smiles
    angles = [
        from_smiles("FS(F)(F)F").get_angle(i, 1, j) for i in (0, 2, 3) for j in (2, 3, 4) if i < j
    ]
    assert min(angles) > 80 and max(angles) > 165


@pytest.mark.parametrize(
    ("smiles", "charge", "low", "high"),
    [
        ("[Na+].[Cl-]", 0, 2.3, 3.0),
        ("CC(=O)[O-].C[NH3+]", 0, 1.6, 2.8),
        ("O.O", 0, 1.6, 2.5),
        ("c1ccccc1.[NH4+]", 1, 1.8, 3.2),
    ],
)
def test_salts_are_placed_in_contact(smiles, charge, low, high):
    atoms = denser.from_smiles(smiles)
    assert atoms.info["charge"] == charge
    assert "2 molecules placed side by side in contact, not optimised" in atoms.info["geometry"]
    group = np.arange(len(atoms))
    for _ in atoms:
        for i, j, _ in atoms.info["bonds"]:
            group[[i, j]] = min(group[i], group[j])
    distances = atoms.get_all_distances()
    other = group[:, None] != group
    assert other.any() and low < distances[other].min() < high


def test_ions_of_one_charge_are_not_neighbours():
    atoms = from_smiles("[Na+].[Na+].[O-]S(=O)(=O)[O-]")
    assert atoms.get_distance(0, 1) > 4


def test_bonds_and_formal_charges_are_carried():
    atoms = from_smiles("C[N+](=O)[O-]")
    bonds = Structure.of(atoms).bonds
    assert sorted(bonds.orders) == [1, 1, 1, 1, 1, 2]
    assert bonds.formal_charges.tolist() == [0, 1, 0, -1, 0, 0, 0]
    back = Structure.of(Structure.of(atoms).to_ase()).bonds
    np.testing.assert_array_equal(back.pairs, bonds.pairs)
    del atoms[6]
    assert Structure.of(atoms).bonds is None  # they name an atom that is gone


def test_what_cannot_be_built():
    for smiles, words in (
        ("C1CC", "cannot be parsed"),
        ("*CC", "wildcard"),
        ("F[Xe]F", "neither MMFF94 nor UFF"),
    ):
        with pytest.raises(InputError, match=words):
            from_smiles(smiles)


def test_a_drug_keeps_its_bonds():
    smiles = "CCCc1nn(C)c2c1nc([nH]c2=O)-c1cc(ccc1OCC)S(=O)(=O)N1CCN(C)CC1"
    found = bonds_of(from_smiles(smiles))
    assert max(itertools.chain(*found.values())) < 1.85


@pytest.mark.parametrize(
    ("smiles", "spin"),
    [("[OH]", 1), ("C[CH2]", 1), ("[O][O]", 2), ("O=O", 0), ("[CH2]", 0), ("[N]=O", 1), ("O", 0)],
)
def test_radicals(smiles, spin):
    structure = Structure.of(from_smiles(smiles))
    assert structure.spin == spin and structure.spin_assumed == (spin == 0)
