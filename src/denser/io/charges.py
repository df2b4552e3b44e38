"""Atomic charges for other programs: mol2, SDF, OpenMM, GROMACS, PQR, and tables.

============  ==================================================================================
suffix        holds
============  ==================================================================================
`.mol2`       atoms with SYBYL types, bonds, charges with 6 digits
`.sdf`        atoms, bonds, formal charges, and the charges as RDKit's and OpenFF's property
              atom.dprop.PartialCharge; further kinds of charges have their name in place of
              PartialCharge
`.xml`        residue templates and their charges for `openmm.app.ForceField`; no Lennard-Jones
`.itp`        molecule types of GROMACS with atoms (SYBYL types), charges, masses and bonds; no
              parameters
`.pqr`        atoms with charges and Bondi's radii, for APBS and other Poisson-Boltzmann solvers;
              several molecules are residues of one system
`.json`       a list of molecules with all kinds of charges, other properties, bonds, positions
`.csv`        a row for each atom with all kinds of charges and other properties
`.parquet`    the same table; needs pyarrow
`.npz`        arrays of MBIS that EMLE is trained with (`denser.io.emle`)
============  ==================================================================================

A file holds one molecule or many. Bonds and their orders are those of the input if it names them
(SMILES, SDF, mol2); else they are judged by distance, and RDKit looks for orders that fit the
charge of the molecule. Where there are none, the files say "unknown".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from ase.data import atomic_masses
from ase.data.vdw import vdw_radii

from denser.io import qtaim_embed
from denser.io.bond_orders import UNKNOWN, find_bonds, sybyl_types, unpaired_electrons
from denser.io.emle import emle_arrays
from denser.io.files import replacing
from denser.io.table import csv_text, parquet_bytes, require_pyarrow, write_table
from denser.types.bonds import Bonds
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

WITH_PROPERTIES = (".json", ".csv", ".parquet", ".npz")
"""Formats that hold `ChargedMolecule.properties`."""

_DIGITS = 6


@dataclass(frozen=True, eq=False)
class ChargedMolecule:
    """A molecule with its charges, ready to be written.

    Parameters
    ----------
    name : str
        A word, unique in a file.
    structure : Structure
    bonds : Bonds
    note : str
        A sentence if the orders of the bonds are not known.
    charges : dict
        Kinds, each with its charges (n_atoms,), e. Formats of a single kind have the first. They
        are rounded to six digits such that their sum stays that of the input rounded to six
        digits: the rest goes to the largest.
    title : str
        Title in the input.
    properties : dict
        Other numbers of the atoms, (n_atoms,), for JSON and tables. Their names end in the unit.
    bond_properties : dict
        Numbers of the bonds, (n_bonds,), for `write_bonds`.
    """

    name: str
    structure: Structure
    bonds: Bonds
    note: str
    charges: dict[str, np.ndarray]
    title: str = ""
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)
    bond_properties: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        structure: Structure,
        charges: Mapping[str, np.ndarray],
        title: str = "",
        properties: Mapping[str, np.ndarray] | None = None,
    ) -> ChargedMolecule:
        """Find the bonds, and check and round the charges.

        Raises
        ------
        InputError
            Charges that do not fit the atoms.
        """
        rounded = {}
        for kind, values in charges.items():
            values = np.asarray(values, dtype=float)
            if values.shape != (len(structure),) or not np.isfinite(values).all():
                raise InputError(
                    f"{name}: {len(structure)} atoms need as many finite charges, found an array "
                    f"of shape {values.shape}"
                )
            rounded[kind] = _rounded(values)
        return cls(name, structure, *find_bonds(structure), rounded, title, properties or {})

    @property
    def first(self) -> np.ndarray:
        """Charges of the first kind."""
        return next(iter(self.charges.values()))


def write_charges(path: str | Path, structure: Structure, charges: np.ndarray) -> str:
    """Write a molecule with its atomic charges; the format is that of the suffix.

    Parameters
    ----------
    path : Path
        With a suffix of `FORMATS`.
    structure : Structure
    charges : (n_atoms,) float
        e; rounded as in `ChargedMolecule`.

    Returns
    -------
    str
        A sentence if the orders of the bonds are not known and the file has them, else an empty
        text.

    Raises
    ------
    InputError
        Another suffix, charges that do not fit the atoms, or a file that cannot be written.
    """
    path = Path(path)
    require_suffix(path)
    molecule = ChargedMolecule.of(path.stem, structure, {"charge": charges})
    write_molecules(path, [molecule])
    has_orders = path.suffix.lower() in (".mol2", ".sdf")
    return f"{path.name}: {molecule.note}" if molecule.note and has_orders else ""


def write_molecules(path: str | Path, molecules: Sequence[ChargedMolecule]) -> None:
    """Write molecules with their charges to one file; the format is that of the suffix.

    Raises
    ------
    InputError
        Another suffix, a molecule too large for the format, or a file that cannot be written.
    """
    path = Path(path)
    require_suffix(path)
    content = FORMATS[path.suffix.lower()](molecules)
    with replacing(path) as temporary:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            temporary.write_text(content)


def write_bonds(path: Path, molecules: Sequence[ChargedMolecule], layout: str = "") -> None:
    """Write a table with a row for each bond, .csv or .parquet: its atoms and `bond_properties`.

    With "qtaim-embed" as `layout` it is the table of `denser.io.qtaim_embed` (.parquet).
    """
    if layout:
        write_table(path, qtaim_embed.table(molecules))
        return
    table: dict[str, list[Any]] = {}
    for molecule in molecules:
        known, symbols = molecule.bonds, molecule.structure.symbols
        n = len(known.pairs)
        columns: dict[str, list[Any]] = {
            "molecule": [molecule.name] * n,
            "title": [molecule.title] * n,
            "atom1": (known.pairs[:, 0] + 1).tolist(),
            "atom2": (known.pairs[:, 1] + 1).tolist(),
            "element1": [symbols[i] for i in known.pairs[:, 0]],
            "element2": [symbols[i] for i in known.pairs[:, 1]],
            "order": known.orders.tolist(),
        }
        for name, values in molecule.bond_properties.items():
            columns[name] = [None if np.isnan(x) else float(f"{x:.6g}") for x in values]
        for name, column in columns.items():
            table.setdefault(name, []).extend(column)
    write_table(path, table)


def require_suffix(path: Path) -> None:
    """Raise an InputError unless charges can be written to a file of this name."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{path}: charges are written to {', '.join(FORMATS)}; choose one of these suffixes"
        )
    if suffix == ".parquet":
        require_pyarrow()


