"""Description of a session for the page, as plain data: atoms, fields, numbers, times."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict

import numpy as np

from denser.analysis import moments
from denser.analysis.catalogue import PROPERTIES
from denser.analysis.uncertainty import dipole_error
from denser.atoms.plausible import strange
from denser.model import doubt
from denser.types.density import SPIN_UNIT, Density
from denser.types.errors import InputError
from denser.types.structure import DIPOLE_ORIGIN
from denser.types.units import BOHR, DEBYE
from denser.types.version import __version__
from denser.viewer.fields import reduced
from denser.viewer.session import Session, is_density
from denser.viewer.surfaces import atoms

QUICK_CHARGES = {name: entry.charges for name, entry in PROPERTIES.items() if entry.quick}
"""Kinds of charges that the page shows, and their headings."""

DRAFT_CHARGES, MOST_CHARGES = 24, 2000
"""Largest number of atoms for which charges are updated during a drag, and computed at all."""


def describe(session: Session) -> dict:
    """Everything but the surfaces."""
    structure = session.structure
    return {
        "version": __version__,
        "model": model_card(session),
        "items": [{"name": i.name, "has_density": i.density is not None} for i in session.items],
        "item": session.item,
        "structure": None if structure is None else atoms(structure, session.shown().structure),
        "stem": None if structure is None else session.file_stem,
        "revision": session.revision,
        "draft": session.draft,
        "problem": session.problem,
        "warnings": warnings(session),
        "notes": session.notes,
        "source": session.source,
        "can_undo": bool(session.undo),
        "can_redo": bool(session.redo),
        "has_kohn_sham": session.kohn_sham is not None,
        "fields": [asdict(field) for field in session.listed_fields()],
        "numbers": numbers(session),
        "charge_kinds": QUICK_CHARGES,
        "charges": charges(session) if quick_charges(session) else {},
        "charges_wanted": not quick_charges(session),
        "wrong_electrons_e": wrong_electrons(session),
        "dipole": dipole(session),
        "grid": grid(session),
        "seconds": {k: round(v, 3) for k, v in session.seconds.items()},
    }


def warnings(session: Session) -> list[str]:
    """Sentences about what is strange in the structure; none for a draft."""
    structure = session.structure
    if structure is None or session.draft:
        return []
    if session.warnings is None:
        unknown = doubt.unknown(session.predictor.model, structure)
        session.warnings = [*strange(structure), *([unknown] if unknown else [])]
    return session.warnings


def model_card(session: Session) -> dict:
    """Name of the model and its measured mean error."""
    model = session.predictor.model
    return {"name": model.name, "error_percent": model.mean_percent}


def dipole(session: Session) -> dict | None:
    """Dipole moment in debye and the position of its arrow; none for a periodic cell."""
    if session.density is None or not is_density(session.density):
        return None
    moment = moments.dipole(session.density)
    if moment is None:
        return None
    vector = moment * DEBYE
    return {
        "vector": vector.tolist(),
        "norm": float(np.linalg.norm(vector)),
        "centre": (session.density.structure.positions.mean(axis=0) * BOHR).tolist(),
    }


def wrong_electrons(session: Session) -> list[float] | None:
    """Expected wrong electrons of each atom; none if the model does not estimate them."""
    density = session.density
    if density is None or density.wrong is None:
        return None
    return np.round(density.wrong, 5).tolist()


def grid(session: Session) -> dict | None:
    """Size and spacing of the density's grid."""
    if session.density is None:
        return None
    grid = session.density.grid
    return {"shape": list(grid.shape), "spacing_angstrom": float(grid.spacing.mean() * BOHR)}


