"""Electrons in real time: the time-dependent Kohn-Sham equations of a molecule in a field.

i d/dt c = [F(t) + E(t) e.r] c,   F = T + V_pp + v_H[rho(t)] + v_xc[rho(t)],

for the coefficients c of the occupied orbitals in the orthonormal basis of the orbitals of the
ground state. Exchange and correlation are adiabatic. F is real, because the basis is, and depends
on the real part of the density matrix alone. A step of length h is the exponential midpoint rule,
Magnus's expansion to second order (Castro, Marques and Rubio, J. Chem. Phys. 121, 3425 (2004)):

c(t + h) = exp(-i h [ (F(t) + F(t + h)) / 2 + E(t + h/2) e.r ]) c(t).

F(t + h) is extrapolated from the last steps (predictor), and then that of the result (corrector),
until it no longer changes. The exponential is that of the eigenvectors, so the norm is conserved
exactly; the rule is symmetric in time, so that the energy does not drift.

Energy and work of the field, W = integral E(t) dmu/dt dt, must balance. If not, the time step is
too long.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from pyscf import dft

from denser.dft.external_field import Kick, Pulse
from denser.dft.kohn_sham_matrix import KohnShamMatrix
from denser.dft.molecular import MolecularResult, molecular_mean_field
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import FEMTOSECOND, HARTREE

LONGEST_STEP = 0.05 / FEMTOSECOND
"""Atomic units of time; the phase of a valence electron of 30 eV turns by 2.3 in it."""

STATIONARY = 1e-11
"""Convergence of the ground state, hartree: without a field the dipole of water then moves by less
than 1e-8 e bohr."""

_MOST_CORRECTIONS = 12

_SAME = 1e-3
"""Change of F in the last correction, relative to its change since the start. With this the energy
of water balances the work of a kick to 3e-5 in 0.6 fs, with steps of 5 as and three matrices in
each."""

_NOISE = 1e-9
"""Changes of F below this are those of rounding, hartree."""

_PREDICTORS = ((1.0,), (2.0, -1.0), (3.0, -3.0, 1.0))
"""Weights of the last matrices, the newest first, in an extrapolation by one step."""

_UNBALANCED, _LEAST_UNBALANCED = 0.05, 1e-8
"""Largest difference of energy and work: relative to the largest energy that the electrons have
taken up so far, or hartree, whichever is larger."""

_BLOCK = 20_000


class Lost(InputError):
    """A propagation that has lost norm or energy, or does not converge."""


@dataclass(frozen=True, eq=False)
class GroundState:
    """What a propagation starts from.

    Parameters
    ----------
    structure : Structure
    basis : str
    recipe : Recipe
    mo_coeff : (1 or 2, nao, nmo) float
        Orbitals of all electrons, or of both spins.
    mo_energy : (1 or 2, nmo) float
        Hartree.
    mo_occ : (1 or 2, nmo) float
    """

    structure: Structure
    basis: str
    recipe: Recipe
    mo_coeff: np.ndarray
    mo_energy: np.ndarray
    mo_occ: np.ndarray

    @classmethod
    def of(cls, structure: Structure, recipe: Recipe, result: MolecularResult) -> GroundState:
        """That of a calculation, which should be converged to `STATIONARY`."""
        orbitals = np.asarray(result.mo_coeff)
        levels = [
            np.asarray(a).reshape(-1, orbitals.shape[-1]) for a in (result.mo_energy, result.mo_occ)
        ]
        return cls(
            structure, result.basis, recipe, orbitals.reshape(-1, *orbitals.shape[-2:]), *levels
        )


class Operators:
    """Operators of a molecule in the orbitals of its ground state.

    Parameters
    ----------
    ground : GroundState
    mf : pyscf.dft.rks.RKS or pyscf.dft.uks.UKS, optional
        Of `molecular_mean_field`, made if not given.
    """

    def __init__(self, ground: GroundState, mf: dft.rks.RKS | None = None) -> None:
        self.ground = ground
        self.mf = mf or molecular_mean_field(ground.structure, ground.basis, ground.recipe)
        self.matrix = KohnShamMatrix(self.mf)
        self._x = ground.mo_coeff
        mol = self.mf.mol
        with mol.with_common_origin(ground.structure.nuclear_charge_centre):
            position = mol.intor_symmetric("int1e_r", comp=3)
        self.position = np.array([self._in_orbitals(position, x) for x in self._x])
        self.occupation = 3.0 - len(self._x)  # electrons in an orbital
        self.n_electrons = float(ground.mo_occ.sum())

    @staticmethod
    def _in_orbitals(matrices: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.einsum("pi,...pq,qj->...ij", x, matrices, x, optimize=True)

    def density_matrix(self, orbitals: list[np.ndarray]) -> np.ndarray:
        """Real part of the density matrices (1 or 2, nao, nao) of orbitals (nmo, n) each."""
        dm = []
        for x, c in zip(self._x, orbitals, strict=True):
            ao = x @ c
            dm.append(self.occupation * (ao.real @ ao.real.T + ao.imag @ ao.imag.T))
        return np.array(dm)

    def matrices(self, orbitals: list[np.ndarray]) -> tuple[np.ndarray, float]:
        """F (1 or 2, nmo, nmo) of orbitals, and their energy without a field, hartree."""
        f, energy = self.matrix(self.density_matrix(orbitals))
        return np.array([self._in_orbitals(a, x) for a, x in zip(f, self._x, strict=True)]), energy

    def dipole(self, orbitals: list[np.ndarray]) -> np.ndarray:
        """Dipole moment (3,) about the centre of nuclear charge, e bohr."""
        pairs = zip(self.position, orbitals, strict=True)
        return -self.occupation * sum(
            np.einsum("pi,xpq,qi->x", c.conj(), r, c).real for r, c in pairs
        )

    def electrons(self, orbitals: list[np.ndarray]) -> float:
        """Norm of the orbitals: the number of electrons."""
        return self.occupation * float(sum(np.vdot(c, c).real for c in orbitals))

    def on_points(self, dm: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Density (n,), e/bohr^3, of a density matrix (nao, nao) at points (n, 3), bohr."""
        values = np.empty(len(points))
        for start in range(0, len(points), _BLOCK):
            some = slice(start, start + _BLOCK)
            ao = self.mf.mol.eval_gto("GTOval_sph", points[some])
            values[some] = np.einsum("gp,gp->g", ao @ dm, ao)
        return values

    def occupied(self) -> list[np.ndarray]:
        """The occupied orbitals of the ground state (nmo, n)."""
        return [np.eye(len(occ), dtype=complex)[:, occ > 0] for occ in self.ground.mo_occ]

    def sum_rule(self) -> np.ndarray:
        """Sum of the oscillator strengths of fields along x, y, z in this basis (3,).

        <[r, [F, r]]> = 2 sum_ia (e_a - e_i) r_ia^2, the number of electrons in a complete basis
        without non-local pseudopotentials (Thomas, Reiche and Kuhn). Interaction of the electrons
        does not change it.
        """
        total = np.zeros(3)
        for e, n, r in zip(self.ground.mo_energy, self.ground.mo_occ, self.position, strict=True):
            full = n > 0
            gaps = e[~full][None, :] - e[full][:, None]
            total += (
                2 * self.occupation * np.einsum("ia,xia->x", gaps, r[:, full][:, :, ~full] ** 2)
            )
        return total


