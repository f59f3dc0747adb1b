"""`jointebm sample`: any variables given any others."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer

from jointebm.chains import SamplingConfig, read_chains, restore_chains, weights_digest, write_chains
from jointebm.checkpoint import flush_folder, lock
from jointebm.cli.beginnings import begun_with, going_on_from
from jointebm.cli.console import Interrupted, print_json, say
from jointebm.cli.files import check_new, holds_table, open_model
from jointebm.cli.given import parse_given
from jointebm.cli.options import (
    Json,
    Seed,
    Threads,
    check_only_resumes,
    given_on_the_line,
    refuse_options,
    whole_number,
)
from jointebm.cli.progress import StepProgress
from jointebm.cli.samples import print_summary, summary_of, write_samples
from jointebm.cli.table_options import NumSweeps, Workers
from jointebm.interrupts import Pending, held_back
from jointebm.models import Model
from jointebm.sampling import Sampling, start

__all__ = ["sample"]

NUM_SAMPLES = 64
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
        from jointebm.cli.tables.asking import Asked, sample_table

        own_seed = seed if given_on_the_line(context, ["seed"]) else None
        asked = Asked.open(model, workers=workers, as_json=as_json, num_sweeps=num_sweeps, random_state=own_seed)
        sample_table(asked, out, given=given or [], num=num or NUM_SAMPLES)
        return
    refuse_options(context, OF_TABLES, f"{model or resume} is no table's model")
    with held_back() as pending:  # a step that has begun is finished, and so is a file
        if resume is not None:
            check_only_resumes(context, DEFINING)
            summary = _resumed(resume, checkpoint_every, pending)
        elif model is None:
            raise ValueError("sample: name a MODEL, or pass --resume FILE.chains")
        else:
            summary = _begun(model, given or [], num, steps, thin, seed, out, checkpoint_every, pending)
        interrupted = summary.pop("message", None)
        if as_json:
            print_json(summary)
        else:
            print_summary(summary)
        if interrupted is None and pending.reason is not None:  # it came when there was nothing left to interrupt
            interrupted = f"interrupted; {summary['out']} is complete" if "out" in summary else "interrupted at the end"
        if interrupted is not None:
            raise Interrupted(pending.reason or KeyboardInterrupt(), interrupted)


def _begun(
    name: str,
    given: list[str],
    num: int | None,
    steps: int | None,
    thin: int | None,
    seed: int,
    out: Path | None,
    checkpoint_every: int,
    pending: Pending,
) -> dict[str, Any]:
    """Samples from noise; returns what is to be printed."""
    path, model = open_model(name)
    if out is not None:
        check_new(out, ".npz")
        check_new(out.with_suffix(".png"))
        _check_no_chains(_chains_of(out))
    held = parse_given(given, model.space)
    num_steps = model.config.num_steps if steps is None else steps
    if thin is not None and thin > num_steps:
        raise ValueError(f"--thin {thin}: keeps none of {num_steps} steps; choose at most that, or more --steps")
    if None not in (num, held.num_rows) and num != held.num_rows:
        raise ValueError(f"--num {num}: --given holds {held.num_rows} rows; leave --num out, or give one row for all")
    sampling = start(
        model,
        model.space,
        model.kernel,
        num_chains=num or held.num_rows or NUM_SAMPLES,
        given=held.values,
        init=model.noise,
        generator=torch.Generator().manual_seed(seed),
        thin=thin,
    )
    if out is None:
        interrupted = _run(sampling, num_steps, lambda: None, 0, pending)
        summary = {"model": str(path), **summary_of(model, sampling.samples(interrupted))}
        return summary | (_interruption(sampling, num_steps, "nothing was to be written") if interrupted else {})
    config = SamplingConfig(
        model=str(path.absolute()),
        weights=weights_digest(path),
        given=tuple(given),
        num=len(sampling.chain.f),
        steps=num_steps,
        thin=thin,
        seed=seed,
    )
    with _written(_chains_of(out), sampling, config) as folder:
        result = _to_file(model, sampling, config, _chains_of(out), folder.save, checkpoint_every, pending)
        if "message" not in result:
            folder.remove()
        return {"model": str(path), **result}


def _resumed(folder: Path, checkpoint_every: int, pending: Pending) -> dict[str, Any]:
    """Goes on with chains; returns what is to be printed."""
    found = read_chains(folder)
    out = _out_of(folder)
    with lock(folder / "lock"):
        found = read_chains(folder)  # another process may have gone on with them before
        for line in found.damaged:
            say(f"{line}; going on from the checkpoint before it")
        check_new(out)
        check_new(out.with_suffix(".png"))
        path, model = open_model(found.config.model)
        if weights_digest(path) != found.config.weights:
            raise ValueError(
                f"{path / 'model.safetensors'}: is not what the chains in {folder} were run with: its SHA-256 differs; put "
                "the old weights back, or remove the folder and sample anew"
            )
        sampling = restore_chains(found, model)

        def save() -> None:
            write_chains(folder, sampling, found.config)

        result = _to_file(model, sampling, found.config, folder, save, checkpoint_every, pending)
        if "message" not in result:
            shutil.rmtree(folder)
        return {"model": str(path), **result}


def _to_file(
    model: Model,
    sampling: Sampling,
    config: SamplingConfig,
    folder: Path,
    save: Callable[[], None],
    checkpoint_every: int,
    pending: Pending,
) -> dict[str, Any]:
    """Runs the chains to their end and writes the file and the picture, or writes the chains if it is interrupted."""
    if _run(sampling, config.steps, save, checkpoint_every, pending):
        save()
        way_on = f"go on with: jointebm sample --resume {folder} --threads {torch.get_num_threads()}"
        return {**summary_of(model, sampling.samples(True)), **_interruption(sampling, config.steps, way_on)}
    trajectory = sampling.trajectory(False)
    samples = trajectory.samples
    kept = samples.values if config.thin is None else trajectory.values
    out = _out_of(folder)
    picture = write_samples(model, samples, kept, out, ", ".join(config.given))
    return {**summary_of(model, samples), "out": str(out), "picture": picture}


def _run(sampling: Sampling, num_steps: int, save: Callable[[], None], checkpoint_every: int, pending: Pending) -> bool:
    """Runs the chains; whether a signal came before their end."""
    assert isinstance(sampling.log_density, Model)
    with StepProgress(f"sampling {sampling.log_density.config.name}", num_steps) as progress:

        def show(num_done: int) -> None:
            if checkpoint_every and num_done % checkpoint_every == 0 and num_done < num_steps:
                save()
            progress.show(num_done)
            pending.check()

        return sampling.run(num_steps, show)


def _interruption(sampling: Sampling, num_steps: int, way_on: str) -> dict[str, str]:
    return {"message": f"interrupted after {len(sampling.accept_probs)} of {num_steps} steps; {way_on}"}


def _chains_of(out: Path) -> Path:
    return out.with_suffix(".chains")


def _out_of(folder: Path) -> Path:
    """The file lies beside its chains, wherever they are; what a folder says of other places is not written to."""
    return folder.with_suffix(".npz")


def _check_no_chains(folder: Path) -> None:
    if folder.exists():
        raise FileExistsError(
            f"{folder}: exists; go on with it: jointebm sample --resume {folder}, or remove it, or choose another --out"
        )


class _Folder(NamedTuple):
    """How the chains of this process are written, and how they are removed once the file is there."""

    save: Callable[[], None]
    remove: Callable[[], None]


@contextmanager
def _written(folder: Path, sampling: Sampling, config: SamplingConfig) -> Iterator[_Folder]:
    """A folder of chains that is made when they are first saved, and locked until the block ends; no other is touched."""
    with ExitStack() as stack:
        is_mine = False

        def save() -> None:
            nonlocal is_mine
            if not is_mine:
                _check_no_chains(folder)
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
                flush_folder(folder.parent)
                stack.enter_context(lock(folder / "lock"))
                is_mine = True
            write_chains(folder, sampling, config)

        def remove() -> None:
            if is_mine:
                shutil.rmtree(folder)

        yield _Folder(save, remove)
