"""Identity of labels: the hash of their content, and names that ASE accepts."""

from __future__ import annotations

import hashlib

import numpy as np

from denser.types.structure import Structure
from denser.types.units import BOHR


def content_hash(structure: Structure, box: str) -> str:
    """Short hash of atoms, charge, spin, cell and box; labels with the same hash are equal.

    The hash of an isolated structure does not depend on its position in space, because its box
    moves with it. Positions are rounded to 1e-6 angstrom.
    """
    positions = structure.positions * BOHR
    if structure.cell is None:
        positions = positions - positions[0]
    # Rounding changes at thirds, so that no coordinate with a few decimals is at an edge.
    steps = np.floor(positions * 1e6 + 1 / 3).astype("<i8")
    digest = hashlib.sha256(structure.numbers.astype("<i4").tobytes() + steps.tobytes())
    if structure.cell is not None:
        digest.update(np.floor(structure.cell * BOHR * 1e6 + 1 / 3).astype("<i8").tobytes())
    spin = f" spin {structure.spin}" if structure.spin else ""
    digest.update(f"{structure.charge} {box}{spin}".encode())
    return "c" + digest.hexdigest()[:16]  # a letter first: ASE refuses text that reads as a number


def store_name(text: str) -> str:
    """Return `text`, or `molecule_<text>` if it reads as a number, which ASE refuses as a name."""
    try:
        float(text)
    except ValueError:
        return f"molecule_{text}" if text in ("", "True", "False") else text
    return f"molecule_{text}"
