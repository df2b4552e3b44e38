"""What is installed: versions, extras, devices, models and settings, for `denser info`."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from denser.types.version import __version__

SETTINGS = ("DENSER_MODEL", "DENSER_DEVICE", "DENSER_THREADS")
"""Environment variables that set defaults of the commands."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:.*extra == ['\"](\w+)['\"])?")

_BUNDLES = ("all", "dev")
"""Extras that consist of other extras."""


def installation() -> dict[str, Any]:
    """Return versions, extras, devices, models and settings as one record."""
    import torch

    from denser.model.checkpoint import shipped_models
    from denser.workflows.workers import processors

    packages: dict[str, str | None] = {}
    extras: dict[str, dict[str, str | None]] = {}
    for line in requires("denser") or ():
        found = _REQUIREMENT.match(line)
        if found is None or found[2] in _BUNDLES or found[1] == "denser":
            continue
        table = packages if found[2] is None else extras.setdefault(found[2], {})
        table[found[1]] = _version(found[1])
    return {
        "denser": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.executable,
        "packages": packages,
        "extras": extras,
        "processors": processors(),
        "threads": torch.get_num_threads(),
        "devices": ["cpu", *_graphics_cards(torch)],
        "models": shipped_models(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def lines(record: dict[str, Any]) -> list[str]:
    """Text of `installation`."""
    rows = [
        ("denser", f"{record['denser']}, Python {record['python']}, {record['platform']}"),
        ("packages", ", ".join(f"{name} {found}" for name, found in record["packages"].items())),
    ]
    for extra, table in record["extras"].items():
        missing = [name for name, found in table.items() if found is None]
        parts = [f"{name} {found}" for name, found in table.items() if found is not None]
        if missing:
            parts.append(f"{', '.join(missing)} missing (pip install 'denser[{extra}]')")
        rows.append((f"[{extra}]", ", ".join(parts)))
    rows += [
        ("processors", f"{record['processors']}, {record['threads']} threads"),
        ("devices", ", ".join(record["devices"])),
        ("models", ", ".join(record["models"])),
        ("settings", ", ".join(f"{k}={v}" for k, v in record["settings"].items()) or "none"),
    ]
    width = max(len(title) for title, _ in rows)
    return [f"{title:{width}}  {text}" for title, text in rows]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _graphics_cards(torch: Any) -> list[str]:
    """Such as `cuda:0 (NVIDIA H100, 80 GB)`."""
    found = []
    for i in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(i)
        found.append(f"cuda:{i} ({card.name}, {card.total_memory / 1e9:.0f} GB)")
    return found
