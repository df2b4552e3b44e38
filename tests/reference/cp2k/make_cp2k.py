"""Reference energies and a density from CP2K: the same functional, basis and pseudopotentials,
the same box and grid, another program.

    python tests/reference/cp2k/make_cp2k.py [WORK FOLDER]

needs `cp2k.psmp` (Debian's package `cp2k`). It writes the input files, `cp2k.json` with the key
figures of both programs, and `H2O.npz`, CP2K's density at every second node; and the same for a
triclinic crystal, `crystal.json` and `crystal.npz` with every fourth node.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyscf
from ase.build import molecule
from pyscf.pbc.grad.rks import Gradients

import denser
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.gradient import scf_gradient
from denser.dft.scf import mean_field, scf
from denser.fields.metrics import err_rho
from denser.labels.render import density_on_grid
from denser.types.grid import Grid
from denser.types.recipe import PAPER_SPACING
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE

HERE = Path(__file__).parent
NAMES = ("H2O", "CH4", "H2CO")
VALENCE = {"H": 1, "C": 4, "N": 5, "O": 6}
NODES = 72
"""Per axis. CP2K rounds its count up to one that its Fourier transforms like: of the odd count
71 that a cutoff of 400 Ry gives in this box it makes 72."""

INPUT = """\
&GLOBAL
  PROJECT {name}
  RUN_TYPE ENERGY_FORCE
  PRINT_LEVEL MEDIUM
&END GLOBAL
&FORCE_EVAL
  METHOD Quickstep
  &PRINT
    &FORCES
      NDIGITS 10
    &END FORCES
  &END PRINT
  &DFT
    BASIS_SET_FILE_NAME GTH_BASIS_SETS
    POTENTIAL_FILE_NAME GTH_POTENTIALS
    &MGRID
      CUTOFF 400
      REL_CUTOFF {rel_cutoff}
      NGRIDS {n_grids}
    &END MGRID
    &QS
      METHOD GPW
      EPS_DEFAULT 1.0E-14
      EPS_PGF_ORB 1.0E-14
    &END QS
    &POISSON
      PERIODIC XYZ
      POISSON_SOLVER PERIODIC
    &END POISSON
    &SCF
      SCF_GUESS ATOMIC
      EPS_SCF 1.0E-8
      MAX_SCF 60
      &OT ON
        PRECONDITIONER FULL_ALL
        MINIMIZER DIIS
      &END OT
    &END SCF
    &XC
      DENSITY_CUTOFF 1.0E-12
      GRADIENT_CUTOFF 1.0E-12
      TAU_CUTOFF 1.0E-12
      &XC_FUNCTIONAL PBE
      &END XC_FUNCTIONAL
      &XC_GRID
        XC_SMOOTH_RHO NONE
        XC_DERIV PW
      &END XC_GRID
    &END XC
    &PRINT
      &E_DENSITY_CUBE
        STRIDE 1 1 1
      &END E_DENSITY_CUBE
    &END PRINT
  &END DFT
  &SUBSYS
    &CELL
{vectors}
    &END CELL
    &COORD
      UNIT bohr
{coordinates}
    &END COORD
{kinds}
  &END SUBSYS
