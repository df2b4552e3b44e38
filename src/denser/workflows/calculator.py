"""ASE calculator: energies, forces, dipoles and charges from a prediction or an SCF."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators import calculator as ase_calculator

import denser.dft  # noqa: F401  (before anything else brings in part of PySCF)
from denser.analysis.charges.stockholder import hirshfeld
from denser.analysis.moments import dipole
from denser.atoms.sad import require_closed_shell, superposition
from denser.atoms.sad_derivatives import superposition_pullback
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.dispersion import dispersion, require_kind
from denser.dft.gradient import mixed_gradient, scf_gradient, step_gradient
from denser.dft.molecular import MolecularResult, converge, energy_gradient
from denser.dft.one_step import OneStep, one_step
from denser.dft.open_space_gradient import OpenStep, open_step, step_slope
from denser.dft.point_charges import PointCharges
from denser.dft.scf import KSResult, mean_field, not_converged, scf
from denser.model.boxes import make_grid
from denser.model.checkpoint import Model
from denser.model.derivatives import (
    GaussianPrediction,
    gaussian_prediction,
    prediction_pullback,
)
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE
from denser.workflows.refined import at_gamma

TASKS = ("one-step", "scf", "density")
FORCES = ("exact", "rigid")
ESTIMATES = ("mixed", "recommended")

_COARSE = 0.16
"""Spacing of a prediction that is a start only, angstrom."""

SLACK = 1.0 / BOHR
"""The box of a molecule is kept until its padding has shrunk by this (bohr)."""


@dataclass(frozen=True, eq=False)
class _Work:
    """Data for the forces of a geometry; the density of a step in open space is made on request."""

    structure: Structure
    grid: Grid
    energy: float
    density: Density | None = None
    sad: Density | None = None
    step: OneStep | OpenStep | None = None
    result: KSResult | MolecularResult | None = None
    prediction: GaussianPrediction | None = None


class GammaPointWarning(UserWarning):
    """A cell is too small for orbitals at the Gamma point alone."""


class Calculator(ase_calculator.Calculator):
    """ASE calculator of molecules, and of closed-shell cells at the Gamma point.

    The forces are the exact derivative of the energy that is returned. That of one step of a
    molecule is in open space (`denser.dft.open_space_gradient`) if the model gives its density as
    Gaussians, as the default does. Otherwise the energy is that of a box. The grid of a molecule
    moves with the geometric centre of its atoms, and keeps its size as long as all atoms are well
    inside. The grid of a periodic cell stays in the cell. Molecules with unpaired electrons are
    self-consistent in open space, from the prediction. See `docs/forces.md`.

    Parameters
    ----------
    model : str, Path or Model
        Name of a shipped model, path of a model file, or a loaded model. Its recipe is the
        level of theory.
    task : str
        "one-step": predict the density and solve the Kohn-Sham equations once in it. "scf":
        converge the Kohn-Sham equations, from the prediction at first and from the last
        orbitals afterwards. "density": predict only; there is no energy.
    dispersion : str, optional
        "d3bj" or "d4": add it to energy and forces.
    charge : int, optional
        Total charge; by default `atoms.info["charge"]`.
    padding : float
        Vacuum on each side of a molecule, angstrom.
    grid : Grid, optional
        A fixed box for all geometries; energies are computed in it.
    forces : str
        Forces of one step. "exact" includes the derivative of the input density by
        back-propagation through the network; "rigid" moves atomic densities instead, which is
        cheaper and approximate.
    estimate : str, optional
        Energy of one step in a box, also for molecules: "mixed" is `OneStep.e_mixed`, which has
        the better forces; "recommended" is `OneStep.e_tot`, the better energy (see
        `docs/forces.md`). By default in open space where that is possible, otherwise "mixed".
    conv_tol : float
        Convergence threshold of the SCF, hartree.
    device : str
        Device of the network: "auto", "cpu", "cuda", ...
    spin : int, optional
        Number of unpaired electrons; by default that of the atoms.
    **options
        Options of ASE's calculator: `label`, `atoms`, `directory`.

    Attributes
    ----------
    density : Density
        Density of the last geometry: that of the output orbitals, or the prediction.
    step : OneStep, OpenStep or None
    result : KSResult, MolecularResult or None
    n_boxes : int
        Number of boxes made so far. Energies that are not in open space differ by some meV between
        two boxes.

    Raises
    ------
    InputError
        The task, dispersion or model is unknown, or, in a calculation, the structure cannot be
        treated.

    Warns
    -----
    GammaPointWarning
        A cell has periods below 8 angstrom; once for a calculator.
    """

    name = "denser"
    implemented_properties = ["energy", "free_energy", "forces", "dipole", "charges"]  # noqa: RUF012

    def __init__(
        self,
        model: str | Path | Model = "default",
        task: str = "one-step",
        dispersion: str | None = None,
        charge: int | None = None,
        *,
        padding: float = 4.0,
        grid: Grid | None = None,
        forces: str = "exact",
        estimate: str | None = None,
        conv_tol: float = 1e-9,
        device: str = "auto",
        spin: int | None = None,
        **options: Any,
    ) -> None:
        if task not in TASKS:
            raise InputError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
        if forces not in FORCES:
            raise InputError(f"unknown forces {forces!r}; known: {', '.join(FORCES)}")
        if estimate is not None and estimate not in ESTIMATES:
            raise InputError(f"unknown estimate {estimate!r}; known: {', '.join(ESTIMATES)}")
        require_kind(dispersion)
        super().__init__(**options)
        chosen = PredictionOptions(charge, model, padding=padding, device=device, spin=spin)
        # Rounding to bfloat16 would make the energy jagged.
        self.predictor = Predictor.of(chosen, bf16=False)
        self.recipe = self.predictor.model.recipe
        self.task, self.dispersion, self.charge, self.spin = task, dispersion, charge, spin
        self.padding, self.grid, self.conv_tol = padding, grid, conv_tol
        self.rigid, self.mixed = forces == "rigid", estimate != "recommended"
        self._open = task == "one-step" and estimate is None and grid is None
        if task == "density":
            self.implemented_properties = ["dipole", "charges"]
        self.n_boxes = 0
        self._box: tuple[np.ndarray, Grid] | None = None
        self._work: _Work | None = None
        self._around: PointCharges | None = None
        self._told_of_gamma = False

    @property
    def density(self) -> Density:
        """Density of the last geometry, e/bohr^3."""
        last = self._last()
        if last.density is None and isinstance(last.result, MolecularResult):
            nodes = superposition(last.structure, last.grid, self.recipe.sad)
            self._work = last = replace(last, density=last.result.density_on(nodes))
        if last.density is None:
            assert last.step is not None
            cell = build_cell(last.structure, last.grid, self.recipe)
            density = _on_nodes(cell, last.step.dm, last.grid, last.structure)
            self._work = last = replace(last, density=density)
            return density
        return last.density

    @property
    def step(self) -> OneStep | OpenStep | None:
        """The Kohn-Sham step of the last geometry, for task "one-step"."""
        return self._last().step

    @property
    def result(self) -> KSResult | MolecularResult | None:
        """The Kohn-Sham calculation of the last geometry, for task "scf" and open shells."""
        return self._last().result

    def _last(self) -> _Work:
        if self._work is None:
            raise InputError("nothing has been calculated yet; ask for a property first")
        return self._work

    def embed(self, charges: Sequence[float]) -> EmbeddedCharges:
        """Point charges around the molecule, as ASE's QM/MM calculators ask for them.

        Energy and forces then have their interaction with the molecule, with the polarisation of
        its electrons by one step (`denser.dft.point_charges`); forces stay exact derivatives.

        Parameters
        ----------
        charges : (n,) float
            e.

        Returns
        -------
        EmbeddedCharges
            With `set_positions` (angstrom) and `get_forces` (eV/angstrom), as in
            `ase.calculators.qmmm.Embedding`.

        Raises
        ------
        InputError
            This calculator's energy is not that of a step in open space.
        """
        if not self._open:
            raise InputError(
                "point charges need the energy of one step in open space; make the calculator "
                'with task="one-step", and without grid= and estimate='
            )
        return EmbeddedCharges(self, np.asarray(charges, dtype=float))

    def surround(self, charges: PointCharges | None) -> None:
        """Put the molecule among these point charges, or take them away."""
        self._around = charges
        self.reset()

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """As in ASE, with a reason if a property does not exist."""
        if self.task == "density" and name in ("energy", "free_energy", "forces"):
            raise _no_energy(name)
        return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """As in ASE, but also look at charge and spin in `atoms.info`, which ASE ignores."""
        changes = super().check_state(atoms, tol)
        last = {} if self.atoms is None else self.atoms.info
        for key, given in (("charge", self.charge), ("spin", self.spin)):
            if not changes and given is None and atoms.info.get(key) != last.get(key):
                changes = ["initial_charges"]
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = ase_calculator.all_changes,
    ) -> None:
        """Compute a geometry; forces and charges only on request."""
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise InputError("the calculator has no atoms; give them to `calculate`")
        structure = Structure.of(self.atoms, self.charge, spin=self.spin)
        if self.task != "density" and not self._told_of_gamma:
            for sentence in at_gamma(structure):
                warnings.warn(f"{structure.formula}: {sentence}", GammaPointWarning, 2)
                self._told_of_gamma = True
        if system_changes or self._work is None or not self.results:
            self._work = self._energy(structure)
            self.results = {}
            if (moment := self._dipole(self._work)) is not None:
                self.results["dipole"] = moment * BOHR
            if self.task != "density":
                energy = self._work.energy
                if self.dispersion is not None:
                    energy += dispersion(structure, self.dispersion, self.recipe.xc)[0]
                self.results["energy"] = self.results["free_energy"] = energy * HARTREE
        if "charges" in properties:
            self.results["charges"] = hirshfeld(self.density).charges
        if "forces" in properties:
            gradient = self._gradient(self._work)
            if self.dispersion is not None:
                gradient = gradient + dispersion(structure, self.dispersion, self.recipe.xc)[1]
            self.results["forces"] = -gradient * HARTREE / BOHR

    @staticmethod
    def _dipole(work: _Work) -> np.ndarray | None:
        """Dipole moment of a geometry (3,), e*bohr, or None for a cell."""
        if isinstance(work.step, OpenStep):
            return work.step.dipole()
        if isinstance(work.result, MolecularResult):
            return work.result.dipole
        assert work.density is not None
        return dipole(work.density)

    def _energy(self, structure: Structure) -> _Work:
        self.predictor.require_covered(structure)
        grid = self._grid_of(structure)
        isolated = structure.isolated
        if structure.spin and self.task != "density":
            if self.grid is not None or not isolated:
                require_closed_shell(structure, "energies and forces in a box")
            if self._around is not None:
                require_closed_shell(structure, "calculations with point charges")
            return self._open_shell(structure, grid)
        if self._open and isolated:
            prediction = gaussian_prediction(self.predictor, structure)
            if prediction is not None:
                step = open_step(structure, prediction.atoms, self.recipe, self._around)
                return _Work(structure, grid, step.energy, step=step, prediction=prediction)
        if self._around is not None:
            raise InputError(
                "point charges need an isolated molecule and a model that predicts Gaussians, as "
                "the default does"
            )
        dm0 = self._orbitals_of(structure) if self.task == "scf" else None
        if dm0 is None:
            sad = superposition(structure, grid, self.recipe.sad)
            rho = self.predictor.density(sad, periodic=not isolated)
            if self.task == "density":
                return _Work(structure, grid, np.nan, rho)
            mf = mean_field(structure, grid, self.recipe, isolated=isolated)
            in_box = one_step(rho, mf=mf)
            if self.task == "one-step":
                energy = in_box.e_mixed if self.mixed else in_box.e_tot
                return _Work(structure, grid, energy, in_box.density, sad=sad, step=in_box)
            dm0 = in_box.dm
        result = scf(structure, grid, self.recipe, self.conv_tol, dm0=dm0, isolated=isolated)
        if not result.converged:
            raise ase_calculator.SCFError(not_converged(structure, result))
        mf = mean_field(structure, grid, self.recipe)
        density = _on_nodes(mf.cell, result.dm, grid, structure)
        return _Work(structure, grid, result.e_tot, density, result=result)

    def _open_shell(self, structure: Structure, grid: Grid) -> _Work:
        """Self-consistent in open space; at first from the prediction, then the last orbitals."""
        dm0, about = self._orbitals_of(structure), None
        if dm0 is None:
            about = self.predictor.predict(structure, padding=2.5, spacing=_COARSE).density
        result = converge(
            structure, self.recipe.basis, self.recipe, about=about, dm0=dm0,
            conv_tol=self.conv_tol, for_forces=True,
        )  # fmt: skip
        return _Work(structure, grid, result.e_tot, result=result)

    def _orbitals_of(self, structure: Structure) -> np.ndarray | None:
        """Density matrix of the last SCF, if atoms, charge and spin are the same."""
        last = self._work
        if last is None or last.result is None or last.structure.charge != structure.charge:
            return None
        if last.structure.spin != structure.spin:
            return None
        if not np.array_equal(last.structure.numbers, structure.numbers):
            return None
        return last.result.dm

    def _gradient(self, work: _Work) -> np.ndarray:
        """Derivative of the energy (n_atoms, 3), hartree/bohr, without dispersion."""
        structure, grid = work.structure, work.grid
        if isinstance(work.result, MolecularResult):
            return energy_gradient(work.result)
        if work.result is not None:
            gradient = scf_gradient(
                structure, grid, work.result, self.recipe, isolated=structure.isolated
            )
        elif isinstance(work.step, OpenStep) and work.prediction is not None:
            explicit, slope = step_slope(work.step)
            return explicit + work.prediction.pullback(slope, self.rigid)
        elif isinstance(work.step, OneStep) and work.sad is not None:
            parts = (mixed_gradient if self.mixed else step_gradient)(work.step)
            if self.rigid:
                moved = superposition_pullback(parts.response, structure, grid, self.recipe.sad)
            else:
                moved = prediction_pullback(
                    self.predictor, work.sad, parts.response, periodic=not structure.isolated
                )
            gradient = parts.explicit + grid.dv * moved
        else:
            raise _no_energy("forces")
        if self.grid is None and structure.isolated:
            # The grid moves with the centre of the atoms: this is its contribution.
            gradient = gradient - gradient.mean(axis=0)
        return gradient

    def make_box(self, atoms: Atoms) -> None:
        """Make the box for these atoms, so that a run which continues keeps its first box."""
        self._grid_of(Structure.of(atoms, self.charge, spin=self.spin))

    def _grid_of(self, structure: Structure) -> Grid:
        """The given grid, that of the cell, or a box that moves with the centre of the atoms."""
        if self.grid is not None:
            return self.grid
        recipe, network = self.recipe, self.predictor.network
        if structure.cell is not None:
            return make_grid(structure, "cell", self.padding, recipe.spacing, network)
        centre = structure.positions.mean(axis=0)
        if self._box is not None:
            numbers, box = self._box
            grid = Grid(centre + box.origin, box.cell, box.shape)
            inside = structure.positions - grid.origin
            room = min(inside.min(), (np.diag(grid.cell) - inside).min())
            if np.array_equal(numbers, structure.numbers) and room > self.padding / BOHR - SLACK:
                return grid
        grid = make_grid(structure, "isolated", self.padding, recipe.spacing, network)
        self._box = structure.numbers, Grid(grid.origin - centre, grid.cell, grid.shape)
        self.n_boxes += 1
        return grid


class EmbeddedCharges:
    """Point charges around the molecule of a calculator.

    Parameters
    ----------
    calculator : Calculator
    charges : (n,) float
        e.
    """

    def __init__(self, calculator: Calculator, charges: np.ndarray) -> None:
        self.calculator, self.charges = calculator, charges

    def set_positions(self, positions: np.ndarray) -> None:
        """Move the charges to positions (n, 3), angstrom."""
        self.calculator.surround(PointCharges(np.asarray(positions) / BOHR, self.charges))

    def get_forces(self, calculator: Calculator) -> np.ndarray:
        """Forces on the charges (n, 3), eV/angstrom, in the last geometry of the calculator."""
        step = calculator.step
        assert isinstance(step, OpenStep)  # `embed` looks
        return step.forces_on_charges() * HARTREE / BOHR


def _on_nodes(cell: Any, dm: np.ndarray, grid: Grid, structure: Structure) -> Density:
    """Density of a density matrix, scaled to the number of electrons.

    Near the nuclei of salts the sum over the nodes is off by some 1e-3 electrons.
    """
    density = density_from_dm(cell, dm, grid, structure)
    return density.with_values(density.values * (density.n_electrons / density.integrate()))


def _no_energy(name: str) -> Exception:
    return ase_calculator.PropertyNotImplementedError(
        f'task "density" has no {name}; use Calculator(task="one-step") or task="scf"'
    )
