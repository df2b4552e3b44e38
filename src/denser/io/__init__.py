"""Read and write densities: `read(path)` and `write(path, obj)`; the file name gives the format.

`denser.io.formats` has the table of formats. CHG, PARCHG*, AECCAR* and `.vasp` are read as CHGCAR.
Each name may end in `.gz`, `.bz2` or `.xz`: such files are compressed. `GROUP.zarr/NAME` is an
array of a Zarr group. A `.vasp`, `.xsf` or POSCAR
without a grid is a structure.

Files use the coordinates of the user's input. A file is first written under a temporary name in the
same folder and then renamed, so it is always complete.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from denser.io import chgcar, xsf, zarr_group
from denser.io.electrons import known
from denser.io.files import DENSITY_UNIT, naming, plain_name
from denser.io.formats import DENSITIES, STRUCTURES
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.paths import file_path
from denser.types.structure import Structure

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "SUFFIXES",
    "check_suffix",
    "holds_spin",
    "is_density_file",
    "read",
    "read_density",
    "write",
]

SUFFIXES = tuple(
    suffix
    for entry in DENSITIES.values()
    for suffix in entry.endings
    if suffix != zarr_group.SUFFIX
)
"""Known suffixes of files, in any case; a name that starts with CHGCAR needs none."""

_EITHER = (".vasp", ".poscar", ".xsf", ".axsf")
"""Suffixes of structures as well as of densities."""


def read(path: str | Path, kind: str = "auto", charge: int | None = None) -> Field | Density:
    """Read a file; a Density if the file has atoms, else a Field. Bohr and e/bohr^3.

    A file of this package says whether its electrons are those of the valence or all, and its
    charge. Of another program's file the number of electrons tells both. Where it fits neither
    (an orbital, a potential), the valence charges are what the file has, else the atomic numbers.

    Parameters
    ----------
    path : Path
    kind : str
        "valence", "all-electron", or "auto": what the file says or the number of electrons tells.
    charge : int, optional
        Total charge; by default what the file says or the number of electrons tells.

    Raises
    ------
    InputError
        Unknown suffix or kind, or a file that is missing, truncated or malformed.
    """
    return _read(path, kind, charge, strict=False)


def read_density(
    path: str | Path, kind: str = "auto", charge: int | None = None, spin: int | None = None
) -> Density:
    """Read a density with its atoms; the parameters are those of `read`.

    `spin` is the number of unpaired electrons; by default that of the file.

    Raises
    ------
    InputError
        Those of `read`; no density with atoms, or a number of electrons that fits neither kind.
    """
    found = _read(path, kind, charge, strict=True)
    if not isinstance(found, Density):
        raise InputError(f"{path}: holds no atoms; give a density with atoms, such as a .cube")
    if found.unit != DENSITY_UNIT:
        raise InputError(f"{path}: expected a density in {DENSITY_UNIT}, found {found.unit}")
    if spin is not None and spin != found.structure.spin:
        with naming(Path(path)):
            return replace(found, structure=Structure.of(found.structure, spin=spin))
    return found


def _read(path: str | Path, kind: str, charge: int | None, strict: bool) -> Field | Density:
    path = file_path(path)
    module = _with_grid(path) if _holds_either(path) else None
    suffix = Path(plain_name(path)).suffix.lower()
    if module is None and any(suffix in entry.endings for entry in STRUCTURES):
        raise InputError(
            f"{path}: is a structure, not a density; make its density with denser predict"
        )
    found = (module or _of_name(path)).read(path)
    with naming(Path(path)):
        return known(found, kind, charge, strict)


def write(path: str | Path, obj: Field | Density) -> None:
    """Write a Field or a Density; if this fails, an earlier file is kept.

    Raises
    ------
    InputError
        Unknown suffix, values that are not finite real numbers, a target that cannot be
        written, or a Field without atoms for a format that needs them.
    """
    module = _of_name(file_path(path))
    if not isinstance(obj, Field):
        raise InputError(f"{path}: expected a Field or a Density, found {type(obj).__name__}")
    module.write(path, obj)


def holds_spin(path: str | Path) -> bool:
    """Whether a file of this name holds a density and its spin density."""
    holding = ("denser.io.chgcar", "denser.io.npz", "denser.io.zarr_group")
    return _of_name(file_path(path)).__name__ in holding


def check_suffix(path: str | Path) -> None:
    """Raise InputError unless a file of this name can be read and written."""
    _of_name(path)


def is_density_file(path: str | Path) -> bool:
    """Whether a file is a density and not a structure: by its name, or by its contents.

    The contents decide where files of both kinds have such names (`.vasp`, `.xsf`, POSCAR).
    """
    path = Path(path)
    if _holds_either(path):
        return _with_grid(path) is not None
    try:
        _of_name(path)
    except InputError:
        return False
    return True


def _holds_either(path: Path) -> bool:
    """Whether a file may be a density or a structure, as far as its name tells."""
    name = plain_name(path)
    suffix = Path(name).suffix.lower()
    poscar = suffix == "" or "POSCAR" in name or "CONTCAR" in name
    return (suffix in _EITHER or poscar) and not chgcar.is_name(name) and path.is_file()


def _with_grid(path: Path) -> ModuleType | None:
    """Return the module that reads the grid in a file, or None if it has none."""
    for module in (xsf, chgcar):
        try:
            if module.holds_grid(path):
                return module
        except InputError:  # it cannot be read, as the reader of structures will say
            return None
    return None


def _of_name(path: str | Path) -> ModuleType:
    """Return the module for files of this name."""
    if zarr_group.is_member(path):
        return zarr_group
    if zarr_group.is_group(path):
        raise InputError(f"{path}: is a group of densities; name one of it, such as {path}/rho")
    name = plain_name(path)
    suffix = Path(name).suffix.lower()
    for module, entry in DENSITIES.items():
        if suffix in entry.endings:
            return import_module(f"denser.io.{module}")
    if chgcar.is_name(name):
        return chgcar
    raise InputError(
        f"{path}: unknown file format; use a name that ends in {', '.join(SUFFIXES)} "
        "or starts with CHGCAR"
    )
