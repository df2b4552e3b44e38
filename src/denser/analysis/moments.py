"""Multipole moments of a molecule's charge, and the extent of its electrons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from ase.data import atomic_masses

from denser.atoms.free_atoms import free_atom, without_core
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE

AXES = "xyz"


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of nuclei and electrons about `origin`, in atomic units.

    Parameters
    ----------
    origin : (3,) float
        Bohr.
    origin_name : str
        Name of the origin.
    charge : float
        Nuclei minus electrons, e.
    dipole : (3,) float
        e bohr.
    quadrupole : (3, 3) float
        Traceless, Buckingham's: sum q (3 x_i x_j - r^2 d_ij)/2, e bohr^2.
    octupole : (3, 3, 3) float
        Traceless: sum q (5 x_i x_j x_k - r^2 (x_i d_jk + x_j d_ik + x_k d_ij))/2, e bohr^3.
    electronic_extent : float
        integral rho r^2 dr, bohr^2.
    electrons : str
        "all" or "valence": the electrons of the extent.
    notes : tuple of str
    """

    origin: np.ndarray
    origin_name: str
    charge: float
    dipole: np.ndarray
    quadrupole: np.ndarray
    octupole: np.ndarray
    electronic_extent: float
    electrons: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict:
        """Plain numbers in debye and angstrom."""
        return {
            "origin_angstrom": (self.origin * BOHR).tolist(),
            "origin": self.origin_name,
            "charge_e": self.charge,
            "dipole_debye": (self.dipole * DEBYE).tolist(),
            "dipole_norm_debye": float(np.linalg.norm(self.dipole) * DEBYE),
            "quadrupole_debye_angstrom": (self.quadrupole * DEBYE * BOHR).tolist(),
            "octupole_debye_angstrom2": (self.octupole * DEBYE * BOHR**2).tolist(),
            "electronic_extent_bohr2": self.electronic_extent,
            "electronic_extent_electrons": self.electrons,
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Lines of a report."""
        d = self.dipole * DEBYE
        q = self.quadrupole * DEBYE * BOHR
        o = self.octupole * DEBYE * BOHR**2
        x, y, z = self.origin * BOHR
        triples = ["xxx", "yyy", "zzz", "xxy", "xxz", "yyx", "yyz", "zzx", "zzy", "xyz"]
        terms = [f"{t} {o[tuple(AXES.index(a) for a in t)]:z.3f}" for t in triples]
        return [
            f"about the {self.origin_name} ({x:z.4f}, {y:z.4f}, {z:z.4f}) angstrom",
            f"charge      {self.charge:z.4f} e",
            f"dipole      {np.linalg.norm(d):z.4f} D   x {d[0]:z.4f}  y {d[1]:z.4f}  z {d[2]:z.4f}",
            f"quadrupole  xx {q[0, 0]:z.3f}  yy {q[1, 1]:z.3f}  zz {q[2, 2]:z.3f}  "
            f"xy {q[0, 1]:z.3f}  xz {q[0, 2]:z.3f}  yz {q[1, 2]:z.3f} D angstrom (traceless)",
            "octupole    " + "  ".join(terms[:5]),
            "            " + "  ".join(terms[5:]) + " D angstrom^2 (traceless)",
            f"<r^2>       {self.electronic_extent:z.3f} bohr^2 ({self.electrons} electrons)",
            *self.notes,
        ]


def moments(density: Density, origin: np.ndarray | str | None = None) -> Moments:
    """Charge, dipole, quadrupole, octupole and <r^2>.

    M = sum_a Z_a f(R_a - O) - integral rho(r) f(r - O) dr with f the polynomials of Buckingham
    (Adv. Chem. Phys. 12, 107, 1967). For a valence density Z_a is the valence charge: a core is
    spherical, so core and nucleus are a point charge in every traceless moment. From an
    all-electron density the free-atom cores are subtracted, because a cusp cannot be integrated on
    a uniform grid; their exact contribution is added to <r^2>.

    In a periodic structure the sums and integrals are over the cell centred on the origin. This is
    right for a molecule in a box; the moments of a crystal depend on this choice.

    Parameters
    ----------
    density : Density
    origin : (3,) float or "charges" or "mass", optional
        Bohr; or the centre of the valence charges (default), or of the atomic masses.

    Raises
    ------
    InputError
        The origin is unknown, or there is no free atom for an element of an all-electron density.
    """
    structure, all_electron = density.structure, density.all_electron
    density = without_core(density)
    charges, grid = density.valence_charges, density.grid
    o, name = _origin(structure, charges, origin)

    inverse = np.linalg.inv(grid.cell)
    centre = (o - grid.origin) @ inverse
    nodes = [np.arange(n) / n - c for n, c in zip(grid.shape, centre, strict=True)]
    atoms = (structure.positions - o) @ inverse
    periodic = structure.cell is not None
    if periodic:
        nodes = [t - np.round(t) for t in nodes]
        atoms = np.where(np.abs(atoms) > 0.5, atoms - np.round(atoms), atoms)
    atoms = atoms @ grid.cell

    n, e1, e2, e3 = _electron_moments(density.values, nodes, grid.cell, grid.dv)
    first = charges @ atoms - e1
    second = np.einsum("a,ai,aj->ij", charges, atoms, atoms) - e2
    third = np.einsum("a,ai,aj,ak->ijk", charges, atoms, atoms, atoms) - e3
    extent = np.trace(e2)
    if all_electron:
        for z, x in zip(structure.numbers, atoms, strict=True):
            n_core, r2_core = _core_moments(int(z))
            extent += n_core * (x @ x) + r2_core

    unit = np.eye(3)
    ray = np.einsum("ijj->i", third)
    trace = sum(np.einsum(rule, ray, unit) for rule in ("i,jk->ijk", "j,ik->ijk", "k,ij->ijk"))
    charge = float(charges.sum() - n)
    notes = []
    if periodic:
        notes.append("periodic: the moments are those of the cell centred on this origin")
    elif abs(structure.charge) > 0:
        notes.append("charged: the dipole and higher moments depend on this origin")
    return Moments(
        origin=o,
        origin_name=name,
        charge=charge,
        dipole=first,
        quadrupole=(3 * second - np.trace(second) * unit) / 2,
        octupole=(5 * third - trace) / 2,
        electronic_extent=float(extent),
        electrons="all" if all_electron else "valence",
        notes=tuple(notes),
    )


def _origin(
    structure: Structure, charges: np.ndarray, origin: np.ndarray | str | None
) -> tuple[np.ndarray, str]:
    """Return the origin of the moments and its name."""
    if origin is None or (isinstance(origin, str) and origin == "charges"):
        return charges @ structure.positions / charges.sum(), "centre of the valence charges"
    if isinstance(origin, str):
        if origin != "mass":
            raise InputError(
                f"the origin of moments is 'charges', 'mass' or three coordinates, found {origin!r}"
            )
        masses = atomic_masses[structure.numbers]
        return masses @ structure.positions / masses.sum(), "centre of mass"
    point = np.asarray(origin, dtype=float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError(f"the origin of moments needs three finite coordinates, found {origin}")
    return point, "given origin"


def _electron_moments(
    values: np.ndarray, nodes: list[np.ndarray], cell: np.ndarray, dv: float
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Integrals of rho times 1, x_i, x_i x_j and x_i x_j x_k over the nodes.

    The monomials are summed in fractions of the cell, axis by axis, and transformed afterwards.
    """
    powers = [t[:, None] ** np.arange(4) for t in nodes]
    partial = np.stack([plane @ powers[2] for plane in values])  # (x, y, c)
    partial = np.einsum("xyc,yb->xbc", partial, powers[1])
    sums = dv * np.einsum("xbc,xa->abc", partial, powers[0])  # of t0^a t1^b t2^c
    index = np.eye(3, dtype=int)
    first = np.array([sums[tuple(i)] for i in index])
    second = np.array([[sums[tuple(i + j)] for j in index] for i in index])
    third = np.array([[[sums[tuple(i + j + k)] for k in index] for j in index] for i in index])
    return (
        float(sums[0, 0, 0]),
        first @ cell,
        cell.T @ second @ cell,
        np.einsum("abc,ai,bj,ck->ijk", third, cell, cell, cell),
    )


@cache
def _core_moments(z: int) -> tuple[float, float]:
    """Electrons of a free atom's core, and their <r^2> about the nucleus, bohr^2."""
    atom = free_atom(z)
    x, w = np.polynomial.legendre.leggauss(200)
    t = (x + 1) / 2
    r, weights = atom.core_radius * t**3, atom.core_radius * 1.5 * t**2 * w
    shell = 4 * np.pi * r**2 * weights * atom.core(r)
    return z - atom.valence, float(shell @ r**2)
