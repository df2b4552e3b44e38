"""Maps at a resolution: electron density, electrostatic potential, and agreement of maps.

A map is the Fourier series of the structure factors to d_min, f(r) = (1/V) sum_h F(h)
exp(-2 pi i h.r), without weights; sharp features cause oscillations unless B factors damp them.
Resolution, spacing and B are in angstrom, as in crystallography and microscopy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import fftn, next_fast_len

from denser.analysis.crystal.scattering import StructureFactors, structure_factors
from denser.fields.fourier import wave_orders, wave_vectors
from denser.fields.windows import ball
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE


def fourier_map(factors: StructureFactors, grid: Grid) -> Field:
    """Fourier series of structure factors on a grid over their cell.

    Returns
    -------
    Field
        e/bohr^3 of X-ray factors, volt of electron factors.
    """
    if not np.allclose(grid.cell, factors.cell, rtol=0, atol=1e-6):
        raise InputError("the grid's box is not the cell of the structure factors; use this cell")
    hkl, f = factors.expanded()
    if (2 * np.abs(hkl).max(axis=0) >= grid.shape).any():
        raise InputError(
            f"a map to {factors.d_min:.2f} angstrom needs more than {2 * np.abs(hkl).max(axis=0)} "
            f"nodes, found shape {grid.shape}; use a finer spacing"
        )
    fraction = grid.origin @ np.linalg.inv(grid.cell)
    spectrum = np.zeros(grid.shape, dtype=complex)
    spectrum[tuple(hkl.T)] = f * np.exp(-2j * np.pi * (hkl @ fraction))
    values = fftn(spectrum, overwrite_x=True).real / grid.volume
    if factors.kind == "electron":  # f_e = V(q)/(2 pi) in atomic units
        return Field(grid, values * 2 * np.pi * HARTREE, "V")
    return Field(grid, values, "e/bohr^3")


def xray_map(
    density: Density,
    d_min: float,
    b_factors: float | np.ndarray = 0.0,
    spacing: float | None = None,
    cell: np.ndarray | None = None,
    space_group: str = "P 1",
) -> Field:
    """All-electron density at a resolution, e/bohr^3.

    Parameters
    ----------
    density : Density
        Valence or all-electron.
    d_min : float
        Resolution, angstrom.
    b_factors : float, (n_atoms,) or (n_atoms, 3, 3)
        Isotropic B, or Cartesian tensors U, angstrom^2.
    spacing : float, optional
        Largest distance of the map's nodes, angstrom; by default d_min/3.
    cell, space_group
        As in `structure_factors`: without a cell the map covers the box of the density, otherwise
        the crystal's cell, starting at the origin of the coordinates.

    Raises
    ------
    InputError
        As in `structure_factors`; or the spacing is too coarse for the resolution.
    """
    return _map(density, d_min, b_factors, spacing, cell, space_group, "xray")


def electron_potential_map(
    density: Density,
    d_min: float,
    b_factors: float | np.ndarray = 0.0,
    spacing: float | None = None,
    cell: np.ndarray | None = None,
    space_group: str = "P 1",
) -> Field:
    """Electrostatic (cryo-EM) potential of nuclei minus electrons at a resolution, volt.

    V(r) = (1/V) sum_h 2 pi F_e(h) exp(-2 pi i h.r) hartree/e, with Mott-Bethe factors: the
    solution of Poisson's equation to d_min. Positive at atoms; its mean is that of free atoms.
    Parameters as in `xray_map`.
    """
    return _map(density, d_min, b_factors, spacing, cell, space_group, "electron")


def _map(
    density: Density,
    d_min: float,
    b_factors: float | np.ndarray,
    spacing: float | None,
    cell: np.ndarray | None,
    space_group: str,
    kind: str,
) -> Field:
    factors = structure_factors(density, d_min, b_factors, cell, space_group, kind)
    origin = density.grid.origin if cell is None else np.zeros(3)
    return fourier_map(factors, _map_grid(factors, origin, spacing, 2 if cell is None else 12))


def map_of(density: Density, factors: StructureFactors) -> Field:
    """Map of structure factors without a cell, over the box of the density."""
    return fourier_map(factors, _map_grid(factors, density.grid.origin, None, 2))


def _map_grid(
    factors: StructureFactors, origin: np.ndarray, spacing: float | None, step: int
) -> Grid:
    """Nodes at most `spacing` angstrom apart; multiples of 12 suit every space group."""
    spacing = factors.d_min / 3 if spacing is None else spacing
    if not (np.isfinite(spacing) and spacing > 0):
        raise InputError(f"the map's spacing must be a positive length, found {spacing}")
    lengths = np.linalg.norm(factors.cell, axis=1) * BOHR
    shape = tuple(step * next_fast_len(int(np.ceil(x / spacing / step))) for x in lengths)
    return Grid(origin, factors.cell, shape)


# Agreement


@dataclass(frozen=True, eq=False)
class MapCorrelation:
    """Pearson correlation of two maps.

    Parameters
    ----------
    correlation : float
        Correlation of all nodes, or of those inside the mask.
    n_nodes : int
    atoms : (n_atoms,) float or None
        Correlation of the nodes within `radius` of each atom.
    symbols : tuple of str
        Elements of the atoms.
    radius : float
        Bohr.
    """

    correlation: float
    n_nodes: int
    atoms: np.ndarray | None = None
    symbols: tuple[str, ...] = ()
    radius: float = 0.0

    def to_dict(self) -> dict:
        """Return plain data."""
        return {
            "correlation": self.correlation,
            "n_nodes": self.n_nodes,
            "atom_correlations": None if self.atoms is None else self.atoms.tolist(),
            "radius_angstrom": self.radius * BOHR,
        }

    def lines(self) -> list[str]:
        """Readable lines of a report."""
        out = [f"real-space correlation {self.correlation:.4f} over {self.n_nodes} nodes"]
        if self.atoms is not None:
            out += [
                f"  {i:4d} {symbol:2s} {value:8.4f}"
                for i, (symbol, value) in enumerate(zip(self.symbols, self.atoms, strict=True), 1)
            ]
        return out


def real_space_correlation(
    map_a: Field,
    map_b: Field,
    mask: np.ndarray | Field | None = None,
    structure: Structure | None = None,
    radius: float = 1.5,
) -> MapCorrelation:
    """Real-space correlation coefficient of two maps, overall and around each atom.

    sum (a - <a>)(b - <b>) / sqrt(sum (a - <a>)^2 sum (b - <b>)^2). It does not depend on scale and
    offset of the maps, so a potential can be compared with a density.

    Parameters
    ----------
    map_a, map_b : Field
        On one grid.
    mask : (nx, ny, nz), optional
        The correlation uses the nodes where it is not zero.
    structure : Structure, optional
        If given, also compute a value per atom; periodic images of the box are included.
    radius : float
        Around each atom, angstrom.

    Raises
    ------
    InputError
        The grids differ, the mask has another shape or is empty, or a map is constant.
    """
    map_a.grid.require_same(map_b.grid)
    grid = map_a.grid
    a, b = (np.asarray(field.values, dtype=float) for field in (map_a, map_b))
    inside = np.ones(grid.shape, bool)
    if mask is not None:
        inside = np.asarray(getattr(mask, "values", mask)) != 0
        if inside.shape != grid.shape or not inside.any():
            raise InputError(
                f"the mask must have shape {grid.shape} and cover some nodes, found shape "
                f"{inside.shape} and {np.count_nonzero(inside)} nodes"
            )
    overall = _pearson(a[inside], b[inside])
    if not np.isfinite(overall):
        raise InputError("one of the maps is constant there: it has no correlation")
    count = int(np.count_nonzero(inside))
    if structure is None:
        return MapCorrelation(overall, count)
    per_atom = []
    for position in structure.positions:
        near = _within(grid, position, radius / BOHR)
        near = tuple(axis[inside[near]] for axis in near)
        per_atom.append(_pearson(a[near], b[near]))
    symbols = tuple(structure.symbols)
    return MapCorrelation(overall, count, np.array(per_atom), symbols, radius / BOHR)


def _within(grid: Grid, centre: np.ndarray, radius: float) -> tuple[np.ndarray, ...]:
    """Indices of the nodes of the periodic box within `radius` of a point."""
    nodes, squared = ball(grid, centre, radius, periodic=True)
    found = np.nonzero(squared <= radius**2)
    return tuple(axis[i] % n for axis, i, n in zip(nodes, found, grid.shape, strict=True))


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation coefficient; nan for fewer than two nodes or constant values."""
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@dataclass(frozen=True, eq=False)
class FSC:
    """Fourier shell correlation of two maps.

    Parameters
    ----------
    frequency : (n,) float
        Mean |h| of each shell, 1/bohr.
    correlation : (n,) float
    counts : (n,) int
        Fourier components in the shell.
    resolution_0143, resolution_05 : float or None
        Where the curve first falls below 0.143 and 0.5, bohr; None if it never does.
    """

    frequency: np.ndarray
    correlation: np.ndarray
    counts: np.ndarray
    resolution_0143: float | None
    resolution_05: float | None

    def to_dict(self) -> dict:
        """Return plain data."""
        crossing = {
            f"resolution_at_{name}_angstrom": None if value is None else value * BOHR
            for name, value in (("0.143", self.resolution_0143), ("0.5", self.resolution_05))
        }
        return crossing | {
            "resolutions_angstrom": (BOHR / self.frequency).tolist(),
            "correlations": self.correlation.tolist(),
            "counts": self.counts.tolist(),
        }

    def lines(self) -> list[str]:
        """Readable lines of a report."""
        finest = BOHR / self.frequency[-1]
        out = []
        for name, value in (("0.5", self.resolution_05), ("0.143", self.resolution_0143)):
            found = (
                f"above it to the end, {finest:.2f} angstrom"
                if value is None
                else f"{value * BOHR:.2f} angstrom"
            )
            out.append(f"Fourier shell correlation of {name}: {found}")
        return out


