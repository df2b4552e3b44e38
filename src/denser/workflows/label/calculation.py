"""Compute the converged label of one structure; runs in a worker process."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from denser.atoms.molecules import cells_at_gamma
from denser.atoms.sad import superposition
from denser.labels.coefficients import require_storable
from denser.labels.facts import Facts
from denser.labels.identity import content_hash
from denser.labels.label import Label
from denser.model.options import PredictionOptions
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.types.version import __version__
from denser.workflows.many import Failed, attempt
from denser.workflows.workers import THREADS

if TYPE_CHECKING:
    from denser.dft.scf import KSResult

MAX_STEPS = 5
"""Largest number of Kohn-Sham steps from a prediction before the SCF is used instead."""

CLOSED_BOX = 4.0
"""Vacuum per side (angstrom) from which on the density of an open shell is that of open space."""

SMEARING = 0.02
"""Width of the Fermi smearing (hartree) for molecules whose plain SCF does not converge."""


@dataclass(frozen=True)
class LabelSettings:
    """Settings of a calculation.

    Parameters
    ----------
    options : PredictionOptions
        Of these the charge and spin of all structures, the box, the padding and the spacing; and
        the model and the device of the prediction for `residual`.
    max_cycle : int
        Largest number of cycles of one attempt. The second attempt first smears the occupations;
        the third and fourth do the same in a larger box.
    residual : float, optional
        Do without an SCF if a few Kohn-Sham steps from the model's prediction bring the residual
        sum |rho_out - rho_in| dv / N_e below this (a fraction). The Err_rho of the label is about
        a third of it. Open shells with at least `CLOSED_BOX` of padding are converged in open
        space instead, without a box (`denser.dft.molecular`).
    """

    options: PredictionOptions = field(default_factory=partial(PredictionOptions, device="cpu"))
    max_cycle: int = 50
    residual: float | None = None

    def __post_init__(self) -> None:
        if self.max_cycle < 1:
            raise InputError(f"at least one cycle is needed, got {self.max_cycle}")
        if self.residual is not None and not 0 < self.residual < 1:
            raise InputError(f"the residual must be between 0 and 1, got {self.residual:g}")

    @property
    def recipe(self) -> Recipe:
        """Level of theory, at the spacing of the options."""
        spacing = self.options.spacing
        return Recipe() if spacing is None else Recipe(spacing=spacing / BOHR)

    def task(self, name: str, structure: Structure, group: str = "") -> LabelTask:
        """Task for a structure; a structure that is treated as a molecule loses its cell.

        A crystal with short periods is repeated (`cells_at_gamma`), as it is computed at Gamma.
        """
        options = self.options
        if options.box == "auto" and structure.cell is not None:
            times = cells_at_gamma(structure)
            if max(times) > 1:
                structure = structure.repeat(times)
            return LabelTask(name, structure, "cell", self, group, times)
        if structure.cell is not None:
            structure = replace(structure, cell=None)
        box = "paper" if options.box == "paper" else f"padding {options.padding:g}"
        return LabelTask(name, structure, box, self, group)


@dataclass(frozen=True, eq=False)
class LabelTask:
    """A structure to label in a box.

    `group` as of `LabelInput`; `times` says how often a crystal's cell was repeated.
    """

    name: str
    structure: Structure
    box: str
    settings: LabelSettings
    group: str = ""
    times: tuple[int, int, int] = (1, 1, 1)

    @property
    def content(self) -> str:
        """Hash that identifies this task."""
        return content_hash(self.structure, self.box)

    def grids(self) -> Iterator[tuple[str, Grid]]:
        """Names and boxes to try, in this order."""
        spacing = self.settings.recipe.spacing
        if self.box == "cell":
            yield self.box, Grid.periodic(self.structure, spacing)
            return
        if self.box == "paper":
            yield self.box, Grid.paper(self.structure, spacing)
            larger = 4.0
        else:
            padding = self.settings.options.padding
            yield self.box, Grid.around(self.structure, padding / BOHR, spacing)
            larger = padding + 2.0
        yield f"padding {larger:g}", Grid.around(self.structure, larger / BOHR, spacing)


def calculate(task: LabelTask) -> tuple[Label, Facts] | str:
    """Converge one structure, or return the reason for a failure. Runs in a worker."""
    found = attempt(_calculate, task)
    return found.error if isinstance(found, Failed) else found


def _calculate(task: LabelTask) -> tuple[Label, Facts] | str:
    for name in THREADS:  # of workers that Parsl starts; read when PySCF is first loaded
        os.environ.setdefault(name, "1")
    from denser.analysis.moments import dipole
    from denser.dft.cell import build_cell, density_from_dm

    structure, recipe = task.structure, task.settings.recipe
    begin = time.perf_counter()
    found = _converge(task)
    if found is None:
        tried = "smearing" + ("" if task.box == "cell" else " and a larger box")
        return f"not converged in {task.settings.max_cycle} cycles; {tried} did not help"
    box, grid, attempt, result, states = found
    moment = None
    if box != "cell":
        cell = build_cell(structure, grid, recipe)
        moment = dipole(density_from_dm(cell, result.dm, grid, structure))
    occupied = _occupied(result)
    require_storable(occupied)
    return (
        Label(task.name, structure, grid, occupied, result.e_tot, result.mo_energy, task.group),
        Facts(
            box,
            attempt,
            result.cycles,
            round(time.perf_counter() - begin, 2),
            moment,
            {"denser": __version__} | {name: version(name) for name in ("pyscf", "numpy")},
            {"machine": platform.machine(), "processors": os.cpu_count() or 1},
            task.settings.residual if attempt == "steps" else None,
            result.s_squared if structure.spin else None,
            states,
        ),
    )


def _occupied(result: KSResult) -> np.ndarray:
    """Occupied orbitals in columns; of an open shell first spin up, then spin down."""
    if result.mo_occ.ndim == 1:
        return result.mo_coeff[:, result.mo_occ > 0]
    return np.hstack([c[:, n > 0] for c, n in zip(result.mo_coeff, result.mo_occ, strict=True)])


def _lowest(task: LabelTask, grid: Grid, result: KSResult) -> tuple[KSResult, tuple[float, ...]]:
    """The lowest state of an open shell, and the energies of all that were found."""
    from denser.dft.scf import lower_of, other_state

    if not task.structure.spin:
        return result, ()
    recipe, cycles = task.settings.recipe, task.settings.max_cycle
    other = other_state(task.structure, grid, recipe, result, cycles)
    return lower_of(result, other) if other.converged else (result, (result.e_tot,))


def _converge(task: LabelTask) -> tuple[str, Grid, str, KSResult, tuple[float, ...]] | None:
    """Box, grid, attempt and result of the first attempt that converges, energies of its states."""
    from denser.dft.scf import mean_field, scf

    structure, recipe = task.structure, task.settings.recipe
    cycles = task.settings.max_cycle
    if task.settings.residual is not None:
        box, grid = next(task.grids())
        if not structure.spin:
            stepped = _few_steps(task, grid, task.settings.residual)
            if stepped is not None:
                return box, grid, "steps", stepped, ()
        elif box.startswith("padding") and task.settings.options.padding >= CLOSED_BOX:
            converged = _in_open_space(task, grid)
            if converged is not None:
                return box, grid, "open space", *converged
    for i, (box, grid) in enumerate(task.grids()):
        result = scf(structure, grid, recipe, max_cycle=cycles)
        if result.converged:
            return box, grid, "larger box" if i else "direct", *_lowest(task, grid, result)
        smeared = mean_field(structure, grid, recipe).smearing(sigma=SMEARING, method="fermi")
        smeared.conv_tol, smeared.max_cycle = 1e-6, cycles
        smeared.kernel()
        dm0 = np.asarray(smeared.make_rdm1())
        result = scf(structure, grid, recipe, max_cycle=cycles, dm0=dm0)
        if result.converged:
            name = "larger box, smearing" if i else "smearing"
            return box, grid, name, *_lowest(task, grid, result)
    return None


def _in_open_space(task: LabelTask, grid: Grid) -> tuple[KSResult, tuple[float, ...]] | None:
    """The lowest state of an open shell without a box; None if it does not converge.

    The occupied orbitals are made orthonormal in the box, where their tails overlap with those of
    the images.
    """
    from denser.dft.cell import build_cell
    from denser.dft.molecular import NotConverged, lowest_state
    from denser.dft.scf import KSResult, s_squared

    begin = time.perf_counter()
    structure, recipe = task.structure, task.settings.recipe
    try:
        found, states = lowest_state(structure, recipe.basis, recipe)
    except NotConverged:
        return None
    overlap = build_cell(structure, grid, recipe).pbc_intor("int1e_ovlp")
    orbitals = np.array(found.mo_coeff)
    for c, occupied in zip(orbitals, found.mo_occ > 0, strict=True):
        values, vectors = np.linalg.eigh(c[:, occupied].T @ overlap @ c[:, occupied])
        c[:, occupied] = c[:, occupied] @ (vectors / np.sqrt(values)) @ vectors.T
    dm = np.array([(c * n) @ c.T for c, n in zip(orbitals, found.mo_occ, strict=True)])
    return KSResult(
        found.e_tot, found.mo_energy, found.mo_occ, orbitals, dm, found.cycles, True,
        time.perf_counter() - begin, s_squared(found.mf),
    ), states  # fmt: skip


def _few_steps(task: LabelTask, grid: Grid, residual: float) -> KSResult | None:
    """Orbitals after a few Kohn-Sham steps from the prediction; None if they do not suffice."""
    from denser.dft.refine import refine
    from denser.dft.scf import KSResult
    from denser.model.predictor import Predictor

    begin = time.perf_counter()
    try:
        predictor = Predictor.of(task.settings.options)
        sad = superposition(task.structure, grid, predictor.model.recipe.sad)
        guess = predictor.density(sad, periodic=not task.box.startswith("padding"))
        refined = refine(guess, task.settings.recipe, 2)
        while refined.steps[-1].residual > residual:
            if len(refined.steps) == MAX_STEPS:
                return None
            earlier = refined.steps
            refined = refine(refined.density, task.settings.recipe, 1, earlier=earlier)
    except InputError:  # an element that the model does not know
        return None
    return KSResult(
        refined.e_tot, refined.mo_energy, refined.mo_occ, refined.mo_coeff, refined.dm,
        len(refined.steps), True, time.perf_counter() - begin,
    )  # fmt: skip
