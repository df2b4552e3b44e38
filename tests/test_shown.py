"""What objects look like in a terminal and in Jupyter."""

import base64

import numpy as np
import pytest
from ase.build import molecule

from denser.atoms.sad import superposition
from denser.labels.label import Label
from denser.labels.store import LabelStore
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.density import Density, Field
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

WATER = Structure.of(molecule("H2O"))
GRID = Grid.around(WATER, 4.0, 0.5)


def objects(small_model, folder) -> dict:
    ion = Structure([11], [[0, 0, 0]], 1, np.diag([10, 11, 12]) / BOHR)
    density = superposition(WATER, GRID)
    label = Label("water", WATER, GRID, np.zeros((40, 4)), -17.25)
    return {
        "Structure(H2O, 3 atoms)": WATER,
        "Structure(Na, 1 atom, charge +1, cell 10.00 x 11.00 x 12.00 angstrom)": ion,
        "Grid(16 x 24 x 24 nodes, 0.265 x 0.265 x 0.265 angstrom apart)": GRID,
        "Field(16 x 24 x 24 nodes, 1 to 1 e)": Field(GRID, np.ones(GRID.shape), "e"),
        "Density(H2O, valence electrons, 16 x 24 x 24 nodes)": density,
        "Label('water', H2O, -17.250000 hartree)": label,
        f"Model('small', unet, {small_model.n_parameters:,} parameters)": small_model,
        "Predictor('small', cpu)": Predictor(small_model, "cpu"),
        f"LabelStore({str(folder / 'a.db')!r}, 0 labels)": LabelStore(folder / "a.db", Recipe()),
    }


def test_reprs_are_one_line(small_model, tmp_path):
    for expected, shown in objects(small_model, tmp_path).items():
        assert repr(shown) == expected
    assert len(repr(PredictionOptions())) < 300


def test_html_is_a_small_picture_and_a_table(small_model, tmp_path):
    for shown in objects(small_model, tmp_path).values():
        if not hasattr(shown, "_repr_html_"):
            continue
        markup = shown._repr_html_()
        assert "<table>" in markup
        assert len(markup) < 6e4
        assert ("<img" in markup) == isinstance(shown, Structure | Density | Label)
        if "<img" in markup:
            png = base64.b64decode(markup.split("base64,")[1].split('"')[0])
            assert png.startswith(b"\x89PNG")
    ion = superposition(WATER, GRID)._repr_html_()
    for text in ("H2O", "Electrons (valence)", "e/bohr^3", "16 x 24 x 24"):
        assert text in ion
    difference = superposition(WATER, GRID)
    difference = difference.with_values(difference.values - difference.values[::-1])
    assert "\u00b1" in difference._repr_html_()


@pytest.mark.parametrize("name", ["<b>x</b>", 'a"b'])
def test_names_are_text(name):
    markup = Label(name, WATER, GRID, np.zeros((40, 4)))._repr_html_()
    assert name not in markup
