"""The viewer without a browser: sessions, sketching, surfaces, and the server's manners."""

import base64
import ctypes
import gc
import gzip
import json
import socket
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import denser
from denser.analysis.catalogue import FIELDS, PROPERTIES
from denser.atoms.free_atoms import complete
from denser.atoms.sad import superposition
from denser.model.predictor import Predictor
from denser.pictures import scene as pictures
from denser.types.density import SPIN_UNIT, Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE
from denser.viewer import draw, sketch, surfaces
from denser.viewer.fields import reduced
from denser.viewer.items import MAX_ATOMS, Item, read_items
from denser.viewer.notebook import MAX_NODES
from denser.viewer.session import CACHED_FIELDS, Session
from denser.viewer.state import describe, numbers, partition

TestClient = pytest.importorskip("starlette.testclient").TestClient

DENSITY = {"surface": {"field": "density", "level": 0.1}}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("default", "cpu")


@pytest.fixture
def water_session(predictor: Predictor) -> Session:
    structure = Structure.from_ase(molecule("H2O"))
    return Session(predictor, [Item("water.xyz", structure)])


def error_row(session: Session) -> dict:
    rows = describe(session)["numbers"]
    return next(row for row in rows if row["key"] == "density_error_percent")


def test_a_molecule_that_the_model_does_not_know(predictor, water_session):
    assert error_row(water_session)["label"] == "Expected error"
    cluster = Atoms("Al4", [[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]])
    strange = Session(predictor, [Item("al.xyz", Structure.from_ase(cluster))])
    row = error_row(strange)
    assert "doubt" in row["label"]
    assert float(row["value"]) == pytest.approx(100 * strange.expected, rel=0.05)
    assert float(row["value"]) > 2.5 * strange.predictor.model.mean_percent
    long = Atoms("OCO", [[-1.405, 0, 0], [0, 0, 0], [1.405, 0, 0]])
    stretched = Session(predictor, [Item("co2.xyz", Structure.from_ase(long))])
    assert "doubt" in error_row(stretched)["label"]
    assert "1.41 angstrom apart" in describe(stretched)["warnings"][0]
    expected = strange.expected
    strange.open(0, draft=True)  # the estimate does not depend on the grid
    assert "doubt" in error_row(strange)["label"]
    assert strange.expected == pytest.approx(expected, rel=1e-3)


def test_notes_of_a_file(predictor, tmp_path):
    path = tmp_path / "two.pdb"
    atom = "HETATM{:5d}  {:<3}{}HOH A   1      {:>6}   0.000{:8.3f}  {}  0.00           {}\n"
    water = atom.format(1, "O", "A", "0.000", 0.119, "0.60", "O")
    water += atom.format(2, "O", "B", "0.500", 0.119, "0.40", "O")
    water += atom.format(3, "H1", " ", "0.763", -0.477, "1.00", "H")
    water += atom.format(4, "H2", " ", "-0.763", -0.477, "1.00", "H")
    path.write_text(f"{water}END\n")
    session = Session(predictor, read_items(path))
    (note,) = describe(session)["notes"]
    assert "alternate locations" in note and "(A)" in note
    session.edit({"op": "move", "atoms": [0], "positions": [[0, 0, 0.2]]})
    assert not describe(session)["notes"]
    assert Item.from_smiles("O").notes == ("geometry: ETKDG and MMFF94",)


def test_notes_of_records_that_are_left_out(tmp_path):
    path = tmp_path / "two.xyz"
    path.write_text("2\n\nH 0 0 0\nH 0 0 0.74\n2\n\nH 0 0 0\nXx 0 0 1\n")
    (item,) = read_items(path)
    assert len(item.notes) == 1 and "two.xyz 2 is left out" in item.notes[0]


def unpack(message: bytes) -> dict:
    """Read a message as the page does."""
    length = int(np.frombuffer(message, "<u4", 1)[0])
    header = json.loads(message[4 : 4 + length])
    assert length % 4 == 0
    body = message[4 + length :]
    header["arrays"] = [
        np.frombuffer(body, b["type"], b["length"], b["offset"]) for b in header["buffers"]
    ]
    return header


# Sketching


def distances(structure: Structure) -> np.ndarray:
    r = structure.positions
    return np.linalg.norm(r[:, None] - r, axis=-1)


def test_turn_is_a_rigid_rotation_of_both_sides():
    ethane = Structure.from_ase(molecule("C2H6"))
    turned = sketch.turn(ethane, 0, 1, 0.4)
    moved = np.linalg.norm(turned.positions - ethane.positions, axis=1) > 1e-9
    assert moved.sum() == 3  # the hydrogens of one end
    for side in (moved, ~moved):
        before, after = (distances(s)[np.ix_(side, side)] for s in (ethane, turned))
        np.testing.assert_allclose(after, before, atol=1e-10)
    a, b = (i for i in range(2, 8) if not moved[i]), np.flatnonzero(moved)
    first, last = next(a), int(b[0])
    ends = (first, 0, 1, last) if distances(ethane)[first, 0] < 2.5 else (first, 1, 0, last)
    angles = [s.to_ase().get_dihedral(*ends) for s in (ethane, turned)]
    assert (angles[1] - angles[0]) % 360 == pytest.approx(np.degrees(0.4), abs=1e-6)


def test_turn_refuses_rings_and_strangers():
    benzene = Structure.from_ase(molecule("C6H6"))
    pairs = sketch.bonds(benzene)
    ring = next(p for p in pairs if (benzene.numbers[p] == 6).all())
    with pytest.raises(InputError, match="part of a ring"):
        sketch.turn(benzene, *ring, 0.1)
    with pytest.raises(InputError, match="not bonded"):
        sketch.turn(benzene, 0, 3, 0.1)


@pytest.mark.parametrize(
    ("symbol", "formula"), [("N", "CH5N"), ("O", "CH4O"), ("F", "CH3F"), ("Si", "CH6Si")]
)
def test_elements_keep_their_valence(symbol: str, formula: str):
    ethane = Structure.from_ase(molecule("C2H6"))
    assert sketch.change_element(ethane, 0, symbol).formula == formula


def test_growing_and_cutting_a_chain():
    methane = Structure.from_ase(molecule("CH4"))
    ethane = sketch.add(methane, 0, "C")
    assert ethane.formula == "C2H6"
    lengths = distances(ethane)[ethane.numbers == 6][:, ethane.numbers == 6] * BOHR
    assert lengths.max() == pytest.approx(1.52, abs=0.02)
    close = distances(ethane) + np.eye(len(ethane)) * 9
    assert close.min() * BOHR > 1.0
    back = sketch.remove(ethane, [int(np.flatnonzero(ethane.numbers == 6)[-1])])
    assert back.formula == "CH4"


