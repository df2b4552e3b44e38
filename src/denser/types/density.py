"""Functions on grids, and electron densities."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.ndimage import map_coordinates

from denser.types.arrays import read_only, restore, seal
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

SPIN_UNIT = "unpaired e/bohr^3"
"""Unit of spin densities, which are no densities of electrons."""


@dataclass(frozen=True, eq=False)
class Field:
    """A scalar function sampled on a grid.

    Parameters
    ----------
    grid : Grid
    values : (nx, ny, nz) float
        Copied, unless it is read-only already (`denser.types.arrays`), and read-only.
    unit : str
        Unit of `values`.
    """

    grid: Grid
    values: np.ndarray
    unit: str = "e/bohr^3"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", read_only(self.values))
        if self.values.shape != self.grid.shape:
            raise InputError(
                f"values of shape {self.values.shape} do not fit a grid of shape {self.grid.shape}"
            )

    __setstate__ = restore

    def __repr__(self) -> str:
        low, high = (f"{x:.3g}" for x in (self.values.min(), self.values.max()))
        return f"Field({_nodes(self.grid)}, {low} to {high} {self.unit})"

    def _repr_html_(self) -> str:
        return import_module("denser.viewer.html").field(self)

    def integrate(self) -> float:
        """Integral over the box: the sum of the values times `grid.dv`."""
        return float(self.values.sum(dtype=np.float64) * self.grid.dv)

    def slabs(self, axis: int = 0) -> Iterator[np.ndarray]:
        """The values in consecutive parts along an axis; here they are one part."""
        yield self.values

    def at(self, points: np.ndarray) -> np.ndarray:
        """Values at any points (...,), by quintic splines between the nodes.

        The box is continued periodically for the splines.

        Parameters
        ----------
        points : (..., 3) float
            Bohr, in the frame of the grid.

        Raises
        ------
        InputError
            A point is outside the box.
        """
        points = _points(points)
        fractions = (points - self.grid.origin) @ np.linalg.inv(self.grid.cell)
        outside = ((fractions < -1e-9) | (fractions > 1 + 1e-9)).any(axis=-1)
        if outside.any():
            x, y, z = points[outside][0]
            raise InputError(
                f"{np.count_nonzero(outside)} of {outside.size} points are outside the box of the "
                f"grid, the first at ({x:.3f}, {y:.3f}, {z:.3f}) bohr; points are in bohr"
            )
        return self._splined(fractions)

    def _splined(self, fractions: np.ndarray) -> np.ndarray:
        """Values at fractions (..., 3) of the box."""
        nodes = np.moveaxis(fractions * self.grid.shape, -1, 0)
        values = np.asarray(self.values, dtype=float)
        return map_coordinates(values, nodes, order=5, mode="grid-wrap")

    def write(self, path: str | Path) -> None:
        """Write a file; as `denser.write`, which says what raises an error."""
        # By name: types may not import what stands above them.
        import_module("denser.io").write(path, self)

    def __sub__(self, other: Field) -> Field:
        """Difference of two fields on the same grid, without atoms.

        Raises
        ------
        InputError
            The grids or the units differ.
        """
        if not isinstance(other, Field):
            return NotImplemented
        self.grid.require_same(other.grid)
        if self.unit != other.unit:
            raise InputError(f"values in {self.unit} minus values in {other.unit} have no meaning")
        values = np.asarray(self.values, dtype=np.float64) - other.values
        return Field(self.grid, seal(values), self.unit)


AtomFields = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Density (n,), its gradient (3, n) and its Coulomb potential (n,) at n points, atomic units."""


@dataclass(frozen=True, eq=False)
class FieldsSlope:
    """Derivative of a number with respect to the fields of `Continuous.fields`.

    Parameters
    ----------
    points : (n, 3) float
        Bohr.
    parents : (n,) int
        The atom that each point moves with.
    free, deformation : AtomFields
        With respect to the fields of the free atoms and of their deformations at the points.
    factors : (n_atoms,) float
        With respect to the factors of the atoms, apart from those in the fields.
    """

    points: np.ndarray
    parents: np.ndarray
    free: AtomFields
    deformation: AtomFields
    factors: np.ndarray


