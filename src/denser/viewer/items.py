"""Structures and densities that the viewer opens."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import Structure

LOG = logging.getLogger("denser")

MAX_ATOMS = 20_000
"""Largest number of atoms that are shown."""


@dataclass(frozen=True, eq=False)
class Item:
    """An opened item.

    Parameters
    ----------
    name : str
        As the page lists it.
    structure : Structure
    density : Density, optional
        If the file has one.
    stem : str
        Stem of the names of its downloads; by default the formula.
    notes : tuple of str
        Sentences about what was taken from the file, and how a geometry was made.
    """

    name: str
    structure: Structure
    density: Density | None = None
    stem: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def from_smiles(cls, smiles: str) -> Item:
        """Build a molecule from a SMILES."""
        from denser.io.smiles import from_smiles

        atoms = from_smiles(smiles)
        return cls(smiles, Structure.of(atoms), notes=(f"geometry: {atoms.info['geometry']}",))


def read_items(path: Path, name: str | None = None, embed: bool = False) -> list[Item]:
    """Structures of a file, or the density in it.

    Structures that cannot be read are left out if there are others, with a note and a warning in
    denser's log. `embed` as in `denser.io.structures.read_structures`.

    Raises
    ------
    InputError
        The file cannot be read, or it contains a field without atoms, or too many atoms.
    """
    from denser.io import is_density_file, read
    from denser.io.electrons import require_known
    from denser.io.files import naming
    from denser.io.structures import read_structures

    path, name = Path(path), name or Path(path).name
    stem = re.sub(r"[^\w+-]+", "_", Path(name).stem)
    if is_density_file(path):
        density = read(path)
        if not isinstance(density, Density):
            raise InputError(f"{name}: contains no atoms; give a .cube, CHGCAR or .npz")
        with naming(Path(name)):
            require_known(density)
        return [Item(name, density.structure, density, stem)]
    frames: list[tuple[Structure, tuple[str, ...]] | InputError] = []
    for frame in read_structures(path, embed):
        try:
            if isinstance(frame, InputError):
                raise frame
            structure = Structure.of(frame.atoms)
            check_size(structure)
            frames.append((structure, frame.notes))
            for note in frame.notes:
                LOG.warning("%s: %s", name, note)
        except InputError as error:
            frames.append(error)
        if len(frames) > 1000:
            raise InputError(f"{name}: contains more than 1000 frames; split the file")
    items, left_out = [], []
    for i, found in enumerate(frames, start=1):
        shown, own = (f"{name} {i}", f"{stem}_{i}") if len(frames) > 1 else (name, stem)
        if not isinstance(found, InputError):
            items.append(Item(shown, found[0], stem=own, notes=found[1]))
        elif all(isinstance(frame, InputError) for frame in frames):
            raise InputError(f"{shown}: {found}")
        else:
            left_out.append(f"{shown} is left out: {found}")
            LOG.warning(left_out[-1])
    if left_out:
        items[0] = replace(items[0], notes=(*items[0].notes, *left_out))
    return items


def check_size(structure: Structure) -> None:
    """Raise an InputError if there are too many atoms for the viewer."""
    if len(structure) > MAX_ATOMS:
        raise InputError(
            f"{structure.formula} has {len(structure)} atoms; the viewer takes up to {MAX_ATOMS}"
        )
