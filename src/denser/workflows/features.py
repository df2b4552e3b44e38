"""Tables of what the network knows of atoms and molecules: the work of `denser features`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from denser.atoms.plausible import strange
from denser.io.table import require_table, write_table
from denser.model.heads import require_features
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows import many
from denser.workflows.inputs import Input, find_inputs, own_files, refuse_inputs


def names_of(predictor: Predictor) -> list[str]:
    """Names of the features: degree and channel, as in `l2_c07`.

    Raises
    ------
    InputError
        The model has no such features.
    """
    require_features(predictor.model)
    config = predictor.network.config
    return [f"l{n}_c{k:02d}" for n in range(config.degree + 1) for k in range(config.channels)]


def features(predictor: Predictor, structure: Structure) -> np.ndarray:
    """The last features of the network (n_atoms, n), which do not turn with the molecule.

    For each channel its mean over the sphere around the atom, times sqrt(4 pi), and the length of
    its harmonics of each degree. They have no unit.

    Parameters
    ----------
    predictor : Predictor
    structure : Structure
        A molecule, or a crystal with its cell.

    Raises
    ------
    InputError
        As in `names_of`; or the model does not cover the structure.
    """
    names_of(predictor)
    return predictor.environments(structure)


class FeatureTable:
    """Inputs, and the table of their features.

    Parameters
    ----------
    files, smiles : sequence
    out : Path or None
        `.csv` or `.parquet`.
    atoms : bool
        A row for each atom; else one for each molecule, with the sums over its atoms.
    options : PredictionOptions
    embed, topology
        As in `denser.workflows.inputs.find_inputs`.

    Raises
    ------
    InputError
        There is nothing to do, or a table that cannot be written.
    """

    def __init__(
        self,
        files: Sequence[Path],
        smiles: Sequence[str],
        out: Path | None,
        atoms: bool = False,
        options: PredictionOptions = PredictionOptions(),
        embed: bool = False,
        topology: Path | None = None,
    ) -> None:
        if not files and not smiles:
            raise InputError("nothing to do; name structure files or give --smiles")
        if out is None:
            raise InputError("no output; give -o TABLE.csv or -o TABLE.parquet")
        require_table(out)
        refuse_inputs(out, own_files(files, topology))
        self.out, self.atoms, self.options = out, atoms, options
        self.inputs = find_inputs(files, smiles, densities=False, embed=embed, topology=topology)

    def run(self, as_json: bool) -> int:
        """Compute all and write the table at the end, also after Ctrl-C; print a line for each.

        Returns 0 if all succeeded, 2 if any failed, 130 after Ctrl-C.
        """
        predictor = Predictor.of(self.options)
        names = names_of(predictor)
        rows: list[tuple[dict[str, Any], np.ndarray]] = []

        def work(entry: Input) -> dict:
            start = time.perf_counter()
            structure = self.options.structure_of(entry.atoms())
            found = features(predictor, structure)
            rows.extend(self._rows(entry, structure, found))
            return {
                "formula": structure.formula,
                "charge": structure.charge,
                "spin": structure.spin,
                "n_atoms": len(structure),
                "warnings": strange(structure),
                "output": str(self.out),
                "seconds": round(time.perf_counter() - start, 4),
            }

        n = len(self.inputs)
        with many.Display(
            "computing", "done", n, _summary, as_json, notes=lambda record: record["warnings"]
        ) as display:
            totals = many.run(self.inputs, work, display.take)
        if rows:
            values = np.stack([row for _, row in rows]).astype(np.float32)
            keys = {key: [row[key] for row, _ in rows] for key in rows[0][0]}
            write_table(
                self.out, keys | {name: values[:, k].tolist() for k, name in enumerate(names)}
            )
        where = f"{len(rows)} rows of {len(names)} features in {self.out}"
        return display.end(totals, where if rows else "", "give the rest to continue")

    def _rows(
        self, entry: Input, structure: Structure, found: np.ndarray
    ) -> list[tuple[dict[str, Any], np.ndarray]]:
        key = {"name": entry.name, "formula": structure.formula, "charge": structure.charge}
        if not self.atoms:
            return [(key | {"n_atoms": len(structure)}, found.sum(axis=0))]
        labels = enumerate(structure.symbols, start=1)
        return [
            (key | {"atom": i, "element": symbol}, row)
            for (i, symbol), row in zip(labels, found, strict=True)
        ]


def _summary(record: dict) -> str:
    head, n = many.headline(record), record["n_atoms"]
    return f"{head}, {n} atoms, {record['seconds']:.2f} s -> {record['output']}"
