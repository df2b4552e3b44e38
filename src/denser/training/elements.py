"""Elements whose weights a model learns alone."""

from __future__ import annotations

from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from denser.model.checkpoint import Model
from denser.model.network import Network
from denser.training.config import LEARN
from denser.training.dataset import DataSet
from denser.types.errors import InputError

FEWEST = 3
"""Number of labels of open shells with an element that teach its rows."""


def elements_to_learn(learn: str, start: Model | None, network: Network) -> list[int]:
    """Atomic numbers of the elements that `model.learn` names, all of which the network has.

    Returns
    -------
    list of int
        Empty if all elements are learnt together.

    Raises
    ------
    InputError
        No model in `model.start`; for "new elements", it lacks none; or the network lacks one that
        is named.
    """
    if learn in LEARN and learn != "new elements":
        return []
    known = () if start is None else start.network.elements or ()
    has = {*(network.elements or ())}
    if learn == "new elements":
        found = has - {*known}
        if not found or not known:
            raise InputError(
                'model.learn = "new elements" needs a model in model.start, and in '
                "model.options.elements elements that it does not know"
            )
        return sorted(found)
    named = {atomic_numbers[symbol] for symbol in learn.split()}
    if not known:
        raise InputError(f"model.learn = {learn!r} needs a model in model.start")
    if named - has:
        raise InputError(
            f"model.learn names {chemical_symbols[min(named - has)]}, which the model does not "
            "know; add it to model.options.elements"
        )
    return sorted(named)


def labels_of_elements(start: Model, data: DataSet) -> dict[str, int]:
    """Numbers of labels with each element in the start's training and in this one, each once.

    An element of the start whose number is not recorded is left out.
    """
    before = start.info.get("n_labels_of_element", {})
    known = {chemical_symbols[z] for z in start.network.elements or ()}
    names = {*start.info.get("train_names", ())}
    now = data.n_labels_of_element()
    twice = data.n_labels_of_element(names)
    return {
        symbol: before.get(symbol, 0) + now.get(symbol, 0) - twice.get(symbol, 0)
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
