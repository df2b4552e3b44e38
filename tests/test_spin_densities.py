"""Spin densities of the equivariant network: what holds whatever its weights are."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from denser.analysis.properties import Analysis
from denser.atoms.sad import atomic_density
from denser.labels.store import LabelStore
from denser.model.aspherical import Aspherical
from denser.model.aspherical_config import AsphericalConfig
from denser.model.checkpoint import Model, load_model, save_model
from denser.model.expansion import evaluate
from denser.model.graph import Graph
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.model.spin import atom_shapes, populations
from denser.training.config import Config, DataConfig, ModelConfig, SampleConfig, ScheduleConfig
from denser.training.loop import train
from denser.types.density import SPIN_UNIT
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.viewer.fields import reduced
from denser.workflows.evaluate.measure import evaluate as measured
from denser.workflows.label import LabelSettings, calculate

EXPONENTS = (0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
METHYL = Structure.of(molecule("CH3"), spin=1)
OXYGEN = Structure.of(molecule("O2"), spin=2)
ETHANOL = Structure.of(molecule("CH3CH2OH"))


@pytest.fixture(scope="module")
def network() -> Aspherical:
    torch.manual_seed(3)
    config = AsphericalConfig(
        channels=8, layers=2, exponents=EXPONENTS, electrons=4, reach=11.0, spin=6
    )
    network = Aspherical(config)
    with torch.no_grad():
        spin = network.spin
        of_heads = (*network.heads, *spin.heads, *spin.heads_even, spin.shown_unpaired)
        for parameter in (*of_heads, *spin.squares.parameters()):
            parameter.normal_(std=0.02)
        spin.to_levels[2].weight.normal_(std=0.3)
    return network.eval()


def both(network, structure, turn=None, sign=1):
    graph = Graph.of(structure, None, network.config)
    if sign != 1:
        (shell,) = graph.open_shells
        graph = replace(graph, open_shells=(replace(shell, n_unpaired=sign * shell.n_unpaired),))
    with torch.no_grad():
        return network.coefficients(graph if turn is None else graph.turned(turn))


def unpaired(coefficients) -> np.ndarray:
    volumes = (np.pi / np.array(EXPONENTS, dtype=np.float32).astype(float)) ** 1.5
    return coefficients[:, :, 0].double().numpy() @ volumes / np.sqrt(4 * np.pi)


def test_closed_shells_stay_the_same_to_the_last_digit():
    """They have no spin density, and other weights learn nothing from `learn = "spin"`."""
    default = load_model("default").network
    plain = Aspherical(replace(default.config, spin=0))
    weights = default.state_dict()
    plain.load_state_dict({key: x for key, x in weights.items() if not key.startswith("spin.")})
    plain = plain.eval()
    graph = Graph.of(ETHANOL, None, default.config)
    assert graph.open_shells is None
    for with_spin in (default, plain.grown({"spin": 8}).eval()):
        with torch.no_grad():
            found, spin = with_spin.coefficients(graph)
            assert spin is None and torch.equal(found, plain(graph))
        part = with_spin.spin_part()
        assert {key for key, learns in part.items() if learns.any()} == {
            key for key in part if key not in plain.state_dict()
        }
    with pytest.raises(InputError, match="this network predicts no spin densities"):
        plain.spin_part()
    with pytest.raises(InputError, match="a trained network keeps its spin, 8, found 9"):
        with_spin.grown({"spin": 9})
    more = with_spin.grown({"elements": (*default.config.elements, 35)})
    row = more.config.elements.index(35)
    assert torch.equal(more.spin.heads[0][-1], more.spin.heads[0][row])


def test_the_spin_density_changes_its_sign_with_the_spin(network):
    rho, m = both(network, METHYL)
    same, flipped = both(network, METHYL, sign=-1)
    torch.testing.assert_close(same, rho)
    torch.testing.assert_close(flipped, -m)
    assert float((both(network, Structure.of(METHYL, 1, spin=0))[0] - rho).abs().max()) > 1e-4


def test_features_of_the_spin_density_do_not_run_away(network):
    """With weights a thousand times too large they would grow with a power of it in each layer."""
    wild = deepcopy(network)
    with torch.no_grad():
        for parameter in (*wild.spin.unmix.parameters(), wild.spin.shown_atoms):
            parameter.mul_(1e3)
    (rho, m), (wild_rho, wild_m) = both(network, METHYL), both(wild, METHYL)
    assert float(wild_m.abs().max()) < 1e3 * float(m.abs().max())
    assert float(wild_rho.abs().max()) < 1e3 * float(rho.abs().max())
    torch.testing.assert_close(both(wild, METHYL, sign=-1)[1], -wild_m)


def test_a_turned_radical_has_a_turned_spin_density(network):
    turn = torch.as_tensor(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]).float()
    nitroxide = Structure.of(
        Atoms("NOH2", [[0, 0, 0], [0, 0, 1.28], [0.1, 0.87, -0.5], [0.1, -0.87, -0.5]]), spin=1
    )
    (_, before), (_, after) = both(network, nitroxide), both(network, nitroxide, turn)
    scale = float(before.abs().max())
    np.testing.assert_allclose(after[..., 0], before[..., 0], atol=2e-3 * scale)
    vector = before[..., 1:4][..., [2, 0, 1]] @ turn
    np.testing.assert_allclose(after[..., 1:4][..., [2, 0, 1]], vector, atol=2e-3 * scale)
    with torch.no_grad():
        _, mean = network.averaged(Graph.of(nitroxide, None, network.config), [turn])
    np.testing.assert_allclose(mean, before, atol=4e-3 * scale)


def test_the_integral_is_exact_in_each_molecule(network):
    pair = METHYL.to_ase() + molecule("H2O", positions=molecule("H2O").positions + [9.0, 0, 0])
    for structure, spin in ((METHYL, 1), (OXYGEN, 2), (Structure.of(pair, spin=1), 1)):
        graph = Graph.of(structure, None, network.config)
        with torch.no_grad():
            m = network.coefficients(graph)[1]
            difference, *_ = network.unpaired(graph)
        own = populations(difference)
        assert own.sum() == pytest.approx(spin, abs=1e-6)
        exact = network.spin.exact(structure, m, own, network.exponents)
        assert abs(unpaired(m).sum() - spin) > 1e-4
        assert unpaired(exact).sum() == pytest.approx(spin, abs=1e-9)
    assert unpaired(exact)[:4].sum() == pytest.approx(1, abs=1e-3)  # not on the water


def test_closed_and_open_shells_together_are_as_alone(network):
    structures = (METHYL, ETHANOL, OXYGEN)
    graphs = [Graph.of(s, None, network.config) for s in structures]
    with torch.no_grad():
        rho, m = network.coefficients(Graph.joined(graphs))
    alone = [both(network, s) for s in structures]
    torch.testing.assert_close(rho, torch.cat([x for x, _ in alone]), rtol=1e-4, atol=1e-5)
    of_ethanol = torch.zeros(len(ETHANOL), len(EXPONENTS), 25)
    expected = torch.cat([alone[0][1], of_ethanol, alone[2][1]])
    torch.testing.assert_close(m, expected, rtol=1e-4, atol=1e-5)


def test_an_untrained_network_has_the_electrons_of_atoms():
    """A hydrogen atom has the spin density of its one electron, a turned p electron is a p."""
    torch.manual_seed(0)
    fresh = Aspherical(AsphericalConfig(electrons=4, exponents=EXPONENTS, spin=4, channels=4))
    _, m = both(fresh, Structure.of(Atoms("H")))
    r = torch.linspace(0.0, 5.0, 40, dtype=torch.float64)
    x = torch.stack([0 * r, 0.6 * r, 0.8 * r], dim=1)[None]
    found = evaluate(m.double(), torch.tensor(EXPONENTS).double(), x, torch.zeros(1).long())
    np.testing.assert_allclose(found, atomic_density(1, r.numpy()), atol=0.02)
    exponents = AsphericalConfig().exponents + (0.9, 1.8, 3.6)
    s, p, radial, _ = atom_shapes(8, exponents)
    alphas = np.array(exponents)
    d = np.linspace(0.0, 6.0, 200)[:, None]
    of_s, of_p = np.exp(-alphas * d**2) @ p, (d**2 * np.exp(-alphas * d**2)) @ radial
    off = 4 * np.pi * np.trapezoid(d[:, 0] ** 2 * np.abs(of_s - of_p), d[:, 0])
    assert off < 0.06  # of one electron
    assert s @ (np.pi / alphas) ** 1.5 == pytest.approx(1)
    _, m = both(fresh, OXYGEN)
    assert unpaired(m) == pytest.approx([1, 1], abs=1e-5)


def test_degenerate_orbitals_are_said():
    """The electron of OH may be in either of two pi orbitals; that of CH3 in one."""
    torch.manual_seed(0)
    fresh = Aspherical(AsphericalConfig(electrons=4, exponents=EXPONENTS, spin=4, channels=4))
    predictor = Predictor(Model("fresh", "aspherical", fresh, Recipe(), {}))
    hydroxyl = Structure.of(Atoms("OH", [[0, 0, 0], [0.7, 0.6, 0.2]]), spin=1)
    said = predictor.doubt(predictor.predict(hydroxyl, spacing=0.3))
    assert "several orbitals of nearly the same energy may hold the unpaired electrons" in said
    assert "several orbitals" not in predictor.doubt(predictor.predict(METHYL, spacing=0.3))


def test_unpaired_electrons_add_to_the_expected_error():
    torch.manual_seed(0)
    config = AsphericalConfig(electrons=4, exponents=EXPONENTS, spin=4, channels=4, errors=True)
    network, found = Aspherical(config), []
    for k in (0.0, 0.3):
        network.spin.wrong.fill_(k)
        predictor = Predictor(Model("fresh", "aspherical", network, Recipe(), {}))
        density = predictor.predict(METHYL, spacing=0.3).density
        found.append(density.wrong)
    unpaired = density.continuous.unpaired()
    assert unpaired.sum() == pytest.approx(1) and unpaired[0] > 0.9
    np.testing.assert_allclose(found[1] - found[0], 0.3 * np.abs(unpaired), rtol=1e-6)
    # OH may have its electron in either of two orbitals: 2 * 0.75 are effectively unpaired
    hydroxyl = Structure.of(Atoms("OH", [[0, 0, 0], [0.7, 0.6, 0.2]]), spin=1)
    atoms = predictor.predict(hydroxyl, spacing=0.3).density.continuous
    assert atoms.singly == pytest.approx(1.5, abs=0.01)


def test_a_prediction_with_and_without_spin_densities(network):
    model = Model("spins", "aspherical", network, Recipe(), {})
    predictor = Predictor(model)
    prediction = predictor.predict(OXYGEN, spacing=0.25)
    m = prediction.density.spin_density
    assert (m.unit, m.structure.spin) == (SPIN_UNIT, 2)
    assert m.integrate() == pytest.approx(2, abs=0.01)
    assert prediction.density.continuous is not None
    ethanol = predictor.predict(ETHANOL, spacing=0.25).density
    assert ethanol.spin_density is None
    field = Analysis(prediction.density).field("spin")
    np.testing.assert_array_equal(field.values, m.values)
    with pytest.raises(InputError, match="C2H6O is taken for a closed shell, which has no spin"):
        Analysis(ethanol).field("spin")
    coarse = reduced(prediction.density).spin_density
    k = m.grid.shape[0] // coarse.grid.shape[0]
    np.testing.assert_array_equal(coarse.values, m.values[::k, ::k, ::k])
    with_none = Aspherical(replace(network.config, spin=0)).eval()
    plain = Predictor(Model("plain", "aspherical", with_none, Recipe(), {}))
    radical = plain.predict(METHYL, spacing=0.25)
    assert radical.density.spin_density is None
    assert radical.density.integrate() == pytest.approx(7)
    assert "learnt from closed shells only" in plain.doubt(radical)


@pytest.mark.slow
def test_training_and_measuring_on_an_open_shell(network, tmp_path):
    """Only weights of spin densities learn, and the error of m is measured."""
    recipe = Recipe(spacing=0.2 / BOHR)
    settings = LabelSettings(PredictionOptions(box="paper", spacing=0.2))
    label, facts = calculate(settings.task("h", Structure.of(Atoms("H"))))
    store = tmp_path / "labels.db"
    with LabelStore(store, recipe) as labels:
        for name in ("h", "h_2", "h_3"):  # rows of elements with fewer labels do not learn
            labels.add(replace(label, name=name), facts)
    start = tmp_path / "start.safetensors"
    save_model(start, Model("start", "aspherical", network, recipe, {}))
    config = Config(
        DataConfig((str(store),), validation=0),
        model=ModelConfig("aspherical", str(start), learn="spin"),
        schedule=ScheduleConfig(steps=40),
        sample=SampleConfig(batch=1, points=256),
    )
    path = train(config, tmp_path / "run")
    before, after = network.state_dict(), load_model(path).network.state_dict()
    for key, value in before.items():
        # one electron alone has no exchange to learn; errors are found on validation labels
        learns = key.startswith("spin.") and key not in ("spin.exchange", "spin.wrong")
        assert torch.equal(value, after[key]) != learns, key
    errors = [measured(model, store, part="all").rows[0].spin_error for model in (start, path)]
    assert errors[1] < 0.7 * errors[0]
    summary = measured(path, store, part="all").summary()
    assert summary["spin_percent"]["mean"] == pytest.approx(100 * errors[1])
    reference = Path(__file__).parent / "reference" / "labels"
    closed = replace(config, data=DataConfig((str(reference),), validation=0))
    with pytest.raises(InputError, match="no label has unpaired electrons"):
        train(closed, tmp_path / "none")


def test_all_but_spin_densities_can_learn(network, tmp_path):
    """From closed shells; elements without diffuse functions get none."""
    recipe = Recipe(spacing=0.2 / BOHR)
    settings = LabelSettings(PredictionOptions(box="paper", spacing=0.2))
    store = tmp_path / "labels.db"
    with LabelStore(store, recipe) as labels:
        for name, structure in (
            ("h", Structure.of(Atoms("H"))),
            ("hf", Structure.of(Atoms("HF", [[0, 0, 0], [0, 0, 0.93]]))),
        ):
            label, facts = calculate(settings.task(name, structure))
            labels.add(label, facts)
    larger = network.grown({"diffuse": (0.08,)})
    fluorine = larger.rows_of([9])["diffuse"]
    with torch.no_grad():
        larger.diffuse[fluorine] = 0.01
    start = tmp_path / "start.safetensors"
    save_model(start, Model("start", "aspherical", larger, recipe, {}))
    config = Config(
        DataConfig((str(store),), validation=0),
        model=ModelConfig("aspherical", str(start), learn="closed shells"),
        schedule=ScheduleConfig(steps=2),
        sample=SampleConfig(batch=1, points=256),
    )
    model = load_model(train(config, tmp_path / "run"))
    assert model.info["train_names"] == ["hf"] and model.info["open_shell_names"] == ["h"]
    before, after = larger.state_dict(), model.network.state_dict()
    same = {key for key, value in before.items() if torch.equal(value, after[key])}
    buffers = before.keys() - dict(larger.named_parameters()).keys()
    assert same == buffers | {key for key in before if key.startswith("spin.")}
    changed = before["diffuse"] != after["diffuse"]
    assert changed[fluorine].all() and not changed[~fluorine].any()
