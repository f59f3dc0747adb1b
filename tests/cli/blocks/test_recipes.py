"""`jointebm recipes`: every recipe and every field."""

import json

from jointebm import recipes
from support.command_line import run


def test_recipes_lists_every_recipe_with_its_summary() -> None:
    expected = [make() for make in recipes.RECIPES.values()]
    listed = run("recipes", "--json").json["recipes"]
    assert listed == [{"name": r.name, "summary": r.summary, "data": r.data} for r in expected]
    assert all(recipe.name in run("recipes").out for recipe in expected)


def test_recipes_name_gives_every_field_with_value_and_meaning() -> None:
    recipe = recipes.find("toy_paper")
    shown = run("recipes", "toy_paper", "--json").json
    assert (shown["name"], shown["data"]) == ("toy_paper", "toy")
    expected = {
        field.path: {"value": json.loads(json.dumps(field.value)), "meaning": field.description}
        for field in recipes.recipe_fields(recipe)
    }
    assert shown["fields"] == expected and all(field["meaning"] for field in shown["fields"].values())
    table = run("recipes", "toy_paper").out
    assert "5500" in table and "[256, 256, 256]" in table and "parameter updates" in table
