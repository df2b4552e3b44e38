"""Read-outs of further quantities from the features of a trained network, in files of their own.

A read-out (head) belongs to the weights that it was fitted on. Features of an atom depend on the
weights that all elements share, and on the rows of those elements that are in the molecule. A head
therefore holds a fingerprint of the shared weights and one of each element's rows: it goes on to
hold for the others if some elements are trained again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from safetensors import safe_open
from safetensors.numpy import save_file

from denser.io.files import replacing
from denser.model.checkpoint import Model
from denser.types.errors import InputError
from denser.types.structure import Structure

FORMAT = "denser-head-1"

SHARED = "shared"

_HEADS = Path(__file__).parent / "weights" / "heads"

_APART = ("heads", "diffuse", "spin", "expected_error")
"""Parts of a network that its features do not depend on."""


@dataclass(frozen=True, eq=False)
class Head:
    """A read-out from features.

    Parameters
    ----------
    name : str
    tensors : dict of str to array
    info : dict
        Its `quantity`, what it was fitted on and how well it does; `fingerprints` as of
        `fingerprints_of`.
    """

    name: str
    tensors: Mapping[str, np.ndarray]
    info: Mapping[str, Any]

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that it was fitted on."""
        return [atomic_numbers[x] for x in self.info["fingerprints"] if x != SHARED]

    def save(self, path: Path) -> None:
        """Write it through a temporary file in the same folder."""
        metadata = {"format": FORMAT, "info": json.dumps(self.info)}
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {key: np.ascontiguousarray(x, np.float32) for key, x in self.tensors.items()}
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata=metadata)

    def require_fits(self, model: Model, numbers: Iterable[int], instead: str) -> None:
        """Raise an InputError unless it was fitted on these features of these elements.

        Parameters
        ----------
        model : Model
        numbers : iterable of int
            Atomic numbers.
        instead : str
            What to do without it, the end of the sentence.
        """
        own, what = self.info["fingerprints"], self.info["quantity"]
        symbols = [chemical_symbols[z] for z in sorted({*numbers})]
        unknown = [symbol for symbol in symbols if symbol not in own]
        if unknown:
            raise InputError(
                f"the {what} was not learnt for {unknown[0]}, only for "
                f"{' '.join(x for x in own if x != SHARED)}; {instead}"
            )
        found = fingerprints_of(model, [atomic_numbers[x] for x in symbols])
        if any(found[key] != own[key] for key in found):
            raise InputError(
                f"the {what} was learnt from features of the default model, and those of model "
                f"{model.name!r} differ; take the default model, or {instead}"
            )


def head_of_molecules(
    name: str, structure: Structure, model: Model, what: str, learnt: str, instead: str
) -> Head:
    """A shipped read-out that was learnt from isolated neutral molecules and cations.

    Parameters
    ----------
    name : str
    structure : Structure
    model : Model
    what, learnt, instead : str
        Its quantity as the subject of a sentence, the same with a verb ("it was"), and what to do
        without it.

    Raises
    ------
    InputError
        A periodic structure or an anion; or as in `Head.require_fits`.
    """
    if structure.cell is not None:
        raise InputError(f"{what} are those of an isolated molecule, not of a crystal; {instead}")
    if structure.charge < 0:
        raise InputError(
            f"{learnt} learnt from neutral molecules and cations, found the charge "
            f"{structure.charge:+d}; {instead}"
        )
    known = load_head(name)
    known.require_fits(model, structure.numbers.tolist(), instead)
    return known


def require_features(model: Model) -> None:
    """Raise an InputError if the model has no features of atoms."""
    if model.network.samples != "points":
        raise InputError(
            f"model {model.name!r} has no features of atoms; use a model of the architecture "
            "aspherical, such as the default"
        )


def fingerprints_of(model: Model, numbers: Iterable[int]) -> dict[str, str]:
    """Hashes of the weights behind the features: of those that are shared, and of some elements.

    Parameters
    ----------
    model : Model
    numbers : iterable of int
        Atomic numbers of the elements.

    Raises
    ------
    InputError
        The model has no features of atoms.
    """
    require_features(model)
    network = model.network
    weights = {
        name: value.detach().cpu().float().numpy()
        for name, value in network.named_parameters()
        if name.split(".")[0] not in _APART
    }

    def digest(numbers: Iterable[int], other: bool = False) -> str:
        rows, found = network.rows_of(list(numbers)), hashlib.sha256()
        for name, value in weights.items():
            found.update(value[rows[name].numpy() != other].tobytes())
        return found.hexdigest()[:16]

    of_elements = {chemical_symbols[z]: digest([z]) for z in numbers}
    return {SHARED: digest(network.elements or (), other=True)} | of_elements


@cache
def load_head(name: str) -> Head:
    """Load a shipped read-out by its name."""
    path = _HEADS / f"{name}.safetensors"
    with safe_open(path, framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    return Head(name, tensors, json.loads(metadata["info"]))
