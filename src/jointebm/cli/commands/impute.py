"""`jointebm impute`: a table with its missing entries filled."""

from typing import Annotated

from jointebm.cli.options import (
    Json,
    Missing,
    ModelName,
    NumSweeps,
    OtherSeed,
    OutTable,
    TableFile,
    Threads,
    Unseen,
    Workers,
    number_option,
)

__all__ = ["impute"]


def impute(
    model: ModelName,
    file: TableFile,
    *,
    out: OutTable = None,
    num: Annotated[
        int,
        number_option("--num", 1, 10_000, "Draws: N tables, FILE-1 to FILE-N, whose spread is what is unknown."),
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
    from jointebm.cli.tables.questions import Asked, impute_table
    from jointebm.tables.files.cells import missing_words

    asked = Asked.open(model, workers=workers, as_json=as_json, unseen=unseen, num_sweeps=num_sweeps, random_state=seed)
    impute_table(asked, file, out, num=num, missing=missing_words(missing))
