"""`jointebm impute`: fills the missing entries of a table."""

from typing import Annotated, Literal

import typer

from jointebm.cli.options import (
    CellSeparator,
    DecimalMark,
    DeviceOption,
    FileEncoding,
    Json,
    Missing,
    ModelName,
    NumSweeps,
    OtherSeed,
    OutTable,
    TableFile,
    TableGiven,
    TablePart,
    Threads,
    UnseenCategories,
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
        number_option(
            "--num", 1, 10_000, "Number of completed tables, FILE-1 to FILE-N; their spread shows the uncertainty."
        ),
    ] = 1,
    uncertainty: Annotated[
        Literal["draws", "model"],
        typer.Option(
            help="What the spread holds: that of draws from one fit, or also that of the fit, for which each table comes "
            "from a refit (--set num_members=N of 'fit')."
        ),
    ] = "draws",
    id_column: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="Column whose ids decide the draws of rows (default: their numbers), so that these do not depend on the "
            "order of rows.",
        ),
    ] = None,
    given: TableGiven = None,
    missing: Missing = None,
    separator: CellSeparator = None,
    decimal: DecimalMark = None,
    encoding: FileEncoding = None,
    unseen: UnseenCategories = None,
    num_sweeps: NumSweeps = None,
    seed: OtherSeed = None,
    part: TablePart = None,
    workers: Workers = 1,
    device: DeviceOption = "auto",
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Fill the missing entries of a table with joint draws given the rest of their row.

    Each entry is a random draw, not a best guess. Observed cells stay as they are, to the letter. The file is read in
    parts, so it may be larger than memory. Draws do not depend on the parts nor on --workers.
    """
    from jointebm.cli.tables.questions import Asked, impute_table

    asked = Asked.open(
        model,
        part=part,
        workers=workers,
        device=device,
        as_json=as_json,
        reading={"missing": missing, "separator": separator, "decimal": decimal, "encoding": encoding},
        changes={"unseen": unseen, "num_sweeps": num_sweeps, "random_state": seed},
    )
    impute_table(asked, file, out, given=given or [], num=num, uncertainty=uncertainty, id_column=id_column)
