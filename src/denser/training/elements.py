"""Elements that a model learns in addition to those of its start."""

from __future__ import annotations

from ase.data import chemical_symbols

from denser.model.checkpoint import Model
from denser.model.network import Network
from denser.types.errors import InputError


def new_elements(start: Model | None, network: Network) -> list[int]:
    """Atomic numbers of the elements that the start does not know."""
    known = () if start is None else start.network.elements or ()
    new = sorted(set(network.elements or ()) - set(known))
    if not new or not known:
        raise InputError(
            'model.learn = "new elements" needs a model in model.start, and in '
            "model.options.elements elements that it does not know"
        )
    return new


def labels_of_elements(start: Model, record: dict) -> dict[str, int]:
    """Numbers of labels with each element in the start's training and in this one.

    An element of the start whose number is not recorded is left out.
    """
    before = start.info.get("n_labels_of_element", {})
    known = {chemical_symbols[z] for z in start.network.elements or ()}
    now = record["n_labels_of_element"]
    return {
        symbol: before.get(symbol, 0) + now.get(symbol, 0)
        for symbol in (before.keys() | now.keys())
        if symbol in before or symbol not in known
    }
