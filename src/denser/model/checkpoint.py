"""Model files: safetensors with config, recipe and training record in the metadata."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import torch
from ase.data import chemical_symbols
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from denser.atoms.sad import require_recipe
from denser.io.files import replacing
from denser.model.aspherical import Aspherical
from denser.model.aspherical_config import AsphericalConfig
from denser.model.network import Network
from denser.model.resnet import X2, X4, ResNet, ResNetConfig
from denser.model.unet import UNet, UNetConfig
from denser.types.checked import checked
from denser.types.errors import InputError
from denser.types.paths import file_path
from denser.types.recipe import Recipe

ARCHITECTURES: dict[str, tuple[Callable[[Any], Network], type]] = {
    "aspherical": (Aspherical, AsphericalConfig),
    "unet": (UNet, UNetConfig),
    "resnet": (ResNet, ResNetConfig),
}
FORMAT = "denser-model-1"

_WEIGHTS = Path(__file__).parent / "weights"


FEW = 40
"""A model has learnt little about an element with fewer labels to train on."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network and the level of theory it was trained for.

    Parameters
    ----------
    name : str
    architecture : str
        A key of `ARCHITECTURES`.
    network : Network
    recipe : Recipe
    info : dict
        Training record: data, settings, measured errors.
    """

    name: str
    architecture: str
    network: Network
    recipe: Recipe
    info: dict = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.architecture}, {self.n_parameters:,} parameters)"

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def mean_percent(self) -> float | None:
        """Mean Err_rho on molecules that the model was not trained on, percent.

        It is that of the validation part, else that of the test part of the fine tuning, else that
        of the model that the training started from; None if none of these is known.
        """
        measured = self.info.get("measured", {})
        found = (
            measured.get("validation_mean_percent"),
            measured.get("test", {}).get("after_mean_percent"),
            self.info.get("parent", {}).get("mean_percent"),
        )
        return next((value for value in found if value is not None), None)

    def seldom(self, symbols: Iterable[str]) -> str:
        """One sentence if the model has learnt little about an element, otherwise an empty string.

        That is an element with fewer than `FEW` labels, if the record of the model has their
        numbers.
        """
        counts = self.info.get("n_labels_of_element", {})
        few = {x: counts[x] for x in dict.fromkeys(symbols) if counts.get(x, FEW) < FEW}
        if not few:
            return ""
        found = ", ".join(f"{n} with {symbol}" for symbol, n in few.items())
        return (
            f"model {self.name!r} has learnt from few labels of an element here ({found}), so the "
            "error of the density may be above 1 %; take Kohn-Sham steps (--refine) or fine-tune"
        )

    def describe(self) -> dict[str, Any]:
        """Describe the model, for JSON: network, level of theory, elements, training, errors.

        `elements` is None if the network takes every element that has a table of a free atom.
        The lists of the names of training molecules are left out.
        """
        elements = self.network.elements
        shown = ("n_train", "n_validation", "steps", "seconds", "versions", "parent", "note")
        return {
            "name": self.name,
            "architecture": self.architecture,
            "n_parameters": self.n_parameters,
            "elements": None if elements is None else [chemical_symbols[z] for z in elements],
            "recipe": self.recipe.record(),
            "config": self.network.sizes,
            "mean_percent": self.mean_percent,
            "measured": self.info.get("measured", {}),
            "training": {key: self.info[key] for key in shown if key in self.info},
        }

    def weights_hash(self) -> str:
        """Hash of the weights, 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for key, value in self.network.state_dict().items():
            digest.update(key.encode() + value.cpu().float().numpy().tobytes())
        return digest.hexdigest()[:16]

    def identity(self) -> str:
        """Unique identity of this model: name, architecture, settings and weights."""
        settings = [self.network.sizes, self.recipe.to_dict()]
        described = json.dumps([*settings, self.mean_percent], sort_keys=True)
        digest = hashlib.sha256(described.encode()).hexdigest()[:16]
        return f"{self.name} {self.architecture} {digest} {self.weights_hash()}"


def build(architecture: str, options: dict) -> Network:
    """Return an untrained network; unknown names or options are an InputError."""
    require_options(architecture, options)
    network_class, config_class = ARCHITECTURES[architecture]
    return network_class(config_class(**options))


def require_options(architecture: str, options: dict) -> None:
    """Raise an InputError for an unknown architecture, or an unknown or wrongly typed option."""
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}"
        )
    known = [f.name for f in fields(ARCHITECTURES[architecture][1])]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"{architecture} has no option {unknown[0]!r}; known: {', '.join(known)}")
    hints = get_type_hints(ARCHITECTURES[architecture][1])
    for name, value in options.items():
        checked(value, hints[name], f"option {name} of {architecture}")


