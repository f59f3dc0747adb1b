"""`jointebm sample`: any variables given any others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from jointebm.cli.console import Interrupted, named_rates, print_json, print_table, say, write_rates
from jointebm.cli.files import check_new, new_file, open_model
from jointebm.cli.given import Given, parse_given
from jointebm.cli.options import Json, ModelName, Seed, Threads, whole_number
from jointebm.cli.progress import StepProgress
from jointebm.conditions import variable_names
from jointebm.interrupts import Pending, held_back
from jointebm.models import Model
from jointebm.sampling import Samples, sample_trajectory
from jointebm.sampling import sample as sample_model

__all__ = ["sample"]

NUM_SAMPLES = 64


def sample(
    model: ModelName,
    *,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--given",
            metavar="BLOCK=VALUE,...",
            help="What to hold still: digit=3, or a list, bits=[1,-1,0], or an array, image=@FILE.npz; -1 or nan within "
            "stays free. Repeatable.",
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
        typer.Option("--out", metavar="FILE.npz", help="Write one array per block there, and a picture to FILE.png."),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Samples any variables of a model given any others, and prints a summary.

    Ctrl-C and SIGTERM keep what there is: it is written, and the exit code is 130 or 143.
    """
    path, opened = open_model(model)
    if out is not None:
        check_new(out, ".npz")
        check_new(out.with_suffix(".png"))
    held = parse_given(given or [], opened.space)
    num_steps = opened.config.num_steps if steps is None else steps
    if thin is not None and thin > num_steps:
        raise ValueError(f"--thin {thin}: keeps none of {num_steps} steps; choose at most that, or more --steps")
    if None not in (num, held.num_rows) and num != held.num_rows:
        raise ValueError(f"--num {num}: --given holds {held.num_rows} rows; leave --num out, or give one row for all")
    with held_back() as pending:  # a step that has begun is finished
        samples, kept = _run(opened, held, num or held.num_rows or NUM_SAMPLES, num_steps, thin, seed, pending)
    summary = {"model": str(path), **_summary(opened, samples)}
    if out is not None:
        summary |= {"out": str(out), "picture": _write(opened, samples, kept, out, ", ".join(given or []))}
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)
    if samples.interrupted:
        raise Interrupted(
            pending.reason or KeyboardInterrupt(),
            f"interrupted after {samples.num_steps} of {num_steps} steps; "
            + ("nothing was to be written" if out is None else f"{out} holds the chains as they were"),
        )


def _run(
    model: Model, given: Given, num: int, num_steps: int, thin: int | None, seed: int, pending: Pending
) -> tuple[Samples, Mapping[str, Tensor]]:
    """Where the chains ended, and what is to be written of them."""
    generator = torch.Generator().manual_seed(seed)
    with StepProgress(f"sampling {model.config.name}", num_steps) as progress:

        def show(num_done: int) -> None:
            progress.show(num_done)
            pending.check()

        if thin is None:
            samples = sample_model(
                model,
                model.space,
                model.kernel,
                num_chains=num,
                num_steps=num_steps,
                given=given.values,
                init=model.noise,
                generator=generator,
                progress=show,
            )
            return samples, samples.values
        trajectory = sample_trajectory(
            model,
            model.space,
            model.kernel,
            num_chains=num,
            num_steps=num_steps,
            thin=thin,
            given=given.values,
            init=model.noise,
            generator=generator,
            progress=show,
        )
        return trajectory.samples, trajectory.values


def _summary(model: Model, samples: Samples) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "num": len(samples.chain.f),
        "num_steps": samples.num_steps,
        "interrupted": samples.interrupted,
        "mean_f": float(samples.chain.f.double().mean()),
        "accept_rate": named_rates(model.kernel, samples.accept_rate) if samples.accept_rate else {},
        "counts": _counts(model, samples.values),
    }


def _counts(model: Model, values: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """How often each label of each discrete variable occurs."""
    counts = {}
    for name in model.space.discrete:
        columns = values[name].reshape(-1, model.space[name].num_variables).T
        for variable, column, num in zip(
            variable_names(model.space, name), columns, model.space.num_classes(name), strict=True
        ):
            counts[variable] = column.bincount(minlength=num).tolist()
    return counts


def _write(model: Model, samples: Samples, kept: Mapping[str, Tensor], out: Path, title: str) -> str | None:
    """Writes the arrays and, if the samples can be drawn, a picture; returns its name."""
    with new_file(out) as file:
        np.savez(file, **{name: value.cpu().numpy() for name, value in kept.items()})  # type: ignore[arg-type]
    try:
        from jointebm.plots import sample_figure, save_figure
    except ImportError as error:
        say(f"no picture: {error}")
        return None
    figure = sample_figure(model, samples.values, title or "unconditional")
    if figure is None:
        say("no picture: no block is an image, (height, width), or a point in the plane, (2,)")
        return None
    picture = out.with_suffix(".png")
    with new_file(picture) as file:
        save_figure(figure, file)
    return str(picture)


def _print_summary(summary: Mapping[str, Any]) -> None:
    rates = write_rates(summary["accept_rate"]) or "none"
    rows = [[variable, " ".join(map(str, counts))] for variable, counts in summary["counts"].items()]
    print_table(
        f"{summary['model']}: {summary['num']} samples after {summary['num_steps']} steps",
        ["label", "how often each class occurs, from 0"],
        rows,
        num_text=2,
        caption=f"mean f {summary['mean_f']:.3f} nats; acceptance: {rates}",
    )
    for key in ("out", "picture"):
        if summary.get(key):
            typer.echo(summary[key])
