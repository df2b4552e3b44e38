"""Multipole moments of a molecule, of the molecules in a cell, and the extent of the electrons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from ase.data import atomic_masses

from denser.analysis.charges.stockholder import hirshfeld
from denser.analysis.uncertainty import dipole_error
from denser.atoms.free_atoms import free_atom, without_core
from denser.atoms.molecules import WholeMolecule, lone_molecule, whole_molecules
from denser.fields.moments import grid_moments
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import DIPOLE_ORIGIN, Structure
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
    dipole_error : float or None
        Of a prediction: what two of three errors do not exceed (`dipole_error`), e bohr.
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
    dipole_error: float | None = None

    def to_dict(self) -> dict:
        """Plain numbers in debye and angstrom."""
        return {
            "origin_angstrom": (self.origin * BOHR).tolist(),
            "origin": self.origin_name,
            "charge_e": self.charge,
            "dipole_debye": (self.dipole * DEBYE).tolist(),
            "dipole_norm_debye": float(np.linalg.norm(self.dipole) * DEBYE),
            "dipole_error_debye": None if self.dipole_error is None else self.dipole_error * DEBYE,
            "quadrupole_debye_angstrom": (self.quadrupole * DEBYE * BOHR).tolist(),
            "octupole_debye_angstrom2": (self.octupole * DEBYE * BOHR**2).tolist(),
            "electronic_extent_bohr2": self.electronic_extent,
            "electronic_extent_kind": self.electrons,
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
            f"dipole      {np.linalg.norm(d):z.4f} D   x {d[0]:z.4f}  y {d[1]:z.4f}  z {d[2]:z.4f}"
            + ("" if self.dipole_error is None else f"  +- {self.dipole_error * DEBYE:.2g} D"),
            f"quadrupole  xx {q[0, 0]:z.3f}  yy {q[1, 1]:z.3f}  zz {q[2, 2]:z.3f}  "
            f"xy {q[0, 1]:z.3f}  xz {q[0, 2]:z.3f}  yz {q[1, 2]:z.3f} D angstrom (traceless)",
            "octupole    " + "  ".join(terms[:5]),
            "            " + "  ".join(terms[5:]) + " D angstrom^2 (traceless)",
            f"<r^2>       {self.electronic_extent:z.3f} bohr^2 ({self.electrons} electrons)",
            *self.notes,
        ]


@dataclass(frozen=True, eq=False)
class MolecularDipoles:
    """Dipoles of the molecules in a periodic cell, each about its own centre of nuclear charge.

    mu = sum_a q_a (R_a - C) + mu_a for a whole molecule, with Hirshfeld's charges and dipoles.

    Parameters
    ----------
    formulas : tuple of str
    atoms : tuple of tuple of int
        Atoms of each molecule, counted from 1.
    charges : (n,) float
        e.
    dipoles : (n, 3) float
        e bohr.
    centres : (n, 3) float
        Bohr.
    notes : tuple of str
    """

    formulas: tuple[str, ...]
    atoms: tuple[tuple[int, ...], ...]
    charges: np.ndarray
    dipoles: np.ndarray
    centres: np.ndarray
    notes: tuple[str, ...]

    def to_dict(self) -> dict:
        """Plain numbers in debye and angstrom."""
        rows = zip(self.formulas, self.atoms, self.charges, self.dipoles, self.centres, strict=True)
        return {
            "molecules": [
                {
                    "formula": formula,
                    "atoms": list(atoms),
                    "charge_e": float(charge),
                    "dipole_debye": (dipole * DEBYE).tolist(),
                    "dipole_norm_debye": float(np.linalg.norm(dipole) * DEBYE),
                    "origin_angstrom": (centre * BOHR).tolist(),
                    "origin": DIPOLE_ORIGIN,
                }
                for formula, atoms, charge, dipole, centre in rows
            ],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Lines of a report."""
        rows = []
        for formula, atoms, charge, dipole in zip(
            self.formulas, self.atoms, self.charges, self.dipoles * DEBYE, strict=True
        ):
            x, y, z = dipole
            rows.append(
                f"{formula:10s} atoms {_listed(atoms):14s} charge {charge:+z.4f} e  dipole "
                f"{np.linalg.norm(dipole):.4f} D   x {x:z.4f}  y {y:z.4f}  z {z:z.4f}"
            )
        if rows:
            rows.append(f"each about the {DIPOLE_ORIGIN} of its molecule")
        return [*rows, *self.notes]