def _rounded(charges: np.ndarray) -> np.ndarray:
    out = np.round(charges, _DIGITS)
    out[np.argmax(np.abs(out))] += round(float(charges.sum()), _DIGITS) - out.sum()
    return np.round(out, _DIGITS) + 0.0  # no negative zero


def _names(structure: Structure) -> list[str]:
    """C1, H1, H2, ...: unique within the molecule."""
    count: Counter[str] = Counter()
    names = []
    for symbol in structure.symbols:
        count[symbol] += 1
        names.append(f"{symbol}{count[symbol]}")
    return names


def _mol2(molecule: ChargedMolecule) -> str:
    structure, known, charges = molecule.structure, molecule.bonds, molecule.first
    pairs = known.pairs
    types, kinds = sybyl_types(structure, known)
    rows = [
        "@<TRIPOS>MOLECULE",
        molecule.name,
        f"{len(structure)} {len(pairs)} 1 0 0",
        "SMALL",
        "USER_CHARGES",
        "",
        "@<TRIPOS>ATOM",
    ]
    atoms = zip(_names(structure), types, structure.positions * BOHR, charges, strict=True)
    for i, (label, symbol, (x, y, z), q) in enumerate(atoms, start=1):
        rows.append(f"{i:7d} {label:6s} {x:11.5f} {y:11.5f} {z:11.5f} {symbol:5s} 1 MOL {q:12.6f}")
    rows.append("@<TRIPOS>BOND")
    for k, ((i, j), order) in enumerate(zip(pairs, kinds, strict=True), start=1):
        rows.append(f"{k:7d} {i + 1:6d} {j + 1:6d} {order}")
    return "\n".join([*rows, "@<TRIPOS>SUBSTRUCTURE", "      1 MOL 1", ""])


