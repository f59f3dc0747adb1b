"""`jointebm score`: how likely rows of a table are, and how well their entries go together."""

from typing import Annotated

import typer

from jointebm.cli.options import (
    Json,
    Missing,
    ModelName,
    NumDraws,
    NumSweeps,
    OtherSeed,
    OutTable,
    TableFile,
    Threads,
    Unseen,
    Workers,
)

__all__ = ["score"]


def score(
    model: ModelName,
    file: TableFile,
    *,
    out: OutTable = None,
    conditional: Annotated[
        bool,
        typer.Option("--conditional", help="Also log p(entry | the others of its row) of every column, in its units."),
    ] = False,
    missing: Missing = None,
    unseen: Unseen = None,
    num_draws: NumDraws = None,
    num_sweeps: NumSweeps = None,
    seed: OtherSeed = None,
    workers: Workers = 1,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Scores the rows of a table: log-density, and dependence, which is low where entries do not belong together.

    Both in nats, up to one constant for all rows.
    """
    from jointebm.cli.tables.questions import Asked, score_table
    from jointebm.tables.files.cells import missing_words

    asked = Asked.open(
        model,
        workers=workers,
        as_json=as_json,
        unseen=unseen,
        num_draws=num_draws,
        num_sweeps=num_sweeps,
        random_state=seed,
    )
    score_table(asked, file, out, conditional=conditional, missing=missing_words(missing))
