"""Answer a request of the page with one message of surfaces and scales to draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from denser.pictures.scene import DENSITY, NEGATIVE, POSITIVE
from denser.types.checked import checked
from denser.types.density import Field
from denser.types.errors import InputError
from denser.types.units import BOHR, HARTREE, KCAL_PER_MOL
from denser.viewer import crystal, fields, surfaces
from denser.viewer.crystal import Cells
from denser.viewer.session import Session
from denser.viewer.state import describe
from denser.viewer.surfaces import Surface, coloured, isosurface

NCI_COLOURS = np.array(
    [[8, 48, 140], [98, 146, 226], [196, 214, 180], [244, 145, 104], [165, 12, 20]]
)
"""Like the diverging map, but its middle (neither attraction nor repulsion) shows on white."""

NCI_RANGE = 0.04
"""Ends of the scale of sign(lambda_2) rho, e/bohr^3."""

DRAFT_NODES = 64

POINT_COLOURS = {"attractor": "#a05cc8", "bond": "#e08a00", "ring": "#2c9a8b", "cage": "#1d4fc4"}
"""Colours of critical points other than nuclei."""


def message(session: Session, show: dict, with_state: bool = True) -> bytes:
    """Pack the layers of the page; a layer that cannot be drawn gives a sentence in "problems".

    Parameters
    ----------
    show : dict
        "surface": {"field", "level", "colour": "plain" or "potential", "limit"}, "slice":
        {"field", "plane", "offset", "atoms", "level"}, "points": bool and "atoms": {"values"};
        each may be missing.
    with_state : bool
        Whether to include the result of `describe`.
    """
    start = time.perf_counter()
    problems = {}
    try:
        session.cells = cells(show)
        if session.structure is not None:
            crystal.shown(session.structure, session.cells)
    except InputError as error:
        problems["cells"] = str(error)
    drawing = Drawing(session)
    drawing.problems |= problems
    if session.density is not None:
        drawing.layer("surface", show.get("surface"), drawing.surface)
        drawing.layer("slice", show.get("slice"), drawing.slice)
        drawing.layer("points", show.get("points"), drawing.points)
        drawing.layer("atoms", show.get("atoms"), drawing.atoms)
    session.seconds["surfaces"] = time.perf_counter() - start
    header = {
        "layers": drawing.layers,
        "scales": drawing.scales,
        "problems": drawing.problems,
        "extras": drawing.extras,
        "state": describe(session) if with_state else None,
        "seconds": {k: round(v, 3) for k, v in session.seconds.items()},
    }
    return surfaces.pack(header, drawing.buffers)


def cells(show: dict) -> Cells:
    """How a crystal is shown."""
    wanted = show.get("cells") or {}
    if not isinstance(wanted, dict):
        raise InputError("'cells' of the request is not a JSON object")
    atoms = checked(wanted.get("atoms", Cells.atoms), str, "'atoms' of the cells")
    repeat = checked(wanted.get("repeat", Cells.repeat), tuple[int, int, int], "'repeat'")
    return Cells(atoms, repeat)


class Drawing:
    """Layers of one message, as they are made."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.layers: list[dict] = []
        self.buffers: list[np.ndarray] = []
        self.scales: dict[str, dict] = {}
        self.problems: dict[str, str] = {}
        self.extras: dict[str, object] = {}

    def layer(self, name: str, options: Any, make: Callable[[Any], None]) -> None:
        """Make a layer if it is requested; a failure does not affect the others."""
        if not options:
            return
        try:
            make(options)
        except InputError as error:
            self.problems[name] = str(error)
        except (KeyError, TypeError, ValueError) as error:
            self.problems[name] = f"this request cannot be understood ({error})"

    def isosurface(
        self, field: Field, level: float, colour: np.ndarray, max_nodes: int = surfaces.MAX_NODES
    ) -> Surface | None:
        """An isosurface around the shown atoms; of a crystal, as far as they are the nearest."""
        structure = self.session.shown_density().structure
        if structure.cell is None:
            return isosurface(field, level, colour, max_nodes)
        atoms = self.session.shown()
        part = crystal.around(field, atoms, max_nodes)
        surface = isosurface(part, level, colour, max_nodes)
        if surface is None:
            return None
        near = crystal.near_shown(surface.vertices / BOHR, structure, atoms)
        return surface.part(near)

    def add(self, role: str, surface: Surface, sign: int = 0) -> None:
        """Append the arrays of a surface and their positions; `sign` is that of its isovalue."""
        layer = {
            "role": role,
            "colour": surface.colour.tolist(),
            "sign": sign,
            "vertices": len(self.buffers),
        }
        if surface.colours is not None:
            layer["colours"] = len(self.buffers) + 3
        self.buffers += surface.buffers()
        self.layers.append(layer)

    def surface(self, options: dict) -> None:
        """Isosurfaces of a field, in one or two colours, or coloured by another field."""
        entry, level = self.session.listed(str(options["field"]), float(options["level"]))
        name = str(options["field"]) if entry is None else entry.name
        if not (np.isfinite(level) and level > 0):
            raise InputError("the isovalue must be a positive number")
        if name == "nci":
            return self.interactions(level)
        field = self.session.field(name)
        signed = entry is not None and entry.signed
        nodes = DRAFT_NODES if self.session.draft else surfaces.MAX_NODES
        found = {1: self.isosurface(field, level, POSITIVE if signed else DENSITY, nodes)}
        if signed:
            found[-1] = self.isosurface(field, -level, NEGATIVE, nodes)
        shown = {sign: s for sign, s in found.items() if s is not None}
        if not shown:
            raise InputError(
                f"the field does not reach {level:g} {field.unit}; its values are between "
                f"{field.values.min():.3g} and {field.values.max():.3g}"
            )
        if options.get("colour") == "potential" and name == "density":
            shown = {1: self.by_potential(shown[1], options.get("limit"))}
        for sign, s in shown.items():
            self.add("surface", s, sign)
        return None

    def by_potential(self, surface: Surface, limit: float | None) -> Surface:
        """Colour a surface by the electrostatic potential, red where it is negative."""
        values = surfaces.at_points(self.session.field("esp"), surface.vertices)
        if not limit:
            limit = float(f"{np.quantile(np.abs(values), 0.9):.1g}") or 0.01
        self.scales["surface"] = {
            "label": "Electrostatic potential",
            "low": -limit,
            "high": limit,
            "unit": "hartree/e",
            "notes": [
                f"\u00b1{limit * KCAL_PER_MOL:.0f} kcal/mol, \u00b1{limit * HARTREE:.1f} V",
                "red: negative, blue: positive",
            ],
            "colours": surfaces.DIVERGING.tolist(),
            "lowest": float(values.min()),
            "highest": float(values.max()),
        }
        colours = coloured(values, surfaces.DIVERGING, -limit, limit)
        return Surface(surface.vertices, surface.normals, surface.faces, surface.colour, colours)

    def interactions(self, level: float) -> None:
        """Surfaces of small reduced gradient, coloured by sign(lambda_2) rho."""
        s = self.session.field("nci")
        turned = Field(s.grid, fields.NOTHING - s.values, s.unit)
        surface = self.isosurface(turned, fields.NOTHING - level, DENSITY)
        if surface is None:
            raise InputError("no non-covalent interaction was found in this molecule")
        signed = surfaces.at_points(self.session.field("sign-lambda2-rho"), surface.vertices)
        colours = coloured(signed, NCI_COLOURS, -NCI_RANGE, NCI_RANGE)
        self.add(
            "surface",
            Surface(surface.vertices, surface.normals, surface.faces, surface.colour, colours),
        )
        self.scales["surface"] = {
            "label": "sign(\u03bb\u2082) \u03c1",
            "low": -NCI_RANGE,
            "high": NCI_RANGE,
            "unit": "e/bohr^3",
            "notes": ["blue: attraction, red: steric repulsion"],
            "colours": NCI_COLOURS.tolist(),
        }

    def slice(self, options: dict) -> None:
        """A plane with contour lines."""
        entry, level = self.session.listed(str(options["field"]), float(options["level"]))
        field = self.session.field(str(options["field"]) if entry is None else entry.name)
        surface, contours, scale = surfaces.plane_slice(
            field,
            self.session.shown().structure,
            str(options.get("plane", "molecule")),
            float(options.get("offset", 0.0)),
            [int(a) for a in options.get("atoms", [])],
            level,
        )
        self.add("slice", surface)
        self.extras["contours"] = len(self.buffers)
        self.buffers.append(contours)
        self.scales["slice"] = scale | {"label": "Slice", "unit": field.unit}

    def atoms(self, options: dict) -> None:
        """Learnt values of the atoms, as labels and colours; none for a draft."""
        name = str(options["values"])
        if not self.session.draft:
            self.extras["atoms"] = {name: self.session.of_atoms(name)}

    def points(self, _options: object) -> None:
        """Critical points and bond paths, in angstrom; a separate thread computes them."""
        found = self.session.points
        if found is None:
            self.extras["points_wanted"] = not self.session.draft
            return
        kinds, colours = list(POINT_COLOURS), POINT_COLOURS
        counts = ", ".join(f"{found.count(k)} {k}" for k in kinds if found.count(k))
        complete = "complete" if found.is_complete else "not complete"
        structure, atoms = self.session.shown_density().structure, self.session.shown()

        def copies(place: np.ndarray, what: np.ndarray) -> list:
            """Copies of what stands at a place, one beside each shown copy of its atom."""
            moves = crystal.beside(place, structure, atoms)
            return [np.round((what + move) * BOHR, 4).tolist() for move in moves]

        self.extras["points"] = {
            "points": [
                {"position": position, "colour": colours[kind], "kind": kind}
                for r, kind in zip(found.positions, found.kinds, strict=True)
                if kind in colours
                for position in copies(r, r)
            ],
            "paths": [path for b in found.bonds for path in copies(b.path[0], b.path)],
            "text": f"{counts}; {complete} (Poincar\u00e9-Hopf rule)",
        }
