"""Structure files: format x charge, title, frames, cell and oddities. Reading only."""

import bz2
import gzip
import io
import json
import lzma
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import AllChem

import denser
from denser.atoms.plausible import strange
from denser.cli import main
from denser.io.crystals import read_asymmetric_unit
from denser.io.formats import STRUCTURES
from denser.io.frames import Frame, element_of_name, open_valences, stated_in_comment, symbol_of
from denser.io.structures import as_structure, read_structures
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.inputs import find_inputs

# Oxalate, C2O4 2-: an even charge, which the parity of the electrons does not reveal.
OXALATE = [
    ("O", 1.235, 0.285, 1.245),
    ("C", 0.764, 0.145, 0.060),
    ("O", 1.428, 0.221, -1.035),
    ("C", -0.764, -0.145, -0.060),
    ("O", -1.428, -0.221, 1.035),
    ("O", -1.235, -0.285, -1.245),
]
WATER = [("O", 0.0, 0.0, 0.119), ("H", 0.0, 0.763, -0.477), ("H", 0.0, -0.763, -0.477)]


def lines(atoms, form="{} {:.4f} {:.4f} {:.4f}"):
    return "\n".join(form.format(*atom) for atom in atoms) + "\n"


def xyz(atoms, comment=""):
    return f"{len(atoms)}\n{comment}\n{lines(atoms)}"


def sdf(atoms, title="", tail="", columns=None, bonds=(), dim="3D"):
    rows = [title, f"  denser            {dim}", ""]
    rows.append(f"{len(atoms):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000")
    for i, (symbol, x, y, z) in enumerate(atoms):
        code = (columns or {}).get(i, 0)
        rows.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:3s} 0{code:3d}  0  0  0  0  0  0  0  0")
    rows += [f"{i:3d}{j:3d}{order:3d}  0" for i, j, order in bonds]
    return "\n".join([*rows, *filter(None, [tail]), "M  END", "$$$$", ""])


def v3000(atoms, charges):
    rows = ["oxalate", "  denser            3D", "", "  0  0  0     0  0            999 V3000"]
    rows += ["M  V30 BEGIN CTAB", f"M  V30 COUNTS {len(atoms)} 0 0 0 0", "M  V30 BEGIN ATOM"]
    for i, (symbol, x, y, z) in enumerate(atoms):
        charge = f" CHG={charges[i]}" if i in charges else ""
        rows.append(f"M  V30 {i + 1} {symbol} {x} {y} {z} 0{charge}")
    return "\n".join([*rows, "M  V30 END ATOM", "M  V30 END CTAB", "M  END", "$$$$", ""])


def pdb(atoms, charges=None, cryst="", elements=True, names=None, residue="LIG", alt=None):
    rows = [cryst] if cryst else []
    for i, (symbol, x, y, z) in enumerate(atoms):
        name = (names or {}).get(i, f" {symbol}{i + 1}" if len(symbol) == 1 else f"{symbol}{i + 1}")
        place, occupancy = (alt or {}).get(i, (" ", 1.0))
        tail = f"{symbol:>2s}{(charges or {}).get(i, '')}" if elements else ""
        rows.append(
            f"HETATM{i + 1:5d} {name:<4s}{place}{residue} A   1    {x:8.3f}{y:8.3f}{z:8.3f}"
            f"{occupancy:6.2f}  0.00          {tail}"
        )
    return "\n".join([*rows, "END", ""])


def mol2(atoms, charges, kind="USER_CHARGES"):
    rows = ["@<TRIPOS>MOLECULE", "a name", f"{len(atoms)} 0 0 0 0", "SMALL", kind, ""]
    rows.append("@<TRIPOS>ATOM")
    for i, (symbol, x, y, z) in enumerate(atoms):
        rows.append(f"{i + 1} {symbol}{i + 1} {x} {y} {z} {symbol} 1 MOL {charges[i]}")
    return "\n".join([*rows, "@<TRIPOS>BOND", ""])


def mmcif(atoms, charges, models=(1,)):
    rows = ["data_OXL", "loop_", "_atom_site.type_symbol", "_atom_site.Cartn_x"]
    rows += ["_atom_site.Cartn_y", "_atom_site.Cartn_z", "_atom_site.pdbx_formal_charge"]
    rows.append("_atom_site.pdbx_PDB_model_num")
    for model in models:
        rows += [
            f"{s} {x} {y} {z} {charges.get(i, '?')} {model}" for i, (s, x, y, z) in enumerate(atoms)
        ]
    return "\n".join([*rows, ""])


def gro(atoms, residue, box, title="a title"):
    rows = [title, f"{len(atoms)}"]
    for i, (name, x, y, z) in enumerate(atoms):
        rows.append(
            f"{1:5d}{residue:<5s}{name:>5s}{i + 1:5d}{x / 10:8.3f}{y / 10:8.3f}{z / 10:8.3f}"
        )
    return "\n".join([*rows, box, ""])


HALITE = """data_salt
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na+ 0 0 0 1
Cl1 Cl- 0.5 0.5 0.5 {}
"""

CML = """<?xml version="1.0"?>
<molecule xmlns="http://www.xml-cml.org/schema" id="m1" title="oxalate"><atomArray>{}</atomArray>
</molecule>"""
CML_ATOMS = "".join(
    f'<atom elementType="{s}" x3="{x}" y3="{y}" z3="{z}" formalCharge="{-(i in (0, 5))}"/>'
    for i, (s, x, y, z) in enumerate(OXALATE)
)

GAUSSIAN = f"%chk=a.chk\n#p PBE1PBE/6-31G*\n\noxalate\n\n-2 1\n{lines(OXALATE)}\n\n"
ORCA = f"! PBE def2-SVP\n* xyz -2 1\n{lines(OXALATE)}*\n"
BOHRS = [(s, x / BOHR, y / BOHR, z / BOHR) for s, x, y, z in OXALATE]

FORMAL = "".join(f"{s} {x} {y} {z} {-(i in (0, 5))}\n" for i, (s, x, y, z) in enumerate(OXALATE))

