"""Read-outs of the network's features: polarizabilities and the kinetic energy density."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

import denser
from denser.analysis.energies.electron_localisation import (
    NO_DENSITY,
    learned_localisation,
    localisation_of_density,
    localisation_of_orbitals,
)
from denser.analysis.energies.learned_polarizability import learned_polarizability
from denser.analysis.fields import gradient_norm
from denser.dft.kinetic_density import kinetic_density
from denser.labels.reading import read_label
from denser.model.checkpoint import load_model
from denser.model.heads import fingerprints_of, load_head
from denser.model.kinetic_head import KineticHead
from denser.model.options import PredictionOptions
from denser.model.polarizable_atoms import PolarizableAtoms
from denser.model.predictor import Predictor
from denser.types.errors import InputError

REFERENCE = Path(__file__).parent / "reference"

RESPONSE = {
    "H2O": (10.45, 0.33),
    "CH4": (17.45, 0.0),
    "C2H4": (28.47, 12.07),
    "CH3OH": (22.49, 3.60),
    "C6H6": (70.50, 38.22),
    "CH3Cl": (30.67, 10.01),
}
"""Mean and anisotropy by `denser.dft.polarizability`, bohr^3."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("default")


def density_of(predictor: Predictor, atoms: Atoms, charge: int = 0) -> denser.Density:
    options = PredictionOptions(charge, box="isolated", padding=2.0, spacing=0.3)
    return predictor.predict(atoms, options=options).density


@pytest.mark.parametrize("name", RESPONSE)
def test_polarizability_is_near_that_of_the_response(predictor, name):
    found = learned_polarizability(density_of(predictor, molecule(name)), predictor)
    mean, anisotropy = RESPONSE[name]
    assert found.mean == pytest.approx(mean, rel=0.05)
    # the mean error of molecules that were left out is 0.05
    assert found.anisotropy == pytest.approx(anisotropy, abs=0.08 * mean)
    assert np.linalg.eigvalsh(found.tensor).min() > 0.5 * mean
    assert found.of_atoms.sum() == pytest.approx(found.mean)


def test_the_error_of_a_polarizability_is_that_of_its_worst_element(predictor):
    known = load_head("polarizability").info["measured"]["with_percent"]
    for name, worst in (("CH4", "H"), ("SiH4", "Si")):
        found = learned_polarizability(density_of(predictor, molecule(name)), predictor)
        assert found.to_dict()["expected_error_percent"] == known[worst] > 2


def test_polarizability_turns_with_the_molecule(predictor):
    atoms = molecule("CH3CONH2")
    first = learned_polarizability(density_of(predictor, atoms), predictor)
    cube = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    for matrix, tolerance in ((cube, 1e-4), (_turn(50.0), 0.05)):
        turned = atoms.copy()
        turned.positions = atoms.positions @ matrix.T
        found = learned_polarizability(density_of(predictor, turned), predictor)
        expected = matrix @ first.atoms @ matrix.T
        np.testing.assert_allclose(found.atoms, expected, atol=tolerance)


def _turn(degrees: float) -> np.ndarray:
    atoms = Atoms("H3", np.eye(3))
    atoms.rotate(degrees, (1, 2, 3))
    return atoms.positions.T


def test_polarizabilities_of_far_molecules_add(predictor):
    """But for what two dipoles do to each other: a_1 t a_2 + a_2 t a_1."""
    water, chloride = molecule("H2O"), molecule("CH3Cl")
    chloride.translate((0, 3, 25.0))
    parts = [
        learned_polarizability(density_of(predictor, atoms), predictor)
        for atoms in (water, chloride)
    ]
    one, two = (part.tensor for part in parts)
    first, second = (x.of_atoms @ x.structure.positions / x.of_atoms.sum() for x in parts)
    both = learned_polarizability(density_of(predictor, water + chloride), predictor).tensor
    x = second - first
    r = np.linalg.norm(x)
    t = 3 * np.outer(x, x) / r**5 - np.eye(3) / r**3
    induced = one @ t @ two
    induced += induced.T
    assert np.abs(induced).max() > 5e-3
    np.testing.assert_allclose(both - one - two, induced, atol=3e-4)


def test_two_atoms_are_those_of_applequist():
    """alpha_par = 2 a / (1 - 2 a / r^3) and alpha_perp = 2 a / (1 + a / r^3) without damping."""
    head = PolarizableAtoms([1], 2, 10)
    head.damping.data.fill_(100.0)
    a, r = 3.0, 4.0
    alone = a * torch.eye(3).double().repeat(2, 1, 1)
    found = head.coupled(alone, torch.tensor([[0.0, 0, 0], [0, 0, r]]).double()).sum(dim=0)
    along, across = 2 * a / (1 - 2 * a / r**3), 2 * a / (1 + a / r**3)
    np.testing.assert_allclose(found.detach(), np.diag([across, across, along]), rtol=1e-9, atol=0)


