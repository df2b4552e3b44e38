"""Read trajectories of molecular dynamics (DCD, XTC, TRR, NetCDF) with MDAnalysis.

These files hold coordinates and boxes only. Elements, charge and bonds come from a topology: any
structure file that `denser.io.structures` reads (its first structure), or one of `TOPOLOGIES`.
Frames are read one at a time, where they are needed, so that memory does not grow with their
number and other processes read their own.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, chemical_symbols

from denser.atoms.molecules import whole_molecules
from denser.io.coordinates import reason
from denser.io.formats import TRAJECTORY
from denser.io.frames import ROUNDED, SPARSE, Frame, element_of_name
from denser.io.structures import read_structures
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

TOPOLOGIES = (".psf", ".prmtop", ".parm7", ".tpr")
"""Endings of topologies without coordinates, with partial charges, which MDAnalysis reads."""

_TIMED = (".xtc", ".trr", ".nc", ".ncdf")
"""Trajectories whose frames have times. What programs write into DCD files is not reliable."""

_SAME_MASS = 0.02
"""Masses of one element agree within this, u; those of heavy hydrogens do not."""

_PICOSECOND = 1000 * units.fs


def is_trajectory(path: Path, topology: Path | None = None) -> bool:
    """Whether a file is read here; NetCDF files, which ASE has too, only with a topology."""
    ending = path.suffix.lower()
    return ending in TRAJECTORY.endings and (topology is not None or ending != ".nc")


@dataclass(frozen=True, slots=True)
class TrajectoryFrame:
    """A frame that is read when it is needed.

    Parameters
    ----------
    path, topology : Path
    index : int
        From 0.
    """

    path: Path
    topology: Path
    index: int

    def frame(self) -> Frame:
        """Read it.

        Raises
        ------
        InputError
            The files or this frame cannot be read, or do not fit each other.
        """
        return _opened(self.path, self.topology).frame(self.index)

    def atoms(self) -> Atoms:
        """Read the atoms; raises as `frame`."""
        return self.frame().atoms


def trajectory_frames(path: Path, topology: Path | None) -> list[TrajectoryFrame]:
    """All frames of a trajectory, none of them read.

    Raises
    ------
    InputError
        There is no topology, the files cannot be read, or do not fit each other.
    """
    if topology is None:
        raise InputError(
            f"{path}: a trajectory of this format holds no elements; name a file with the same "
            "atoms, --topology FILE (such as .pdb, .gro, .sdf, .psf, .prmtop or .tpr)"
        )
    n = len(_opened(path, topology))
    return [TrajectoryFrame(path, topology, i) for i in range(n)]


def time_between_frames(path: Path) -> float | None:
    """Time between the first two frames, fs; None if the format has none that can be trusted."""
    if path.suffix.lower() not in _TIMED:
        return None
    reader = _reader(path)
    if len(reader) < 2:
        return None
    first, second = (float(reader[i].time) for i in (0, 1))
    return 1000 * (second - first) if second > first else None


class _Opened:
    """An open trajectory with its topology."""

    def __init__(self, path: Path, topology: Path) -> None:
        self.path, self.reader = path, _reader(path)
        self.like, self.kept = _topology(topology)
        found, n = int(self.reader.n_atoms), len(self.kept)
        if found != n:
            raise InputError(
                f"{path}: has {found} atoms, and its topology {topology} has {n}; name the "
                "topology of the atoms that were written (of all of them, in the same order)"
            )

    def __len__(self) -> int:
        return len(self.reader)

    def frame(self, index: int) -> Frame:
        try:
            with _quiet():
                step = self.reader[index]
        except (OSError, EOFError, ValueError, IndexError) as error:
            raise InputError(
                f"{self.path}: frame {index} cannot be read ({reason(error)})"
            ) from error
        atoms = self.like.atoms.copy()
        atoms.positions = step.positions[self.kept]
        if step.has_velocities:
            velocities = np.asarray(step.velocities[self.kept], float)
            atoms.set_velocities(velocities / _PICOSECOND)
        box, notes = step.dimensions, self.like.notes
        if box is not None and (np.asarray(box[:3]) > 0).all():
            atoms.set_cell(np.asarray(box, float))
            atoms.pbc = True
            if atoms.cell.volume > SPARSE * len(atoms):
                _isolate(atoms)
                notes = (
                    *notes,
                    "the box of the trajectory holds few atoms; they are taken as isolated",
                )
        return replace(self.like, atoms=atoms, notes=notes)


def _isolate(atoms: Atoms) -> None:
    """Remove the cell; molecules that cross its faces become whole, and stay near each other."""
    structure = Structure.of(atoms)
    molecules = whole_molecules(structure)
    cell = structure.cell
    assert cell is not None  # it was set
    centre = molecules[0].positions.mean(axis=0)
    for molecule in molecules:
        away = (molecule.positions.mean(axis=0) - centre) @ np.linalg.inv(cell)
        atoms.positions[molecule.atoms] = (molecule.positions - np.round(away) @ cell) * BOHR
    atoms.pbc = False
    atoms.cell = None


@lru_cache(maxsize=2)
def _opened(path: Path, topology: Path) -> _Opened:
    return _Opened(path, topology)


def split_selection(topology: Path) -> tuple[Path, str]:
    """The file of a topology, and which of its atoms `@selection` behind its name chooses.

    The selection is one of MDAnalysis, such as `top.gro@resname LIG`.
    """
    name, at, selection = str(topology).partition("@")
    if topology.exists() or not at:
        return topology, ""
    return Path(name), selection.strip()


def _topology(topology: Path) -> tuple[Frame, np.ndarray]:
    """Elements, charge, bonds, title and notes, and which sites are the atoms (n_sites,) bool.

    The positions of the atoms have no meaning.
    """
    path, selection = split_selection(topology)
    if is_trajectory(path):
        raise InputError(f"{path}: is a trajectory and no topology; name a file with the elements")
    if path.suffix.lower() in TOPOLOGIES or selection:
        frame, kept = _with_mdanalysis(path, selection)
    else:
        frame = _first(read_structures(path), path)
        kept = np.ones(len(frame.atoms), dtype=bool)
    frame.atoms.pbc = False
    frame.atoms.cell = None
    return frame, kept


def _first(frames: Iterable[Frame | InputError], path: Path) -> Frame:
    found = next(iter(frames))
    if isinstance(found, InputError):
        raise InputError(f"{path}: {found}")
    return found


def _with_mdanalysis(path: Path, selection: str) -> tuple[Frame, np.ndarray]:
    """Topologies without coordinates, and some of the atoms of any topology."""
    mda = _mdanalysis()
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with _quiet():
            universe = mda.Universe(str(path))
    except Exception as error:  # its parsers raise many kinds of errors
        raise InputError(f"{path}: cannot be read as a topology ({reason(error)})") from error
    try:
        with _quiet():
            chosen = universe.select_atoms(selection) if selection else universe.atoms
    except Exception as error:
        raise InputError(f"{path}: cannot select {selection!r} ({reason(error)})") from error
    if len(chosen) == 0:
        raise InputError(f"{path}: {selection!r} selects none of its {len(universe.atoms)} atoms")
    kept = np.zeros(len(universe.atoms), dtype=bool)
    if path.suffix.lower() in TOPOLOGIES:
        frame, atoms = _of_partial_charges(chosen, path)
    else:
        frame, atoms = _through_pdb(chosen, path), chosen
    kept[atoms.indices] = True
    return frame, kept


def _of_partial_charges(chosen: Any, path: Path) -> tuple[Frame, Any]:
    """Elements from the file or from masses and names, the charge from partial charges.

    Also the atoms: sites without mass, as in water of four points, are none.
    """
    total = float(np.sum(chosen.charges))
    if abs(total - round(total)) > ROUNDED:
        raise InputError(
            f"{path}: the charges of its atoms add up to {total:.2f}, which is no whole number"
        )
    atoms = chosen[chosen.masses > 0]
    left = len(chosen) - len(atoms)
    notes = (f"{left} sites of the topology without mass are no atoms",) if left else ()
    found = Atoms(_symbols(atoms), np.zeros((len(atoms), 3)), info={"charge": round(total)})
    return Frame(found, notes=notes), atoms


def _through_pdb(chosen: Any, path: Path) -> Frame:
    """Some atoms of a structure file, by the rules of PDB files."""
    from denser.io.crystals import read_pdb

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "chosen.pdb"
        with _quiet():
            chosen.write(str(file))
        frame = _first(read_pdb(file.read_text()), path)
    if len(frame.atoms) != len(chosen):
        raise InputError(
            f"{path}: some of the {len(chosen)} selected atoms have alternate locations; leave one "
            "of them in the file"
        )
    return frame


def _symbols(atoms: Any) -> list[str]:
    """Element of each atom: that of the file, else of mass and name, else of the name alone."""
    if hasattr(atoms, "elements"):
        given = [str(symbol).capitalize() for symbol in atoms.elements]
        if all(symbol in chemical_symbols[1:] for symbol in given):
            return given
    return [
        _symbol(str(name), str(residue), float(mass))
        for name, residue, mass in zip(atoms.names, atoms.resnames, atoms.masses, strict=True)
    ]


def _symbol(name: str, residue: str, mass: float) -> str:
    from denser.io.residues import is_known

    near = int(np.nanargmin(np.abs(atomic_masses[1:] - mass))) + 1
    symbol = chemical_symbols[near]
    fits = abs(atomic_masses[near] - mass) < _SAME_MASS and symbol != "He"
    if fits and name.upper().startswith(symbol.upper()):
        return symbol
    return element_of_name(name, residue, is_known(residue))


def _reader(path: Path) -> Any:
    _mdanalysis()
    from MDAnalysis.core._get_readers import get_reader_for

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    kind = get_reader_for(str(path))
    reader = kind.__new__(kind)
    try:
        with _quiet():
            reader.__init__(str(path))
        return reader
    except Exception as error:  # its readers raise many kinds of errors
        reader.close = lambda: None  # its end closes what was never opened, with an error
        raise InputError(
            f"{path}: cannot be read as a trajectory ({reason(error)}); is it damaged?"
        ) from error


def _mdanalysis() -> Any:
    try:
        with _quiet():
            import MDAnalysis
    except ImportError as error:
        raise InputError(
            "trajectories need MDAnalysis; pip install 'denser[trajectories]'"
        ) from error
    return MDAnalysis


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of MDAnalysis about what files do not hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