# file, contents, formula, charge of each structure
CHARGED = {
    "keyword.xyz": xyz(OXALATE, "Properties=species:S:1:pos:R:3 charge=-2 pbc='F F F'"),
    "total.xyz": xyz(OXALATE, "Properties=species:S:1:pos:R:3 total_charge=-2 total_spin=1"),
    "pair.xyz": xyz(OXALATE, "-2 1"),
    "words.xyz": xyz(OXALATE, "charge: -2 mult: 1"),
    "upper.xyz": xyz(OXALATE, "Charge = -2, from a crystal"),
    "blank.xyz": xyz(OXALATE, "net charge -2 multiplicity 1"),
    "after.xyz": xyz(OXALATE, "charge: 2-"),
    "q.xyz": xyz(OXALATE, "q=-2"),
    "xtb.xyz": xyz(OXALATE, "--chrg -2"),
    "named.xyz": xyz(OXALATE, "-2 1 oxalate"),
    "formal.xyz": f"6\nProperties=species:S:1:pos:R:3:formal_charges:I:1\n{FORMAL}",
    "old-mac.sdf": sdf(OXALATE, tail="M  CHG  2   1  -1   6  -1").replace("\n", "\r"),
    "a.sd": sdf(OXALATE, tail="M  CHG  2   1  -1   6  -1"),
    "mark.xyz": "\ufeff" + xyz(OXALATE, "-2 1"),
    "lines.sdf": sdf(OXALATE, tail="M  CHG  2   1  -1   6  -1"),
    "column.sdf": sdf(OXALATE, columns={0: 5, 5: 5}),
    "crlf.mol": sdf(OXALATE, tail="M  CHG  2   1  -1   6  -1").replace("\n", "\r\n"),
    "v3.sdf": v3000(OXALATE, {0: -1, 5: -1}),
    "a.pdb": pdb(OXALATE, {0: "1-", 5: "1-"}),
    "a.mol2": mol2(OXALATE, [-0.8, 0.6, -0.8, 0.6, -0.8, -0.8]),
    "a.cif": mmcif(OXALATE, {0: -1, 5: -1}),
    "a.mmcif": mmcif(OXALATE, {0: -1, 5: -1}),
    "a.com": GAUSSIAN,
    "a.gjf": GAUSSIAN.replace("-2 1", "-2,1"),
    "bohr.gjf": GAUSSIAN.replace("6-31G*", "6-31G* units=au").replace(lines(OXALATE), lines(BOHRS)),
    "a.inp": ORCA,
    "bohr.inp": ORCA.replace("! PBE", "! PBE Bohrs").replace(lines(OXALATE), lines(BOHRS)),
    "coords.inp": f"%coords\n CTyp xyz\n Charge -2\n Mult 1\n coords\n{lines(OXALATE)} end\nend\n",
    "a.cml": CML.format(CML_ATOMS),
    "a.smi": "[O-]C(=O)C(=O)[O-] oxalate\n",
}


@pytest.mark.parametrize("name", CHARGED)
def test_charge_and_atoms_of_every_format(tmp_path, name):
    path = tmp_path / name
    path.write_text(CHARGED[name], newline="")
    (frame,) = read_structures(path)
    structure = Structure.of(frame.atoms)
    assert (structure.formula, structure.charge, structure.cell) == ("C2O4", -2, None)
    if not name.endswith(".smi"):
        assert structure.positions * BOHR == pytest.approx(
            np.array([atom[1:] for atom in OXALATE]), abs=2e-3
        )


def test_every_format_of_the_table_is_tested():
    tested = {Path(name).suffix for name in CHARGED} | {".gro"}
    assert all(tested & set(entry.endings) for entry in STRUCTURES)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_a_compressed_file_is_read_as_the_plain_one(tmp_path, suffix):
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[suffix]
    records = sdf(OXALATE, "one", "M  CHG  2   1  -1   6  -1") + sdf(WATER, "two")
    found = {}
    for name, text in {"a.sdf": records, "b.xyz": xyz(OXALATE, "-2 1"), "POSCAR": POSCAR}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}{suffix}").write_bytes(pack(text.encode()))
        for path in (tmp_path / name, tmp_path / f"{name}{suffix}"):
            entries = find_inputs([path], densities=False)
            found[path.name] = [
                (e.stem, e.title, e.notes, Structure.of(e.source).formula,
                 Structure.of(e.source).charge) for e in entries
            ]  # fmt: skip
    assert [row[3:] for row in found["a.sdf"]] == [("C2O4", -2), ("H2O", 0)]
    assert [row[:2] for row in found["a.sdf"]] == [("a_00000", "one"), ("a_00001", "two")]
    for name in ("a.sdf", "b.xyz", "POSCAR"):
        assert found[name] == found[f"{name}{suffix}"]


POSCAR = "salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"


