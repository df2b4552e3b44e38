"""Bonds that the input of a structure names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from denser.types.arrays import read_only, restore
from denser.types.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, eq=False)
class Bonds:
    """Bonds and formal charges of a molecule, as a SMILES or an SDF has them.

    Parameters
    ----------
    pairs : (n_bonds, 2) int
        Atoms, counted from 0.
    orders : (n_bonds,) int
        1, 2 or 3 (Kekule's form).
    formal_charges : (n_atoms,) int
        In units of e.

    Raises
    ------
    InputError
        Shapes or indices that do not fit.
    """

    pairs: np.ndarray
    orders: np.ndarray
    formal_charges: np.ndarray

    def __post_init__(self) -> None:
        pairs = read_only(np.reshape(self.pairs, (-1, 2)), int)
        object.__setattr__(self, "pairs", pairs)
        object.__setattr__(self, "orders", read_only(self.orders, int))
        object.__setattr__(self, "formal_charges", read_only(self.formal_charges, int))
        n_atoms = self.formal_charges.size
        if self.orders.shape != (len(pairs),) or self.formal_charges.ndim != 1:
            raise InputError(f"{len(pairs)} bonds need as many orders, found {self.orders.shape}")
        if pairs.size and not (pairs.min() >= 0 and pairs.max() < n_atoms):
            raise InputError(f"a bond names atom {pairs.max() + 1}, but there are {n_atoms}")

    __setstate__ = restore

    @classmethod
    def from_ase(cls, atoms: Atoms) -> Bonds | None:
        """Bonds that `put_into` stored; None if there are none, or they do not fit the atoms.

        `info["bonds"]` (n_bonds, 3) holds two atoms and the order, and the array `formal_charges`
        the charges.
        """
        rows = np.asarray(atoms.info.get("bonds", np.zeros(0)))
        formal = atoms.arrays.get("formal_charges")
        if formal is None or rows.ndim != 2 or rows.shape[1] != 3:
            return None
        try:
            return cls(rows[:, :2], rows[:, 2], formal)
        except InputError:  # atoms were removed since
            return None

    def put_into(self, atoms: Atoms) -> None:
        """Store them in `ase.Atoms`, where `from_ase` finds them."""
        atoms.info["bonds"] = np.column_stack([self.pairs, self.orders])
        atoms.set_array("formal_charges", np.array(self.formal_charges))
