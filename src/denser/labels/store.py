"""Label store: an ASE database (SQLite) of converged and of failed calculations.

Every row is a structure in the user's own frame, angstrom, as `ase db` and `ase gui` show it.
`row.data` holds what a label needs beyond that: grid, recipe, orbital energies and the occupied
orbitals, packed by `denser.labels.coefficients`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from denser.labels.coefficients import pack, unpack
from denser.labels.facts import Facts, Summary
from denser.labels.identity import content_hash, store_name
from denser.labels.label import Label
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.paths import file_path
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE, HARTREE

if TYPE_CHECKING:
    from ase.db.row import AtomsRow

FORMAT = "denser-labels-1"

_UNIQUE = (
    "CREATE UNIQUE INDEX IF NOT EXISTS denser_name ON text_key_values(value) WHERE key = 'name'"
)
_INDEX = """
SELECT id, json_extract(key_value_pairs, '$.name'), json_extract(key_value_pairs, '$.content'),
       json_extract(key_value_pairs, '$.converged')
FROM systems
"""
_OF_ONE = (
    " WHERE id = (SELECT id FROM text_key_values WHERE key = 'name' AND value = ?)"  # by _UNIQUE
)
_COLUMNS = {
    "name": ("Name", ""),
    "content": ("Hash of structure, charge, spin and box", ""),
    "converged": ("Converged", ""),
    "spin": ("Unpaired electrons, if there are any", ""),
    "group": ("File that it came from: frames of a trajectory share it", ""),
    "box": ("Box: cell, paper, or padding per side in angstrom", ""),
    "attempt": ("Attempt that converged", ""),
    "cycles": ("Fock builds of the last attempt", ""),
    "s_squared": ("Expectation value of S^2, of open shells", ""),
    "n_states": ("States with this spin that the SCF found; it is the lowest", ""),
    "residual_percent": ("Threshold for the change of the density in the steps", "percent"),
    "seconds": ("Wall time of all attempts", "s"),
    "energy_hartree": ("Total energy", "hartree"),
    "homo_ev": ("Highest occupied orbital", "eV"),
    "lumo_ev": ("Lowest empty orbital", "eV"),
    "gap_ev": ("Gap between them", "eV"),
    "dipole_debye": ("Dipole moment", "debye"),
    "reason": ("Why it failed", ""),
}


class TakenError(InputError):
    """The store holds another structure, charge or box with this name."""


@dataclass(frozen=True)
class Entry:
    """Entry of the store's index for one name."""

    id: int
    content: str
    converged: bool