def fourier_shell_correlation(map_a: Field, map_b: Field, n_shells: int | None = None) -> FSC:
    """Fourier shell correlation (Harauz and van Heel 1986).

    FSC(s) = Re sum F_a F_b* / sqrt(sum |F_a|^2 sum |F_b|^2) over the Fourier components of a
    shell of |h|, to the Nyquist frequency of the coarsest axis; shells are as wide as the
    largest reciprocal vector of the box unless `n_shells` is given. Empty components (beyond a
    map's own resolution) count as zero correlation.

    Raises
    ------
    InputError
        The grids differ, or are too small for two shells.
    """
    map_a.grid.require_same(map_b.grid)
    grid = map_a.grid
    reciprocal = np.linalg.inv(grid.cell).T
    limit = 0.5 / grid.spacing.max()
    width = np.linalg.norm(reciprocal, axis=1).max()
    shells = int(limit / width) if n_shells is None else int(n_shells)
    if shells < 2 or limit / shells < 0.5 * width:
        raise InputError(
            f"a map of {grid.shape} nodes has {int(limit / width)} shells, requested are {shells}; "
            "use larger maps or fewer shells"
        )
    length = np.sqrt(sum(g**2 for g in wave_vectors(grid))) / (2 * np.pi)
    shell = np.ceil(length / limit * shells - 0.5).astype(int)  # centred on multiples
    order = wave_orders(grid.shape)[2]
    weight = np.where((order == 0) | (2 * order == grid.shape[2]), 1.0, 2.0)[None, None, :]
    a, b = (np.fft.rfftn(np.asarray(field.values, dtype=float)) for field in (map_a, map_b))
    keep = (shell >= 1) & (shell <= shells) & (length <= limit * (1 + 1e-9))

    def total(x: np.ndarray) -> np.ndarray:
        return np.bincount(shell[keep], (x * weight)[keep], shells + 1)[1:]

    cross, aa, bb = total((a * b.conj()).real), total(np.abs(a) ** 2), total(np.abs(b) ** 2)
    counts = total(np.ones(length.shape))
    norm = np.sqrt(aa * bb)
    empty = (aa <= 1e-24 * aa.max()) | (bb <= 1e-24 * bb.max())  # rounding, not signal
    correlation = np.where(empty, 0.0, cross / np.where(empty, 1.0, norm))
    frequency = total(length) / np.maximum(counts, 1)
    filled = counts > 0
    frequency, correlation, counts = frequency[filled], correlation[filled], counts[filled]
    crossings = [_crossing(frequency, correlation, level) for level in (0.143, 0.5)]
    return FSC(frequency, correlation, counts.astype(int), *crossings)


def _crossing(frequency: np.ndarray, correlation: np.ndarray, level: float) -> float | None:
    """1/frequency where the curve, linear between shells, first falls below `level`."""
    below = np.flatnonzero(correlation < level)
    if below.size == 0:
        return None
    i = below[0]
    if i == 0:
        return float(1 / frequency[0])
    share = (correlation[i - 1] - level) / (correlation[i - 1] - correlation[i])
    return float(1 / (frequency[i - 1] + share * (frequency[i] - frequency[i - 1])))
