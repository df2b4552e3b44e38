"""Energy and orbitals of one Kohn-Sham calculation, kept as small as the page needs them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from denser.density import Density, Field
from denser.errors import InputError
from denser.recipe import Recipe
from denser.units import DEBYE, HARTREE
from denser.viewer.fields import reduced

STEPS = 2
MAX_ATOMS = 60
"""Larger molecules would keep the page waiting for minutes: `denser energy` is for them."""

FRONTIER = ("homo-2", "homo-1", "homo", "lumo", "lumo+1", "lumo+2")


@dataclass(frozen=True, eq=False)
class KohnSham:
    """What is left of `denser.dft.refine.refine`.

    Parameters
    ----------
    density : Density
        After the steps.
    e_tot, uncertainty : float
        Hartree; nine errors in ten stay below the latter.
    mo_energy, mo_occ, mo_coeff : (nao,), (nao,), (nao, nao) float
    cell : pyscf.pbc.gto.Cell
    seconds : float
    """

    density: Density
    e_tot: float
    uncertainty: float
    mo_energy: np.ndarray
    mo_occ: np.ndarray
    mo_coeff: np.ndarray
    cell: Any
    seconds: float

    @property
    def n_occupied(self) -> int:
        """Number of doubly occupied orbitals."""
        return int(np.count_nonzero(self.mo_occ))

    def names(self) -> list[str]:
        """Frontier orbitals that exist."""
        return [name for name in FRONTIER if 0 <= self.index(name) < len(self.mo_occ)]

    def index(self, name: str) -> int:
        """Position of "homo-1", "lumo+2", ... among the orbitals."""
        match = re.fullmatch(r"(homo(?:-\d+)?|lumo(?:\+\d+)?)", name)
        if match is None:
            raise InputError(f"unknown orbital {name!r}; use homo, lumo, homo-1, lumo+1, ...")
        first = self.n_occupied - 1 if name.startswith("homo") else self.n_occupied
        return first + int(name[4:] or 0)

    def orbital(self, name: str) -> Field:
        """Values of an orbital, bohr^-3/2, on every second or third node."""
        from denser.dft.orbitals import orbital

        if name not in self.names():
            raise InputError(f"there is no orbital {name}")
        mo = self.mo_coeff[:, self.index(name)]
        return orbital(self.cell, mo, reduced(self.density, 0.36))

    def numbers(self) -> list[dict]:
        """Rows for the page."""
        homo, lumo = self.mo_energy[self.n_occupied - 1 : self.n_occupied + 1] * HARTREE
        dipole = float(np.linalg.norm(self.density.dipole())) * DEBYE
        rows = [
            ("energy_hartree", "Energy", f"{self.e_tot:.6f}", "hartree"),
            (
                "uncertainty_mev",
                "Its uncertainty",
                f"{1000 * self.uncertainty * HARTREE:.1f}",
                "meV",
            ),
            ("homo_ev", "HOMO", f"{homo:.2f}", "eV"),
            ("lumo_ev", "LUMO", f"{lumo:.2f}", "eV"),
            ("gap_ev", "Gap", f"{lumo - homo:.2f}", "eV"),
            ("dipole_one_step_debye", "Dipole", f"{dipole:.3f}", "D"),
        ]
        return [
            {"key": k, "label": label, "value": v, "unit": u, "source": "one step"}
            for k, label, v, u in rows
        ]


def kohn_sham(density: Density, recipe: Recipe) -> KohnSham:
    """Two Kohn-Sham steps from a density.

    Raises
    ------
    InputError
        PySCF cannot treat it, or it is larger than the page would wait for.
    """
    if len(density.structure) > MAX_ATOMS:
        raise InputError(
            f"a one-step calculation of {len(density.structure)} atoms takes minutes; run "
            "denser energy on the file instead"
        )
    if density.all_electron:
        raise InputError("a one-step calculation begins at a valence density, not at all electrons")
    from denser.dft.refine import refine

    start = time.perf_counter()
    result = refine(density, recipe, STEPS)
    return KohnSham(
        result.density, float(result.e_tot), float(result.uncertainty), result.mo_energy,
        result.mo_occ, result.mo_coeff, result.steps[-1].mf.cell, time.perf_counter() - start,
    )  # fmt: skip
