"""Electrostatic similarity of the molecules of two files: `denser compare` of structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from denser.analysis.charges.without_grid import Conformer
from denser.analysis.potential.similarity import similarity
from denser.io.files import naming
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows.inputs import find_inputs, split_slice


def compare_molecules(first: Path, second: Path, model: str = "default") -> dict[str, Any]:
    """Similarity of the potentials of two superposed molecules, as a record for JSON.

    Raises
    ------
    InputError
        A file does not hold one molecule, one is periodic, or as in
        `denser.analysis.potential.similarity.similarity`.
    """
    predictor, conformers, notes = Predictor(model), [], []
    for path in (first, second):
        inputs = find_inputs([path], densities=False)
        if len(inputs) != 1:
            raise InputError(
                f"{path} holds {len(inputs)} structures, and one is needed; name one as "
                f"{split_slice(path)[0]}@0, or split the file"
            )
        with naming(path):
            structure = Structure.of(inputs[0].atoms())
        if not structure.isolated:
            raise InputError(f"{path} is periodic; the similarity is that of isolated molecules")
        atoms, excess = predictor.gaussians(structure)
        wrong = predictor.wrong_electrons(atoms, excess)
        if doubt := predictor.doubt_of(structure, excess, wrong):
            notes.append(f"{path.name}: {doubt}")
        conformers.append(Conformer(structure, atoms))
    found = similarity(*conformers)
    a, b = (
        {"input": str(path), "formula": conformer.structure.formula}
        for path, conformer in zip((first, second), conformers, strict=True)
    )
    return {
        "a": a,
        "b": b,
        "carbo": round(found.carbo, 5),
        "hodgkin": round(found.hodgkin, 5),
        "points": found.n_points,
        "notes": notes,
    }