&END FORCE_EVAL
"""
KIND = """\
    &KIND {symbol}
      BASIS_SET TZV2P-GTH
      POTENTIAL GTH-PBE-q{valence}
    &END KIND"""


def placed(name: str) -> tuple[Structure, Grid]:
    """The molecule near the middle of a cubic box that begins at zero, off the nodes."""
    structure = Structure.of(molecule(name))
    length = NODES * PAPER_SPACING - 1e-4 / BOHR
    shift = length / 2 - structure.positions.mean(axis=0) + np.array([0.03, 0.05, 0.07])
    structure = Structure(structure.numbers, structure.positions + shift)
    return structure, Grid(np.zeros(3), np.eye(3) * length, (NODES,) * 3)


def cp2k(
    structure: Structure, grid: Grid, name: str, folder: Path, rel_cutoff: float, n_grids: int
) -> dict:
    """Run CP2K and return energy, forces (hartree/bohr), version and density."""
    text = INPUT.format(
        name=name,
        rel_cutoff=rel_cutoff,
        n_grids=n_grids,
        vectors="\n".join(
            f"      {letter} [bohr] " + " ".join(f"{x:.12f}" for x in vector)
            for letter, vector in zip("ABC", grid.cell, strict=True)
        ),
        coordinates="\n".join(
            f"      {symbol} {x:.12f} {y:.12f} {z:.12f}"
            for symbol, (x, y, z) in zip(structure.symbols, structure.positions, strict=True)
        ),
        kinds="\n".join(
            KIND.format(symbol=symbol, valence=VALENCE[symbol])
            for symbol in sorted(set(structure.symbols))
        ),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.inp").write_text(text)
    done = subprocess.run(
        ["cp2k.psmp", "-i", f"{name}.inp"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={"CP2K_DATA_DIR": "/usr/share/cp2k", "OMP_NUM_THREADS": "1", **os.environ},
    )  # fmt: skip
    (folder / f"{name}.out").write_text(done.stdout + done.stderr)
    if done.returncode or "SCF run converged" not in done.stdout:
        raise RuntimeError(f"CP2K failed; see {folder / name}.out")
    energy = re.findall(r"ENERGY\| Total FORCE_EVAL.*?:\s+(\S+)", done.stdout)[-1]
    version = re.search(r"CP2K\| version string:\s+(.*)", done.stdout).group(1).strip()
    table = done.stdout[done.stdout.index("ATOMIC FORCES in [a.u.]") :]
    rows = re.findall(r"^\s+\d+\s+\d+\s+[A-Z][a-z]?\s+(\S+)\s+(\S+)\s+(\S+)\s*$", table, re.M)
    forces = np.array(rows[: len(structure)], dtype=float)
    (cube,) = folder.glob(f"{name}-ELECTRON_DENSITY*.cube")
    return {
        "version": version,
        "e_tot": float(energy),
        "forces": forces,
        "density": denser.read(cube),
        "text": text,
    }


def compare(name: str, folder: Path) -> dict:
    """Both programs on one molecule."""
    structure, grid = placed(name)
    theirs = cp2k(structure, grid, name, folder, rel_cutoff=400, n_grids=1)
    usual = cp2k(structure, grid, name, folder / "multigrid", rel_cutoff=60, n_grids=4)
    if theirs["density"].grid.shape != grid.shape:
        raise RuntimeError(f"CP2K's grid is {theirs['density'].grid.shape}, ours {grid.shape}")
    ours = scf(structure, grid, conv_tol=1e-10)
    forces = -scf_gradient(structure, grid, ours)
    rho = density_from_dm(build_cell(structure, grid), ours.dm, grid, structure)
    rho_cp2k = rho.with_values(theirs["density"].values)
    single = mean_field(structure, grid)
    single._numint.ntasks = 1
    single.conv_tol = 1e-10
    single.kernel()
    forces_single = -Gradients(single).kernel()
    rho_single = single._numint.get_rho(single.cell, np.asarray(single.make_rdm1()), None)
    rho_single = rho.with_values(rho_single.reshape(grid.shape))
    (HERE / f"{name}.inp").write_text(theirs["text"])
    if name == "H2O":
        np.savez_compressed(
            HERE / f"{name}.npz", values=rho_cp2k.values[::2, ::2, ::2].astype(np.float32)
        )
    return {
        "version": theirs["version"],
        "symbols": structure.symbols,
        "positions": structure.positions.tolist(),
        "box": np.diag(grid.cell).tolist(),
        "mesh": list(grid.shape),
        "e_cp2k": theirs["e_tot"],
        "e_cp2k_multigrid": usual["e_tot"],
        "e_pyscf": ours.e_tot,
        "e_pyscf_one_level": float(single.e_tot),
        "difference_mev": 1e3 * HARTREE * (ours.e_tot - theirs["e_tot"]),
        "difference_one_level_mev": 1e3 * HARTREE * (float(single.e_tot) - theirs["e_tot"]),
        "err_rho": err_rho(rho, rho_cp2k),
        "err_rho_one_level": err_rho(rho_single, rho_cp2k),
        "forces_cp2k": theirs["forces"].tolist(),
        "largest_force_difference": float(np.abs(forces - theirs["forces"]).max()),
        "largest_force_difference_one_level": float(np.abs(forces_single - theirs["forces"]).max()),
    }


def crystal() -> Structure:
    """Two molecules of ammonia in a triclinic cell."""
    cell = np.array([[5.0, 0, 0], [-1.3, 5.2, 0], [0.8, 1.1, 5.5]])
    first = molecule("NH3")
    second = first.copy()
    second.rotate(75, (1, 2, 3))
    first.positions += np.array([0.25, 0.3, 0.25]) @ cell
    second.positions += np.array([0.72, 0.78, 0.7]) @ cell
    both = first + second
    both.set_cell(cell)
    both.pbc = True
    return Structure.of(both)


def compare_crystal(folder: Path) -> None:
    """CP2K and `denser.dft.scf` at Gamma; our orbitals are rendered on CP2K's nodes."""
    structure = crystal()
    theirs = cp2k(structure, Grid.periodic(structure), "crystal", folder, 100, 4)
    grid = theirs["density"].grid
    ours = scf(structure, conv_tol=1e-10)
    values = density_on_grid(
        structure.numbers, structure.positions, ours.mo_coeff[:, ours.mo_occ > 0], grid
    ).numpy()
    error = float(np.abs(values - theirs["density"].values).mean() * grid.volume / 16)
    record = {
        "program": theirs["version"],
        "compared_with": f"PySCF {pyscf.__version__} through denser.dft.scf",
        "made_by": Path(__file__).name,
        "settings": "PBE, TZV2P-GTH, GTH-PBE, GPW, periodic, Gamma, 400 Ry, four grid levels with "
        "REL_CUTOFF 100",
        "units": "bohr, hartree; err_rho is a fraction",
        "cell": structure.cell.tolist(),
        "symbols": structure.symbols,
        "positions": structure.positions.tolist(),
        "mesh": list(grid.shape),
        "e_cp2k": theirs["e_tot"],
        "e_pyscf": ours.e_tot,
        "err_rho": error,
    }
    (HERE / "crystal.inp").write_text(theirs["text"])
    (HERE / "crystal.json").write_text(json.dumps(record, indent=1) + "\n")
    part = theirs["density"].values[::4, ::4, ::4]
    np.savez_compressed(HERE / "crystal.npz", values=part.astype(np.float32))
    sys.stdout.write(
        f"crystal E(PySCF) - E(CP2K) = {1e3 * HARTREE * (ours.e_tot - theirs['e_tot']):.3f} meV; "
        f"Err_rho {100 * error:.5f} %\n"
    )


