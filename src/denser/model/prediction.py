"""Predicted densities, with what is known of how they were made."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from denser.model.boxes import check_memory
from denser.model.deformed_atoms import DeformedAtoms
from denser.model.doubt import of_worst_molecule
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid


class ExpectsErrors:
    """What follows from the expected errors of a density (`Density.wrong`)."""

    density: Density

    @property
    def wrong(self) -> np.ndarray | None:
        """Expected wrong electrons of each atom (n_atoms,); None if the model estimates none."""
        return self.density.wrong

    @property
    def expected_error(self) -> float | None:
        """Expected Err_rho, a fraction; None if the model does not estimate it."""
        return self.density.expected_error

    @property
    def worst_expected(self) -> float | None:
        """That of the molecule with the largest one, so that none hides among many others."""
        wrong = self.wrong
        return None if wrong is None else of_worst_molecule(self.density.structure, wrong)


@dataclass(frozen=True, eq=False)
class Prediction(ExpectsErrors):
    """A predicted density, its SAD, its box, and the times in seconds.

    `box` is "cell", "isolated", "paper" or "cube:N:H"; `excess` is that of `Predictor.normalised`.
    """

    density: Density
    sad: Density
    box: str
    excess: float
    seconds_sad: float
    seconds_network: float

    def __repr__(self) -> str:
        return f"Prediction({self.density!r}, box {self.box!r})"


@dataclass(frozen=True, eq=False)
class Scaled(ExpectsErrors):
    """A density of exactly N_e electrons, and what scaling it removed.

    `excess` is that of `Predictor.normalised`, `n_electrons` the electrons before scaling.
    """

    density: Density
    excess: float
    n_electrons: float


def with_spin(density: Density, atoms: DeformedAtoms) -> Density:
    """The density with the spin density of the atoms, if they have one."""
    spin = atoms.spin_on_grid(density.grid)
    return density if spin is None else density.with_spin_density(seal(spin))


def on_nodes(density: Density, grid: Grid | Field, *, exact: bool = False) -> Density:
    """The prediction at the nodes of a grid; `exact` scales it to N_e on these nodes."""
    assert isinstance(grid, Grid)  # PredictionOptions makes it one
    atoms, structure = density.continuous, density.structure
    if not isinstance(atoms, DeformedAtoms):
        raise InputError(
            "this model predicts on its own grid only; the default model predicts on any nodes"
        )
    if structure.cell is None:
        inside = (structure.positions - grid.origin) @ np.linalg.inv(grid.cell)
        out = ((inside < 0) | (inside > 1)).any(axis=1)
        if out.any():
            i = int(np.argmax(out))
            raise InputError(
                f"atom {i + 1} ({structure.symbols[i]}) is outside the box of the given grid; are "
                "the atoms in the same coordinates as the grid?"
            )
    elif not np.allclose(grid.cell, structure.cell, rtol=0, atol=1e-3):
        raise InputError(
            "the box of the given grid is not the cell of the structure; --box isolated "
            "(box='isolated') treats the atoms as a molecule"
        )
    check_memory(grid)
    values = atoms.on_grid(grid)
    if exact:
        values *= density.n_electrons / (values.sum(dtype=float) * grid.dv)
    values = seal(values)
    on_nodes = replace(density, grid=grid, values=values).known_between_nodes(atoms)
    return with_spin(on_nodes, atoms).with_expected_errors(density.wrong)
