"""How labels were made, and statistics of a store of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from denser.types.arrays import read_only, restore
from denser.types.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Facts:
    """How a label was made.

    Parameters
    ----------
    box : str
        "cell", "paper", "padding 4" (angstrom) or "given".
    attempt : str
        "direct", or the name of the attempt that converged.
    cycles : int or None
        Fock builds of the attempt that converged.
    seconds : float or None
        Wall time of all attempts.
    dipole : (3,) float or None
        e*bohr; None if it depends on the choice of cell.
    versions, host : dict
        Versions of the programs; kind of machine and number of processors.
    residual : float or None
        If a few Kohn-Sham steps replaced the SCF: the threshold for the change of the density (a
        fraction).
    s_squared : float or None
        Expectation value of S^2 of an open shell.
    states : tuple of float
        Energies of the states of an open shell that the SCF found, hartree, lowest first.
    """

    box: str
    attempt: str = "direct"
    cycles: int | None = None
    seconds: float | None = None
    dipole: np.ndarray | None = None
    versions: dict[str, str] = field(default_factory=dict)
    host: dict[str, str | int] = field(default_factory=dict)
    residual: float | None = None
    s_squared: float | None = None
    states: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.dipole is not None:
            object.__setattr__(self, "dipole", read_only(self.dipole, float))

    __setstate__ = restore


@dataclass(frozen=True)
class Summary:
    """Statistics of a store; sizes in bytes, times in seconds."""

    n_labels: int
    n_atoms: tuple[int, int, int]
    """Fewest, most and all atoms of the labels."""
    elements: dict[str, int]
    """Number of labels that contain each element."""
    boxes: dict[str, int]
    attempts: dict[str, int]
    charges: dict[int, int]
    seconds: float
    size: int
    recipe: Recipe
    failures: dict[str, list[str]]
    """Names by reason."""

    def record(self) -> dict[str, Any]:
        """Dictionary for the output of commands, with the unit in the key."""
        found = vars(self) | {"recipe": self.recipe.record()}
        names = ("fewest_atoms", "most_atoms", "n_atoms")
        found |= dict(zip(names, found.pop("n_atoms"), strict=True))
        return found | {"bytes": found.pop("size")}