def test_new_hydrogens_are_tetrahedral():
    carbon = Structure([6], [[0.0, 0.0, 0.0]])
    methane = sketch._attach(carbon, 0, [1] * 4)
    v = methane.positions[1:]
    v = v / np.linalg.norm(v, axis=1, keepdims=True)
    cosines = (v @ v.T)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(cosines, -1 / 3, atol=1e-3)


def test_clean_up_mends_a_sketch_where_it_stands(water_session: Session):
    pytest.importorskip("rdkit")
    from denser.io.clean_up import clean_up
    from denser.io.smiles import from_smiles

    acetate = Structure.of(from_smiles("CC(=O)[O-].O"))
    rng = np.random.default_rng(2)
    moved = acetate.positions + rng.normal(0, 0.06, acetate.positions.shape) / BOHR
    cleaned = clean_up(Structure(acetate.numbers, moved, acetate.charge))
    pairs = sketch.bonds(acetate)
    i, j = pairs.T
    np.testing.assert_allclose(
        distances(cleaned)[i, j] * BOHR, distances(acetate)[i, j] * BOHR, atol=0.02
    )
    assert np.linalg.norm(cleaned.positions - moved, axis=1).max() * BOHR < 0.35
    assert cleaned.charge == -1
    session = water_session
    start = session.structure.positions.copy()
    far = (start[1] * BOHR + [0.0, 0.12, 0.0]).tolist()
    session.edit({"op": "move", "atoms": [1], "positions": [far]})
    session.edit({"op": "clean"})
    assert distances(session.structure)[0, 1] * BOHR == pytest.approx(0.969, abs=0.01)
    with pytest.raises(InputError, match="not clear"):
        clean_up(Structure([8, 1], [[0, 0, 0], [1.8, 0, 0]]))
    with pytest.raises(InputError, match="crystal"):
        clean_up(Structure([8, 1, 1], start, cell=np.eye(3) * 20))


def test_water_is_built_with_lone_pairs():
    oxygen = sketch._attach(Structure([8], [[0.0, 0.0, 0.0]]), 0, [1, 1])
    assert 100 < oxygen.to_ase().get_angle(1, 0, 2) < 112


# Surfaces


def gaussian_field(shape=(40, 44, 48)) -> Field:
    grid = Grid(np.array([-4.0, -5.0, -4.5]), np.diag([8.0, 10.0, 9.0]), shape)
    r2 = (grid.points() ** 2).sum(axis=-1)
    return Field(grid, np.exp(-r2))


def test_isosurface_of_a_gaussian_is_a_sphere():
    surface = surfaces.isosurface(gaussian_field(), 0.3, (1, 0, 0))
    radius = np.sqrt(-np.log(0.3))
    r = np.linalg.norm(surface.vertices, axis=1) / BOHR
    np.testing.assert_allclose(r, radius, atol=0.01)
    a, b, c = (surface.vertices[surface.faces[:, k]].astype(float) for k in range(3))
    volume = np.einsum("ij,ij->", a, np.cross(b, c)) / 6 / BOHR**3
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)  # so they look outward
    outward = (surface.vertices / np.linalg.norm(surface.vertices, axis=1, keepdims=True)).astype(
        float
    )
    assert (outward * surface.normals).sum(axis=1).min() > 0.99


def test_negative_level_encloses_what_is_below():
    field = gaussian_field()
    turned = Field(field.grid, -field.values)
    plus, minus = (
        surfaces.isosurface(f, level, (1, 0, 0)) for f, level in ((field, 0.3), (turned, -0.3))
    )
    np.testing.assert_allclose(plus.vertices, minus.vertices, atol=1e-6)
    assert surfaces.isosurface(field, -0.3, (1, 0, 0)) is None


def test_surfaces_stay_small_enough_for_the_browser():
    n = 160
    grid = Grid(np.zeros(3), np.eye(3) * 20.0, (n, n, n))
    x, y, z = (np.arange(n) * 2 * np.pi / n * 6 for _ in range(3))
    gyroid = (
        np.sin(x)[:, None, None] * np.cos(y)[:, None]
        + np.sin(y)[:, None] * np.cos(z)
        + np.sin(z) * np.cos(x)[:, None, None]
    )
    surface = surfaces.isosurface(Field(grid, gyroid), 0.1, (1, 0, 0))
    assert 1000 < len(surface.vertices) <= surfaces.MAX_VERTICES
    assert surface.faces.max() < len(surface.vertices)


def test_slice_shows_the_field_of_its_plane():
    field = gaussian_field((64, 64, 64))
    structure = Structure([8, 1, 1], [[0, 0, 0], [1.8, 0, 0], [-0.4, 1.7, 0]])
    surface, contours, scale = surfaces.plane_slice(field, structure, "z", 0.0, [], 0.1)
    assert np.ptp(surface.vertices[:, 2]) < 1e-6
    level = surfaces.at_points(field, contours.reshape(-1, 3)[::7])
    assert scale["low"] == 0.0
    nearest = 2.0 ** np.round(np.log2(level / 0.1))
    np.testing.assert_allclose(level / 0.1, nearest, rtol=0.06)
    through, _, _ = surfaces.plane_slice(field, structure, "atoms", 0.0, [0, 1, 2], 0.1)
    assert np.abs(through.vertices[:, 2]).max() < 1e-5  # the three atoms lie in z = 0
    with pytest.raises(InputError, match="needs three"):
        surfaces.plane_slice(field, structure, "atoms", 0.0, [0, 1], 0.1)


def test_message_survives_packing():
    arrays = [np.arange(7, dtype=np.int8), np.arange(5, dtype=np.float32)]
    header = unpack(surfaces.pack({"a": "\u00e5"}, arrays))
    assert header["a"] == "\u00e5"
    for a, b in zip(arrays, header["arrays"], strict=True):
        np.testing.assert_array_equal(a, b)


# Sessions


