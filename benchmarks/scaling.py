"""Prediction and one Kohn-Sham step against the SCF and the paper's network, by size.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --only ethanol --threads 1 --skip-paper
    python benchmarks/scaling.py --large water:100 water:10000 protein.pdb dna.xyz:-2 --threads 1

Molecules of 9 to 100 atoms from SMILES, in the paper's box, all in one run. The prediction is the
median of three (in parts: SAD; the network, its Gaussians on the grid and the scaling to N_e), the
paper's network one run after one that is not counted, the step and the SCF one run; the SCF starts
from PySCF's own density. "E error" is that of the one-step energy.

With --large, predictions of droplets of water (water:ATOMS) and of structures in files
(FILE:CHARGE) alone, each by `benchmarks/large.py` in processes of its own: on a grid with the
spacing of --spacing, and without a grid with charges and the potential around the structure. With
--references N, structures of up to N atoms get an SCF and Err_rho, larger ones of small molecules
SCFs of fragments. The figures are written into
--results as they come, and those that are there, of this version, are not measured again. --plot
draws them. CPU seconds do not depend on other work as much as wall seconds do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import denser
from denser.types.errors import InputError
from recording import add_option, record
from speed import paper_seconds, time_prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOLECULES = {
    "ethanol": "CCO",
    "N-methylbutanamide": "CCCC(=O)NC",
    "ibuprofen ethyl ester": "CC(C)Cc1ccc(cc1)C(C)C(=O)OCC",
    "peptide": "CC(=O)" + "NCC(=O)" * 12 + "NCC",
}


def run(chosen: argparse.Namespace) -> None:
    """Time everything and print the table, a row as it comes."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(chosen.threads)
    import_module("denser.dft")  # before torch: its docstring says why
    import pyscf
    import torch

    from denser.dft.refine import refine
    from denser.dft.scf import scf
    from denser.io.structures import from_smiles
    from denser.model.predictor import Predictor
    from denser.types.units import HARTREE

    torch.set_num_threads(chosen.threads)
    pyscf.lib.num_threads(chosen.threads)
    predictor = Predictor(chosen.model, device="cpu")
    recipe = predictor.model.recipe
    unknown = set(chosen.only) - set(MOLECULES)
    if unknown:
        raise InputError(f"no molecule named {unknown.pop()!r}; known: {', '.join(MOLECULES)}")
    print(f"model {predictor.model.name}, {chosen.threads} threads, seconds of wall time")
    head = ("atoms", "nodes/1e6", "SAD", "network", "prediction", "one step", "SCF", "cycles")
    head += ("SCF/pred", "SCF/both") + (() if chosen.skip_paper else ("paper fp32", "bf16"))
    print("".join(f"{title:>11}" for title in head) + "   E error/meV  molecule")
    predictor.predict(from_smiles("O"), box="paper")  # the first call loads and compiles
    found = []
    for name in chosen.only or MOLECULES:
        atoms = from_smiles(MOLECULES[name])
        prediction, sad, network, predict = time_prediction(predictor, atoms, "paper", 3)
        begin = time.perf_counter()
        step = refine(prediction.density, recipe)
        one_step = time.perf_counter() - begin
        result = scf(atoms, prediction.density.grid, recipe)
        times = (sad, network, predict, one_step, result.seconds)
        ratios = (f"{result.seconds / t:.0f}" for t in (predict, predict + one_step))
        nodes = prediction.density.grid.size
        row = [str(len(atoms)), f"{nodes / 1e6:.2f}", *[f"{t:.2f}" for t in times]]
        row += [str(result.cycles), *ratios]
        figures = {"molecule": name, "n_atoms": len(atoms), "nodes": nodes, "sad_s": sad}
        figures |= {"network_s": network, "prediction_s": predict}
        figures |= {"with_one_step_s": predict + one_step}
        figures |= {"scf_s": result.seconds, "cycles": result.cycles}
        if not chosen.skip_paper:
            paper = paper_seconds(prediction.sad, 1)
            figures |= {f"paper_{key}_s": seconds for key, seconds in paper.items()}
            row += [f"{paper[key]:.1f}" if key in paper else "-" for key in ("float32", "bfloat16")]
        error = 1000 * HARTREE * (step.e_tot - result.e_tot)
        found.append(figures | {"energy_error_mev": error})
        print("".join(f"{value:>11}" for value in row) + f"{error:14.1f}  {name}", flush=True)
    record(chosen.results, "scaling", found, predictor, threads=chosen.threads)


def run_large(chosen: argparse.Namespace) -> None:
    """Measure large structures and print the table, a row as it comes."""
    rows = _known(chosen)
    print(f"model {chosen.model}, {chosen.threads} threads; milliseconds of CPU time per atom, GB")
    print("".join(f"{title:>11}" for title in _TITLES) + "  structure")
    for entry in chosen.large:
        row = rows.setdefault(_label(entry), {"structure": _label(entry)})
        parts = [part for part in chosen.parts if f"{part}_memory_gb" not in row]
        for part in parts:
            row |= _measured(part, entry, chosen)
        if chosen.references and "n_atoms" in row and "err_rho_percent" not in row:
            few = row["n_atoms"] <= chosen.references
            row |= _measured("reference" if few else "fragments", entry, chosen)
        print("".join(f"{text:>11}" for text in _texts(row)) + f"  {row['structure']}", flush=True)
        done = sorted((r for r in rows.values() if "n_atoms" in r), key=lambda r: r["n_atoms"])
        record(chosen.results, "large", done, model=chosen.model, threads=chosen.threads)
    if chosen.plot:
        plot(chosen.plot, [row for row in rows.values() if "n_atoms" in row])


