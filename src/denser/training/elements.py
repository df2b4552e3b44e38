"""Elements that a model learns in addition to those of its start."""

from __future__ import annotations

from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from denser.model.checkpoint import Model
from denser.model.network import Network
from denser.training.dataset import DataSet
from denser.types.errors import InputError

FEWEST = 3
"""Number of labels of open shells with an element that teach its rows."""


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


def rows_with_spin(network: Network, data: DataSet) -> dict[str, Tensor]:
    """Weights for spin densities that the labels can teach, as in `Network.spin_part`.

    Those of elements with fewer than `FEWEST` labels stay as they are. An optimiser would take
    steps of full length with them, whatever the size of their gradients.
    """
    counts = data.n_labels_of_element()
    taught = {atomic_numbers[symbol] for symbol, n in counts.items() if n >= FEWEST}
    seldom = network.rows_of([z for z in network.elements or () if z not in taught])
    return {key: part & ~seldom[key] for key, part in network.spin_part().items()}
