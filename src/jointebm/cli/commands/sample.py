"""`jointebm sample`: samples from a model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jointebm.cli.options import (
    NUM_SAMPLES,
    DeviceOption,
    Json,
    NumSweeps,
    Seed,
    Threads,
    Workers,
    check_only_resumes,
    given_on_the_line,
    number_option,
    refuse_options,
    resume_option,
    start_argument,
)

__all__ = ["sample"]

_DEFINING = ("model", "given", "num", "steps", "thin", "out", "seed")  # fixed when a run starts
_TABLE_ONLY = ("missingness", "num_sweeps", "workers")
_BLOCKS_ONLY = ("resume", "steps", "thin", "checkpoint_every", "diagnostics")


def sample(
    context: typer.Context,
    model: Annotated[str | None, start_argument("MODEL", "A model folder, a run folder, or pretrained:NAME.")] = None,
    *,
    resume: Annotated[Path | None, resume_option("FILE.chains", "the folder of its chains")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--given",
            metavar="NAME=VALUE,...",
            help="Values to clamp. Columns: age=30, age=30..40, 'job={nurse,cook}', age=missing. Blocks: digit=3, "
            "bits=[1,-1,0], image=@FILE.npz; -1 and nan stay free. Repeatable.",
        ),
    ] = None,
    num: Annotated[
        int | None,
        number_option("--num", 1, 10**9, f"Number of samples (default: the rows of @FILE.npz, or {NUM_SAMPLES})."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="New file to write. Model of a table: .csv, .csv.gz or .parquet (default: CSV on standard output). Model "
            "of blocks: FILE.npz with an array per block, and a picture in FILE.png.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        number_option("--steps", 0, 10**9, "Kernel steps from noise (default: as in the model).", metavar="T"),
    ] = None,
    thin: Annotated[
        int | None,
        number_option(
            "--thin", 1, 10**9, "Keep every K-th state of the chains; arrays get a leading axis.", metavar="K"
        ),
    ] = None,
    checkpoint_every: Annotated[
        int,
        number_option("--checkpoint-every", 0, 10**9, "With --out, save the chains every N steps; 0: on interruption."),
    ] = 1000,
    diagnostics: Annotated[
        bool,
        typer.Option(
            "--diagnostics",
            help="Report R-hat, effective draws and standard errors of f and every variable, from the kept states; needs "
            "--thin and at least eight of them.",
        ),
    ] = False,
    missingness: Annotated[
        Literal["ignored", "model"],
        typer.Option(
            "--missingness",
            metavar="ignored|model",
            help="model: entries are missing as in the training table; needs a model fitted with --set missingness=model.",
        ),
    ] = "ignored",
    num_sweeps: NumSweeps = None,
    workers: Workers = 1,
    seed: Seed = 0,
    device: DeviceOption = "auto",
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Sample any variables of a model given any others.

    A model of blocks runs chains and prints a summary. Ctrl-C and SIGTERM stop them after the current step; with --out,
    --resume FILE.chains then continues bit for bit. --resume, --steps, --thin, --checkpoint-every and --diagnostics are
    for models of blocks; --missingness, --num-sweeps and --workers are for models of tables.
    """
    from jointebm.cli.blocks.models import holds_table

    if model is not None and resume is None and holds_table(model):
        refuse_options(context, _BLOCKS_ONLY, f"{model} is a model of a table")
        from jointebm.cli.tables.questions import Asked, sample_table

        own_seed = seed if given_on_the_line(context, ["seed"]) else None
        changes = {"num_sweeps": num_sweeps, "random_state": own_seed}
        asked = Asked.open(model, workers=workers, device=device, as_json=as_json, changes=changes)
        sample_table(asked, out, given=given or [], num=num or NUM_SAMPLES, missingness=missingness)
        return
    refuse_options(context, _TABLE_ONLY, f"{model or resume} is a model of blocks")
    from jointebm.cli.blocks.sample_run import Draws, resume_samples, start_samples

    if resume is not None:
        check_only_resumes(context, _DEFINING)
        resume_samples(resume, device, checkpoint_every=checkpoint_every, diagnostics=diagnostics, as_json=as_json)
    elif model is None:
        raise ValueError("sample: name a MODEL, or pass --resume FILE.chains")
    else:
        draws = Draws(given=tuple(given or ()), num=num, steps=steps, thin=thin, seed=seed)
        start_samples(
            model, draws, out, device, checkpoint_every=checkpoint_every, diagnostics=diagnostics, as_json=as_json
        )
