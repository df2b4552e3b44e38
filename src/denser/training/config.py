"""Configuration of a training run, as a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from ase.data import atomic_numbers

from denser.io.files import read_toml
from denser.types.checked import checked
from denser.types.errors import InputError

LEARN = ("all", "closed shells", "new elements", "spin")
"""Values of `model.learn` beside symbols of elements."""


@dataclass(frozen=True)
class DataConfig:
    """The labels. Paths are relative to the working directory, as on the command line.

    `labels` is a folder of `.npz` labels or a store (`.db`), or a list of them. `validation` is the
    number of labels to hold out, a list of their names, or a file with one name per line. If it is
    a number, they are drawn with `seed`, and labels from one file, such as the frames of a
    trajectory, stay together. The first `validation_subset` of them, in random order, are measured
    during the run. Labels in `exclude` (names, a file of names, or `qm9:test`) are left out. Labels
    in `often` are used twice as often as the others. A share `rehearsal_share` of the samples is
    drawn from the labels `rehearsal`, so that a model that is trained further forgets less.
    """

    labels: tuple[str, ...] = ("labels",)
    validation: int | str | tuple[str, ...] = 200
    validation_subset: int = 40
    exclude: str | tuple[str, ...] = ()
    often: str | tuple[str, ...] = ()
    rehearsal: tuple[str, ...] = ()
    rehearsal_share: float = 0.25
    seed: int = 0
    sad: str = "gth-szv-1e"
    cache_gb: float = 8.0


@dataclass(frozen=True)
class RecipeConfig:
    """Level of theory that the labels must have; missing keys are taken from the labels.

    A store of labels states its level of theory, so this section is only a check for it. `.npz`
    files do not state theirs: it is that of this section, else that of `model.start`, else the
    default. `spacing` is that of the fine grid in angstrom.
    """

    xc: str = ""
    basis: str = ""
    pseudo: str = ""
    spacing: float = 0.0


@dataclass(frozen=True)
class ModelConfig:
    """The network; `options` are the fields of its config.

    With a model file or name in `start` the run starts from its weights and has its options; an
    `aspherical` one may get more `elements`, `electrons`, `hidden` and `width` and a first `reach`
    and `spin` here. With `learn = "new elements"` only the weights of elements that the start lacks
    are trained, so that predictions for other molecules stay the same; with symbols, such as
    `learn = "Be Al"`, only those of these elements; with `learn = "spin"` only those of spin
    densities, on labels of open shells, so that closed shells stay the same; with
    `learn = "closed shells"` all the others, on labels of closed shells.
    """

    architecture: str = "unet"
    start: str = ""
    learn: str = "all"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerConfig:
    """`muon` (hidden convolutions by Muon, the rest by AdamW), `adamw` or `adam`."""

    name: str = "muon"
    lr: float = 0.01
    lr_rest: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999


@dataclass(frozen=True)
class ScheduleConfig:
    """Length and learning rate.

    The run ends after `epochs`, `steps` or `minutes`, whichever is given. During the share `warmup`
    of the run, the learning rate is `warmup_factor` times its value (or rises linearly, if the
    factor is 0). Then it follows a cosine to zero. With a `patience` the run ends early, after this
    number of validations without an improvement.
    """

    steps: int = 0
    minutes: float = 0.0
    epochs: int = 0
    warmup: float = 0.01
    warmup_factor: float = 0.0
    validate_every: float = 0.05
    patience: int = 0
    save_every_seconds: float = 60.0


@dataclass(frozen=True)
class SampleConfig:
    """Samples of a step: `batch` windows with sides of `crop` voxels, or whole boxes (crop = 0).

    In the last share `whole_box` of the run, whole boxes are used instead of windows. The loss
    omits `margin` voxels at the faces of a window, which only serve as context. The `order` is
    `shuffle` (each label once before any is used again) or `random`. Processes of `torchrun` share
    the batch. The network `aspherical` needs no windows: it uses `points` nodes of each of `batch`
    molecules, which are rotated at random, and minimises the mean over molecules of Err_rho to the
    power `exponent`. With a power above 1, molecules with larger errors count more.
    """

    batch: int = 1
    crop: int = 64
    margin: int = 8
    whole_box: float = 0.0
    whole_batch: int = 1
    order: str = "shuffle"
    symmetry: str = "cube"
    points: int = 1024
    exponent: float = 1.0


@dataclass(frozen=True)
class Config:
    """A training run. See the classes of the sections for their keys."""

    data: DataConfig = field(default_factory=DataConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    seed: int = 0
    bf16: bool = True

    def __post_init__(self) -> None:
        given = [k for k in ("steps", "minutes", "epochs") if getattr(self.schedule, k)]
        if len(given) != 1:
            raise InputError(
                "give exactly one of schedule.steps, schedule.minutes and schedule.epochs, "
                f"found {given or 'none'}"
            )
        for name, choice, known in (
            ("optimizer.name", self.optimizer.name, ("muon", "adamw", "adam")),
            ("sample.symmetry", self.sample.symmetry, ("cube", "turn", "none")),
            ("sample.order", self.sample.order, ("shuffle", "random")),
        ):
            if choice not in known:
                raise InputError(f"{name} is {choice!r}; known: {', '.join(known)}")
        learn, symbols = self.model.learn, self.model.learn.split()
        if learn not in LEARN and (not symbols or {*symbols} - atomic_numbers.keys()):
            raise InputError(
                f"model.learn is {learn!r}; known: {', '.join(LEARN)}, or symbols of elements, "
                'such as "Be Al"'
            )
        if self.sample.crop and self.sample.crop <= 2 * self.sample.margin:
            raise InputError(
                f"sample.crop {self.sample.crop} leaves no voxels between two margins of "
                f"{self.sample.margin} voxels"
            )
        limits: tuple[tuple[str, float, int], ...] = (
            ("schedule.steps", self.schedule.steps, 0),
            ("schedule.minutes", self.schedule.minutes, 0),
            ("schedule.epochs", self.schedule.epochs, 0),
            ("schedule.patience", self.schedule.patience, 0),
            ("recipe.spacing", self.recipe.spacing, 0),
            ("sample.batch", self.sample.batch, 1),
            ("sample.points", self.sample.points, 1),
            ("sample.exponent", self.sample.exponent, 1),
            ("sample.whole_batch", self.sample.whole_batch, 1),
            ("sample.crop", self.sample.crop, 0),
            ("sample.margin", self.sample.margin, 0),
        )
        for name, value, least in limits:
            if value < least:
                raise InputError(f"{name} must be at least {least}, found {value}")
        for name, share in (
            ("data.rehearsal_share", self.data.rehearsal_share),
            ("optimizer.ema", self.optimizer.ema),
            ("sample.whole_box", self.sample.whole_box),
            ("schedule.warmup", self.schedule.warmup),
        ):
            if not 0 <= share <= 1:
                raise InputError(f"{name} must be between 0 and 1, found {share}")

    def to_dict(self) -> dict:
        """Plain nested dictionary."""
        return asdict(self)


def read_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read a TOML file; `overrides` are `section.key=value` with TOML values.

    Raises
    ------
    InputError
        The file cannot be read, a key is unknown (the nearest known one is named), or a value has
        the wrong type.
    """
    data = read_toml(Path(path))
    return with_settings(data, overrides, str(path))


def with_settings(data: dict, overrides: tuple[str, ...], where: str) -> Config:
    """Configuration from nested plain data, with replacements `section.key=value`."""
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise InputError(f"--set needs section.key=value, found {override!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *sections, name = key.strip().split(".")
        target = data
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise InputError(f"--set {override}: {section} is not a section")
        target[name] = value
    return from_dict(Config, data, where)


def from_dict(cls: type, data: dict, where: str, prefix: str = "") -> Any:
    """Build a (nested) dataclass from a dictionary, checking keys and types."""
    if not isinstance(data, dict):
        raise InputError(f"{where} must be a table, found {data!r}")
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls)]
    values = {}
    for key, value in data.items():
        full = prefix + key
        if key not in names:
            near = get_close_matches(key, names, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(names)}"
            raise InputError(f"{where}: unknown key {full}; {hint}")
        hint = hints[key]
        if isinstance(hint, type) and is_dataclass(hint):
            if not isinstance(value, dict):
                raise InputError(f"{where}: {full} is a section, write [{full}]")
            values[key] = from_dict(hint, value, where, f"{full}.")
        else:
            values[key] = checked(value, hint, f"{where}: {full}")
    return cls(**values)