def test_density_follows_the_atoms_and_undo_brings_them_back(water_session: Session):
    session = water_session
    before = session.density
    start = session.committed.positions.copy()
    dipole = np.linalg.norm(before.dipole())
    target = (start[1] * BOHR + [0, 0.15, 0]).tolist()
    session.edit({"op": "move", "atoms": [1], "positions": [target]}, draft=True)
    assert session.draft
    assert session.density.grid.size < before.grid.size / 10
    assert not session.undo
    assert session.density.integrate() == pytest.approx(8.0, abs=1e-4)
    coarse = np.linalg.norm(session.density.dipole())
    session.edit({"op": "move", "atoms": [1], "positions": [target]})
    fine = np.linalg.norm(session.density.dipole())
    assert abs(fine - dipole) > 0.01
    assert coarse == pytest.approx(fine, abs=0.03)  # the draft tells the same story
    session.edit({"op": "undo"})
    np.testing.assert_array_equal(session.structure.positions, start)
    np.testing.assert_array_equal(session.density.values, before.values)
    session.edit({"op": "redo"})
    assert session.structure.positions[1] @ [0, 1, 0] * BOHR == pytest.approx(target[1])


def test_refused_drag_ends_where_it_began(water_session: Session):
    session = water_session
    start = session.committed.positions.copy()
    near = [(start[0] * BOHR + [0.1, 0, 0]).tolist()]
    session.edit({"op": "move", "atoms": [1], "positions": [[3.0, 0, 0]]}, draft=True)
    with pytest.raises(InputError, match="closer than"):
        session.edit({"op": "move", "atoms": [1], "positions": near})
    np.testing.assert_array_equal(session.structure.positions, start)
    assert not session.draft


def test_what_cannot_be_predicted_is_said_and_drawn_without_density(water_session: Session):
    water_session.edit({"op": "charge", "value": 1})
    state = unpack(draw.message(water_session, DENSITY))["state"]
    assert not state["problem"]
    assert water_session.density.spin_density.integrate() == pytest.approx(1, abs=0.01)
    water_session.edit({"op": "charge", "value": 8})
    header = unpack(draw.message(water_session, DENSITY))
    assert "without valence electrons" in header["state"]["problem"]
    assert header["state"]["structure"]["charge"] == 8
    assert header["layers"] == []
    water_session.edit({"op": "element", "atom": 0, "symbol": "U", "hydrogens": False})
    assert "U" in unpack(draw.message(water_session, DENSITY))["state"]["problem"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"op": "element", "atom": 0, "symbol": "Xx"}, "not an element"),
        ({"op": "remove", "atoms": [9]}, "no atom 10"),
        ({"op": "move", "atoms": [0]}, "not complete"),
        ({"op": "move", "atoms": [0], "positions": "abc"}, "cannot be understood"),
        ({"op": "move", "atoms": [0], "positions": [[float("nan"), 0, 0]]}, "not a finite"),
        ({"op": "nonsense"}, "unknown request"),
        ({"op": "smiles", "smiles": "C1CC"}, "cannot be parsed"),
        ({"op": "open", "item": 5}, "no item"),
        ({"op": "undo"}, "nothing to undo"),
    ],
)
def test_bad_edits_leave_the_session_as_it_is(water_session: Session, change: dict, reason: str):
    if change["op"] == "smiles":
        pytest.importorskip("rdkit")
    before = water_session.density
    with pytest.raises(InputError, match=reason):
        water_session.edit(change)
    assert water_session.density is before


def test_layers_fail_one_by_one(water_session: Session):
    show = DENSITY | {"slice": {"field": "nothing", "level": 0.1}}
    header = unpack(draw.message(water_session, show))
    assert [layer["role"] for layer in header["layers"]] == ["surface"]
    assert "one-step" in header["problems"]["slice"]
    header = unpack(draw.message(water_session, {"surface": {"field": "density", "level": 99}}))
    assert "the field does not reach 99" in header["problems"]["surface"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("f_plus", "fukui-learned"),
        ("f_minus", "fukui-learned"),
        ("atomic_mean_bohr3", "polarizability-learned"),
    ],
)
def test_learnt_values_of_the_atoms_are_those_of_the_analysis(
    water_session: Session, name: str, kind: str
):
    session = water_session
    draw.message(session, DENSITY)
    assert session.learned == {}  # only when asked for
    show = DENSITY | {"atoms": {"values": name}}
    (values,) = unpack(draw.message(session, show))["extras"]["atoms"].values()
    expected = denser.analyze(session.density, [kind])[kind].to_dict()[name]
    np.testing.assert_allclose(values, expected, atol=1e-4)
    assert np.ptp(values) > 0.02
    far = (session.structure.positions[1] * BOHR + [0.0, 0.2, 0.0]).tolist()
    move = {"op": "move", "atoms": [1], "positions": [far]}
    session.edit(move, draft=True)
    assert "atoms" not in unpack(draw.message(session, show))["extras"]
    session.edit(move)
    (moved,) = unpack(draw.message(session, show))["extras"]["atoms"].values()
    assert abs(moved[1] - moved[2]) > 0.01 > abs(values[1] - values[2])


def test_what_has_no_learnt_values_says_so(water_session: Session, crystal_session: Session):
    show = DENSITY | {"atoms": {"values": "f_minus"}}
    water_session.edit({"op": "charge", "value": 1})
    for session, reason in ((water_session, "closed shell"), (crystal_session, "not of a crystal")):
        header = unpack(draw.message(session, show))
        assert reason in header["problems"]["atoms"]
        assert header["layers"] and "atoms" not in header["extras"]
    strange = unpack(draw.message(water_session, DENSITY | {"atoms": {"values": "spin"}}))
    assert "no learnt values 'spin'" in strange["problems"]["atoms"]


@pytest.mark.parametrize("field", ["deformation", "esp", "laplacian"])
def test_signed_fields_have_two_surfaces(water_session: Session, field: str):
    header = unpack(draw.message(water_session, {"surface": {"field": field, "level": 0.05}}))
    colours = [layer["colour"] for layer in header["layers"]]
    (red, _, blue), (red_below, _, blue_below) = colours
    assert blue > 2 * red  # one convention: positive is blue and negative red
    assert red_below > 2 * blue_below
    assert [layer["sign"] for layer in header["layers"]] == [1, -1]