class Continuous(Protocol):
    """A density that is known at every point: free atoms, each with a factor and a deformation."""

    @property
    def recipe(self) -> str:
        """SAD recipe of the free atoms."""

    @property
    def exact_factors(self) -> np.ndarray:
        """Factors of the atoms (n_atoms,) that give exactly N_e electrons."""

    def at(self, points: np.ndarray) -> np.ndarray:
        """Density at points (n, 3), bohr: (n,), e/bohr^3."""

    def moments(self, origin: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """Integrals of rho times 1, x_i, x_i x_j and x_i x_j x_k about `origin`, bohr."""

    def fields(self, points: np.ndarray) -> tuple[AtomFields, AtomFields]:
        """Fields of the free atoms and of their deformations at points (n, 3), bohr."""

    def gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Density (n,), e/bohr^3, and its gradient (n, 3), e/bohr^4, at points (n, 3), bohr."""

    def spin_fields(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Spin density (n,) and its gradient (3, n) at points (n, 3), bohr; None if not known."""

    def potential(self, points: np.ndarray, charges: np.ndarray) -> np.ndarray:
        """Electrostatic potential (n,), hartree/e, at points (n, 3), bohr.

        That of the electrons and of point charges (n_atoms,) at the nuclei, e.
        """


@dataclass(frozen=True, eq=False)
class Density(Field):
    """Density of the valence electrons or of all electrons of `structure`, e/bohr^3.

    Parameters
    ----------
    structure : Structure
        The atoms, in the user's coordinates.
    valence_charges : (n_atoms,) float
        Charge of each nucleus minus its pseudopotential core; needed for moments and potentials
        of a valence density.
    all_electron : bool
        True if it contains the core electrons; `valence_charges` are then the atomic numbers.

    Attributes
    ----------
    continuous : Continuous or None
        The same density at every point, for a prediction of a network that gives it. It belongs
        to these values: `dataclasses.replace` and `with_values` leave it out, and so do files.
    spin_density : Density or None
        Density of spin up minus that of spin down, in `SPIN_UNIT`, where it is known. CHGCAR and
        .npz hold both; `dataclasses.replace` and `with_values` leave it out.
    wrong : (n_atoms,) float or None
        Expected wrong electrons of each atom, for a prediction of a model that estimates its
        errors: integrals of w_a |rho - rho_DFT| with the share w_a of the atom in the superposed
        atoms. `dataclasses.replace` and `with_values` leave it out, and so do files.
    """

    structure: Structure = field(kw_only=True)
    valence_charges: np.ndarray = field(kw_only=True)
    all_electron: bool = field(default=False, kw_only=True)
    continuous: Continuous | None = field(default=None, init=False, repr=False)
    spin_density: Density | None = field(default=None, init=False, repr=False)
    wrong: np.ndarray | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        charges = read_only(self.valence_charges, float)
        object.__setattr__(self, "valence_charges", charges)
        if charges.shape != (len(self.structure),):
            raise InputError(
                f"{len(self.structure)} atoms need as many valence charges, found {charges.shape}"
            )
        if self.all_electron and not np.array_equal(charges, self.structure.numbers):
            raise InputError(
                "an all-electron density needs the atomic numbers as valence_charges; "
                "pass structure.numbers, or all_electron=False"
            )

    def __repr__(self) -> str:
        kind = "all electrons" if self.all_electron else "valence electrons"
        kind = kind if self.unit == Field.unit else self.unit
        return f"Density({self.structure.formula}, {kind}, {_nodes(self.grid)})"

    def show(
        self,
        minus: Density | None = None,
        isovalue: float | None = None,
        height: int = 420,
    ) -> Any:
        """Show it in Jupyter, or save it as a page: `denser.show`, with the same parameters."""
        return import_module("denser.viewer.notebook").show(self, minus, isovalue, height)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Density at any points (...,), e/bohr^3.

        A prediction that is known between the nodes (`continuous`) is evaluated there, also outside
        the box. Otherwise the values are those of quintic splines between the nodes; a periodic
        structure continues beyond the box.

        Parameters
        ----------
        points : (..., 3) float
            Bohr, in the frame of the structure.

        Raises
        ------
        InputError
            A point is outside the box of a molecule that is known at the nodes only.
        """
        points = _points(points)
        if self.continuous is not None:
            return self.continuous.at(points.reshape(-1, 3)).reshape(points.shape[:-1])
        if self.structure.cell is None:
            return super().at(points)
        return self._splined((points - self.grid.origin) @ np.linalg.inv(self.grid.cell))

    def known_between_nodes(self, continuous: Continuous) -> Density:
        """Return the same density, which `continuous` gives at every point."""
        return self._knowing(continuous=continuous)

    def with_spin_density(self, values: np.ndarray) -> Density:
        """Return the same density with a spin density (nx, ny, nz), unpaired e/bohr^3."""
        return self._knowing(spin_density=replace(self, values=values, unit=SPIN_UNIT))

    def with_expected_errors(self, wrong: np.ndarray | None) -> Density:
        """Return the same density with the expected wrong electrons of each atom (n_atoms,)."""
        return self._knowing(wrong=None if wrong is None else read_only(wrong, float))

    def _knowing(self, **attributes: Any) -> Density:
        """The same density, with these attributes in place of its own."""
        found = copy(self)
        found.__dict__.update(attributes)
        return found

    @property
    def expected_error(self) -> float | None:
        """Expected Err_rho, a fraction; None if it is not known."""
        return None if self.wrong is None else float(self.wrong.sum() / self.n_electrons)

    @property
    def n_electrons(self) -> float:
        """Exact number of electrons, sum(valence_charges) - charge."""
        return float(self.valence_charges.sum() - self.structure.charge)

    def with_values(self, values: np.ndarray) -> Density:
        """Return a density of the same structure and grid with other values."""
        return replace(self, values=values)

    def dipole(self) -> np.ndarray:
        """Dipole moment (3,), e*bohr, about the centre of nuclear charge.

        sum_a Z_a R_a - integral r rho(r) dr. For a neutral molecule it does not depend on the
        origin. The integral is exact for a prediction that is known between the nodes
        (`continuous`), otherwise a sum over the nodes.

        Raises
        ------
        InputError
            The structure is periodic. The dipole of a cell depends on where the cell is cut; its
            molecules may have one (`denser.analysis.moments`).
        """
        if self.structure.cell is not None:
            raise InputError(
                "a periodic cell has no dipole moment; denser analyze --moments gives those of "
                "its molecules"
            )
        origin = self.structure.nuclear_charge_centre
        nuclei = self.valence_charges @ (self.structure.positions - origin)
        if self.continuous is not None:
            return nuclei - self.continuous.moments(origin)[1]
        grid = self.grid
        fractions = [np.arange(n) / n for n in grid.shape]
        marginals = [
            self.values.sum(axis=tuple(j for j in range(3) if j != i), dtype=np.float64)
            for i in range(3)
        ]
        moments = np.array([f @ m for f, m in zip(fractions, marginals, strict=True)])
        total = marginals[0].sum()
        electrons = (moments @ grid.cell + (grid.origin - origin) * total) * grid.dv
        return nuclei - electrons


class SlabDensity(Density):
    """A density whose nodes do not fit in memory: its values are computed in slabs, each time.

    It has no `values`; files of all formats are written slab by slab.

    Parameters
    ----------
    grid : Grid
    evaluate : callable
        Yields the values of consecutive slabs along an axis, given the axis.
    structure, valence_charges, unit, spin_density
        As of `Density`.
    """

    def __init__(
        self,
        grid: Grid,
        evaluate: Callable[[int], Iterator[np.ndarray]],
        *,
        structure: Structure,
        valence_charges: np.ndarray,
        unit: str = Field.unit,
        spin_density: SlabDensity | None = None,
    ) -> None:
        self.__dict__.update(
            grid=grid,
            unit=unit,
            structure=structure,
            valence_charges=read_only(valence_charges, float),
            spin_density=spin_density,
            _evaluate=evaluate,
        )

    def __getattr__(self, name: str) -> Any:
        if name == "values":
            raise InputError(
                f"a density of {_nodes(self.grid)} is too large for memory; take its slabs(), its "
                "values at() points, or a larger spacing"
            )
        raise AttributeError(name)

    def slabs(self, axis: int = 0) -> Iterator[np.ndarray]:
        """The values in consecutive parts along an axis."""
        total = 0.0
        for values in self.__dict__["_evaluate"](axis):
            total += float(values.sum(dtype=np.float64))
            yield values
        self.__dict__["_sum"] = total

    def integrate(self) -> float:
        """Integral over the box: the sum of the values times `grid.dv`, known after `slabs`."""
        if "_sum" not in self.__dict__:
            deque(self.slabs(), maxlen=0)
        return float(self.__dict__["_sum"] * self.grid.dv)


def _nodes(grid: Grid) -> str:
    return f"{' x '.join(map(str, grid.shape))} nodes"


def _points(points: np.ndarray) -> np.ndarray:
    """Points (..., 3) as float, or raise InputError."""
    try:
        points = np.asarray(points, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"points need three coordinates each (..., 3) ({error})") from error
    if points.shape[-1:] != (3,) or not np.isfinite(points).all():
        raise InputError(
            f"points need three finite coordinates each (..., 3), found shape {points.shape}"
        )
    return points
