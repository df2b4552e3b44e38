"""Non-covalent interactions: regions of low density and small reduced gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from denser.analysis.fields import (
    S_CONSTANT,
    S_MAX,
    VACUUM,
    gradient,
    hessian,
    middle_eigenvalue_is_negative,
)
from denser.analysis.interactions.contacts import (
    WEAK,
    Contacts,
    kind_of_contact,
)
from denser.analysis.regions import connected_regions
from denser.atoms.free_atoms import core_values
from denser.atoms.radii import covalent_radius
from denser.fields.windows import ball, pieces
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.units import BOHR

S_CUTOFF, RHO_CUTOFF = 0.5, 0.05
"""Isovalue of s, and density (e/bohr^3) above which a contact is a bond."""

RHO_MIN = 5e-4
"""Smaller densities (e/bohr^3) are left out, because s is small in all empty space of a crystal."""

CANDIDATES = 2.0
"""A cell whose node has an s above this many times the cut-off has no points below the cut-off."""

SUBDIVISION = 5
"""Points per axis at which a cell is probed; odd."""

NUCLEUS = 0.6
"""Nodes within this number of covalent radii of a nucleus are left out: a valence density has a
minimum there, which is not an interaction."""

EXPONENTS = (1.0, 4 / 3, 1.5, 2.0)
"""Powers n of the integrals of rho^n."""


@dataclass(frozen=True, eq=False)
class Interaction:
    """A connected region of small reduced gradient.

    Parameters
    ----------
    kind : str
        "hydrogen bond", "strong attraction", "van der Waals" or "steric".
    atoms : (int, int)
        The pair of atoms, counted from 0.
    distance : float
        Between these two, bohr.
    position : (3,) float
        Node of the smallest s, bohr.
    strength : float
        sign(lambda_2) rho there, e/bohr^3: that of the critical point of the density.
    mean : float
        Mean of sign(lambda_2) rho over the region, e/bohr^3.
    volume : float
        bohr^3.
    integrals : tuple of float
        Integrals of rho^n over the region for the exponents n of `EXPONENTS`, atomic units.
    """

    kind: str
    atoms: tuple[int, int]
    distance: float
    position: np.ndarray
    strength: float
    mean: float
    volume: float
    integrals: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class NCI:
    """Non-covalent interactions of a structure, the strongest attraction first.

    Parameters
    ----------
    interactions : tuple of Interaction
    signed_density, s : (n,) float
        sign(lambda_2) rho in e/bohr^3 and the reduced gradient at some of the nodes: the scatter
        plot of Johnson et al.
    labels : Field
        Number of the interaction of each node, from 1; 0 elsewhere.
    symbols : tuple of str
        Of the atoms.
    s_cutoff, rho_cutoff : float
        As given.
    """

    interactions: tuple[Interaction, ...]
    signed_density: np.ndarray
    s: np.ndarray
    labels: Field
    symbols: tuple[str, ...]
    s_cutoff: float
    rho_cutoff: float

    def to_dict(self) -> dict:
        """Return plain data; lengths in angstrom, densities in e/bohr^3."""
        return {
            "s_cutoff": self.s_cutoff,
            "rho_cutoff_e_per_bohr3": self.rho_cutoff,
            "interactions": [
                {
                    "kind": x.kind,
                    "atoms": [i + 1 for i in x.atoms],
                    "symbols": [self.symbols[i] for i in x.atoms],
                    "distance_angstrom": x.distance * BOHR,
                    "position_angstrom": (x.position * BOHR).tolist(),
                    "sign_lambda2_rho_e_per_bohr3": x.strength,
                    "mean_sign_lambda2_rho_e_per_bohr3": x.mean,
                    "volume_angstrom3": x.volume * BOHR**3,
                    "integrals_of_rho_power_au": {
                        f"{n:.4g}": value for n, value in zip(EXPONENTS, x.integrals, strict=True)
                    },
                }
                for x in self.interactions
            ],
        }

    def lines(self) -> list[str]:
        """Return readable lines, one per interaction."""
        out = [
            f"non-covalent interactions (s < {self.s_cutoff:g}, rho < {self.rho_cutoff:g} "
            f"e/bohr^3): {len(self.interactions)}"
        ]
        for x in self.interactions:
            i, j = x.atoms
            out.append(
                f"  {x.kind:17s} {self.symbols[i]}{i + 1}...{self.symbols[j]}{j + 1} "
                f"{x.distance * BOHR:.2f} angstrom  sign(lambda2)rho {x.strength:+.4f} e/bohr^3  "
                f"{x.volume * BOHR**3:.3f} angstrom^3  {x.integrals[0]:.5f} e"
            )
        return out


def nci(
    density: Density,
    s_cutoff: float = S_CUTOFF,
    rho_cutoff: float = RHO_CUTOFF,
    min_volume: float = 0.03,
    max_points: int = 20_000,
) -> NCI:
    """Regions of non-covalent interaction.

    Johnson, Keinan, Mori-Sanchez, Contreras-Garcia, Cohen and Yang, J. Am. Chem. Soc. 132, 6498
    (2010): where rho < `rho_cutoff` and s < `s_cutoff`, with s of `reduced_density_gradient`,
    the sign of the Hessian's middle eigenvalue tells attraction (negative) from repulsion. A
    region is a connected set of cells with such points. A region with attraction and repulsion
    beyond `WEAK` is cut where lambda_2 changes sign. The node of smallest s decides its kind:

    - a hydrogen bond if sign(lambda_2) rho < -0.01 e/bohr^3 and the pair is H and N, O, F, S or
      Cl;
    - a strong attraction below -0.02 between any other pair;
    - steric above 0.01, and van der Waals between.

    The valence density is used, because interactions lie outside the cores. Nodes within 0.6
    covalent radii of a nucleus, where it has a dip, are left out. Cores are subtracted from an
    all-electron density. Regions at a face of the box of an isolated molecule are left out: they
    are contacts with its own image.

    Parameters
    ----------
    density : Density
        A spacing of 0.3 bohr is enough for a table.
    s_cutoff : float
    rho_cutoff : float
        e/bohr^3.
    min_volume : float
        Smaller regions are left out, bohr^3.
    max_points : int
        Most nodes of the scatter plot.

    Raises
    ------
    InputError
        A cut-off that is not positive.
    """
    if not (s_cutoff > 0 and rho_cutoff > RHO_MIN):
        raise InputError(
            f"s_cutoff must be positive and rho_cutoff above {RHO_MIN:g} e/bohr^3, found "
            f"{s_cutoff} and {rho_cutoff}"
        )
    structure, grid = density.structure, density.grid
    periodic = structure.cell is not None
    if density.all_electron:
        values = density.values - core_values(structure, grid)
        density = replace(density, values=values, all_electron=False)
    rho = np.asarray(density.values, dtype=float)
    slopes = list(gradient(density, local=True))
    s = np.sqrt(sum(np.square(slope) for slope in slopes))
    s /= S_CONSTANT * np.maximum(rho, VACUUM) ** (4 / 3)
    low = (rho > RHO_MIN) & (rho < rho_cutoff)
    for where, near in _near_nuclei(density):
        low[where] &= ~near
    close = low & (s < CANDIDATES * s_cutoff)
    plot = _thinned(low & (s < 2.0), max_points)
    nodes = np.union1d(np.flatnonzero(close), plot)
    first = np.stack([slope.ravel()[nodes] for slope in slopes])
    del slopes
    second = np.stack([h.ravel()[nodes] for h in hessian(density, local=True)])
    at = _Nodes(
        nodes,
        rho.ravel()[nodes] * np.where(middle_eigenvalue_is_negative(second), -1.0, 1.0),
        s.ravel()[nodes],
        np.zeros((1 + len(EXPONENTS), nodes.size)),
    )
    mine = close.ravel()[nodes]
    at.shares[:, mine] = _shares(
        rho.ravel()[nodes[mine]], first[:, mine], second[:, mine], grid, s_cutoff, rho_cutoff
    )
    region = np.zeros(grid.size, dtype=bool)
    region[nodes] = at.shares[0] > 0
    region = region.reshape(grid.shape)
    labels = _regions(region, at, periodic)
    found = _interactions(density, labels, at, min_volume)
    renumber = np.zeros(labels.max(initial=0) + 1, dtype=np.int32)
    renumber[[number for number, _ in found]] = np.arange(1, len(found) + 1)
    shown = np.searchsorted(nodes, plot)
    return NCI(
        tuple(interaction for _, interaction in found),
        at.signed[shown],
        np.minimum(at.s[shown], S_MAX),
        Field(grid, renumber[labels], "interaction"),
        tuple(structure.symbols),
        float(s_cutoff),
        float(rho_cutoff),
    )


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Nodes of the regions and of the plot (flat index), and values at them."""

    index: np.ndarray  # (n,)
    signed: np.ndarray  # (n,) sign(lambda_2) rho
    s: np.ndarray  # (n,)
    shares: np.ndarray  # (1 + len(EXPONENTS), n) mean of 1 and of rho^n over the part inside


