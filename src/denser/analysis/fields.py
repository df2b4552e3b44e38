"""Fields from a density: derivatives, deformation, differences, electrons in a region.

Derivatives are those of `denser.fields.derivatives`, either of the trigonometric interpolant or
(`local`) central differences of sixth order. A density is differentiated as it is given: the
derivatives of a valence density differ from the all-electron ones within about 0.6 angstrom of a
nucleus. No grid resolves the cores of an all-electron density
(`denser.atoms.free_atoms.complete`): they are subtracted first, and their analytic derivatives
are added afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from denser.atoms.free_atoms import core_values, free_atom, pseudo_charges
from denser.atoms.sad import RECIPES, superposition
from denser.fields import derivatives
from denser.fields.derivatives import PAIRS
from denser.fields.windows import ball, pieces
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.units import BOHR

S_CONSTANT = 2 * (3 * np.pi**2) ** (1 / 3)
"""2 (3 pi^2)^(1/3) of the reduced density gradient."""

THOMAS_FERMI = 0.3 * (3 * np.pi**2) ** (2 / 3)
"""(3/10) (3 pi^2)^(2/3): t_TF = THOMAS_FERMI rho^(5/3), hartree/bohr^3, is the kinetic energy
density of the uniform electron gas."""

S_MAX = 100.0
"""Value of the reduced density gradient where it is larger or the density vanishes."""

VACUUM = 1e-9
"""Densities below this (e/bohr^3) are treated as zero in divisions."""

REACH = 3
"""Nodes on each side for local differences of sixth order in the spacing."""


# Derivatives


def gradient(density: Field, local: bool = False) -> Iterator[np.ndarray]:
    """x, y and z component of grad rho, (nx, ny, nz) each, e/bohr^4, one after the other."""
    reach = REACH if local else None
    for j, component in enumerate(derivatives.gradient(_smooth(density), density.grid, reach)):
        for where, d, r, slopes in _cores(density):
            component[where] += slopes[0] * d[j] / r
        yield component


def hessian(density: Field, local: bool = False) -> Iterator[np.ndarray]:
    """Components of the Hessian in the order of `PAIRS`, (nx, ny, nz) each, e/bohr^5."""
    components = derivatives.hessian(_smooth(density), density.grid, REACH if local else None)
    for (j, k), component in zip(PAIRS, components, strict=True):
        for where, d, r, (slope, curvature) in _cores(density):
            along = d[j] * d[k] / r**2
            component[where] += curvature * along + slope / r * ((j == k) - along)
        yield component


def _smooth(density: Field) -> np.ndarray:
    """The part that the grid resolves: the values, without the cores of an all-electron density."""
    values = np.asarray(density.values, dtype=float)
    if isinstance(density, Density) and density.all_electron:
        return values - core_values(density.structure, density.grid)
    return values


def _cores(density: Field) -> Iterator[tuple]:
    """Patches of the cores of an all-electron density; other fields have none.

    Yields the slices of the grid, the vectors (3, ...) and distances (...) from the nucleus, and
    the first and second radial derivative (2, ...), zero beyond the core.
    """
    if not (isinstance(density, Density) and density.all_electron):
        return
    grid, structure = density.grid, density.structure
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        atom = free_atom(int(z))
        nodes, squared = ball(grid, position, atom.core_radius, structure.cell is not None)
        r = np.sqrt(np.maximum(squared, 1e-12))  # there is no derivative at the cusp
        mesh = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1) / grid.shape
        d = np.moveaxis(mesh @ grid.cell + grid.origin - position, -1, 0)
        slopes = np.zeros((2, *r.shape))
        inside = squared <= atom.core_radius**2
        slopes[:, inside] = atom.core_derivatives(r[inside])[1:]
        for on_grid, in_patch in pieces(nodes, grid.shape):
            part = (slice(None), *in_patch)
            yield on_grid, d[part], r[in_patch], slopes[part]


def gradient_norm(density: Field, local: bool = False) -> Field:
    """Return |grad rho| in e/bohr^4."""
    return Field(density.grid, np.sqrt(squared_gradient(density, local)), "e/bohr^4")


def squared_gradient(density: Field, local: bool = False) -> np.ndarray:
    """Return |grad rho|^2 (nx, ny, nz) in (e/bohr^4)^2."""
    total = np.zeros(density.grid.shape)
    for component in gradient(density, local):
        total += np.square(component, out=component)
    return total


def laplacian(density: Field, local: bool = False) -> Field:
    """Return the Laplacian of rho in e/bohr^5: negative where electrons gather."""
    reach = REACH if local else None
    total = derivatives.laplacian(_smooth(density), density.grid, reach)
    for where, _, r, (first, second) in _cores(density):
        total[where] += second + 2 * first / r
    return Field(density.grid, total, "e/bohr^5")


def reduced_density_gradient(density: Field) -> Field:
    """Reduced density gradient s = |grad rho| / (2 (3 pi^2)^(1/3) rho^(4/3)), no unit.

    Johnson et al., J. Am. Chem. Soc. 132, 6498 (2010), equation 1. Set to `S_MAX` where it is
    larger or where there is no density. The gradient is computed with local differences (see
    above), because s is used in the tails.
    """
    rho = np.maximum(np.asarray(density.values, dtype=float), VACUUM)
    s = np.sqrt(squared_gradient(density, local=True)) / (S_CONSTANT * rho ** (4 / 3))
    s[np.asarray(density.values) <= VACUUM] = S_MAX
    return Field(density.grid, np.minimum(s, S_MAX), "1")


def hessian_eigenvalue_2(density: Field) -> Field:
    """Density with the sign of the Hessian's middle eigenvalue, e/bohr^3.

    Negative where the density is concentrated in two or more directions, as along a bond;
    positive where it is depleted in two or more, as inside a ring. Derivatives are local
    differences.
    """
    second = np.stack([h.ravel() for h in hessian(density, local=True)])
    negative = middle_eigenvalue_is_negative(second)
    rho = np.asarray(density.values, dtype=float)
    return Field(density.grid, np.where(negative.reshape(rho.shape), -rho, rho), "e/bohr^3")


def middle_eigenvalue_is_negative(h: np.ndarray) -> np.ndarray:
    """Whether two or three eigenvalues of symmetric matrices are negative (n,) bool.

    Signs of the characteristic polynomial's coefficients count the negative eigenvalues (rule of
    Descartes), which costs a tenth of the eigenvalues themselves.

    Parameters
    ----------
    h : (6, n) float
        Components in the order of `PAIRS`.
    """
    xx, xy, xz, yy, yz, zz = h
    trace = xx + yy + zz
    minors = xx * yy - xy**2 + xx * zz - xz**2 + yy * zz - yz**2
    determinant = xx * (yy * zz - yz**2) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
    none = (trace >= 0) & (minors >= 0)
    three = (trace < 0) & (minors > 0)
    return np.where(determinant >= 0, ~none, three)


# Differences


def deformation_density(density: Density, recipe: str = RECIPES[0]) -> Field:
    """Density minus its superposed neutral atoms, e/bohr^3; integrates to zero.

    The cores of an all-electron density are subtracted first: frozen cores are the same in the
    molecule and in the atoms.

    Parameters
    ----------
    density : Density
        On an orthorhombic grid.
    recipe : str
        Recipe of the atoms, a key of `denser.atoms.sad.RECIPES`. Their sum is scaled to the
        density's number of electrons.
    """
    atoms = superposition(density.structure, density.grid, recipe)
    return Field(density.grid, _smooth(density) - atoms.values)


def difference(a: Field, b: Field) -> Field:
    """Return a - b on their common grid, in their common unit.

    Raises
    ------
    InputError
        The grids or the units differ, or only one of the densities contains the cores.
    """
    kinds = [f.all_electron for f in (a, b) if isinstance(f, Density)]
    if len(set(kinds)) == 2:
        raise InputError(
            "one of the two densities has all electrons, the other only the valence electrons; "
            "complete the latter first (denser.atoms.free_atoms.complete)"
        )
    return a - b


# Electrons in a region


@dataclass(frozen=True)
class Sphere:
    """All points within `radius` of `centre` (3,), bohr."""

    centre: np.ndarray
    radius: float


@dataclass(frozen=True)
class Cuboid:
    """All points between the corners `low` and `high` (3,), bohr."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Overlap:
    """The part of a density in a region.

    Parameters
    ----------
    electrons : float
        Integral of the density over the region, e.
    volume : float
        Volume of the region within the grid, bohr^3.
    share : float
        Electrons in the region over all electrons on the grid, a fraction.
    """

    electrons: float
    volume: float
    share: float

    def to_dict(self) -> dict:
        """Return plain data with volumes in angstrom^3."""
        return {
            "n_electrons": self.electrons,
            "volume_angstrom3": self.volume * BOHR**3,
            "share_percent": 100 * self.share,
        }

    def lines(self) -> list[str]:
        """Return one readable line."""
        return [
            f"{self.electrons:.4f} e in {self.volume * BOHR**3:.3f} angstrom^3 "
            f"({100 * self.share:.2f} % of all)"
        ]


