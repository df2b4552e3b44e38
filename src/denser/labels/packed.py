"""Shards: many labels in one small file that is written once and never changed.

For each training label a shard contains the atoms, the box, energies, how it was made, and its
density at points that follow from the atoms and the box (`denser.labels.cloud`). The density is
stored as rho - SAD. The SAD comes from tables of atoms and does not depend on a network, so a shard
does not depend on the shipped model.

The value of a point is (rho - SAD) / (p n N_e), rounded to whole steps. The sum of absolute values
over the n points estimates an Err_rho, so rounding adds at most half a step per point to the error,
on average a quarter. Lengths are stored in steps of 2^-18 bohr.

The file is a line with the format's name, a line of JSON (the header), and compressed arrays.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from denser.labels.cloud import cloud
from denser.labels.label import molecule_of
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure

SUFFIX = ".shard"

N_POINTS = 1536
"""Points of a label: an Err_rho of 0.2 % is estimated with a relative error of 2.4 %."""

ROUNDING = 3e-4
"""Mean Err_rho (a fraction) that rounding adds; it determines the step."""

_MAGIC = b"denser shard 1\n"
_LENGTH = 2.0**-18  # bohr
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 2**20, "lc": 0, "lp": 0, "pb": 0}]


@dataclass(frozen=True, eq=False)
class PackedPoints:
    """Density of a label at points, for training.

    Parameters
    ----------
    xyz : (n, 3) float
        Bohr, inside the label's box.
    deformation : (n,) float
        rho - SAD, e/bohr^3; the SAD is that of neutral atoms, not scaled to N_e.
    weights : (n,) float
        1 / (p n N_e): sum weights |rho_1 - rho_2| estimates an Err_rho.
    spin : (n,) float or None
        Spin density, e/bohr^3; None for a closed shell.
    """

    xyz: np.ndarray
    deformation: np.ndarray
    weights: np.ndarray
    spin: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class PackedLabel:
    """A training label from a shard.

    Parameters
    ----------
    name : str
    structure : Structure
    grid : Grid
        The box of the calculation and its number of nodes.
    n_electrons : int
    recipe : Recipe
    rounded : (n_points,) int16
        rho - SAD over p n N_e, in steps.
    step : float
    e_tot, homo, lumo : float or None
        Hartree.
    record : dict
        Its origin and how it was made: `group`, `source`, `box`, `attempt`, `cycles`,
        `residual_percent`, `version`, `split`.
    rounded_spin : (n_points,) int16 or None
        Spin density over p n N_e, in steps; None for a closed shell.
    """

    name: str
    structure: Structure
    grid: Grid
    n_electrons: int
    recipe: Recipe
    rounded: np.ndarray
    step: float
    e_tot: float | None
    homo: float | None
    lumo: float | None
    record: dict
    rounded_spin: np.ndarray | None = None

    @property
    def molecule(self) -> str:
        """Name that a molecule shares with its distorted copy."""
        return molecule_of(self.name)

    @property
    def group(self) -> str:
        """Name that all labels from one file share, such as the frames of a trajectory."""
        return self.record["group"]

    def points(self) -> PackedPoints:
        """Points with their density."""
        xyz, p = cloud(self.structure, self.grid, self.rounded.size)
        weights = 1.0 / (p * self.rounded.size * self.n_electrons)
        spin = None if self.rounded_spin is None else self.rounded_spin * self.step / weights
        return PackedPoints(xyz, self.rounded * self.step / weights, weights, spin)


@dataclass(frozen=True, eq=False)
class Shard:
    """The labels of a shard and its header."""

    header: dict
    labels: list[PackedLabel]


def content_key(structure: Structure, box: str) -> str:
    """Short hash of atoms, charge, spin, cell and box; labels with the same hash are equal.

    Like `denser.labels.store.content_hash`, for a structure on the lattice of `on_lattice`.
    """
    steps = np.round(structure.positions / _LENGTH).astype("<i4")
    if structure.cell is None:
        steps = steps - steps[0]
    digest = hashlib.sha256(structure.numbers.astype("<i4").tobytes() + steps.tobytes())
    if structure.cell is not None:
        digest.update(np.round(structure.cell / _LENGTH).astype("<i4").tobytes())
    spin = f" spin {structure.spin}" if structure.spin else ""
    digest.update(f"{structure.charge} {box}{spin}".encode())
    return digest.hexdigest()[:16]


def on_lattice(structure: Structure, grid: Grid) -> tuple[Structure, Grid]:
    """The same atoms and box, with all lengths rounded to the steps of a shard."""

    def rounded(x: np.ndarray) -> np.ndarray:
        return np.round(x / _LENGTH) * _LENGTH

    cell = rounded(grid.cell)
    periodic = structure.cell is not None
    return (
        Structure(
            structure.numbers,
            rounded(structure.positions),
            structure.charge,
            cell if periodic else None,
            spin=structure.spin,
        ),
        Grid(rounded(grid.origin), cell, grid.shape),
    )


def rounded_deformation(deformation: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Whole steps (n,) int16 of `weights * deformation`, and the step.

    Raises
    ------
    InputError
        A value is not finite or beyond 32767 steps, which no molecule has.
    """
    step = 4 * ROUNDING / deformation.size
    steps = np.round(deformation * weights / step)
    if not np.all(np.abs(steps) < 2**15):
        raise InputError(
            "rho - SAD is too large at some point; check that the density fits the atoms"
        )
    return steps.astype(np.int16), step


