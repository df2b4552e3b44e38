"""The interface of all networks; other code does not depend on the kind of network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from denser.fields.cube_group import CubeOperation
from denser.model.deformed_atoms import DeformedAtoms
from denser.model.expected_error import ExpectedError
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

FieldOf = Callable[[Tensor, np.ndarray | None], Tensor]
"""A field, given the raw density and the electrons of the molecules, as in `Network.pullback`."""


class Network(nn.Module, ABC):
    """A network that computes a density from superposed atomic densities (SAD).

    A new network is one file with one subclass, and one line in `ARCHITECTURES` of
    `denser.model.checkpoint`. Its sizes are in `config`, a frozen dataclass of numbers,
    texts and tuples; `type(network)(network.config)` is an untrained network of the same sizes.
    """

    config: Any

    samples: ClassVar[Literal["points", "windows"]]
    """Training samples: points in space, or windows of grids."""

    local: ClassVar[bool]
    """Whether more vacuum and distant molecules do not change the density of a molecule."""

    any_spacing: ClassVar[bool]
    """Whether it works on grids of any spacing, or only on that of its training."""

    any_shape: ClassVar[bool]
    """Whether it works on grids of any shape, or only on multiples of `multiple_of`."""

    bf16: ClassVar[bool]
    """Whether it may compute in bfloat16, which then changes its density little."""

    edges: ClassVar[tuple[str, ...]]
    """First and last layers and tables by element, as prefixes of the parameters' names.

    Their gradients have meaningful sizes, which Muon would discard.
    """

    step_sizes: ClassVar[dict[str, float]] = {}
    """Factors of the learning rates, {pattern of names: factor}; the first match counts."""

    fine_tuning: ClassVar[dict[str, dict[str, Any]]]
    """Default sections `optimizer` and `sample` for fine tuning.

    A trained network needs smaller steps than a new one.
    """

    expected_error: ExpectedError | None
    """Estimate of its own error."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.expected_error = config, None

    @property
    @abstractmethod
    def multiple_of(self) -> int:
        """Boxes have multiples of this number of nodes along each axis."""

    @property
    def sizes(self) -> dict[str, Any]:
        """The fields of `config`, for JSON."""
        fields = asdict(self.config)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}

    @property
    def elements(self) -> tuple[int, ...] | None:
        """Atomic numbers that it knows, or None if it takes any element with a SAD."""
        return None

    @property
    def open_shells(self) -> bool:
        """Whether it gives densities of open shells, with or without their spin densities."""
        return False

    @property
    def spins(self) -> bool:
        """Whether it predicts spin densities, and so learns from labels of open shells."""
        return False

    def in_fragments(self, structure: Structure) -> bool:
        """Whether it is shown electrons that are solved in fragments of a large structure."""
        return False

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
            Whether the box is periodic or surrounded by vacuum.
        operations : sequence of CubeOperation
            Mean of the predictions for the molecule under each of these, turned back.
        bf16 : bool
            Compute in bfloat16, if the network allows it (see `bf16`).
        """

    def deformed_atoms(
        self,
        sad: Density,
        periodic: bool,
        recipe: str,
        operations: Sequence[CubeOperation] = (CubeOperation(),),
    ) -> tuple[DeformedAtoms, Tensor] | None:
        """The density as a sum of Gaussians at the atoms, and its values as in `raw_density`.

        With it, moments do not depend on the grid, and the density is known between the nodes.
        None if the network cannot give it: networks from image to image know a density at the nodes
        of a grid only.

        Parameters
        ----------
        sad, periodic, operations
            As in `raw_density`.
        recipe : str
            SAD recipe.
        """
        return None

    def isolated_atoms(
        self,
        structure: Structure,
        recipe: str,
        operations: Sequence[CubeOperation] = (CubeOperation(),),
        box: Grid | None = None,
    ) -> tuple[DeformedAtoms, float] | None:
        """The atoms of `deformed_atoms` without a grid, isolated or with the period of a box.

        They have exactly N_e electrons; the number is the relative excess that this removed, as in
        `denser.model.prediction.Scaled`. None as in `deformed_atoms`.
        """
        return None

    def coefficients_of(self, structure: Structure) -> tuple[Tensor, Tensor, np.ndarray] | None:
        """Coefficients of the Gaussians of isolated atoms, positions, and `DeformedAtoms.target`.

        The positions (n_atoms, 3) are a leaf, with respect to which the coefficients have
        derivatives. A network may take a mean over turned copies, so that it commutes with
        rotations better than `deformed_atoms`. None as in `deformed_atoms`.
        """
        return None

    @abstractmethod
    def pullback(self, sad: Density, field_of: FieldOf, periodic: bool, recipe: str) -> np.ndarray:
        """sum_r f(r) d raw(r)/dR_a on a fixed grid (n_atoms, 3), unit of f times e/bohr^4.

        Parameters
        ----------
        sad : Density
        field_of : callable
            f (nx, ny, nz), given the raw density (nx, ny, nz) and the electrons of the molecules
            (`DeformedAtoms.target`), or None.
        periodic : bool
        recipe : str
            SAD recipe; the density of each atom moves with its nucleus.
        """

    def grown(self, options: Mapping[str, Any]) -> Self:
        """The same network with other sizes; new weights contribute nothing at first.

        Parameters
        ----------
        options : mapping
            Fields of the config.

        Raises
        ------
        InputError
            A trained network cannot change the option; here, any option.
        """
        wanted = replace(self.config, **options)
        for name in options:
            if (was := getattr(self.config, name)) != (new := getattr(wanted, name)):
                raise InputError(f"a trained network keeps its {name}, {was!r}, found {new!r}")
        return self

    def coefficients(self, graph: Any) -> tuple[Tensor, Tensor | None]:
        """Coefficients of Gaussians for the density and the spin density (of open shells).

        Only networks that learn from points have them.
        """
        raise NotImplementedError

    def environments(self, graph: Any) -> Tensor:
        """Numbers (n_atoms, n) that describe the environment of each atom and do not turn with it.

        Only networks that learn from points have them.
        """
        raise NotImplementedError

    def features(self, graph: Any) -> Tensor:
        """Features of each atom (n_atoms, channels, lm) that turn with it, for `heads`.

        Only networks that learn from points have them.
        """
        raise NotImplementedError

    @property
    def wrong_of_unpaired(self) -> float:
        """Expected wrong electrons of each unpaired electron, beside those of closed shells."""
        return 0.0

    def disturb(self, size: float, seed: int) -> None:
        """Add noise of a relative size from 1 to 0 inside the network, if its training needs it."""

    def use_bf16(self, enabled: bool) -> None:
        """Compute in bfloat16, on CUDA, what tolerates it in training; here, nothing."""

    def spin_part(self) -> dict[str, Tensor]:
        """Weights that closed shells do not use: {name of parameter: bool, of its shape}.

        Raises
        ------
        InputError
            The network predicts no spin densities.
        """
        if not self.spins:
            raise InputError(
                "this network predicts no spin densities; give it some with model.options.spin, "
                "the number of their channels"
            )
        return {
            name: torch.full(value.shape, name.startswith("spin."), dtype=torch.bool)
            for name, value in self.named_parameters()
        }

    def closed_shell_part(self) -> dict[str, Tensor]:
        """Weights that densities of closed shells use, as in `spin_part`.

        Functions that a network gives to some elements only stay with these elements.
        """
        return {
            name: torch.full(value.shape, not name.startswith("spin."), dtype=torch.bool)
            for name, value in self.named_parameters()
        }

    def rows_of(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """Weights that belong to some elements alone: {name of parameter: bool, of its shape}.

        Raises
        ------
        InputError
            The network has no such weights.
        """
        raise InputError("this network has no weights for single elements; learn all of them")
