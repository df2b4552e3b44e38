"""X-ray and electron structure factors of a density.

    F(h) = sum_a f_a T_a exp(2 pi i h.R_a),    T_a = exp(-B_a |h|^2/4) or exp(-2 pi^2 h U_a h)

with the aspherical form factors f_a of `denser.analysis.crystal.form_factors`, so each atom has its
own displacement factor. Resolution, B and U are in angstrom, as in crystallography. The origin of
phases and of fractional coordinates is that of the structure's coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from denser.analysis.crystal.form_factors import (
    electron_form_factor,
    form_factors,
    mott_bethe,
    require_resolution,
    spherical_form_factor,
)
from denser.analysis.crystal.symmetry import miller_indices, operations, site_occupancies
from denser.io import reflections, tsc
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR


@dataclass(frozen=True, eq=False)
class StructureFactors:
    """Structure factors of a unit cell.

    Parameters
    ----------
    hkl : (n, 3) int
        Unique reflections without (0, 0, 0).
    f_calc : (n,) complex
        F(h) = integral rho exp(+2 pi i h.r) dr: electrons, or bohr for electron scattering.
    f_spherical : (n,) complex
        The same from spherical free atoms (the independent-atom model).
    f_000 : float
        F(000): the number of electrons in the cell, for X-rays.
    cell : (3, 3) float
        Rows are the cell vectors, bohr.
    space_group : str
        Hermann-Mauguin symbol.
    d_min : float
        Angstrom.
    kind : str
        "xray" or "electron".
    """

    hkl: np.ndarray
    f_calc: np.ndarray
    f_spherical: np.ndarray
    f_000: float
    cell: np.ndarray
    space_group: str
    d_min: float
    kind: str

    @property
    def d_spacing(self) -> np.ndarray:
        """Resolution of each reflection (n,), angstrom."""
        return BOHR / np.linalg.norm(self.hkl @ np.linalg.inv(self.cell).T, axis=1)

    @property
    def asphericity(self) -> float:
        """R factor of the independent-atom model, sum ||F| - |F_sph|| / sum |F|."""
        amplitude = np.abs(self.f_calc)
        return float(np.abs(amplitude - np.abs(self.f_spherical)).sum() / amplitude.sum())

    def expanded(self) -> tuple[np.ndarray, np.ndarray]:
        """All reflections of the sphere, Friedel mates and (0, 0, 0) included: hkl and F."""
        found, f = [np.zeros((1, 3), int)], [np.array([self.f_000], complex)]
        for rotation, translation in operations(self.space_group):
            turned = self.hkl @ rotation
            value = self.f_calc * np.exp(-2j * np.pi * (self.hkl @ translation))
            found += [turned, -turned]
            f += [value, value.conj()]
        hkl, first = np.unique(np.concatenate(found), axis=0, return_index=True)
        return hkl, np.concatenate(f)[first]

    def write(self, path: str | Path) -> None:
        """Write an MTZ (`.mtz`) or mmCIF (`.cif`, `.ent`) file; electron factors in angstrom."""
        unit = BOHR if self.kind == "electron" else 1.0
        reflections.write(path, self.hkl, self.f_calc * unit, self.cell, self.space_group)

    def to_dict(self) -> dict:
        """Return plain data without the reflections, which are written to files."""
        unit = BOHR if self.kind == "electron" else 1.0
        name = "angstrom" if self.kind == "electron" else "e"
        strong = np.argsort(-np.abs(self.f_calc))[:10]
        return {
            "kind": self.kind,
            "space_group": self.space_group,
            "cell_angstrom": (self.cell * BOHR).tolist(),
            "d_min_angstrom": self.d_min,
            "n_reflections": len(self.hkl),
            f"f_000_{name}": self.f_000 * unit,
            "r_factor_of_spherical_atoms_percent": 100 * self.asphericity,
            "strongest": [
                {
                    "hkl": self.hkl[i].tolist(),
                    "d_angstrom": float(self.d_spacing[i]),
                    f"f_{name}": float(np.abs(self.f_calc[i]) * unit),
                    "phase_degree": float(np.degrees(np.angle(self.f_calc[i]))),
                }
                for i in strong
            ],
        }

    def lines(self) -> list[str]:
        """Readable lines of a report."""
        unit, name = (BOHR, "angstrom") if self.kind == "electron" else (1.0, "e")
        out = [
            f"{'electron' if self.kind == 'electron' else 'X-ray'} structure factors, "
            f"{self.space_group}: {len(self.hkl)} reflections to {self.d_min:.2f} angstrom",
            f"F(000) = {self.f_000 * unit:.3f} {name}; spherical atoms differ by R = "
            f"{100 * self.asphericity:.2f} %",
        ]
        for row in self.to_dict()["strongest"][:5]:
            h, k, l = row["hkl"]  # noqa: E741
            out.append(
                f"  {h:4d}{k:4d}{l:4d}  d {row['d_angstrom']:7.3f} angstrom  |F| "
                f"{row['f_' + name]:9.3f} {name}  phase {row['phase_degree']:7.1f} degrees"
            )
        return out


def structure_factors(
    density: Density,
    d_min: float,
    b_factors: float | np.ndarray = 0.0,
    cell: np.ndarray | None = None,
    space_group: str = "P 1",
    kind: str = "xray",
) -> StructureFactors:
    """Structure factors of the all-electron density to a resolution.

    F(h) = sum_(R,t) exp(2 pi i h.t) sum_a o_a T_a(hR) f_a(hR) exp(2 pi i hR.x_a) over the
    symmetry operations of the space group; o_a = 1/n for an atom that n copies share (a special
    position). Disorder is not treated. For electron structure factors, f_a is replaced by Mott and
    Bethe's 2 (Z_a - f_a)/q^2; their F(000), the mean inner potential, is that of the free atoms.

    Parameters
    ----------
    density : Density
        Valence or all-electron; the contents of an asymmetric unit if there is a space group.
    d_min : float
        Resolution, angstrom.
    b_factors : float, (n_atoms,) or (n_atoms, 3, 3)
        Isotropic B, or Cartesian tensors U, angstrom^2.
    cell : (3, 3) float, optional
        Rows are the vectors of the crystal's cell in the frame of the coordinates, bohr; by
        default the box of the density.
    space_group : str
        Hermann-Mauguin symbol; others than P 1 need gemmi.
    kind : str
        "xray" or "electron".

    Returns
    -------
    StructureFactors

    Raises
    ------
    InputError
        The resolution is too high for the grid, the B factors have another shape, the space
        group is unknown or does not fit the cell, or there is no free atom for an element.
    """
    if kind not in ("xray", "electron"):
        raise InputError(f"kind is 'xray' or 'electron', found {kind!r}")
    if not (np.isfinite(d_min) and d_min > 0):
        raise InputError(f"the resolution d_min must be a positive length, found {d_min}")
    structure = density.structure
    cell = density.grid.cell if cell is None else np.asarray(cell, dtype=float)
    if cell.shape != (3, 3) or abs(np.linalg.det(cell)) < 1e-6:
        raise InputError("the crystal's cell must be three independent vectors in bohr")
    require_resolution(density.grid, np.array([[BOHR / d_min, 0, 0]]))
    unique = miller_indices(cell, d_min, space_group)
    if len(unique) == 0:
        raise InputError(f"the cell has no reflections to {d_min:g} angstrom; use a smaller d_min")
    hkl = np.concatenate([np.zeros((1, 3), int), unique])
    symmetry = operations(space_group)
    h = np.concatenate([hkl @ rotation for rotation, _ in symmetry]) @ np.linalg.inv(cell).T
    q = 2 * np.pi * np.linalg.norm(h, axis=1)
    free = {z: spherical_form_factor(z, q) for z in np.unique(structure.numbers)}
    aspherical, spherical = form_factors(density, h), np.array([free[z] for z in structure.numbers])
    if kind == "electron":
        z, forward = structure.numbers[:, None], q == 0
        mean = [electron_form_factor(z, np.zeros(())) for z in structure.numbers]
        aspherical, spherical = (
            np.where(forward, np.array(mean)[:, None], mott_bethe(z, f, np.where(forward, 1, q)))
            for f in (aspherical, spherical)
        )
    moved = displacement_factors(structure, b_factors, h)
    moved = moved * np.exp(2j * np.pi * structure.positions @ h.T)
    moved *= site_occupancies(structure, cell, space_group)[:, None]
    shift = np.exp(2j * np.pi * np.array([hkl @ translation for _, translation in symmetry]))
    f_calc, f_spherical = (
        ((moved * f).sum(axis=0).reshape(shift.shape) * shift).sum(axis=0)
        for f in (aspherical, spherical)
    )
    return StructureFactors(
        hkl=hkl[1:],
        f_calc=f_calc[1:],
        f_spherical=f_spherical[1:],
        f_000=float(f_calc[0].real),
        cell=cell,
        space_group=space_group,
        d_min=float(d_min),
        kind=kind,
    )


def displacement_factors(
    structure: Structure, b_factors: float | np.ndarray, h: np.ndarray
) -> np.ndarray:
    """exp(-B |h|^2/4) or exp(-2 pi^2 h U h) of each atom (n_atoms, n) at h (n, 3), 1/bohr."""
    n = len(structure)
    b = np.asarray(b_factors, dtype=float)
    h = h / BOHR  # 1/angstrom, as in B and U
    if b.shape in ((), (n,)) and np.isfinite(b).all():
        return np.exp(-np.outer(np.broadcast_to(b, n), (h**2).sum(axis=1)) / 4)
    if b.shape == (n, 3, 3) and np.isfinite(b).all():
        return np.exp(-2 * np.pi**2 * np.einsum("hi,aij,hj->ah", h, b, h, optimize=True))
    raise InputError(
        f"b_factors must be one finite B, {n} of them, or tensors U of shape ({n}, 3, 3), in "
        f"angstrom^2; found shape {b.shape}"
    )


def write_tsc(
    path: str | Path,
    density: Density,
    d_min: float,
    cell: np.ndarray | None = None,
    labels: list[str] | None = None,
) -> None:
    """Write the aspherical form factors of all atoms as a `.tsc` table for refinement.

    All reflections of the sphere to `d_min` (angstrom) are listed, including Friedel mates and
    symmetry equivalents, so the table can be used for any space group of the cell.

    Parameters
    ----------
    path : Path
    density : Density
    d_min : float
        Angstrom.
    cell : (3, 3) float, optional
        The crystal's cell in the frame of the coordinates, bohr; by default the box.
    labels : list of str, optional
        Names of the atoms in the refinement model; by default C1, C2, H1, ... in the order of the
        atoms.

    Raises
    ------
    InputError
        As in `form_factors` and `denser.io.tsc.write`.
    """
    cell = density.grid.cell if cell is None else np.asarray(cell, dtype=float)
    half = miller_indices(cell, d_min)
    factors = form_factors(density, half @ np.linalg.inv(cell).T)
    symbols = density.structure.symbols
    if labels is None:
        labels = [f"{s}{symbols[: i + 1].count(s)}" for i, s in enumerate(symbols)]
    hkl = np.concatenate([half, -half])
    values = np.concatenate([factors, factors.conj()], axis=1)
    tsc.write(path, labels, hkl, values, f"{density.structure.formula}, denser")
