"""Small molecules, and a small network, shared by the tests."""

from __future__ import annotations

import os
import runpy
import sys

# One thread for each worker of pytest-xdist. The libraries read this when they are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from denser import cli
from denser.atoms.sad import superposition
from denser.io import write
from denser.model.checkpoint import Model, build
from denser.types.density import Density
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure

# An example may take long beside another worker; that says nothing of the code.
hypothesis.settings.register_profile("denser", deadline=None)
hypothesis.settings.load_profile("denser")


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    """Run `denser ...` in a temporary folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["denser", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out = capfd.readouterr()
        return code, out.out, out.err

    return call


@pytest.fixture
def as_main(monkeypatch, capfd):
    """Run a script, or a module as `python -m`, in this process: (exit code, stdout, stderr).

    Another process would load PySCF and PyTorch once more, which takes some four seconds.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # benchmarks set them, and this takes it back

    def call(script: Path | str | ModuleType, *arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        code = 0
        try:
            if isinstance(script, Path):
                monkeypatch.syspath_prepend(script.parent)
                runpy.run_path(str(script), run_name="__main__")
            elif isinstance(script, str):
                runpy.run_module(script, run_name="__main__")
            else:
                code = script.main() or 0
        except SystemExit as stop:
            code = stop.code or 0
        out = capfd.readouterr()
        if isinstance(code, str):  # Python prints it and ends with 1
            return 1, out.out, f"{out.err}{code}\n"
        return code, out.out, out.err

    return call


@pytest.fixture
def water() -> Atoms:
    return molecule("H2O")


@pytest.fixture
def ethanol() -> Structure:
    return Structure.from_ase(molecule("CH3CH2OH"))


@pytest.fixture(scope="session")
def small_model() -> Model:
    """An untrained, small U-Net with a head that is not zero."""
    torch.manual_seed(3)
    options = {"channels": [8, 8, 8], "blocks": [1, 1, 1], "decoder_blocks": [1, 1]}
    network = build("unet", options)
    torch.nn.init.normal_(network.head.weight, std=0.02)
    return Model("small", "unet", network.eval(), Recipe(), {})


@pytest.fixture
def sad_density(ethanol: Structure):
    """SAD of ethanol on a coarse, non-cubic grid."""
    return superposition(ethanol, Grid.around(ethanol, padding=7.0, spacing=0.4))


def _foreign_cube(path: Path, density: Density, column: Callable[[int], float]) -> Path:
    write(path, density)
    rows = path.read_text().splitlines(keepends=True)
    rows[:2] = "water\n", "by another program\n"
    for i, z in enumerate(density.structure.numbers, start=6):
        rows[i] = rows[i][:5] + f"{column(int(z)):12.6f}" + rows[i][17:]
    path.write_text("".join(rows))
    return path


@pytest.fixture
def as_foreign_cube():
    """Write a density as another program's cube; a function of Z makes the charge column."""
    return _foreign_cube


@pytest.fixture
def foreign_files():
    """Write a density of water as other programs do: charge column 0, Z or valence; CHGCAR."""

    def files(folder: Path, density: Density) -> list[Path]:
        chgcar = folder / "CHGCAR"
        write(chgcar, density)
        chgcar.write_text("water\n" + chgcar.read_text().split("\n", 1)[1])
        columns = {"zero": lambda z: 0, "z": lambda z: z, "valence": lambda z: 6 if z == 8 else z}
        cubes = [_foreign_cube(folder / f"{name}.cube", density, f) for name, f in columns.items()]
        return [*cubes, chgcar]

    return files