def overlap(density: Field, region: Field | Sphere | Cuboid) -> Overlap:
    """Electrons inside a region: integral w(r) rho(r) dr.

    For an all-electron density, the part that the grid resolves is integrated on the grid, and
    the core of each nucleus is added with the weight of the region at the nucleus.

    Parameters
    ----------
    density : Field
    region : Field, Sphere or Cuboid
        A mask on the density's grid with weights between 0 and 1, or a shape. A node at the
        edge of a sphere is weighted by its distance from the edge, a node at the edge of a box by
        the share of its cell. For a periodic structure the nearest images are used.

    Raises
    ------
    InputError
        The mask is on another grid or outside [0, 1], the radius of a sphere is not positive, or
        the grid of a box is not orthorhombic.
    """
    values, grid = _smooth(density), density.grid
    periodic = not isinstance(density, Density) or density.structure.cell is not None
    if isinstance(region, Field):
        region.grid.require_same(density.grid)
        weight = np.asarray(region.values, dtype=float)
        if not (weight.min() >= 0 and weight.max() <= 1):
            raise InputError("a mask must have weights between 0 and 1")
    elif isinstance(region, Sphere):
        weight = _in_sphere(grid, region, periodic)
    else:
        weight = _in_cuboid(grid, region, periodic)
    electrons = float(np.vdot(weight, values)) * grid.dv
    total = float(values.sum()) * grid.dv
    if isinstance(density, Density) and density.all_electron:
        structure = density.structure
        cores = structure.numbers - pseudo_charges(structure)
        node = np.rint((structure.positions - grid.origin) @ np.linalg.inv(grid.cell) * grid.shape)
        at_nucleus = weight[tuple((node.astype(int) % grid.shape).T)]
        electrons += float(at_nucleus @ cores)
        total += float(cores.sum())
    return Overlap(electrons, float(weight.sum()) * grid.dv, electrons / total if total else 0.0)


