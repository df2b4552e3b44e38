"""Files of propagations, from which they continue."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from denser.dft.real_time import GroundState, PropagationState
from denser.io.files import replacing
from denser.types.recipe import Recipe
from denser.types.structure import Structure


def save(
    path: Path, made_from: str, ground: GroundState, direction: np.ndarray, state: PropagationState
) -> None:
    """Write a ground state and how far a propagation from it is.

    Parameters
    ----------
    path : Path
        Ends in .npz.
    made_from : str
        Hash of what determines the result.
    ground : GroundState
    direction : (3,) float
    state : PropagationState
    """
    arrays: dict[str, Any] = {
        "made_from": np.array(made_from),
        "direction": direction,
        "mo_coeff": ground.mo_coeff,
        "mo_energy": ground.mo_energy,
        "mo_occ": ground.mo_occ,
    }
    arrays |= {
        "matrices": np.array(state.matrices),
        "reference": state.reference,
        "dipoles": np.array(state.dipoles),
        "energies": np.array(state.energies),
        "works": np.array(state.works),
        "matrices_made": np.array(state.matrices_made),
    }
    arrays |= {f"orbitals_{s}": c for s, c in enumerate(state.orbitals)}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load(
    path: Path, made_from: str | None, structure: Structure, basis: str, recipe: Recipe
) -> tuple[GroundState, np.ndarray, PropagationState] | None:
    """Ground state, direction and state of a file; None if it is not of the same content."""
    if made_from is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["made_from"]) != made_from:
                return None
            ground = GroundState(
                structure, basis, recipe, file["mo_coeff"], file["mo_energy"], file["mo_occ"]
            )
            works = file["works"].tolist()
            state = PropagationState(
                [file[f"orbitals_{s}"] for s in range(len(ground.mo_occ))],
                list(file["matrices"]),
                file["reference"],
                works[-1],
                list(file["dipoles"]),
                file["energies"].tolist(),
                works,
                int(file["matrices_made"]),
            )
            return ground, file["direction"], state
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
        return None  # a damaged file is written anew
