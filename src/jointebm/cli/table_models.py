"""Whether a folder holds the model of a table; two commands serve both kinds."""

from collections.abc import Sequence

import typer

from jointebm.cli.files import find_model
from jointebm.cli.options import given_on_the_line
from jointebm.tables.store import MAX_CONFIG
from jointebm.untrusted import read_json

__all__ = ["holds_table", "refuse_options"]


def holds_table(name: str) -> bool:
    """Whether a model is of a table.

    Args:
        name: a model folder, a run folder, or pretrained:NAME.
    """
    config = read_json(find_model(name) / "config.json", "a model configuration", max_bytes=MAX_CONFIG)
    return config.get("kind") == "table"


def refuse_options(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Raises if options were given that mean nothing for this kind of model.

    Args:
        context: of the command.
        names: of their parameters.
        reason: why, such as "MODEL is of a table".
    """
    options = given_on_the_line(context, names)
    if options:
        raise ValueError(f"{reason}, for which {', '.join(options)} means nothing; leave it out")
