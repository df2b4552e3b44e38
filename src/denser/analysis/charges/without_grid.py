"""Predicted densities without a grid: values, potential, dipole and atomic charges.

A prediction of the default model is a sum of Gaussians (`denser.types.density.Continuous`). Its
potential at the points of a fit is analytic, V(r) = sum_a Z_a / |r - R_a| - v(r), and the integrals
of stockholder's atoms are sums over points around the atoms
(`denser.analysis.charges.mbis.Quadrature`). The definitions are those of
`denser.analysis.charges.stockholder`, `mbis` and `esp_charges`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from denser.analysis.charges.corrected_hirshfeld import CorrectedHirshfeld, adch, cm5
from denser.analysis.charges.esp_charges import chelpg_points, merz_kollman_points
from denser.analysis.charges.esp_fit import EspCharges, Group, fit_charges, fit_resp
from denser.analysis.charges.mbis import MBIS, in_parts, partition, whole
from denser.analysis.charges.quadrature import Quadrature
from denser.analysis.charges.stockholder import Hirshfeld, curve, traceless
from denser.analysis.charges.tkatchenko_scheffler import has_reference, tkatchenko_scheffler
from denser.atoms.free_atoms import pseudo_charges
from denser.atoms.plausible import strange
from denser.fields.windows import compact_groups
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.density import Continuous
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE

POINTS = (30, 23)
"""Radial points per atom, and degree of the Lebedev rule (194 points): the largest errors of
Hirshfeld charges are 2e-4 e, those of MBIS 1e-3 e."""

WHOLE = 200
AT_ONCE = 100
"""Molecules of more atoms are integrated in parts of so many."""

_LEAST_ELECTRONS = 1e-7
"""Where the free atoms together have fewer electrons (density times weight) their density stands
for that of the molecule."""


@dataclass(frozen=True, eq=False)
class Conformer:
    """An isolated molecule and its predicted density, without a grid (`without_grid`).

    Time and memory are linear in the number of atoms, but for charges fitted to the potential.

    Parameters
    ----------
    structure : Structure
    density : Continuous
        Of the valence electrons.
    """

    structure: Structure
    density: Continuous

    def at(self, points: np.ndarray) -> np.ndarray:
        """Density of the valence electrons (n,), e/bohr^3, at points (n, 3), bohr."""
        return self.density.at(_points(points))

    def dipole(self) -> np.ndarray:
        """Dipole moment (3,), e*bohr, about the centre of nuclear charge."""
        structure = self.structure
        origin = structure.nuclear_charge_centre
        nuclei = pseudo_charges(structure) @ (structure.positions - origin)
        return nuclei - self.density.moments(origin)[1]

    def charges(self, kind: str = "resp") -> np.ndarray:
        """Charges (n_atoms,), e, of one of `KINDS`; see `charges_of`."""
        if kind not in KINDS:
            raise InputError(f"unknown kind of charges {kind!r}; known: {', '.join(KINDS)}")
        return charges_of(kind, [self])

    def potential(self, points: np.ndarray) -> np.ndarray:
        """Electrostatic potential (n,), hartree/e, at points (n, 3), bohr, outside the cores."""
        return self.density.potential(_points(points), pseudo_charges(self.structure))

    @cached_property
    def hirshfeld(self) -> Hirshfeld:
        """Hirshfeld's atoms."""
        n_atoms = len(self.structure)
        curves = [curve(int(z)) for z in self.structure.numbers]
        charges, dipoles, seconds = (np.zeros((n_atoms, *[3] * k)) for k in range(3))
        volumes = np.array([own.volume_inside for own in curves])
        free = np.array([own.volume for own in curves])
        for points in self._parts():
            ratio = points.quadrature.weights * points.deformation / points.promolecule
            for atom, centre, index, r in points.quadrature.pairs:
                own = curves[atom]
                share = own.at(r, own.all_electron) * ratio[index]
                charges[atom] -= share.sum()
                x = points.quadrature.points[index] - centre
                dipoles[atom] -= share @ x
                seconds[atom] -= (share * x.T) @ x
                volumes[atom] += share @ r**3
        # What lies beyond all free atoms, and the error of the quadrature, are shared by size.
        residual = float(charges.sum() - self.structure.charge)
        beyond = np.array([curve(int(z)).beyond for z in self.structure.numbers])
        multipoles = self._completed(charges, dipoles, traceless(seconds), beyond)
        return Hirshfeld(self.structure, *multipoles, volumes, volumes / free, residual)

    def _completed(
        self, charges: np.ndarray, dipoles: np.ndarray, quadrupoles: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Multipoles that add up to those of the molecule; `sizes` (n_atoms,) share the rest.

        The rest is what the quadrature misses: the multipoles of a sum of Gaussians are known.
        """
        structure, shares = self.structure, sizes / sizes.sum()
        n, first, second, _ = self.density.moments(np.zeros(3))
        z, x = pseudo_charges(structure), structure.positions
        charges = charges + shares * (z.sum() - n - charges.sum())
        dipole = z @ x - first
        dipoles = dipoles + shares[:, None] * (dipole - charges @ x - dipoles.sum(axis=0))
        quadrupole = traceless((z * x.T) @ x - second)
        crossed = np.einsum("ai,aj->ij", x, dipoles)
        found = traceless((charges * x.T) @ x + crossed + crossed.T) + quadrupoles.sum(axis=0)
        return charges, dipoles, quadrupoles + shares[:, None, None] * (quadrupole - found)

    @cached_property
    def cm5(self) -> CorrectedHirshfeld:
        """Charge Model 5."""
        return cm5(self.hirshfeld)

    @cached_property
    def adch(self) -> CorrectedHirshfeld:
        """Charges corrected for atomic dipoles."""
        return adch(self.hirshfeld)

    @cached_property
    def mbis(self) -> MBIS:
        """Atoms of MBIS."""
        structure = self.structure
        n_electrons = float(structure.numbers.sum() - structure.charge)
        if len(structure) <= WHOLE:
            only = self._points
            parts = whole(only.quadrature, only.deformation + only.promolecule)
        else:
            kept = [
                (p.quadrature.points, p.quadrature.weights, p.deformation + p.promolecule)
                for p in self._parts()
            ]
            parts = in_parts(structure, kept)
        found = partition(structure, parts, n_electrons)
        charges, dipoles, quadrupoles = self._completed(
            found.charges, found.dipoles, found.quadrupoles, np.ones(len(structure))
        )
        return replace(found, charges=charges, dipoles=dipoles, quadrupoles=quadrupoles)

    @cached_property
    def _points(self) -> _Points:
        return _Points.of(self.structure, self.density)

    def _parts(self) -> Iterator[_Points]:
        """All points; those of a large molecule in parts, to bound the memory."""
        if len(self.structure) <= WHOLE:
            yield self._points
            return
        for some in compact_groups(self.structure.positions, AT_ONCE):
            yield _Points.of(self.structure, self.density, some)


def without_grid(
    atoms: Any,
    charge: int | None = None,
    model: str | Path = "default",
    device: str = "auto",
    spin: int | None = None,
) -> Conformer:
    """Predict the density of an isolated molecule without a grid, for large ones.

    Parameters
    ----------
    atoms, charge, model, device, spin
        As of `denser.predict`.

    Returns
    -------
    Conformer
        `at(points)`, `potential(points)`, `dipole()`, `charges(kind)`, `hirshfeld` and `mbis`.

    Raises
    ------
    InputError
        A structure or model that cannot be used, a periodic structure, or a model that gives
        densities on a grid only.

    Warns
    -----
    UserWarning
        As `denser.predict`.
    """
    options = PredictionOptions(charge, model, device=device, spin=spin)
    structure = options.structure_of(atoms)
    if structure.cell is not None:
        raise InputError(
            f"{structure.formula} is periodic, and only molecules are predicted without a grid; "
            "use denser.predict, or remove the cell"
        )
    predictor = Predictor.of(options)
    found, excess = predictor.gaussians(structure)
    doubt = predictor.doubt_of(structure, excess, predictor.wrong_electrons(found, excess))
    for sentence in filter(None, (*strange(structure), doubt)):
        warnings.warn(f"{structure.formula}: {sentence}", stacklevel=2)
    return Conformer(structure, found)


def _points(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(f"points must be finite numbers (n, 3), found shape {points.shape}")
    return points


@dataclass(frozen=True, eq=False)
class _Points:
    """The quadrature with the deformation and the promolecule of all electrons, e/bohr^3."""

    quadrature: Quadrature
    deformation: np.ndarray
    promolecule: np.ndarray

    @classmethod
    def of(
        cls, structure: Structure, density: Continuous, some: np.ndarray | None = None
    ) -> _Points:
        """Of all atoms, or of the points of some of them."""
        quadrature = Quadrature.compact(structure, *POINTS, some)
        promolecule = np.zeros(len(quadrature.points))
        pseudo = np.zeros_like(promolecule)
        for atom, _, index, r in quadrature.pairs:
            free = curve(int(structure.numbers[atom]))
            promolecule[index] += free.at(r, free.all_electron)
            pseudo[index] += free.at(r, free.pseudo)
        used = np.flatnonzero(quadrature.weights * promolecule > _LEAST_ELECTRONS)
        deformation = np.zeros_like(promolecule)
        deformation[used] = density.at(quadrature.points[used]) - pseudo[used]
        return cls(quadrature, deformation, promolecule)


def _mean(values: Callable[[Conformer], np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda conformers: np.mean([values(conformer) for conformer in conformers], axis=0)


def _fitted_at(points_of: Callable[[Structure], np.ndarray]) -> Callable[..., np.ndarray]:
    def fit(conformers: Sequence[Conformer]) -> np.ndarray:
        structures, points, values = _to_fit(conformers, points_of)
        positions = [structure.positions for structure in structures]
        return fit_charges(points, values, positions, structures[0].charge)

    return fit


def _to_fit(
    conformers: Sequence[Conformer], points_of: Callable[[Structure], np.ndarray]
) -> tuple[list[Structure], list[np.ndarray], list[np.ndarray]]:
    structures = [conformer.structure for conformer in conformers]
    points = [points_of(structure) for structure in structures]
    values = [c.potential(p) for c, p in zip(conformers, points, strict=True)]
    return structures, points, values


def resp(conformers: Sequence[Conformer], groups: Sequence[Group] = ()) -> EspCharges:
    """RESP of one or several conformers; see `denser.analysis.charges.esp_charges.resp`.

    Parameters
    ----------
    conformers : sequence of Conformer
    groups : sequence of (atoms, charge)
        As of `denser.analysis.charges.esp_fit.fit_resp`.
    """
    return fit_resp(*_to_fit(conformers, merz_kollman_points), groups=groups)


_OTHERS: dict[str, Callable[..., np.ndarray]] = {
    "mbis": _mean(lambda conformer: conformer.mbis.charges),
    "cm5": _mean(lambda conformer: conformer.cm5.charges),
    "adch": _mean(lambda conformer: conformer.adch.charges),
    "hirshfeld": _mean(lambda conformer: conformer.hirshfeld.charges),
    "chelpg": _fitted_at(chelpg_points),
    "mk": _fitted_at(merz_kollman_points),
}

WITH_MULTIPOLES = ("hirshfeld", "mbis")
"""Kinds whose atoms have multipoles."""


def atomic_properties(
    kinds: Sequence[str], conformers: Sequence[Conformer]
) -> dict[str, np.ndarray]:
    """Multipoles and sizes of the atoms of Hirshfeld and MBIS, by name and unit: (n_atoms,) each.

    Hirshfeld's have Tkatchenko and Scheffler's polarizabilities and C6, if all elements have them.

    With the charges of the same conformer, dipoles and quadrupoles (Buckingham's, traceless) add up
    to those of the predicted density. They turn with the molecule, so that only one conformer has
    them.

    Raises
    ------
    InputError
        Several conformers.
    """
    if len(conformers) > 1:
        raise InputError(
            "atomic multipoles are those of one conformer; give one without --conformers"
        )
    found: dict[str, np.ndarray] = {}
    for kind in WITH_MULTIPOLES:
        if kind not in kinds:
            continue
        atoms: Hirshfeld | MBIS = getattr(conformers[0], kind)
        for i, axis in enumerate("xyz"):
            found[f"{kind}_dipole_{axis}_debye"] = atoms.dipoles[:, i] * DEBYE
        for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
            name = f"{kind}_quadrupole_{'xyz'[i]}{'xyz'[j]}_debye_angstrom"
            found[name] = atoms.quadrupoles[:, i, j] * DEBYE * BOHR
        found[f"{kind}_volume_bohr3"] = atoms.volumes
        if isinstance(atoms, MBIS):
            found["mbis_valence_electrons"] = np.array([n[-1] for n in atoms.populations])
            found["mbis_valence_width_angstrom"] = np.array([s[-1] for s in atoms.widths]) * BOHR
        else:
            found["hirshfeld_volume_ratio"] = atoms.volume_ratios
            if has_reference(atoms.structure):
                dispersion = tkatchenko_scheffler(atoms)
                found["ts_polarizability_bohr3"] = dispersion.polarizabilities
                found["ts_c6_hartree_bohr6"] = np.diag(dispersion.c6)
    return found


FITTED = ("resp", "chelpg", "mk")
"""Kinds that are fitted to the potential."""

KINDS = ("resp", *_OTHERS)
"""Kinds of charges, by their names in `denser.analysis.catalogue`."""


def charges_of(
    kind: str, conformers: Sequence[Conformer], groups: Sequence[Group] = ()
) -> np.ndarray:
    """Charges (n_atoms,), e, whose sum is the charge of the molecule.

    Those that are fitted to the potential are fitted to all conformers together; the others are the
    mean of the conformers. What the quadrature misses of the sum is shared equally.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    conformers : sequence of Conformer
        Of one molecule, atoms in the same order.
    groups : sequence of (atoms, charge)
        For RESP.

    Raises
    ------
    InputError
        An element that this kind does not cover, or conformers of different molecules.
    """
    first = conformers[0].structure
    for i, conformer in enumerate(conformers[1:], start=2):
        other = conformer.structure
        if not np.array_equal(other.numbers, first.numbers) or other.charge != first.charge:
            raise InputError(
                f"conformer {i} is {other.formula} with charge {other.charge} or has its atoms "
                f"in another order than the first, {first.formula} with charge {first.charge}"
            )
    charges = resp(conformers, groups).charges if kind == "resp" else _OTHERS[kind](conformers)
    return charges + (first.charge - charges.sum()) / len(first)
