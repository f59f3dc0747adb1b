"""`jointebm recipes`: what can be trained, and with which numbers."""

import json
from typing import Annotated, Any

import typer

from jointebm.cli.console import print_json, print_table
from jointebm.cli.options import Json
from jointebm.recipes import Recipe, recipe_fields
from jointebm.recipes.catalogue import RECIPES, find

__all__ = ["recipes"]


def recipes(
    name: Annotated[str | None, typer.Argument(help="Name of a recipe.", show_default=False)] = None,
    *,
    as_json: Json = False,
) -> None:
    """Lists the recipes, or every field of one of them, with its value and meaning."""
    if name is None:
        _list_recipes(as_json)
    else:
        _show_recipe(find(name), as_json)


def _list_recipes(as_json: bool) -> None:
    rows = [(recipe.name, recipe.summary, recipe.data) for recipe in (make() for make in RECIPES.values())]
    if as_json:
        print_json({"recipes": [dict(zip(("name", "summary", "data"), row, strict=True)) for row in rows]})
        return
    print_table("recipes", ("name", "what it is", "data"), rows, num_text=3)


def _show_recipe(recipe: Recipe, as_json: bool) -> None:
    fields = recipe_fields(recipe)
    if as_json:
        values = {field.path: {"value": field.value, "meaning": field.description} for field in fields}
        print_json({"name": recipe.name, "summary": recipe.summary, "data": recipe.data, "fields": values})
        return
    rows = [(field.path, _written(field.value), field.description) for field in fields]
    print_table(
        f"{recipe.name}: {recipe.summary}; data: {recipe.data}",
        ("field", "value", "meaning"),
        rows,
        num_text=3,
        caption=f"change one with: jointebm train {recipe.name} --set KEY=VALUE; the last part of a field's name is enough",
    )


def _written(value: Any) -> str:
    """A value as `--set` reads it."""
    return value if isinstance(value, str) else json.dumps(value)
