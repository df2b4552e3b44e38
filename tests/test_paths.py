"""What is no file name, structure, density or option is one sentence in all public functions."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

import denser
from denser.io import read_density
from denser.labels.reading import read_labels
from denser.types.grid import Grid
from denser.types.structure import Structure

WRONG = ["", "  ", None, b"", b"CCO", [], Path(), 1.5, {}, np.array([])]

NAMES = {
    "predict": denser.predict,
    "from_smiles": denser.from_smiles,
    "read": denser.read,
    "read_density": read_density,
    "write": lambda name: denser.write(name, None),
    "load_model": denser.load_model,
    "Predictor": denser.Predictor,
    "Calculator": lambda name: denser.Calculator(model=name),
    "LabelStore": denser.LabelStore,
    "read_labels": read_labels,
    "analyze": denser.analyze,
}

OBJECTS = {
    "Structure.of": denser.Structure.of,
    "superposition": lambda x: denser.superposition(x, Grid(np.zeros(3), np.eye(3), (4, 4, 4))),
    "compare": lambda x: denser.compare(x, x),
    "err_rho": lambda x: denser.err_rho(x, x),
    "show": denser.show,
    "box": lambda x: denser.predict("O", box=x),
    "device": lambda x: denser.predict("O", device=x),
    "padding": lambda x: denser.predict("O", padding="" if isinstance(x, float) else x),
    "average": lambda x: denser.predict("O", average=x),
}


@pytest.mark.parametrize("function", NAMES | OBJECTS)
def test_what_is_nothing_is_one_sentence(function):
    call = (NAMES | OBJECTS)[function]
    for wrong in WRONG:
        with pytest.raises(denser.InputError) as error:
            call(wrong)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("function", NAMES)
def test_an_empty_name_is_said_to_be_empty(function):
    with pytest.raises(denser.InputError, match=r"expected .*, found an empty text"):
        NAMES[function]("")


def test_superposition_takes_atoms():
    water = molecule("H2O")
    grid = Grid.around(Structure.of(water), padding=4.0, spacing=0.6)
    found = denser.superposition(water, grid)
    assert np.array_equal(found.values, denser.superposition(Structure.of(water), grid).values)


def test_one_property_by_its_name():
    water = molecule("H2O")
    grid = Grid.around(Structure.of(water), padding=4.0, spacing=0.6)
    rho = denser.superposition(water, grid)
    assert list(denser.analyze(rho, "moments")) == ["moments"]
    with pytest.raises(denser.InputError, match="names of properties"):
        denser.analyze(rho, None)


@pytest.mark.parametrize("command", ["predict", "view", "models info", "label"])
def test_an_empty_argument_of_a_command(run, command):
    code, out, err = run(*command.split(), "", "-o", "x")
    assert (code, out) == (2, "")
    assert err == f"denser: argument {len(command.split()) + 1} is empty; was a variable not set?\n"
