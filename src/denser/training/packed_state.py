"""The state of a run in one small file, to go on with it on another machine.

Weights are stored exactly. The difference between the averaged weights and the weights, and the
momentum of Muon, are stored in 8 bits with a scale for each row, and the moments of Adam as
bfloat16. A state of the default model (2.1 million weights) has 13 MB then, in place of 26.
All runs that go on from one file take the same steps. They differ a little from those of the run
itself, which goes on from its own folder without rounding.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from denser.io.files import replacing
from denser.training.folder import open_folder, read_state, write_json, write_state
from denser.types.errors import InputError

_FORMAT = "denser state 1"
_FILES = ("config.json", "run.json")


def pack_state(run: str | Path, out: str | Path) -> None:
    """Write the last state of a run to one file.

    Parameters
    ----------
    run : path
        Folder of `denser train`; the run may go on meanwhile.
    out : path
        File to write (safetensors).

    Raises
    ------
    InputError
        The folder has no state, or a file cannot be read or written.
    """
    run, out = Path(run), Path(out)
    if not (run / "state.pt").exists():
        raise InputError(f"{run} contains no state of a run (state.pt)")
    texts = {}
    for name in _FILES:
        try:
            text = zlib.compress((run / name).read_bytes())
        except OSError as error:
            raise InputError(f"{run / name}: cannot be read ({error.strerror})") from error
        texts[name] = base64.b64encode(text).decode()
    saved = read_state(run / "state.pt", torch.device("cpu"))
    tensors: dict[str, Tensor] = {}
    for key, value in saved["network"].items():
        tensors["network." + key] = value.contiguous()
        _put(tensors, "average." + key, saved["average"][key] - value)
    groups = []
    for i, optimizer in enumerate(saved["optimizers"]):
        groups.append(optimizer["param_groups"])
        for index, moments in optimizer["state"].items():
            for name, value in moments.items():
                key = f"optimizer.{i}.{index}.{name}"
                if name == "momentum":
                    _put(tensors, key, value)
                else:  # Adam's; its number of steps stays exact
                    tensors[key] = value.bfloat16() if value.ndim else value
    meta = {
        "format": _FORMAT,
        "state": json.dumps(saved["state"]),
        "groups": json.dumps(groups),
        **texts,
    }
    with replacing(out) as temporary:
        save_file(tensors, temporary, meta)


def unpack_state(path: str | Path, out: str | Path) -> None:
    """Make the folder of a run from the file of `pack_state`; `denser train` then goes on there.

    Raises
    ------
    InputError
        The file cannot be read or is not of `pack_state`, or the folder cannot be written.
    """
    path, out = Path(path), Path(out)
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as the state of a run ({error})") from error
    if meta.get("format") != _FORMAT:
        raise InputError(f"{path}: not the state of a run, as denser models pack-state writes it")
    network = {k.removeprefix("network."): v for k, v in found.items() if k.startswith("network.")}
    average = {key: value + _get(found, "average." + key) for key, value in network.items()}
    optimizers: list[dict[str, Any]] = [
        {"state": {}, "param_groups": groups} for groups in json.loads(meta["groups"])
    ]
    for key in found:
        kind, *place = key.removesuffix(".scale").split(".")
        if kind == "optimizer":
            i, index, name = place
            moments = optimizers[int(i)]["state"].setdefault(int(index), {})
            moments[name] = _get(found, key.removesuffix(".scale")).float()
    open_folder(out)
    for name in _FILES:
        write_json(out / name, json.loads(zlib.decompress(base64.b64decode(meta[name]))))
    content = {
        "network": network,
        "average": average,
        "optimizers": optimizers,
        "state": json.loads(meta["state"]),
    }
    write_state(out / "state.pt", content)


def _put(tensors: dict[str, Tensor], key: str, value: Tensor) -> None:
    """Store as whole numbers from -127 to 127 times a scale for each row."""
    rows = value.reshape(len(value), -1) if value.ndim else value.reshape(1, 1)
    scale = (rows.abs().amax(dim=1) / 127).float()
    steps = torch.round(rows / scale.clamp(min=1e-38)[:, None])
    tensors[key] = steps.to(torch.int8).reshape(value.shape).contiguous()
    tensors[key + ".scale"] = scale


def _get(found: dict[str, Tensor], key: str) -> Tensor:
    """Value of `_put`, or one that was stored as it is."""
    value, scale = found[key], found.get(key + ".scale")
    if scale is None:
        return value
    shape = (-1, *[1] * (value.ndim - 1)) if value.ndim else ()
    return value.float() * scale.reshape(shape)
