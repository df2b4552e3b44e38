"""What every network offers, so that nothing outside its own file asks what kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from denser.fields.cube_group import CubeOperation
from denser.types.density import Density
from denser.types.errors import InputError


class Network(nn.Module, ABC):
    """A network that makes a density out of superposed atomic densities (SAD).

    A new network is one file with one subclass, and one line in `ARCHITECTURES` of
    `denser.model.checkpoint`. It keeps its sizes in `config`, a frozen dataclass with `to_dict`;
    `type(network)(network.config)` is an untrained one of the same sizes.
    """

    config: Any

    samples: ClassVar[Literal["points", "windows"]]
    """What it is trained on: points in space, or windows of grids."""

    local: ClassVar[bool]
    """Whether more vacuum and distant molecules leave the density of a molecule as it is."""

    any_spacing: ClassVar[bool]
    """Whether it works on grids of any spacing, or on that of its training only."""

    any_shape: ClassVar[bool]
    """Whether it works on grids of any shape, or of multiples of `multiple_of` only."""

    bf16: ClassVar[bool]
    """Whether it may compute in bfloat16, because that changes its density little."""

    edges: ClassVar[tuple[str, ...]]
    """First and last layers, and tables by element: first parts of their parameters' names.

    Sizes matter in them that Muon would throw away.
    """

    step_sizes: ClassVar[dict[str, float]] = {}
    """Factors of the learning rates, {pattern of names: factor}: the first that fits counts."""

    fine_tuning: ClassVar[dict[str, dict[str, Any]]]
    """Sections `optimizer` and `sample` of a fine tuning, where its user says nothing else.

    A trained network bears smaller steps than a new one.
    """

    @property
    @abstractmethod
    def multiple_of(self) -> int:
        """Boxes are made with multiples of this many nodes along each axis."""

    @property
    def elements(self) -> tuple[int, ...] | None:
        """Atomic numbers that it knows, or None if it takes any that has a SAD."""
        return None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @abstractmethod
    def raw_density(
        self,
        sad: Density,
        periodic: bool,
        operations: Sequence[CubeOperation] = (CubeOperation(),),
        bf16: bool = False,
    ) -> Tensor:
        """Density (nx, ny, nz) from its SAD, e/bohr^3, float32, not yet scaled to N_e.

        Parameters
        ----------
        sad : Density
        periodic : bool
            Whether the box repeats, or stands in vacuum.
        operations : sequence of CubeOperation
            Mean of the predictions for the molecule under each of these, turned back.
        bf16 : bool
            Compute in bfloat16, if the network does that (see `bf16`).
        """

    @abstractmethod
    def pullback(
        self, sad: Density, field_of: Callable[[Tensor], Tensor], periodic: bool, recipe: str
    ) -> np.ndarray:
        """sum_r f(r) d raw(r)/dR_a on a grid that stays (n_atoms, 3), unit of f times e/bohr^4.

        Parameters
        ----------
        sad : Density
        field_of : callable
            f (nx, ny, nz), given the raw density (nx, ny, nz).
        periodic : bool
        recipe : str
            SAD recipe, of which the density of each atom follows its nucleus.
        """

    def grown(self, options: Mapping[str, Any]) -> Self:
        """The same network with other sizes, ready to learn more; new weights add nothing yet.

        Parameters
        ----------
        options : mapping
            Fields of the config.

        Raises
        ------
        InputError
            An option that a trained network cannot change; here, all.
        """
        wanted = replace(self.config, **options)
        for name in options:
            if (was := getattr(self.config, name)) != (new := getattr(wanted, name)):
                raise InputError(f"a trained network keeps its {name}, {was!r}, found {new!r}")
        return self
