"""Atomic charges of libraries of molecules: the work of `denser charges`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from denser.analysis.charges.like_hf import like_hartree_fock
from denser.analysis.charges.without_grid import (
    Conformer,
    atomic_properties,
    charges_of,
    resp,
)
from denser.analysis.topology.bond_points import bond_points
from denser.analysis.uncertainty import charge_errors
from denser.atoms.plausible import strange
from denser.io.charges import (
    WITH_PROPERTIES,
    ChargedMolecule,
    require_suffix,
    write_bonds,
    write_molecules,
)
from denser.io.files import make_folder
from denser.io.smiles import from_smiles, matches
from denser.io.table import require_table
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows import many
from denser.workflows.charge_inputs import (
    ChargeSettings,
    Molecule,
    find_molecules,
    molecule_of,
    signed,
)
from denser.workflows.charge_journal import ChargeJournal
from denser.workflows.inputs import own_files, refuse_inputs
from denser.workflows.many import Failed


@cache
def _predictor(model: str, device: str) -> Predictor:
    return Predictor(model, device)


def charges(molecule: Molecule, settings: ChargeSettings) -> dict:
    """Charges of a molecule as a record for JSON, with the `ChargedMolecule` as "molecule".

    Raises
    ------
    InputError
        A molecule that cannot be used.
    """
    begin = time.perf_counter()
    source, geometry = molecule.source, ""
    if isinstance(source, Failed):
        raise InputError(source.error)
    if isinstance(source, str):
        atoms = from_smiles(source)
        geometry = atoms.info.get("geometry", "")
        source = (molecule_of(atoms, settings),)
    first = source[0]
    _require_charge(first)
    middle = time.perf_counter()
    record: dict[str, Any] = {
        "formula": first.formula,
        "charge": first.charge,
        "spin": first.spin,
        "n_atoms": len(first),
        "n_conformers": len(source),
        "geometry": geometry,
        "warnings": [*molecule.notes, *(strange(first) if len(first) > 1 else ())],
        "doubt": "",
    }
    properties: dict[str, np.ndarray] = {}
    wrong = None
    if len(first) == 1:  # an ion
        found = {kind: np.array([float(first.charge)]) for kind in settings.kinds}
    else:
        predictor = _predictor(settings.model, settings.device)
        predictions = [(s, *predictor.gaussians(s)) for s in source]
        _, gaussians, excess = max(predictions, key=lambda found: abs(found[2]))
        wrong = predictor.wrong_electrons(gaussians, excess)
        record["doubt"] = predictor.doubt_of(first, excess, wrong)
        if record["doubt"] and settings.skip_doubt:
            return record | {"left_out": True, "seconds": {"geometry": round(middle - begin, 4)}}
        conformers = [Conformer(structure, atoms) for structure, atoms, _ in predictions]
        groups = [(matches(first, smarts), charge) for smarts, charge in settings.groups]
        found = {}
        for kind in settings.kinds:
            if kind == "resp":
                fit = resp(conformers, groups)
                found[kind], record["rrms"] = fit.charges, round(float(fit.rrms), 4)
            else:
                found[kind] = charges_of(kind, conformers)
        if settings.multipoles:
            properties = atomic_properties(settings.kinds, conformers)
        if settings.like_hf:
            found = {k: like_hartree_fock(q, first, groups) for k, q in found.items()}
    ready = ChargedMolecule.of(molecule.stem, first, found, molecule.title, properties)
    if settings.bonds and len(first) > 1:
        points = bond_points(first, conformers[0].density, ready.bonds.pairs)
        ready = replace(ready, bond_properties=points.columns())
    if ready.note:
        record["warnings"].append(ready.note)
    record["symbols"] = first.symbols
    record["charges_e"] = {kind: values.tolist() for kind, values in ready.charges.items()}
    errors = charge_errors(wrong)
    record["charges_error_e"] = {
        kind: errors.tolist()
        for kind in ready.charges
        if kind in ("hirshfeld", "cm5") and errors is not None and not settings.like_hf
    }
    record["seconds"] = {
        "geometry": round(middle - begin, 4),
        "charges": round(time.perf_counter() - middle, 4),
    }
    return record | {"molecule": ready}


def _require_charge(structure: Structure) -> None:
    """Raise an InputError if the charge fits neither the bonds of the input nor the electrons."""
    known = structure.bonds
    formal = structure.charge if known is None else int(known.formal_charges.sum())
    if formal != structure.charge:
        raise InputError(
            f"the formal charges of its atoms add up to {signed(formal)}, but its charge is "
            f"{signed(structure.charge)}; correct one of them"
        )
    if structure.spin and structure.spin_assumed:
        raise InputError(
            f"{structure.formula} with charge {signed(structure.charge)} has an odd number of "
            "electrons; give its charge (--charge), or the spin of a radical (--spin)"
        )


class Library:
    """Molecules, and the file or folder with their charges.

    Parameters
    ----------
    files, smiles : sequence
    out : Path or None
        A file for all molecules (its suffix is the format), or a folder.
    format : str
        Suffix of the files in a folder, one for each molecule.
    settings : ChargeSettings
    resume : bool
        Take molecules that an earlier run computed from its `ChargeJournal`, if they were computed
        from the same structure or SMILES with the same settings, model and version of denser.
    topology : Path or None
        As in `denser.workflows.inputs.find_inputs`.
    bonds : Path or None
        Table for the critical points of the bonds, .csv or .parquet; `settings.bonds` asks for
        them.
    layout : str
        Of this table, as in `denser.io.charges.write_bonds`.

    Raises
    ------
    InputError
        There is nothing to do, or an output that cannot be written.
    """

    def __init__(
        self,
        files: Sequence[Path],
        smiles: Sequence[str],
        out: Path | None,
        format: str = "mol2",
        settings: ChargeSettings = ChargeSettings(),
        resume: bool = False,
        topology: Path | None = None,
        bonds: Path | None = None,
        layout: str = "",
    ) -> None:
        if not files and not smiles:
            raise InputError("nothing to do; name files of molecules or give --smiles")
        if out is None:
            raise InputError("no output; give -o FILE (such as library.sdf) or -o FOLDER")
        if bonds is not None:
            require_table(bonds)
        if layout and (bonds is None or bonds.suffix != ".parquet"):
            raise InputError(f"--layout {layout} is for lists in Parquet; add --bonds FILE.parquet")
        self.files, self.out, self.settings = own_files(files, topology), out, settings
        self.bonds, self.layout = bonds, layout
        self.one_file = bool(out.suffix) and not out.is_dir()
        self.suffix = out.suffix if self.one_file else "." + format.lstrip(".")
        require_suffix(out if self.one_file else Path("*" + self.suffix))
        if settings.multipoles and self.suffix.lower() not in WITH_PROPERTIES:
            raise InputError(
                f"a {self.suffix} file does not hold multipoles; "
                f"choose {', '.join(WITH_PROPERTIES)}"
            )
        if self.suffix.lower() == ".npz" and not (settings.multipoles and "mbis" in settings.kinds):
            raise InputError(
                "a .npz file holds the shells of MBIS; add --charges mbis --multipoles"
            )
        if self.one_file and not out.parent.is_dir():
            raise InputError(f"{out}: the folder {out.parent} does not exist; make it first")
        if not self.one_file and out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file; give it a suffix of a format, or name a folder")
        self.molecules = find_molecules(files, smiles, settings, topology)
        self.resume = resume

    def run(self, workers: int, as_json: bool, parsl: Path | None = None) -> int:
        """Compute and write all; print a line (or a JSON object) for each, and totals.

        One file for all is written at the end, also after Ctrl-C. `workers` and `parsl` are those
        of `denser.workflows.many.run`. Returns 0 if all succeeded, 2 if
        any failed, 130 after Ctrl-C.
        """
        if self.one_file:
            refuse_inputs(self.out, self.files)
        else:
            make_folder(self.out)
        if self.bonds is not None:
            refuse_inputs(self.bonds, [*self.files, self.out])
        done: dict[str, ChargedMolecule] = {}
        left_out = 0
        journal = ChargeJournal(self.out, self.one_file, self.settings, self.resume)

        def take(molecule: Molecule, result: Any, known: bool = False) -> None:
            nonlocal left_out
            if isinstance(result, dict):
                left_out += bool(result.get("left_out"))
                if not known:
                    journal.keep_result(molecule, result)
                ready = result.pop("molecule", None)
                if ready is not None:
                    done[molecule.name] = ready
                if ready is not None and self.one_file:
                    result["output"] = str(self.out)
                elif ready is not None:
                    target = self.out / f"{molecule.stem}{self.suffix}"
                    refuse_inputs(target, self.files)
                    write_molecules(target, [ready])
                    result["output"] = str(target)
            display.take(molecule, result)

        n, todo, known = len(self.molecules), [], []
        for molecule in self.molecules:
            earlier = journal.found(molecule)
            if earlier is None:
                todo.append(molecule)
            else:
                known.append((molecule, earlier))
        display = many.Display(
            "computing", "done", n, _summary, as_json, notes=_notes, present=len(known)
        )
        with display, journal:
            for molecule, earlier in known:
                take(molecule, earlier, known=True)
            totals = many.run(todo, partial(charges, settings=self.settings), take, workers, parsl)
        totals.present = len(known)
        order = [done[m.name] for m in self.molecules if m.name in done]
        if order and self.one_file:
            write_molecules(self.out, order)
        if order and self.bonds is not None:
            write_bonds(self.bonds, order, self.layout)
        where = f"{len(done)} in {self.out}" if self.one_file else f"in {self.out}"
        where += f", bonds in {self.bonds}" if self.bonds is not None else ""
        where += f", {left_out} in doubt left out" if left_out else ""
        split = sum(molecule.split for molecule in self.molecules)
        where += f", {split} input{'s' if split > 1 else ''} split into molecules" if split else ""
        return display.end(totals, where, "add --resume to continue")


def _notes(record: dict) -> Iterable[str]:
    doubt = record["doubt"] if not record.get("left_out") else f"left out: {record['doubt']}"
    return [*record["warnings"], *filter(None, [doubt])]


def _summary(record: dict) -> str:
    if record.get("left_out"):
        return f"{many.headline(record)}: left out"
    n = record["n_conformers"]
    kinds = ", ".join(record["charges_e"])
    atoms = "atom" if record["n_atoms"] == 1 else "atoms"
    text = f"{many.headline(record)}, {record['n_atoms']} {atoms}, {kinds}"
    text += f" of {n} conformers" if n > 1 else ""
    text += f", error of the potential {100 * record['rrms']:.1f} %" if "rrms" in record else ""
    seconds = sum(record["seconds"].values())
    return f"{text}, {seconds:.2f} s -> {record['output']}"
