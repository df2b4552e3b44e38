"""Learnt Fukui functions: two levels by hand, symmetry, derivatives, and those of orbitals."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

import denser
from denser.analysis.energies.learned_fukui import learned_fukui
from denser.model.frontier_atoms import FrontierAtoms, TightBinding
from denser.model.harmonics import invariants
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure

ORBITALS = {
    "CH3CHO": ([0.343, 0.460, 0.057, 0.074], [0.661, 0.128, 0.090, 0.093]),
    "C6H6": ([0.148] * 6, [0.155] * 6),
}
"""f+ and f- of the first atoms, by `denser.analysis.energies.reactivity`."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("default")


def shares_of(predictor: Predictor, atoms: Atoms, charge: int = 0) -> np.ndarray:
    options = PredictionOptions(charge, box="isolated", padding=2.0, spacing=0.3)
    density = predictor.predict(atoms, options=options).density
    return learned_fukui(density, predictor).condensed


def test_two_levels_by_hand():
    """H = ((a, b), (b, -a)) has the lower orbital (sin t, -cos t) with tan 2t = b / a."""
    a, b = 0.1, 0.25
    matrix = torch.zeros(1, 8, 8).double()
    matrix[0, [0, 0, 4, 4], [0, 4, 0, 4]] = torch.tensor([a, b, b, -a]).double()
    used = torch.zeros(1, 8).bool()
    used[0, [0, 4]] = True
    places = torch.tensor([[[0.0, 0, 0], [0, 0, 2.0]]]).double()
    electrons = TightBinding(matrix, used, torch.tensor([1]), torch.tensor([[1, 1]]), places)
    head = FrontierAtoms([1], 2, 10)
    head.decays.data.fill_(100.0)
    none = torch.zeros(1, 2, 48).double()
    plus, minus = head(electrons, none, none[..., None].expand(-1, -1, -1, 5))[0].detach().numpy()
    t = np.arctan2(b, a) / 2
    np.testing.assert_allclose(minus, [np.sin(t) ** 2, np.cos(t) ** 2], atol=1e-6)
    np.testing.assert_allclose(plus, minus[::-1], atol=1e-6)
    # A share of exp(-k r) / (1 + exp(-k r)) is that of the neighbour.
    head.decays.data.fill_(0.7)
    head.attractions.data[:] = 0.0
    mixed = head(electrons, none, none[..., None].expand(-1, -1, -1, 5))[0, 1].detach().numpy()
    own = 1 / (1 + np.exp(-1.4))
    np.testing.assert_allclose(mixed, own * minus + (1 - own) * minus[::-1], atol=1e-6)


def test_derivatives_at_degenerate_levels(predictor):
    """The HOMO of methane is degenerate, and so are those of two molecules far apart."""
    atoms = molecule("CH4")
    other = atoms.copy()
    other.translate((30, 0, 0))
    structure = Structure.of(atoms + other)
    features = predictor.features(structure)
    head = FrontierAtoms([1, 6], features.shape[1], invariants(features[:1]).shape[1])
    head.whiten(features)
    electrons = TightBinding.of([structure])
    p, q = (electrons.padded(x) for x in head.inputs(features))
    weights = torch.linspace(-1, 1, 10).double()

    def value() -> torch.Tensor:
        return (head(electrons, p, q)[0, 1] * weights**3).sum()

    (slope,) = torch.autograd.grad(value(), head.own_of_tensors)
    where = tuple(int(i[0]) for i in torch.nonzero(slope.abs() == slope.abs().max(), as_tuple=True))
    numeric = []
    for step in (1e-3, -1e-3):
        with torch.no_grad():
            head.own_of_tensors[where] += step
            numeric.append(float(value()))
            head.own_of_tensors[where] -= step
    expected = (numeric[0] - numeric[1]) / 2e-3
    assert abs(expected) > 1e-4
    assert float(slope[where]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ORBITALS)
def test_they_are_near_those_of_the_orbitals(predictor, name):
    found = shares_of(predictor, molecule(name))
    np.testing.assert_allclose(found[:2].sum(axis=1), 1, atol=1e-12)
    assert found[:2].min() >= 0
    np.testing.assert_allclose(found[2], found[0] - found[1])
    for own, known in zip(found, ORBITALS[name], strict=False):
        np.testing.assert_allclose(own[: len(known)], known, atol=0.12)
    if name == "CH3CHO":  # a nucleophile goes to the carbonyl carbon, an electrophile to oxygen
        assert found[0].argmax() == 1 and found[1].argmax() == 0


def test_they_have_the_symmetry_of_the_molecule(predictor):
    found = shares_of(predictor, molecule("C6H6"))
    np.testing.assert_allclose(
        found[:, :6], found[:, :6].mean(axis=1)[:, None].repeat(6, 1), atol=0.01
    )
    atoms = molecule("CH3CONH2")
    first = shares_of(predictor, atoms)
    for angle, tolerance in ((90.0, 1e-4), (37.0, 0.02)):
        turned = atoms.copy()
        turned.rotate(angle, "z")
        np.testing.assert_allclose(shares_of(predictor, turned), first, atol=tolerance)


def test_of_two_molecules_the_easier_one_gives_the_electron(predictor):
    thiol, water = molecule("CH3SH"), molecule("H2O")
    water.translate((0, 0, 20.0))
    alone, both = (shares_of(predictor, x) for x in (thiol, thiol + water))
    np.testing.assert_allclose(both[1, : len(thiol)], alone[1], atol=0.05)


def test_what_they_were_not_learnt_for(predictor):
    for atoms, charge, words in (
        (molecule("NaCl"), 0, "not learnt for Na"),
        (molecule("OH"), -1, r"found the charge -1; compute them \(--reactivity\)"),
        (molecule("NO"), 0, "closed shell"),
    ):
        with pytest.raises(InputError, match=words):
            shares_of(predictor, atoms, charge)
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]], cell=[5.0] * 3, pbc=True)
    crystal = predictor.predict(atoms).density
    with pytest.raises(InputError, match="isolated molecule, not of a crystal"):
        learned_fukui(crystal, predictor)


def test_they_are_a_property_of_analyze(run):
    code, out, _ = run("analyze", "--smiles", "C=O", "--fukui-learned", "--json")
    assert code == 0 and '"f_minus"' in out
    lines = str(denser.analyze(molecule("H2CO"), "fukui-learned")).splitlines()
    assert "learnt, expected error" in lines[1] and len(lines) == 6
