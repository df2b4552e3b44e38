"""The molecules whose charges `denser charges` computes, from files and SMILES."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from denser.analysis.charges.without_grid import FITTED, KINDS, WITH_MULTIPOLES
from denser.atoms.radii import bonds
from denser.io.bond_orders import find_bonds
from denser.io.files import plain_name, read_bytes
from denser.io.molecules import smiles_lines
from denser.io.smiles import parts_of_smiles
from denser.types.bonds import Bonds
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows.inputs import Input, Names, file_stem, find_inputs
from denser.workflows.many import Failed, attempt

SMILES_LISTS = (".smi", ".smiles")


@dataclass(frozen=True)
class ChargeSettings:
    """What `denser charges` computes.

    Parameters
    ----------
    kinds : tuple of str
        Kinds of charges (`denser.analysis.charges.without_grid.KINDS`); formats of a single kind
        have the first.
    groups : tuple of (str, float)
        SMARTS, and the sum of the charges of the atoms that match and of their hydrogens (RESP).
    conformers : bool
        Whether the frames of a file are conformers of one molecule.
    parent : bool
        Keep only the largest molecule of each input.
    skip_doubt : bool
        Leave out molecules that the model does not know well.
    charge : int or None
        Total charge; by default that of the input.
    like_hf : bool
        Map fitted charges to those of HF/6-31G* (`denser.analysis.charges.like_hf`).
    multipoles : bool
        Give atomic multipoles and sizes of Hirshfeld and MBIS too
        (`denser.analysis.charges.without_grid.atomic_properties`).
    bonds : bool
        Give the critical points of the bonds too (`denser.analysis.topology.bond_points`).
    model, device : str
        As in `denser.Predictor`.
    embed : bool
        As in `denser.io.structures.read_structures`.
    spin : int or None
        Number of unpaired electrons; by default that of the input.
    """

    kinds: tuple[str, ...] = ("resp",)
    groups: tuple[tuple[str, float], ...] = ()
    conformers: bool = False
    parent: bool = False
    skip_doubt: bool = False
    charge: int | None = None
    like_hf: bool = False
    multipoles: bool = False
    bonds: bool = False
    model: str = "default"
    device: str = "auto"
    embed: bool = False
    spin: int | None = None

    def __post_init__(self) -> None:
        others = [kind for kind in self.kinds if kind not in FITTED]
        if self.like_hf and others:
            raise InputError(
                f"--like hf is for charges fitted to the potential ({', '.join(FITTED)}), found "
                f"{', '.join(others)}"
            )
        for kind in self.kinds:
            if kind not in KINDS:
                raise InputError(f"unknown charges {kind!r}; known: {', '.join(KINDS)}")
        if self.multipoles and not set(self.kinds) & set(WITH_MULTIPOLES):
            raise InputError(
                f"--multipoles is for the atoms of {' and '.join(WITH_MULTIPOLES)}; "
                "add --charges mbis"
            )
        if self.bonds and self.conformers:
            raise InputError("--bonds is for one geometry of a molecule; leave out --conformers")
        if self.groups and "resp" not in self.kinds:
            raise InputError("--group is for RESP charges; add --charges resp")


@dataclass(frozen=True, eq=False)
class Molecule:
    """A molecule of the inputs.

    Parameters
    ----------
    name, stem : str
        As of `denser.workflows.inputs.Input`.
    source : tuple of Structure, str or Failed
        Conformers, a SMILES, or the reason why there is neither.
    title : str
    notes : tuple of str
    split : bool
        Whether this is the first of several molecules of one input.
    """

    name: str
    stem: str
    source: tuple[Structure, ...] | str | Failed
    title: str = ""
    notes: tuple[str, ...] = ()
    split: bool = False


def find_molecules(
    files: Sequence[Path],
    smiles: Sequence[str],
    settings: ChargeSettings,
    topology: Path | None = None,
) -> list[Molecule]:
    """All molecules of the inputs, with unique names.

    The molecules of a salt or a complex are separate, each with the charge of its atoms. SMILES are
    only split here, as making a geometry takes longer than predicting charges.
    """
    lists = [path for path in files if Path(plain_name(path)).suffix.lower() in SMILES_LISTS]
    found: list[Molecule] = []
    for path in lists:
        text = attempt(lambda path=path: read_bytes(path).decode())
        if not isinstance(text, Failed) and not any(smiles_lines(text)):
            text = Failed("the file holds no SMILES")
        if isinstance(text, Failed):
            found.append(Molecule(str(path), file_stem(path), text))
            continue
        for i, (line, title) in enumerate(smiles_lines(text)):
            stem = file_stem(title.split()[0] if title else f"{file_stem(path)}_{i:05d}")
            found.append(Molecule(f"{path}[{i}]", stem, line, title or line))
    found += [Molecule(text, file_stem(text), text) for text in smiles]
    others = [path for path in files if path not in lists]
    if settings.conformers and not others:
        raise InputError(
            "--conformers is for the frames of a file, and a SMILES has one geometry; leave it out"
        )
    inputs = find_inputs(others, densities=False, embed=settings.embed, topology=topology)
    if settings.conformers:
        paths = dict.fromkeys(entry.path for entry in inputs)
        groups = [[entry for entry in inputs if entry.path == path] for path in paths]
    else:
        groups = [[entry] for entry in inputs]
    found += [_of_frames(group, settings) for group in groups]
    names, stems, apart = Names(), Names(), []
    for molecule in found:
        parts = attempt(_parts, molecule, settings)
        if isinstance(parts, Failed):
            parts = [replace(molecule, source=parts)]
        several = len(parts) > 1
        for k, part in enumerate(parts, start=1):
            name = f"{part.name} ({k} of {len(parts)})" if several else part.name
            stem = f"{part.stem}_{k}" if several else part.stem
            apart.append(replace(part, name=names.give(name, "{} ({})"), stem=stems.give(stem)))
        if several:
            apart[-len(parts)] = _told_of_parts(apart[-len(parts) :])
    return apart


def _told_of_parts(parts: Sequence[Molecule]) -> Molecule:
    """The first of the molecules that an input became, with a sentence about all."""
    first, last = parts[0].stem, parts[-1].stem
    named = f"{first} and {last}" if len(parts) == 2 else f"{first} to {last}"
    note = f"the input holds {len(parts)} molecules, which become {named}; --parent keeps "
    return replace(parts[0], notes=(*parts[0].notes, note + "the largest alone"), split=True)


def _of_frames(frames: Sequence[Input], settings: ChargeSettings) -> Molecule:
    """The molecule of one frame, or of all frames of a file as conformers."""
    first = frames[0]
    several = len(frames) > 1
    name, stem = (str(first.path), file_stem(first.path or "")) if several else (
        first.name, first.stem
    )  # fmt: skip
    notes = tuple(dict.fromkeys(note for frame in frames for note in frame.notes))

    def read() -> tuple[Structure, ...]:
        return tuple(molecule_of(frame.atoms(), settings) for frame in frames)

    return Molecule(name, stem, attempt(read), first.title, notes)


def molecule_of(atoms: Atoms, settings: ChargeSettings) -> Structure:
    """The structure of a molecule; one in a cell is an InputError."""
    structure = Structure.of(atoms, settings.charge, spin=settings.spin)
    if structure.cell is not None:
        raise InputError(
            "these are charges of molecules, and this structure is periodic; remove its cell if it "
            "is a molecule in a box, or use denser analyze --charges"
        )
    return structure


def _parts(molecule: Molecule, settings: ChargeSettings) -> list[Molecule]:
    """The separate molecules of an input, or the largest."""
    source = molecule.source
    if isinstance(source, Failed):
        return [molecule]
    sizes: Sequence[int]
    if isinstance(source, str):
        sources: list[Any] = list(parts_of_smiles(source))
        sizes = range(len(sources), 0, -1)
    else:
        sources = _split(source)
        sizes = [int((part[0].numbers > 1).sum()) for part in sources]
    notes = molecule.notes
    if settings.parent and len(sources) > 1:
        notes += (f"the input holds {len(sources)} molecules, of which --parent keeps the largest",)
        sources = [sources[int(np.argmax(sizes))]]
    for what, given in (("charge", settings.charge), ("spin", settings.spin)):
        if given is not None and len(sources) > 1:
            raise InputError(
                f"--{what} {given} cannot be shared among {len(sources)} molecules; give a "
                "SMILES or an SDF with formal charges, or --parent"
            )
    return [replace(molecule, source=part, notes=notes) for part in sources]


def _split(conformers: tuple[Structure, ...]) -> list[tuple[Structure, ...]]:
    """The molecules of a structure, each with its formal charge; all conformers are cut alike."""
    first = conformers[0]
    n = len(first)
    pairs = bonds(first) if first.bonds is None else first.bonds.pairs
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(n, n))
    n_parts, part = connected_components(graph, directed=False)
    if n_parts == 1 or any(len(other) != n for other in conformers):
        return [conformers]
    if n_parts == n and n > 2:
        raise InputError(
            f"no two of its {n} atoms are bonded; check the unit of the coordinates (angstrom)"
        )
    known, unknown = find_bonds(first)
    if unknown:
        raise InputError(
            f"it holds {n_parts} molecules, and no formal charges of their atoms were found that "
            f"add up to its charge, {signed(first.charge)}; correct the charge, or give the "
            "molecules one by one, or as SMILES, SDF or mol2 with formal charges"
        )
    return [
        tuple(_atoms_of(other, np.flatnonzero(part == k), known) for other in conformers)
        for k in range(n_parts)
    ]


def signed(charge: int) -> str:
    """A charge with its sign, for sentences; 0 has none."""
    return f"{charge:+d}" if charge else "0"


def _atoms_of(structure: Structure, atoms: np.ndarray, known: Bonds) -> Structure:
    """Some atoms of a structure with the bonds between them."""
    place = np.full(len(structure), -1)
    place[atoms] = np.arange(len(atoms))
    inside = (place[known.pairs] >= 0).all(axis=1)
    formal = known.formal_charges[atoms]
    own = Bonds(place[known.pairs[inside]], known.orders[inside], formal)
    numbers, positions = structure.numbers[atoms], structure.positions[atoms]
    return Structure(numbers, positions, int(formal.sum()), bonds=own)
