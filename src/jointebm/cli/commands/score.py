"""`jointebm score`: scores the rows of a table."""

from typing import Annotated

import typer

from jointebm.cli.options import (
    CellSeparator,
    DecimalMark,
    DeviceOption,
    FileEncoding,
    Json,
    Missing,
    ModelName,
    NumDraws,
    NumSweeps,
    OtherSeed,
    OutTable,
    TableFile,
    TableGiven,
    TablePart,
    Threads,
    UnseenCategories,
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
        typer.Option("--conditional", help="Also write log p(entry | rest of its row) for every column."),
    ] = False,
    given: TableGiven = None,
    missing: Missing = None,
    separator: CellSeparator = None,
    decimal: DecimalMark = None,
    encoding: FileEncoding = None,
    unseen: UnseenCategories = None,
    num_draws: NumDraws = None,
    num_sweeps: NumSweeps = None,
    seed: OtherSeed = None,
    part: TablePart = None,
    workers: Workers = 1,
    device: DeviceOption = "auto",
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Score the rows of a table by log-density and dependence.

    The dependence of a row is low where its entries are common alone but not together. Both columns are in nats, up to a
    constant that is the same for all rows. With --given, the log-density is that of the observed entries and of the
    evidence; the dependence is that of the observed entries.
    """
    from jointebm.cli.tables.questions import Asked, score_table

    asked = Asked.open(
        model,
        part=part,
        workers=workers,
        device=device,
        as_json=as_json,
        reading={"missing": missing, "separator": separator, "decimal": decimal, "encoding": encoding},
        changes={"unseen": unseen, "num_draws": num_draws, "num_sweeps": num_sweeps, "random_state": seed},
    )
    score_table(asked, file, out, given=given or [], conditional=conditional)
