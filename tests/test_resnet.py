import pytest
import torch

from denser import InputError
from denser.model.resnet import X2, X4, ResNet, ResNetConfig

SMALL = ResNetConfig(channels=4, kernel=3, blocks=2, stages=1)


@pytest.mark.parametrize(("config", "count"), [(X2, 9_354_403), (X4, 16_048_708)])
def test_parameter_counts_are_the_papers(config, count):
    with torch.device("meta"):
        net = ResNet(config)
    assert sum(p.numel() for p in net.parameters()) == count


def test_state_dict_keys_are_the_published_ones():
    with torch.device("meta"):
        x2, x4 = set(ResNet(X2).state_dict()), set(ResNet(X4).state_dict())
    expected = {"conv1.0.weight", "conv1.0.bias", "conv1.1.weight", "conv2.0.weight"}
    expected |= {"conv2.0.bias", "conv3.0.weight", "conv3.0.bias"}
    expected |= {f"upsampling.{k}" for k in ("0.weight", "0.bias", "3.weight")}
    for i in range(32):
        keys = ("0.weight", "0.bias", "2.weight", "3.weight", "3.bias")
        expected |= {f"res_blocks.{i}.conv_block.{k}" for k in keys}
    assert x2 == expected
    assert {"upsampling.4.weight", "upsampling.4.bias", "upsampling.7.weight"} <= x4
    assert "res_blocks.63.conv_block.3.bias" in x4


@pytest.mark.parametrize("stages", [1, 2])
def test_output_is_fine_periodic_and_holds_the_electrons(stages):
    torch.manual_seed(0)
    net = ResNet(ResNetConfig(channels=4, kernel=3, blocks=2, stages=stages)).eval()
    step = 2**stages
    sad = torch.rand(1, 1, 4 * step, 5 * step, 6 * step)
    with torch.no_grad():
        out = net(sad)
        rolled = net(sad.roll((step, 2 * step), (2, 4)))
    assert out.shape == sad.shape
    assert float(out.min()) >= 0
    torch.testing.assert_close(out.sum(), sad.sum())
    torch.testing.assert_close(rolled, out.roll((step, 2 * step), (2, 4)), atol=1e-4, rtol=1e-3)


def test_pixel_shuffle_reads_channels_as_c_u_u_u():
    shuffle = ResNet(SMALL).upsampling[2]
    x = torch.arange(16.0).reshape(1, 16, 1, 1, 1)
    out = shuffle(x)
    assert out.shape == (1, 2, 2, 2, 2)
    for c, i, j, k in torch.cartesian_prod(*[torch.arange(2)] * 4):
        assert out[0, c, i, j, k] == 8 * c + 4 * i + 2 * j + k


def test_odd_grids_are_refused_not_cropped():
    with pytest.raises(InputError, match="not divisible by 2"):
        ResNet(SMALL)(torch.rand(1, 1, 5, 4, 4))
    with pytest.raises(InputError, match="kernel odd"):
        ResNetConfig(kernel=4)
