"""Files of a run besides the models: settings, record, state and metrics."""

from __future__ import annotations

import csv
import json
import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch

from denser.io.files import replacing
from denser.training.config import Config, from_dict
from denser.training.dataset import DataSet
from denser.types.errors import InputError

COLUMNS = (
    "step", "seconds", "loss_percent", "gradient_norm", "lr_factor", "validation_percent",
)  # fmt: skip


@dataclass
class State:
    """How far a run is; `state.pt` holds it beside the weights.

    Parameters
    ----------
    step : int
        Steps taken.
    seconds : float
        Time spent on them.
    best, validation : float
        Lowest and last validation error, a fraction.
    checked : float
        Fraction of the run that was done at the last validation.
    waited : int
        Validations since the best one.
    loss : float
        Running mean.
    bad : int
        Last steps in a row that were left out, because their loss or gradient was not finite.
    left_out : int
        All steps that were left out.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = math.inf
    validation: float = math.nan
    checked: float = 0.0
    waited: int = 0
    loss: float = math.nan
    bad: int = 0
    left_out: int = 0


def open_folder(out: Path) -> None:
    """Create the folder of a run, or raise an InputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be the folder of a run ({error.strerror}); choose another with -o"
        ) from error


def check_same_run(out: Path, config: Config, data: DataSet) -> None:
    """Raise an InputError if `out` belongs to a run with other settings or other labels.

    Settings are compared after defaults are filled in, so keys of later versions do not matter.
    Training labels may have been added.
    """
    path = out / "config.json"
    if path.exists():
        try:
            earlier = from_dict(Config, json.loads(path.read_text()), str(path))
        except (InputError, ValueError, OSError):
            earlier = None
        if earlier != config:
            raise InputError(
                f"{out} contains a run with other settings (see {path}); choose another folder, or "
                "delete it to start again"
            )
    path = out / "run.json"
    if path.exists() and (out / "state.pt").exists():
        try:
            same = data.extends(json.loads(path.read_text()))
        except (ValueError, OSError, KeyError) as error:
            raise InputError(f"{path}: cannot be read ({error}); delete it to continue") from error
        if not same:
            raise InputError(
                f"{out}: the labels are not those at the start of this run (see {path}); restore "
                "them, or start again in another folder"
            )


def write_json(path: Path, data: dict) -> None:
    """Write plain data through a temporary file in the same folder."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")


def read_state(path: Path, device: torch.device) -> dict:
    """Read the file of `write_state`; raise an InputError if it is damaged."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: the state of the run cannot be read ({str(error).splitlines()[0]}); "
            "delete it to start again"
        ) from error


def write_state(path: Path, state: dict) -> None:
    """Write the state to resume from; if this fails, the earlier state is kept."""
    try:
        with replacing(path) as temporary:
            torch.save(state, temporary)
    except RuntimeError as error:  # torch's error for a full disk
        raise InputError(
            f"{path}: cannot be written ({str(error).splitlines()[0]}); is the disk full? The "
            "earlier state is kept; make room and run the same command again to continue"
        ) from error


class MetricsFile:
    """`metrics.csv`; rows after the resumed step are removed when a run continues."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = []
        if path.exists():
            with path.open(newline="") as file:
                kept = [row for row in csv.reader(file) if row and row[0].isdigit()]
            kept = [row for row in kept if int(row[0]) <= step]
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *kept])

    def write(self, state: State, norm: float, scale: float) -> None:
        """Append one row."""
        row = [
            state.step,
            f"{state.seconds:.1f}",
            f"{100 * state.loss:.4f}",
            f"{norm:.4g}",
            f"{scale:.4g}",
            f"{100 * state.validation:.4f}",
        ]
        try:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(row)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); make room and run the same "
                "command again to continue"
            ) from error
