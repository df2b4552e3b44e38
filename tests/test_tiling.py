import pytest
import torch

from denser.model import tiling
from denser.model.unet import UNet, UNetConfig


@pytest.fixture(scope="module")
def network() -> UNet:
    torch.manual_seed(1)
    net = UNet(UNetConfig((8, 8), (1, 1), (1,)))
    torch.nn.init.normal_(net.head.weight, std=0.02)
    return net.eval()


@pytest.fixture
def long_image() -> torch.Tensor:
    """Two blobs in a long box, vacuum between them."""
    sad = torch.zeros(200, 24, 30)
    torch.manual_seed(0)
    sad[20:40, 6:20, 5:22] = torch.rand(20, 14, 17)
    sad[150:170, 2:20, 5:22] = torch.rand(20, 18, 17)
    return sad


@pytest.mark.parametrize("periodic", [True, False])
def test_tiles_with_a_full_halo_equal_the_whole(network, long_image, periodic):
    with torch.no_grad():
        image = long_image[:, :24, :24].contiguous()
        whole = tiling.apply(network, image, periodic)
        halo = -(-network.reach // 4) * 4
        tiled = tiling.apply(network, image, periodic, whole=0, tile=40, halo=halo)
    assert float((whole - image).abs().max()) > 0.01  # the network does something
    torch.testing.assert_close(tiled, whole, atol=2e-5, rtol=1e-4)


def test_any_shape_comes_back_whole(network, long_image):
    with torch.no_grad():
        whole = tiling.apply(network, long_image, False)
        tiled = tiling.apply(network, long_image, False, whole=0, tile=64, halo=network.reach)
    assert tiled.shape == long_image.shape
    torch.testing.assert_close(tiled, whole, atol=2e-5, rtol=1e-4)


def test_empty_tiles_are_left_out(network, long_image, monkeypatch):
    calls = []
    forward = type(network).forward
    monkeypatch.setattr(
        type(network), "forward",
        lambda self, sad, periodic: calls.append(sad.shape) or forward(self, sad, periodic),
    )  # fmt: skip
    with torch.no_grad():
        tiling.apply(network, long_image, False, whole=0, tile=40, halo=8)
    assert len(calls) == 3  # of five tiles, those at 0, 120 (150 to 159) and 160 hold density