def numbers(session: Session) -> list[dict]:
    """Rows of the panel, each with its origin."""
    density, rows = session.density, []

    def row(key: str, label: str, value: str, unit: str, error: str = "") -> None:
        of = {"key": key, "label": label, "value": value, "unit": unit, "source": session.source}
        rows.append(of | ({"error": error} if error else {}))

    if density is not None and not is_density(density):
        is_spin = density.unit == SPIN_UNIT
        label = "Unpaired electrons" if is_spin else "Integral"
        row("integral", label, f"{density.integrate():.4f}", "e" if is_spin else "")
    elif density is not None:
        kind = "all" if density.all_electron else "valence"
        row("electrons_e", f"Electrons ({kind})", f"{density.integrate():.4f}", "e")
        if (vector := dipole(session)) is not None:
            about = f", {DIPOLE_ORIGIN}" if density.structure.charge else ""
            error = dipole_error(density)
            bar = "" if error is None else f"{error * DEBYE:.2g}"
            row("dipole_debye", f"Dipole{about}", f"{vector['norm']:.3f}", "D", bar)
        error = model_card(session)["error_percent"]
        expected = session.expected
        model = session.predictor.model
        in_doubt = doubt.in_doubt(model, session.excess, session.worst) or warnings(session)
        if session.source == "prediction" and expected is not None:
            label = "In doubt: expected error" if in_doubt else "Expected error"
            row("density_error_percent", label, f"{100 * expected:.2g}", "%")
        elif session.source == "prediction" and in_doubt:
            least = f"{doubt.least_error(model, session.excess):.2g}"
            row("density_error_percent", "In doubt: error likely above", least, "%")
        elif session.source == "prediction" and error is not None:
            row("density_error_percent", "Expected error", f"{error:.1f}", "%")
    if session.kohn_sham is not None:
        rows += session.kohn_sham.numbers()
    return rows


def quick_charges(session: Session) -> bool:
    """Whether charges need no wait: they are known, impossible, or those of a draft."""
    density = session.density
    if density is None or not is_density(density):
        return True
    many = len(density.structure) > MOST_CHARGES
    return session.charges is not None or session.draft or many


def charges(session: Session) -> dict:
    """Charges of the shown density, computed once per molecule; none for a large draft."""
    density = session.density
    if density is None or not is_density(density):
        return {}
    if session.draft and len(density.structure) > DRAFT_CHARGES:
        return {}
    if (n := len(density.structure)) > MOST_CHARGES:
        return {"problem": f"charges of {n} atoms take minutes here; use denser analyze --charges"}
    if session.charges is None:
        session.charges = partition(density)
    return session.charges


def partition(density: Density) -> dict:
    """The charges that are fast to compute, e, or the reason why there are none."""
    from denser.analysis.properties import Analysis

    analysis = Analysis(reduced(density))
    try:
        q = {name: analysis.property(name).charges for name in QUICK_CHARGES}
    except InputError as error:
        return {"problem": str(error)}
    return {scheme: np.round(values, 4).tolist() for scheme, values in q.items()}


def to_dict(session: Session) -> dict:
    """Numbers of the panel for a JSON file."""
    if session.structure is None:
        raise InputError("there is no molecule yet; type a SMILES or open a file")
    table = charges(session)
    vector = dipole(session)
    return {
        "program": f"denser {__version__}",
        "model": model_card(session)["name"],
        "formula": session.structure.formula,
        "charge": session.structure.charge,
        "spin": session.structure.spin,
        "symbols": session.structure.symbols,
        "positions_angstrom": (session.structure.positions * BOHR).tolist(),
        "dipole_vector_debye": vector["vector"] if vector else None,
        "dipole_origin": DIPOLE_ORIGIN if vector else None,
        "numbers": [
            {k: float(r[k]) if k in ("value", "error") else r[k] for k in r if k != "label"}
            for r in numbers(session)
        ],
        "charges_e": {k: v for k, v in table.items() if k != "problem"},
        "wrong_electrons_e": wrong_electrons(session),
        "seconds": session.seconds,
    }


def to_csv(session: Session) -> str:
    """The same as a table: one line for each property, then one line for each atom."""
    record = to_dict(session)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["property", "value", "error", "unit", "source"])
    writer.writerow(["formula", record["formula"], "", "", ""])
    for r in record["numbers"]:
        writer.writerow([r["key"], r["value"], r.get("error", ""), r["unit"], r["source"]])
    writer.writerow([])
    columns = {f"{scheme}_charge_e": q for scheme, q in record["charges_e"].items()}
    if record["wrong_electrons_e"] is not None:
        columns["wrong_electrons_e"] = record["wrong_electrons_e"]
    header = ["atom", "symbol", "x_angstrom", "y_angstrom", "z_angstrom"]
    writer.writerow([*header, *columns])
    for i, (symbol, xyz) in enumerate(
        zip(record["symbols"], record["positions_angstrom"], strict=True)
    ):
        shown = [f"{x:.5f}" for x in xyz]
        writer.writerow([i + 1, symbol, *shown, *(values[i] for values in columns.values())])
    return text.getvalue()
