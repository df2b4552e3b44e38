"""London dispersion, which PBE lacks: D3(BJ) and D4, with the packages of their authors."""

from __future__ import annotations

import numpy as np

from denser.types.errors import InputError
from denser.types.structure import Structure

KINDS = ("d3bj", "d4")
"""D3 with Becke-Johnson damping, without three-body terms (Grimme et al. 2010, 2011), and D4
with them (Caldeweyher et al. 2019)."""


def require_kind(kind: str | None) -> None:
    """Raise an InputError unless `kind` is None or one of `KINDS`."""
    if kind is not None and kind not in KINDS:
        raise InputError(f"unknown dispersion {kind!r}; known: {', '.join(KINDS)}")


def dispersion(structure: Structure, kind: str, xc: str = "pbe") -> tuple[float, np.ndarray]:
    """Dispersion energy and its derivative with respect to the atoms.

    It depends only on the atoms (and, in D4, on the charge), and is added to the energy of the
    functional `xc`. For a periodic cell the sum is over images in all directions.

    Parameters
    ----------
    structure : Structure
    kind : str
        One of `KINDS`.
    xc : str
        Functional for the damping parameters.

    Returns
    -------
    energy : float
        Hartree.
    gradient : (n_atoms, 3) float
        Hartree/bohr.

    Raises
    ------
    InputError
        The kind is unknown, there are no parameters for the functional, or the package is not
        installed.
    """
    require_kind(kind)
    try:
        if kind == "d3bj":
            import dftd3.interface as d3
        else:
            import dftd4.interface as d4
    except ImportError as error:
        package = "dftd3" if kind == "d3bj" else "dftd4"
        raise InputError(
            f"dispersion {kind!r} needs the package {package}; pip install 'denser[dispersion]'"
        ) from error
    cell = {}
    if structure.cell is not None:
        cell = {"lattice": structure.cell, "periodic": np.full(3, True)}
    try:
        if kind == "d3bj":
            parameters = d3.RationalDampingParam(method=xc)
            model = d3.DispersionModel(structure.numbers, structure.positions, **cell)
        else:
            parameters = d4.DampingParam(method=xc)
            model = d4.DispersionModel(
                structure.numbers, structure.positions, charge=float(structure.charge), **cell
            )
        result = model.get_dispersion(parameters, grad=True)
    except RuntimeError as error:
        raise InputError(
            f"dispersion {kind!r} of {structure.formula} with functional {xc!r}: {error}"
        ) from error
    return float(result["energy"]), np.asarray(result["gradient"])