# file, contents: (formula, title, periodic, words of the notes) of each structure, or words of
# the error
TABLE = {
    "numbers.xyz": (xyz([("8", 0, 0, 0.119), ("1", 0, 0.763, -0.477), ("1", 0, -0.763, -0.477)]),
                    [("H2O", "", False, "")]),
    "labels.xyz": (xyz([("O1", 0, 0, 0.119), ("H12", 0, 0.763, -0.477), ("D", 0, -0.763, -0.477)]),
                   [("H2O", "", False, "")]),
    "alpha.xyz": (xyz([("CA", 0, 0, 0)]), ["line 3: unclear symbol 'CA': write Ca"]),
    "latin.xyz": (xyz(WATER, "Wasser für \xc5"), [("H2O", "Wasser für \xc5", False, "")]),
    "mark.xyz": (xyz(WATER, "Wasser für \xc5"), [("H2O", "Wasser für \xc5", False, "")]),
    "cell.xyz": (xyz(WATER, 'Lattice="9 0 0 0 9 0 0 0 9"'), [("H2O", "", True, "")]),
    "slab.xyz": (xyz(WATER, 'Lattice="9 0 0 0 9 0 0 0 9" pbc="T T F"'), ["some directions only"]),
    "torn.xyz": (xyz(WATER, "first") + xyz(WATER)[:40],
                 [("H2O", "first", False, ""), "the file ends after"]),
    "middle.xyz": (xyz(WATER) + xyz(WATER).replace("0.7630", "*****") + xyz(WATER, "last"),
                   [("H2O", "", False, ""), "line 9", ("H2O", "last", False, "")]),
    "none.xyz": (lines(WATER), ["expected the number of atoms"]),
    "empty.xyz": ("", ["contains no structure"]),
    "open.xyz": (xyz([("O", 0, 0, 0), ("O", 0, 0, 1.2)], "0 3"), [("O2", "", False, "")]),
    "odd.xyz": (xyz(WATER, "0 2"), ["10 electrons, of which 1 cannot be unpaired"]),
    "spin.xyz": (xyz([("O", 0, 0, 0), ("O", 0, 0, 1.2)], "Properties=species:S:1:pos:R:3 spin=3"),
                 [("O2", "", False, "")]),
    "half.xyz": (xyz(WATER, "charge=0.5"), ["whole number of electrons, found 0.5"]),
    "lib.sdf": (sdf(WATER, "one") + sdf([("R#", 0, 0, 0)], "two") + sdf(WATER, "three"),
                [("H2O", "one", False, ""), "(R#) is no element", ("H2O", "three", False, "")]),
    "torn.sdf": (sdf(WATER, "one") + "\n\n\n  9  0  0\n$$$$\n" + sdf(WATER, "three"),
                 [("H2O", "one", False, ""), "cannot be read as a molfile",
                  ("H2O", "three", False, "")]),
    "planar.sdf": (sdf([(s, y, z, 0) for s, _, y, z in WATER], dim="  "),
                   [("H2O", "", False, "")]),
    "neutral.mol2": (mol2(WATER, [0, 0, 0], "NO_CHARGES"),
                     [("H2O", "a name", False, "no charges; taken as neutral")]),
    "odd.mol2": (mol2(WATER, [-0.8, 0.2, 0.2]), ["whole number of electrons, found -0.4"]),
    "list.smi": ("smiles name\nO water\nC1 broken\n[Na+].[Cl-]\tsalt\n",
                 [("H2O", "water", False, ""), "cannot be parsed", ("ClNa", "salt", False, "")]),
    "models.pdb": ("MODEL        1\n" + pdb(WATER).replace("END", "ENDMDL") + "MODEL        2\n"
                   + pdb(WATER).replace("END", "ENDMDL") + "END\n",
                   [("H2O", "", False, "")] * 2),
    "middle.pdb": ("MODEL        1\n" + pdb(WATER).replace("END", "ENDMDL") + "MODEL        2\n"
                   + pdb(WATER).replace("0.763", "*****").replace("END", "ENDMDL")
                   + "MODEL        3\n" + pdb(WATER).replace("END", "ENDMDL") + "END\n",
                   [("H2O", "", False, ""), "expected three coordinates", ("H2O", "", False, "")]),
    "crystal.pdb": (pdb(WATER, cryst="CRYST1   52.340   61.120   73.900  90.00  90.00  90.00 "
                                     "P 21 21 21    4"),
                    [("H2O", "", False, "the space group is P 21 21 21")]),
    "large.pdb": (pdb(WATER, cryst="CRYST1   52.340   61.120   73.900  90.00  90.00  90.00 P 1"),
                  [("H2O", "", False, "holds 3 atoms only")]),
    "full.pdb": (pdb(WATER, cryst="CRYST1    4.500    4.500    4.500  90.00  90.00  90.00 P 1"),
                 [("H2O", "", True, "")]),
    "unit.pdb": (pdb(WATER, cryst="CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1"),
                 [("H2O", "", False, "")]),
    "places.pdb": (pdb([WATER[0], ("O", 0, 0.7, 0.119), *WATER[1:]],
                       alt={0: ("A", 0.4), 1: ("B", 0.6)}),
                   [("H2O", "", False, "the better occupied one was taken (B)")]),
    "partial.pdb": (pdb(WATER, alt={0: (" ", 0.5)}), [("H2O", "", False, "occupancy below 1")]),
    "alpha.pdb": (pdb([("C", 0, 0, 0), *[("H", *x) for x in
                       ((0.63, 0.63, 0.63), (-0.63, -0.63, 0.63), (0.63, -0.63, -0.63),
                        (-0.63, 0.63, -0.63))]],
                      elements=False, residue="ALA", names={0: "CA", 1: "HA", 2: "1HB", 3: "HB2"}),
                  [("CH4", "", False, "")]),
    "models.cif": (mmcif(WATER, {}, (1, 2)), [("H2O", "OXL", False, "")] * 2),
    "salt.cif": (HALITE.format("1"), [("Cl4Na4", "salt", True, "")]),
    "half.cif": (HALITE.format("0.5"), ["site Cl1 (Cl) has an occupancy of 0.50"]),
    "zero.gro": (gro([("OW", *WATER[0][1:]), ("HW1", *WATER[1][1:]), ("HW2", *WATER[2][1:])],
                     "SOL", "0.0 0.0 0.0"), [("H2O", "a title", False, "")]),
    "box.gro": (gro([("NA", 0, 0, 0), ("CLA", 3, 0, 0), ("CL1", 9, 0, 0)], "LIG", "2.0 2.0 2.0"),
                [("Cl2N", "a title", True, "hydrogens may be missing")]),
    "ions.gro": (gro([("NA", 0, 0, 0)], "NA", "0 0 0") + gro([("CL", 0, 0, 0)], "CL", "0 0 0"),
                 [("Na", "a title", False, "1 ion(s) (NA)"),
                  ("Cl", "a title", False, "they count as -1")]),
    "virtual.gro": (gro([("MW", 0, 0, 0)], "SOL", "0 0 0"), ["no element follows from"]),
    "two.com": (GAUSSIAN + "--Link1--\n" + GAUSSIAN, [("C2O4", "oxalate", False, "2 jobs are in")]),
    "codes.com": ("# opt\n\ntwo\nlines\n\n0 1 0 1\n8(Iso=18) 0 0 0 0\nH-HW -1 0 0.763 -0.596\n"
                  "H1(Fragment=1),0,0,-0.763,-0.596\n", [("H2O", "two lines", False, "")]),
    "z.com": ("# hf\n\nt\n\n0 1\nO\nH 1 r\nH 1 r 2 104.5\n\nr 0.97\n",
              [("H2O", "t", False, "")]),
    "check.com": ("# opt geom=check\n\nt\n\n0 1\n\n", ["from a checkpoint file"]),
    "chain.com": ("# hf\n\nt\n\n0 1\nF 0 0 0\nH 0 0 0.92\nTv 0 0 2.5\n", ["some directions only"]),
    "open.com": (GAUSSIAN.replace("-2 1", "0 2"), ["1 cannot be unpaired"]),
    "int.inp": ("* int 0 1\n*\n", ["coordinates as int are not read"]),
    "gamess.inp": (" $CONTRL\n $END\n", ["is it an ORCA input?"]),
    "OH.cif": ("data_OH\nloop_\n" + "".join(f"_chem_comp_atom.{key}\n" for key in (
                   "type_symbol", "charge", "model_Cartn_x", "model_Cartn_y", "model_Cartn_z"))
               + "O -1 0 0 0\nH 0 0 0 0.97\n", [("HO", "OH", False, "")]),
    "labels.extxyz": (xyz([("O1", 0, 0, 0.119), ("1", 0, 0.763, -0.477), ("D", 0, -0.763, -0.477)],
                          'Lattice="9 0 0 0 9 0 0 0 9"'), [("H2O", "", True, "")]),
    "ions.pdb": (pdb([("NA", 0, 0, 0)], elements=False, names={0: "SOD "}, residue="SOD")
                 .replace("END\n", "")
                 + pdb([("CL", 4, 0, 0)], elements=False, names={0: "CLA "}, residue="CLA"),
                 [("ClNa", "", False, "unless --charge is given, they count as neutral in all")]),
    "chloride.pdb": (pdb([("C", 0, 0, 0), ("CL", 1.78, 0, 0), *[("H", -0.36, *x) for x in
                          ((1.03, 0), (-0.51, 0.89), (-0.51, -0.89))]], elements=False,
                         names={1: " CL1"}), [("CH3Cl", "", False, "")]),
    "hydrate.xyz": (xyz([*WATER, ("O", 3, 0, 0)], ""),
                    [("H2O2", "", False, "N and O atoms have about 2 open valences")]),
    "ice.cif": (HALITE.replace("Na1 Na+ 0 0 0 1\nCl1 Cl- 0.5 0.5 0.5 {}", "O1 O 0 0 0 1"),
                [("O4", "salt", True, "hydrogens may be missing: its N and O atoms")]),
    "urea.xyz": (xyz([("C", 0, 0, 0), ("O", 0, 0, 1.26), ("N", 0, 1.15, -0.68),
                      ("N", 0, -1.15, -0.68)], ""), ["CN2O has no hydrogens, but its N and O"]),
    "comma.xyz": ("3\n\nO 0,0 0,0 0,119\nH 0,0 0,763 -0,477\nH 0,0 -0,763 -0,477\n",
                  ["line 3: numbers have commas"]),
    "rows.xyz": ("3\n\nO, 0, 0, 0.119\nH, 0, 0.763, -0.477\nH, 0, -0.763, -0.477\n",
                 [("H2O", "", False, "")]),
    "fortran.xyz": ("3\n\nO 0D0 0.0d+00 1.19D-01\nH 0. 7.63D-1 -4.77D-1\nH 0. -0.763 -0.477\n",
                    [("H2O", "", False, "")]),
    "crystal.res": ("TITL a\nCELL 0.71 5 5 5 90 90 90\nSFAC C\nC1 1 0 0 0 11 0.02\nEND\n",
                    ["give the CIF"]),
    "commented.smi": ("# from a vendor\nO water\n", [("H2O", "water", False, "")]),
    "a.unheard": ("abc\n", ["unknown format; `denser formats` lists"]),
}  # fmt: skip


