"""Energy and orbitals of one Kohn-Sham calculation, reduced to the needs of the page."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from denser.analysis.moments import dipole
from denser.atoms.sad import require_closed_shell
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.units import DEBYE, HARTREE

if TYPE_CHECKING:
    from denser.dft.refine import Refined

STEPS = 2
MAX_ATOMS = 60
"""Larger molecules would take minutes; use `denser energy` for them."""

FRONTIER = ("homo-2", "homo-1", "homo", "lumo", "lumo+1", "lumo+2")


SPACING = 0.42
"""Spacing of the grid for orbitals, bohr."""

_BLOCK = 40_000


@dataclass(frozen=True, eq=False)
class KohnSham:
    """The parts of a result of `denser.dft.refine.refine` that the page needs.

    Parameters
    ----------
    density : Density
        Density after the steps.
    e_tot, uncertainty : float
        Hartree; nine of ten errors are below the uncertainty.
    homo, lumo : float
        Hartree.
    orbitals : dict
        Frontier orbitals by name ("homo-1", "lumo"), Fields in bohr^-3/2.
    seconds : float
    """

    density: Density
    e_tot: float
    uncertainty: float
    homo: float
    lumo: float
    orbitals: dict[str, Field]
    seconds: float

    def orbital(self, name: str) -> Field:
        """Return one of the frontier orbitals."""
        if name not in self.orbitals:
            raise InputError(f"there is no orbital {name}; there are {', '.join(self.orbitals)}")
        return self.orbitals[name]

    def numbers(self) -> list[dict]:
        """Rows for the page."""
        homo, lumo = self.homo * HARTREE, self.lumo * HARTREE
        rows = [
            ("e_tot_hartree", "Energy", f"{self.e_tot:.6f}", "hartree"),
            (
                "uncertainty_mev",
                "Its uncertainty",
                f"{1000 * self.uncertainty * HARTREE:.1f}",
                "meV",
            ),
            ("homo_ev", "HOMO", f"{homo:.2f}", "eV"),
            ("lumo_ev", "LUMO", f"{lumo:.2f}", "eV"),
            ("gap_ev", "Gap", f"{lumo - homo:.2f}", "eV"),
        ]
        if (moment := dipole(self.density)) is not None:
            size = float(np.linalg.norm(moment)) * DEBYE
            rows.append(("dipole_one_step_debye", "Dipole", f"{size:.3f}", "D"))
        return [
            {"key": k, "label": label, "value": v, "unit": u, "source": "one step"}
            for k, label, v, u in rows
        ]


def kohn_sham(density: Density, recipe: Recipe) -> KohnSham:
    """Two Kohn-Sham steps from a density.

    Raises
    ------
    InputError
        PySCF cannot treat the molecule, or it is too large for the page.
    """
    if len(density.structure) > MAX_ATOMS:
        raise InputError(
            f"a one-step calculation of {len(density.structure)} atoms takes minutes; run "
            "denser energy on the file instead"
        )
    if density.all_electron:
        raise InputError("a one-step calculation needs a valence density, not an all-electron one")
    require_closed_shell(density.structure, "orbitals on the page")
    from denser.dft.refine import refine

    start = time.perf_counter()
    result = refine(density, recipe, STEPS, isolated=density.structure.isolated)
    orbitals = _frontier(result)
    return KohnSham(
        result.density, float(result.e_tot), float(result.uncertainty), result.homo, result.lumo,
        orbitals, time.perf_counter() - start,
    )  # fmt: skip


def _frontier(result: Refined) -> dict[str, Field]:
    """Frontier orbitals psi(r) = sum_p c_p phi_p(r); the basis functions are evaluated once."""
    homo = int(np.count_nonzero(result.mo_occ)) - 1
    index = {name: homo + k for k, name in enumerate(FRONTIER, start=-2)}
    index = {name: k for name, k in index.items() if 0 <= k < len(result.mo_occ)}
    box = result.density.grid
    shape = tuple(np.ceil(np.linalg.norm(box.cell, axis=1) / SPACING).astype(int))
    grid = Grid(box.origin, box.cell, shape)
    cell, mo = result.steps[-1].mf.cell, result.mo_coeff[:, list(index.values())]
    points = (grid.points() - grid.origin).reshape(-1, 3)
    values = np.empty((len(index), grid.size), dtype=np.float32)
    for i in range(0, grid.size, _BLOCK):
        part = slice(i, i + _BLOCK)
        values[:, part] = (np.asarray(cell.pbc_eval_gto("GTOval_sph", points[part])) @ mo).T
    return {
        name: Field(grid, v.reshape(shape), "bohr^-3/2")
        for name, v in zip(index, values, strict=True)
    }