@pytest.mark.parametrize(
    ("unit", "level", "label"),
    [
        (SPIN_UNIT, 0.005, "Unpaired electrons"),
        ("bohr^-3/2", 0.05, "Integral"),
        ("hartree/e", 0.03, "Integral"),
    ],
)
def test_files_that_hold_no_density_are_shown_as_what_they_are(
    predictor: Predictor, sad_density: Density, unit: str, level: float, label: str
):
    x = sad_density.grid.points()[..., 0] - sad_density.structure.positions[0, 0]
    values = np.where(x > 0, 0.3, -0.1)
    odd = replace(sad_density, values=values, unit=unit)
    items = [Item(name, d.structure, d) for name, d in (("odd", odd), ("rho", sad_density))]
    session = Session(predictor, items)
    told = describe(session)
    (field,) = told["fields"]
    assert (field["name"], field["level"], field["signed"]) == ("values", level, True)
    assert [row["label"] for row in told["numbers"]] == [label]
    assert (told["charges"], told["charges_wanted"], told["dipole"]) == ({}, False, None)
    # The page asks for what it showed before.
    asked = {"surface": {"field": "density", "level": 9.0, "colour": "potential"}}
    shown = unpack(draw.message(session, asked))
    assert [layer["sign"] for layer in shown["layers"]] == [1, -1]
    for refused in (lambda: session.field("esp"), session.real_density):
        with pytest.raises(InputError, match="no density of electrons"):
            refused()
    session.open(1)
    assert "minus:0" not in [f.name for f in session.listed_fields()]
    shown = unpack(draw.message(session, {"surface": {"field": "values", "level": 9.0}}))
    assert [layer["sign"] for layer in shown["layers"]] == [1] and not shown["problems"]


def test_slices_have_the_colours_of_surfaces():
    field = gaussian_field((64, 64, 64))
    x = field.grid.points()[..., 0]
    structure = Structure([8, 1, 1], [[0, 0, 0], [1.8, 0, 0], [-0.4, 1.7, 0]])
    signed = Field(field.grid, x * field.values)
    surface, _, scale = surfaces.plane_slice(signed, structure, "z", 0.0, [], 0.02)
    right = surface.vertices[:, 0] / BOHR
    near = np.abs(np.linalg.norm(surface.vertices, axis=1) / BOHR - 0.7) < 0.2
    positive = surface.colours[near & (right > 0.4)].mean(axis=0)
    negative = surface.colours[near & (right < -0.4)].mean(axis=0)
    assert positive[2] > positive[0]
    assert negative[0] > negative[2]
    assert "red: negative, blue: positive" in scale["notes"]


def test_fields_and_charges_are_those_of_the_catalogue(water_session: Session):
    names = [field["name"] for field in describe(water_session)["fields"]]
    listed = [name for name, entry in FIELDS.items() if entry.isovalues and name != "spin"]
    assert names[: len(listed)] == listed  # water is a closed shell
    quick = {name: entry.charges for name, entry in PROPERTIES.items() if entry.quick}
    water_session.charges = partition(water_session.density)
    assert describe(water_session)["charge_kinds"] == quick
    assert list(describe(water_session)["charges"]) == list(quick)


def test_free_atoms_are_those_of_an_all_electron_file(predictor: Predictor):
    """What is subtracted has as many electrons as the density, so nothing is left of the cores."""
    structure = Structure.from_ase(molecule("H2O"))
    density = complete(superposition(structure, Grid.around(structure, 5.0, 0.3)))
    session = Session(predictor, [Item("all.cube", structure, density)])
    field = session.field("deformation", full=True)
    assert field.integrate() == pytest.approx(0.0, abs=1e-3)
    assert np.abs(field.values).max() < 1e-4


def test_potential_is_negative_at_the_oxygen_of_water(water_session: Session):
    show = {"surface": {"field": "density", "level": 0.002, "colour": "potential"}}
    header = unpack(draw.message(water_session, show))
    (layer,) = header["layers"]
    vertices = header["arrays"][layer["vertices"]].reshape(-1, 3)
    rgb = header["arrays"][layer["colours"]].reshape(-1, 3).astype(float)
    o, h, g = water_session.structure.positions * BOHR
    away = vertices - o
    axis = (o - (h + g) / 2) / np.linalg.norm(o - (h + g) / 2)
    along = away @ axis / np.linalg.norm(away, axis=1)
    behind, before = rgb[along > 0.9].mean(axis=0), rgb[along < -0.9].mean(axis=0)
    assert behind[0] > behind[2]  # red: negative
    assert before[2] > before[0]  # blue: positive
    assert header["scales"]["surface"]["lowest"] < 0 < header["scales"]["surface"]["highest"]


def test_densities_of_other_programs(predictor: Predictor, foreign_files, tmp_path: Path):
    own = predictor.predict(molecule("H2O"), spacing=0.15).density
    for path in foreign_files(tmp_path, own):
        session = Session(predictor, read_items(path))
        assert session.structure.charge == 0
        rows = {row["key"]: row for row in numbers(session)}
        assert rows["electrons_e"]["label"] == "Electrons (valence)"
        dipole = np.linalg.norm(own.dipole()) * DEBYE
        assert float(rows["dipole_debye"]["value"]) == pytest.approx(dipole, abs=2e-3)
        moments = denser.analyze(denser.read(path), ["moments"])["moments"]
        assert moments.charge == pytest.approx(0, abs=1e-3)
        assert np.linalg.norm(moments.dipole) * DEBYE == pytest.approx(dipole, abs=2e-3)


def test_difference_to_a_file_on_its_own_grid(predictor: Predictor, tmp_path: Path):
    structure = Structure.from_ase(molecule("H2O"))
    grid = Grid.around(structure, 5.0, 0.3)
    reference = superposition(structure, grid)
    denser.write(tmp_path / "sad.npz", reference)
    session = Session(predictor, [Item("water.xyz", structure), *read_items(tmp_path / "sad.npz")])
    field = session.field("minus:1")
    assert field.grid.same_as(grid)
    assert field.integrate() == pytest.approx(0.0, abs=1e-4)
    on_grid = predictor.density(reference)
    np.testing.assert_allclose(field.values, on_grid.values - reference.values, atol=1e-6)
    session.edit({"op": "open", "item": 1})
    assert session.source == "file"
    np.testing.assert_allclose(session.field("minus_prediction").values, -field.values, atol=1e-6)
    moved = structure.positions + [[0.3, 0, 0], [0, 0, 0], [0, 0, 0]]
    session.edit({"op": "move", "atoms": [0, 1, 2], "positions": (moved * BOHR).tolist()})
    with pytest.raises(InputError, match="same molecule"):
        session.field("minus:1")


def test_reduced_density_is_the_same_density():
    ethanol = Structure.from_ase(molecule("CH3CH2OH"))
    density = superposition(ethanol, Grid.around(ethanol, 6.0))
    coarse = reduced(density)
    assert coarse.grid.size == density.grid.size // 8
    assert coarse.integrate() == pytest.approx(density.integrate(), rel=1e-3)