LATIN = ("latin.xyz", "mark.xyz")


@pytest.mark.parametrize("name", TABLE)
def test_titles_frames_cells_and_oddities(tmp_path, name):
    text, expected = TABLE[name]
    path = tmp_path / name
    mark = b"\xef\xbb\xbf" if name == "mark.xyz" else b""
    path.write_bytes(mark + text.encode("latin-1" if name in LATIN else "utf-8"))
    entries = find_inputs([path], densities=False)
    assert len(entries) == len(expected)
    for i, (entry, wanted) in enumerate(zip(entries, expected, strict=True)):
        assert entry.name == str(path) + (f"[{i}]" if len(expected) > 1 else "")
        if isinstance(wanted, str):
            with pytest.raises(InputError, match=re.escape(wanted)):
                Structure.of(entry.atoms())
            continue
        structure = Structure.of(entry.atoms())
        assert (structure.formula, entry.title) == wanted[:2]
        assert (structure.cell is not None) == wanted[2]
        assert wanted[3] in " ".join(entry.notes) and bool(entry.notes) == bool(wanted[3])


BENZENE = [("C", 1.5 * np.cos(k * np.pi / 3), 1.5 * np.sin(k * np.pi / 3), 0.0) for k in range(6)]
RING = [(k + 1, (k + 1) % 6 + 1, 1 + k % 2) for k in range(6)]


def test_a_drawing_is_refused_or_embedded(tmp_path):
    path = tmp_path / "benzene.sdf"
    for dim in ("2D", "  "):
        path.write_text(sdf(BENZENE, "benzene", bonds=RING, dim=dim))
        (error,) = read_structures(path)
        assert isinstance(error, InputError) and "--embed" in str(error)
    (frame,) = read_structures(path, embed=True)
    structure = Structure.of(frame.atoms)
    assert structure.formula == "C6H6" and list(structure.numbers[:6]) == [6] * 6
    assert frame.title == "benzene"
    lengths = np.linalg.norm(np.diff(structure.positions[:6], axis=0), axis=1) * BOHR
    assert lengths == pytest.approx(1.39, abs=0.02)
    assert "flat drawing; hydrogens and geometry were made" in frame.notes[0]


@pytest.mark.parametrize(
    "smiles", ["CC(=O)[O-].[Na+]", "[NH4+].[Cl-]", "O.O", "CC(=O)[O-].C[NH3+]"]
)
def test_overlapping_molecules_are_refused_or_embedded(tmp_path, smiles):
    """RDKit embeds the molecules of a salt into each other."""
    whole = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(whole, randomSeed=1) == 0
    path = tmp_path / "salt.sdf"
    path.write_text(Chem.MolToMolBlock(whole))
    (error,) = read_structures(path)
    assert isinstance(error, InputError) and "molecules overlap: atoms" in str(error)
    assert "--embed" in str(error)
    (frame,) = read_structures(path, embed=True)
    structure = Structure.of(frame.atoms)
    assert frame.atoms.numbers.tolist() == [atom.GetAtomicNum() for atom in whole.GetAtoms()]
    assert "molecules overlap" in frame.notes[0] and strange(structure) == []
    path.write_text(sdf([(a.symbol, *a.position) for a in frame.atoms], bonds=[]))
    (again,) = read_structures(path)  # a file without bonds says nothing of molecules
    assert isinstance(again, Frame)


def test_oxygen_at_a_metal_does_not_overlap(tmp_path):
    dioxide = [("Ti", 0, 0, 0), ("O", 1.62, 0.1, 0), ("O", -0.6, 1.5, 0.1), ("C", 5, 0, 0)]
    dioxide += [("H", 5.6, 0.6, 0.6), ("H", 5.6, -0.6, -0.6), ("H", 4.4, -0.6, 0.6)]
    dioxide += [("H", 4.4, 0.6, -0.6)]
    path = tmp_path / "a.sdf"
    path.write_text(sdf(dioxide, bonds=[(4, k, 1) for k in (5, 6, 7, 8)]))
    (frame,) = read_structures(path)
    assert isinstance(frame, Frame)


