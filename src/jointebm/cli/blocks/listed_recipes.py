"""Prints recipes: all of them, or the fields of one."""

import json

from jointebm.cli.console import print_json, print_table
from jointebm.recipes.catalogue import RECIPES, find
from jointebm.recipes.recipe import recipe_fields

__all__ = ["list_recipes", "show_recipe"]


def list_recipes(*, as_json: bool) -> None:
    """Prints name, summary and data of every recipe."""
    rows = [(recipe.name, recipe.summary, recipe.data) for recipe in (make() for make in RECIPES.values())]
    if as_json:
        print_json({"recipes": [dict(zip(("name", "summary", "data"), row, strict=True)) for row in rows]})
        return
    print_table("recipes", ("name", "what it is", "data"), rows, num_text=3)


def show_recipe(name: str, *, as_json: bool) -> None:
    """Prints every field of a recipe with its value and meaning."""
    recipe = find(name)
    fields = recipe_fields(recipe)
    if as_json:
        values = {field.path: {"value": field.value, "meaning": field.description} for field in fields}
        print_json({"name": recipe.name, "summary": recipe.summary, "data": recipe.data, "fields": values})
        return
    texts = [
        field.value if isinstance(field.value, str) else json.dumps(field.value) for field in fields
    ]  # as for --set
    rows = [(field.path, text, field.description) for field, text in zip(fields, texts, strict=True)]
    print_table(
        f"{recipe.name}: {recipe.summary}; data: {recipe.data}",
        ("field", "value", "meaning"),
        rows,
        num_text=3,
        caption=f"change one with: jointebm train {recipe.name} --set KEY=VALUE; the last part of a field's name is enough",
    )
