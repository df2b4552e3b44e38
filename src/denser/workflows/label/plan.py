"""The structures of a training set, described by a few numbers in a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from denser.labels import qm9
from denser.labels.held_out import is_named, why_held_out
from denser.training.config import from_dict
from denser.types.errors import InputError
from denser.types.units import BOHR
from denser.workflows.label.calculation import LabelSettings
from denser.workflows.label.inputs import LabelInput


@dataclass(frozen=True)
class LabelPlan:
    """A training set from the training part of QM9's split.

    Parameters
    ----------
    seed : int
    molecules : int
        Their number, in a random order given by the seed; held-out molecules are left out.
    first_number : int
        Molecules with smaller QM9 numbers are left out.
    distorted : float
        Share of molecules with Gaussian displacements in every coordinate.
    width : (2,) float
        Limits between which the width of a molecule's displacements is drawn, angstrom.
    paper_box : float
        Share of molecules in the box of Li et al. (2025); the others have `padding`.
    padding : float
        Vacuum per side, angstrom.
    residual : float
        As in `denser label --residual`, percent; 0: SCF.
    """

    seed: int
    molecules: int
    first_number: int = 1
    distorted: float = 0.0
    width: tuple[float, float] = (0.03, 0.10)
    paper_box: float = 0.0
    padding: float = 4.0
    residual: float = 0.0

    def __post_init__(self) -> None:
        for name in ("distorted", "paper_box"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be between 0 and 1, found {getattr(self, name):g}")
        if not 0 < self.width[0] <= self.width[1] < 1:
            raise InputError(f"width must be two increasing lengths below 1, found {self.width}")
        if self.seed < 0 or self.molecules < 1:
            raise InputError("seed must be 0 or more, and molecules 1 or more")

    def settings(self) -> LabelSettings:
        """Settings of the calculations; each structure names its own box."""
        return LabelSettings(padding=self.padding, residual=self.residual / 100 or None)


def read_plan(path: Path) -> LabelPlan:
    """Read a plan from a TOML file.

    Raises
    ------
    InputError
        The file cannot be read, a key is unknown, or a value has the wrong type or size.
    """
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({error})") from error
    missing = {"seed", "molecules"} - set(data)
    if missing:
        raise InputError(f"{path}: lacks {min(missing)}")
    return from_dict(LabelPlan, data, str(path))


def planned(plan: LabelPlan) -> list[LabelInput]:
    """Structures of a plan, in its order, without molecules that qm9pack lacks.

    For molecule n of QM9, `default_rng([seed, n])` decides whether it is distorted, whether it has
    the paper's box, and draws the width of the displacements and the displacements.

    Raises
    ------
    InputError
        qm9pack is not installed.
    """
    order = np.random.default_rng(plan.seed).permutation(qm9.split_numbers("train")).tolist()
    chosen = [n for n in order if n >= plan.first_number and not is_named(f"qm9_{n:06d}")]
    chosen = chosen[: plan.molecules]
    found = dict(qm9.molecules(tuple(chosen)))
    inputs = []
    for n in chosen:
        name = f"qm9_{n:06d}"
        structure = found.get(name)
        if structure is None or why_held_out(name, structure) is not None:
            continue
        random = np.random.default_rng([plan.seed, n])
        distorted, paper = random.random() < plan.distorted, random.random() < plan.paper_box
        width = random.uniform(*plan.width)
        positions = structure.positions * BOHR
        if distorted:
            positions = positions + width * random.standard_normal(positions.shape)
            name += "_rattled"
        # rounded like XYZ files, so that labels made from files are the same
        structure = replace(structure, positions=np.round(positions, 8) / BOHR)
        inputs.append(LabelInput(name, structure, box="paper" if paper else "isolated"))
    return inputs