def test_what_polarizabilities_were_not_learnt_for(predictor):
    for atoms, charge, words in (
        (molecule("NaCl"), 0, "not learnt for Na, only for H B C"),
        (molecule("OH"), -1, r"found the charge -1; compute it \(--polarizability\)"),
        (molecule("NO"), 0, "closed shell"),
    ):
        with pytest.raises(InputError, match=words):
            learned_polarizability(density_of(predictor, atoms, charge), predictor)
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]], cell=[5.0] * 3, pbc=True)
    crystal = predictor.predict(atoms).density
    with pytest.raises(InputError, match="isolated molecule, not of a crystal"):
        learned_polarizability(crystal, predictor)


def test_a_head_belongs_to_the_weights_behind_its_features():
    model = load_model("default")
    head = load_head("polarizability")

    def changed(name: str, where: tuple) -> denser.model.checkpoint.Model:
        network = deepcopy(model.network)
        with torch.no_grad():
            network.get_parameter(name)[where] += 1e-3
        return replace(model, name="mine", network=network)

    chlorine = model.network.config.elements.index(17)
    of_chlorine = changed("embedding.weight", (chlorine, 3))
    head.require_fits(of_chlorine, [1, 6], "")
    with pytest.raises(
        InputError, match="those of model 'mine' differ; take the default model, or"
    ):
        head.require_fits(of_chlorine, [6, 17], "compute it")
    with pytest.raises(InputError, match="differ"):
        head.require_fits(changed("mix.0.weight", (0, 0)), [1], "")
    head.require_fits(changed("heads.0", (0, 0, 0)), [1, 17], "")  # no feature depends on it
    first = fingerprints_of(model, [1, 17])
    assert len({*first.values()}) == 3


def test_learned_localisation_is_near_that_of_the_orbitals(predictor):
    label = read_label(REFERENCE / "labels" / "H2CO.npz")
    alone = replace(label.structure, cell=None)
    density = predictor.predict(alone, spacing=0.125).density
    found = learned_localisation(density, predictor)
    orbitals = label.structure, label.mo_coeff, density.grid
    expected = localisation_of_orbitals(*orbitals).elf.values
    inside = kinetic_density(*orbitals).rho > 1e-3
    errors = [
        np.abs(x.elf.values - expected)[inside].mean()
        for x in (found, localisation_of_density(density))
    ]
    assert errors[0] < min(0.05, errors[1] / 3)
    # bounds
    assert found.elf.values.min() >= 0 and found.elf.values.max() <= 1
    here = density.values > NO_DENSITY
    bound = gradient_norm(density, local=True).values[here] ** 2 / (8 * density.values[here])
    assert (found.tau.values[here] - bound).min() > -1e-7 * bound.max()
    assert found.lines()[0].startswith("electron localisation (learnt")


def test_kinetic_energy_density_at_points_and_on_a_grid(predictor):
    density = density_of(predictor, molecule("CH3OH"))
    structure, known = density.structure, load_head("kinetic")
    head, features = KineticHead.of(known.elements, known.tensors), predictor.features(structure)
    on_grid = head.on_grid(structure, features, density.grid)
    index = np.array(density.grid.shape) // 2 + [[0, 1, 2], [-5, 2, 1], [3, -4, -4]]
    points = density.grid.points()[tuple(index.T)]
    x = torch.as_tensor(points[None] - structure.positions[:, None]).float()
    found = head.coefficients(torch.tensor(structure.numbers), features)
    at = head.at(x, torch.arange(len(structure)), *found)
    np.testing.assert_allclose(at.numpy(), on_grid[tuple(index.T)], rtol=1e-3)


def test_what_the_kinetic_energy_density_was_not_learnt_for(predictor):
    words = r"kinetic energy density was not learnt for Cl.*\(--field elf\)"
    with pytest.raises(InputError, match=words):
        learned_localisation(density_of(predictor, molecule("HCl")), predictor)
    with pytest.raises(InputError, match="closed shell"):
        learned_localisation(density_of(predictor, molecule("NO")), predictor)


def test_they_are_properties_of_analyze(run):
    code, out, _ = run("analyze", "--smiles", "O", "--polarizability-learned", "--json")
    assert code == 0 and '"atomic_mean_bohr3"' in out
    lines = str(denser.analyze(molecule("H2O"), "polarizability-learned")).splitlines()
    assert "bohr^3" in lines[1] and len(lines) == 8
