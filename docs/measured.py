"""Tables of the figures in results.json, which the commands in benchmarks write with --results."""

import json
from pathlib import Path
from typing import Any

RESULTS: dict[str, dict] = json.loads((Path(__file__).parent / "results.json").read_text())
SHORT = {"sad": "SAD", "model": "default model"}


def figure(path: str) -> Any:
    """Return a figure by its path: keys with dots, and in lists a text of the row that is meant.

    `kinds.acetate.model_percent` is the error of the row of `kinds` that holds "acetate".
    """
    name, *keys = path.split(".")
    value: Any = RESULTS[name]["figures"]
    for key in keys:
        if isinstance(value, list):
            value = next(row for row in value if key in map(str, row.values()))
        else:
            value = value[key]
    return value


def table(head: str, rows: list[list[str]]) -> str:
    """Return a table in Markdown; `head` holds the titles, with "|" between."""
    titles = head.split("|")
    lines = [
        "| " + " | ".join(title.strip() for title in titles) + " |",
        "|---" * len(titles) + "|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def source(name: str) -> str:
    """One line: where, when and with what a record was measured."""
    record = RESULTS[name]
    machine, versions = record["machine"], record["versions"]
    threads = machine["threads"]
    parts = [
        f"`{record['command']}`",
        f"denser {versions['denser']}",
        f"{machine['processor']}, {threads} thread{'s' if threads > 1 else ''}",
        record["date"],
    ]
    return f"<sub>{'; '.join(parts)}.{' ' + record['note'] if 'note' in record else ''}</sub>"


def _with_source(name: str, text: str) -> str:
    return f"{text}\n\n{source(name)}"


def accuracy() -> str:
    """For the first page: errors of the held-out molecules, and those after Kohn-Sham steps."""
    errors = figure("accuracy.all.err_rho_percent")
    rows = []
    for key, title in SHORT.items():
        f = errors[key]
        digits = 3 if key == "model" else 2
        mark = "**" if key == "model" else ""
        cells = [f"{mark}{f['mean']:.{digits}f}{mark}", f"{f['median']:.2f}", f"{f['p95']:.2f}"]
        cells.append(f"{f['worst']:.2f} ({f['worst_formula']})")
        rows.append([f"{mark}{title}{mark}", *cells])
    one, two = (figure(f"one_step.rho_{key}") for key in ("one", "two"))
    n, formula = figure("one_step.n"), one["worst_formula"]
    title = f"default model and one / two Kohn-Sham steps ({n} of the molecules)"
    worst = f"{one['largest']:.2f} / {two['largest']:.2f} ({formula})"
    rows.append([title, f"{one['mean']:.3f} / {two['mean']:.3f}", "", "", worst])
    return table("density | mean | median | 95 % | worst", rows)


def errors() -> str:
    """Errors of the held-out molecules by geometry."""
    parts = {"all": "all", "qm9_geometries": "QM9 geometries", "distorted": "distorted"}
    rows = []
    for part, title in parts.items():
        summary = figure(f"accuracy.{part}")
        for key, density in SHORT.items():
            f = summary["err_rho_percent"][key]
            worst = f"{f['worst']:.2f} ({f['worst_name']}, {f['worst_formula']})"
            mean = f"{f['mean']:.{3 if key == 'model' else 2}f}"
            cells = [mean, f"{f['median']:.2f}", f"{f['p95']:.2f}", worst]
            rows.append([title, str(summary["n"]), density, *cells])
    head = "molecules | n | density | mean | median | 95 % | worst"
    return _with_source("accuracy", table(head, rows))


def errors_around() -> str:
    """Errors around the atoms of an element."""
    rows = [
        [element, str(f["n"]), f"{f['mean']:.2f}", f"{f['worst']:.2f}"]
        for element, f in figure("accuracy.all.around_percent").items()
    ]
    return table("around | molecules | mean | worst", rows)


def errors_by_size() -> str:
    """Errors by number of atoms."""
    rows = [
        [f"{f['from']} to {f['to']}", str(f["n"]), f"{f['mean']:.2f}", f"{f['worst']:.2f}"]
        for f in figure("accuracy.all.by_atoms")
    ]
    return table("atoms | n | mean | worst", rows)


def errors_by_distance() -> str:
    """Errors by distance from the nearest nucleus."""
    rows = []
    for f in figure("accuracy.all.by_distance"):
        first, last = f["from_angstrom"], f["to_angstrom"]
        shell = f"beyond {first:g}" if last is None else f"{first:g} to {last:g}"
        cells = [f"{f['electrons_percent']:.2f}", f"{f['err_rho_percent']:.3f}"]
        rows.append([shell, *cells, f"{f['local_percent']:.2f}"])
    head = "angstrom from the nearest nucleus | electrons, % | share of Err_rho | local error"
    return table(head, rows)


def kinds() -> str:
    """Molecules of other kinds."""
    rows = []
    for f in figure("kinds"):
        percent = (f"{f['sad_percent']:.1f}", f"{f['model_percent']:.2f}")
        dipoles = (f"{f['dipole_debye']:.2f}", f"{f['reference_dipole_debye']:.2f}")
        rows.append([f["molecule"], f["kind"], str(f["n_atoms"]), *percent, *dipoles])
    head = "molecule | kind | atoms | SAD, % | model, % | dipole, D | PySCF's dipole, D"
    return _with_source("kinds", table(head, rows))


def one_step() -> str:
    """Densities, energies and levels after Kohn-Sham steps, beside what the paper reports."""

    def both(key: str) -> str:
        f = figure(f"one_step.{key}")
        return f"{f['mae']:.2g} ({abs(f['largest']):.2g})"

    def levels(step: str) -> str:
        keys = (f"{level}_{step}" for level in ("homo", "lumo", "gap"))
        return " / ".join(f"{figure(f'one_step.{key}')['mae']:.1f}" for key in keys)

    means = (figure(f"one_step.rho_{key}")["mean"] for key in ("network", "one", "two"))
    rows = [
        ["Err_rho of the network / one step / two steps, %",
         " / ".join(f"{mean:.3f}" for mean in means), "0.14"],
        ["E_KS of the output, meV", both("e_ks"), ""],
        ["E_Harris, meV", both("e_harris"), ""],
        ["(2 E_Harris + E_KS)/3, meV", both("e_mixed"), ""],
        ["**E, one step**, meV", both("e_one"), "3.0"],
        ["**E, two steps**, meV", both("e_two"), ""],
        ["HOMO / LUMO / gap, one step, meV", levels("one"), "12 / 9.5 / 11"],
        ["HOMO / LUMO / gap, two steps, meV", levels("two"), ""],
    ]  # fmt: skip
    return _with_source("one_step", table("quantity | default model | the paper", rows))


def speed() -> str:
    """Seconds of one molecule."""
    rows = figure("speed.rows")
    base = figure("speed.rows.density.seconds")
    cells = []
    for row in rows:
        ratio = row["seconds"] / base
        note = f", {row['note']}" if row["note"] else ""
        shown = "" if ratio < 0.99 else f"{ratio:.0f}"
        seconds = row["seconds"]
        cells.append([row["what"] + note, f"{seconds:.{2 if seconds < 1 else 1}f}", shown])
    return _with_source("speed", table(" | seconds | ratio", cells))


def scaling() -> str:
    """Seconds by size."""
    rows = []
    for f in figure("scaling"):
        numbers = (f["n_atoms"], f["nodes"] / 1e6, f["sad_s"], f["network_s"], f["prediction_s"])
        shown = [f"{x:.2f}" if isinstance(x, float) else str(x) for x in numbers]
        shown.append(f"{f['with_one_step_s']:.1f}")
        if "paper_float32_s" in f:
            reduced = f" ({f['paper_bfloat16_s']:.1f})" if "paper_bfloat16_s" in f else ""
            shown.append(f"{f['paper_float32_s']:.3g}{reduced}")
        else:
            shown.append("")
        shown.append(f"{f['scf_s']:.3g}")
        shown += [f"{f['scf_s'] / f[key]:.0f}" for key in ("prediction_s", "with_one_step_s")]
        error = f.get("energy_error_mev")
        rows.append([*shown, "" if error is None else f"{abs(error):.2f}"])
    head = (
        "atoms | million grid points | SAD | network | atoms to density | and one Kohn-Sham step "
    )
    head += "| the paper's network, float32 (bfloat16) | SCF | SCF / density | SCF / one step"
    if any(row[-1] for row in rows):
        head += " | error of the step's energy, meV"
    else:
        rows = [row[:-1] for row in rows]
    return _with_source("scaling", table(head, rows))


def charges() -> str:
    """Molecules a second."""
    rows = [
        [row["charges"], f"{row['cpu_s']:.2f}", f"{1 / row['cpu_s']:.1f}"]
        for row in figure("charges.rows")
    ]
    head = "charges | seconds of one core for each | molecules for each second of a core"
    return _with_source("charges", table(head, rows))


def throughput() -> str:
    """Molecules a second of QM9."""
    rows = [
        [row["charges"], f"{row['per_second']:.1f}", f"{row['cpu_s']:.2g}"]
        for row in figure("throughput.rows")
    ]
    head = "results | molecules a second | seconds of one core for each"
    return _with_source("throughput", table(head, rows))


def costs() -> str:
    """What the time of a molecule is spent on."""
    parts = figure("costs of a molecule.parts_ms")
    rows = [[name, f"{milliseconds:.0f}"] for name, milliseconds in parts.items()]
    return _with_source("costs of a molecule", table("part | CPU milliseconds", rows))


def large() -> str:
    """CPU time per atom, memory and errors of large structures."""
    head = "structure | atoms | on a grid: prediction | charges | potential | GB"
    head += " | without: prediction | GB | Err_rho, %"
    rows = []
    for f in figure("large"):

        def per_atom(name: str) -> str:
            seconds = f.get(f"{name}_cpu_s")  # noqa: B023
            return "" if seconds is None else f"{1000 * seconds / f['n_atoms']:.1f}"  # noqa: B023

        def memory(*parts: str) -> str:
            found = [f[name] for part in parts if (name := f"{part}_memory_gb") in f]  # noqa: B023
            return f"{found[0]:.1f}" if found else ""

        error = f"{f['err_rho_percent']:.2f}" if "err_rho_percent" in f else ""
        error += " (fragments)" if f.get("reference") == "fragments" else ""
        name = f["structure"].partition(":")[0].removesuffix(".xyz")
        times = [per_atom(part) for part in ("grid", "grid_charges", "grid_potential")]
        row = [name, f"{f['n_atoms']:,}", *times, memory("grid"), per_atom("predict")]
        rows.append([*row, memory("predict", "points"), error])
    return _with_source("large", table(head, rows))


def threads() -> str:
    """Seconds of a prediction by number of threads."""
    rows = figure("threads")
    numbers = list(rows[0]["seconds"])
    titles = [f"{n} thread{'s' if n != '1' else ''}" if n.isdigit() else n for n in numbers]
    head = " | ".join(["atoms", "other processes", *titles])
    text = [
        [str(r["n_atoms"]), str(r["busy"]), *(f"{r['seconds'][n]:.2f}" for n in numbers)]
        for r in rows
    ]
    return _with_source("threads", table(head, text))


def interactions() -> str:
    """Errors of interaction energies, kcal/mol, beside those of one-step energies."""
    rows = []
    for kind, f in figure("interactions.errors").items():
        if not f["n"]:
            continue
        row = [kind, str(f["n"]), f"{f['mean']:+.2f}", f"{f['mae']:.2f}", f"{f['worst']:.1f}"]
        of_steps = f.get("step_counterpoise", {"n": 0})
        if of_steps["n"]:
            same, plain = f["on_the_same"], f["step"]
            row += [str(of_steps["n"]), f"{same['mae']:.2f}", f"{of_steps['mae']:.2f}"]
            row.append(f"{plain['mae']:.2f}")
        rows.append(row + [""] * (9 - len(row)))
    head = "dimers | number | mean error | mean absolute | largest | number with one step "
    head += "| mean absolute | of one step | without counterpoise"
    return _with_source("interactions", table(head, rows))


def hf_charges() -> str:
    """Potentials of charges beside those of HF."""
    rows = []
    for row in figure("hf_charges.rows"):
        error = f"{row['mean']:.1f} % ({row['median']:.1f})"
        rms = f"{row['rms']:.3f} e" if row["rms"] else "0"
        rows.append([row["charges"], error, f"{row['ions']:.1f} %", rms])
    head = "charges | neutral, mean (median) | ions | rms difference from HF's charges"
    return _with_source("hf_charges", table(head, rows))


def large_charges() -> str:
    """CPU seconds of large structures."""
    kinds = ("network", "resp", "hirshfeld", "mbis")
    rows = [
        [row["name"], f"{row['atoms']:,}"] + [f"{row[part]:.1f}" for part in kinds]
        for row in figure("charges of large structures.rows")
    ]
    head = "structure | atoms | network | RESP | Hirshfeld | MBIS"
    return _with_source("charges of large structures", table(head, rows))


TABLES = {
    function.__name__: function
    for function in (
        accuracy, errors, errors_around, errors_by_size, errors_by_distance, kinds, one_step,
        speed, scaling, charges, throughput, costs, large,
        threads, interactions, hf_charges, large_charges,
    )
}  # fmt: skip
"""By the names in the marks of pages."""
