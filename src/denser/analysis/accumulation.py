"""Regions of accumulation and depletion of electrons, from a difference of densities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denser.analysis.regions import connected_regions, nearest_atoms
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

ISOVALUE = 0.01
"""Default for deformation densities, e/bohr^3."""


@dataclass(frozen=True, eq=False)
class Region:
    """A connected region in which a field is beyond an isovalue.

    Parameters
    ----------
    sign : int
        1 above the isovalue, -1 below its negative.
    volume : float
        bohr^3.
    integral : float
        Of the field over the region; e for a density.
    peak : float
        Largest value, with its sign.
    position : (3,) float
        Of that node, bohr.
    atoms : tuple of (int, float)
        Atoms of the region, counted from 0, and their shares of the integral, the largest first;
        shares below 0.05 are left out.
    """

    sign: int
    volume: float
    integral: float
    peak: float
    position: np.ndarray
    atoms: tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Accumulation:
    """Regions of accumulation and depletion, by the size of their integral.

    Parameters
    ----------
    isovalue : float
    unit : str
        Of the field.
    regions : tuple of Region
    symbols : tuple of str
        Symbols of the atoms; empty if they are not known.
    """

    isovalue: float
    unit: str
    regions: tuple[Region, ...]
    symbols: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return plain data in angstrom; the integrals in e for a density."""
        key = "n_electrons" if self.unit == "e/bohr^3" else "integral_bohr3"
        return {
            "isovalue": self.isovalue,
            "isovalue_unit": self.unit,
            "regions": [
                {
                    "sign": region.sign,
                    "volume_angstrom3": region.volume * BOHR**3,
                    key: region.integral,
                    "peak": region.peak,
                    "peak_position_angstrom": (region.position * BOHR).tolist(),
                    "atoms": [{"atom": i + 1, "share": share} for i, share in region.atoms],
                }
                for region in self.regions
            ],
        }

    def lines(self) -> list[str]:
        """Return readable lines, one per region."""
        out = [f"regions beyond +-{self.isovalue:g} {self.unit}"]
        for region in self.regions:
            names = ", ".join(
                f"{self.symbols[i]}{i + 1} {100 * share:.0f} %" for i, share in region.atoms
            )
            out.append(
                f"  {region.integral:+.4f} {'e' if self.unit == 'e/bohr^3' else 'bohr^3'} in "
                f"{region.volume * BOHR**3:.2f} angstrom^3, peak {region.peak:+.4f}"
                + (f" ({names})" if names else "")
            )
        return out


def accumulation(
    field: Field,
    isovalue: float = ISOVALUE,
    structure: Structure | None = None,
    basins: np.ndarray | None = None,
    periodic: bool | None = None,
    min_volume: float = 0.1,
) -> Accumulation:
    """Connected regions where a field is above an isovalue, and below its negative.

    It is intended for difference and deformation densities: accumulation and depletion of
    electrons.

    Parameters
    ----------
    field : Field
    isovalue : float
        Positive, in the field's unit.
    structure : Structure, optional
        Atoms of the regions; default those of a Density. Without `basins` each node belongs to
        the nearest atom.
    basins : (nx, ny, nz) int, optional
        Atom that each node belongs to, from 0, such as Bader's basins; negative for none.
    periodic : bool, optional
        Default: whether the structure has a cell; a field without atoms is periodic.
    min_volume : float
        Smaller regions are left out, bohr^3.

    Raises
    ------
    InputError
        The isovalue is not positive, or the basins do not fit the grid.
    """
    if not (np.isfinite(isovalue) and isovalue > 0):
        raise InputError(f"the isovalue must be positive, found {isovalue}; both signs are shown")
    if structure is None and isinstance(field, Density):
        structure = field.structure
    if periodic is None:
        periodic = structure is None or structure.cell is not None
    grid, values = field.grid, np.asarray(field.values, dtype=float)
    if basins is not None and np.shape(basins) != grid.shape:
        raise InputError(
            f"basins of shape {np.shape(basins)} do not fit a grid of shape {grid.shape}"
        )
    regions = []
    for sign in (1, -1):
        labels, n = connected_regions(sign * values > isovalue, periodic)
        nodes = np.flatnonzero(labels)
        label, inside = labels.ravel()[nodes], values.ravel()[nodes]
        counts = np.bincount(label, minlength=n + 1)
        sums = np.bincount(label, inside, minlength=n + 1)
        for i in np.flatnonzero(counts * grid.dv >= min_volume):
            here = label == i
            at, f = nodes[here], inside[here]
            top = np.array(np.unravel_index(at[np.argmax(sign * f)], grid.shape))
            regions.append(
                Region(
                    sign,
                    float(counts[i] * grid.dv),
                    float(sums[i] * grid.dv),
                    float(sign * (sign * f).max()),
                    grid.origin + (top / grid.shape) @ grid.cell,
                    _owners(field, at, f, structure, basins, periodic),
                )
            )
    regions.sort(key=lambda region: -abs(region.integral))
    symbols = () if structure is None else tuple(structure.symbols)
    return Accumulation(float(isovalue), field.unit, tuple(regions), symbols)


def _owners(
    field: Field,
    nodes: np.ndarray,
    values: np.ndarray,
    structure: Structure | None,
    basins: np.ndarray | None,
    periodic: bool,
) -> tuple[tuple[int, float], ...]:
    """Share of each atom in the integral over some nodes."""
    if basins is not None:
        owner = np.asarray(basins).ravel()[nodes]
    elif structure is not None:
        grid = field.grid
        fractions = np.column_stack(np.unravel_index(nodes, grid.shape)) / grid.shape
        owner = nearest_atoms(structure, grid.origin + fractions @ grid.cell, periodic)
    else:
        return ()
    known = owner >= 0
    if not known.any():
        return ()
    shares = np.bincount(owner[known], values[known]) / values.sum()
    order = np.argsort(-shares, kind="stable")
    return tuple((int(i), float(shares[i])) for i in order if shares[i] >= 0.05)
