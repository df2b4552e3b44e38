"""Enlarge a trained aspherical network without changing its output at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.data import chemical_symbols

from denser.model.expansion import orthonormal_radial
from denser.model.tight_binding import (
    N_BOND,
    N_BOND_TENSORS,
    N_BOND_VECTORS,
    N_SCALARS,
    N_TENSORS,
    N_VECTORS,
)
from denser.types.errors import InputError

if TYPE_CHECKING:
    from denser.model.aspherical import Aspherical

_BY_ELEMENT = ("embedding", "gates", "heads", "heads_even", "diffuse")
"""Parameters whose first index is the element."""

_SHOWN_BY_ELEMENT = ("shown_atoms", "shown_unpaired")
"""Those whose second index is."""

_NOBLE_GASES = (2, 10, 18, 36, 54, 86)


def grown(network: Aspherical, options: Mapping[str, Any]) -> Aspherical:
    """The same network with new parts that contribute nothing at first.

    Parameters
    ----------
    network : Aspherical
    options : mapping
        Fields of the config: more `elements` (see `with_elements`), `electrons`, `hidden`,
        `width`, `exponents` or `output_degree`, or a first `reach`, `spin` or `diffuse`; the others
        must not change.

    Raises
    ------
    InputError
        A trained network cannot change the option.
    """
    new = replace(network.config, **options)
    if new.elements != network.config.elements:
        network = with_elements(network, new.elements)
    old = network.config
    for name in options:
        was, wanted = getattr(old, name), getattr(new, name)
        more = name in ("electrons", "hidden", "width", "output_degree") and wanted > was
        # the diffuse functions are orthogonal to those of the exponents that there are
        more |= name == "exponents" and set(wanted) > set(was) and not old.diffuse
        first = name in ("reach", "spin", "diffuse") and not was
        more &= not old.spin or name == "output_degree"
        if not (wanted == was or more or first):
            raise InputError(
                f"a trained network keeps its {name}, {was!r}, found {wanted!r}; only elements, "
                "electrons, hidden, width, exponents and output_degree can increase (with spin, "
                "elements and output_degree only), and a first reach, spin and diffuse can be given"
            )

    def places(*sizes: int) -> list[int]:
        """Columns of the old solutions, if each of several groups has columns for new ones."""
        starts = new.electrons * np.cumsum((0, *sizes))
        return [
            i + k for i, n in zip(starts, sizes, strict=False) for k in range(n * old.electrons)
        ]

    shapes = list(range(old.degree + 1))
    if old.electrons > 1:
        shapes += [len(shapes) + k for k in places(N_BOND_VECTORS, N_BOND_TENSORS)]
    larger = type(network)(new)
    state, before = larger.state_dict(), network.state_dict()
    for key, value in state.items():
        name = key.split(".")[0]
        if key.startswith("spin."):
            value.copy_(before.get(key, value))
        elif key not in before:
            value.zero_()
        elif name == "shown_atoms":
            value.zero_()[:, :, places(N_SCALARS, N_VECTORS, N_TENSORS)] = before[key]
        elif name == "shown_bonds":
            value.zero_()[: old.hidden, places(N_BOND)] = before[key]
        elif name == "filters" and key.split(".")[2] == "2":  # a row for each channel and shape
            rows = before[key].view(old.channels, old.n_shapes, -1)
            new_rows = value.zero_().view(old.channels, new.n_shapes, -1)
            new_rows[:, shapes, : rows.shape[2]] = rows
        elif name == "heads" and new.exponents != old.exponents:
            n = int(key.split(".")[1])
            kept = [new.exponents.index(a) for a in old.exponents]
            # as coefficients of the Gaussians, with zeros for the new ones
            of_gaussians = torch.zeros(value.shape, dtype=torch.float64)
            from_old = torch.as_tensor(orthonormal_radial(old.exponents, n))
            old_head = torch.einsum("kg,ekc->egc", from_old, before[key].double())
            of_gaussians[:, kept, : old_head.shape[2]] = old_head
            from_new = torch.as_tensor(orthonormal_radial(new.exponents, n))
            value.copy_(torch.linalg.solve(from_new.T, of_gaussians))
        else:  # new units come after the old ones
            if name == "unmix":
                value.zero_()
            value[tuple(slice(n) for n in before[key].shape)] = before[key]
    larger.load_state_dict(state)
    return larger


def rows_of(network: Aspherical, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
    """Which weights belong to some elements alone.

    Parameters
    ----------
    network : Aspherical
    numbers : sequence of int
        Atomic numbers.

    Returns
    -------
    dict of str to tensor of bool
        For each parameter by its name, of its shape. Other weights are those of other elements
        and those that all atoms share.
    """
    elements = network.config.elements
    chosen = torch.tensor([z in numbers for z in elements])
    out = {}
    for key, value in network.named_parameters():
        name = key.removeprefix("spin.").split(".")[0]
        mask = torch.zeros(value.shape, dtype=torch.bool)
        if name in _BY_ELEMENT:
            mask[chosen] = True
        elif name in _SHOWN_BY_ELEMENT:
            mask[:, chosen] = True
        elif name == "shown_far":
            mask.unflatten(1, (len(elements), -1))[:, chosen] = True
        out[key] = mask
    return out


def with_elements(network: Aspherical, elements: Sequence[int]) -> Aspherical:
    """The same network with further elements; its predictions for the others do not change.

    A new element starts as a copy of its `relative`.

    Parameters
    ----------
    network : Aspherical
    elements : sequence of int
        Atomic numbers of all elements, in any order.

    Raises
    ------
    InputError
        A known element is missing, or there are no parameters for a new one.
    """
    old, new = network.config, replace(network.config, elements=tuple(elements))
    missing = set(old.elements) - set(new.elements)
    if missing:
        raise InputError(
            f"a trained network keeps its elements; {chemical_symbols[min(missing)]} is missing in "
            "model.options.elements"
        )
    rows = torch.tensor([old.elements.index(relative(z, old.elements)) for z in new.elements])
    larger = type(network)(new)
    state = network.state_dict()
    for key, value in state.items():
        name = key.removeprefix("spin.").split(".")[0]
        if name in _BY_ELEMENT:
            state[key] = value[rows]
        elif name in _SHOWN_BY_ELEMENT:
            state[key] = value[:, rows]
        elif name == "shown_far":  # columns by element and distance
            state[key] = value.unflatten(1, (len(old.elements), -1))[:, rows].flatten(1)
    larger.load_state_dict(state)
    return larger


def relative(z: int, known: Sequence[int]) -> int:
    """The known element that an element resembles most.

    It is itself, or the nearest of its group. Groups 11 and 12 count as groups 1 and 2, other
    transition metals as group 2, helium as hydrogen and noble gases as halogens. Without such an
    element it is the one with the nearest number of valence electrons, then the nearest period.
    """
    if z in known:
        return z
    valence, period = _place(z)

    def distance(other: int) -> tuple[int, int, int]:
        its_valence, its_period = _place(other)
        like_hydrogen = (other == 1) != (z <= 2)
        return abs(its_valence - valence) + 9 * like_hydrogen, abs(its_period - period), other

    return min(known, key=distance)


def _place(z: int) -> tuple[int, int]:
    """Valence electrons in s and p functions, and period, of an element."""
    period = sum(z > gas for gas in _NOBLE_GASES) + 1
    n = z - (0, *_NOBLE_GASES)[period - 1]
    length = (*_NOBLE_GASES, 118)[period - 1] - (0, *_NOBLE_GASES)[period - 1]
    from_end = length - n  # 0 for a noble gas
    if from_end < 6 and period > 1:
        return min(8 - from_end, 7), period
    return {7: 1}.get(from_end, min(n, 2)), period
