"""`jointebm fit`: fits a model to a table."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jointebm.cli.options import (
    CellSeparator,
    DecimalMark,
    DeviceOption,
    FileEncoding,
    Json,
    Missing,
    Seed,
    Threads,
    check_only_resumes,
    given_on_the_line,
    resume_option,
    start_argument,
)

__all__ = ["fit"]

_READING = ("missing", "separator", "decimal", "encoding")
_DEFINING = ("files", "out", "kind", "assignments", "relations", *_READING, "unseen", "seed")  # fixed when a run starts
KINDS = ("numeric", "categorical", "id")


def fit(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        start_argument(
            "TABLE...", "A table: .csv, .csv.gz or .parquet; several files, or a folder of them, are one table."
        ),
    ] = None,
    *,
    resume: Annotated[Path | None, resume_option("DIR", "its newest checkpoint")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="New folder of the run; the model is in DIR/model.")
    ] = None,
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
            help="A parameter of JointEBM or of its training, such as num_visits=10. Repeatable.",
        ),
    ] = None,
    relations: Annotated[
        list[str] | None,
        typer.Option(
            "--relations",
            metavar="auto|none|TEXT",
            help="Relations between columns to keep: auto detects them (the default), none switches them off, and a text "
            "declares one, such as 'start <= end', 'total = a + b' or 'zip -> city'. Repeatable.",
        ),
    ] = None,
    missing: Missing = None,
    separator: CellSeparator = None,
    decimal: DecimalMark = None,
    encoding: FileEncoding = None,
    unseen: Annotated[
        Literal["error", "missing"],
        typer.Option("--unseen", help="How the model's commands treat categories not seen in training."),
    ] = "error",
    seed: Seed = 0,
    device: DeviceOption = "auto",
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Fit one joint density to all columns of a table, whose entries may be missing, into a new folder; or resume a fit.

    The table may be larger than memory: it is read in parts, kinds of columns and codes are those of all rows, and the
    density is trained on a random sample (--set max_rows=N, 131,072 by default). docs/scale.md says what that costs.

    The folder holds fit.json, metrics.jsonl, checkpoints/ and model/; every command takes it for its model. docs/tables.md
    says how each kind of column is treated.
    """
    from jointebm.cli.tables.fit import fit_table, parsed_fields, plan_fit, resume_fit
    from jointebm.tables.files.reading_options import ReadingOptions

    if resume is not None:
        check_only_resumes(context, _DEFINING)
        moved = device if given_on_the_line(context, ["device"]) else None
        resume_fit(resume, device=moved, as_json=as_json)
        return
    if not files or out is None:
        raise ValueError("fit: name a TABLE and a new folder, as in 'fit TABLE --out DIR', or pass --resume DIR")
    kinds: dict[str, Any] = {}
    for text in kind or []:
        column, equals, value = text.rpartition("=")
        if not equals or not column or value not in KINDS:
            raise ValueError(f"--kind {text!r}: expected COLUMN=KIND, with a kind of {', '.join(KINDS)}")
        kinds[column] = value
    if relations is not None and "none" in relations and len(relations) > 1:
        raise ValueError("--relations none: stands alone; leave out the other --relations")
    fields = parsed_fields(assignments or [])
    if "relations" in fields:
        raise ValueError("--set 'relations': has an option of its own: --relations")
    if relations is not None:
        fields["relations"] = None if relations == ["none"] else relations
    plan = plan_fit(
        files,
        kinds=kinds,
        fields=fields,
        reading=ReadingOptions().changed(missing=missing, separator=separator, decimal=decimal, encoding=encoding),
        unseen=unseen,
        seed=seed,
        device=device,
    )
    fit_table(plan, files, out, as_json=as_json)
