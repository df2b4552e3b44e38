"""What a run of `denser charges` has computed, so that the next one can continue it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from denser.io.charges import ChargedMolecule
from denser.model.checkpoint import load_model
from denser.types.bonds import Bonds
from denser.types.structure import Structure
from denser.types.version import __version__
from denser.workflows.charge_inputs import ChargeSettings, Molecule
from denser.workflows.inputs import structure_hash
from denser.workflows.journal import Journal, beside
from denser.workflows.many import Failed


class ChargeJournal(Journal):
    """A file beside the output (or in the folder) with a line for each molecule that was computed.

    A line has a hash of everything that determines the result: the structures or the SMILES, the
    settings, the model and the version of denser. Names do not enter, so that a molecule is found
    again in another file.

    Parameters
    ----------
    out : Path
        The file with all molecules, or the folder.
    one_file : bool
    settings : ChargeSettings
    resume : bool
        Keep the lines of earlier runs; otherwise the file is begun anew.
    """

    def __init__(self, out: Path, one_file: bool, settings: ChargeSettings, resume: bool) -> None:
        path = beside(out) if one_file else out / ".charges.jsonl"
        super().__init__(path, "made_from", resume)
        self.settings = settings

    def found(self, molecule: Molecule) -> dict | None:
        """The result of `denser.workflows.charges.charges` of an earlier run, if there is one."""
        entry = self.find(self._made_from(molecule))
        if entry is None:
            return None
        record = dict(entry["record"])
        if entry["molecule"] is not None:
            record["molecule"] = _restored(entry["molecule"], molecule)
        return record

    def keep_result(self, molecule: Molecule, result: dict) -> None:
        """Write the result of a molecule."""
        made_from = self._made_from(molecule)
        if made_from is None:
            return
        record = {key: value for key, value in result.items() if key != "molecule"}
        ready = result.get("molecule")
        plain = None if ready is None else _plain(ready)
        self.add({"made_from": made_from, "record": record, "molecule": plain})

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return asdict(self.settings) | {
            "denser": __version__, "model": load_model(self.settings.model).identity()
        }  # fmt: skip

    def _made_from(self, molecule: Molecule) -> str | None:
        source = molecule.source
        if isinstance(source, Failed):
            return None
        if isinstance(source, str):
            parts: list[str] = [source]
        else:
            parts = [structure_hash(structure) + _bonds_text(structure) for structure in source]
        described = {"source": parts, "notes": molecule.notes, "settings": self._settings}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def _bonds_text(structure: Structure) -> str:
    known = structure.bonds
    if known is None:
        return ""
    return f" {known.pairs.tolist()} {known.orders.tolist()} {known.formal_charges.tolist()}"


def _plain(molecule: ChargedMolecule) -> dict[str, Any]:
    structure, known = molecule.structure, molecule.bonds
    return {
        "numbers": structure.numbers.tolist(),
        "positions": structure.positions.tolist(),
        "charge": structure.charge,
        "spin": structure.spin,
        "pairs": known.pairs.tolist(),
        "orders": known.orders.tolist(),
        "formal_charges": known.formal_charges.tolist(),
        "note": molecule.note,
        "charges": {kind: values.tolist() for kind, values in molecule.charges.items()},
        "properties": _lists(molecule.properties),
        "bond_properties": _lists(molecule.bond_properties),
    }


def _restored(plain: dict[str, Any], molecule: Molecule) -> ChargedMolecule:
    known = Bonds(plain["pairs"], plain["orders"], plain["formal_charges"])
    structure = Structure(
        plain["numbers"], plain["positions"], plain["charge"], spin=plain["spin"], bonds=known
    )
    charges = {kind: np.array(values) for kind, values in plain["charges"].items()}
    own, of_bonds = (
        {name: np.array(values) for name, values in plain[which].items()}
        for which in ("properties", "bond_properties")
    )
    return ChargedMolecule(
        molecule.stem,
        structure,
        known,
        plain["note"],
        charges,
        molecule.title,
        own,
        of_bonds,
    )


def _lists(properties: Mapping[str, np.ndarray]) -> dict[str, list]:
    return {name: np.asarray(values).tolist() for name, values in properties.items()}