def _shares(
    rho: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    grid: Grid,
    s_cutoff: float,
    rho_cutoff: float,
) -> np.ndarray:
    """Share of each node's cell inside the cut-offs, and its mean of rho^n.

    They are computed at points of the cell by Taylor's series about the node. A sheet thinner than
    the spacing is therefore not lost, and a volume hardly depends on the positions of the nodes.
    """
    xx, xy, xz, yy, yz, zz = second
    steps = grid.cell / np.array(grid.shape)[:, None] / SUBDIVISION
    half = SUBDIVISION // 2
    out = np.zeros((1 + len(EXPONENTS), rho.size))
    for i in product(range(-half, half + 1), repeat=3):
        x, y, z = np.array(i) @ steps
        change = np.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z,
                           xz * x + yz * y + zz * z])  # fmt: skip
        there = rho + np.array([x, y, z]) @ (first + change / 2)
        positive = np.maximum(there, VACUUM)
        s = np.linalg.norm(first + change, axis=0) / (S_CONSTANT * positive ** (4 / 3))
        inside = (s < s_cutoff) & (there > RHO_MIN) & (there < rho_cutoff)
        out[0] += inside
        for k, n in enumerate(EXPONENTS, start=1):
            out[k] += inside * positive**n
    return out / SUBDIVISION**3