@pytest.mark.parametrize(
    "text",
    [
        xyz(WATER),
        sdf(WATER, bonds=[(1, 2, 1), (1, 3, 1)]),
        pdb(WATER),
        mol2(WATER, [-0.8, 0.4, 0.4]),
    ],
)
def test_plain_text_is_recognised(tmp_path, text):
    for name in ("a.txt", "a.dat"):
        (tmp_path / name).write_text(text)
        (frame,) = read_structures(tmp_path / name)
        assert frame.atoms.get_chemical_formula() == "H2O"
    (tmp_path / "a.txt").write_text("hello\n")  # no SMILES
    (error,) = read_structures(tmp_path / "a.txt")
    assert "unknown format" in str(error)


def test_missing_hydrogens_are_refused_or_added_in_place(tmp_path):
    atoms = molecule("C6H6")
    bare = [(a.symbol, *a.position) for a in atoms if a.symbol == "C"]
    for name, text in {
        "a.xyz": xyz(bare),
        "a.sdf": sdf(bare, bonds=RING),
        "a.pdb": pdb(bare),
    }.items():
        (tmp_path / name).write_text(text)
        (error,) = read_structures(tmp_path / name)
        assert isinstance(error, InputError) and "C6 has no hydrogens" in str(error)
    (frame,) = read_structures(tmp_path / "a.sdf", embed=True)
    assert frame.atoms.get_chemical_formula() == "C6H6"
    assert frame.atoms.positions[:6] == pytest.approx(atoms.positions[atoms.numbers == 6], abs=1e-4)
    assert "6 hydrogens were added" in frame.notes[0]
    whole = tmp_path / "whole.sdf"
    whole.write_text(sdf([(a.symbol, *a.position) for a in atoms], bonds=RING))
    for embed in (False, True):  # a planar molecule is no drawing
        (frame,) = read_structures(whole, embed)
        assert frame.notes == () and frame.atoms.positions == pytest.approx(
            atoms.positions, abs=1e-4
        )


@pytest.mark.parametrize("name", ["CO2", "CO", "CCl4", "CF4", "C2F4", "CS2", "OCS", "COF2", "CCH"])
def test_molecules_without_hydrogens_have_no_open_valences(name):
    if name == "COF2":
        atoms = Atoms("COF2", [(0, 0, 0), (0, 0, 1.17), (0, 1.06, -0.78), (0, -1.06, -0.78)])
    elif name == "CCH":
        atoms = Atoms("NCCN", [(0, 0, z) for z in (-1.85, -0.69, 0.69, 1.85)])
    else:
        atoms = molecule(name)
    assert open_valences(atoms) < 2.5


def test_symbols_names_and_comments():
    for label, symbol in {
        "CL": "Cl",
        "br": "Br",
        "t": "H",
        "92": "U",
        "HE": "He",
        "Na1": "Na",
    }.items():
        assert symbol_of(label) == symbol
    for label in ("X1", "R#", "119", "0", "CD", "HG", "", "C1'"):
        with pytest.raises(InputError):
            symbol_of(label)
    for name, residue, polymer, symbol in (
        ("CA", "ALA", True, "C"), ("CA", "CA", False, "Ca"), ("HG", "SER", True, "H"),
        ("SE", "MSE", True, "Se"), ("1HB", "ALA", True, "H"), ("SOD", "SOD", False, "Na"),
        ("Br1", "LIG", False, "Br"), ("C1", "LIG", False, "C"), ("NA", "HEM", False, "N"),
    ):  # fmt: skip
        assert element_of_name(name, residue, polymer) == symbol
    for comment, stated in {
        "": {}, "step 12": {}, "100 1": {}, "energy=-2 1": {}, "initial_charges=3": {},
        "+1 1": {"charge": 1, "multiplicity": 1}, "Charge=1.0": {"charge": 1},
        "total charge: 2; multiplicity = 3": {"charge": 2, "multiplicity": 3},
        "charge=1 spin=2": {"charge": 1, "spin": 2}, "spin_density: 3": {},
    }.items():  # fmt: skip
        assert stated_in_comment(comment) == stated


@pytest.mark.parametrize("name", ["pair.xyz", "lines.sdf", "a.mol2", "a.pdb", "a.cif", "a.com",
                                  "a.inp", "a.cml", "a.smi"])  # fmt: skip
def test_standard_input_is_recognised(monkeypatch, name):
    class Input:
        buffer = io.BytesIO(CHARGED[name].encode())

    monkeypatch.setattr(sys, "stdin", Input)
    (entry,) = find_inputs([Path("-")], densities=False)
    structure = Structure.of(entry.atoms())
    assert (structure.formula, structure.charge) == ("C2O4", -2)
    assert (entry.name, entry.stem) == ("-", "stdin")


def test_orca_names_a_file(tmp_path):
    (tmp_path / "geometry.xyz").write_text(xyz(OXALATE))
    path = tmp_path / "a.inp"
    path.write_text("! PBE\n* xyzfile -2 1 geometry.xyz\n")
    (frame,) = read_structures(path)
    assert frame.atoms.info["charge"] == -2 and len(frame.atoms) == 6