def _in_sphere(grid: Grid, sphere: Sphere, periodic: bool) -> np.ndarray:
    """Weight of each node, which decreases from 1 to 0 over one spacing at the surface."""
    if not sphere.radius > 0:
        raise InputError(f"a sphere needs a positive radius, found {sphere.radius}")
    h = grid.dv ** (1 / 3)
    nodes, squared = ball(grid, np.asarray(sphere.centre, dtype=float), sphere.radius + h, periodic)
    radius = sphere.radius - h**2 / (12 * sphere.radius)  # corrects the volume for the ramp
    patch = np.clip((radius - np.sqrt(squared)) / h + 0.5, 0.0, 1.0)
    weight = np.zeros(grid.shape)
    for on_grid, in_patch in pieces(nodes, grid.shape):
        np.maximum(weight[on_grid], patch[in_patch], out=weight[on_grid])
    return weight


def _in_cuboid(grid: Grid, cuboid: Cuboid, periodic: bool) -> np.ndarray:
    """Share of each node's own cell that lies in the box."""
    low, high = (np.asarray(corner, dtype=float) for corner in (cuboid.low, cuboid.high))
    if not (high > low).all():
        raise InputError("a box needs a low corner below its high corner along x, y and z")
    shares = []
    for i in range(3):
        x, length = grid.axis(i), grid.cell[i, i]
        h = length / grid.shape[i]
        images = np.arange(-1, 2) * length if periodic else np.zeros(1)
        x = x[:, None] + images + (np.round((low[i] - x.mean()) / length) * length) * periodic
        inside = np.minimum(x + h / 2, high[i]) - np.maximum(x - h / 2, low[i])
        shares.append(np.minimum(np.maximum(inside, 0).sum(axis=1) / h, 1.0))
    a, b, c = shares
    return a[:, None, None] * b[None, :, None] * c[None, None, :]
