"""Molecules and crystals: atoms, positions, charge, spin and cell."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols
from scipy.spatial import cKDTree

from denser.types.arrays import read_only, restore
from denser.types.bonds import Bonds
from denser.types.errors import InputError
from denser.types.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

GHOSTS = "ghosts"
"""Array of `ase.Atoms` (n_atoms,) bool: basis functions at a place without an atom."""

MANY = 400
"""Neighbours of this many atoms are found with a tree, which takes a tenth of the time."""

MIN_DISTANCE = 0.4 / BOHR
"""Two atoms closer than this (bohr) are treated as an error in the input."""

DIPOLE_ORIGIN = "centre of nuclear charge"
"""Origin of all dipole and higher moments: `Structure.nuclear_charge_centre`."""


class _Assumed(int):
    """A spin that nobody stated."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms of a molecule or of a periodic cell.

    Its arrays are copies and read-only.

    Parameters
    ----------
    numbers : (n_atoms,) int
        Atomic numbers; 0 is a ghost, which only files can hold: no model or table covers it.
    positions : (n_atoms, 3) float
        Bohr.
    charge : int
        Total charge in units of e.
    cell : (3, 3) float or None
        Rows are lattice vectors in bohr; None for an isolated molecule.
    bonds : Bonds or None
        Bonds that the input names. Nothing but files of molecules uses them.
    spin : int, optional
        Number of unpaired electrons, 2S as in PySCF. By default the smallest possible one: 0 for
        an even number of electrons, 1 (a doublet) for an odd number; `dataclasses.replace` then
        takes it anew.

    Raises
    ------
    InputError
        No atoms, shapes that do not fit, a coordinate that is not finite, an atomic number
        that is no element, a charge or a spin that is no whole number, a spin that does not fit
        the number of electrons, or two atoms closer than 0.4 angstrom.
    """

    numbers: np.ndarray
    positions: np.ndarray
    charge: int = 0
    cell: np.ndarray | None = None
    bonds: Bonds | None = None
    spin: Any = None  # an int once the structure is made

    def __post_init__(self) -> None:
        numbers = read_only(self.numbers, int)
        positions = read_only(self.positions, float)
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "positions", positions)
        if numbers.ndim != 1 or numbers.size == 0:
            raise InputError("the structure has no atoms")
        if positions.shape != (numbers.size, 3):
            raise InputError(
                f"{numbers.size} atomic numbers need positions of shape ({numbers.size}, 3), "
                f"found {positions.shape}"
            )
        unknown = (numbers < 0) | (numbers >= len(chemical_symbols))
        if unknown.any():
            i = int(np.argmax(unknown))
            raise InputError(f"atom {i + 1} has atomic number {numbers[i]}, which is no element")
        bad = ~np.isfinite(positions).all(axis=1)
        if bad.any():
            i = int(np.argmax(bad))
            raise InputError(
                f"atom {i + 1} ({chemical_symbols[numbers[i]]}) has a coordinate that is not a "
                "finite number"
            )
        object.__setattr__(self, "charge", _whole(self.charge))
        n_electrons = int(numbers.sum()) - self.charge
        if self.spin is None or self.spin_assumed:
            object.__setattr__(self, "spin", _Assumed(n_electrons % 2))
        else:
            object.__setattr__(self, "spin", _fitting_spin(self.spin, n_electrons, self))
        if self.cell is not None:
            cell = read_only(self.cell, float)
            object.__setattr__(self, "cell", cell)
            if cell.shape != (3, 3) or not np.isfinite(cell).all():
                raise InputError("the cell must be three finite lattice vectors")
            if abs(np.linalg.det(cell)) < 1e-6:
                raise InputError("the cell has no volume; give three independent lattice vectors")
        if self.bonds is not None and len(self.bonds.formal_charges) != numbers.size:
            raise InputError(
                f"bonds of {len(self.bonds.formal_charges)} atoms do not fit {numbers.size} atoms"
            )
        self._check_distances()

    __setstate__ = restore

    @property
    def spin_assumed(self) -> bool:
        """Whether nobody stated the spin."""
        return isinstance(self.spin, _Assumed)

    @property
    def isolated(self) -> bool:
        """Whether it stands on its own, without a cell.

        Commands then compute energies, levels and forces without periodic images
        (`denser.dft.scf.mean_field`). Labels for training are periodic all the same.
        """
        return self.cell is None

    def _check_distances(self) -> None:
        """Raise if two atoms (or, in a cell, their images) are too close."""
        if len(self) < 2:
            return
        if self.cell is None or self.is_orthorhombic:
            pairs = self.tree().query_pairs(MIN_DISTANCE, output_type="ndarray")
        else:
            i, j, _ = self.neighbours(MIN_DISTANCE)
            pairs = np.stack([i, j], axis=1)[i < j]
        if len(pairs):
            i, j = pairs[np.lexsort(pairs.T[::-1])][0]
            raise InputError(
                f"atoms {i + 1} ({self.symbols[i]}) and {j + 1} ({self.symbols[j]}) are closer "
                "than 0.4 angstrom; check the coordinates and their unit (angstrom)"
            )

    def neighbours(self, reach: float | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All pairs within a distance, with the images of atoms in a cell of any shape.

        Parameters
        ----------
        reach : float or (n_atoms,) float
            Largest distance, or a radius of each atom whose sum is the largest distance, bohr.

        Returns
        -------
        i, j : (n_pairs,) int
            Each pair is there as (i, j) and as (j, i); several images are several pairs.
        vectors : (n_pairs, 3) float
            From i to j, or to the image of it, bohr.
        """
        from ase.neighborlist import primitive_neighbor_list

        if self.cell is None and len(self) >= MANY:
            radii = np.broadcast_to(0.5 * reach if np.ndim(reach) == 0 else reach, len(self))
            i, j = pairs_within(self.positions, 2 * float(np.max(radii)))
            vectors = self.positions[j] - self.positions[i]
            near = np.linalg.norm(vectors, axis=1) < radii[i] + radii[j]
            return i[near], j[near], vectors[near]
        periodic = self.cell is not None
        cell = np.eye(3) if self.cell is None else self.cell
        i, j, vectors = primitive_neighbor_list("ijD", (periodic,) * 3, cell, self.positions, reach)
        return i, j, vectors

    def tree(self) -> cKDTree:
        """Positions for neighbour searches, bohr; an orthorhombic cell is its period."""
        if self.cell is None or not self.is_orthorhombic:
            return cKDTree(self.positions)
        lengths = np.diag(self.cell)
        wrapped = np.mod(self.positions, lengths)
        return cKDTree(np.where(wrapped >= lengths, 0.0, wrapped), boxsize=lengths)

    def __repr__(self) -> str:
        parts = [self.formula, f"{len(self)} atom{'s' if len(self) > 1 else ''}"]
        if self.charge:
            parts.append(f"charge {self.charge:+d}")
        if self.spin:
            parts.append(f"spin {self.spin}")
        if self.cell is not None:
            lengths = np.linalg.norm(self.cell, axis=1) * BOHR
            parts.append(f"cell {' x '.join(f'{x:.2f}' for x in lengths)} angstrom")
        return f"Structure({', '.join(parts)})"

    def _repr_html_(self) -> str:
        return import_module("denser.viewer.html").structure(self)

    def __len__(self) -> int:
        return self.numbers.size

    @property
    def symbols(self) -> list[str]:
        """Element symbols, one per atom."""
        return [chemical_symbols[z] for z in self.numbers]

    @property
    def formula(self) -> str:
        """Chemical formula in Hill order, such as C2H6O."""
        from ase.formula import Formula

        return str(Formula.from_list(self.symbols).convert("hill"))

    @property
    def nuclear_charge_centre(self) -> np.ndarray:
        """Centre of the nuclear charge (3,), bohr: sum_a Z_a R_a / sum_a Z_a.

        The dipole of an ion and all higher moments depend on the origin. This is the origin of all
        moments in this package (`DIPOLE_ORIGIN`).
        """
        weights = self.numbers if self.numbers.any() else np.ones(len(self))
        return weights @ self.positions / weights.sum()

    @property
    def is_orthorhombic(self) -> bool:
        """True for a cell whose vectors lie along x, y and z; isolated structures are not."""
        if self.cell is None:
            return False
        diagonal = np.diag(self.cell)
        return bool((diagonal > 0).all() and np.allclose(self.cell, np.diag(diagonal), atol=1e-6))

    @classmethod
    def from_ase(
        cls,
        atoms: Atoms,
        charge: int | None = None,
        isolated: bool = False,
        spin: int | None = None,
    ) -> Structure:
        """Take numbers, positions, charge, spin and (if periodic in all directions) the cell.

        `charge` defaults to "charge" or "total_charge" in `atoms.info`, then to the sum of the
        initial charges. With `isolated` the atoms are treated as a molecule and their cell is
        ignored. `spin` defaults to what `atoms.info` ("multiplicity" or "spin") or the initial
        magnetic moments state, unless `charge` is not that of the atoms. Some programs mean the
        multiplicity by "spin": the number of electrons tells which it is.

        Raises
        ------
        InputError
            As in the class; the atoms are periodic in one or two directions only; or some are
            ghosts.
        """
        if GHOSTS in atoms.arrays and atoms.arrays[GHOSTS].any():
            i = int(np.argmax(atoms.arrays[GHOSTS]))
            raise InputError(
                f"atom {i + 1} is a ghost, basis functions of {atoms.symbols[i]} without the atom, "
                "which only denser energy and denser scf take; leave it out"
            )
        info = {str(key).lower(): value for key, value in atoms.info.items()}
        stated = info.get("charge", info.get("total_charge"))
        own = charge is None or charge == (stated or 0)
        charge = stated if charge is None else charge
        if charge is None:
            total = float(np.sum(atoms.get_initial_charges()))
            charge = round(total) if np.isfinite(total) else _whole(total)
        if spin is None and own:
            spin = _stated_spin(atoms, info, _whole(charge))
        if isolated or not atoms.pbc.any():
            cell = None
        elif atoms.pbc.all():
            cell = np.asarray(atoms.cell) / BOHR
        else:
            flags = " ".join("T" if flag else "F" for flag in atoms.pbc)
            raise InputError(
                f"the atoms are periodic in some directions only (pbc = {flags}); for a slab or a "
                "wire set pbc to True in all three, in a cell with vacuum around it, and for a "
                "molecule set pbc to False"
            )
        bonds = Bonds.from_ase(atoms)
        return cls(atoms.numbers, atoms.positions / BOHR, charge, cell, bonds, spin)

    @classmethod
    def of(
        cls,
        atoms: Atoms | Structure,
        charge: int | None = None,
        isolated: bool = False,
        spin: int | None = None,
    ) -> Structure:
        """Return a Structure from either type; every public function calls this first.

        `charge`, `isolated` and `spin` as in `from_ase`.
        """
        if isinstance(atoms, Structure):
            cell = None if isolated else atoms.cell
            same = charge is None or charge == atoms.charge
            stated = spin is None or (spin == atoms.spin and not atoms.spin_assumed)
            if same and cell is atoms.cell and stated:
                return atoms
            charge = atoms.charge if charge is None else charge
            if spin is None and same and not atoms.spin_assumed:
                spin = atoms.spin
            return cls(atoms.numbers, atoms.positions, charge, cell, atoms.bonds, spin)
        if not hasattr(atoms, "get_positions"):
            raise InputError(
                f"expected an ase.Atoms or a denser.Structure, found {type(atoms).__name__}; "
                "read files with ase.io.read"
            )
        return cls.from_ase(atoms, charge, isolated, spin)

    def repeat(self, times: tuple[int, int, int]) -> Structure:
        """Return a supercell of so many cells along each lattice vector, copy by copy.

        Charge and unpaired electrons are those of all copies; bonds are left out.

        Raises
        ------
        InputError
            There is no cell, or a number below 1.
        """
        if self.cell is None or min(times) < 1:
            raise InputError(
                f"a structure {'without' if self.cell is None else 'with'} a cell cannot be "
                f"repeated {' x '.join(map(str, times))} times"
            )
        copies = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), axis=-1)
        shifts = copies.reshape(-1, 3) @ self.cell
        n = len(shifts)
        return Structure(
            np.tile(self.numbers, n),
            (self.positions + shifts[:, None]).reshape(-1, 3),
            n * self.charge,
            self.cell * np.array(times)[:, None],
            spin=None if self.spin_assumed and not self.spin else n * self.spin,
        )

    def to_ase(self) -> Atoms:
        """Return `ase.Atoms` in angstrom, with charge and spin in `info` unless they are zero."""
        from ase import Atoms

        cell = None if self.cell is None else self.cell * BOHR
        atoms = Atoms(self.numbers, self.positions * BOHR, cell=cell, pbc=cell is not None)
        if self.charge:
            atoms.info["charge"] = self.charge
        if self.spin:
            atoms.info["spin"] = self.spin
        if self.bonds is not None:
            self.bonds.put_into(atoms)
        return atoms


