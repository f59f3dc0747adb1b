"""`jointebm recipes`: lists recipes."""

from typing import Annotated

import typer

from jointebm.cli.options import Json

__all__ = ["recipes"]


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Recipe whose fields to list.", show_default=False)
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """List the recipes, or the fields of one recipe with their values and meanings."""
    from jointebm.cli.blocks.listed_recipes import list_recipes, show_recipe

    if name is None:
        list_recipes(as_json=as_json)
    else:
        show_recipe(name, as_json=as_json)