def _sdf(molecule: ChargedMolecule) -> str:
    structure, known, name = molecule.structure, molecule.bonds, molecule.name
    pairs, formal = known.pairs, known.formal_charges
    orders = np.where(known.orders == UNKNOWN, 8, known.orders)  # 8 is "any"
    if max(len(structure), len(pairs)) > 999:
        raise InputError(
            f"{name}: an SDF holds 999 atoms and bonds, found {len(structure)} and "
            f"{len(pairs)}; write .mol2"
        )
    rows = [
        name,
        "  denser            3D",
        "",
        f"{len(structure):3d}{len(pairs):3d}  0  0  0  0  0  0  0  0999 V2000",
    ]
    for symbol, (x, y, z) in zip(structure.symbols, structure.positions * BOHR, strict=True):
        rows.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:3s} 0  0  0  0  0  0  0  0  0  0  0  0")
    rows += [
        f"{i + 1:3d}{j + 1:3d}{order:3d}  0" for (i, j), order in zip(pairs, orders, strict=True)
    ]
    rows += [f"M  CHG  1{i + 1:4d}{formal[i]:4d}" for i in np.flatnonzero(formal)]
    rows += [f"M  RAD  1{i + 1:4d}{n + 1:4d}" for i, n in unpaired_electrons(structure, known)]
    rows.append("M  END")
    for i, (kind, charges) in enumerate(molecule.charges.items()):
        tag = "PartialCharge" if i == 0 else kind
        rows += [f"> <atom.dprop.{tag}>", " ".join(f"{q:.6f}" for q in charges), ""]
        if i == 0:
            rows += ["> <charges>", kind, ""]
    return "\n".join([*rows, "$$$$", ""])


def _openmm(molecules: Sequence[ChargedMolecule]) -> str:
    root = ElementTree.Element("ForceField")
    root.append(
        ElementTree.Comment(" charges only: Lennard-Jones and bonded terms are to be added ")
    )
    types = ElementTree.SubElement(root, "AtomTypes")
    residues = ElementTree.SubElement(root, "Residues")
    nonbonded = ElementTree.SubElement(
        root, "NonbondedForce", coulomb14scale="0.833333", lj14scale="0.5"
    )
    ElementTree.SubElement(nonbonded, "UseAttributeFromResidue", name="charge")
    for molecule in molecules:
        structure, name = molecule.structure, molecule.name
        residue = ElementTree.SubElement(residues, "Residue", name=name)
        labels = _names(structure)
        atoms = zip(labels, structure.symbols, structure.numbers, molecule.first, strict=True)
        for label, symbol, z, q in atoms:
            kind = f"{name}-{label}"
            ElementTree.SubElement(
                types, "Type",
                {"name": kind, "class": kind, "element": symbol, "mass": f"{atomic_masses[z]:.4f}"},
            )  # fmt: skip
            ElementTree.SubElement(residue, "Atom", name=label, type=kind, charge=f"{q:.6f}")
            ElementTree.SubElement(nonbonded, "Atom", type=kind, sigma="1.0", epsilon="0.0")
        for i, j in molecule.bonds.pairs:
            ElementTree.SubElement(residue, "Bond", atomName1=labels[i], atomName2=labels[j])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _gromacs(molecules: Sequence[ChargedMolecule]) -> str:
    rows = ["; charges only: atom types are SYBYL's, and parameters are to be added"]
    for molecule in molecules:
        structure = molecule.structure
        types = sybyl_types(structure, molecule.bonds)[0]
        rows += ["", "[ moleculetype ]", "; name  nrexcl", f"{molecule.name}  3", "", "[ atoms ]"]
        rows.append(";  nr  type  resnr  residue  atom  cgnr     charge      mass")
        atoms = zip(types, _names(structure), structure.numbers, molecule.first, strict=True)
        for i, (kind, label, z, q) in enumerate(atoms, start=1):
            rows.append(
                f"{i:5d}  {kind:5s}  1  MOL  {label:5s} {i:5d}  {q:10.6f}  {atomic_masses[z]:9.4f}"
            )
        rows += ["", "[ bonds ]", ";  i     j  funct"]
        rows += [f"{i + 1:5d} {j + 1:5d}  1" for i, j in molecule.bonds.pairs]
    return "\n".join([*rows, ""])


