import json

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.spatial.transform import Rotation

from denser.analysis.crystal.maps import electron_potential_map, xray_map
from denser.analysis.crystal.rigid_fit import _left_jacobian, _Target, fit_rigid, orientations
from denser.atoms.sad import superposition
from denser.types.density import Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR


@pytest.fixture(scope="module")
def moved(ethanol_like):
    """The molecule turned and shifted by known amounts, and its map."""
    rotation = Rotation.from_rotvec([1.9, -0.8, 0.6])
    centre = ethanol_like.positions.mean(axis=0)
    shift = np.array([1.0, -1.3, 0.7])
    positions = rotation.apply(ethanol_like.positions - centre) + centre + shift
    structure = Structure(ethanol_like.numbers, positions)
    density = superposition(structure, Grid.around(structure, 7.0, 0.3))
    return rotation, shift, structure, density


@pytest.fixture(scope="module")
def ethanol_like():
    from ase.build import molecule

    return Structure.from_ase(molecule("CH3CH2OH"))


@pytest.mark.parametrize("kind", ["xray", "electron"])
@pytest.mark.parametrize("d_min", [1.0, 2.5])
def test_a_known_motion_is_found_again(ethanol_like, moved, kind, d_min):
    rotation, shift, structure, density = moved
    make = electron_potential_map if kind == "electron" else xray_map
    given = make(density, d_min, 20.0)
    given = Field(given.grid, 5 + 3 * given.values, given.unit)  # any scale and offset
    fit = fit_rigid(ethanol_like, given, d_min, 20.0, kind)
    # The map has bonded atoms and the fit free ones: hence not to the last digit.
    assert np.abs(fit.structure.positions - structure.positions).max() * BOHR < 0.05
    w, x, y, z = fit.quaternion
    assert (Rotation.from_quat([x, y, z, w]) * rotation.inv()).magnitude() < np.radians(2)
    np.testing.assert_allclose(fit.translation, shift, atol=0.05)
    assert fit.correlation > 0.995 > fit.correlation_before
    turned = Rotation.from_quat([x, y, z, w]).apply(ethanol_like.positions - fit.centre)
    np.testing.assert_allclose(
        turned + fit.centre + fit.translation, fit.structure.positions, atol=1e-9
    )
    assert json.loads(json.dumps(fit.to_dict()))["correlation"] == fit.correlation
    assert len(fit.lines()) == 3


def test_the_correlation_is_that_of_the_real_maps(moved):
    """Parseval: over the box, without the mean, band-limited at d_min."""
    _, _, structure, density = moved
    given = xray_map(density, 1.5, 10.0)
    noisy = Field(
        given.grid, given.values + 0.05 * np.random.default_rng(0).normal(size=given.grid.shape)
    )
    target = _Target(structure, noisy, 1.5, 10.0, "xray")
    found, _ = target.correlation(structure.positions)
    model = np.zeros(given.grid.shape, complex)
    waves, _ = target._model(structure.positions)
    waves = waves * np.exp(-2j * np.pi * target.h @ given.grid.origin)
    model[tuple(target.hkl.T)], model[tuple(-target.hkl.T)] = waves, waves.conj()
    computed = np.fft.fftn(model).real
    spectrum = np.fft.ifftn(noisy.values)
    kept = np.fft.fftn(np.where(model != 0, spectrum, 0)).real
    assert found == pytest.approx(np.corrcoef(computed.ravel(), kept.ravel())[0, 1])


def test_gradients(moved, ethanol_like):
    *_, density = moved
    target = _Target(ethanol_like, xray_map(density, 1.5, 10.0), 1.5, 10.0, "xray")
    start = ethanol_like.positions.ravel()
    error = check_grad(
        lambda x: target.correlation(x.reshape(-1, 3))[0],
        lambda x: target.correlation(x.reshape(-1, 3))[1].ravel(),
        start,
        epsilon=1e-6,
    )
    assert error < 1e-5
    v, dv = np.array([0.7, -1.1, 0.4]), 1e-6 * np.array([0.3, 0.5, -0.8])
    turned = (Rotation.from_rotvec(v + dv) * Rotation.from_rotvec(v).inv()).as_rotvec()
    np.testing.assert_allclose(turned, _left_jacobian(v) @ dv, atol=1e-11)


def test_orientations_leave_no_gap():
    tried = orientations(1000)
    any_rotation = Rotation.random(300, random_state=0)
    nearest = [(tried * r.inv()).magnitude().min() for r in any_rotation]
    assert np.degrees(max(nearest)) < 25


def test_bad_input(moved, ethanol_like):
    *_, density = moved
    given = xray_map(density, 2.5)
    with pytest.raises(InputError, match="spacing allows"):
        fit_rigid(ethanol_like, given, 0.5)
    with pytest.raises(InputError, match="neutron"):
        fit_rigid(ethanol_like, given, 2.5, kind="neutron")
    with pytest.raises(InputError, match="too few"):
        fit_rigid(ethanol_like, given, 20.0)
    with pytest.raises(InputError, match="constant"):
        fit_rigid(ethanol_like, Field(given.grid, np.zeros(given.grid.shape)), 2.5)
