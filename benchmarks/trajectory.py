"""Properties along a trajectory: frames per second and memory.

    python benchmarks/trajectory.py --frames 1000 --workers 2

A cluster of water molecules, each of which is turned and shifted a little at random from frame
to frame (one molecule after another, no dynamics); dipole, Hirshfeld charges and non-covalent
interactions of each frame at a spacing of 0.166 angstrom. Memory is the largest of any process
while the first tenth of the frames was done, and at the end.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write

from denser.model.options import PredictionOptions
from denser.workflows.inputs import find_inputs
from denser.workflows.report.outputs import ReportSettings
from denser.workflows.report.report import Report


def cluster(n: int) -> list[Atoms]:
    """Water molecules on a lattice of 2.9 angstrom, turned at random."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(n ** (1 / 3)))
    places = np.stack(np.unravel_index(np.arange(n), (side,) * 3), axis=1) * 2.9
    waters = []
    for place in places:
        water = molecule("H2O")
        water.rotate(360 * rng.random(), rng.normal(size=3))
        water.translate(place)
        waters.append(water)
    return waters


def trajectory(n_waters: int, n_frames: int) -> list[Atoms]:
    """Frames in which all molecules have moved by a few degrees and hundredths of an angstrom."""
    rng = np.random.default_rng(1)
    waters, frames = cluster(n_waters), []
    for _ in range(n_frames):
        for water in waters:
            water.rotate(4 * rng.normal(), rng.normal(size=3), center="COM")
            water.translate(rng.normal(0, 0.01, 3))
        frames.append(sum(waters[1:], waters[0].copy()))
    return frames


def memory_of_children() -> float:
    """Largest resident memory of this process and of those that it started, MB (Linux)."""
    largest = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            ours = int(lines["PPid"]) == own or int(lines["Pid"]) == own
            if ours and "VmRSS" in lines:
                largest = max(largest, int(lines["VmRSS"].split()[0]))
        except (OSError, ValueError, KeyError):
            continue  # a process that ended meanwhile
    return largest / 1024


def main() -> None:
    """Print one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--waters", type=int, default=6)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    memory: list[tuple[int, float]] = []
    done = 0

    def watch() -> None:
        while True:
            memory.append((done, memory_of_children()))
            time.sleep(1.0)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trajectory.extxyz"
        write(path, trajectory(options.waters, options.frames))
        settings = ReportSettings(
            ("moments", "hirshfeld", "nci"), options=PredictionOptions(spacing=0.166)
        )
        report = Report(find_inputs([path], []), settings, Path(folder) / "report")
        threading.Thread(target=watch, daemon=True).start()

        def tell(record: dict) -> None:
            nonlocal done
            done += 1
            if "error" in record:
                raise SystemExit(record["error"])

        totals = report.run(options.workers, tell)
        rows = (Path(folder) / "report" / "frames.csv").read_text().count("\n") - 1
    early = max(m for n, m in memory if n <= options.frames / 10)
    print(
        f"{rows} frames of {options.waters} waters, {options.workers} worker(s): "
        f"{totals.seconds:.0f} s, {totals.done / totals.seconds:.2f} frames a second, memory "
        f"{early:.0f} MB in the first tenth, {memory[-1][1]:.0f} MB at the end"
    )


if __name__ == "__main__":
    import os

    own = os.getpid()
    main()