def _pqr(molecules: Sequence[ChargedMolecule]) -> str:
    rows = ["REMARK   charges in e, radii of Bondi in angstrom (2 where he has none)"]
    radii = np.nan_to_num(vdw_radii, nan=2.0)
    n = 0
    for residue, molecule in enumerate(molecules, start=1):
        structure = molecule.structure
        atoms = zip(
            _names(structure), structure.positions * BOHR, molecule.first,
            radii[structure.numbers], strict=True,
        )  # fmt: skip
        for label, (x, y, z), q, radius in atoms:
            n += 1
            rows.append(
                f"ATOM {n:6d} {label:5s} MOL {residue:5d} {x:11.4f} {y:11.4f} {z:11.4f} "
                f"{q:10.6f} {radius:6.3f}"
            )
    return "\n".join([*rows, "TER", "END", ""])


def _json(molecules: Sequence[ChargedMolecule]) -> str:
    found = []
    for molecule in molecules:
        structure, known = molecule.structure, molecule.bonds
        found.append(
            {
                "name": molecule.name,
                "title": molecule.title,
                "charge": structure.charge,
                "symbols": structure.symbols,
                "positions_angstrom": np.round(structure.positions * BOHR, 6).tolist(),
                "bonds": np.column_stack([known.pairs, known.orders]).tolist(),
                "formal_charges": known.formal_charges.tolist(),
                "charges_e": {kind: q.tolist() for kind, q in molecule.charges.items()},
            }
            | {name: np.asarray(x).tolist() for name, x in molecule.properties.items()}
        )
    return json.dumps(found, indent=1) + "\n"


def _columns(molecules: Sequence[ChargedMolecule]) -> dict[str, list[Any]]:
    """Columns of a table with a row for each atom."""
    table: dict[str, list[Any]] = {}
    others = dict.fromkeys(name for molecule in molecules for name in molecule.properties)
    for molecule in molecules:
        structure = molecule.structure
        n, x = len(structure), np.round(structure.positions * BOHR, 6)
        columns: dict[str, list[Any]] = {
            "molecule": [molecule.name] * n,
            "title": [molecule.title] * n,
            "atom": list(range(1, n + 1)),
            "element": structure.symbols,
            "sybyl_type": sybyl_types(structure, molecule.bonds)[0],
            "formal_charge": molecule.bonds.formal_charges.tolist(),
        }
        columns |= {f"{axis}_angstrom": x[:, i].tolist() for i, axis in enumerate("xyz")}
        columns |= {f"{kind}_e": q.tolist() for kind, q in molecule.charges.items()}
        known = {name: np.asarray(x).tolist() for name, x in molecule.properties.items()}
        columns |= {name: known.get(name, [None] * n) for name in others}
        for name, values in columns.items():
            table.setdefault(name, []).extend(values)
    return table


def _csv(molecules: Sequence[ChargedMolecule]) -> str:
    return csv_text(_columns(molecules))


def _parquet(molecules: Sequence[ChargedMolecule]) -> bytes:
    return parquet_bytes(_columns(molecules))


def _one_by_one(text: Callable[[ChargedMolecule], str]) -> Callable[..., str]:
    return lambda molecules: "".join(map(text, molecules))


FORMATS: dict[str, Callable[[Sequence[ChargedMolecule]], str | bytes]] = {
    ".mol2": _one_by_one(_mol2),
    ".sdf": _one_by_one(_sdf),
    ".xml": _openmm,
    ".itp": _gromacs,
    ".pqr": _pqr,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".npz": emle_arrays,
}
"""Writers by suffix, which return the content of a file."""