def _listed(atoms: tuple[int, ...]) -> str:
    """Numbers as in `1-3` or `1 5 9`; the first of many only."""
    if atoms == tuple(range(atoms[0], atoms[-1] + 1)) and len(atoms) > 2:
        return f"{atoms[0]}-{atoms[-1]}"
    return " ".join(map(str, atoms[:4])) + (" ..." if len(atoms) > 4 else "")


def moments(density: Density, origin: np.ndarray | str | None = None) -> Moments | MolecularDipoles:
    """Charge, dipole, quadrupole, octupole and <r^2>.

    M = sum_a Z_a f(R_a - O) - integral rho(r) f(r - O) dr with f the polynomials of Buckingham
    (Adv. Chem. Phys. 12, 107, 1967). For a valence density Z_a is the valence charge: a core is
    spherical, so core and nucleus are a point charge in every traceless moment. From an
    all-electron density the free-atom cores are subtracted, because a cusp cannot be integrated on
    a uniform grid; their exact contribution is added to <r^2>.

    The integrals are exact if the density is known between the nodes (`Density.continuous`), and
    otherwise sums over the nodes.

    A periodic cell has no moments: they depend on where it is cut. If there is one molecule in
    it, with vacuum around it, the sums and integrals are over the cell centred on that molecule.
    Otherwise the molecules have dipoles (`MolecularDipoles`).

    Parameters
    ----------
    density : Density
    origin : (3,) float or "charge" or "mass", optional
        Bohr; or the centre of nuclear charge (default), or of the atomic masses. Not used for
        several molecules.

    Raises
    ------
    InputError
        The origin is unknown, or there is no free atom for an element of an all-electron density.
    """
    structure, all_electron = density.structure, density.all_electron
    if structure.cell is not None:
        alone = lone_molecule(structure)
        if alone is None:
            return _molecular_dipoles(density, whole_molecules(structure))
        structure = replace(structure, positions=alone.positions)
    error = dipole_error(density)
    density = without_core(density)
    charges, grid = density.valence_charges, density.grid
    o, name = _origin(structure, origin)

    inverse = np.linalg.inv(grid.cell)
    centre = (o - grid.origin) @ inverse
    nodes = [np.arange(n) / n - c for n, c in zip(grid.shape, centre, strict=True)]
    atoms = (structure.positions - o) @ inverse
    periodic = structure.cell is not None
    if periodic:
        nodes = [t - np.round(t) for t in nodes]
    atoms = atoms @ grid.cell

    n, e1, e2, e3 = _electrons(density, o, nodes)
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
        notes.append("periodic: those of the one molecule, which has vacuum around it")
    elif abs(structure.charge) > 0:
        notes.append("charged: the dipole and higher moments depend on this origin")
    if not periodic and _source(density) == "coarse grid":
        notes.append(
            f"inaccurate: sums over nodes {density.grid.spacing.max() * BOHR:.2f} angstrom apart"
        )
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
        dipole_error=error,
    )


def dipole(density: Density) -> np.ndarray | None:
    """Dipole moment (3,) about the centre of nuclear charge, e bohr, of a molecule.

    Isolated, or alone in a periodic box with vacuum around it; None for any other cell.
    """
    if density.structure.cell is None:
        return density.dipole()
    if lone_molecule(density.structure) is None:
        return None
    found = moments(density)
    assert isinstance(found, Moments)
    return found.dipole


def dipole_record(density: Density) -> dict:
    """Dipole for a record in JSON: debye, its origin, and where it comes from.

    "Gaussians" are exact, "grid" and "coarse grid" are sums over nodes. All are None for a
    periodic cell, unless it holds one molecule alone. The error is that of `dipole_error`.
    """
    return record_of_dipole(dipole(density), _source(density), dipole_error(density))


