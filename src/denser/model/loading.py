"""Models on a device, ready for predictions."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from denser.model.checkpoint import Model, load_model, model_path
from denser.types.errors import InputError


def load_on(name: str | Path, device: torch.device) -> Model:
    """Model file on a device; it is read again only after it has changed."""
    path = model_path(name).absolute()
    try:
        status = path.stat()
    except OSError:
        return load_model(name)  # its error says what is wrong
    return _load_once(path, status.st_size, status.st_mtime_ns, device)


@lru_cache(maxsize=4)
def _load_once(path: Path, size: int, changed: int, device: torch.device) -> Model:
    return for_prediction(load_model(path), device)


def for_prediction(model: Model, device: torch.device) -> Model:
    """The model on the device, with fixed weights; `model` itself is moved."""
    model.network.to(device).eval().requires_grad_(False)
    return model


def device_of(name: str) -> torch.device:
    """The device of a name: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ..."""
    if not isinstance(name, str):
        raise InputError(f"the device must be a text such as 'cpu', found {type(name).__name__}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"unknown device {name!r}; give auto, cpu, cuda, or one of several such as cuda:1"
        ) from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} is not available ({str(error).splitlines()[0]}); use --device cpu"
        ) from error
    return device
