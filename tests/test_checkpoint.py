import pickle

import pytest
import torch

from denser import InputError, Recipe, load_model
from denser.model.checkpoint import (
    Model,
    build,
    import_published,
    read_metadata,
    save_model,
    shipped_models,
)
from denser.model.resnet import X2, ResNet
from denser.model.unet import UNetConfig


def test_round_trip_keeps_weights_config_recipe_and_record(tmp_path, small_model):
    path = tmp_path / "m.safetensors"
    model = Model("m", "unet", small_model.network, Recipe(sad="gth-szv-1e"), {"n_train": 7})
    save_model(path, model)
    back = load_model(path)
    assert (back.name, back.architecture, back.recipe) == ("m", "unet", model.recipe)
    assert back.info == {"n_train": 7}
    assert back.network.config == small_model.network.config
    for a, b in zip(back.network.parameters(), small_model.network.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_shipped_models_load_and_say_what_they_are():
    assert "default" in shipped_models()
    model = load_model()
    assert model.n_parameters * 4 < 20e6
    assert model.info["n_train"] == len(model.info["train_names"]) > 0
    assert not set(model.info["train_names"]) & set(model.info["validation_names"])
    assert model.info["measured"]["validation_mean_percent"] < 0.8


@pytest.mark.parametrize("damage", ["missing", "garbage", "truncated", "foreign", "name"])
def test_unusable_files_are_one_sentence(tmp_path, small_model, damage):
    path = tmp_path / "m.safetensors"
    save_model(path, small_model)
    if damage == "missing":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"not a model at all")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    name = "no-such-model" if damage == "name" else path
    with pytest.raises(InputError):
        load_model(name)


def test_weights_must_fit_their_config(tmp_path, small_model):
    """A file whose config speaks of other sizes than its weights have."""
    path = tmp_path / "m.safetensors"
    network = build("unet", small_model.network.sizes)
    network.config = UNetConfig((8, 8, 4), (1, 1, 1), (1, 1))
    save_model(path, Model("m", "unet", network, Recipe(), {}))
    with pytest.raises(InputError, match=r"has shape .* the network needs"):
        load_model(path)


def test_published_checkpoint_is_imported(tmp_path):
    """A file laid out like the published ones, in full size: x2, with optimizer state."""
    torch.manual_seed(0)
    net = ResNet(X2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    path = tmp_path / "chk.pth"
    torch.save(
        {
            "model_state_dict": net.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "scheduler_state_dict": {"last_epoch": 49},
            "epoch": 49,
        },
        path,
    )
    model = import_published(path)
    assert model.architecture == "resnet"
    assert model.n_parameters == 9_354_403
    assert model.info["epoch"] == 49
    converted = tmp_path / "chk.safetensors"
    save_model(converted, model)
    sad = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            load_model(converted).network(sad), net.eval()(sad), atol=1e-4, rtol=1e-3
        )
    assert read_metadata(converted)["recipe"].sad == "gth-szv-1e"
    with pytest.raises(InputError, match="models import"):
        load_model(path)


class _Evil:
    def __reduce__(self):
        return (print, ("arbitrary code ran",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3}, "model_state_dict"),
        ([1, 2], "model_state_dict"),
        ({"model_state_dict": {"conv1.0.weight": torch.zeros(3)}}, "conv1.0"),
        ({"model_state_dict": {"a": torch.zeros(3)}}, "lack"),
        ({"model_state_dict": _Evil()}, "read safely"),
    ],
)
def test_wrong_checkpoints_are_one_sentence(tmp_path, content, words, capsys):
    path = tmp_path / "chk.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=words):
        import_published(path)
    assert "arbitrary" not in capsys.readouterr().out


def test_garbage_is_not_a_checkpoint(tmp_path):
    path = tmp_path / "chk.pth"
    for content in (b"", b"garbage", pickle.dumps({"a": 1})[:5]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="read safely; if it is one of PyTorch, save it anew"):
            import_published(path)
    with pytest.raises(InputError, match="no such file"):
        import_published(tmp_path / "none.pth")
