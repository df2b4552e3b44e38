"""The film of `denser dynamics`, and its frames so far."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from denser.io.files import replacing
from denser.pictures.film import write_film
from denser.types.density import Density, Field


@dataclass
class Film:
    """Differences of densities at even times, which a run that is continued finds again.

    Parameters
    ----------
    path : Path
        Ends in .gif; the frames are kept beside it (.npz).
    nodes : Density
        Its grid, unit and atoms are those of the film.
    made_from : str or None
        Hash of what determines the frames; None: they are not kept.
    every : int
        Steps between two frames.
    frames : dict
        Values (nx, ny, nz) by the number of steps.
    """

    path: Path
    nodes: Density
    made_from: str | None
    every: int
    frames: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, nodes: Density, made_from: str | None, every: int, steps: int) -> Film:
        """The film of a run that has come to `steps`, with the frames that are kept of it."""
        film = cls(path, nodes, made_from, every)
        film.frames = {n: v for n, v in film._kept().items() if n <= steps and film.wants(n)}
        return film

    def wants(self, steps: int) -> bool:
        """Whether there is a frame after so many steps."""
        return steps % self.every == 0

    def add(self, steps: int, values: np.ndarray) -> None:
        """Add a frame (nx, ny, nz)."""
        self.frames[steps] = values.astype(np.float32)

    def save(self) -> None:
        """Keep the frames."""
        if self.made_from is None or not self.frames:
            return
        with replacing(self._file()) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                made_from=np.array(self.made_from),
                steps=np.array(sorted(self.frames)),
                values=np.array([self.frames[n] for n in sorted(self.frames)]),
            )

    def write(self, fs_per_step: float) -> None:
        """Write the film; the text below a frame is its time."""
        steps = sorted(self.frames)
        grid, unit = self.nodes.grid, self.nodes.unit
        fields = [Field(grid, self.frames[n], unit) for n in steps]
        texts = [f"{n * fs_per_step:.3f} fs" for n in steps]
        write_film(self.path, fields, self.nodes.structure, texts)

    def _file(self) -> Path:
        return self.path.with_name(f"{self.path.stem}_film.npz")

    def _kept(self) -> dict[int, np.ndarray]:
        try:
            with np.load(self._file(), allow_pickle=False) as file:
                if str(file["made_from"]) != self.made_from:
                    return {}
                frames = dict(zip(file["steps"].tolist(), file["values"], strict=True))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return {}
        return {n: v for n, v in frames.items() if v.shape == self.nodes.grid.shape}
