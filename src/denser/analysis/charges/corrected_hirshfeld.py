"""Charges from Hirshfeld's that reproduce dipole moments: CM5 and ADCH.

CM5 (Marenich, Jerome, Cramer and Truhlar, J. Chem. Theory Comput. 8, 527 (2012)) adds a charge for
each pair of atoms, fitted to dipole moments of molecules.

ADCH (Lu and Chen, J. Theor. Comput. Chem. 11, 163 (2012)) replaces the dipole mu_A of each of
Hirshfeld's atoms by charges on A and on the atoms around it, which add up to zero and are as small
as possible, sum_B dq_AB^2 / w_AB (Thole and van Duijnen, Theor. Chim. Acta 63, 209 (1983)):

    q_B = q_B^Hirshfeld + sum_A dq_AB,
    dq_AB = w_AB / W_A (r_AB - <r>_A) . G_A^-1 mu_A,   G_A = <r r^T>_A - <r>_A <r>_A^T,

with r_AB = R_B - R_A, W_A = sum_B w_AB, and <...>_A the mean with the weights w_AB. These fall from
1 at A to 0 where B is as far as the sum of the van der Waals radii (Becke's function, three times).
So the charges have the dipole of the density, but for what they cannot carry: along directions in
which an atom and its neighbours do not differ, such as the normal of a planar molecule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from ase.neighborlist import neighbor_list

from denser.analysis.charges.stockholder import Hirshfeld, error_bars
from denser.atoms.molecules import lone_molecule
from denser.types.errors import InputError
from denser.types.structure import DIPOLE_ORIGIN, Structure
from denser.types.units import BOHR, DEBYE

# CM5: alpha in 1/angstrom, radii in angstrom and D_Z for H to Ar, and the pairs with their own T.
_ALPHA = 2.474
_RADII = (
    np.nan, 0.32, 0.37, 1.30, 0.99, 0.84, 0.75, 0.71, 0.64, 0.60,
    0.62, 1.60, 1.40, 1.24, 1.14, 1.09, 1.04, 1.00, 1.01,
)  # fmt: skip
_D = (
    np.nan, 0.0056, -0.1543, 0.0, 0.0333, -0.1030, -0.0446, -0.1072, -0.0802, -0.0629,
    -0.1088, 0.0184, 0.0, -0.0726, -0.0790, -0.0756, -0.0565, -0.0444, -0.0767,
)  # fmt: skip
_T = {
    (1, 6): 0.0502,
    (1, 7): 0.1747,
    (1, 8): 0.1671,
    (6, 7): 0.0556,
    (6, 8): 0.0234,
    (7, 8): -0.0346,
}

_REACH = 12.0
"""Distance beyond which pairs add less than 1e-8 e to CM5 charges, angstrom."""

_BONDI = {
    1: 1.20, 2: 1.40, 3: 1.82, 4: 1.77, 5: 1.74, 6: 1.70, 7: 1.55, 8: 1.52, 9: 1.47, 10: 1.54,
    11: 2.27, 12: 1.73, 13: 1.73, 14: 2.10, 15: 1.80, 16: 1.80, 17: 1.75, 18: 1.88, 28: 1.63,
    29: 1.40, 30: 1.39, 31: 1.87, 33: 1.85, 34: 1.90, 35: 1.85, 36: 2.02, 46: 1.63, 47: 1.72,
    48: 1.58, 49: 1.93, 50: 2.17, 52: 2.06, 53: 1.98, 54: 2.16,
}  # fmt: skip
"""Van der Waals radii, angstrom (Bondi, J. Phys. Chem. 68, 441 (1964)); others are 2. These are the
radii of Multiwfn, with which ADCH charges are usually computed."""

_SMALLEST = 1e-5
"""Eigenvalues of G (bohr^2) below this are directions in which the atoms carry no dipole."""


@dataclass(frozen=True, eq=False)
class CorrectedHirshfeld:
    """Hirshfeld charges with a correction that gives good dipole moments.

    Parameters
    ----------
    name : str
        "CM5" or "ADCH".
    structure : Structure
    charges : (n_atoms,) float
        e.
    errors : (n_atoms,) float, optional
        As those of the Hirshfeld charges, since the correction of CM5 has none; ADCH has none.
    """

    name: str
    structure: Structure
    charges: np.ndarray
    errors: np.ndarray | None = None

    @property
    def dipole(self) -> np.ndarray | None:
        """Dipole of the charges (3,) about the centre of nuclear charge, e*bohr.

        None in a periodic cell, unless it holds one molecule with vacuum around it.
        """
        structure = self.structure
        if structure.cell is not None:
            alone = lone_molecule(structure)
            if alone is None:
                return None
            structure = replace(structure, positions=alone.positions)
        return self.charges @ (structure.positions - structure.nuclear_charge_centre)

    def to_dict(self) -> dict:
        """Return plain data."""
        return {
            "symbols": self.structure.symbols,
            "charges_e": self.charges.tolist(),
            "charges_error_e": None if self.errors is None else self.errors.tolist(),
            "dipole_debye": None if self.dipole is None else (self.dipole * DEBYE).tolist(),
            "dipole_origin": None if self.dipole is None else DIPOLE_ORIGIN,
        }

    def lines(self) -> list[str]:
        """Readable lines, one per atom."""
        last = "no dipole of the charges (periodic)"
        if self.dipole is not None:
            last = f"dipole of the charges {np.linalg.norm(self.dipole) * DEBYE:.4f} debye"
            last += f" about the {DIPOLE_ORIGIN}" if abs(self.charges.sum()) > 0.5 else ""
        head, bars = error_bars(self.errors, len(self.charges))
        return [
            f"{self.name + ':':13s} charge/e{head}",
            *(
                f"{i:4d} {symbol:2s} {q:13.4f}{bar}"
                for i, (symbol, q, bar) in enumerate(
                    zip(self.structure.symbols, self.charges, bars, strict=True), start=1
                )
            ),
            last,
        ]


def cm5(charges: Hirshfeld, structure: Structure | None = None) -> CorrectedHirshfeld:
    """Charge Model 5 of Marenich, Jerome, Cramer and Truhlar (2012).

    q_k^CM5 = q_k^Hirshfeld + sum_k' T_kk' B_kk',  B = exp(-alpha (r_kk' - R_k - R_k')),
    T_kk' = D_k - D_k' except for the pairs H-C, H-N, H-O, C-N, C-O and N-O, which have their own
    (J. Chem. Theory Comput. 8, 527). Fitted to dipole moments of molecules.

    Parameters
    ----------
    charges : Hirshfeld
    structure : Structure, optional
        By default that of `charges`; periodic images of a periodic structure are included.

    Raises
    ------
    InputError
        An element is beyond Ar, or the number of atoms differs.
    """
    structure = charges.structure if structure is None else structure
    if len(structure) != len(charges.charges):
        raise InputError(
            f"{len(charges.charges)} Hirshfeld charges do not belong to {len(structure)} atoms"
        )
    for i, z in enumerate(structure.numbers):
        if not 1 <= z < len(_D):
            raise InputError(
                f"atom {i + 1} ({structure.symbols[i]}) has no CM5 parameters here; they cover "
                "H to Ar"
            )
    q = charges.charges.copy()
    first, second, distance = neighbor_list("ijd", structure.to_ase(), _REACH)
    z = structure.numbers.tolist()
    transfer = np.array([_transfer(z[k], z[other]) for k, other in zip(first, second, strict=True)])
    radii = np.array(_RADII)[structure.numbers]
    bond = np.exp(-_ALPHA * (distance - radii[first] - radii[second]))
    np.add.at(q, first, transfer * bond)
    return CorrectedHirshfeld("CM5", structure, q, charges.errors)


def _transfer(k: int, other: int) -> float:
    """T of a pair: antisymmetric, so that charge is conserved."""
    if (k, other) in _T:
        return _T[k, other]
    if (other, k) in _T:
        return -_T[other, k]
    return _D[k] - _D[other]


def adch(atoms: Hirshfeld) -> CorrectedHirshfeld:
    """Charges corrected for atomic dipoles (ADCH); see above.

    Parameters
    ----------
    atoms : Hirshfeld
        Charges and dipoles. In a periodic structure images are neighbours too.
    """
    structure = atoms.structure
    radii = np.array([_BONDI.get(int(z), 2.0) for z in structure.numbers])
    first, second, distance, vector = neighbor_list("ijdD", structure.to_ase(), 2 * radii.max())
    alone = np.arange(len(structure))  # an atom is one of those that carry its dipole
    first, second = np.concatenate([alone, first]), np.concatenate([alone, second])
    distance = np.concatenate([np.zeros(len(alone)), distance])
    vector = np.concatenate([np.zeros((len(alone), 3)), vector]) / BOHR
    weights = _weight(distance / (radii[first] + radii[second]))
    charges = atoms.charges.copy()
    order = np.argsort(first, kind="stable")
    for own in np.split(order, np.searchsorted(first[order], alone[1:])):
        w = weights[own] / weights[own].sum()
        r = vector[own] - w @ vector[own]
        sizes, axes = np.linalg.eigh((w * r.T) @ r)
        inverse = np.divide(1, sizes, out=np.zeros(3), where=sizes > _SMALLEST)
        field = axes @ (inverse * (axes.T @ atoms.dipoles[first[own[0]]]))
        np.add.at(charges, second[own], w * (r @ field))
    return CorrectedHirshfeld("ADCH", structure, charges)


def _weight(x: np.ndarray) -> np.ndarray:
    """Becke's function of a distance, as a share of where it ends: from 1 at 0 to 0 at 1."""
    x = 2 * np.minimum(x, 1.0) - 1
    for _ in range(3):
        x = 1.5 * x - 0.5 * x**3
    return 0.5 * (1 - x)
