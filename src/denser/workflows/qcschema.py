"""QCSchema in and out: molecules, and energies, gradients and properties as AtomicResult.

`compute` takes the AtomicInput of QCElemental, or the same as a dictionary, and returns the
dictionary of an AtomicResult, or of a FailedOperation. It needs no package; QCElemental reads the
result as `AtomicResult(**found)`. The method is the name of a model; there is no basis to choose.
Energies are those of `denser.Calculator`: one Kohn-Sham step in open space (PBE/GTH-TZV2P), against
separate GTH ions and electrons. They are not comparable with energies of all electrons.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE
from denser.types.version import __version__
from denser.workflows.calculator import Calculator

DRIVERS = ("energy", "gradient", "properties")

KEYWORDS = ("task", "dispersion", "padding", "forces", "estimate", "conv_tol")
"""Arguments of `denser.Calculator`."""


def structure_of(molecule: Any) -> Structure:
    """The structure of a `qcelemental.models.Molecule`, or of the same as a dictionary.

    Raises
    ------
    InputError
        A part is missing, ghost atoms, or a multiplicity and a charge that do not fit.
    """
    known = _plain(molecule)
    try:
        symbols = [str(symbol).title() for symbol in np.asarray(known["symbols"]).tolist()]
        positions = np.asarray(known["geometry"], dtype=float).reshape(-1, 3)
        numbers = np.array([atomic_numbers[symbol] for symbol in symbols])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"expected a QCSchema molecule with symbols and geometry (bohr); {error!r}"
        ) from error
    real = known.get("real")
    if real is not None and not np.all(real):
        raise InputError(
            f"{int(np.logical_not(real).sum())} atoms of the molecule are ghosts; leave them out"
        )
    charge = float(known.get("molecular_charge") or 0)
    multiplicity = known.get("molecular_multiplicity")
    spin = None if multiplicity is None else int(multiplicity) - 1
    if charge != round(charge):
        raise InputError(f"the charge must be a whole number of electrons, found {charge}")
    return Structure(numbers, positions, round(charge), spin=spin)


def molecule_of(structure: Structure) -> dict[str, Any]:
    """A QCSchema molecule as a dictionary, for `qcelemental.models.Molecule(**found)`."""
    found: dict[str, Any] = {
        "schema_name": "qcschema_molecule",
        "schema_version": 2,
        "symbols": structure.symbols,
        "geometry": structure.positions.ravel().tolist(),
        "molecular_charge": structure.charge,
        "molecular_multiplicity": int(structure.spin) + 1,
        "fix_com": True,
        "fix_orientation": True,
    }
    if structure.bonds is not None:
        pairs = structure.bonds.pairs.tolist()
        orders = structure.bonds.orders.tolist()
        found["connectivity"] = [(i, j, float(n)) for (i, j), n in zip(pairs, orders, strict=True)]
    return found


def compute(atomic_input: Any, device: str = "auto") -> dict[str, Any]:
    """Result of an AtomicInput as a dictionary.

    Parameters
    ----------
    atomic_input : qcelemental.models.AtomicInput or mapping
        With driver "energy", "gradient" (hartree/bohr) or "properties" (dipole and Hirshfeld
        charges), model {"method": "default"}, and keywords of `denser.Calculator` such as
        {"dispersion": "d4"}.
    device : str
        As in `denser.Predictor`.

    Returns
    -------
    dict
        An AtomicResult; with {"success": False, "error": ...} a FailedOperation.
    """
    wanted = _plain(atomic_input)
    try:
        return _result(wanted, device)
    except InputError as error:
        return _failed(wanted, "input_error", str(error))
    except Exception:  # whatever it is must not end the queue of a server
        return _failed(wanted, "unknown_error", traceback.format_exc())


def _result(wanted: dict[str, Any], device: str) -> dict[str, Any]:
    structure = structure_of(wanted.get("molecule"))
    driver = str(getattr(wanted.get("driver"), "value", wanted.get("driver")))
    if driver not in DRIVERS:
        raise InputError(f"unknown driver {driver!r}; known: {', '.join(DRIVERS)}")
    model = _plain(wanted.get("model") or {})
    if model.get("basis"):
        raise InputError(f"a model has no basis to choose, found {model['basis']!r}; leave it out")
    method = str(model.get("method") or "default")
    keywords = dict(wanted.get("keywords") or {})
    for name in keywords:
        if name not in KEYWORDS:
            raise InputError(f"unknown keyword {name!r}; known: {', '.join(KEYWORDS)}")
    calculator = Calculator(method, device=device, **keywords)
    atoms = structure.to_ase()
    atoms.calc = calculator
    energy = float(atoms.get_potential_energy()) / HARTREE
    dipole = (atoms.get_dipole_moment() / BOHR).tolist() if structure.isolated else None
    properties: dict[str, Any] = {
        "calcinfo_natom": len(structure),
        "return_energy": energy,
        "scf_dipole_moment": dipole,
    }
    value: Any = energy
    if driver == "gradient":
        value = (-atoms.get_forces() * BOHR / HARTREE).ravel().tolist()
        properties["return_gradient"] = value
    elif driver == "properties":
        value = {"dipole": dipole, "hirshfeld_charges": atoms.get_charges().tolist()}
    return {
        "schema_name": "qcschema_output",
        "schema_version": 1,
        "molecule": molecule_of(structure),
        "driver": driver,
        "model": {"method": method, "basis": None},
        "keywords": keywords,
        "properties": properties,
        "return_result": value,
        "success": True,
        "provenance": _provenance(),
        "extras": dict(wanted.get("extras") or {}),
    }


def _provenance() -> dict[str, str]:
    return {"creator": "denser", "version": __version__, "routine": "denser.qcschema"}


def _failed(wanted: dict[str, Any], kind: str, message: str) -> dict[str, Any]:
    return {
        "success": False,
        "error": {"error_type": kind, "error_message": message},
        "input_data": wanted,
    }


def _plain(value: Any) -> dict[str, Any]:
    """A mapping, or the fields of a model of QCElemental."""
    if isinstance(value, Mapping):
        return dict(value)
    fields = getattr(type(value), "model_fields", None) or getattr(type(value), "__fields__", None)
    if not fields:
        raise InputError(f"expected a QCSchema model or a dictionary, found {type(value).__name__}")
    return {name: getattr(value, name) for name in fields}