def _near_nuclei(density: Density) -> list[tuple]:
    """Slices of the grid, and masks of their nodes that are too close to a nucleus."""
    structure, grid = density.structure, density.grid
    out = []
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        radius = NUCLEUS * covalent_radius(int(z))
        nodes, squared = ball(grid, position, radius, structure.cell is not None)
        for on_grid, in_patch in pieces(nodes, grid.shape):
            out.append((on_grid, squared[in_patch] <= radius**2))
    return out


def _thinned(mask: np.ndarray, most: int) -> np.ndarray:
    """Every k-th node of a mask, at most `most` nodes."""
    nodes = np.flatnonzero(mask)
    return nodes[:: max(1, -(-nodes.size // most))]


def _regions(region: np.ndarray, at: _Nodes, periodic: bool) -> np.ndarray:
    """Number connected regions, cut between strong attraction and strong repulsion."""
    labels, n = connected_regions(region, periodic)
    label = labels.ravel()[at.index]
    lowest, highest = np.zeros(n + 1), np.zeros(n + 1)
    np.minimum.at(lowest, label, at.signed)
    np.maximum.at(highest, label, at.signed)
    mixed = (lowest < -WEAK) & (highest > WEAK)
    mixed[0] = False
    if not mixed.any():
        return labels
    cut = mixed[label]
    labels[mixed[labels]] = 0
    for side in (at.signed < 0, at.signed >= 0):
        part = np.zeros(region.size, dtype=bool)
        part[at.index[cut & side]] = True
        more, m = connected_regions(part.reshape(region.shape), periodic)
        labels[more > 0] = more[more > 0] + n
        n += m
    return labels


def _interactions(
    density: Density, labels: np.ndarray, at: _Nodes, min_volume: float
) -> list[tuple[int, Interaction]]:
    """Describe all relevant regions with their numbers, the strongest attraction first."""
    grid, structure = density.grid, density.structure
    periodic = structure.cell is not None
    n = labels.max(initial=0)
    dropped = set() if periodic else _at_faces(labels)
    owner = labels.ravel()[at.index]
    sums = [np.bincount(owner, share, minlength=n + 1) * grid.dv for share in at.shares]
    signed = np.bincount(owner, at.signed * at.shares[0], minlength=n + 1) * grid.dv
    order = np.lexsort((at.s, owner))
    best = order[np.searchsorted(owner[order], np.arange(n + 1))]
    contacts = Contacts(structure)
    out = []
    for number in range(1, n + 1):
        volume, *integrals = (float(total[number]) for total in sums)
        if volume < min_volume or number in dropped:
            continue
        node = best[number]
        index = np.array(np.unravel_index(at.index[node], grid.shape))
        position = grid.origin + (index / grid.shape) @ grid.cell
        i, j, distance = contacts.pair(position)
        strength = float(at.signed[node])
        interaction = Interaction(
            kind_of_contact(strength, structure.numbers[[i, j]]),
            (i, j),
            distance,
            position,
            strength,
            float(signed[number]) / volume,
            volume,
            tuple(integrals),
        )
        out.append((number, interaction))
    return sorted(out, key=lambda item: item[1].strength)


def _at_faces(labels: np.ndarray) -> set[int]:
    """Numbers of the regions that touch a face of the box."""
    planes = [np.take(labels, i, axis=axis) for axis in range(3) for i in (0, -1)]
    return set(np.unique(np.concatenate([plane.ravel() for plane in planes])).tolist())
