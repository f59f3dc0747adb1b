"""`jointebm sample`: any variables given any others."""

from pathlib import Path
from typing import Annotated

import typer

from jointebm.cli.blocks.sample import NUM_SAMPLES, _begun, _resumed
from jointebm.cli.blocks.written_samples import print_summary
from jointebm.cli.console import Interrupted, print_json
from jointebm.cli.files import holds_table
from jointebm.cli.options import (
    Json,
    NumSweeps,
    Seed,
    Threads,
    Workers,
    begun_with,
    check_only_resumes,
    given_on_the_line,
    going_on_from,
    refuse_options,
    whole_number,
)
from jointebm.runs.interrupts import held_back

__all__ = ["sample"]

DEFINING = (
    "model",
    "given",
    "num",
    "steps",
    "thin",
    "out",
    "seed",
)  # the run; what else there is may change in between
OF_TABLES = ("num_sweeps", "workers")
NOT_OF_TABLES = ("resume", "steps", "thin", "checkpoint_every")


def sample(
    context: typer.Context,
    model: Annotated[str | None, begun_with("MODEL", "A model folder, a run folder, or pretrained:NAME.")] = None,
    *,
    resume: Annotated[Path | None, going_on_from("FILE.chains", "where its chains were")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--given",
            metavar="NAME=VALUE,...",
            help="What to hold still: digit=3, or a list, bits=[1,-1,0], or an array, image=@FILE.npz; -1 or nan within "
            "stays free. In a table: age=30, age=30..40, job={nurse,cook}. Repeatable.",
        ),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option(
            "--num",
            parser=whole_number(1),
            metavar="N",
            help=f"Samples; default is the rows of @FILE, else {NUM_SAMPLES}.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", parser=whole_number(0), metavar="T", help="Kernel steps from noise; default is the model's own."
        ),
    ] = None,
    thin: Annotated[
        int | None,
        typer.Option(
            "--thin",
            parser=whole_number(1),
            metavar="K",
            help="Keep every K-th state on the way; arrays get a leading axis for them.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write one array per block to FILE.npz, and a picture to FILE.png. A table: .csv, .csv.gz or .parquet; "
            "default is CSV on standard output.",
        ),
    ] = None,
    seed: Seed = 0,
    checkpoint_every: Annotated[
        int,
        typer.Option(
            "--checkpoint-every",
            parser=whole_number(0),
            metavar="N",
            help="With --out, write FILE.chains after every N steps; 0 only when interrupted.",
        ),
    ] = 1000,
    num_sweeps: NumSweeps = None,
    workers: Workers = 1,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Samples any variables of a model given any others, and prints a summary.

    Ctrl-C and SIGTERM finish the step. With --out, the chains then are in FILE.chains, and --resume goes on with them, bit
    for bit as if nothing had been; the exit code is 130 or 143. --num-sweeps and --workers are for tables.
    """
    if model is not None and resume is None and holds_table(model):
        refuse_options(context, NOT_OF_TABLES, f"{model} is of a table")
        from jointebm.cli.tables.questions import Asked, sample_table

        own_seed = seed if given_on_the_line(context, ["seed"]) else None
        asked = Asked.open(model, workers=workers, as_json=as_json, num_sweeps=num_sweeps, random_state=own_seed)
        sample_table(asked, out, given=given or [], num=num or NUM_SAMPLES)
        return
    refuse_options(context, OF_TABLES, f"{model or resume} is no table's model")
    with held_back() as pending:  # a step that has begun is finished, and so is a file
        if resume is not None:
            check_only_resumes(context, DEFINING)
            summary = _resumed(resume, checkpoint_every)
        elif model is None:
            raise ValueError("sample: name a MODEL, or pass --resume FILE.chains")
        else:
            summary = _begun(model, given or [], num, steps, thin, seed, out, checkpoint_every)
        interrupted = summary.pop("message", None)
        if as_json:
            print_json(summary)
        else:
            print_summary(summary)
        if interrupted is None and pending.reason is not None:  # it came when there was nothing left to interrupt
            interrupted = f"interrupted; {summary['out']} is complete" if "out" in summary else "interrupted at the end"
        if interrupted is not None:
            raise Interrupted(pending.reason or KeyboardInterrupt(), interrupted)
