"""Speed of denser, of the paper's network and of PySCF's SCF: one molecule, machine and run.

    python benchmarks/speed.py
    python benchmarks/speed.py --file water.xyz --box isolated --threads 1 --skip-scf

Networks: median of --repeat runs after one that is not counted; SCF: one run, from PySCF's own
starting density. The paper's network has random weights: time does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from denser.types.errors import InputError
from recording import add_option, processor, record

if TYPE_CHECKING:
    from ase import Atoms

    from denser.model.prediction import Prediction
    from denser.model.predictor import Predictor
    from denser.types.density import Field
    from denser.types.structure import Structure

DEFAULT_FILE = Path(__file__).parents[1] / "examples" / "aspirin.xyz"


def arguments() -> argparse.Namespace:
    """Return the command line's choices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=DEFAULT_FILE, help="any file ASE reads")
    parser.add_argument("--model", default="default")
    parser.add_argument("--box", choices=("paper", "isolated"), default="paper")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--skip-scf", action="store_true")
    add_option(parser)
    chosen = parser.parse_args()
    if chosen.repeat < 1 or chosen.threads < 1:
        parser.error("--repeat and --threads must be at least 1")
    return chosen


def median(function: Callable[[], object], repeat: int, first: int = 1) -> float:
    """Median wall time of a call in seconds; the first calls are not counted."""
    for _ in range(first):
        function()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def time_prediction(
    predictor: Predictor, atoms: Atoms | Structure, box: str, repeat: int
) -> tuple[Prediction, float, float, float]:
    """The last prediction, and median seconds of SAD, network and the whole of it."""
    found: list[Prediction] = []
    whole = median(lambda: found.append(predictor.predict(atoms, box=box)), repeat)
    sad = statistics.median(p.seconds_sad for p in found[1:])
    network = statistics.median(p.seconds_network for p in found[1:])
    return found[-1], sad, network, whole


def paper_seconds(sad: Field, repeat: int) -> dict[str, float]:
    """Median wall time of the network of Li et al. (x2, random weights) by precision, seconds.

    Its input is every second node of the SAD. In bfloat16 only where the processor has
    instructions for it.
    """
    import torch

    from denser.model.precision import fast_bf16
    from denser.model.resnet import X2, ResNet

    torch.manual_seed(0)
    network = ResNet(X2).eval()
    image = torch.tensor(sad.values, dtype=torch.float32)[None, None]

    def forward(bf16: bool) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            network(image)

    precisions = {"float32": False}
    if fast_bf16(torch.device("cpu")):
        precisions["bfloat16"] = True
    return {name: median(lambda b=bf16: forward(b), repeat) for name, bf16 in precisions.items()}


def run(chosen: argparse.Namespace) -> None:
    """Time everything and print the tables."""
    # Libraries read their number of threads when they are first imported.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(chosen.threads)
    import_module("denser.dft")  # before torch: its docstring says why
    import ase.io
    import numpy as np
    import pyscf
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import denser
    from denser.dft.scf import scf
    from denser.model.predictor import Predictor
    from denser.types.structure import Structure

    torch.set_num_threads(chosen.threads)
    pyscf.lib.num_threads(chosen.threads)
    structure = Structure.of(ase.io.read(chosen.file))
    predictor = Predictor(chosen.model, device="cpu")
    prediction, seconds_sad, seconds_network, whole = time_prediction(
        predictor, structure, chosen.box, chosen.repeat
    )
    sad, grid = prediction.sad, prediction.sad.grid
    rows = [
        ("sad", "denser, SAD", seconds_sad, ""),
        (
            "network",
            f"denser, network ({'bfloat16' if predictor.bf16 else 'float32'})",
            seconds_network,
            "",
        ),
        ("density", "denser, atoms to density", whole, ""),
    ]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "denser", "predict", str(chosen.file), "--model"]
        command += [chosen.model, "--box", chosen.box, "-o", f"{folder}/rho.cube"]
        seconds = median(
            lambda: subprocess.run(command, check=True, capture_output=True), chosen.repeat, 0
        )
    rows.append(("command", "denser predict, whole command, with start and cube", seconds, ""))
    for precision, seconds in paper_seconds(sad, chosen.repeat).items():
        what = f"network of Li et al. x2 ({precision}), random weights"
        rows.append((f"paper_{precision}", what, seconds, ""))
    if not chosen.skip_scf:
        result = scf(structure, grid, predictor.model.recipe)
        note = f"{result.cycles} cycles" + ("" if result.converged else ", not converged")
        rows.append(("scf", "PySCF SCF, PBE/GTH-TZV2P", result.seconds, note))

    with FlopCounterMode(display=False) as counter:
        predictor.raw(sad, chosen.box == "paper")
    shape = " x ".join(str(n) for n in grid.shape)
    facts = {
        "molecule": f"{structure.formula}, {len(structure)} atoms ({chosen.file.name})",
        "grid": f"{shape} = {grid.size / 1e6:.2f} million nodes ({chosen.box} box)",
        "model": predictor.model.name,
        "cost": f"{counter.get_total_flops() / 1e12:.3f} TFLOP in convolutions and matrix products",
        "processor": f"{processor()}, {os.cpu_count()} visible",
        "threads": chosen.threads,
        "load": f"{os.getloadavg()[0]:.1f} (mean of the last minute, this run included)",
        "versions": f"denser {denser.__version__}, torch {torch.__version__}, "
        f"PySCF {pyscf.__version__}, NumPy {np.__version__}, Python {platform.python_version()}",
    }
    for key, value in facts.items():
        print(f"{key:10} {value}")
    print(f"\n{'':52} {'seconds':>9} {'ratio':>10}  to atoms-to-density")
    for _, name, seconds, note in rows:
        print(f"{name:52} {seconds:9.3f} {seconds / whole:10.2f}  {note}".rstrip())
    timed = [dict(zip(("key", "what", "seconds", "note"), row, strict=True)) for row in rows]
    figures = {key: facts[key] for key in ("molecule", "grid", "cost")} | {"rows": timed}
    record(chosen.results, "speed", figures, model=predictor.model.name, threads=chosen.threads)


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    chosen = arguments()
    try:
        run(chosen)
    except (InputError, OSError) as error:
        print(f"speed.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
