"""Atomic charges fitted to an electrostatic potential at given points.

sum_i (V_i - sum_j q_j / r_ij)^2 + 2 a sum_j (sqrt(q_j^2 + b^2) - b) -> min,  sum_j q_j = Q

with the hyperbolic restraint on heavy atoms in RESP (Bayly, Cieplak, Cornell and Kollman, J. Phys.
Chem. 97, 10269 (1993)). The paper writes it with a. Its program and all later ones use 2 a, and the
published strengths refer to this form.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.linalg import LinAlgError, LinAlgWarning
from scipy.spatial.distance import cdist

from denser.atoms.radii import bonded_atoms
from denser.types.errors import InputError
from denser.types.structure import DIPOLE_ORIGIN, Structure
from denser.types.units import DEBYE, KCAL_PER_MOL

RESTRAINTS = (0.0005, 0.001)
"""Strength a of the restraint in the two stages of RESP, atomic units."""

Group = tuple[Sequence[int], float]
"""Atoms, counted from 0, and the sum of their charges, e."""

TIGHTNESS = 0.1
"""Width b of the hyperbola, e."""

_AT_ONCE = 8192
"""Points that are held in memory with all their distances from the atoms."""


@dataclass(frozen=True, eq=False)
class EspCharges:
    """Charges fitted to a potential.

    Parameters
    ----------
    method : str
    structure : Structure
        Of the first conformer.
    charges : (n_atoms,) float
        e.
    n_points : int
        Number of points of all conformers.
    rms : float
        Root mean square of V - sum_j q_j/r_ij, hartree/e.
    rrms : float
        The same relative to the root mean square of V.
    """

    method: str
    structure: Structure
    charges: np.ndarray
    n_points: int
    rms: float
    rrms: float

    @property
    def dipole(self) -> np.ndarray:
        """Dipole moment of the charges (3,) about the centre of nuclear charge, e*bohr."""
        structure = self.structure
        return self.charges @ (structure.positions - structure.nuclear_charge_centre)

    def to_dict(self) -> dict:
        """Return plain data."""
        return {
            "method": self.method,
            "charges_e": self.charges.tolist(),
            "n_points": self.n_points,
            "rms_kcal_per_mol_e": self.rms * KCAL_PER_MOL,
            "rrms": self.rrms,
            "dipole_debye": (self.dipole * DEBYE).tolist(),
            "dipole_origin": DIPOLE_ORIGIN,
        }

    def lines(self) -> list[str]:
        """Return one line about the fit, and one line per atom."""
        rows = [
            f"{self.method} charges: {self.n_points} points, error {self.rms * KCAL_PER_MOL:.2f} "
            f"kcal/mol/e ({100 * self.rrms:.1f} %), dipole "
            f"{np.linalg.norm(self.dipole) * DEBYE:.3f} D"
            + (f" about the {DIPOLE_ORIGIN}" if self.structure.charge else "")
        ]
        for i, (symbol, q) in enumerate(zip(self.structure.symbols, self.charges, strict=True)):
            rows.append(f"{i + 1:5d} {symbol:2s} {q:+9.4f} e")
        return rows


MOST = 5000
"""Largest number of atoms of a fit: time grows with the cube, and memory with the square."""


def fit_resp(
    structures: Sequence[Structure],
    points: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    restraints: tuple[float, float] = RESTRAINTS,
    tightness: float = TIGHTNESS,
    groups: Sequence[Group] = (),
) -> EspCharges:
    """Two-stage RESP on given points, with one array of points and of potentials per conformer.

    Parameters
    ----------
    structures : sequence of Structure
        Conformers; the bonds of the first one determine which atoms are equivalent.
    points : sequence of (n, 3) float
        Bohr.
    values : sequence of (n,) float
        hartree/e.
    restraints, tightness
        As in `resp`.
    groups : sequence of (atoms, charge)
        Atoms whose charges add up to a given charge, such as a cap of a residue.
    """
    first = structures[0]
    for i, other in enumerate(structures[1:], start=2):
        if not np.array_equal(other.numbers, first.numbers) or other.charge != first.charge:
            raise InputError(
                f"conformer {i} is {other.formula} with charge {other.charge} or has its atoms "
                f"in another order than the first, {first.formula} with charge {first.charge}"
            )
    positions = [structure.positions for structure in structures]
    heavy = first.numbers > 1
    classes = equivalence_classes(first)
    again = _methyl_and_methylene(first)
    own = len(first) + np.arange(len(first))
    stage_1 = fit_charges(
        points, values, positions, first.charge, restraints[0], tightness, heavy,
        classes=np.where(again, own, classes), groups=groups,
    )  # fmt: skip
    if not again.any():
        return fitted("RESP", structures, points, values, stage_1)
    stage_2 = fit_charges(
        points, values, positions, first.charge, restraints[1], tightness, heavy,
        classes=classes, fixed=np.where(again, np.nan, stage_1), groups=groups,
    )  # fmt: skip
    return fitted("RESP", structures, points, values, stage_2)


def fit_charges(
    points: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    positions: Sequence[np.ndarray],
    total_charge: float = 0.0,
    restraint: float = 0.0,
    tightness: float = TIGHTNESS,
    restrained: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    fixed: np.ndarray | None = None,
    groups: Sequence[Group] = (),
) -> np.ndarray:
    """Charges that reproduce a potential at given points: the fit of all schemes.

    Minimises the sum over conformers of sum_i (V_i - sum_j q_j/r_ij)^2 +
    2 a sum_j (sqrt(q_j^2 + b^2) - b); the minimum is found by repeated linear fits, in which
    the restraint adds a / sqrt(q_j^2 + b^2) to the diagonal (Bayly et al. 1993, equation 13).

    Parameters
    ----------
    points : sequence of (n, 3) float
        Per conformer, bohr.
    values : sequence of (n,) float
        Potential there, hartree/e.
    positions : sequence of (n_atoms, 3) float
        Atoms of each conformer, bohr.
    total_charge : float
        Q, e.
    restraint, tightness : float
        a, atomic units, and b, e.
    restrained : (n_atoms,) bool, optional
        Atoms with a restraint; by default all.
    classes : (n_atoms,) int, optional
        Atoms with the same class number have the same charge; by default all are independent.
    fixed : (n_atoms,) float, optional
        Fixed charges, and nan for charges to be fitted; by default all are fitted.
    groups : sequence of (atoms, charge)
        Atoms whose charges add up to a given charge, e.

    Returns
    -------
    (n_atoms,) float
        e.

    Raises
    ------
    InputError
        The shapes do not match, values are not finite, there are fewer points than charges, or
        the fit does not converge.
    """
    conformers = list(zip(points, values, positions, strict=True))
    n = len(positions[0])
    if n > MOST:
        raise InputError(
            f"charges of {n} atoms are too many to be fitted to the potential around them, which "
            f"depends little on those inside (up to {MOST}); take hirshfeld, cm5 or mbis charges"
        )
    for p, v, r in conformers:
        if np.shape(p) != (len(v), 3) or np.shape(r) != (n, 3):
            raise InputError(
                f"a fit needs points (n, 3), values (n,) and {n} positions, found shapes "
                f"{np.shape(p)}, {np.shape(v)} and {np.shape(r)}"
            )
        if not np.isfinite(v).all():
            raise InputError("the potential to fit must be finite numbers; move the points away")
    matrix, vector = np.zeros((n, n)), np.zeros(n)
    for p, v, r in conformers:
        for i in range(0, len(v), _AT_ONCE):
            inverse = 1 / cdist(p[i : i + _AT_ONCE], r)
            matrix += inverse.T @ inverse
            vector += inverse.T @ v[i : i + _AT_ONCE]
    fixed = np.full(n, np.nan) if fixed is None else np.asarray(fixed, dtype=float)
    free = np.isnan(fixed)
    base = np.where(free, 0.0, fixed)
    labels = np.arange(n) if classes is None else np.asarray(classes)
    _, member = np.unique(labels[free], return_inverse=True)
    spread = np.zeros((n, member.max(initial=-1) + 1))  # q = base + spread x
    spread[np.flatnonzero(free), member] = 1.0
    m = spread.shape[1]
    if sum(len(v) for _, v, _ in conformers) < m:
        raise InputError(f"{m} charges need as many points to be fitted to; use more points")
    strength = np.full(n, restraint * len(conformers))
    if restrained is not None:
        strength = np.where(restrained, strength, 0.0)
    # Lagrange's multipliers of the total charge and of the groups are the last unknowns.
    sums = np.zeros((1 + len(groups), n))
    sums[0] = 1.0
    for row, (atoms, _) in zip(sums[1:], groups, strict=True):
        row[list(atoms)] = 1.0
    targets = np.array([total_charge, *(charge for _, charge in groups)])
    system = np.zeros((m + len(sums), m + len(sums)))
    right = np.zeros(len(system))
    system[m:, :m] = sums @ spread
    system[:m, m:] = system[m:, :m].T
    right[m:] = targets - sums @ base
    normal, target = spread.T @ matrix @ spread, spread.T @ (vector - matrix @ base)
    q = base
    for _ in range(500):
        stiff = strength / np.hypot(q, tightness) if restraint else np.zeros(n)
        system[:m, :m] = normal + np.diag(spread.T @ stiff)  # classes do not overlap
        right[:m] = target - spread.T @ (stiff * base)
        earlier, q = q, base + spread @ _solved(system, right)[:m]
        if not restraint or np.abs(q - earlier).max() < 1e-9:
            return q
    raise InputError(
        f"the restrained charges did not converge (restraint {restraint:g}, tightness "
        f"{tightness:g}); use a larger tightness"
    )


def _solved(system: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution of symmetric equations, the shortest one where there are several."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", LinAlgWarning)
        try:
            return scipy.linalg.solve(system, right, assume_a="sym")
        except (LinAlgError, LinAlgWarning):
            return np.linalg.lstsq(system, right, rcond=None)[0]


def fitted(
    method: str,
    structures: Sequence[Structure],
    points: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    charges: np.ndarray,
) -> EspCharges:
    """Return charges with the residual of the potential."""
    squares = total = 0.0
    for s, p, v in zip(structures, points, values, strict=True):
        for i in range(0, len(v), _AT_ONCE):
            of_charges = (1 / cdist(p[i : i + _AT_ONCE], s.positions)) @ charges
            squares += float(((v[i : i + _AT_ONCE] - of_charges) ** 2).sum())
        total += float((v**2).sum())
    n = sum(len(v) for v in values)
    return EspCharges(
        method, structures[0], charges, n, np.sqrt(squares / n), np.sqrt(squares / total)
    )


# Topology


def equivalence_classes(structure: Structure) -> np.ndarray:
    """Class number of each atom (n_atoms,); topologically equivalent atoms have the same number.

    Colour refinement (Weisfeiler and Leman): first the elements, then repeatedly the colour of an
    atom and those of its neighbours, until the number of colours no longer grows. Orders of bonds
    do not count, so that the two oxygens of a carboxylate are equivalent.
    """
    neighbours = neighbours_of(structure)
    _, colours = np.unique(structure.numbers, return_inverse=True)
    while True:
        seen = [(c, *sorted(colours[n])) for c, n in zip(colours, neighbours, strict=True)]
        order = {key: i for i, key in enumerate(sorted(set(seen)))}
        finer = np.array([order[key] for key in seen])
        if finer.max() == colours.max():
            return finer
        colours = finer


def neighbours_of(structure: Structure) -> list[list[int]]:
    """Bonded atoms of each atom, by the bonds of the input, or else by distance."""
    if structure.bonds is None:
        return bonded_atoms(structure)
    out: list[list[int]] = [[] for _ in range(len(structure))]
    for i, j in structure.bonds.pairs.tolist():
        out[i].append(j)
        out[j].append(i)
    return out


def _methyl_and_methylene(structure: Structure) -> np.ndarray:
    """True for sp3 carbons with two or more hydrogens, and for these (n_atoms,)."""
    neighbours, out = neighbours_of(structure), np.zeros(len(structure), dtype=bool)
    for i in np.flatnonzero(structure.numbers == 6):
        hydrogens = [j for j in neighbours[i] if structure.numbers[j] == 1]
        if len(neighbours[i]) == 4 and len(hydrogens) >= 2:
            out[i] = out[hydrogens] = True
    return out
