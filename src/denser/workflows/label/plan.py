"""The structures of a training set, described by a few numbers in a TOML file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from denser.io.files import read_toml
from denser.labels import qm9
from denser.labels.held_out import is_named, why_held_out
from denser.model.options import PredictionOptions
from denser.training.config import from_dict
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.inputs import read_frames
from denser.workflows.label.calculation import LabelSettings
from denser.workflows.label.inputs import LabelInput
from denser.workflows.many import Failed


@dataclass(frozen=True)
class LabelPlan:
    """Structures to label, from the training part of QM9's split or from a file.

    Parameters
    ----------
    seed : int
    molecules : int
        Their number; 0: all of the files. Those of QM9 come in a random order given by the seed,
        those of a file in its order. Held-out molecules are left out.
    structures : tuple of str
        Files of structures, each with its name in `name=` or its title; none: QM9. `read_plan`
        takes their paths relative to the folder of the plan. Crystals are labelled in their cells.
    held_out : bool
        Take only the molecules of the files that are held out (`denser.labels.held_out`), as they
        are there: for evaluation and never for training.
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
    molecules: int = 0
    structures: tuple[str, ...] = ()
    held_out: bool = False
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
        if self.seed < 0 or self.molecules < 0:
            raise InputError("seed and molecules must be 0 or more")
        if not self.structures and (self.molecules == 0 or self.held_out):
            raise InputError("a plan of QM9 molecules needs molecules, and has no held_out")

    def settings(self) -> LabelSettings:
        """Settings of the calculations; each structure names its own box."""
        options = PredictionOptions(padding=self.padding, device="cpu")
        return LabelSettings(options, residual=self.residual / 100 or None)


def read_plan(path: Path) -> LabelPlan:
    """Read a plan from a TOML file.

    Raises
    ------
    InputError
        The file cannot be read, a key is unknown, or a value has the wrong type or size.
    """
    data = read_toml(path)
    if "seed" not in data:
        raise InputError(f"{path}: lacks seed")
    plan = from_dict(LabelPlan, data, str(path))
    if plan.structures:
        plan = replace(plan, structures=tuple(str(path.parent / x) for x in plan.structures))
    return plan


def planned(plan: LabelPlan, tell: Callable[[str], None] = lambda text: None) -> list[LabelInput]:
    """Structures of a plan, in its order, without molecules that qm9pack lacks.

    `tell` is called with a sentence about each structure that cannot be used.

    For molecule n of QM9, `default_rng([seed, n])` decides whether it is distorted, whether it has
    the paper's box, and draws the width of the displacements and the displacements. For a structure
    of a file four numbers from the hash of its name take the place of n.

    Raises
    ------
    InputError
        qm9pack is not installed; or the file cannot be read, a structure has no name, or two
        have the same one.
    """
    chosen = _from_files(plan, tell) if plan.structures else _from_qm9(plan)
    if plan.held_out:
        paper = plan.paper_box == 1
        return [LabelInput(name, x, box=_box(x, paper)) for name, x, _ in chosen]
    inputs = []
    for name, structure, key in chosen:
        random = np.random.default_rng([plan.seed, *key])
        distorted, paper = random.random() < plan.distorted, random.random() < plan.paper_box
        width = random.uniform(*plan.width)
        positions = structure.positions * BOHR
        if distorted:
            positions = positions + width * random.standard_normal(positions.shape)
            name += "_rattled"
        # rounded like XYZ files, so that labels made from files are the same
        try:
            structure = replace(structure, positions=np.round(positions, 8) / BOHR)
        except InputError as error:  # displaced atoms meet
            tell(f"{name}: {error}")
            continue
        inputs.append(LabelInput(name, structure, box=_box(structure, paper)))
    return inputs


def _box(structure: Structure, paper: bool) -> str:
    """Box of a label: empty for a crystal, whose cell it is."""
    if structure.cell is not None:
        return ""
    return "paper" if paper else "isolated"


def _from_qm9(plan: LabelPlan) -> list[tuple[str, Structure, list[int]]]:
    """Names, structures and keys of random numbers of the training part of QM9's split."""
    order = np.random.default_rng(plan.seed).permutation(qm9.split_numbers("train")).tolist()
    chosen = [n for n in order if n >= plan.first_number and not is_named(f"qm9_{n:06d}")]
    chosen = chosen[: plan.molecules]
    found = dict(qm9.molecules(tuple(chosen)))
    names = {f"qm9_{n:06d}": n for n in chosen}
    return [
        (name, found[name], [n])
        for name, n in names.items()
        if name in found and why_held_out(name, found[name]) is None
    ]


def _from_files(
    plan: LabelPlan, tell: Callable[[str], None]
) -> list[tuple[str, Structure, list[int]]]:
    """Names, structures and keys of random numbers of the structures of the files."""
    chosen: dict[str, tuple[str, Structure, list[int]]] = {}
    frames = [(f"{p}[{i}]", x) for p in plan.structures for i, x in enumerate(read_frames(Path(p)))]
    for where, frame in frames:
        if isinstance(frame, Failed):
            tell(f"{where}: {frame.error}")
            continue
        name = str(frame.atoms.info.get("name", frame.title))
        if not name or name in chosen:
            what = f"has the name {name!r} of another structure" if name else "has no name"
            raise InputError(f"{where} {what}; write a name=... of its own in its comment line")
        try:
            structure = Structure.of(frame.atoms)
        except InputError as error:
            tell(f"{where} ({name}): {error}")
            continue
        if (why_held_out(name, structure) is None) == plan.held_out:
            continue
        key = np.frombuffer(sha256(name.encode()).digest()[:16], dtype="<u4").tolist()
        chosen[name] = name, structure, key
    return list(chosen.values())[: plan.molecules or None]