def encode(labels: Sequence[PackedLabel], note: str, version: str) -> bytes:
    """Contents of a shard.

    Parameters
    ----------
    labels : sequence of PackedLabel
        Of one recipe and one number of points, on the lattice of `on_lattice`.
    note : str
        How these labels were made; it is written to the header.
    version : str
        Version of the program that packs.
    """
    steps = np.stack([label.rounded for label in labels])
    shift = max(0, int(np.abs(steps).max()).bit_length() - 7)
    arrays: dict[str, np.ndarray] = {
        "n_atoms": np.array([len(label.structure) for label in labels], "<u2"),
        "numbers": np.concatenate([label.structure.numbers for label in labels]).astype("u1"),
        "positions": _whole([label.structure.positions for label in labels]),
        "charge": np.array([label.structure.charge for label in labels], "i1"),
        "periodic": np.array([label.structure.cell is not None for label in labels], "u1"),
        "origin": _whole([label.grid.origin[None] for label in labels]),
        "cell": _whole([label.grid.cell for label in labels]),
        "shape": np.array([label.grid.shape for label in labels], "<u2"),
        "n_electrons": np.array([label.n_electrons for label in labels], "<u2"),
        "e_tot": _numbers([label.e_tot for label in labels], "<f8"),
        "homo": _numbers([label.homo for label in labels], "<f4"),
        "lumo": _numbers([label.lumo for label in labels], "<f4"),
    }
    spins = [label.rounded_spin for label in labels if label.rounded_spin is not None]
    if spins:
        arrays["spin"] = np.array([label.structure.spin for label in labels], "u1")
        arrays["spin_steps"] = np.stack(spins)  # of the open shells
    table = {"name": [label.name for label in labels]}
    for key in labels[0].record:
        table[key] = [label.record[key] for label in labels]
    blocks: list[tuple[str, str, list[int], bytes]] = [
        ("table", "json", [], _compressed(json.dumps(table).encode()))
    ]
    for key, array in arrays.items():
        planes = array.reshape(-1, 1).view("u1").T.tobytes()
        blocks.append((key, array.dtype.str, list(array.shape), _compressed(planes)))
    # The last bits are noise and are not compressed; the first ones get a Huffman code.
    coder = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    high = (steps >> shift).astype("i1").tobytes()
    blocks.append(("high", "|i1", list(steps.shape), coder.compress(high) + coder.flush()))
    low = (steps[..., None] >> np.arange(shift)) & 1
    blocks.append(("low", "bits", [*steps.shape, shift], np.packbits(low.astype("u1")).tobytes()))
    body = b"".join(content for *_, content in blocks)
    header = {
        "kind": "training labels: rho - SAD at points",
        "n_labels": len(labels),
        "n_points": int(steps.shape[1]),
        "step": labels[0].step,
        "rounding_err_rho_percent": round(25 * labels[0].step * steps.shape[1], 5),
        "recipe": labels[0].recipe.to_dict(),
        "note": note,
        "packed_by": f"denser {version}",
        "sha256": hashlib.sha256(body).hexdigest(),
        "blocks": [[key, dtype, shape, len(content)] for key, dtype, shape, content in blocks],
    }
    return _MAGIC + json.dumps(header).encode() + b"\n" + body


