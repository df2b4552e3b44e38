"""State of one browser tab: a molecule, its density, and derived results."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from denser.atoms.sad import superposition
from denser.model.options import PredictionOptions
from denser.model.prediction import Prediction, Scaled
from denser.model.predictor import Predictor
from denser.model.threads import paying_threads
from denser.types.checked import checked
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.viewer import fields, sketch
from denser.viewer.crystal import Cells, Shown, shown
from denser.viewer.items import Item, check_size

if TYPE_CHECKING:
    from denser.analysis.topology.critical_points import CriticalPoints
    from denser.viewer.orbitals import KohnSham

MAX_PREDICTED, MAX_NODES = 1000, 6_000_000
"""Largest number of atoms that are predicted here, and of nodes; a larger box gets a coarser
grid."""

DRAFT_SPACING, DRAFT_PADDING = 0.25, 3.5
"""Grid spacing while an atom is dragged, angstrom."""

CACHED_FIELDS = 6
UNDO_STEPS = 200


class Session:
    """State of one tab.

    Parameters
    ----------
    predictor : Predictor
        Shared by all sessions; calls come from one thread.
    items : list of Item
    """

    def __init__(self, predictor: Predictor, items: list[Item]) -> None:
        self.predictor = predictor
        self.items = list(items)
        self.item = 0
        self.structure: Structure | None = None
        self.committed: Structure | None = None
        self.density: Density | None = None
        self.source = ""
        self.excess = np.nan
        self.expected: float | None = None
        self.worst: float | None = None
        self.problem = ""
        self.draft = False
        self.seconds: dict[str, float] = {}
        self.undo: list[tuple[Structure, Density | None]] = []
        self.redo: list[tuple[Structure, Density | None]] = []
        self.kohn_sham: KohnSham | None = None
        self.revision = 0
        self.cache: OrderedDict[str, Field] = OrderedDict()
        self.charges: dict | None = None
        self.learned: dict[str, list[float]] = {}
        self.points: CriticalPoints | None = None
        self.from_file: Density | None = None
        self.cells = Cells()
        if self.items:
            self.open(0)

    # Items

    def open(self, item: int, draft: bool = False) -> None:
        """Show one of the items; as a draft while frames are played."""
        if not 0 <= item < len(self.items):
            raise InputError(f"there is no item {item + 1}; {len(self.items)} are open")
        self.item = item
        self.undo.clear()
        self.redo.clear()
        self.committed, self.from_file = self.items[item].structure, self.items[item].density
        self._set(self.committed, self.from_file, draft)

    def append(self, items: list[Item]) -> None:
        """Add items and show the first of them."""
        self.items += items
        self.open(len(self.items) - len(items))

    def from_smiles(self, smiles: str) -> None:
        """Start with a molecule given as SMILES."""
        if not smiles.strip():
            raise InputError("type a SMILES first, such as CCO for ethanol")
        if len(smiles) > 500:
            raise InputError("that SMILES is longer than 500 characters; open a structure file")
        item = Item.from_smiles(smiles.strip())
        check_size(item.structure)
        self.append([item])

    # Edits

    def edit(self, edit: dict, draft: bool = False) -> None:
        """Apply an edit to the last final molecule; a draft is an edit that is still in progress.

        Parameters
        ----------
        edit : dict
            "op" is one of open, smiles, undo, redo, move (atoms, positions in angstrom), turn
            (atoms, degrees), element (atom, symbol), add (atom, symbol), remove (atoms), clean,
            charge (value); "hydrogens" says whether their number is adjusted.
        """
        op = edit.get("op")
        if op == "open":
            return self.open(checked(edit.get("item"), int, "'item' of the request"), draft)
        if op == "smiles":
            return self.from_smiles(str(edit.get("smiles", "")))
        if self.committed is None:
            raise InputError("there is no molecule yet; type a SMILES or open a file")
        if op in ("undo", "redo"):
            return self._travel(op, self.committed)
        try:
            changed = _edited(self.committed, shown(self.committed, self.cells), edit)
            check_size(changed)
        except InputError:
            if self.draft and not draft:  # the drag ends at its start
                self._set(self.committed, self.from_file)
            raise
        if not draft:
            self.undo.append((self.committed, self.from_file))
            del self.undo[:-UNDO_STEPS]
            self.redo.clear()
        self._set(changed, None, draft)
        return None

    def _travel(self, op: str, committed: Structure) -> None:
        here, there = (self.undo, self.redo) if op == "undo" else (self.redo, self.undo)
        if not here:
            raise InputError(f"nothing to {op}")
        there.append((committed, self.from_file))
        self._set(*here.pop())

    def _set(self, structure: Structure, density: Density | None, draft: bool = False) -> None:
        """Show a structure with the density of a file, or with its prediction."""
        self.revision += 1
        self.structure, self.draft = structure, draft
        self.cache.clear()
        self.charges = self.points = self.kohn_sham = None
        self.learned = {}
        self.warnings: list[str] | None = None
        self.problem = ""
        self.excess, self.expected, self.worst = np.nan, None, None
        self.seconds = {}
        if not draft:
            self.committed, self.from_file = structure, density
        if density is not None:
            self.density, self.source = density, "file"
            return
        self.density, self.source = None, "prediction"
        try:
            start = time.perf_counter()
            with paying_threads(len(structure)):
                self.density = self._draft(structure) if draft else self._predict(structure)
            self.seconds["density"] = time.perf_counter() - start
        except InputError as error:
            self.problem = str(error)

    def _predict(self, structure: Structure) -> Density:
        if len(structure) > MAX_PREDICTED:
            raise InputError(
                f"{structure.formula} has {len(structure)} atoms, and the viewer predicts up to "
                f"{MAX_PREDICTED}; predict it with denser predict and open the result"
            )
        if self.predictor.network.any_spacing:
            padding = PredictionOptions.padding / BOHR
            grid = _grid(structure, padding, self.predictor.model.recipe.spacing)
            coarse = fields.coarse_grid(grid, MAX_NODES)
            if coarse is not grid:
                return self._on(coarse, structure)
        prediction = self.predictor.predict(structure)
        self._remember(prediction)
        return prediction.density

    def _draft(self, structure: Structure) -> Density:
        grid = _grid(structure, DRAFT_PADDING / BOHR, DRAFT_SPACING / BOHR)
        if not self.predictor.network.any_spacing:
            self.source = "free atoms"
            self.predictor.require_covered(structure)
            return superposition(structure, grid, self.predictor.model.recipe.sad)
        return self._on(grid, structure)

    def _on(self, grid: Grid, structure: Structure) -> Density:
        self.predictor.require_covered(structure)
        sad = superposition(structure, grid, self.predictor.model.recipe.sad)
        scaled = self.predictor.predicted(sad, not structure.isolated)
        self._remember(scaled)
        return scaled.density

    def _remember(self, found: Prediction | Scaled) -> None:
        self.excess = found.excess
        self.expected, self.worst = found.expected_error, found.worst_expected

    def use_kohn_sham(self, result: KohnSham, revision: int) -> None:
        """Store the result of a one-step calculation, unless the molecule has changed since."""
        if revision == self.revision:
            self.kohn_sham = result

    def use_points(self, result: CriticalPoints, revision: int) -> None:
        """Store critical points, unless the molecule has changed since."""
        if revision == self.revision:
            self.points = result

    def use_charges(self, result: dict, revision: int) -> None:
        """Store charges, unless the molecule has changed since."""
        if revision == self.revision:
            self.charges = result

    def use_learned(self, result: dict[str, list[float]], revision: int) -> None:
        """Store learnt values of the atoms, unless the molecule has changed since."""
        if revision == self.revision:
            self.learned |= result

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the item; none after an edit."""
        item = self.items[self.item] if self.items else None
        return item.notes if item is not None and self.structure is item.structure else ()

    @property
    def file_stem(self) -> str:
        """Stem of the names of downloads: that of the item, or the formula if it was edited."""
        if self.structure is None:
            raise InputError("there is nothing to download yet; type a SMILES or open a file")
        item = self.items[self.item]
        own = item.stem if self.structure is item.structure else ""
        return own or self.structure.formula

    def shown(self) -> Shown:
        """The atoms as they are on the screen."""
        if self.structure is None:
            raise InputError("there is no molecule yet; type a SMILES or open a file")
        try:
            return shown(self.structure, self.cells)
        except InputError:
            return shown(self.structure, Cells(self.cells.atoms))

    # Fields

    def listed_fields(self) -> list[fields.ListedField]:
        """Fields that can be shown now; the first one is shown unless another is chosen."""
        if self.density is not None and not is_density(self.density):
            return [fields.of_values(self.density)]
        listed = fields.listed(self.density)
        for k, item in enumerate(self.items):
            if item.density is None or not is_density(item.density):
                continue
            if not (self.source == "file" and k == self.item):
                label = f"Density - {item.name}"
                listed.append(replace(fields.DIFFERENCE, name=f"minus:{k}", label=label))
        if self.source == "file":
            label = "Density - prediction"
            listed.append(replace(fields.DIFFERENCE, name="minus_prediction", label=label))
        if self.kohn_sham is not None:
            label = "One step - shown density"
            listed.append(replace(fields.DIFFERENCE, name="one_step_change", label=label))
            listed += [
                replace(fields.ORBITAL, name=f"orbital:{name}", label=name.upper())
                for name in self.kohn_sham.orbitals
            ]
        return listed

    def listed(self, name: str, level: float) -> tuple[fields.ListedField | None, float]:
        """A listed field and the isovalue to draw it at.

        A page that does not know yet what a file holds may ask for another field. It gets the field
        that is listed first, at its own isovalue.
        """
        found = self.listed_fields()
        match = next((o for o in found if o.name == name), None)
        if match is None and "values" in (name, found[0].name):
            return found[0], found[0].level
        return match, level

    def real_density(self) -> Density:
        """The density; an InputError says why there is none, such as values of another kind."""
        density = self.shown_density()
        if not is_density(density):
            raise InputError(
                f"this file holds values in {density.unit}, which are no density of electrons; "
                "open the density"
            )
        return density

    def shown_density(self) -> Density:
        """The density; an InputError says why there is none."""
        if self.density is None:
            raise InputError(self.problem or "there is no density yet")
        return self.density

    def field(self, name: str, full: bool = False) -> Field:
        """Field with a name; `full` asks for all nodes of the density's grid."""
        density = self.shown_density()
        if name in ("density", "values"):
            return density
        density = self.real_density()
        key = f"{name} full" if full else name
        if key not in self.cache:
            start = time.perf_counter()
            made = self._make(name, density, full)
            self.keep(key, made, time.perf_counter() - start, self.revision)
        self.cache.move_to_end(key)
        return self.cache[key]

    def wanted(self, show: dict) -> list[str]:
        """Slow derived fields that a drawing needs and that are not computed yet."""
        surface, plane = show.get("surface") or {}, show.get("slice") or {}
        names = {str(part["field"]) for part in (surface, plane) if part.get("field")}
        if surface.get("colour") == "potential":
            names.add("esp")
        if surface.get("field") == "nci":
            names.add("sign-lambda2-rho")
        if self.density is None or self.draft or not is_density(self.density):
            return []
        return sorted(name for name in names.difference(self.cache) if fields.is_derived(name))

    def wanted_of_atoms(self, show: dict) -> list[str]:
        """Learnt values of the atoms that a drawing needs and that are not computed yet."""
        name = (show.get("atoms") or {}).get("values")
        if self.density is None or self.draft or not is_density(self.density):
            return []
        return [name] if name in fields.LEARNED and name not in self.learned else []

    def of_atoms(self, name: str) -> list[float]:
        """Learnt values (n_atoms,) with a name in `fields.LEARNED`, computed once per molecule."""
        if name not in fields.LEARNED:
            raise InputError(f"there are no learnt values {name!r}; known: {[*fields.LEARNED]}")
        if name not in self.learned:
            self.learned |= fields.learned(name, self.real_density(), self.predictor)
        return self.learned[name]

    def keep(self, name: str, field: Field, seconds: float, revision: int) -> None:
        """Store a field that was computed elsewhere, unless the molecule has changed since."""
        if revision == self.revision:
            self.cache[name], self.seconds[name] = field, seconds
            while len(self.cache) > CACHED_FIELDS:
                self.cache.popitem(last=False)

    def _make(self, name: str, density: Density, full: bool) -> Field:
        if fields.is_derived(name):
            working = density if full else fields.reduced(density)
            return fields.derived(name, working, self.predictor)
        if name == "minus_prediction":
            return _minus(density, self._on(density.grid, density.structure))
        if name.startswith("minus:"):
            return self._minus_item(density, name.removeprefix("minus:"))
        if self.kohn_sham is None:
            raise InputError("that field comes with the one-step calculation; run it first")
        if name == "one_step_change":
            return Field(density.grid, self.kohn_sham.density.values - density.values)
        return self.kohn_sham.orbital(name.removeprefix("orbital:"))

    def _minus_item(self, density: Density, text: str) -> Field:
        k = int(text) if text.isdigit() else -1
        other = self.items[k].density if 0 <= k < len(self.items) else None
        if other is None:
            raise InputError("this density is no longer open")
        a, b = density.structure, other.structure
        same = len(a) == len(b) and np.array_equal(a.numbers, b.numbers)
        if not (same and np.allclose(a.positions, b.positions, atol=1e-3)):
            raise InputError(
                f"{self.items[k].name} has other atoms, or atoms at other positions; a difference "
                "needs the same molecule"
            )
        if not density.grid.same_as(other.grid):
            if self.source == "prediction" and self.predictor.network.any_spacing:
                return _minus(self._on(other.grid, a), other)  # works for any nodes
            raise InputError(f"the grid of {self.items[k].name} differs from the one shown")
        return _minus(density, other)


