"""Atomic charges for other programs: Tripos mol2, SDF and OpenMM's force field XML.

============  ==================================================================================
suffix        holds
============  ==================================================================================
`.mol2`       atoms with SYBYL types, bonds, charges with 6 digits
`.sdf`        atoms, bonds, formal charges, and the charges as RDKit's and OpenFF's property
              atom.dprop.PartialCharge
`.xml`        a residue template and its charges for `openmm.app.ForceField`; no Lennard-Jones
============  ==================================================================================

Bonds and their orders are those of the input if it names them (SMILES, SDF, mol2); else they are
judged by distance, and RDKit looks for orders that fit the charge of the molecule. Where there are
none, the files say "unknown".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from ase.data import atomic_masses

from denser.io.bond_orders import UNKNOWN, find_bonds, sybyl_types
from denser.io.files import replacing
from denser.types.bonds import Bonds
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

_DIGITS = 6


def write_charges(path: str | Path, structure: Structure, charges: np.ndarray) -> str:
    """Write a molecule with its atomic charges; the format is that of the suffix.

    The charges are rounded to six digits such that their sum stays that of the input rounded
    to six digits: the rest goes to the largest.

    Parameters
    ----------
    path : Path
        `.mol2`, `.sdf` or `.xml`.
    structure : Structure
    charges : (n_atoms,) float
        e.

    Returns
    -------
    str
        A sentence if the orders of the bonds are not known, else an empty text.

    Raises
    ------
    InputError
        Another suffix, charges that do not fit the atoms, or a file that cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[[Structure, Bonds, np.ndarray, str], str]] = {
        ".mol2": _mol2,
        ".sdf": _sdf,
        ".xml": _openmm,
    }
    write = writers.get(path.suffix.lower())
    if write is None:
        raise InputError(
            f"{path}: charges are written to {', '.join(writers)}; choose one of these suffixes"
        )
    charges = np.asarray(charges, dtype=float)
    if charges.shape != (len(structure),) or not np.isfinite(charges).all():
        raise InputError(
            f"{path}: {len(structure)} atoms need as many finite charges, found an array of "
            f"shape {charges.shape}"
        )
    known, note = find_bonds(structure)
    if path.suffix.lower() == ".xml":  # which has no orders
        note = ""
    text = write(structure, known, _rounded(charges), path.stem)
    with replacing(path) as temporary:
        temporary.write_text(text)
    return f"{path.name}: {note}" if note else ""


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


def _mol2(structure: Structure, known: Bonds, charges: np.ndarray, name: str) -> str:
    pairs = known.pairs
    types, kinds = sybyl_types(structure, known)
    rows = [
        "@<TRIPOS>MOLECULE",
        name,
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


def _sdf(structure: Structure, known: Bonds, charges: np.ndarray, name: str) -> str:
    pairs, formal = known.pairs, known.formal_charges
    orders = np.where(known.orders == UNKNOWN, 8, known.orders)  # 8 is "any"
    if max(len(structure), len(pairs)) > 999:
        raise InputError(
            f"{name}.sdf: this format holds 999 atoms and bonds, found {len(structure)} and "
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
    values = " ".join(f"{q:.6f}" for q in charges)
    return "\n".join([*rows, "M  END", "> <atom.dprop.PartialCharge>", values, "", "$$$$", ""])


def _openmm(structure: Structure, known: Bonds, charges: np.ndarray, name: str) -> str:
    root = ElementTree.Element("ForceField")
    root.append(
        ElementTree.Comment(" charges only: Lennard-Jones and bonded terms are to be added ")
    )
    types = ElementTree.SubElement(root, "AtomTypes")
    residues = ElementTree.SubElement(root, "Residues")
    residue = ElementTree.SubElement(residues, "Residue", name=name)
    nonbonded = ElementTree.SubElement(
        root, "NonbondedForce", coulomb14scale="0.833333", lj14scale="0.5"
    )
    ElementTree.SubElement(nonbonded, "UseAttributeFromResidue", name="charge")
    labels = _names(structure)
    atoms = zip(labels, structure.symbols, structure.numbers, charges, strict=True)
    for label, symbol, z, q in atoms:
        kind = f"{name}-{label}"
        ElementTree.SubElement(
            types, "Type",
            {"name": kind, "class": kind, "element": symbol, "mass": f"{atomic_masses[z]:.4f}"},
        )  # fmt: skip
        ElementTree.SubElement(residue, "Atom", name=label, type=kind, charge=f"{q:.6f}")
        ElementTree.SubElement(nonbonded, "Atom", type=kind, sigma="1.0", epsilon="0.0")
    for i, j in known.pairs:
        ElementTree.SubElement(residue, "Bond", atomName1=labels[i], atomName2=labels[j])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