def record_of_dipole(moment: np.ndarray | None, source: str, error: float | None = None) -> dict:
    """The same of a dipole (3,) in e*bohr that is known already."""
    keys = ("dipole_debye", "dipole_norm_debye", "dipole_error_debye", "dipole_origin")
    if moment is None:
        return dict.fromkeys((*keys, "dipole_from"))
    return {
        "dipole_debye": [round(float(d), 4) for d in moment * DEBYE],
        "dipole_norm_debye": round(float(np.linalg.norm(moment * DEBYE)), 4),
        "dipole_error_debye": None if error is None else round(error * DEBYE, 4),
        "dipole_origin": DIPOLE_ORIGIN,
        "dipole_from": source,
    }


def _source(density: Density) -> str:
    """Where the moments come from."""
    if density.continuous is not None and density.structure.cell is None:
        return "Gaussians"
    return "coarse grid" if density.grid.is_coarse else "grid"


def dipole_text(record: dict, decimals: int = 2) -> str:
    """The same in words; the origin matters to ions only. `record` also has the `charge`."""
    if record["dipole_norm_debye"] is None:
        return "no dipole (periodic)"
    about = f" about the {DIPOLE_ORIGIN}" if record["charge"] else ""
    if record["dipole_from"] == "coarse grid":
        about += " (inaccurate: coarse grid)"
    error = record["dipole_error_debye"]
    bar = "" if error is None else f" +- {error:.2g}"
    return f"dipole {record['dipole_norm_debye']:.{decimals}f}{bar} D{about}"


def _electrons(
    density: Density, origin: np.ndarray, nodes: list[np.ndarray]
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Moments of the electrons about `origin`, exact or by sums over these nodes."""
    if density.continuous is not None and density.structure.cell is None:
        return density.continuous.moments(origin)
    return grid_moments(density.values, nodes, density.grid.cell, density.grid.dv)


def _molecular_dipoles(density: Density, molecules: list[WholeMolecule]) -> MolecularDipoles:
    structure = density.structure
    none = MolecularDipoles((), (), np.empty(0), np.empty((0, 3)), np.empty((0, 3)), ())
    if any(molecule.endless for molecule in molecules):
        return replace(none, notes=("no dipole: atoms are bonded through the whole cell",))
    try:
        atoms = hirshfeld(density)
    except InputError as error:
        return replace(none, notes=(f"no dipoles of molecules: {error}",))
    formulas, charges, dipoles, centres = [], [], [], []
    for molecule in molecules:
        i, x = molecule.atoms, molecule.positions
        own = Structure(structure.numbers[i], x)
        formulas.append(own.formula)
        centres.append(own.nuclear_charge_centre)
        charges.append(atoms.charges[i].sum())
        dipoles.append(atoms.charges[i] @ (x - centres[-1]) + atoms.dipoles[i].sum(axis=0))
    return MolecularDipoles(
        tuple(formulas),
        tuple(tuple((molecule.atoms + 1).tolist()) for molecule in molecules),
        np.array(charges),
        np.array(dipoles),
        np.array(centres),
        ("periodic: a cell has no dipole; electrons are shared as in Hirshfeld's charges",),
    )


def _origin(structure: Structure, origin: np.ndarray | str | None) -> tuple[np.ndarray, str]:
    """Return the origin of the moments and its name."""
    if origin is None or (isinstance(origin, str) and origin == "charge"):
        return structure.nuclear_charge_centre, DIPOLE_ORIGIN
    if isinstance(origin, str):
        if origin != "mass":
            raise InputError(
                f"the origin of moments is 'charge', 'mass' or three coordinates, found {origin!r}"
            )
        masses = atomic_masses[structure.numbers]
        return masses @ structure.positions / masses.sum(), "centre of mass"
    point = np.asarray(origin, dtype=float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError(f"the origin of moments needs three finite coordinates, found {origin}")
    return point, "given origin"


@cache
def _core_moments(z: int) -> tuple[float, float]:
    """Electrons of a free atom's core, and their <r^2> about the nucleus, bohr^2."""
    atom = free_atom(z)
    x, w = np.polynomial.legendre.leggauss(200)
    t = (x + 1) / 2
    r, weights = atom.core_radius * t**3, atom.core_radius * 1.5 * t**2 * w
    shell = 4 * np.pi * r**2 * weights * atom.core(r)
    return z - atom.valence, float(shell @ r**2)
