"""Pictures: the renderer against geometry, and what ends up in the files."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from PIL import Image

from denser.atoms.sad import superposition
from denser.pictures import plot, scene
from denser.pictures.plot import plot_density, plot_difference
from denser.types.density import SPIN_UNIT, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR


@pytest.fixture(autouse=True)
def _coarse_pictures(monkeypatch):
    monkeypatch.setattr(plot, "DPI", 80)


@pytest.fixture(scope="module")
def ethanol():
    structure = Structure.of(molecule("CH3CH2OH"))
    grid = Grid.paper(structure)
    return superposition(structure, grid), superposition(structure, grid, "gth-szv-1e-atrocious")


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def reddish(image):
    return int((image[..., 0] > image[..., 2] + 40).sum())


def blueish(image):
    return int((image[..., 2] > image[..., 0] + 40).sum())


def gaussian(cell, shape, exponent=0.5):
    """exp(-a r^2) in the middle of a box: the surface at height v is a sphere."""
    grid = Grid(np.array([1.0, -2.0, 0.5]), cell, shape)
    centre = grid.origin + grid.cell.sum(axis=0) / 2
    r2 = ((grid.points() - centre) ** 2).sum(axis=-1)
    return Field(grid, np.exp(-exponent * r2)), centre


@pytest.mark.parametrize("shape", [(44, 50, 48), (90, 85, 80), (160, 40, 40)])
def test_isosurface_of_a_gaussian_is_a_sphere_seen_from_outside(shape):
    cell = np.array([[11.0, 0.0, 0.0], [2.0, 12.0, 0.0], [0.0, -1.0, 10.0]])
    field, centre = gaussian(cell, shape)
    mesh = scene.isosurface(field, 0.1, np.ones(3))
    r = mesh.vertices / BOHR - centre
    radius = np.sqrt(np.log(10) / 0.5)
    np.testing.assert_allclose(np.linalg.norm(r, axis=1), radius, atol=0.005)
    assert np.einsum("ij,ij->i", mesh.normals, r).min() > 0.95 * radius
    a, b, c = (r[mesh.faces[:, i]] for i in range(3))
    volume = np.einsum("ij,ij->", a, np.cross(b, c)) / 6
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)


def test_coarse_nodes_do_not_lose_a_small_lobe(monkeypatch):
    monkeypatch.setattr(scene, "MAX_NODES", 20)
    grid = Grid(np.zeros(3), np.eye(3) * 12, (60, 60, 60))
    values = np.zeros(grid.shape)
    values[11, 10, 10] = values[50, 51, 50] = 1.0
    assert scene.isosurface(Field(grid, values), 0.5, np.ones(3)) is not None


def test_a_ball_covers_its_disc_and_what_is_behind_it():
    near = scene.sphere(np.array([0.0, 0.0, 3.0]), 1.0, np.array([1.0, 0.0, 0.0]), 2000)
    far = scene.sphere(np.array([0.0, 0.0, -3.0]), 0.9, np.array([0.0, 0.0, 1.0]), 2000)
    for meshes in ([near, far], [far, near]):
        image, scale = scene.render(meshes, np.eye(3), 200, margin=0.5)
        assert image.shape[1] == 200 and abs(image.shape[0] - 200) <= 1
        assert (image < 250).any(axis=-1).sum() == pytest.approx(np.pi * scale**2, rel=0.02)
        assert blueish(image.astype(int)) == 0


def test_glass_is_blended_from_back_to_front():
    def plate(z, colour, opacity):
        corners = np.array([[-1, -1, z], [1, -1, z], [1, 1, z], [-1, 1, z]], dtype=float)
        faces = np.array([[0, 1, 2], [0, 2, 3]])
        normals = np.tile([0.6, -0.6, np.sqrt(0.28)], (4, 1))  # away from light and gloss
        return scene.Mesh(corners, faces, normals, np.array(colour), opacity)

    red, blue = plate(0.0, (1.0, 0.0, 0.0), 0.3), plate(1.0, (0.0, 0.0, 1.0), 0.3)
    ground = plate(-1.0, (1.0, 1.0, 1.0), 1.0)
    pictures = [
        scene.render(list(meshes), np.eye(3), 40, margin=0.1)[0][20, 20].astype(float)
        for meshes in ([ground, red, blue], [blue, ground, red], [ground, red], [ground, blue])
    ]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert pictures[2][0] > pictures[2][2] and pictures[3][2] > pictures[3][0]
    assert pictures[0][2] > pictures[0][0]  # blue is in front
    # Triangles that share an edge cover each pixel once: no seam along the diagonal.
    image = scene.render([red], np.eye(3), 40, margin=0.1)[0]
    assert np.ptp(image[5:35, 5:35], axis=(0, 1)).max() <= 1


def test_isosurface_picture_shows_surface_and_atoms(ethanol, tmp_path):
    path = tmp_path / "rho.png"
    plot_density(ethanol[0], path)
    image = pixels(path)
    assert image.shape[1] == 400 and image.shape[0] > 150
    drawn = (image < 250).any(axis=-1).mean()
    assert 0.2 < drawn < 0.9
    assert blueish(image) > 0.05 * image.shape[0] * image.shape[1]
    assert reddish(image) > 50  # the oxygen atom
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 1000
    assert (image[:3] > 250).all()  # nothing is cut off
    assert [p.name for p in tmp_path.iterdir()] == ["rho.png"]


@pytest.mark.parametrize("kind", plot.KINDS)
def test_difference_is_blue_where_the_first_is_larger(kind, ethanol, tmp_path):
    density = ethanol[0]
    more = density.with_values(1.3 * density.values)
    plot_difference(more, density, tmp_path / "a.png", kind=kind, isovalue=0.02)
    plot_difference(density, more, tmp_path / "b.png", kind=kind, isovalue=0.02)
    one, other = pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png")
    assert blueish(one) > 2 * blueish(other)
    assert reddish(other) > 2 * reddish(one)


def test_slice_cuts_where_it_is_told(ethanol, tmp_path):
    density = ethanol[0]
    plot_density(density, tmp_path / "a.png", kind="slice")
    plot_density(density, tmp_path / "b.png", kind="slice", axis="x", position=0.5)
    for name in ("a.png", "b.png"):
        image = pixels(tmp_path / name)
        assert 0.1 < (image < 250).any(axis=-1).mean() < 0.95
    x = density.grid.axis(2)
    subject = plot._subject(density)
    plane, _ = plot._plane(subject, 2, (x[7] + x[8]) / 2)
    np.testing.assert_allclose(plane, density.values[..., 7:9].mean(axis=-1))
    plane, position = plot._plane(subject, 2, x[0])
    np.testing.assert_array_equal(plane, density.values[..., 0])
    assert position == x[0]


@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_format_goes_by_suffix(suffix, start, ethanol, tmp_path):
    path = tmp_path / f"rho.{suffix}"
    plot_density(ethanol[0], path, kind="slice")
    assert path.read_bytes().startswith(start)


def test_fields_without_atoms(tmp_path):
    field, centre = gaussian(np.diag([8.0, 9.0, 10.0]), (30, 30, 30))
    x = field.grid.points()[..., 0] - centre[0]
    signed = Field(field.grid, x * field.values, unit="hartree/e")
    for kind in plot.KINDS:
        plot_density(field, tmp_path / f"{kind}.png", kind=kind)
        plot_density(signed, tmp_path / f"{kind}-signed.png", kind=kind)
        assert blueish(pixels(tmp_path / f"{kind}.png")) > 1000
        image = pixels(tmp_path / f"{kind}-signed.png")
        assert reddish(image) > 1000 and blueish(image) > 1000


def test_spin_densities_are_drawn_in_two_colours(tmp_path):
    """At 0.005, where a weak negative lobe is seen; one spin alone is blue."""
    field, centre = gaussian(np.diag([8.0, 9.0, 10.0]), (30, 30, 30))
    x = field.grid.points()[..., 0] - centre[0]
    values = np.where(x > 0, 0.2, -0.02) * field.values
    for name, shown in (("both", values), ("up", np.abs(values))):
        plot_density(Field(field.grid, shown, SPIN_UNIT), tmp_path / f"{name}.png")
    both, up = pixels(tmp_path / "both.png"), pixels(tmp_path / "up.png")
    assert reddish(both) > 1000 and blueish(both) > 1000
    assert reddish(up) < 100 and blueish(up) > 1000  # the sign in the caption


def test_crystals_are_closed_at_the_faces_of_their_box(tmp_path):
    structure = Structure.of(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    density = superposition(structure, Grid.periodic(structure, spacing=0.4))
    subject = plot._subject(density)
    assert len(subject.atoms) == 27
    np.testing.assert_array_equal(subject.field.values[-1], subject.field.values[0])
    x = subject.field.grid.axis(0)
    assert x[-1] - x[0] == pytest.approx(structure.cell[0, 0])
    plot_density(density, tmp_path / "nacl.png", isovalue=0.03)
    plot_density(density, tmp_path / "slice.png", kind="slice", position=0.0)
    assert (pixels(tmp_path / "nacl.png") < 250).any(axis=-1).mean() > 0.3


def test_what_cannot_be_drawn_is_refused(ethanol, tmp_path):
    good, _ = ethanol
    path = tmp_path / "x.png"
    path.write_text("an earlier file")
    with pytest.raises(InputError, match=r"isovalue 50 e/bohr\^3: the values range from .* to 1\."):
        plot_density(good, path, isovalue=50)
    with pytest.raises(InputError, match=r"cannot write \.jpg; use \.png"):
        plot_density(good, tmp_path / "x.jpg")
    with pytest.raises(InputError, match="no suffix"):
        plot_density(good, tmp_path / "x")
    with pytest.raises(InputError, match="unknown kind 'volume'"):
        plot_density(good, path, kind="volume")
    with pytest.raises(InputError, match="unknown axis 'w'"):
        plot_density(good, path, kind="slice", axis="w")
    with pytest.raises(InputError, match="position 99 bohr lies outside"):
        plot_density(good, path, kind="slice", position=99)
    with pytest.raises(InputError, match="positive number, found 0"):
        plot_density(good, path, isovalue=0)
    with pytest.raises(InputError, match="not finite"):
        plot_density(good.with_values(np.full(good.grid.shape, np.nan)), path)
    other = superposition(good.structure, Grid.around(good.structure))
    with pytest.raises(InputError, match="the grids differ"):
        plot_difference(good, other, path)
    with pytest.raises(InputError, match="does not exist"):
        plot_density(good, tmp_path / "missing" / "x.png", kind="slice")
    skewed, _ = gaussian(np.array([[8.0, 0, 0], [1, 8, 0], [0, 0, 8]]), (20, 20, 20))
    with pytest.raises(InputError, match="orthorhombic"):
        plot_density(skewed, path, kind="slice")
    assert path.read_text() == "an earlier file"
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