def test_as_structure_takes_what_describes_a_molecule(tmp_path, monkeypatch):
    Chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    monkeypatch.chdir(tmp_path)
    Path("a.pdb").write_text(CHARGED["a.pdb"])
    Path("C").write_text(xyz(WATER))
    Path("two.xyz").write_text(xyz(WATER) * 2)
    Path("places.pdb").write_text(TABLE["places.pdb"][0])
    methane = Chem.AddHs(Chem.MolFromSmiles("C"))
    AllChem.EmbedMolecule(methane, randomSeed=1)
    ammonium = as_structure("[NH4+]")
    for source, formula, charge in (
        (Path("a.pdb"), "C2O4", -2), ("a.pdb", "C2O4", -2), (ammonium, "H4N", 1),
        (ammonium.to_ase(), "H4N", 1), (methane, "CH4", 0),
    ):  # fmt: skip
        structure = as_structure(source)
        assert (structure.formula, structure.charge) == (formula, charge)
    assert as_structure("a.pdb", charge=0).charge == 0
    with pytest.warns(UserWarning, match=r"places.pdb: .*alternate locations"):
        assert as_structure("places.pdb").formula == "H2O"
    for source, words in (
        ("no.xyz", "no.xyz: no such file"), ("two.xyz", "two.xyz: holds 2 structures"),
        ("not a thing", "no file 'not a thing', and it is no SMILES"), (3, "found int"),
        (Chem.MolFromSmiles("C"), "has no coordinates"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            as_structure(source)


def test_public_functions_take_a_file_name_or_a_smiles(tmp_path):
    (tmp_path / "water.pdb").write_text(pdb(WATER))
    rho = denser.predict(str(tmp_path / "water.pdb"), spacing=0.3, padding=3)
    assert rho.structure.formula == "H2O"
    with pytest.warns(UserWarning, match="does not know"):
        assert denser.predict("[Li+]", spacing=0.4, padding=2).structure.charge == 1
    denser.write(tmp_path / "water.npz", rho)
    found = denser.analyze(tmp_path / "water.npz", ["moments"])
    again = denser.analyze(denser.read(tmp_path / "water.npz"), ["moments"])
    assert found["moments"].to_dict() == again["moments"].to_dict()


def test_the_command_line(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["denser", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    code, out, _ = run("formats", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and {row["holds"] for row in rows} == {"structures", "densities"}
    code, out, _ = run("formats")
    assert all(ending in out for row in rows for ending in row["endings"])
    Path("lib.sdf").write_text(sdf(WATER, "one") + sdf([("R#", 0, 0, 0)], "two"))
    code, out, err = run(
        "predict", "lib.sdf", "-o", "d", "--format", "npz", "--json", "--spacing", "0.4",
        "--padding", "2",
    )  # fmt: skip
    good, bad = map(json.loads, out.splitlines())
    assert code == 2 and "1 of 2 predicted" in err
    assert (good["title"], good["output"]) == ("one", "d/lib_00000.npz")
    assert bad["input"] == "lib.sdf[1]" and "R#" in bad["error"]
    code, _, err = run("predict", "lib.sdf", "-o", "-")
    assert code == 2 and "-o - is no file" in err and not Path("-").exists()


def test_the_viewer_opens_what_can_be_read(tmp_path, caplog):
    from denser.viewer.items import read_items

    path = tmp_path / "lib.sdf"
    path.write_text(sdf(WATER, "one") + sdf([("R#", 0, 0, 0)], "two") + sdf(WATER, "three"))
    assert [item.name for item in read_items(path)] == ["lib.sdf 1", "lib.sdf 3"]
    assert "lib.sdf 2 is left out: atom 1 (R#) is no element" in caplog.text
    path.write_text(sdf([("R#", 0, 0, 0)], "two"))
    with pytest.raises(InputError, match=r"lib.sdf: atom 1 \(R#\)"):
        read_items(path)


def test_charge_of_an_output_that_ase_reads(tmp_path):
    from ase.io import write

    path = tmp_path / "coord"
    write(path, Atoms("OH", [(0, 0, 0), (0, 0, 0.97)]), format="turbomole")
    path.write_text("$eht charge=-1 unpaired=0\n" + path.read_text())
    (frame,) = read_structures(path)
    assert Structure.of(frame.atoms).charge == -1


@pytest.mark.parametrize("carboxylate", ["O.co2", "O.2"])
def test_bonds_of_mol2_fit_its_charge(tmp_path, carboxylate):
    formate = Atoms("HCOO", [(0, 0, 1.1), (0, 0, 0), (0, 1.1, -0.6), (0, -1.1, -0.6)])
    text = mol2([(a.symbol, *a.position) for a in formate], [0.0, 0.2, -0.6, -0.6])
    text = text.replace(" 0 0 0 0\n", " 3 0 0 0\n").replace(" O 1 MOL", f" {carboxylate} 1 MOL")
    path = tmp_path / "formate.mol2"
    path.write_text(text.replace(" C 1 MOL", " C.2 1 MOL") + "1 1 2 1\n2 2 3 ar\n3 2 4 ar\n")
    (frame,) = read_structures(path)
    structure = Structure.of(frame.atoms)
    assert structure.charge == -1
    assert structure.bonds is None or structure.bonds.formal_charges.sum() == -1


AMMONIUM = [("N", 0, 0, 0), ("H", 0.6, 0.6, 0.6), ("H", -0.6, -0.6, 0.6), ("H", 0.6, -0.6, -0.6),
            ("H", -0.6, 0.6, -0.6)]  # fmt: skip
FOUR = mol2(AMMONIUM, [0] * 5).replace(" N 1 MOL", " N.4 1 MOL").replace("5 0 0 0 0", "5 4 0 0 0")
FOUR += "".join(f"{k} 1 {k + 1} 1\n" for k in (1, 2, 3, 4))
GHOSTS = "# hf\n\nt\n\n0 1\nO-Bq 0 0 5\nH-Bq 0 0 5.9\nH1-Bq 0 0.9 5\n" + lines(WATER) + "\n"
ESPRESSO = """&system
  ibrav=0, nat=2, ntyp=2, tot_charge=-1
/
ATOMIC_SPECIES
O 16 O.upf
H 1 H.upf
CELL_PARAMETERS angstrom
8 0 0
0 8 0
0 0 8
ATOMIC_POSITIONS angstrom
O 0 0 0
H 0 0 0.97
"""
CHEMICAL_JSON = """{"chemicalJson": 1, "atoms": {"coords": {"3d": [0, 0, 0, 0, 0, 0.97]},
"elements": {"number": [8, 1]}}, "properties": {"totalCharge": -1}}"""


@pytest.mark.parametrize(
    ("name", "text", "charge", "note"),
    [
        ("none.mol2", FOUR.replace("USER_CHARGES", "NO_CHARGES"), 1, "taken as +1 from its bonds"),
        ("zero.mol2", FOUR, 1, "taken as +1 from its bonds"),
        ("ion.pdb", pdb([("CA", 0, 0, 0)], names={0: "CA"}, residue=" CA"), 2, "(CA); unless"),
        ("ion.gro", gro([("K+", 0, 0, 0)], "K+", "0 0 0"), 1, "they count as +1 in all"),
        ("molecule.gro", gro([("C", 0, 0, 0), ("O", 1.13, 0, 0)], "CO", "0 0 0"), 0, None),
        ("ghosts.com", GHOSTS, 0, None),
        ("jobs.inp", ORCA + "$new_job\n" + ORCA.replace("-2 1", "0 1"), -2, "2 jobs are in"),
        ("pw.pwi", ESPRESSO, -1, None),
        ("a.cjson", CHEMICAL_JSON, -1, None),
        ("blank.pdb", pdb(WATER, alt={0: (" ", 0.0)}), 0, "1 atoms have an occupancy of 0"),
        ("all.pdb", pdb(WATER, alt=dict.fromkeys(range(3), (" ", 0.0))), 0, None),
    ],
)  # fmt: skip
def test_charges_that_files_do_not_state_as_such(tmp_path, name, text, charge, note):
    (tmp_path / name).write_text(text)
    frame = list(read_structures(tmp_path / name))[-1]
    assert isinstance(frame, Frame), frame
    if name == "ghosts.com":  # which predictions refuse
        assert frame.atoms.numbers.tolist() == [8, 1, 1] * 2
        assert frame.atoms.arrays["ghosts"].tolist() == [True] * 3 + [False] * 3
        with pytest.raises(InputError, match=r"atom 1 is a ghost, basis functions of O without"):
            Structure.of(frame.atoms)
        return
    assert Structure.of(frame.atoms).charge == charge
    assert (note or "") in " ".join(frame.notes) and bool(note) == bool(frame.notes)


def test_structures_between_end_lines_of_a_pdb_are_frames(tmp_path):
    (tmp_path / "vmd.pdb").write_text(pdb(WATER) + pdb(WATER) + pdb(OXALATE, {0: "1-", 5: "1-"}))
    found = [Structure.of(frame.atoms) for frame in read_structures(tmp_path / "vmd.pdb")]
    assert [(s.formula, s.charge) for s in found] == [("H2O", 0), ("H2O", 0), ("C2O4", -2)]


def _polymer(sequence, ionised, flavor=0):
    """Peptide or RNA with hydrogens; acids, bases and ends are ions if `ionised`."""
    polymer = Chem.MolFromSequence(sequence, flavor=flavor)
    if ionised:
        for smarts, charge in (
            ("[OX1]=C[OX2H:1]", -1), ("[NX3H2,NX3H1;!$(N[C,c]=[O,N]):1][CX4]", 1),
            ("P[OX2H:1]", -1), ("[NX2:1]=C(N)N", 1), ("[NX2H:1]=C(N)N", 1),
        ):  # fmt: skip
            pattern = Chem.MolFromSmarts(smarts)
            (k,) = (a.GetIdx() for a in pattern.GetAtoms() if a.GetAtomMapNum())
            for match in polymer.GetSubstructMatches(pattern):
                polymer.GetAtomWithIdx(match[k]).SetFormalCharge(charge)
        Chem.SanitizeMol(polymer)
    polymer = Chem.AddHs(polymer, addResidueInfo=True)
    AllChem.EmbedMolecule(polymer, randomSeed=1, useRandomCoords=True)
    return polymer


@pytest.mark.parametrize(
    ("sequence", "flavor", "ionised", "charge"),
    [("GK", 0, False, 0), ("GK", 0, True, 1), ("DAREH", 0, True, -1), ("CPY", 0, False, 0),
     ("AC", 2, False, 0), ("AC", 2, True, -1)],
)  # fmt: skip
def test_charges_of_residues_follow_from_their_hydrogens(
    tmp_path, sequence, flavor, ionised, charge
):
    polymer = _polymer(sequence, ionised, flavor)
    assert Chem.GetFormalCharge(polymer) == charge
    text = Chem.MolToPDBBlock(polymer)
    (tmp_path / "stated.pdb").write_text(text)
    silent = "\n".join(line[:78] if line[:6] == "HETATM" or line[:4] == "ATOM" else line
                       for line in text.splitlines())  # fmt: skip
    (tmp_path / "silent.pdb").write_text(silent)
    for name in ("stated", "silent"):
        (frame,) = read_structures(tmp_path / f"{name}.pdb")
        assert Structure.of(frame.atoms).charge == charge
        assert any("follow from their hydrogens" in x for x in frame.notes) == (
            ionised and name == "silent"
        )


def test_charges_of_residues_without_some_hydrogens_are_said_to_be_unknown(tmp_path):
    peptide = _polymer("GKG", True)
    united = Chem.RWMol(peptide)
    lysine = Chem.MolFromSmarts("[#1][CX4][CX4]")
    for atom in sorted({m[0] for m in united.GetSubstructMatches(lysine)}, reverse=True)[:-1]:
        united.RemoveAtom(atom)
    text = "\n".join(line[:78] for line in Chem.MolToPDBBlock(united).splitlines())
    (tmp_path / "gkg.pdb").write_text(text)
    (frame,) = read_structures(tmp_path / "gkg.pdb")
    assert "count as neutral unless --charge is given: 1 LYS" in " ".join(frame.notes)


@pytest.mark.parametrize("name", ["N2", "HCN", "C2H2", "CO"])
def test_short_triple_bonds_are_no_drawing(tmp_path, name):
    """Their lengths are 0.77 to 0.8 of the sum of the covalent radii."""
    atoms = molecule(name)
    atoms.positions = atoms.positions[:, [2, 0, 1]]  # along x
    atoms.write(tmp_path / "a.xyz", format="xyz")
    atoms.write(tmp_path / "a.sdf", format="sdf")
    for file in ("a.xyz", "a.sdf"):
        (frame,) = read_structures(tmp_path / file)
        assert isinstance(frame, Frame), frame
        assert sorted(frame.atoms.numbers) == sorted(atoms.numbers)


def test_a_flat_drawing_with_hydrogens_is_refused_whatever_its_header_says(tmp_path):
    drawing = Chem.AddHs(Chem.MolFromSmiles("CC(C)Cc1ccc(cc1)C(C)C(=O)O"))
    AllChem.Compute2DCoords(drawing)
    (tmp_path / "a.xyz").write_text(Chem.MolToXYZBlock(drawing))
    (error,) = read_structures(tmp_path / "a.xyz")
    assert isinstance(error, InputError) and "flat drawing, not a structure: all z" in str(error)
    for dim in ("3D", "  "):
        (tmp_path / "a.mol").write_text(Chem.MolToMolBlock(drawing).replace("2D", dim))
        (error,) = read_structures(tmp_path / "a.mol")
        assert isinstance(error, InputError) and "flat drawing" in str(error)
        (frame,) = read_structures(tmp_path / "a.mol", embed=True)
        assert strange(Structure.of(frame.atoms)) == []


def test_a_stretched_linear_molecule_is_no_drawing(tmp_path):
    """All of its z are the same whatever its lengths are."""
    (tmp_path / "a.xyz").write_text(
        "3\ncharge=-1\nC 1.37 0.16 0\nC -0.16 -0.02 0\nH -1.21 -0.14 0\n"
    )
    (frame,) = read_structures(tmp_path / "a.xyz")
    assert isinstance(frame, Frame) and "hydrogens may be missing" in frame.notes[0]


def test_a_file_of_qm9(tmp_path):
    """It has lines behind the atoms, and numbers such as 1.2*^-6."""
    rows = lines(WATER, "{}\t{:.4f}\t{:.4f}\t{:.4f}\t-0.4").replace("0.0000", "1.2*^-6")
    text = f"3\ngdb 3\t799.58812\n{rows}1671.4\t3803.6\t3907.6\nO\tO\n"
    (tmp_path / "dsgdb9nsd_000003.xyz").write_text(text)
    (frame,) = read_structures(tmp_path / "dsgdb9nsd_000003.xyz")
    assert frame.atoms.get_chemical_formula() == "H2O" and frame.title.startswith("gdb 3")
    assert frame.notes == ("line 6 and those after it are not read: no further structure",)
    (tmp_path / "more.xyz").write_text(xyz(WATER) + "H 5.0 0.0 0.0\n")  # a wrong number of atoms
    frame, error = read_structures(tmp_path / "more.xyz")
    assert frame.notes == () and "expected the number of atoms, found 'H 5.0" in str(error)


def test_a_data_field_with_another_charge_is_told(tmp_path):
    record = sdf(OXALATE, tail="M  CHG  2   1  -1   6  -1")
    told = "a data field says charge -1; that of the atoms is taken, -2"
    for value, notes in (("-1", told), ("-2", "")):
        field = f"M  END\n>  <PUBCHEM_TOTAL_CHARGE>\n{value}\n\n$$$$"
        (tmp_path / "a.sdf").write_text(record.replace("M  END\n$$$$", field))
        (frame,) = read_structures(tmp_path / "a.sdf")
        assert frame.atoms.info["charge"] == -2 and "".join(frame.notes) == notes


def test_lengths_in_bohr_are_told(tmp_path):
    (tmp_path / "a.xyz").write_text(
        xyz([(s, x / BOHR, y / BOHR, z / BOHR) for s, x, y, z in WATER])
    )
    (frame,) = read_structures(tmp_path / "a.xyz")
    assert "1.9 times as far apart as bonded atoms; lengths in bohr" in frame.notes[0]


def test_hydrogens_at_oxygen_alone_are_too_few(tmp_path):
    """Files for docking hold polar hydrogens only."""
    ethanol = molecule("CH3CH2OH")
    polar = [(a.symbol, *a.position) for i, a in enumerate(ethanol) if i < 4]
    assert [a[0] for a in polar] == ["C", "C", "O", "H"]
    (tmp_path / "a.xyz").write_text(xyz(polar))
    (error,) = read_structures(tmp_path / "a.xyz")
    assert "C2HO has no hydrogens at carbon atoms, but" in str(error)


@pytest.mark.parametrize("pair", ["CO", "CN"])
def test_carbon_at_the_end_of_a_triple_bond_misses_no_hydrogens(pair):
    atoms = Atoms(pair * 4, [(4 * k, 0, z) for k in range(4) for z in (0, 1.15)])
    assert open_valences(atoms) == 0


WATER_CIF = """data_a
_cell_length_a 6
_cell_length_b 6
_cell_length_c 6
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
{}
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
O1 0.5 0.5 0.52
H1 0.5 0.627 0.42
H2 0.5 0.373 0.42
"""
WHOLE = "_space_group_name_H-M_alt 'P 1'\n_chemical_formula_sum 'H2 O'\n"


@pytest.mark.parametrize(
    ("head", "keep", "found"),
    [
        (WHOLE, "", ()),
        ("", "", "the CIF names no symmetry"),
        ("_space_group_name_H-M_alt 'P 99'\n", "", InputError("the space group P 99 is not known")),
        ("_space_group_IT_number 19\n", "", InputError("the space group 19 is not known")),
        (WHOLE, "H1 ", InputError("its formula is H2 O, but its sites hold no hydrogens")),
        (WHOLE, "H2 ", "which makes 2 in the cell, and its sites hold 1"),
    ],
)
def test_symmetry_and_hydrogens_of_a_cif(tmp_path, head, keep, found):
    text = WATER_CIF.format(head)
    (tmp_path / "a.cif").write_text(text[: text.rindex(keep)] if keep else text)
    (frame,) = read_structures(tmp_path / "a.cif")
    if isinstance(found, InputError):
        assert isinstance(frame, InputError) and str(found) in str(frame)
    else:
        assert str(found or "") in " ".join(frame.notes) and bool(found) == bool(frame.notes)


def test_a_cif_without_labels_has_atoms_all_the_same(tmp_path):
    text = WATER_CIF.format(WHOLE).replace("_label", "_type_symbol")
    text = text.replace("O1", "O").replace("H1", "H").replace("H2", "H").replace("'H O'", "'H2 O'")
    (tmp_path / "a.cif").write_text(text)
    (frame,) = read_structures(tmp_path / "a.cif")
    assert frame.atoms.get_chemical_formula() == "H2O"
    assert read_asymmetric_unit(tmp_path / "a.cif").labels == ("O1", "H1", "H2")


def test_aromatic_carbon_of_force_fields_is_no_calcium(tmp_path):
    text = WATER_CIF.format("").replace("_fract_x", "_type_symbol\n_atom_site_fract_x")
    for old, new in (("O1", "CAR1 Ca"), ("H1", "Ca1 Ca"), ("H2", "HYD1 H")):
        text = text.replace(old, new)
    (tmp_path / "a.cif").write_text(text)
    (frame,) = read_structures(tmp_path / "a.cif")
    assert frame.atoms.get_chemical_symbols() == ["C", "Ca", "H"]
    assert "1 sites with the type symbol Ca and labels as CAR1" in " ".join(frame.notes)


def test_structures_of_pymatgen():
    core = pytest.importorskip("pymatgen.core")
    hydroxide = as_structure(core.Molecule(["O", "H"], [[0, 0, 0], [0, 0, 0.97]], charge=-1))
    assert (hydroxide.formula, hydroxide.charge, hydroxide.cell) == ("HO", -1, None)
    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    salt = as_structure(core.Structure(core.Lattice.cubic(4.2), ["Na", "Cl"], places))
    assert salt.is_orthorhombic
    mixed = core.Structure(core.Lattice.cubic(4.2), [{"Na": 0.5, "K": 0.5}, "Cl"], places)
    with pytest.raises(InputError, match="ordered structures"):
        as_structure(mixed)