_TITLES = ("atoms", "nodes/1e6", "grid", "charges", "potential", "GB")
_TITLES += ("no grid", "charges", "potential", "GB", "Err_rho/%")


def _texts(row: dict) -> list[str]:
    """Columns of the table; empty where a part failed."""

    def number(key: str, factor: float = 1.0) -> str:
        return f"{factor * row[key]:.2f}" if key in row else ""

    each = 1000 / row.get("n_atoms", 1)
    return [
        str(row.get("n_atoms", "")),
        number("nodes", 1e-6),
        *(number(f"{key}_cpu_s", each) for key in ("grid", "grid_charges", "grid_potential")),
        number("grid_memory_gb"),
        *(number(f"{key}_cpu_s", each) for key in ("predict", "charges", "potential")),
        number("points_memory_gb"),
        number("err_rho_percent"),
    ]


def _label(entry: str) -> str:
    """Name of a structure in the table, without the folder of its file."""
    return entry if entry.startswith("water:") else Path(entry).name


def _known(chosen: argparse.Namespace) -> dict[str, dict]:
    """Rows of --results that were measured with this version, model and number of threads."""
    if chosen.results is None or not chosen.results.exists():
        return {}
    earlier = json.loads(chosen.results.read_text()).get("large")
    if earlier is None:
        return {}
    now = (denser.__version__, chosen.threads, chosen.model)
    of = earlier["versions"]["denser"], earlier["machine"]["threads"], earlier["model"]["name"]
    return {row["structure"]: row for row in earlier["figures"]} if of == now else {}


def _measured(part: str, entry: str, chosen: argparse.Namespace) -> dict:
    """Figures of `benchmarks/large.py`; a failure is reported, and there are none."""
    command = [sys.executable, str(Path(__file__).parent / "large.py"), part, entry]
    command += ["--threads", str(chosen.threads), "--spacing", str(chosen.spacing)]
    done = subprocess.run([*command, "--model", chosen.model], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        print(f"{entry}, {part}: {reason[0]}", file=sys.stderr)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def plot(path: Path, rows: list[dict]) -> None:
    """Draw milliseconds per atom, memory and errors by the number of atoms."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    left, right, errors = figure.subplots(1, 3)
    lines = {
        "prediction on a grid": "grid_cpu_s",
        "charges on it": "grid_charges_cpu_s",
        "potential on it": "grid_potential_cpu_s",
        "prediction without a grid": "predict_cpu_s",
        "charges without a grid": "charges_cpu_s",
        "potential without a grid": "potential_cpu_s",
    }
    for mark, chosen in (("o-", _waters(rows)), ("D", [r for r in rows if r not in _waters(rows)])):

        def draw(axes: Axes, title: str, color: str, values: dict[int, float]) -> None:
            label = title if mark == "o-" else None  # noqa: B023
            if values:
                axes.plot([*values], [*values.values()], mark, color=color, label=label, ms=4)  # noqa: B023

        for k, (title, key) in enumerate(lines.items()):
            each = {r["n_atoms"]: 1000 * r[key] / r["n_atoms"] for r in chosen if key in r}
            draw(left, title, f"C{k}", each)
        memory = {"on a grid": ("grid",), "without a grid": ("predict", "points")}
        for k, (title, parts) in enumerate(memory.items()):
            keys = [f"{part}_memory_gb" for part in parts]
            found = {r["n_atoms"]: next((r[key] for key in keys if key in r), None) for r in chosen}
            draw(right, title, f"C{3 * k}", {n: gb for n, gb in found.items() if gb is not None})
    top = max(1000 * r[key] / r["n_atoms"] for r in rows for key in lines.values() if key in r)
    left.set(xscale="log", xlabel="atoms", ylabel="CPU ms per atom", ylim=(0, 1.6 * top))
    for mark, kind in (("o", "whole"), ("s", "fragments")):
        known = [row for row in rows if row.get("reference") == kind]
        numbers = [row["n_atoms"] for row in known]
        errors.plot(numbers, [row["err_rho_percent"] for row in known], mark, label=f"SCF, {kind}")
    errors.set(xscale="log", xlabel="atoms", ylabel="Err_rho, %", ylim=(0, None))
    errors.legend(fontsize=6)
    right.set(xscale="log", yscale="log", xlabel="atoms", ylabel="peak memory, GB")
    left.legend(fontsize=6, loc="upper left")
    right.legend(fontsize=6)
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def _waters(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row["structure"].startswith("water:")]


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--only", nargs="+", default=[], help="names of molecules")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--large", nargs="+", help="water:ATOMS, FILE or FILE:CHARGE")
    parser.add_argument("--spacing", type=float, default=0.2, help="with --large, angstrom")
    parts = ("grid", "points")
    choices = ("grid", "predict", "points")
    parser.add_argument("--parts", nargs="+", choices=choices, default=parts, help="with --large")
    parser.add_argument("--references", type=int, default=0, help="with --large, atoms")
    parser.add_argument("--plot", type=Path, help="with --large: a picture")
    parser.add_argument("--skip-paper", action="store_true", help="not the paper's network")
    add_option(parser)
    try:
        chosen = parser.parse_args()
        run_large(chosen) if chosen.large else run(chosen)
    except InputError as error:
        print(f"scaling.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
