"""Pack stores of labels into shards, unpack shards to files, and write a table of contents."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from denser.atoms.sad import superposition_at
from denser.io.files import replacing
from denser.labels.cloud import cloud
from denser.labels.held_out import ENDING, FORMULAS, names, why_held_out
from denser.labels.label import Label
from denser.labels.packed import (
    N_POINTS,
    SUFFIX,
    PackedLabel,
    content_key,
    encode,
    on_lattice,
    read_shard,
    rounded_deformation,
)
from denser.labels.render import density_at_points
from denser.labels.store import LabelStore
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.units import BOHR, HARTREE
from denser.types.version import __version__

CONTENTS = "labels.csv"
"""Name of the table of contents in a folder of shards."""

COLUMNS = (
    "name", "formula", "charge", "spin", "source", "distorted", "box", "level", "made_by",
    "split", "shard",
)  # fmt: skip


@dataclass
class Packing:
    """Result of packing: the number of labels, and the names that were left out by reason."""

    packed: int = 0
    size: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)


def pack(
    stores: list[Path],
    out: Path,
    note: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Packing:
    """Write the labels of stores to a new shard, as training labels.

    Three kinds of labels are left out: held-out molecules (`denser.labels.held_out`), labels whose
    content is already in the other shards of the folder or earlier in the stores, and labels whose
    name is already used there.

    Parameters
    ----------
    stores : list of Path
        All of one level of theory.
    out : Path
        Ends in `.shard`; it must not exist.
    note : str
        How the labels were made; it is written to the header.
    progress : callable
        Called with the number of labels done and their total number.

    Raises
    ------
    InputError
        `out` is there or cannot be written, a store that cannot be read, two levels of theory,
        another recipe than that of the shards beside `out`, or no label left to pack.
    """
    _check_new(out)
    result = Packing()
    with ExitStack() as stack:
        opened = [stack.enter_context(LabelStore(path)) for path in stores]
        for store in opened[1:]:
            opened[0].require_level(store.recipe, str(store.path))
        keys, taken = _present(out.parent, opened[0].recipe)
        total = sum(len(store) for store in opened)
        labels = []
        for done, (label, record) in enumerate(_rows(opened)):
            progress(done, total)
            reason = why_held_out(label.name, label.structure)
            structure, _ = on_lattice(label.structure, label.grid)
            key = content_key(structure, record["box"])
            if reason is None and key in keys:
                reason = "packed already"
            elif reason is None and label.name in taken:
                reason = "another label has its name"
            if reason is None:
                try:
                    labels.append(packed(label, opened[0].recipe, record))
                except InputError as error:
                    reason = str(error)
                else:
                    keys.add(key)
                    taken.add(label.name)
            if reason is not None:
                result.left_out.setdefault(reason, []).append(label.name)
        progress(total, total)
    if not labels:
        reasons = "; ".join(f"{len(found)}: {why}" for why, found in result.left_out.items())
        raise InputError(f"no label is left to pack ({reasons or 'the stores are empty'})")
    content = encode(labels, note, __version__)
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    result.packed, result.size = len(labels), len(content)
    return result


def packed(label: Label, recipe: Recipe, record: dict, n_points: int = N_POINTS) -> PackedLabel:
    """A label as in a shard: its density at points that follow from atoms and box.

    Raises
    ------
    InputError
        The box is not orthorhombic, an element has no table, or the density does not belong to
        the atoms.
    """
    structure, grid = on_lattice(label.structure, label.grid)
    xyz, p = cloud(structure, grid, n_points)
    # the orbitals are at the atoms of the calculation; positions are rounded to 4e-6 bohr
    rho = density_at_points(
        label.structure.numbers, label.structure.positions, label.orbitals, label.grid, xyz
    )
    deformation = rho - superposition_at(structure, grid, xyz, recipe.sad)
    weights = 1.0 / (p * n_points * label.n_electrons)
    rounded, step = rounded_deformation(deformation, weights)
    rounded_spin = None
    if structure.spin:
        up, down = (
            density_at_points(
                label.structure.numbers, label.structure.positions, orbitals, label.grid, xyz
            )
            for orbitals in label.spin_orbitals
        )
        rounded_spin, _ = rounded_deformation(up - down, weights)
    homo, lumo = label.frontier or (None, None)
    return PackedLabel(
        label.name, structure, grid, label.n_electrons, recipe, rounded, step,
        label.e_tot, homo, lumo, record, rounded_spin,
    )  # fmt: skip


def _check_new(out: Path) -> None:
    if out.suffix != SUFFIX:
        raise InputError(f"{out}: the name of a shard must end in {SUFFIX}")
    if out.exists():
        raise InputError(
            f"{out} exists already, and shards are never overwritten; choose a new name"
        )
    if not out.parent.is_dir():
        raise InputError(f"{out}: the folder {out.parent} does not exist; make it first")


def _present(folder: Path, recipe: Recipe) -> tuple[set[str], set[str]]:
    """Content and names of all labels in the shards of a folder."""
    keys, taken = set(), set()
    for path in sorted(folder.glob("*" + SUFFIX)):
        for label in read_shard(path).labels:
            label.recipe.require_same(recipe, str(path), "the stores")
            keys.add(content_key(label.structure, label.record["box"]))
            taken.add(label.name)
    return keys, taken


def _rows(stores: list[LabelStore]) -> Iterator[tuple[Label, dict]]:
    """Labels of stores, with how each was made."""
    for store in stores:
        for name in store.names():
            row = store.row(name)
            label = store.read(name)
            record = {
                "group": label.group,
                "source": "qm9" if re.match(r"(qm9|dsgdb9nsd)_\d{6}", name) else store.path.stem,
                "box": row.get("box"),
                "attempt": row.get("attempt"),
                "cycles": row.get("cycles"),
                "residual_percent": row.get("residual_percent"),
                "version": row.data.get("versions", {}).get("denser"),
                "split": "train",
            }
            yield label, record


def unpack(shard: Path, out: Path) -> int:
    """Write the labels of a shard to a folder, and return their number.

    `structures.extxyz` holds the atoms with charge, energy and orbital energies (angstrom, eV),
    and `NAME.npz` of each label the points (bohr), the density there, that of the superposed
    atoms, and weights: the sum of weight * |error| is an Err_rho. A shard does not contain the
    orbitals or the density at other points.

    Raises
    ------
    InputError
        The shard cannot be read, or the folder exists already or cannot be created.
    """
    import ase.io

    labels = read_shard(shard).labels
    try:
        out.mkdir(parents=True)
    except FileExistsError as error:
        raise InputError(f"{out} exists already; name a new folder") from error
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror})") from error
    images = []
    for label in labels:
        atoms = label.structure.to_ase()
        atoms.info |= {"name": label.name}
        for key, value in (("energy", label.e_tot), ("homo", label.homo), ("lumo", label.lumo)):
            if value is not None:
                atoms.info[f"{key}_ev"] = value * HARTREE
        images.append(atoms)
        points = label.points()
        spin: dict[str, Any] = {"spin": label.structure.spin}
        if points.spin is not None:
            spin["spin_density"] = points.spin.astype(np.float32)
        sad = superposition_at(label.structure, label.grid, points.xyz, label.recipe.sad)
        with replacing(out / f"{label.name}.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                numbers=label.structure.numbers,
                positions=label.structure.positions,
                charge=label.structure.charge,
                origin=label.grid.origin,
                cell=label.grid.cell,
                shape=np.array(label.grid.shape),
                points=points.xyz,
                density=(sad + points.deformation).astype(np.float32),
                sad=sad.astype(np.float32),
                weights=points.weights.astype(np.float32),
                **spin,
            )
    with replacing(out / "structures.extxyz") as temporary:
        ase.io.write(temporary, images, format="extxyz")
    return len(labels)


def contents(folder: Path) -> str:
    """Table of contents of a folder of shards as CSV, in the order of the shards.

    The held-out molecules, which no shard may contain, follow below the labels.

    Raises
    ------
    InputError
        A folder without shards, or a shard that cannot be read.
    """
    paths = sorted(folder.glob("*" + SUFFIX))
    if not paths:
        raise InputError(f"{folder}: holds no shards; denser labels pack makes them")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for path in paths:
        for label in read_shard(path).labels:
            record, recipe = label.record, label.recipe
            steps = "Kohn-Sham steps" if record["attempt"] == "steps" else "Fock builds"
            made = f"{record['attempt']}, {record['cycles']} {steps}"
            if record.get("residual_percent") is not None:
                made += f" to {record['residual_percent']:g} %"
            if record["version"] is not None:
                made += f", denser {record['version']}"
            level = f"{recipe.xc}/{recipe.basis}/{recipe.pseudo}, {recipe.spacing * BOHR:.4f} A"
            rows.writerow(
                (
                    label.name, label.structure.formula, label.structure.charge,
                    label.structure.spin,
                    record["source"], "yes" if label.molecule != label.name else "no",
                    record["box"], level, made, record["split"], path.name,
                )
            )  # fmt: skip
    for name in (*names(), *FORMULAS.values(), "qm9:test", f"*{ENDING}"):
        rows.writerow((name, *[""] * (len(COLUMNS) - 3), "held out", ""))
    return text.getvalue()


def write_contents(folder: Path) -> Path:
    """Write `labels.csv` of a folder of shards; raises as `contents`."""
    path, text = folder / CONTENTS, contents(folder)
    with replacing(path) as temporary:
        temporary.write_text(text)
    return path


def shard_record(path: Path) -> dict[str, Any]:
    """Summary of a shard, for the output of commands; numbers of labels of each kind."""
    shard = read_shard(path)
    header, labels = shard.header, shard.labels
    n_atoms = [len(label.structure) for label in labels]
    kinds: dict[str, Iterable[str]] = {
        "elements": (z for label in labels for z in set(label.structure.symbols)),
        "sources": (label.record["source"] for label in labels),
        "boxes": (label.record["box"] for label in labels),
        "attempts": (label.record["attempt"] for label in labels),
        "charges": (f"{q:+d}" for label in labels if (q := label.structure.charge)),
        "spins": (str(s) for label in labels if (s := label.structure.spin)),
    }
    return {
        "input": str(path),
        "n_labels": len(labels),
        "fewest_atoms": min(n_atoms),
        "most_atoms": max(n_atoms),
        "n_atoms": sum(n_atoms),
        "n_distorted": sum(label.name != label.molecule for label in labels),
        "recipe": labels[0].recipe.record(),
        "n_points": header["n_points"],
        "rounding_err_rho_percent": header["rounding_err_rho_percent"],
        **{kind: dict(Counter(words).most_common()) for kind, words in kinds.items()},
        "bytes": path.stat().st_size,
        "packed_by": header["packed_by"],
        "note": header["note"],
    }
