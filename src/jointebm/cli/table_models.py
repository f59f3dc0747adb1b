"""Whether a folder holds the model of a table; two commands serve both kinds."""

from collections.abc import Sequence

import typer

from jointebm.cli.files import find_model
from jointebm.untrusted import read_json

__all__ = ["given_on_the_line", "holds_table", "refuse_options"]

MAX_CONFIG = 1 << 23  # bytes, as in `jointebm.tables.store`, which needs the extra


def holds_table(name: str) -> bool:
    """Whether a model is of a table.

    Args:
        name: a model folder, a run folder, or pretrained:NAME.
    """
    config = read_json(find_model(name) / "config.json", "a model configuration", max_bytes=MAX_CONFIG)
    return config.get("kind") == "table"


def given_on_the_line(context: typer.Context, name: str) -> bool:
    """Whether an option was given, and not left at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_options(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Raises if options were given that mean nothing for this kind of model.

    Args:
        context: of the command.
        names: of their parameters.
        reason: why, such as "MODEL is of a table".
    """
    given = [name for name in names if given_on_the_line(context, name)]
    options = [parameter.opts[0] for parameter in context.command.params if parameter.name in given]
    if options:
        raise ValueError(f"{reason}, for which {', '.join(options)} means nothing; leave it out")
