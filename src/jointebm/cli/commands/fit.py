"""`jointebm fit`: a table becomes the folder of a model."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jointebm.cli.options import Json, Missing, Seed, TableFile, Threads

__all__ = ["fit"]

KINDS = ("numeric", "categorical", "id")


def fit(
    file: TableFile,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="MODEL", help="New folder of the model.", show_default=False)],
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="COLUMN=KIND",
            help="Overrules what a column's content suggests: numeric, categorical or id. Repeatable.",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A parameter of JointEBM or of its training, such as num_visits=10 or objective=pcd. Repeatable.",
        ),
    ] = None,
    missing: Missing = None,
    unseen: Annotated[
        Literal["error", "missing"],
        typer.Option("--unseen", help="What a category that was not there in training is to the model's commands."),
    ] = "error",
    seed: Seed = 0,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Fits one joint density to all columns of a table, holes included, and writes it to a new folder.

    docs/tables.md says how each kind of column is treated.
    """
    from jointebm.cli.tables.fit import fit_table, parsed_fields
    from jointebm.tables.files.missing_words import missing_words

    kinds: dict[str, Any] = {}
    for text in kind or []:
        column, separator, value = text.rpartition("=")
        if not separator or not column or value not in KINDS:
            raise ValueError(f"--kind {text!r}: expected COLUMN=KIND, with a kind of {', '.join(KINDS)}")
        kinds[column] = value
    fit_table(
        file,
        out,
        kinds=kinds,
        fields=parsed_fields(assignments or []),
        missing=missing_words(missing),
        unseen=unseen,
        random_state=seed,
        as_json=as_json,
    )