def is_density(found: Density) -> bool:
    """Whether it is a density of electrons, and not a spin density or an orbital."""
    return found.unit == Field.unit


def _grid(structure: Structure, padding: float, spacing: float) -> Grid:
    if structure.cell is not None:
        return Grid.periodic(structure, spacing)
    return Grid.around(structure, padding, spacing)


def _minus(density: Density, other: Density) -> Field:
    return Field(density.grid, density.values - other.values)


def _edited(structure: Structure, on_screen: Shown, edit: dict) -> Structure:
    """Apply one of the edits that change atoms; see `Session.edit`.

    Atoms and positions of the edit are those on the screen.
    """
    op, hydrogens = edit.get("op"), bool(edit.get("hydrogens", True))

    def own(atom: object) -> int:
        """Index in the structure of an atom on the screen; others are left to the checks."""
        k = int(atom)  # type: ignore[call-overload]
        return k % len(structure) if 0 <= k < len(on_screen.shifts) else k

    try:
        if op == "move":
            atoms = [int(a) for a in edit["atoms"]]
            positions = np.asarray(edit["positions"], dtype=float) / BOHR
            if positions.shape == (len(atoms), 3) and max(atoms, default=0) < len(on_screen.shifts):
                positions = positions - on_screen.shifts[atoms]
            return sketch.move(structure, [own(a) for a in atoms], positions)
        if op == "turn":
            a, b = (own(a) for a in edit["atoms"])
            return sketch.turn(structure, a, b, np.radians(float(edit["degrees"])))
        if op == "element":
            return sketch.change_element(structure, own(edit["atom"]), edit["symbol"], hydrogens)
        if op == "add":
            return sketch.add(structure, own(edit["atom"]), edit["symbol"], hydrogens)
        if op == "remove":
            return sketch.remove(structure, sorted({own(a) for a in edit["atoms"]}), hydrogens)
        if op == "clean":
            from denser.io.clean_up import clean_up

            return clean_up(structure)
        if op == "charge":
            return replace(structure, charge=int(edit["value"]), bonds=None, spin=None)
    except (KeyError, TypeError, OverflowError) as error:
        raise InputError(f"the request {op!r} is not complete ({error})") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the request {op!r} cannot be understood ({error})") from error
    raise InputError(f"unknown request {op!r}")