def read_shard(path: str | Path) -> Shard:
    """Read a shard.

    Raises
    ------
    InputError
        The file cannot be read, is not a shard, has a later format, or is damaged.
    """
    path = Path(path)
    header, body = _open(path)
    if hashlib.sha256(body).hexdigest() != header.get("sha256"):
        raise InputError(f"{path}: this shard is damaged (its check sum differs); fetch it again")
    arrays: dict[str, np.ndarray] = {}
    table: dict[str, list] = {}
    start = 0
    for key, dtype, shape, size in header["blocks"]:
        content = body[start : start + size]
        start += size
        if dtype == "json":
            table = json.loads(lzma.decompress(content))
        elif dtype == "bits":
            bits = np.unpackbits(np.frombuffer(content, "u1"), count=int(np.prod(shape)))
            arrays[key] = bits.reshape(shape)
        elif key == "high":
            arrays[key] = np.frombuffer(zlib.decompress(content), dtype).reshape(shape)
        else:
            planes = np.frombuffer(lzma.decompress(content), "u1")
            planes = planes.reshape(np.dtype(dtype).itemsize, -1)
            arrays[key] = np.ascontiguousarray(planes.T).view(dtype).reshape(shape)
    return Shard(header, _labels(header, table, arrays))


def holds_shards(path: str | Path) -> bool:
    """Whether this is a shard, or a folder that contains shards."""
    path = Path(path)
    return path.suffix == SUFFIX or any(path.glob("*" + SUFFIX))


def read_shards(path: str | Path, recipe: Recipe | None = None) -> list[PackedLabel]:
    """Labels of a shard, or of all shards of a folder in the order of their names.

    Raises
    ------
    InputError
        As in `read_shard`; or the recipe, including the SAD recipe, differs from `recipe`.
    """
    labels = []
    for shard in _shards(path):
        found = read_shard(shard).labels
        if recipe is not None:
            found[0].recipe.require_same(recipe, str(shard), "this run")
        labels += found
    return labels


def recipe_of_shards(path: str | Path) -> Recipe:
    """Recipe of a shard, or of the first shard of a folder; raises like `read_shard`."""
    header, _ = _open(_shards(path)[0])
    return Recipe.from_dict(header["recipe"])


def _shards(path: str | Path) -> list[Path]:
    path = Path(path)
    return sorted(path.glob("*" + SUFFIX)) if path.is_dir() else [path]


def _open(path: Path) -> tuple[dict, bytes]:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such shard of labels") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.startswith(_MAGIC):
        if content.startswith(b"denser shard"):
            raise InputError(f"{path}: a shard in a later format; install a newer denser")
        raise InputError(f"{path}: not a shard of labels; denser labels pack makes them")
    line, _, body = content[len(_MAGIC) :].partition(b"\n")
    try:
        return json.loads(line), body
    except ValueError as error:
        raise InputError(f"{path}: the header of this shard is damaged; fetch it again") from error


def _labels(header: dict, table: dict, arrays: dict[str, np.ndarray]) -> list[PackedLabel]:
    recipe = Recipe.from_dict(header["recipe"])
    n_atoms = arrays["n_atoms"].astype(int)
    starts = np.concatenate([[0], np.cumsum(n_atoms)])
    low = arrays["low"]
    shift = low.shape[-1]
    last_bits = (low.astype(np.int16) << np.arange(shift, dtype=np.int16)).sum(-1, dtype=np.int16)
    steps = (arrays["high"].astype(np.int16) << shift) + last_bits
    names = table.pop("name")
    spins = arrays.get("spin", np.zeros(len(names), int))
    place = np.cumsum(spins > 0) - 1  # of each open shell in "spin_steps"
    labels = []
    for i, name in enumerate(names):
        atoms = slice(starts[i], starts[i + 1])
        cell = arrays["cell"][3 * i : 3 * i + 3] * _LENGTH
        structure = Structure(
            arrays["numbers"][atoms],
            arrays["positions"][atoms] * _LENGTH,
            int(arrays["charge"][i]),
            cell if arrays["periodic"][i] else None,
            spin=int(spins[i]),
        )
        grid = Grid(arrays["origin"][i] * _LENGTH, cell, tuple(arrays["shape"][i]))
        e_tot, homo, lumo = (
            None if np.isnan(e := arrays[key][i]) else float(e) for key in ("e_tot", "homo", "lumo")
        )
        labels.append(
            PackedLabel(
                name, structure, grid, int(arrays["n_electrons"][i]), recipe, steps[i],
                header["step"], e_tot, homo, lumo,
                {key: column[i] for key, column in table.items()},
                arrays["spin_steps"][place[i]] if spins[i] else None,
            )
        )  # fmt: skip
    return labels


def _whole(lengths: Iterable[np.ndarray]) -> np.ndarray:
    """Lengths (n, 3) in whole steps."""
    return np.round(np.concatenate(list(lengths)) / _LENGTH).astype("<i4")


def _numbers(values: Iterable[float | None], dtype: str) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype)


def _compressed(content: bytes) -> bytes:
    return lzma.compress(content, format=lzma.FORMAT_XZ, filters=_LZMA)