def test_memory_is_flat_over_many_updates(predictor: Predictor):
    def resident() -> float:
        """Memory of this process in MB, once all that is free went back to the system."""
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096 / 2**20

    session = Session(predictor, [Item("H2", Structure.from_ase(molecule("H2")))])
    place = session.structure.positions[0] * BOHR
    measured = []
    for step in range(100):
        moved = {"op": "move", "atoms": [0], "positions": [(place + 1e-3 * step).tolist()]}
        session.edit(moved, draft=bool(step % 20))
        for field in ("density", "deformation", "esp"):
            message = draw.message(session, {"surface": {"field": field, "level": 0.05}})
        assert len(session.cache) <= CACHED_FIELDS
        if step % 40 in (16, 17, 18, 19):  # all drafts, before and after 40 and 80 updates
            measured.append(resident())
    assert len(session.undo) == 5
    # what is allocated once, as by a thread of another test, is in one of the differences only
    assert np.diff(np.reshape(measured, (3, 4)).min(axis=1)).min() < 2
    assert len(message) > 1000


# Crystals


CELL = np.diag([7.0, 8.0, 9.0]) / BOHR


@pytest.fixture
def crystal_session(predictor: Predictor, monkeypatch) -> Session:
    """Water across two faces of its cell; in the file one hydrogen is in the next cell."""
    from denser.viewer import session

    monkeypatch.setattr(session, "MAX_NODES", 30_000)
    positions = np.array([[0.1, 0.1, 4.0], [-0.5, -0.6, 4.0], [7.9, -0.4, 13.0]]) / BOHR
    return Session(predictor, [Item("ice.cif", Structure([8, 1, 1], positions, cell=CELL))])


def drawn(session: Session, atoms: str = "molecules", repeat=(1, 1, 1), **show) -> dict:
    show = DENSITY | show | {"cells": {"atoms": atoms, "repeat": list(repeat)}}
    header = unpack(draw.message(session, show))
    assert header["problems"] == {}
    return header


def test_molecules_of_a_crystal_are_whole(crystal_session: Session):
    atoms = drawn(crystal_session)["state"]["structure"]
    assert [sorted(pair) for pair in atoms["bonds"]] == [[0, 1], [0, 2]]
    centre = np.mean(atoms["positions"], axis=0)
    assert ((centre >= 0) & (centre < [7, 8, 9])).all()
    wrapped = np.array(drawn(crystal_session, "wrapped")["state"]["structure"]["positions"])
    assert ((wrapped >= 0) & (wrapped < [7, 8, 9])).all()
    own = drawn(crystal_session, "file")["state"]["structure"]["positions"]
    np.testing.assert_allclose(own, crystal_session.structure.positions * BOHR, atol=1e-4)


@pytest.mark.parametrize("atoms", ["molecules", "wrapped", "file"])
def test_no_atom_of_a_crystal_is_bare(crystal_session: Session, atoms: str):
    """Each shown atom is inside the surface, and no surface is without an atom."""
    header = drawn(crystal_session, atoms, (2, 1, 1))
    assert len(header["state"]["structure"]["symbols"]) == 6
    vertices = np.concatenate(
        [header["arrays"][layer["vertices"]].reshape(-1, 3) for layer in header["layers"]]
    )
    positions = np.array(header["state"]["structure"]["positions"])
    away = np.linalg.norm(vertices[:, None] - positions, axis=-1)
    assert away.min(axis=0).max() < 1.0
    assert away.min(axis=1).max() < 1.3


def test_edits_of_a_crystal_are_those_of_its_atoms(crystal_session: Session):
    """Atoms are named and placed as on the screen, and moved in the file's frame."""
    session = crystal_session
    shown = np.array(drawn(session, repeat=(1, 2, 1))["state"]["structure"]["positions"])
    before = session.structure.positions.copy()
    move = {"op": "move", "atoms": [5], "positions": [(shown[5] + [0.1, 0, 0]).tolist()]}
    session.edit(move)
    step = (session.structure.positions - before) * BOHR
    np.testing.assert_allclose(step, [[0, 0, 0], [0, 0, 0], [0.1, 0, 0]], atol=1e-4)
    session.edit({"op": "element", "atom": 3, "symbol": "S", "hydrogens": False})
    assert session.structure.symbols == ["S", "H", "H"]
    with pytest.raises(InputError, match="no atom 8"):
        session.edit({"op": "element", "atom": 7, "symbol": "S"})


def test_networks_are_wrapped_and_cells_are_limited(predictor: Predictor):
    from denser.viewer.crystal import Cells, shown

    square = np.arange(4)[:, None] * np.array([1.5, 0, 0]) / BOHR  # an endless chain
    chain = Structure([6] * 4, square - 1.0, cell=np.diag([6.0, 9.0, 9.0]) / BOHR)
    atoms = shown(chain)
    fractions = atoms.structure.positions @ np.linalg.inv(chain.cell)
    assert ((fractions >= 0) & (fractions < 1)).all()
    assert len(shown(chain, Cells(repeat=(3, 3, 3))).structure) == 108
    lattice = np.stack(np.meshgrid(*[np.arange(8) * 5.0] * 3), axis=-1).reshape(-1, 3)
    large = Structure([1] * 512, lattice, cell=np.eye(3) * 40)
    with pytest.raises(InputError, match="choose fewer cells"):
        shown(large, Cells(repeat=(2, 2, 1)))
    for bad in ({"atoms": "all"}, {"repeat": [1, 1]}, {"repeat": [4, 1, 1]}, {"repeat": "x"}):
        session = Session(predictor, [])
        assert unpack(draw.message(session, {"cells": bad}))["problems"]["cells"]


def test_critical_points_stand_beside_the_shown_atoms(crystal_session: Session):
    from denser.viewer.crystal import beside

    session = crystal_session
    drawn(session, repeat=(1, 1, 2))
    atoms = session.shown()
    place = session.structure.positions[2] + [0.2, 0, 0]
    moves = beside(place, session.structure, atoms)
    np.testing.assert_allclose(place + moves - atoms.structure.positions[2::3], [[0.2, 0, 0]] * 2)


# Files


