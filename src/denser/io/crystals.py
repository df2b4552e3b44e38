"""Read PDB, mmCIF and small-molecule CIF with gemmi: places, occupancies, charges and cells."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from ase import Atoms

from denser.io.coordinates import decoded, reason
from denser.io.files import naming, read_bytes
from denser.io.frames import (
    SPARSE,
    Frame,
    charge_of_ions,
    checked,
    compare_hydrogens,
    element_of_name,
    plain_symbol,
)
from denser.io.hydrogens import with_hydrogens
from denser.io.residues import ResidueAtom, charge_of_residues, is_known
from denser.types.errors import InputError

_FULL = 0.99
"""Smallest occupancy that counts as 1."""


def read_pdb(text: str, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield the models of a PDB file."""
    header = "".join(line for line in text.splitlines(True) if line.startswith(("CRYST1", "TITLE")))
    models = re.split(r"^(?:ENDMDL.*|END[ \t]*)$", text, flags=re.MULTILINE)
    for model in models:
        atoms = [line for line in model.splitlines() if line.startswith(("ATOM  ", "HETATM"))]
        if not atoms:
            continue
        try:
            _check_coordinates(atoms)
            structure = gemmi.read_pdb_string(model if "CRYST1" in model else header + model)
            if len(structure) == 0:
                raise InputError("contains no atoms that can be read")
            blank = not any(line[76:78].strip() for line in atoms)
            sites = list(_pdb_sites(structure[0], blank))
            title = dict(structure.info).get("_struct.title", "")
            yield _frame(sites, structure.cell, structure.spacegroup_hm, title.strip(), embed)
        except InputError as error:
            yield error
        except (RuntimeError, ValueError) as error:
            yield InputError(f"cannot be read ({reason(error)})")


