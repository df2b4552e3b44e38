"""The equivariant network: symmetry, locality, and that density and points agree."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

from denser.atoms.sad import superposition
from denser.labels.reading import read_label
from denser.model import aspherical
from denser.model.aspherical import Aspherical
from denser.model.aspherical_config import AsphericalConfig
from denser.model.expansion import orthogonal_to
from denser.model.graph import Graph
from denser.model.growing import relative
from denser.model.harmonics import spherical_harmonics
from denser.training.config import Config, SampleConfig, ScheduleConfig
from denser.training.point_sets import PER_LABEL
from denser.training.points import Points
from denser.training.processes import Processes
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

REFERENCE = sorted((Path(__file__).parent / "reference" / "labels").glob("*.npz"))


SHOWN = {
    "atoms": {},
    "electrons": {"electrons": 1},
    "bonds": {"electrons": 2},
    "tables": {"electrons": 4},
    "far atoms": {"electrons": 1, "reach": 11.0},
}


@pytest.fixture(scope="module", params=SHOWN.values(), ids=SHOWN.keys())
def network(request) -> Aspherical:
    torch.manual_seed(1)
    config = AsphericalConfig(channels=8, layers=2, exponents=(0.3, 1.0, 3.0), **request.param)
    network = Aspherical(config)
    with torch.no_grad():
        for head in network.heads:
            head.normal_(std=0.02)
        if config.reach:
            for weights in network.shown_far:
                weights.normal_(std=0.3)
        if config.electrons:
            network.shown_atoms.normal_(std=0.1)
            for layer in network.shown_bonds:
                layer.weight.normal_(std=0.1)
    return network.eval()


def coefficients(network, structure, rotation=None):
    graph = Graph.of(structure, None, network.config)
    with torch.no_grad():
        return network(graph if rotation is None else graph.turned(rotation))


def test_a_turned_molecule_gives_turned_harmonics(network, ethanol):
    """Norms of each degree stay; scalars stay; vectors (y, z, x) turn."""
    rng = np.random.default_rng(0)
    turn = torch.as_tensor(np.linalg.qr(rng.normal(size=(3, 3)))[0], dtype=torch.float32)
    before, after = coefficients(network, ethanol), coefficients(network, ethanol, turn)
    scale = float(before.abs().max())
    np.testing.assert_allclose(after[..., 0], before[..., 0], atol=2e-3 * scale)
    vector = before[..., 1:4][..., [2, 0, 1]] @ turn
    np.testing.assert_allclose(after[..., 1:4][..., [2, 0, 1]], vector, atol=2e-3 * scale)


@pytest.mark.parametrize(
    "more",
    [
        {"electrons": 4},
        {"electrons": 4, "reach": 11.0},
        {"hidden": 80},
        {"width": 3},
        {"electrons": 4, "hidden": 80, "width": 3},
    ],
)
def test_a_grown_network_is_the_same_until_it_learns(network, ethanol, more):
    """What is new adds nothing, and has a gradient."""
    was = network.config
    more = {"reach": was.reach, "electrons": was.electrons} | more
    larger = network.grown(more | {"channels": 8})
    assert larger.config == replace(network.config, **more)
    torch.testing.assert_close(coefficients(larger, ethanol), coefficients(network, ethanol))
    larger(Graph.of(ethanol, None, larger.config)).square().sum().backward()
    gradients = {key: p.grad != 0 for key, p in larger.named_parameters()}
    assert all(bool(found.any()) for found in gradients.values())
    new = gradients["unmix.1.weight"][:, was.width * was.channels :]
    assert bool(new.all())
    new = gradients["filters.0.2.weight"][:, was.hidden :]
    assert bool(new.any()) or not new.numel()


def test_a_grown_network_has_room_for_more_functions(network, ethanol):
    """More Gaussians, and harmonics of a higher degree than the features: zero, with gradients."""
    was = network.config
    more = {"exponents": (0.3, 0.7, 1.0, 3.0, 5.0), "output_degree": 5}
    larger = network.grown(more)
    found, before = coefficients(larger, ethanol), coefficients(network, ethanol)
    assert found.shape == (9, 5, 36)
    scale = float(before.abs().max())
    torch.testing.assert_close(found[:, [0, 2, 3], :25], before, rtol=0, atol=1e-5 * scale)
    assert float(found[:, [1, 4]].abs().max()) < 1e-5 * scale
    assert float(found[:, :, 25:].abs().max()) == 0
    larger(Graph.of(ethanol, None, larger.config)).square().sum().backward()
    for head in larger.heads[:5]:
        assert bool((head.grad[larger.rows[6]] != 0).all())
    with pytest.raises(InputError, match="keeps its exponents"):
        larger.grown({"exponents": was.exponents})
    with pytest.raises(InputError, match="keeps its output_degree, 5, found 4"):
        larger.grown({"output_degree": 4})


def test_diffuse_functions_are_those_of_some_elements(network, ethanol, water):
    """They begin with zero, are of degree 0, and the grid, points and rotations know them."""
    larger = network.grown({"diffuse": (0.1,)})
    before, found = coefficients(network, ethanol), coefficients(larger, ethanol)
    assert torch.equal(found[:, :3], before) and not found[:, 3].any()
    assert torch.equal(
        larger.rows_of([8])["diffuse"].any(dim=(1, 2)), larger.rows[8] == torch.arange(5)
    )
    with torch.no_grad():
        larger.diffuse[larger.rows[8]].normal_(std=0.02)
    found = coefficients(larger, ethanol)
    oxygen = torch.as_tensor(ethanol.numbers == 8)
    assert bool((found[oxygen, 3, 0] != 0).all()) and not found[:, 3, 1:].any()
    assert not found[~oxygen, 3].any() and torch.equal(found[~oxygen, :3], before[~oxygen])
    test_a_turned_molecule_gives_turned_harmonics(larger, ethanol)
    test_points_estimate_the_error_of_the_whole_grid(larger)
    test_a_period_is_a_supercell_of_it(larger, water)
    with pytest.raises(InputError, match="keeps its exponents"):
        larger.grown({"exponents": (0.3, 0.7, 1.0, 3.0)})


def test_diffuse_functions_are_orthogonal_to_the_others():
    others, diffuse = (0.16, 0.32, 1.28), (0.04, 0.08)
    rows = orthogonal_to(diffuse, others)
    r = np.linspace(0, 30, 6001)
    g = np.exp(-np.outer((*others, *diffuse), r**2)) * r
    integrals = np.trapezoid((rows @ g)[:, None] * np.concatenate([g[:3], rows @ g]), r)
    np.testing.assert_allclose(integrals, np.eye(2, 5, 3), atol=1e-8)


def test_further_elements_change_nothing_for_the_others(network, ethanol):
    """New elements start as copies of their relatives, in any order of the rows."""
    was = network.config.elements
    larger = network.grown({"elements": (35, *reversed(was), 16), "width": 3})
    torch.testing.assert_close(coefficients(larger, ethanol), coefficients(network, ethanol))
    numbers = np.where(ethanol.numbers == 8, 16, ethanol.numbers)
    thiol = Structure(numbers, ethanol.positions)
    if not network.config.electrons:  # which are those of sulphur
        torch.testing.assert_close(coefficients(larger, thiol), coefficients(network, ethanol))
    assert float(coefficients(larger, thiol).abs().max()) > 0
    with pytest.raises(InputError, match="keeps its elements; H is missing"):
        network.grown({"elements": (6, 7, 8, 9)})
    with pytest.raises(InputError, match="no tight-binding parameters for U"):
        Aspherical(AsphericalConfig(electrons=2)).grown({"elements": (*was, 92)})


def test_rows_of_elements_are_what_only_their_atoms_use(network, ethanol):
    """Changing them changes nothing without such atoms; changing all others misses none."""
    larger = network.grown({"elements": (*network.config.elements, 16)})
    rows = larger.rows_of([16])
    assert rows.keys() == dict(larger.named_parameters()).keys()
    before = coefficients(larger, ethanol)
    with torch.no_grad():
        for name, p in larger.named_parameters():
            p[rows[name]] += 1.0
    assert torch.equal(coefficients(larger, ethanol), before)
    by_element = sum(int(mask.sum()) for mask in rows.values())
    assert by_element == sum(p.numel() for p in larger.parameters()) - sum(
        p.numel() for p in network.parameters()
    )


def test_relatives():
    known = (1, 3, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17)
    pairs = {35: 17, 53: 17, 34: 16, 19: 11, 20: 12, 30: 12, 29: 11, 33: 15, 32: 14, 31: 5, 13: 5}
    pairs |= {4: 12, 2: 1, 36: 17, 26: 12, 6: 6}
    assert {z: relative(z, known) for z in pairs} == pairs
    assert relative(53, (*known, 35)) == 35
    assert relative(20, (1, 6, 19)) == 19


def test_functions_of_a_higher_degree_turn_with_the_molecule(network, ethanol):
    """Exactly, and `averaged` turns them back."""
    torch.manual_seed(2)
    larger = network.grown({"output_degree": 5})
    with torch.no_grad():
        larger.heads[5].normal_(std=0.02)
    turn = torch.as_tensor(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0])
    before, after = (coefficients(larger, ethanol, t)[..., 25:] for t in (None, turn.float()))
    points = torch.as_tensor(np.random.default_rng(2).normal(size=(50, 3)))
    points = points / points.norm(dim=1, keepdim=True)
    there, here = (spherical_harmonics(p, 5)[:, 25:].float() for p in (points @ turn, points))
    scale = float((before @ here.T).abs().max())
    assert scale > 0
    np.testing.assert_allclose(after @ there.T, before @ here.T, atol=1e-4 * scale)
    with torch.no_grad():
        averaged = larger.averaged(Graph.of(ethanol, None, larger.config), [turn.float()])[0]
    np.testing.assert_allclose(averaged[..., 25:], before, atol=1e-4 * float(before.abs().max()))


def test_a_trained_network_keeps_its_sizes(network):
    with pytest.raises(InputError, match="keeps its channels, 8, found 16"):
        network.grown({"channels": 16})
    with pytest.raises(InputError, match="keeps its electrons, 4, found 1"):
        Aspherical(AsphericalConfig(electrons=4)).grown({"electrons": 1})
    with pytest.raises(InputError, match="keeps its width, 2, found 1"):
        network.grown({"width": 1})


def test_images_in_a_tight_box_are_seen_within_reach():
    """Acetylene in a box 4.1 angstrom wide: the cutoff ends at its images, the reach does not."""
    acetylene = molecule("C2H2")
    acetylene.center(vacuum=2.06)
    tight = Structure.from_ase(acetylene)
    box = Grid(np.zeros(3), np.diag(acetylene.cell.lengths()) / BOHR, (16, 16, 16))
    for reach, seen in ((0.0, False), (11.0, True)):
        config = AsphericalConfig(channels=8, layers=1, reach=reach)
        torch.manual_seed(0)
        network = Aspherical(config)
        with torch.no_grad():
            for weights in (*network.heads, *(network.shown_far if reach else ())):
                weights.normal_(std=0.1)
            alone, packed = (network(Graph.of(tight, grid, config)) for grid in (None, box))
        change = float((packed - alone).abs().max() / alone.abs().max())
        assert (change > 0.01) == seen, (reach, change)


def test_a_shift_by_a_fraction_of_a_voxel_changes_nothing_but_the_nodes(network, water):
    shifted = water.copy()
    shifted.translate([0.03, 0.02, -0.04])
    for a, b in zip(
        coefficients(network, Structure.from_ase(water)),
        coefficients(network, Structure.from_ase(shifted)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_period_is_a_supercell_of_it(network, water):
    water.set_cell([4.0, 5.0, 4.5])
    water.pbc = True
    one = Structure.from_ase(water)
    two = Structure.from_ase(water.repeat((2, 1, 1)))
    grids = [Grid(np.zeros(3), s.cell, (16, 16, 16)) for s in (one, two)]
    with torch.no_grad():
        small, large = (
            network(Graph.of(s, g, network.config)) for s, g in zip((one, two), grids, strict=True)
        )
    np.testing.assert_allclose(large, torch.cat([small, small]), atol=1e-5)


def test_points_estimate_the_error_of_the_whole_grid(network):
    path = next(p for p in REFERENCE if p.stem == "H2CO")
    label = read_label(path)
    points = Points([label], "gth-szv-1e", torch.device("cpu"), network.config)
    network = Aspherical(network.config)  # of small deformations, so that nothing is clipped
    with torch.no_grad():
        for head in network.heads:
            head.normal_(std=2e-4)
    sad = superposition(label.structure, label.grid)
    rho = network.raw_density(sad, periodic=True).numpy()
    reference = points_reference(label)
    exact = np.abs(rho - reference).sum() * label.grid.dv / label.n_electrons
    with torch.no_grad():
        estimate = float(points[0].error(network, slice(None)))
    assert estimate == pytest.approx(exact, rel=0.01)
    assert len(points[0].nodes) == PER_LABEL


def points_reference(label):
    from denser.labels.render import density_on_grid

    s = label.structure
    return density_on_grid(s.numbers, s.positions, label.mo_coeff, label.grid).numpy()


def test_an_unknown_element_is_named(network):
    with pytest.raises(InputError, match="does not know S"):
        sulfide = Structure.from_ase(molecule("SH2"))
        network.raw_density(superposition(sulfide, Grid.around(sulfide)), False)


def test_options_are_checked():
    with pytest.raises(InputError, match="order of 8"):
        AsphericalConfig(order=7)
    with pytest.raises(InputError, match="reach must be 0 or more than the cutoff of 8 bohr"):
        AsphericalConfig(reach=7.0)
    with pytest.raises(InputError, match="positive"):
        AsphericalConfig(exponents=(0.1, -1.0))


def test_few_points_can_learn_one_molecule():
    """A handful of steps brings the error of one label well below that of its SAD."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    network = Aspherical(AsphericalConfig(channels=16, layers=1))
    label = read_label(next(p for p in REFERENCE if p.stem == "H2O"))
    points = Points([label], "gth-szv-1e", device, network.config)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    peers = Processes(0, 1, device)
    config = Config(schedule=ScheduleConfig(steps=80), sample=SampleConfig(points=512))
    start = points.errors(network, False, peers)[0]
    for step in range(80):
        optimizer.zero_grad()
        points.backward(network, config, step, 0.0, 1, peers)
        optimizer.step()
    assert points.errors(network, False, peers)[0] < 0.3 * start