if __name__ == "__main__":
    work = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    compare_crystal(work / "crystal")
    molecules = {name: compare(name, work) for name in NAMES}
    versions = {entry.pop("version") for entry in molecules.values()}
    record = {
        "program": versions.pop(),
        "compared_with": f"PySCF {pyscf.__version__} through denser.dft.scf",
        "made_by": Path(__file__).name,
        "settings": "PBE, TZV2P-GTH, GTH-PBE, GPW, periodic, 400 Ry, one grid level "
        "(e_cp2k_multigrid: four, REL_CUTOFF 60), EPS_DEFAULT 1e-14, XC_SMOOTH_RHO NONE, "
        "XC_DERIV PW; "
        "the input files lie beside this one",
        "units": "bohr, hartree, hartree/bohr, difference_*mev in meV; err_rho is a fraction",
        "molecules": molecules,
    }
    (HERE / "cp2k.json").write_text(json.dumps(record, indent=1) + "\n")
    for name, entry in molecules.items():
        unit = 1e3 * HARTREE / BOHR
        force = unit * entry["largest_force_difference"]
        force_one = unit * entry["largest_force_difference_one_level"]
        sys.stdout.write(
            f"{name:5s} E(PySCF) - E(CP2K) = {entry['difference_mev']:.3f} meV, with one grid "
            f"level {entry['difference_one_level_mev']:.3f} meV; Err_rho "
            f"{100 * entry['err_rho']:.5f} and {100 * entry['err_rho_one_level']:.5f} %; "
            f"forces within {force:.2f} and {force_one:.2f} meV/angstrom\n"
        )