def read_cif(text: str, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield the structures in the blocks of a CIF or mmCIF file."""
    try:
        document = gemmi.cif.read_string(text)
    except (RuntimeError, ValueError) as error:
        yield InputError(f"cannot be read ({reason(error)})")
        return
    for block in document:
        try:
            if block.find_values("_atom_site.Cartn_x"):
                yield from _mmcif(block, embed)
            elif block.find_values("_chem_comp_atom.model_Cartn_x"):
                yield _component(block)
            elif block.find_values("_atom_site_fract_x"):
                yield _small(block)
        except InputError as error:
            yield error
        except (RuntimeError, ValueError) as error:
            yield InputError(f"cannot be read ({reason(error)})")


def _check_coordinates(lines: Sequence[str]) -> None:
    """Raise an InputError for coordinates that are no numbers; gemmi takes them for zero."""
    for line in lines:
        try:
            finite = all(np.isfinite(float(line[k : k + 8])) for k in (30, 38, 46))
        except ValueError:
            finite = False
        if not finite:
            raise InputError(f"expected three coordinates in columns 31-54 of {line[:60]!r}")


def _pdb_sites(model: Any, blank: bool) -> Iterator[ResidueAtom]:
    """Atoms of a model; `blank` if the file gives no elements, which gemmi then guesses."""
    for chain in model:
        for residue in chain:
            kind = gemmi.find_tabulated_residue(residue.name)
            polymer = kind.is_amino_acid() or kind.is_nucleic_acid()
            for atom in residue:
                element = atom.element.name
                strange = polymer and element not in ("H", "D", *"CNOPS", "Se")
                ion = atom.name == residue.name or atom.name[:2].upper() in ("CL", "BR")
                if element == "X" or strange or (blank and ion):
                    element = element_of_name(atom.name, residue.name, polymer)
                yield ResidueAtom(
                    plain_symbol(element), tuple(atom.pos), (chain.name, str(residue.seqid)),
                    residue.name, atom.name, atom.charge, atom.altloc.strip("\0 "), atom.occ,
                )  # fmt: skip


_MMCIF = (
    "type_symbol", "Cartn_x", "Cartn_y", "Cartn_z", "?occupancy", "?label_alt_id",
    "?pdbx_formal_charge", "?pdbx_PDB_model_num", "?auth_asym_id", "?auth_seq_id",
    "?label_comp_id", "?label_atom_id",
)  # fmt: skip


def _mmcif(block: Any, embed: bool) -> Iterator[Frame | InputError]:
    """The models of a block of mmCIF."""
    table = block.find("_atom_site.", list(_MMCIF))
    if len(table) == 0:
        raise InputError("its atoms lack type_symbol or coordinates")
    models: dict[str, list[ResidueAtom]] = defaultdict(list)

    def value(row: Any, column: int, default: str) -> str:
        if not row.has(column):
            return default
        text = row.str(column)
        return text if text not in ("", ".", "?") else default

    for row in table:
        position = (float(row[1]), float(row[2]), float(row[3]))
        models[value(row, 7, "1")].append(
            ResidueAtom(
                plain_symbol(row.str(0)), position,
                (value(row, 8, ""), value(row, 9, "") or value(row, 10, "")), value(row, 10, ""),
                value(row, 11, ""), round(float(value(row, 6, "0"))), value(row, 5, ""),
                float(value(row, 4, "1").split("(")[0]),
            )
        )  # fmt: skip
    structure = gemmi.make_structure_from_block(block)
    group = block.find_value("_symmetry.space_group_name_H-M") or ""
    title = block.find_value("_struct.title")
    name = gemmi.cif.as_string(title).strip() if title else block.name
    for sites in models.values():
        try:
            yield _frame(sites, structure.cell, gemmi.cif.as_string(group), name, embed)
        except InputError as error:
            yield error


def _component(block: Any) -> Frame:
    """A component of the PDB's dictionary, with its model coordinates."""
    rows = block.find(
        "_chem_comp_atom.",
        ["type_symbol", "model_Cartn_x", "model_Cartn_y", "model_Cartn_z", "?charge"],
    )
    symbols = [plain_symbol(row.str(0)) for row in rows]
    positions = [[float(row[k]) for k in (1, 2, 3)] for row in rows]
    atoms = Atoms(symbols, positions)
    charges = [row.str(4) if row.has(4) else "0" for row in rows]
    atoms.info["charge"] = sum(int(q) for q in charges if q not in ("", ".", "?"))
    return checked(Frame(atoms, block.name))


def _frame(sites: Sequence[ResidueAtom], cell: Any, group: str, title: str, embed: bool) -> Frame:
    notes: list[str] = []
    sites = _better_places(sites, notes)
    if embed:
        sites = with_hydrogens(sites, notes)
    partial = sum(0 < site.occupancy < _FULL and not site.altloc for site in sites)
    if partial:
        notes.append(f"{partial} atoms have an occupancy below 1; they are taken in full")
    empty = sum(site.occupancy == 0 for site in sites)
    if 0 < empty < len(sites):
        notes.append(f"{empty} atoms have an occupancy of 0; they are taken all the same")
    atoms = Atoms([s.element for s in sites], [s.position for s in sites])
    atoms.info["charge"] = _total_charge(sites, notes)
    lengths = np.array([cell.a, cell.b, cell.c])
    if cell.is_crystal() and not np.allclose(lengths, 1.0):
        shown = " x ".join(f"{length:.1f}" for length in lengths)
        if group.replace(" ", "") not in ("", "P1"):
            notes.append(
                f"the space group is {group} and the file holds one asymmetric unit; its atoms are "
                "taken as an isolated molecule (for the crystal, give the whole cell in P 1)"
            )
        elif cell.volume > SPARSE * len(atoms):
            notes.append(
                f"the cell of {shown} angstrom holds {len(atoms)} atoms only; they are taken as an "
                "isolated molecule"
            )
        else:
            atoms.set_cell([*lengths, cell.alpha, cell.beta, cell.gamma])
            atoms.pbc = True
    return checked(Frame(atoms, title, tuple(notes)))


def _total_charge(sites: Sequence[ResidueAtom], notes: list[str]) -> int:
    """Sum of the charges in the file, and of ions and residues whose charge it does not give."""
    silent = [(site.kind, site.element) for site in sites if not site.charge]
    total = sum(site.charge for site in sites) + charge_of_ions(silent, notes)
    stated = {site.residue for site in sites if site.charge}
    if any(is_known(site.kind) for site in sites if site.residue in stated):
        return total
    return total + charge_of_residues(sites, notes)


def _better_places(sites: Sequence[ResidueAtom], notes: list[str]) -> list[ResidueAtom]:
    """Of the alternate locations of each residue, those with the highest occupancy."""
    occupancies: dict[tuple[str, ...], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for site in sites:
        if site.altloc:
            occupancies[site.residue][site.altloc] += site.occupancy
    best = {
        residue: max(sorted(found), key=found.__getitem__) for residue, found in occupancies.items()
    }
    kept = [s for s in sites if not s.altloc or s.altloc == best[s.residue]]
    several = sum(len(found) > 1 for found in occupancies.values())
    if several:
        labels = ", ".join(sorted(set(best.values())))
        notes.append(
            f"{several} residue(s) have alternate locations; the better occupied one was taken "
            f"({labels})"
        )
    return kept


def _small(block: Any) -> Frame:
    """The cell of a small-molecule or inorganic CIF, with all symmetry copies."""
    notes: list[str] = []
    small = _sites_of(block, notes)
    if not small.symops and small.spacegroup is None:
        notes.append("the CIF names no symmetry; its atoms are taken as those of the whole cell")
    for i in reversed(_left_out(small.sites, notes)):
        del small.sites[i]
    atoms, formula = _filled(small), block.find_value("_chemical_formula_sum")
    compare_hydrogens(atoms, gemmi.cif.as_string(formula or "?"), notes)
    return checked(Frame(atoms, block.name, tuple(notes)))


def _sites_of(block: Any, notes: list[str] | None = None) -> Any:
    _add_labels(block)
    small = gemmi.make_small_structure_from_block(block)
    if not small.cell.is_crystal():
        raise InputError("the CIF gives no cell for its fractional coordinates")
    name = small.spacegroup_hm or small.spacegroup_number
    if name and not small.symops and small.spacegroup is None:
        raise InputError(
            f"the space group {name} is not known without its symmetry operations; write them "
            "into the CIF (_space_group_symop_operation_xyz)"
        )
    aromatic = [
        site for site in small.sites if site.element.name == "Ca" and re.match("CAR", site.label)
    ]
    for site in aromatic:
        site.element = gemmi.Element("C")
    if aromatic and notes is not None:
        notes.append(
            f"{len(aromatic)} sites with the type symbol Ca and labels as {aromatic[0].label} are "
            "taken as aromatic carbon"
        )
    return small


def _add_labels(block: Any) -> None:
    """Name the sites of a CIF without labels after their elements, which gemmi needs."""
    symbols = block.find_values("_atom_site_type_symbol")
    if block.find_values("_atom_site_label") or not symbols:
        return
    count: dict[str, int] = defaultdict(int)
    labels = []
    for symbol in symbols:
        element = plain_symbol(gemmi.cif.as_string(symbol))
        count[element] += 1
        labels.append(f"{element}{count[element]}")
    loop = symbols.get_loop()
    loop.add_columns(["_atom_site_label"], "?")
    column = block.find_values("_atom_site_label")
    for i, label in enumerate(labels):
        column[i] = label


def _filled(small: Any) -> Atoms:
    """The atoms of the whole cell, each site followed by its symmetry copies."""
    sites = small.get_all_unit_cell_sites()
    return Atoms(
        [plain_symbol(site.element.name) for site in sites],
        scaled_positions=[site.fract.tolist() for site in sites],
        cell=small.cell.parameters,
        pbc=True,
    )


@dataclass(frozen=True, eq=False)
class AsymmetricUnit:
    """The sites of a small-molecule CIF, as a refinement names them; see `read_asymmetric_unit`.

    Parameters
    ----------
    labels : tuple of str
    parts : (n,) int
        Disorder group of each site; 0 for those that every group has beside it.
    arrangements : tuple of int
        The disorder groups, the best occupied one first; (0,) if there is no disorder.
    shares : tuple of float
        Their occupancies, divided by the sum.
    d_min : float or None
        Resolution of the measurement, angstrom, if the CIF states it.
    """

    labels: tuple[str, ...]
    parts: np.ndarray
    arrangements: tuple[int, ...]
    shares: tuple[float, ...]
    d_min: float | None
    _block: Any

    def cell(self, part: int) -> tuple[Frame, np.ndarray]:
        """The whole cell with the sites of one arrangement, and the index of each site in it.

        Returns
        -------
        Frame
        first : (n,) int
            Index of the atom at the site itself among the atoms of the cell; -1 for sites of other
            arrangements.

        Raises
        ------
        InputError
            The atoms are not a crystal, as when hydrogens are missing.
        """
        small = _sites_of(self._block)
        kept = np.isin(self.parts, (0, part))
        for i in reversed(np.flatnonzero(~kept)):
            del small.sites[int(i)]
        first = np.full(len(self.labels), -1)
        filled = [site.label for site in small.get_all_unit_cell_sites()]
        first[kept] = [filled.index(site.label) for site in small.sites]
        return checked(Frame(_filled(small), self._block.name)), first


def read_asymmetric_unit(path: Path, block: str | None = None) -> AsymmetricUnit:
    """Read the sites of a small-molecule CIF.

    Parameters
    ----------
    path : Path
    block : str, optional
        Name of the data block; by default the first one with atoms.

    Raises
    ------
    InputError
        The file cannot be read or has no such block, labels repeat, a site is occupied in
        part outside of a disorder group, or a group is disordered over a symmetry element.
    """
    with naming(path):
        text = decoded(read_bytes(path))
        try:
            document = gemmi.cif.read_string(text)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"cannot be read as a CIF ({reason(error)})") from error
        named = [b for b in document if block is None or b.name == block]
        found = next((b for b in named if b.find_values("_atom_site_fract_x")), None)
        if found is None:
            blocks = ", ".join(b.name for b in document)
            which = f"no block {block!r} with" if block else "no"
            raise InputError(f"has {which} atoms in fractional coordinates; its blocks: {blocks}")
        sites = _sites_of(found).sites
        labels = tuple(site.label for site in sites)
        if len(set(labels)) < len(labels):
            twice = next(name for name in labels if labels.count(name) > 1)
            raise InputError(f"has two sites with the label {twice}")
        kept: list[str] = []
        _left_out(sites, kept)
        parts = np.array([site.disorder_group for site in sites])
        best = {int(g): max(s.occ for s in sites if s.disorder_group == g) for g in parts if g}
        best = best or {0: 1.0}
        order = tuple(sorted(best, key=lambda g: (-best[g], g)))
        shares = tuple(best[g] / sum(best.values()) for g in order)
        return AsymmetricUnit(labels, parts, order, shares, _resolution(found), found)


def _resolution(block: Any) -> float | None:
    """Smallest d spacing of the measurement, angstrom."""
    values = [
        gemmi.cif.as_number(block.find_value(name) or "?")
        for name in ("_diffrn_radiation_wavelength", "_diffrn_reflns_theta_max")
    ]
    if not np.isfinite(values).all() or not 0 < values[1] <= 90:
        return None
    return float(values[0] / (2 * np.sin(np.radians(values[1]))))


def _left_out(sites: gemmi.SmallStructure.SiteList, notes: list[str]) -> list[int]:
    """Indices of the sites of a CIF that the less occupied disorder groups hold.

    Raises
    ------
    InputError
        A site is occupied in part, so that no cell of whole atoms follows from the file.
    """
    share: dict[int, float] = {}
    for site in sites:
        if site.disorder_group > 0:
            share[site.disorder_group] = max(share.get(site.disorder_group, 0.0), site.occ)
    best = min(share, key=lambda group: (-share[group], group)) if share else 0
    if len(share) > 1:
        notes.append(
            f"the file has {len(share)} disorder groups; group {best} (occupancy "
            f"{share[best]:.2f}) was taken"
        )
    for site in sites:
        if site.disorder_group < 0 or (site.disorder_group == 0 and 0 < site.occ < _FULL):
            raise InputError(
                f"site {site.label} ({site.element.name}) has an occupancy of {site.occ:.2f}; a "
                "prediction needs whole atoms, so write one ordered arrangement (a supercell if "
                "necessary) into the file"
            )
    return [i for i, s in enumerate(sites) if s.occ == 0 or s.disorder_group not in (0, best)]