def test_large_results_are_shown(predictor, monkeypatch):
    """Atoms without a prediction, a density of a file, and no charges that take minutes."""
    waters = Atoms()
    for k in range(12):
        water = molecule("H2O")
        water.translate([4.0 * (k % 3), 4.0 * (k // 3), 0.0])
        waters += water
    structure = Structure.of(waters)
    monkeypatch.setattr("denser.viewer.session.MAX_PREDICTED", 35)
    monkeypatch.setattr("denser.viewer.state.MOST_CHARGES", 35)
    atoms = Session(predictor, [Item("atoms", structure)])
    text = unpack(draw.message(atoms, DENSITY))
    assert text["state"]["structure"]["n_atoms"] == 36
    assert "predicts up to 35" in text["state"]["problem"]
    sad = superposition(structure, Grid.around(structure, 5.0, 0.5))
    shown = Session(predictor, [Item("density", structure, sad)])
    text = unpack(draw.message(shown, DENSITY))
    assert len(text["layers"]) == 1 and not text["state"]["problem"]
    assert "take minutes" in text["state"]["charges"]["problem"]
    assert not text["state"]["charges_wanted"]


def test_files_are_checked(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        read_items(tmp_path / "missing.xyz")
    broken = tmp_path / "broken.xyz"
    broken.write_text("3\n\nO 0 0\n")
    with pytest.raises(InputError, match=r"broken\.xyz"):
        read_items(broken)
    large = Atoms("H" * (MAX_ATOMS + 1), positions=np.arange(3 * (MAX_ATOMS + 1)).reshape(-1, 3))
    large.write(tmp_path / "large.xyz")
    with pytest.raises(InputError, match="up to 20000"):
        read_items(tmp_path / "large.xyz")
    field = Field(Grid(np.zeros(3), np.eye(3) * 4, (8, 8, 8)), np.ones((8, 8, 8)))
    denser.write(tmp_path / "field.npz", field)
    with pytest.raises(InputError, match="contains no atoms"):
        read_items(tmp_path / "field.npz")


def test_frames_become_items(tmp_path: Path):
    frames = []
    for d in (0.7, 0.75, 0.8):
        frames += ["2", "", "H 0 0 0", f"H 0 0 {d}"]
    (tmp_path / "scan.xyz").write_text("\n".join(frames) + "\n")
    items = read_items(tmp_path / "scan.xyz")
    assert [item.name for item in items] == ["scan.xyz 1", "scan.xyz 2", "scan.xyz 3"]


# The server


@pytest.fixture
def client(predictor: Predictor, tmp_path: Path):
    from denser.viewer.server import Viewer

    structure = Structure.from_ase(molecule("H2O"))
    items = [Item("water.xyz", structure)]
    viewer = Viewer(items, predictor, "secret", 8765, folder=tmp_path, also=("hub.example.org",))
    base = "http://127.0.0.1:8765"
    with TestClient(viewer.app(), base_url=base, headers={"origin": base}) as client:
        client.viewer = viewer
        yield client
    viewer.quick.close()
    viewer.slow.close()


@pytest.fixture
def inside(client):
    """A client that has the cookie, and the path of its session."""
    assert client.get("/?token=secret").status_code == 200
    client.session = "/api/" + client.post("/api/sessions").json()["session"]
    return client


def test_token_is_asked_for(client):
    assert client.get("/").status_code == 403
    wrong = client.get("/?token=guess")
    assert wrong.status_code == 403
    assert "token is missing or wrong" in wrong.json()["error"]
    assert client.post("/api/sessions").status_code == 403
    assert client.get("/page/main.js").status_code == 403
    page = client.get("/?token=secret")
    assert page.status_code == 200
    assert "httponly" in page.headers["set-cookie"].lower()
    assert "samesite=strict" in page.headers["set-cookie"].lower()
    assert client.get("/page/main.js").status_code == 200
    # the token in the address opens the page only
    client.cookies.clear()
    assert client.get("/page/main.js?token=secret").status_code == 403


def test_other_hosts_and_pages_are_refused(inside):
    for host in ("evil.example:8765", "127.0.0.1.evil.example:8765", "127.0.0.1:port", ""):
        refused = inside.get("/page/main.js", headers={"host": host})
        assert refused.status_code == 403
        assert "host" in refused.json()["error"]
    # another name of this computer has not got the cookie
    assert inside.get("/page/main.js", headers={"host": "localhost:8765"}).status_code == 403
    elsewhere = {"origin": "http://127.0.0.1:9999"}
    assert inside.post("/api/sessions", headers=elsewhere).status_code == 403
    assert inside.post("/api/sessions", headers={"origin": "null"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:9000", "http://localhost:9000", 200),  # ssh -L 9000:127.0.0.1:8765
        ("[::1]:9000", "http://[::1]:9000", 200),
        ("localhost:9000", "http://localhost:9001", 403),
        ("hub.example.org", "https://hub.example.org", 200),  # denser view --allow-host
        ("localhost:8765", "https://hub.example.org", 200),  # a proxy that changes the Host
        ("localhost:8765", "https://evil.example", 403),
        ("localhost:8765", "https://hub.example.org:no", 403),
        ("other.example.org", "https://other.example.org", 403),
    ],
)
def test_page_works_behind_tunnels_and_proxies(client, host: str, origin: str, status: int):
    headers = {"host": host, "origin": origin, "cookie": "denser_8765=secret"}
    assert client.post("/api/sessions", headers=headers).status_code == status


def test_addresses_of_the_page_are_relative(inside):
    """A proxy puts a folder before them; the cookie's path is then that folder."""
    page = inside.get("/?token=secret")
    assert 'src="/' not in page.text
    assert 'href="/' not in page.text
    assert "/api" not in inside.get("/page/api.js").text
    assert "path=" not in page.headers["set-cookie"].lower()


def test_pages_are_served_and_nothing_beside_them(inside):
    page = inside.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("main.js", "3Dmol-min.js", "style.css", "icon.svg"):
        assert inside.get(f"/page/{name}").status_code == 200
    for name in ("../server.py", "..%2Fserver.py", "__init__.py", "3Dmol-LICENSE.txt"):
        assert inside.get(f"/page/{name}").status_code == 404
    text = page.text + inside.get("/page/main.js").text + inside.get("/page/style.css").text
    assert "https://" not in text  # works offline


def test_downloads_read_back(inside, tmp_path: Path):
    for suffix in ("cube", "npz", "dx"):
        answer = inside.get(f"{inside.session}/file/field/density.{suffix}")
        assert answer.status_code == 200
        path = tmp_path / f"back.{suffix}"
        path.write_bytes(answer.content)
        assert denser.read(path).integrate() == pytest.approx(8.0, abs=1e-3)
    answer = inside.get(f"{inside.session}/file/field/deformation.npz")
    (tmp_path / "back.npz").write_bytes(answer.content)
    back = denser.read(tmp_path / "back.npz")
    assert isinstance(back, Density)
    assert back.integrate() == pytest.approx(0.0, abs=1e-4)
    numbers = json.loads(inside.get(f"{inside.session}/file/numbers.json").content)
    assert sum(numbers["charges_e"]["hirshfeld"]) == pytest.approx(0.0, abs=2e-3)
    assert {row["source"] for row in numbers["numbers"]} == {"prediction"}
    (bar,) = (row["error"] for row in numbers["numbers"] if row["key"] == "dipole_debye")
    assert 0.001 < bar < 0.2 and len(numbers["wrong_electrons_e"]) == 3
    table = inside.get(f"{inside.session}/file/numbers.csv").text
    assert "dipole_debye" in table and ",wrong_electrons_e" in table
    assert "1,O," in table
    atoms = inside.get(f"{inside.session}/file/atoms.xyz").text.splitlines()
    assert atoms[0] == "3"


def test_a_structure_without_a_learnt_field_is_drawn_without_it(inside):
    show = {
        "surface": {"field": "elf-learned", "level": 0.8},
        "atoms": {"values": "atomic_mean_bohr3"},
    }
    header = unpack(inside.post(f"{inside.session}/draw", json={"show": show}).content)
    assert header["problems"] == {} and len(header["layers"]) == 1
    assert sum(header["extras"]["atoms"]["atomic_mean_bohr3"]) == pytest.approx(10.4, rel=0.05)
    edit = {"op": "charge", "value": 1}
    answer = inside.post(f"{inside.session}/draw", json={"edit": edit, "show": show})
    assert answer.status_code == 200
    header = unpack(answer.content)
    assert header["state"]["structure"]["charge"] == 1 and header["layers"] == []
    assert set(header["problems"]) == {"surface", "atoms"}
    assert all("closed shell" in text for text in header["problems"].values())


def test_saving_stays_in_the_folder(inside, tmp_path: Path):
    answer = inside.post(f"{inside.session}/save/field/density.npz")
    assert Path(answer.json()["saved"]).parent == tmp_path.resolve()
    assert denser.read(answer.json()["saved"]).integrate() == pytest.approx(8.0, abs=1e-3)
    for what in ("field/../../evil.npz", "field/density.exe", "../numbers.json", "nothing"):
        refused = inside.post(f"{inside.session}/save/{what}")
        assert refused.status_code in (400, 404)
    inside.viewer.folder = None
    refused = inside.post(f"{inside.session}/save/numbers.json")
    assert "--folder" in refused.json()["error"]
    assert [p.name for p in tmp_path.iterdir()] == ["H2O_density.npz"]


def test_saving_overwrites_nothing(inside, tmp_path: Path):
    """Two molecules of one formula, and one molecule saved twice."""
    saved = []
    for name, distance in (("short", 0.72), ("long.v2", 0.76)):
        text = f"2\n\nH 0 0 0\nH 0 0 {distance}\n"
        inside.post(f"{inside.session}/open?name={name}.xyz", content=text)
        saved.append(inside.post(f"{inside.session}/save/atoms.xyz").json()["saved"])
    saved.append(inside.post(f"{inside.session}/save/atoms.xyz").json()["saved"])
    move = {"op": "move", "atoms": [0], "positions": [[0.0, 0.0, 0.01]]}
    inside.post(f"{inside.session}/draw", json={"edit": move})
    saved += [inside.post(f"{inside.session}/save/atoms.xyz").json()["saved"] for _ in range(2)]
    names = ["short.xyz", "long_v2.xyz", "long_v2_2.xyz", "H2.xyz", "H2_2.xyz"]
    assert [Path(path).name for path in saved] == names
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    assert "0.72" in (tmp_path / "short.xyz").read_text()
    assert "0.76" in (tmp_path / "long_v2.xyz").read_text()


def test_uploads_are_read_limited_and_survived(inside, monkeypatch):
    from denser.viewer import server

    path = f"{inside.session}/open"
    good = "2\n\nH 0 0 0\nH 0 0 0.74\n"
    header = unpack(inside.post(f"{path}?name=h2.xyz", content=good).content)
    assert header["state"]["structure"]["formula"] == "H2"
    for name, text, reason in (
        ("broken.xyz", "3\n\nO 0 0\n", "broken.xyz"),
        ("odd.xyz", "1\n\nXx 0 0 0\n", "unknown symbol"),
        ("empty.cube", "", "empty.cube"),
        ("../../evil.xyz", "what", "evil.xyz"),
    ):
        refused = inside.post(f"{path}?name={name}", content=text)
        assert refused.status_code == 400
        assert reason in refused.json()["error"]
        assert "/tmp" not in refused.json()["error"]
    monkeypatch.setattr(server, "MAX_UPLOAD", 10)
    assert "larger than" in inside.post(f"{path}?name=h2.xyz", content=good).json()["error"]
    answer = inside.post(f"{inside.session}/draw", json={"show": DENSITY})
    assert unpack(answer.content)["state"]["structure"]["formula"] == "H2"


def test_odd_requests_are_answered_with_a_sentence(inside):
    draw_path = f"{inside.session}/draw"
    assert inside.post(draw_path, content=b"{").json()["error"] == "the request is not JSON"
    assert "object" in inside.post(draw_path, content=b"[1]").json()["error"]
    assert "reload" in inside.post("/api/unknown/draw", json={}).json()["error"]
    shown = inside.post(draw_path, json={"show": {"surface": {"field": "density"}}})
    assert "cannot be understood" in unpack(shown.content)["problems"]["surface"]


BAD = ["abc", [1], 7, True, {"surface": "x"}, {"slice": [1]}, {"cells": 3}]
BAD_EDITS = [
    "abc", [1], 7, {"op": ["move"]}, {"op": "open"}, {"op": "open", "item": "1"},
    {"op": "open", "item": {}}, {"op": "open", "item": 0.5}, {"op": "smiles", "smiles": {"a": 1}},
    {"op": "move", "atoms": 1, "positions": []}, {"op": "move", "atoms": [0], "positions": {}},
    {"op": "move", "atoms": [[0]], "positions": [[0, 0, 0]]}, {"op": "turn", "atoms": [0]},
    {"op": "turn", "atoms": [0, 1], "degrees": {}}, {"op": "turn", "atoms": [0, 1], "degrees": "x"},
    {"op": "element", "atom": "a", "symbol": "C"}, {"op": "element", "atom": 0, "symbol": [1]},
    {"op": "add", "atom": None, "symbol": "C"}, {"op": "remove", "atoms": {"a": 1}},
    {"op": "remove", "atoms": "x"}, {"op": "charge", "value": [1]},
    {"op": "charge", "value": 1e400},
    {"op": "charge"}, {"op": "turn", "atoms": [0, 1], "degrees": float("nan")},
]  # fmt: skip


def test_malformed_requests_of_the_owner_are_answered_400(inside):
    requests = [("draw", {"show": show}) for show in BAD]
    requests += [("draw", {"edit": edit}) for edit in BAD_EDITS]
    requests += [(route, {"show": "x"}) for route in ("points", "one-step")]
    for route, body in requests:
        answer = inside.post(f"{inside.session}/{route}", content=json.dumps(body))
        assert answer.status_code == 400, (body, answer.text)
        assert answer.json()["error"]
    for query in ("name=h2.xyz&show=%7B", "name=h2.xyz&show=[1]", "name=h2.xyz&show=7"):
        answer = inside.post(f"{inside.session}/open?{query}", content="2\n\nH 0 0 0\nH 0 0 1\n")
        assert answer.status_code == 400, query
    layers = [
        {"surface": {"field": ["density"], "level": 0.1}},
        {"surface": {"field": "density", "level": [1]}},
        {"surface": {"field": "density", "level": 0.1, "colour": "potential", "limit": "x"}},
        {"slice": {"field": "density", "level": 0.1, "atoms": 5, "plane": "atoms"}},
        {"slice": {"field": {"a": 1}, "level": 0.1}},
    ]
    for show in layers:  # a layer that cannot be drawn is a sentence beside the others
        answer = inside.post(f"{inside.session}/draw", json={"show": show})
        assert answer.status_code == 200, (show, answer.text)
        assert unpack(answer.content)["problems"], show


def test_sessions_are_apart_and_bounded(inside, monkeypatch):
    from denser.viewer import server

    other = "/api/" + inside.post("/api/sessions").json()["session"]
    change = {"edit": {"op": "element", "atom": 0, "symbol": "S"}, "show": {}}
    changed = unpack(inside.post(f"{other}/draw", json=change).content)
    assert changed["state"]["structure"]["formula"] == "H2S"
    same = unpack(inside.post(f"{inside.session}/draw", json={"show": {}}).content)
    assert same["state"]["structure"]["formula"] == "H2O"
    monkeypatch.setattr(server, "MAX_SESSIONS", 3)
    for _ in range(4):
        inside.post("/api/sessions")
    assert len(inside.viewer.sessions) == 3


def test_bugs_are_told_and_survived(predictor: Predictor, monkeypatch, caplog):
    from denser.viewer.server import Viewer

    viewer = Viewer([], predictor, "secret", 8765)
    base = "http://127.0.0.1:8765"
    options = {"base_url": base, "headers": {"origin": base}, "raise_server_exceptions": False}
    with TestClient(viewer.app(), **options) as client:
        client.get("/?token=secret")
        session = client.post("/api/sessions").json()["session"]
        monkeypatch.setattr(draw, "message", lambda *a: 1 / 0)
        answer = client.post(f"/api/{session}/draw", json={})
        assert answer.status_code == 500
        assert "the server had an error" in answer.json()["error"]
        assert client.get("/").status_code == 200
    viewer.quick.close()
    viewer.slow.close()


def test_address_answers_before_the_server_does():
    """A browser may come as soon as the address is told; it waits instead of being refused."""
    from denser.viewer.server import bind

    with bind("127.0.0.1", 0) as listener:
        socket.create_connection(listener.getsockname(), timeout=10).close()


def test_taken_port_is_one_sentence():
    from denser.viewer.server import bind

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} on 127.0.0.1 is in use"):
            bind("127.0.0.1", port)
    with pytest.raises(InputError, match="cannot listen"):
        bind("203.0.113.7", 0)


def test_command_names_what_is_missing(monkeypatch):
    view = import_module("denser.cli.view")
    monkeypatch.setattr(view, "find_spec", lambda name: None if name == "uvicorn" else True)
    with pytest.raises(InputError, match=r"pip install 'denser\[view\]'"):
        view.view()


# Notebook


def test_notebook_view_is_small_and_self_contained(sad_density: Density, tmp_path: Path):
    from denser.viewer.notebook import show

    view = show(sad_density)
    markup = view._repr_html_()
    assert repr(view) == f"View(C2H6O at 0.1 e/bohr^3, {len(markup) / 1000:.0f} kB)"
    assert len(markup) < 4e5
    picture = markup.split("data:image/png;base64,")[1].split('"')[0]
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    packed = markup.split('data-message="')[1].split('"')[0]
    header = unpack(gzip.decompress(base64.b64decode(packed)))
    layer = header["layers"][header["start"]][0]
    vertices, _, steps = header["arrays"][layer["vertices"] : layer["vertices"] + 3]
    faces = np.cumsum(steps, dtype=np.uint16).reshape(-1, 3)
    expected = surfaces.isosurface(sad_density, 0.1, pictures.DENSITY, MAX_NODES)
    np.testing.assert_array_equal(faces, expected.faces)
    xyz = header["step"] * np.cumsum(vertices.reshape(-1, 3), axis=0, dtype=np.int16)
    np.testing.assert_allclose(xyz, expected.vertices, atol=0.002)
    view.save(tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text().count("<html") == 1
    with pytest.raises(InputError, match=r"\.html"):
        view.save(tmp_path / "x.cube")


def test_notebook_shows_differences_and_cells(sad_density: Density):
    view = sad_density.show(minus=sad_density.with_values(sad_density.values * 0.9))
    assert view.title == "C2H6O at \u00b10.003 e/bohr^3"
    water = Structure([8, 1, 1], [[0, 0, 0], [1.8, 0, 0], [-0.4, 1.7, 0]], cell=np.eye(3) * 10)
    view = superposition(water, Grid.periodic(water, 0.4)).show()
    packed = view.markup.split('data-message="')[1].split('"')[0]
    assert len(unpack(gzip.decompress(base64.b64decode(packed)))["atoms"]["lines"]) == 12


def test_notebook_refuses_what_it_cannot_show(sad_density: Density):
    from denser.viewer.notebook import show

    with pytest.raises(InputError, match="has no atoms"):
        show(Field(sad_density.grid, sad_density.values))
    with pytest.raises(InputError, match="does not reach"):
        show(sad_density, isovalue=1e3)
    with pytest.raises(InputError, match="positive number"):
        show(sad_density, isovalue=-1.0)
