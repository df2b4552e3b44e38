import pytest
import torch

from denser import InputError
from denser.model.checkpoint import build
from denser.model.unet import Convolution, UNet, UNetConfig, depth_to_space, space_to_depth


@pytest.fixture(scope="module")
def network() -> UNet:
    torch.manual_seed(0)
    net = UNet(UNetConfig((8, 8, 8), (1, 1, 1), (1, 1)))
    torch.nn.init.normal_(net.head.weight, std=0.05)
    return net.double().eval()


def image(*shape: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(1, 1, *shape, dtype=torch.float64) * 0.3


def run(net: UNet, sad: torch.Tensor, periodic: bool) -> torch.Tensor:
    with torch.no_grad():
        return net(sad, periodic).double()


def test_depth_to_space_inverts_space_to_depth():
    x = torch.rand(2, 3, 4, 6, 8)
    assert space_to_depth(x).shape == (2, 24, 2, 3, 4)
    torch.testing.assert_close(depth_to_space(space_to_depth(x)), x)


def test_rolling_the_input_rolls_the_output(network):
    network.float()
    sad = image(24, 32, 40).float()
    shift = (8, -16, 8)
    moved = run(network, sad.roll(shift, (2, 3, 4)), True)
    torch.testing.assert_close(moved, run(network, sad, True).roll(shift, (2, 3, 4)), atol=1e-5,
                               rtol=1e-4)  # fmt: skip


def test_vacuum_stays_empty_and_its_extent_does_not_matter(network):
    """Nothing grows where there is no SAD, and vacuum beyond the reach changes nothing."""
    network.float()
    sad = image(16, 8, 8).float()
    results = []
    for margin in (network.reach + 4, network.reach + 28):
        margin -= margin % 8
        wide = torch.nn.functional.pad(sad, (0, 0, 0, 0, margin, margin))
        out = run(network, wide, False)
        results.append(out[:, :, margin:-margin])
        out[:, :, margin:-margin] = 0
        assert float(out.abs().max()) == 0.0
    torch.testing.assert_close(*results, atol=1e-6, rtol=1e-5)


def test_reach_bounds_the_receptive_field():
    """A change at one voxel is felt no farther than `reach`."""
    torch.manual_seed(2)
    net = UNet(UNetConfig((4, 4), (1, 1), (1,)))
    torch.nn.init.normal_(net.head.weight, std=0.5)
    n = 2 * net.reach + 32
    a = torch.full((1, 1, n, 8, 8), 0.1)
    b = a.clone()
    b[0, 0, n // 2, 4, 4] = 0.2
    changed = (run(net, a, False) - run(net, b, False)).abs().amax(dim=(0, 1, 3, 4)) > 0
    where = changed.nonzero().squeeze()
    assert 0 < n // 2 - int(where.min()) <= net.reach
    assert 0 < int(where.max()) - n // 2 <= net.reach


def test_default_starts_from_the_sad_and_fits_the_budget():
    net = build("unet", {})
    sad = image(16, 16, 16).float()
    torch.testing.assert_close(run(net, sad, True).float(), sad)
    assert sum(p.numel() for p in net.parameters()) * 4 < 20e6


def test_wrong_sizes_are_named():
    with pytest.raises(InputError, match="3 levels needs 3 entries"):
        UNetConfig((8, 8, 8), (1, 1), (1, 1))
    with pytest.raises(InputError, match="no option 'chanels'"):
        build("unet", {"chanels": [1]})
    with pytest.raises(InputError, match="unknown architecture 'vit'"):
        build("vit", {})


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_gradients_in_bfloat16_depend_on_nothing_but_the_input(side, periodic):
    torch.manual_seed(0)
    convolution = Convolution(8, 8)
    x = torch.rand(1, 8, side, 8, 8).contiguous(memory_format=torch.channels_last_3d)

    def gradient(bf16: bool) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = convolution(x, periodic)
        convolution.zero_grad()
        y.float().square().sum().backward()
        return convolution.weight.grad.clone()

    expected = gradient(False)
    for _ in range(20):
        sizes = (64, 256, 512, 1024, 2048, 4096, 16384)
        left = [torch.full((n,), torch.nan, dtype=torch.bfloat16) for n in sizes for _ in range(20)]
        del left
        assert (gradient(True) - expected).norm() < 0.02 * expected.norm()