class LabelStore:
    """Labels in an ASE database; a context manager.

    Each `add` is a separate transaction, and the database keeps names unique. Whatever happens to
    the writing process, a label is stored once or not at all. Several processes may write into
    one store.

    Parameters
    ----------
    path : Path
        Ends in `.db`.
    recipe : Recipe, optional
        Create the store if it does not exist; otherwise its level of theory must be the same (the
        SAD recipe is not part of a label). Without a recipe the store must exist.

    Raises
    ------
    InputError
        The path is not a label store or cannot be opened, or it has another level of theory.
    """

    def __init__(self, path: str | Path, recipe: Recipe | None = None) -> None:
        from ase.db import connect

        self.path = file_path(path)
        _check_path(self.path, recipe is not None)
        self._stack = ExitStack()
        try:
            # SQLite's own locks suffice, and a killed process leaves no lock file.
            database = connect(self.path, type="db", use_lock_file=False)
            self._db = self._stack.enter_context(database)
            if recipe is not None and _is_new(self.path):
                self._begin()  # two processes may create it at the same time
            found = self._metadata()
            self._db.connection.commit()
            if recipe is not None and not found:
                found = self._create(recipe)
            if found.get("format") != FORMAT:
                raise InputError(f"{self.path}: an ASE database, but not a store of labels")
            self.recipe = Recipe.from_dict(found["recipe"])
            if recipe is not None:
                self.require_level(recipe, "this run")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise InputError(f"{self.path}: cannot be opened as a label store ({error})") from error
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        """Wait for other writers, and keep them out until the next commit or rollback."""
        self._db.connection.execute("BEGIN IMMEDIATE")

    def _metadata(self) -> dict:
        """The metadata, read through the store's own connection (ASE 3.26 opens another one)."""
        with self._db.managed_connection():
            return self._db.metadata

    def _create(self, recipe: Recipe) -> dict:
        """Write the metadata of an empty database, unless another process has just done it."""
        self._begin()
        self._db.initialized, self._db._metadata = False, None  # so that ASE reads them again
        found = self._metadata()
        if not found and self._db.count() == 0:
            descriptions = {k: [short, short, unit] for k, (short, unit) in _COLUMNS.items()}
            found = {
                "format": FORMAT,
                "recipe": recipe.to_dict(),
                "key_descriptions": descriptions,
            }
            self._db.connection.execute(_UNIQUE)
            self._db.metadata = found
        self._db.connection.commit()
        return found

    def __repr__(self) -> str:
        return f"LabelStore({str(self.path)!r}, {len(self)} labels)"

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def require_level(self, recipe: Recipe, whose: str) -> None:
        """Raise an InputError that names both levels of theory if they differ."""
        self.recipe.require_same(replace(recipe, sad=self.recipe.sad), str(self.path), whose)

    def index(self) -> dict[str, Entry]:
        """All names, including failures."""
        rows = self._db.connection.execute(_INDEX)
        return {name: Entry(i, content, bool(done)) for i, name, content, done in rows}

    def _entry(self, name: str) -> Entry | None:
        found = self._db.connection.execute(_INDEX + _OF_ONE, (name,)).fetchone()
        return None if found is None else Entry(found[0], found[2], bool(found[3]))

    def names(self) -> list[str]:
        """Names of the labels, sorted."""
        return sorted(name for name, entry in self.index().items() if entry.converged)

    def failed(self) -> dict[str, str]:
        """Reasons of failures by name."""
        rows = self._db.select("converged=0", include_data=False)
        return {row.name: row.reason for row in rows}

    def __len__(self) -> int:
        return len(self.names())

    def __iter__(self) -> Iterator[Label]:
        """Labels in the order of their names."""
        index = self.index()
        for name in sorted(index):
            if index[name].converged:
                yield self._label(self._db.get(index[name].id))

    def read(self, name: str) -> Label:
        """Return one label.

        Raises
        ------
        InputError
            There is no label with this name.
        """
        return self._label(self.row(name))

    def row(self, name: str) -> AtomsRow:
        """ASE's row of a label, with all columns and data; raises like `read`."""
        entry = self._entry(name)
        if entry is None:
            raise InputError(f"{self.path}: holds no {name!r}; `ase db` lists the names")
        row = self._db.get(entry.id)
        if not entry.converged:
            raise InputError(
                f"{self.path}: {name} is not a label, its calculation failed ({row.reason})"
            )
        return row

    def _label(self, row: Any) -> Label:
        data, grid = row.data, row.data["grid"]
        return Label(
            row.name,
            Structure(
                row.numbers,
                row.positions / BOHR,
                round(row.charge),
                row.cell / BOHR if row.pbc.all() else None,
                spin=int(row.get("spin", 0)),
            ),
            Grid(grid["origin"], grid["cell"], tuple(grid["shape"])),
            unpack(data["mo_coeff"], tuple(data["mo_coeff_shape"])),
            row.get("energy_hartree"),
            None if data["mo_energy"] is None else data["mo_energy"].astype(float),
            row.get("group", ""),
        )

    def add(self, label: Label, facts: Facts, content: str | None = None) -> bool:
        """Store a label; it replaces an earlier failure with the same name.

        A label that is there, perhaps from another process, is left alone.

        Parameters
        ----------
        label : Label
            With its structure in the user's coordinates.
        facts : Facts
        content : str, optional
            Hash of the request for the label; by default that of the label itself.

        Returns
        -------
        bool
            False if the store holds a label with this name and content already.

        Raises
        ------
        TakenError
            It holds a label with this name and another content.
        InputError
            The label cannot be written.
        """
        columns: dict[str, Any] = {
            "group": store_name(label.group),
            "box": facts.box,
            "attempt": facts.attempt,
        }
        columns |= {
            key: value
            for key, value in (("cycles", facts.cycles), ("seconds", facts.seconds))
            if value is not None
        }
        if facts.residual is not None:
            columns["residual_percent"] = 100 * facts.residual
        results: dict[str, Any] = {}
        if label.e_tot is not None:
            columns["energy_hartree"] = label.e_tot
            results["energy"] = label.e_tot * HARTREE
        if facts.s_squared is not None:
            columns |= {"s_squared": facts.s_squared, "n_states": len(facts.states)}
        if label.frontier is not None:
            homo, lumo = (e * HARTREE for e in label.frontier)
            columns |= {"homo_ev": homo, "lumo_ev": lumo, "gap_ev": lumo - homo}
        if facts.dipole is not None:
            columns["dipole_debye"] = float(np.linalg.norm(facts.dipole)) * DEBYE
            results["dipole"] = facts.dipole * BOHR
        grid = label.grid
        data = {
            "mo_coeff": pack(label.mo_coeff),
            "mo_coeff_shape": list(label.mo_coeff.shape),
            "mo_energy": None if label.mo_energy is None else label.mo_energy.astype(np.float32),
            "grid": {"origin": grid.origin, "cell": grid.cell, "shape": list(grid.shape)},
            "recipe": self.recipe.to_dict(),
            "versions": facts.versions,
            "host": facts.host,
        }
        if facts.states:
            data["states_hartree"] = list(facts.states)
        content = content or content_hash(label.structure, facts.box)
        return self._write(label.name, label.structure, content, True, columns, data, results)

    def add_failure(
        self, name: str, structure: Structure, box: str, content: str, reason: str
    ) -> bool:
        """Record that a structure could not be labelled; returns and raises like `add`."""
        columns = {"box": box, "reason": reason}
        return self._write(name, structure, content, False, columns, {}, {})

    def _write(
        self,
        name: str,
        structure: Structure,
        content: str,
        converged: bool,
        columns: dict,
        data: dict,
        results: dict,
    ) -> bool:
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase.db.core import now
        from ase.db.row import AtomsRow

        atoms = structure.to_ase()
        if structure.charge:  # ASE's own column `charge` is the sum of these
            atoms.set_initial_charges([structure.charge] + [0] * (len(structure) - 1))
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
            atoms.calc.name = "pyscf"
        row: Any = AtomsRow(atoms)  # which has its columns as attributes
        row.ctime, row.user = now(), ""  # otherwise ASE stores the user's name
        columns = {"name": name, "content": content, "converged": converged, **columns}
        if structure.spin:
            columns["spin"] = structure.spin
        try:
            self._begin()
            earlier = self._entry(name)
            new = earlier is None or not earlier.converged
            if new:
                self._db.write(row, columns, data=data, id=None if earlier is None else earlier.id)
            elif earlier is not None and earlier.content != content:
                raise TakenError(
                    f"{name}: {self.path} holds another structure, charge or box with this name; "
                    "rename its file, or use another store"
                )
            self._db.connection.commit()
            return new
        except (sqlite3.Error, OSError) as error:
            self._db.connection.rollback()
            raise InputError(f"{self.path}: {name} cannot be stored ({error})") from error
        except BaseException:
            self._db.connection.rollback()
            raise

    def info(self) -> Summary:
        """Return statistics of the store."""
        elements: Counter[str] = Counter()
        boxes: Counter[str] = Counter()
        attempts: Counter[str] = Counter()
        charges: Counter[int] = Counter()
        failures: dict[str, list[str]] = {}
        sizes, seconds = [], 0.0
        for row in self._db.select(include_data=False):
            if not row.converged:
                failures.setdefault(row.reason, []).append(row.name)
                continue
            sizes.append(len(row.numbers))
            elements.update(set(row.symbols))
            boxes[row.box] += 1
            attempts[row.attempt] += 1
            charges[round(row.charge)] += 1
            seconds += row.get("seconds", 0.0)
        return Summary(
            len(sizes), (min(sizes, default=0), max(sizes, default=0), sum(sizes)),
            dict(elements), dict(boxes), dict(attempts), dict(charges),
            seconds, self.path.stat().st_size, self.recipe, failures,
        )  # fmt: skip


def _is_new(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _check_path(path: Path, create: bool) -> None:
    if path.suffix != ".db":
        raise InputError(f"{path}: the name of a store of labels must end in .db")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file")
    if not path.exists():
        if not create:
            raise InputError(f"{path}: no such store of labels; make one with denser label")
        if not path.parent.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
        return
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if start not in (b"", b"SQLite format 3\0"):
        raise InputError(f"{path}: not an SQLite database, so not a store of labels")
