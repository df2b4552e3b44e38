"""Write the figures of a benchmark into the file that the pages are made from.

    python benchmarks/kinds.py --results docs/results.json && make docs

A record holds the figures, the command, the day, the machine, the versions, and the model. A model
is known by its name and by the dipole moment that it predicts for acetamide: two files of weights
that predict the same have the same figures. Times do not depend on weights, so that records of
times alone have no dipole. `tests/test_pages.py` compares the records with the shipped model.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denser.io.files import replacing

if TYPE_CHECKING:
    from denser.model.predictor import Predictor

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "pyscf", "numpy")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add --results to the options of a benchmark."""
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="write the figures into docs/results.json"
    )


def record(
    path: Path | None,
    name: str,
    figures: Any,
    predictor: Predictor | None = None,
    model: str = "default",
    threads: int | None = None,
) -> None:
    """Write the record `name` into the file `path`; the others in it stay as they are.

    Parameters
    ----------
    path : Path or None
        What --results was given; nothing is written without it.
    name : str
        Key of the record.
    figures : object
        Plain data; floating-point numbers are written with six digits.
    predictor : Predictor, optional
        The model, if the figures depend on its weights.
    model : str
        Name of the model, if there is no predictor.
    threads : int, optional
        Of the process; by default what PyTorch uses.
    """
    if path is None:
        return
    import torch

    import denser

    known = {"name": predictor.model.name if predictor else model}
    if predictor:
        known["acetamide_dipole_debye"] = acetamide_dipole(predictor)
    entry = {
        "command": command(sys.argv),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": threads or torch.get_num_threads(),
            "load": round(os.getloadavg()[0], 1),
        },
        "versions": {"denser": denser.__version__, "python": platform.python_version()}
        | {package: _version(package) for package in PACKAGES},
        "model": known,
        "figures": rounded(figures),
    }
    records = json.loads(path.read_text()) if path.exists() else {}
    records[name] = entry
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(dict(sorted(records.items())), indent=1) + "\n")
    print(f"wrote {path} ({name})")


def with_earlier(path: Path | None, name: str, rows: list[dict], key: str) -> list[dict]:
    """The rows of the record `name` in a file, those of the same `key` replaced; new ones last."""
    if path is None or not path.exists():
        return rows
    earlier = json.loads(path.read_text()).get(name, {}).get("figures", [])
    new = {row[key]: row for row in rows}
    found = [new.pop(row[key], row) for row in earlier]
    return found + list(new.values())


def acetamide_dipole(predictor: Predictor) -> float:
    """Dipole moment that a model predicts for acetamide (G2's geometry), debye."""
    import numpy as np
    from ase.build import molecule

    from denser.types.units import DEBYE

    density = predictor.predict(molecule("CH3CONH2"), spacing=0.2).density
    return round(float(np.linalg.norm(density.dipole())) * DEBYE, 5)


def command(argv: list[str]) -> str:
    """The command, without --results and without folders that others do not have."""
    words, rest = [], iter(argv[1:])
    for word in rest:
        if word == "--results":
            next(rest, None)
        elif not word.startswith("--results="):
            path = Path(word)
            inside = path.resolve().is_relative_to(ROOT)
            if "/" in word and path.exists():
                word = str(path.resolve().relative_to(ROOT)) if inside else path.name
            words.append(word)
    return " ".join(["python", f"benchmarks/{Path(argv[0]).name}", *words])


def processor() -> str:
    """Name of the CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def rounded(value: Any) -> Any:
    """Return plain data with numbers of six digits."""
    if isinstance(value, dict):
        return {str(key): rounded(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(x) for x in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    return float(f"{float(value):.6g}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
