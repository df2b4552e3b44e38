"""Values of the wrong type: a sentence that names the key, what is expected and what was found."""

import json
import math
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from denser import InputError
from denser.model.checkpoint import ARCHITECTURES, build
from denser.training.config import Config, from_dict, read_config
from denser.types.checked import checked

WRONG = {
    bool: (1, "yes", [True], {"a": True}, None, 0.5),
    int: ("a", 1.5, True, [1], {"a": 1}, None),
    float: ("a", True, [1.0], {"a": 1.0}, None, math.nan, math.inf, 10**400),
    str: (1, True, ["a"], {"a": "b"}, None),
    dict: (1, "a", [1], [["a", 1]], None),
    tuple[float, float]: (["a", "b"], "ab", [1.0], [1, 2, 3], [1, [2]], {"a": 1}, [True, 1], None),
    tuple[float, ...]: (["a"], 1.0, [[1.0]], {"a": 1}, [math.nan], None),
    tuple[int, ...]: (["a"], 1, [1.5], [[1]], [True], {"a": 1}, "12", None),
    tuple[str, ...]: (3, [3], ["a", 3], [["a"]], {"a": "b"}, None),
    str | tuple[str, ...]: (3, [3], [["a"]], {"a": "b"}, True, None),
    int | str | tuple[str, ...]: (0.5, [3], [["a"]], {"a": "b"}, True, None),
}


def kind(hint):
    return dict if getattr(hint, "__origin__", None) is dict else hint


def keys(cls: type, prefix: tuple[str, ...] = ()):
    """Path and type of every key of a configuration."""
    hints = get_type_hints(cls)
    for f in fields(cls):
        path = (*prefix, f.name)
        if is_dataclass(hints[f.name]):
            yield from keys(hints[f.name], path)
        else:
            yield path, hints[f.name]


KEYS = list(keys(Config))
SECTIONS = sorted({path[0] for path, _ in KEYS if len(path) > 1})


def nested(path: tuple[str, ...], value) -> dict:
    for key in reversed(path):
        value = {key: value}
    return value


@pytest.mark.parametrize(("path", "hint"), KEYS, ids=[".".join(path) for path, _ in KEYS])
def test_every_key_of_a_run(path, hint):
    for value in WRONG[kind(hint)]:
        name = re.escape(f"run.toml: {'.'.join(path)} must be ")
        with pytest.raises(InputError, match=name + ".*, found " + re.escape(repr(value)) + "$"):
            from_dict(Config, nested(path, value), "run.toml")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_of_a_run(section):
    for value in (1, "a", [1], [{"lr": 1}], None):
        with pytest.raises(InputError, match=rf"{section} is a section, write \[{section}\]"):
            from_dict(Config, {section: value}, "run.toml")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_option_of_a_network(architecture):
    for (name,), hint in keys(ARCHITECTURES[architecture][1]):
        for value in WRONG[kind(hint)]:
            with pytest.raises(
                InputError, match=f"option {name} of {architecture} must be .*found"
            ):
                build(architecture, {name: value})


def test_the_sentence():
    with pytest.raises(
        InputError, match=r"^a must be a list of 2 finite numbers, found \['x', 1\]$"
    ):
        checked(["x", 1], tuple[float, float], "a")
    words = "^a must be a whole number, a text or a list of texts, found 0.5$"
    with pytest.raises(InputError, match=words):
        checked(0.5, int | str | tuple[str, ...], "a")


def test_what_is_converted():
    assert checked([1, 2.5], tuple[float, float], "a") == (1.0, 2.5)
    assert checked("x", tuple[str, ...], "a") == ("x",)
    assert checked([], tuple[str, ...], "a") == ()
    assert isinstance(checked(3, float, "a"), float)
    assert checked({"b": [1]}, dict[str, object], "a") == {"b": [1]}


def test_settings_from_the_command_line(tmp_path: Path):
    path = tmp_path / "run.toml"
    path.write_text("[schedule]\nsteps = 5\n")
    for setting, words in (
        ('optimizer.betas=["a","b"]', r"optimizer\.betas must be a list of 2 finite numbers"),
        ("seed.x=1", "seed must be a whole number, found {'x': 1}"),
        ("optimizer.lr=nan", r"optimizer\.lr must be a finite number, found nan"),
    ):
        with pytest.raises(InputError, match=words):
            read_config(path, (setting,))
    with pytest.raises(InputError, match=r"absent\.toml: no such file"):
        read_config(tmp_path / "absent.toml")
    with pytest.raises(InputError, match=r"a\.json must be a table, found"):
        from_dict(Config, json.loads("[1]"), "a.json")
