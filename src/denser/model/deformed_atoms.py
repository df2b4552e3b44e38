"""A density that is known at every point: a sum of deformed atoms, made of Gaussians.

rho(r) = max(0, sum_a sum_L f_a [n_a(|x|) + delta_a(x)]),   x = r - R_a - L

n_a is the neutral spherical atom of the SAD, delta_a its expansion in Gaussians
(`denser.model.expansion`), L the lattice vectors of a periodic box, and f_a the factor that removes
the excess of electrons, one for each molecule (`denser.model.normalise`). A deformed atom is a sum
of polynomials P_ak times Gaussians, so that its moments about its nucleus are sums of

integral x^i y^j z^k P_ak(x, y, z) exp(-alpha_k r^2) dr,
integral x^n exp(-alpha x^2) dx = Gamma((n + 1)/2) / alpha^((n + 1)/2) for even n, else 0.

They do not depend on a grid. The sum is negative in a few places far from the atoms (by less than
1e-6 e/bohr^3, 1e-4 electrons in all); what the maximum adds to moments is summed over the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import gamma

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from denser.atoms.sad import gaussians, sum_of_atoms, valence_charges
from denser.atoms.sad_fields import add_free_atom, free_atom, free_atom_pullback
from denser.fields.moments import grid_moments, shifted, tensors
from denser.fields.periodic import images_near, wrapped
from denser.fields.windows import compact_groups, points_near
from denser.model.atoms_potential import AtomsPotential
from denser.model.expansion import add_to_grid
from denser.model.gaussian_density import deformed_atom, reach
from denser.model.gaussian_fields import add_deformation, deformation
from denser.model.gaussian_pullback import deformation_pullback
from denser.model.harmonics import solid_harmonics
from denser.model.normalise import electron_factors, factors_pullback, largest_excess
from denser.types.density import AtomFields, Density, FieldsSlope
from denser.types.grid import Grid
from denser.types.structure import MANY, Structure
from denser.types.units import BOHR

Moments = tuple[float, np.ndarray, np.ndarray, np.ndarray]

_MOMENTS = 4
"""Powers of each coordinate in the moments, 0 to 3."""

_TOGETHER = 2048
"""Points of a compact group, for `points_near`."""

_MARGIN = 4.0 / BOHR
"""Half of the shortest distance of an isolated molecule from its images, bohr."""


_NOTHING = 1e-7
"""What max(0, .) adds below this is not counted, e/bohr^3."""


@dataclass(frozen=True, eq=False)
class DeformedAtoms:
    """Deformed atoms, each with its factor.

    Parameters
    ----------
    structure : Structure
    box : Grid or None
        Its box is the period; None for an isolated molecule.
    coefficients : (n_atoms, n_exponents, (degree + 1)^2) tensor
    exponents : (n_exponents,) tensor
        Bohr^-2.
    recipe : str
        SAD recipe.
    factors : (n_atoms,) float
    clipped : tuple
        Integrals of what max(0, .) adds times 1, x_i, x_i x_j and x_i x_j x_k about the centre of
        nuclear charge.
    spin : (n_atoms, n_exponents, n) tensor, optional
        Coefficients of the spin density.
    environments : (n_atoms, n) tensor, optional
        What the network knows of each atom, for `denser.model.expected_error`.
    singly : float, optional
        Effectively unpaired electrons (`denser.model.unpaired`). They are more than those that are
        unpaired if several orbitals may hold these.
    target : (n_atoms,) float, optional
        Electrons that the molecules of the atoms should have (`electrons_of_molecules`).
    clipped_near : (n_atoms,) float, optional
        The first integral of `clipped`, by the nearest atom; None in a periodic box.
    """

    structure: Structure
    box: Grid | None
    coefficients: Tensor
    exponents: Tensor
    recipe: str
    factors: np.ndarray
    clipped: Moments
    spin: Tensor | None = None
    environments: Tensor | None = None
    singly: float | None = None
    target: np.ndarray | None = None
    clipped_near: np.ndarray | None = None

    @classmethod
    def of(
        cls, sad: Density, periodic: bool, recipe: str, coefficients: Tensor, exponents: Tensor
    ) -> tuple[DeformedAtoms, Tensor]:
        """Return the deformed atoms with factors of one, and their density on the SAD's nodes.

        The density (nx, ny, nz) is a float32 tensor on the device of the coefficients.
        """
        structure, grid = sad.structure, sad.grid
        values = on_nodes(sad, coefficients, exponents)
        centre = (structure.nuclear_charge_centre - grid.origin) @ np.linalg.inv(grid.cell)
        nodes = [np.arange(n) / n - c for n, c in zip(grid.shape, centre, strict=True)]
        added = (-values).clamp_(min=0.0).cpu().numpy()
        atoms = cls(
            structure,
            grid if periodic else None,
            coefficients,
            exponents,
            recipe,
            np.ones(len(structure)),
            grid_moments(added, nodes, grid.cell, grid.dv),
            clipped_near=None if periodic else _by_atom(added, grid, structure.positions),
        )
        return atoms, values.clamp_(min=0.0)

    @classmethod
    def isolated(
        cls,
        structure: Structure,
        recipe: str,
        coefficients: Tensor,
        exponents: Tensor,
        target: np.ndarray | None = None,
    ) -> tuple[DeformedAtoms, float]:
        """Deformed atoms of an isolated molecule, and their excess as from `scaled`.

        They need no grid: what `clipped` adds in `of`, less than 1e-4 electrons, is left out.
        """
        none = 0.0, np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3, 3))
        ones = np.ones(len(structure))
        atoms = cls(structure, None, coefficients, exponents, recipe, ones, none, target=target)
        charges = valence_charges(structure)
        return atoms.scaled(charges, float(charges.sum()) - structure.charge)

    def scaled(
        self, valence_charges: np.ndarray, n_electrons: float
    ) -> tuple[DeformedAtoms, float]:
        """Return the atoms with factors that give exactly N_e electrons, and their excess.

        The factors and the excess are those of `denser.model.normalise.normalise`, with the
        electrons of the deformed atoms in place of Hirshfeld's on a grid.

        Parameters
        ----------
        valence_charges : (n_atoms,) float
        n_electrons : float
        """
        electrons = self._local[0]
        factors, excess = self.factors, 0.0
        if len(self.structure) > 1:
            target = self._target(valence_charges, n_electrons)
            near = 0.0 if self.clipped_near is None else self.clipped_near
            factors = electron_factors(self.structure, electrons, electrons + near - target)
            excess = largest_excess(factors)
        n, first, second, third = self.clipped
        left = float(factors @ electrons + n) / n_electrons
        clipped = (n / left, first / left, second / left, third / left)
        scaled = replace(self, factors=factors / left, clipped=clipped)
        return scaled, (1.0 + excess) * left - 1.0

    def added(self) -> np.ndarray:
        """Electrons that the factors add to each atom (n_atoms,)."""
        return (self.factors - 1.0) * self._local[0]

    def _target(self, valence_charges: np.ndarray, n_electrons: float) -> np.ndarray:
        if self.target is not None:
            return self.target
        return valence_charges * (n_electrons / valence_charges.sum())

    def moments(self, origin: np.ndarray) -> Moments:
        """Integrals of rho times 1, x_i, x_i x_j and x_i x_j x_k about `origin`, isolated atoms.

        Parameters
        ----------
        origin : (3,) float
            Bohr.
        """
        # What the maximum adds is one more function, at the centre of nuclear charge.
        centres = np.vstack([self.structure.positions, self.structure.nuclear_charge_centre])
        factors = np.append(self.factors, 1.0)
        own = [
            np.concatenate([atoms, np.asarray(rest)[None]])
            * factors.reshape(-1, *[1] * (atoms.ndim - 1))
            for atoms, rest in zip(self._local, self.clipped, strict=True)
        ]
        n, first, second, third = (x.sum(axis=0) for x in shifted(own, centres - origin))
        return float(n), first, second, third

    def of_atoms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Electrons (n,), integrals of x (n, 3) and x x (n, 3, 3) of each atom about its nucleus.

        With `exact_factors`, as the density and potential of `fields`.
        """
        n, first, second, _ = self._local
        f = self.exact_factors
        return f * n, f[:, None] * first, f[:, None, None] * second

    @cached_property
    def _local(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Moments of each deformed atom about its nucleus, with a factor of one."""
        degree = min(round(self.coefficients.shape[-1] ** 0.5) - 1, _MOMENTS - 1)
        polynomials = solid_harmonics(degree)  # higher degrees have no such moments
        alphas = self.exponents.cpu().numpy().astype(float)
        line = np.array(
            [
                [
                    [
                        gamma((n + p + 1) / 2) / a ** ((n + p + 1) / 2) if (n + p) % 2 == 0 else 0.0
                        for p in range(_MOMENTS)
                    ]
                    for n in range(degree + 1)
                ]
                for a in alphas
            ]
        )  # (k, power in the polynomial, power in the moment)
        integrals = np.einsum(
            "mxyz,kxp,kyq,kzr->kmpqr", polynomials, line, line, line, optimize=True
        )
        known = self.coefficients[..., : (degree + 1) ** 2].detach().cpu().numpy().astype(float)
        sums = np.einsum("akm,kmpqr->apqr", known, integrals)
        for z in np.unique(self.structure.numbers):
            a, s, p = gaussians(int(z), self.recipe)
            volume = (np.pi / a) ** 1.5
            atom = self.structure.numbers == z
            sums[atom, 0, 0, 0] += volume @ (s + 1.5 * p / a)
            square = volume @ (0.5 * s / a + 1.25 * p / a**2)
            for power in 2 * np.eye(3, dtype=int):
                sums[(atom, *power)] += square
        return sums[:, 0, 0, 0], *tensors(sums)

    def on_grid(self, grid: Grid) -> np.ndarray:
        """Density (nx, ny, nz) at the nodes of a grid, e/bohr^3, float32.

        Atoms of an isolated molecule do not continue at the opposite face of the box, and may
        reach out of it. The box of periodic atoms must be their period.
        """
        grid, window = self._roomy(grid)
        values = torch.tensor(sum_of_atoms(self.structure, grid, self.recipe, self.factors))
        scaled = self.coefficients.detach().cpu().double()
        scaled = scaled * torch.tensor(self.factors)[:, None, None]
        positions = torch.tensor(self.structure.positions)
        add_to_grid(values, grid, positions, scaled, self.exponents.cpu().double())
        return np.ascontiguousarray(values.clamp_(min=0.0).numpy()[window], dtype=np.float32)

    def unpaired(self) -> np.ndarray | None:
        """Integral of the spin density of each atom (n_atoms,); None without one."""
        if self.spin is None:
            return None
        volumes = (np.pi / self.exponents.double().cpu().numpy()) ** 1.5
        of_s = self.spin[:, :, 0].detach().double().cpu().numpy()
        return of_s @ volumes / np.sqrt(4 * np.pi)

    def spin_on_grid(
        self, grid: Grid, part: tuple[int, int, int] | None = None
    ) -> np.ndarray | None:
        """Spin density as `on_grid`, unpaired e/bohr^3; None without one.

        `part` is (axis, start, stop): the slab of these nodes only.
        """
        if self.spin is None:
            return None
        return expansion_on_grid(self.structure, self.box, self.spin, self.exponents, grid, part)

    def _roomy(self, grid: Grid) -> tuple[Grid, tuple[slice, ...]]:
        """As the function `_roomy`, with the own box and structure."""
        return _roomy(self.structure, self.box, grid)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Density at points (n, 3), bohr, which need not lie in the box: (n,), e/bohr^3.

        Time is linear in the number of points, and does not depend on that of the atoms far away.
        """
        centres, owner = self.structure.positions, np.arange(len(self.structure))
        if self.box is not None:
            centres, owner = images_near(centres, self.box, self._reaches)
            points = wrapped(points, self.box.cell, self.box.origin)
        values = np.zeros(len(points))
        place: np.ndarray | slice = slice(None)
        if len(centres) >= MANY:
            place = np.concatenate([values[:0].astype(int), *compact_groups(points, _TOGETHER)])
        for i, found, x in points_near(points[place], centres, self._reaches[owner]):
            a = owner[i]
            z, own = int(self.structure.numbers[a]), self._own_coefficients[a]
            atom = deformed_atom(x, z, self.recipe, own, self._alphas)
            values[found] += self.factors[a] * atom
        values = np.maximum(values, 0.0)
        if isinstance(place, slice):
            return values
        out = np.empty_like(values)
        out[place] = values
        return out

    @cached_property
    def exact_factors(self) -> np.ndarray:
        """Factors (n_atoms,) that give exactly N_e electrons without the maximum with zero."""
        electrons = float(self.factors @ self._local[0])
        return self.factors * ((electrons + self.clipped[0]) / electrons)

    def fields(self, points: np.ndarray) -> tuple[AtomFields, AtomFields]:
        """Density (n,), gradient (3, n) and Coulomb potential (n,) at points (n, 3), bohr.

        First those of the free atoms, then those of their deformations, each with its exact factor.
        The maximum with zero is left out, because it has no simple potential. Isolated atoms only.
        """
        coefficients = self.coefficients.detach().cpu().double().numpy()
        exponents = self.exponents.cpu().double().numpy()
        n = len(points)
        sums = [(np.zeros(n), np.zeros((3, n)), np.zeros(n)) for _ in range(2)]
        of_atoms = zip(
            self.structure.numbers,
            self.structure.positions,
            coefficients,
            self.exact_factors,
            strict=True,
        )
        for z, position, c, factor in of_atoms:
            x = np.ascontiguousarray((points - position).T)
            add_free_atom(sums[0], x, int(z), self.recipe, factor)
            add_deformation(sums[1], x, factor * c, exponents)
        return sums[0], sums[1]

    def gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Density (n,) and gradient (n, 3) of `fields` at points (n, 3), from the atoms nearby."""
        structure, factors = self.structure, self.exact_factors
        kinds = structure.numbers.tolist()
        rho, slopes = np.zeros(len(points)), np.zeros((len(points), 3))
        for a, found, x in points_near(points, structure.positions, self._reaches):
            free = free_atom(x, kinds[a], self.recipe)
            own = deformation(x, self._own_coefficients[a], self._alphas, potential=False)
            rho[found] += factors[a] * (free[0] + own[0])
            slopes[found] += factors[a] * (free[1] + own[1]).T
        return rho, slopes

    def spin_fields(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Spin density (n,) and its gradient (3, n) at points (n, 3), bohr; None without one."""
        if self.spin is None:
            return None
        spin = self.spin.detach().cpu().double().numpy()
        m, gradient = np.zeros(len(points)), np.zeros((3, len(points)))
        for position, c in zip(self.structure.positions, spin, strict=True):
            own, slope, _ = deformation((points - position).T, c, self._alphas)
            m += own
            gradient += slope
        return m, gradient

    def potential(self, points: np.ndarray, charges: np.ndarray) -> np.ndarray:
        """Electrostatic potential (n,), hartree/e, at points (n, 3), bohr; isolated atoms only.

        That of the electrons of `fields`, and of point charges (n_atoms,) at the nuclei, e.
        """
        key = charges.tobytes()
        if key not in self._potentials:
            factors = self.exact_factors
            coefficients = self._own_coefficients * factors[:, None, None]
            self._potentials[key] = AtomsPotential(
                self.structure, self.recipe, coefficients, self._alphas, factors, charges
            )
        return self._potentials[key](points)

    @cached_property
    def _potentials(self) -> dict[bytes, AtomsPotential]:
        """By the charges at the nuclei; groups of atoms are made once."""
        return {}

    @cached_property
    def _alphas(self) -> np.ndarray:
        return self.exponents.cpu().double().numpy()

    @cached_property
    def _own_coefficients(self) -> np.ndarray:
        """Coefficients in double precision, without the factors."""
        return self.coefficients.detach().cpu().double().numpy()

    @cached_property
    def _reaches(self) -> np.ndarray:
        """Distance at which each atom ends (n_atoms,), bohr."""
        atoms = zip(self.structure.numbers.tolist(), self._own_coefficients, strict=True)
        return np.array([reach(z, self.recipe, c, self._alphas) for z, c in atoms])

    def pullback(self, slope: FieldsSlope) -> tuple[np.ndarray, np.ndarray]:
        """Derivative of a number that depends on `fields`, at fixed positions or coefficients.

        Exact, with the change of `exact_factors`. Isolated atoms only, with the factors of
        `scaled`.

        Parameters
        ----------
        slope : FieldsSlope

        Returns
        -------
        (n_atoms, 3) float
            With respect to the positions, the coefficients held fixed; points move with their
            parents.
        (n_atoms, n_exponents, (degree + 1)^2) float
            With respect to the coefficients.
        """
        positions, coefficients, points = self.pullback_apart(slope)
        for axis in range(3):
            positions[:, axis] += np.bincount(
                slope.parents, points[:, axis], minlength=len(positions)
            )
        return positions, coefficients

    def pullback_apart(self, slope: FieldsSlope) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `pullback` for points that do not move with atoms, and with respect to them (n, 3)."""
        structure, factors = self.structure, self.exact_factors
        known = self.coefficients.detach().cpu().double().numpy()
        exponents = self.exponents.cpu().double().numpy()
        positions = np.zeros((len(structure), 3))
        points = np.zeros((3, len(slope.points)))
        coefficients = np.zeros_like(known)
        by_factor = slope.factors.copy()
        for a, (z, centre) in enumerate(zip(structure.numbers, structure.positions, strict=True)):
            x = np.ascontiguousarray((slope.points - centre).T)
            free, of_free = free_atom_pullback(x, int(z), self.recipe, slope.free)
            of_points, of_known = deformation_pullback(x, known[a], exponents, slope.deformation)
            coefficients[a] = factors[a] * of_known
            by_factor[a] += of_free + float(np.vdot(of_known, known[a]))  # linear in them
            pull = factors[a] * (free + of_points)
            positions[a] = -pull.sum(axis=1)
            points += pull
        charges = valence_charges(structure)
        n_electrons = charges.sum() - structure.charge
        electrons = self._local[0]
        of_positions, of_electrons = factors_pullback(
            structure, electrons, electrons - self._target(charges, n_electrons), by_factor
        )
        spherical = (np.pi / exponents) ** 1.5 / np.sqrt(4 * np.pi)
        coefficients[:, :, 0] += of_electrons[:, None] * spherical
        return positions + of_positions, coefficients, points.T


def _by_atom(values: np.ndarray, grid: Grid, positions: np.ndarray) -> np.ndarray:
    """Integral of values (nx, ny, nz) on the nodes nearest to each atom (n_atoms,)."""
    index = np.argwhere(values > _NOTHING)
    points = grid.origin + index @ (grid.cell / np.array(grid.shape)[:, None])
    nearest = cKDTree(positions).query(points)[1]
    weights = values[tuple(index.T)].astype(float) * grid.dv
    return np.bincount(nearest, weights, minlength=len(positions))


def on_nodes(sad: Density, coefficients: Tensor, exponents: Tensor) -> Tensor:
    """Neutral atoms and their deformations on the nodes of the SAD (nx, ny, nz), float32."""
    device = coefficients.device
    values = torch.as_tensor(sad.values * neutral(sad), dtype=torch.float32, device=device)
    positions = torch.tensor(sad.structure.positions, device=device)
    add_to_grid(values, sad.grid, positions, coefficients, exponents)
    return values


def neutral(sad: Density) -> float:
    """Undoes the scaling of a SAD to N_e.

    The network starts from neutral atoms, and predicts the place of a charge itself.
    """
    return float(sad.valence_charges.sum() / sad.n_electrons)


def expansion_on_grid(
    structure: Structure,
    box: Grid | None,
    coefficients: Tensor,
    exponents: Tensor,
    grid: Grid,
    part: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """A sum of Gaussians (`denser.model.expansion`) at the nodes of a grid (nx, ny, nz), float32.

    Parameters
    ----------
    structure : Structure
    box : Grid or None
        Its box is the period; None for an isolated molecule, whose atoms do not continue at the
        opposite face of the grid, and may reach out of it.
    coefficients : (n_atoms, n_exponents, (degree + 1)^2) tensor
    exponents : (n_exponents,) tensor
        Bohr^-2.
    grid : Grid
    part : (int, int, int), optional
        Axis, start and stop: the slab of these nodes only.
    """
    grid, window = _roomy(structure, box, grid)
    if part is not None:
        axis, start, stop = part
        first = window[axis].start
        grid = grid.slab(axis, first + start, first + stop)
        window = (*window[:axis], slice(None), *window[axis + 1 :])
    values = torch.zeros(grid.shape, dtype=torch.float64)
    positions = torch.tensor(structure.positions)
    found = coefficients.detach().cpu().double()
    add_to_grid(values, grid, positions, found, exponents.cpu().double())
    return np.ascontiguousarray(values.numpy()[window], dtype=np.float32)


def _roomy(structure: Structure, box: Grid | None, grid: Grid) -> tuple[Grid, tuple[slice, ...]]:
    """A grid on the same nodes on which no atom meets its image, and where the given one is."""
    window = tuple(slice(0, n) for n in grid.shape)
    if box is None:  # a larger box on the same nodes, so that no atom meets its image
        inverse, n = np.linalg.inv(grid.cell), np.asarray(grid.shape)
        fractions = (structure.positions - grid.origin) @ inverse
        margin = _MARGIN * np.linalg.norm(inverse, axis=0)
        before = np.ceil(np.maximum(margin - fractions.min(axis=0), 0.0) * n).astype(int)
        after = np.ceil(np.maximum(fractions.max(axis=0) + margin - 1, 0.0) * n).astype(int)
        window = tuple(slice(b, b + m) for b, m in zip(before, n, strict=True))
        nx, ny, nz = (before + n + after).tolist()
        steps = grid.cell / n[:, None]
        cell = steps * np.array([[nx], [ny], [nz]])
        grid = Grid(grid.origin - before @ steps, cell, (nx, ny, nz))
    return grid, window
