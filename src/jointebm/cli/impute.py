"""`jointebm impute`: a table with its missing entries filled."""

from typing import Annotated

import typer

from jointebm.cli.options import Json, ModelName, Threads, whole_number
from jointebm.cli.table_options import Missing, NumSweeps, OtherSeed, OutTable, TableFile, Unseen, Workers

__all__ = ["impute"]


def impute(
    model: ModelName,
    file: TableFile,
    *,
    out: OutTable = None,
    num: Annotated[
        int,
        typer.Option(
            "--num",
            parser=whole_number(1, 10_000),
            metavar="N",
            help="Draws: N tables, FILE-1 to FILE-N, whose spread is what is unknown.",
        ),
    ] = 1,
    missing: Missing = None,
    unseen: Unseen = None,
    num_sweeps: NumSweeps = None,
    seed: OtherSeed = None,
    workers: Workers = 1,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Fills the missing entries of a table with joint draws given the rest of their row.

    A draw, not a best guess. Observed cells stay as they are, to the letter. Rows go in parts through memory.
    """
    from jointebm.cli.tables.asking import Asked
    from jointebm.cli.tables.questions import impute_table

    asked = Asked.open(model, workers=workers, unseen=unseen, num_sweeps=num_sweeps, random_state=seed)
    impute_table(asked, file, out, num=num, missing=frozenset(missing or ()), as_json=as_json)