@dataclass(eq=False)
class PropagationState:
    """Where a propagation is, and its record so far.

    Parameters
    ----------
    orbitals : list of (nmo, n) complex
        Occupied orbitals of all electrons, or of both spins.
    matrices : list of (1 or 2, nmo, nmo) float
        F now and at the last steps, the newest first.
    reference : (1 or 2, nmo, nmo) float
        F before the field.
    work : float
        Of the field on the electrons, hartree.
    dipoles : list of (3,) float
        At all times so far, the start included; about the centre of nuclear charge, e bohr.
    energies : list of float
        Without the field, hartree; the first is that before the field.
    works : list of float
        Hartree.
    """

    orbitals: list[np.ndarray]
    matrices: list[np.ndarray]
    reference: np.ndarray
    work: float
    dipoles: list[np.ndarray] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    works: list[float] = field(default_factory=list)
    matrices_made: int = 0

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.dipoles) - 1


class Propagation:
    """A propagation in steps of one length.

    Parameters
    ----------
    molecule : Operators
    external : Kick or Pulse
    direction : (3,) float
        Unit vector of the field.
    step : float
        Atomic units of time.
    state : PropagationState, optional
        Of an earlier run, to continue from; by default the ground state.

    Raises
    ------
    InputError
        The step is not between 0 and `LONGEST_STEP`, or does not resolve the pulse.
    """

    def __init__(
        self,
        molecule: Operators,
        external: Kick | Pulse,
        direction: np.ndarray,
        step: float,
        state: PropagationState | None = None,
    ) -> None:
        check_step(step, external)
        self.molecule, self.external, self.step = molecule, external, step
        self.direction = np.asarray(direction, dtype=float)
        self.along = np.einsum("x,sxpq->spq", self.direction, molecule.position)
        self.state = state or self._start()
        self._most = float(np.abs(np.array(self.state.energies) - self.before).max())

    def _start(self) -> PropagationState:
        orbitals = self.molecule.occupied()
        reference, before = self.molecule.matrices(orbitals)
        f, energy, made = reference, before, 1
        if isinstance(self.external, Kick) and self.external.strength:
            orbitals = [
                _turned(r, c, self.external.strength)
                for r, c in zip(self.along, orbitals, strict=True)
            ]
            f, energy = self.molecule.matrices(orbitals)
            made = 2
        # A kick does its work at once.
        work = energy - before
        return PropagationState(
            orbitals, [f], reference, work, [self.molecule.dipole(orbitals)], [energy], [work], made
        )

    @property
    def time(self) -> float:
        """Atomic units."""
        return self.state.steps * self.step

    @property
    def absorbed(self) -> float:
        """Energy that the electrons have taken up, hartree."""
        return self.state.energies[-1] - self.before

    @property
    def before(self) -> float:
        """Energy before the field, hartree."""
        return self.state.energies[0] - self.state.works[0]

    @property
    def unbalanced(self) -> float:
        """Energy taken up minus work of the field, hartree."""
        return self.absorbed - self.state.work

    def advance(self) -> None:
        """One step.

        Raises
        ------
        Lost
            The corrections do not converge, or the energy is not the work of the field.
        """
        state, h = self.state, self.step
        weights = _PREDICTORS[min(len(state.matrices), len(_PREDICTORS)) - 1]
        now = state.matrices[0]
        new = sum(w * f for w, f in zip(weights, state.matrices, strict=False))
        amplitude = self.external.at(self.time + 0.5 * h)
        for _ in range(_MOST_CORRECTIONS):
            middle = 0.5 * (now + new) + amplitude * self.along
            orbitals = [_turned(f, c, h) for f, c in zip(middle, state.orbitals, strict=True)]
            made, energy = self.molecule.matrices(orbitals)
            state.matrices_made += 1
            # F of a spin without electrons is noise, since PBE divides by its density
            held = [s for s, c in enumerate(orbitals) if c.shape[1]]
            error = float(np.abs((made - new)[held]).max())
            change = float(np.abs((made - state.reference)[held]).max())
            new = made
            if error < max(_SAME * change, _NOISE):
                break
        else:
            raise Lost(self._lost("its corrections do not converge"))
        dipole = self.molecule.dipole(orbitals)
        work = state.work + amplitude * float(self.direction @ (dipole - state.dipoles[-1]))
        self._check(orbitals, energy - self.before, work)
        state.orbitals, state.work = orbitals, work
        state.matrices = [new, *state.matrices][: len(_PREDICTORS)]
        state.dipoles.append(dipole)
        state.energies.append(energy)
        state.works.append(work)

    def _check(self, orbitals: list[np.ndarray], absorbed: float, work: float) -> None:
        lost = abs(absorbed - work)
        self._most = max(self._most, abs(absorbed))
        if not lost <= max(_UNBALANCED * self._most, _LEAST_UNBALANCED):  # nan, too
            raise Lost(self._lost(f"its energy differs by {lost * HARTREE:.2g} eV from the work"))
        electrons = self.molecule.electrons(orbitals)
        if abs(electrons - self.molecule.n_electrons) > 1e-6:
            raise Lost(self._lost(f"it holds {electrons:.6f} electrons"))

    def _lost(self, why: str) -> str:
        return (
            f"the propagation of {self.molecule.ground.structure.formula} is lost at "
            f"{self.time * FEMTOSECOND:.3f} fs: {why}; take a shorter --step than "
            f"{self.step * FEMTOSECOND * 1000:g} as, or a weaker field"
        )


def check_step(step: float, external: Kick | Pulse) -> None:
    """Raise an InputError for a time step, atomic units, that cannot be used."""
    attoseconds = 1000 * FEMTOSECOND
    if not 0 < step <= LONGEST_STEP:
        raise InputError(
            f"--step must be above 0 and at most {LONGEST_STEP * attoseconds:g} as, found "
            f"{step * attoseconds:g}; longer steps do not resolve the valence electrons"
        )
    if isinstance(external, Pulse) and step * external.energy > np.pi / 10:
        most = np.pi / 10 / external.energy * attoseconds
        raise InputError(
            f"--step {step * attoseconds:g} as has fewer than 20 steps in a cycle of the pulse; "
            f"give at most {most:.3g} as"
        )


def _turned(matrix: np.ndarray, c: np.ndarray, time: float) -> np.ndarray:
    """exp(-i time matrix) c of a symmetric matrix (nmo, nmo) and orbitals (nmo, n)."""
    e, v = np.linalg.eigh(matrix)
    return v @ (np.exp(-1j * time * e)[:, None] * (v.T @ c))