def save_model(path: Path, model: Model, dtype: torch.dtype = torch.float32) -> None:
    """Write a model file through a temporary file in the same folder."""
    path = Path(path)
    metadata = {
        "format": FORMAT,
        "architecture": model.architecture,
        "config": json.dumps(model.network.sizes),
        "recipe": json.dumps(model.recipe.to_dict()),
        "info": json.dumps(model.info),
    }
    tensors = {
        key: value.detach().to("cpu", dtype).contiguous()
        for key, value in model.network.state_dict().items()
    }
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except SafetensorError as error:
        raise InputError(f"{path}: cannot be written ({error})") from error


def load_model(name: str | Path = "default") -> Model:
    """Load a model file by path, or a shipped model by name.

    Raises
    ------
    InputError
        No such file or shipped model, not a denser model file, or weights that do not fit
        their config.
    """
    path = model_path(name)
    metadata = read_metadata(path)
    network = build(metadata["architecture"], metadata["config"])
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    _load_state(network, tensors, str(path))
    network.eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Model(path.stem, metadata["architecture"], network, metadata["recipe"], metadata["info"])


def model_path(name: str | Path) -> Path:
    """File of a shipped model with this name, or the given path.

    Raises
    ------
    InputError
        The name is not that of a shipped model, or the file is a PyTorch checkpoint.
    """
    path = file_path(name, "the name of a model or a model file")
    if path.suffix == "" and not path.exists():
        shipped = shipped_models()
        if str(name) not in shipped:
            raise InputError(
                f"no model named {str(name)!r}; shipped: {', '.join(shipped) or 'none'}; "
                "or give the path of a .safetensors file"
            )
        return _WEIGHTS / f"{name}.safetensors"
    if path.suffix in (".pth", ".pt"):
        raise InputError(
            f"{path}: a PyTorch checkpoint; convert it with `denser models import {path}`"
        )
    return path


def shipped_models() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.stem for path in _WEIGHTS.glob("*.safetensors"))


def read_metadata(path: Path) -> dict:
    """Return format, architecture, config, recipe and info of a model file."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path}: not a denser model file (format {metadata.get('format')!r}, "
            f"expected {FORMAT!r})"
        )
    try:
        return {
            "architecture": metadata["architecture"],
            "config": json.loads(metadata["config"]),
            "recipe": Recipe.from_dict(json.loads(metadata["recipe"])),
            "info": json.loads(metadata["info"]),
        }
    except (KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: the metadata of this model file is damaged ({error})") from error


def _load_state(network: Network, tensors: dict, where: str) -> None:
    """Load a state dictionary after comparing keys and shapes."""
    own = network.state_dict()
    for key in own:
        if key not in tensors:
            raise InputError(f"{where}: the weights lack {key!r}")
        if tensors[key].shape != own[key].shape:
            raise InputError(
                f"{where}: {key!r} has shape {tuple(tensors[key].shape)}, "
                f"the network needs {tuple(own[key].shape)}"
            )
    extra = sorted(set(tensors) - set(own))
    if extra:
        raise InputError(f"{where}: the weights have {extra[0]!r}, which the network does not have")
    network.load_state_dict(tensors)


def import_published(path: Path, sad: str = "gth-szv-1e") -> Model:
    """Read a checkpoint published with Li et al. (2025) (figshare 25365508).

    The size (x2 or x4) follows from the weights. Only tensors and plain containers are read
    (`weights_only`), never arbitrary pickled objects.
    """
    path = Path(path)
    require_recipe(sad)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below reports odd pickles
            data = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: not a checkpoint that can be read safely; if it is one of PyTorch, save it "
            "anew with torch.save({'model_state_dict': network.state_dict()}, ...)"
        ) from error
    state = data.get("model_state_dict") if isinstance(data, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise InputError(f"{path}: expected a dictionary with 'model_state_dict', found none")
    state = {key.removeprefix("module."): value.float() for key, value in state.items()}
    config = X4 if "upsampling.4.weight" in state else X2
    network = ResNet(config)
    _load_state(network, state, str(path))
    network.eval()
    info = {"source": path.name, "paper": "Li et al., Nat. Commun. 16, 4811 (2025)"}
    if isinstance(data.get("epoch"), int):
        info["epoch"] = data["epoch"]
    return Model(path.stem, "resnet", network, Recipe(sad=sad), info)