_NUMBERS = (int, float, np.integer, np.floating)


def _stated_spin(atoms: Atoms, info: dict[str, Any], charge: int) -> int | None:
    """Unpaired electrons that `info` or else the initial magnetic moments state, if any do."""
    for key in ("multiplicity", "spin_multiplicity"):
        if isinstance(value := info.get(key), _NUMBERS):
            return _whole(value, "multiplicity") - 1
    for key in ("spin", "total_spin"):
        if isinstance(value := info.get(key), _NUMBERS):
            spin = _whole(value, "spin")
            odd = (int(atoms.numbers.sum()) - charge) % 2
            return spin if spin % 2 == odd or spin < 1 else spin - 1
    unpaired = abs(float(np.sum(atoms.get_initial_magnetic_moments())))
    if unpaired < 0.5:
        return None
    spin = round(unpaired) if np.isfinite(unpaired) else -1
    try:
        return _fitting_spin(spin, int(atoms.numbers.sum()) - charge)
    except InputError as error:
        raise InputError(
            f"the initial magnetic moments of {atoms.get_chemical_formula()} add up to "
            f"{unpaired:g}: {error}, or remove them (atoms.set_initial_magnetic_moments())"
        ) from error


def _fitting_spin(spin: int, n_electrons: int, structure: Structure | None = None) -> int:
    """Return a spin as int, or raise InputError if these electrons cannot have it."""
    spin = _whole(spin, "spin")
    name = "the structure" if structure is None else structure.formula
    if spin < 0:
        raise InputError(f"the spin is the number of unpaired electrons, found {spin}")
    if (n_electrons - spin) % 2 or spin > n_electrons:
        of = "" if structure is None or not structure.charge else f" with charge {structure.charge}"
        most = "odd" if n_electrons % 2 else "even"
        why = f"their number must be {most}" if (n_electrons - spin) % 2 else "that is too many"
        raise InputError(
            f"{name}{of} has {n_electrons} electrons, of which {spin} cannot be unpaired ({why}); "
            f"give another spin (such as {n_electrons % 2}) or charge"
        )
    return spin


def _whole(value: Any, name: str = "charge") -> int:
    """Return a charge or a spin as int, or raise InputError."""
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or whole != value:
        what = "number" if name == "multiplicity" else "number of electrons"
        raise InputError(f"the {name} must be a whole {what}, found {value!r}")
    return whole


def pairs_within(positions: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i, j) and (j, i) of points (n, 3) within a distance, in ascending order."""
    pairs = cKDTree(positions).query_pairs(reach, output_type="ndarray")
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    i, j = pairs[np.lexsort(pairs.T[::-1])].T
    return i, j
