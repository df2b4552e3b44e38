import pytest

from denser import InputError, Recipe


def test_round_trip_and_mismatch_names_both():
    recipe = Recipe()
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    recipe.require_same(Recipe(), "a", "b")
    with pytest.raises(InputError, match=r"sad 'gth-szv-1e' in model x, 'other' in labels y"):
        recipe.require_same(Recipe(sad="other"), "model x", "labels y")
    with pytest.raises(InputError, match=r"spacing 0\.0831 angstrom in a, 0\.1058 angstrom in b"):
        recipe.require_same(Recipe(spacing=0.2), "a", "b")
    with pytest.raises(InputError, match="keys"):
        Recipe.from_dict({"xc": "pbe"})
