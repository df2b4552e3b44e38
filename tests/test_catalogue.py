"""The table of properties and fields, and all that is made from it."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer.main
from ase.build import molecule

import denser
from denser.analysis.catalogue import (
    CHARGES,
    DEFAULT,
    FIELDS,
    NEEDS,
    PICTURES,
    PROPERTIES,
    load,
    needs_orbitals,
    requirements,
)
from denser.analysis.properties import Analysis
from denser.atoms.free_atoms import complete
from denser.cli import app
from denser.cli.plot import Kind
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def water() -> Density:
    structure = Structure.of(molecule("H2O"))
    return denser.superposition(structure, Grid.around(structure, 6.0, 0.35))


@pytest.fixture(scope="module")
def crystal(water) -> Density:
    """The same molecule in a unit cell."""
    return replace(water, structure=replace(water.structure, cell=water.grid.cell))


def test_entries_name_functions_and_needs_that_exist():
    for name, entry in {**PROPERTIES, **FIELDS}.items():
        for need in entry.needs:
            first = need.partition(".")[0]
            assert first in NEEDS or first in PROPERTIES, name
        if not entry.function:
            assert len(entry.needs) == 1, name
            continue
        parameters = inspect.signature(load(entry.function)).parameters
        needed = [p for p in parameters.values() if p.default is p.empty]
        assert len(needed) <= len(entry.needs) <= len(parameters), name
        for shared in getattr(entry, "shares", ()):
            assert shared in NEEDS and shared in parameters, name
    for name in PICTURES:
        assert list(inspect.signature(load(PROPERTIES[name].picture)).parameters)[1:3] == [
            "structure", "path"
        ]  # fmt: skip
    assert set(DEFAULT) <= set(PROPERTIES)
    assert {f for entry in PROPERTIES.values() for f in entry.fields} <= set(FIELDS)


def test_command_has_an_option_for_each_property():
    command = typer.main.get_command(app).commands["analyze"]
    options = {opt: p for p in command.params for opt in p.opts}
    for name, entry in PROPERTIES.items():
        if name in CHARGES:
            assert name in options["--charges"].help
        else:
            assert options[f"--{name}"].help.lower().startswith(entry.help.lower())
    for name in FIELDS:
        assert name in options["--field"].help
    assert set(PICTURES) | {"isosurface", "slice"} == set(Kind)


def test_all_electron_densities_are_refused_where_the_table_says(water):
    analysis = Analysis(complete(water))
    for name in ("orbital-free", "reactivity", "polarizability"):
        assert "valence" in str(requirements(PROPERTIES[name])) or needs_orbitals(PROPERTIES[name])
        with pytest.raises(InputError, match="need a valence density"):
            analysis.property(name)
    for name, entry in PROPERTIES.items():
        if not requirements(entry) and name not in ("bader", "qtaim", "mbis"):  # SAD has no bonds
            assert analysis.property(name).lines()


def test_crystals_are_refused_where_the_table_says(crystal):
    analysis = Analysis(crystal)
    for name, entry in PROPERTIES.items():
        if "an isolated molecule" in requirements(entry):
            with pytest.raises(InputError, match="isolated molecule"):
                analysis.property(name)
    for name in ("moments", "hirshfeld", "cm5", "voids", "accumulation", "orbital-free"):
        assert analysis.property(name).lines()


def test_molecules_are_refused_where_the_table_says(water):
    analysis = Analysis(water)
    for name, entry in PROPERTIES.items():
        if "a crystal" in requirements(entry):
            with pytest.raises(InputError, match="crystal"):
                analysis.property(name)


def test_units_of_fields_are_those_of_the_table(water):
    with_spin = water.with_spin_density(0 * water.values)
    analysis = Analysis(with_spin.with_expected_errors(np.full(3, 0.01)))
    for name, entry in FIELDS.items():
        if not needs_orbitals(entry) and "several molecules" not in requirements(entry):
            assert analysis.field(name).unit == entry.unit, name


def test_shared_results_are_made_once(water, monkeypatch):
    from denser.analysis.charges import stockholder

    calls = []
    plain = stockholder.hirshfeld
    monkeypatch.setattr(stockholder, "hirshfeld", lambda rho: calls.append(1) or plain(rho))
    analysis = Analysis(water)
    charges = analysis.property("hirshfeld").charges
    assert np.isfinite(analysis.property("cm5").charges).all()
    assert analysis.property("hirshfeld").charges is charges
    assert len(calls) == 1
    assert analysis.potential is analysis.potential