@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_a_batch_of_points(network, size):
    """What the processes add up is the gradient that one takes, and each has a part of it."""
    device = torch.device("cpu")
    labels = [read_label(p) for p in REFERENCE if p.stem in ("H2CO", "H2O", "CH4", "HCN")]
    points = Points(labels, "gth-szv-1e", device, network.config)
    config = Config(schedule=ScheduleConfig(steps=9), sample=SampleConfig(batch=6, points=512))

    def gradient(ranks, size):
        copy = Aspherical(network.config)
        copy.load_state_dict(network.state_dict())
        losses = [
            float(
                points.backward(copy, config, 3, 0.0, len(labels), Processes(rank, size, device))[0]
            )
            for rank in ranks
        ]
        return losses, torch.cat([p.grad.ravel() for p in copy.parameters()])

    one, whole = gradient([0], 1)
    shares, total = gradient(range(size), size)
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(one[0], rel=1e-5)
    assert float((total - whole).norm()) < 1e-4 * float(whole.norm())


def test_what_errs_more_can_weigh_more(network):
    """With an exponent p the gradient is that of mean Err^p, but for a factor p 0.01^(p - 1)."""
    device = torch.device("cpu")
    labels = [read_label(p) for p in REFERENCE if p.stem in ("H2CO", "CH4")]
    points = Points(labels, "gth-szv-1e", device, network.config)

    def found(step, exponent):
        copy = Aspherical(network.config)
        copy.load_state_dict(network.state_dict())
        sample = SampleConfig(batch=1, points=512, exponent=exponent)
        config = Config(schedule=ScheduleConfig(steps=9), sample=sample)
        error, names = points.backward(copy, config, step, 0.0, 2, Processes(0, 1, device))
        return error, names, torch.cat([p.grad.ravel() for p in copy.parameters()])

    for step in range(2):
        error, names, gradient = found(step, 1.0)
        same, same_names, raised = found(step, 2.5)
        assert (same, same_names) == (error, names)  # what is reported stays Err_rho
        expected = gradient * (error / 0.01) ** 1.5
        assert float((raised - expected).norm()) < 1e-5 * float(expected.norm())


def test_points_of_a_label_that_is_there_twice_are_drawn_once(network):
    one, other = (read_label(p) for p in REFERENCE if p.stem in ("CH4", "H2O"))
    device = torch.device("cpu")
    points = Points([one, other, other], "gth-szv-1e", device, network.config)
    assert points[2] is points[1]
    alone = Points([one, other], "gth-szv-1e", device, network.config)
    torch.testing.assert_close(points[2].nodes, alone[1].nodes, rtol=0, atol=0)


def test_blocks_of_a_large_structure_are_as_all_at_once(network, ethanol, monkeypatch):
    at_once = coefficients(network, ethanol)
    monkeypatch.setattr(aspherical, "_PAIRS_AT_ONCE", 7)
    monkeypatch.setattr(aspherical, "_ATOMS_AT_ONCE", 2)
    torch.testing.assert_close(coefficients(network, ethanol), at_once, atol=1e-6, rtol=1e-5)
