"""Read and write densities: `read(path)` and `write(path, obj)`, chosen by the file's name.

=====================  =============================  ==========================
name                   format                         holds
=====================  =============================  ==========================
`.cube`, `.cub`        Gaussian cube                  atoms, 6 digits
`CHGCAR*`, `.chgcar`   VASP CHGCAR                    atoms, 11 digits
`.ccp4 .map .mrc`      CCP4 / MRC map (needs gemmi)   no atoms, single precision
`.npz`                 NumPy, of this package         everything, lossless
`.dx`                  OpenDX, as APBS has it         no atoms, 7 digits
`.vti`                 VTK image, written only        atoms as field data, single precision
=====================  =============================  ==========================

Every file is in the user's own frame, and is complete or not there: it is written beside its
target and renamed.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from denser.types.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

    from denser.types.density import Density, Field

__all__ = ["FORMATS", "SUFFIXES", "check_suffix", "is_density_file", "read", "write"]

FORMATS = {
    "cube": (".cube", ".cub"),
    "chgcar": (".chgcar",),
    "ccp4": (".ccp4", ".map", ".mrc"),
    "npz": (".npz",),
    "opendx": (".dx",),
    "vtk": (".vti",),
}
"""Formats: a module of this package with `read` and `write`, and its suffixes, usual one first."""

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Known suffixes, in any case; a name that starts with CHGCAR needs none."""


def read(path: str | Path) -> Field | Density:
    """Read a file; a Density if the file has atoms, else a Field. Bohr and e/bohr^3.

    Raises
    ------
    InputError
        Unknown suffix, or a file that is missing, truncated or malformed.
    """
    return _module(path).read(path)


def write(path: str | Path, obj: Field | Density) -> None:
    """Write a Field or a Density; an earlier file stays if this fails.

    Raises
    ------
    InputError
        Unknown suffix, values that are not finite real numbers, a target that cannot be
        written, or a Field without atoms for a format that needs them.
    """
    _module(path).write(path, obj)


def check_suffix(path: str | Path) -> None:
    """Raise InputError unless a file of this name can be read and written.

    Either the suffix is unknown, or the format needs a package that is not installed.
    """
    module = _module(path)
    if hasattr(module, "require"):
        module.require(path)


def is_density_file(path: str | Path) -> bool:
    """Whether a file is a density by its name, and not a structure."""
    return Path(path).suffix.lower() in SUFFIXES or Path(path).name.startswith("CHGCAR")


def _module(path: str | Path) -> ModuleType:
    name = Path(path).name
    suffix = Path(name).suffix.lower()
    for module, suffixes in FORMATS.items():
        if suffix in suffixes:
            return import_module(f"denser.io.{module}")
    if name.startswith("CHGCAR"):
        return import_module("denser.io.chgcar")
    raise InputError(
        f"{path}: unknown file format; use a name that ends in {', '.join(SUFFIXES)} "
        "or starts with CHGCAR"
    )
