"""Enlarge a trained aspherical network without changing its output at first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

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


def grown(network: Aspherical, options: Mapping[str, Any]) -> Aspherical:
    """The same network with new parts that contribute nothing at first.

    Parameters
    ----------
    network : Aspherical
    options : mapping
        Fields of the config: more `electrons`, `hidden`, `width`, `exponents` or `output_degree`,
        or a first `reach`; the others must not change.

    Raises
    ------
    InputError
        A trained network cannot change the option.
    """
    old, new = network.config, replace(network.config, **options)
    for name in options:
        was, wanted = getattr(old, name), getattr(new, name)
        more = name in ("electrons", "hidden", "width", "output_degree") and wanted > was
        more |= name == "exponents" and set(wanted) > set(was)
        first = name == "reach" and not was
        if not (wanted == was or more or first):
            raise InputError(
                f"a trained network keeps its {name}, {was!r}, found {wanted!r}; only electrons, "
                "hidden, width, exponents and output_degree can increase, and a first reach can be "
                "given"
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
        if key not in before:
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
