"""Molecules that are kept for evaluation and are never published as training labels."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from denser.labels.label import molecule_of
from denser.labels.qm9 import is_test_molecule
from denser.types.structure import Structure

ENDING = "_held"
"""Ending of the names of molecules that are held out of a file of structures to label."""

FORMULAS = {"H3N": "ammonia", "C2H2": "acetylene", "H4Si": "silane", "O2S": "sulfur dioxide"}
"""Small test molecules, identified by their formula and not by their name."""


@cache
def names() -> tuple[str, ...]:
    """Names of the labels that are held out, sorted."""
    lines = (files("denser.labels") / "tables" / "held_out.txt").read_text().splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


@cache
def _molecules() -> frozenset[str]:
    return frozenset(molecule_of(name) for name in names())


def is_named(name: str) -> bool:
    """Whether the list of names contains this molecule, distorted or not."""
    return molecule_of(name) in _molecules()


def why_held_out(name: str, structure: Structure) -> str | None:
    """The reason why a label may not be used for training; None if it may."""
    if is_test_molecule(name):
        return "in the test part of QM9's split"
    if molecule_of(name).endswith(ENDING):
        return f"held out, as its name ends in {ENDING}"
    if is_named(name):
        return "one of the labels that the shipped models are tested with"
    if structure.formula in FORMULAS:
        return f"{FORMULAS[structure.formula]} is a test molecule"
    return None
