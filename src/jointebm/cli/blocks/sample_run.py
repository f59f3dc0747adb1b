"""Samples from a model of blocks, with chains on disk from which an interrupted run resumes."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jointebm.cli.blocks.given import parse_given
from jointebm.cli.blocks.models import open_model, shown_model
from jointebm.cli.blocks.written_samples import convergence_summary, print_summary, summary_of, write_samples
from jointebm.cli.console import Interrupted, print_json, say
from jointebm.cli.options import NUM_SAMPLES
from jointebm.cli.progress import StepProgress
from jointebm.inference.chain_starts import chain_starts
from jointebm.inference.model import Model
from jointebm.randomness.device_names import DeviceName
from jointebm.runs.interrupts import Pending, held_back
from jointebm.runs.sampling_run import (
    SamplingConfig,
    read_chains,
    restore_chains,
    run_chains,
    weights_digest,
    write_chains,
)
from jointebm.sampling.rank_diagnostics import MIN_STATES
from jointebm.sampling.sample import SamplingState, begin_sampling
from jointebm.storage.atomic import check_new, lock, make_folder

__all__ = ["Draws", "resume_samples", "start_samples"]


class Draws(NamedTuple):
    """Samples to draw from a model."""

    given: tuple[str, ...]  # clamped values, in the grammar of `--given`
    num: int | None  # of chains; None is the number of given rows, or `NUM_SAMPLES`
    steps: int | None  # of the kernel; None is the model's own number
    thin: int | None  # keep every `thin`-th state; None keeps the last only
    seed: int


def start_samples(
    name: str,
    draws: Draws,
    out: Path | None,
    device: DeviceName,
    *,
    checkpoint_every: int,
    diagnostics: bool,
    as_json: bool,
) -> None:
    """Samples from noise, writes the file and prints a summary."""
    with held_back() as pending:  # a step that has begun is finished, and so is a file
        _report(_start(name, draws, out, device, checkpoint_every, diagnostics), pending, as_json)


def resume_samples(
    folder: Path, device: DeviceName, *, checkpoint_every: int, diagnostics: bool, as_json: bool
) -> None:
    """Resumes interrupted chains, writes the file and prints a summary."""
    with held_back() as pending:
        _report(_resume(folder, device, checkpoint_every, diagnostics), pending, as_json)


def _report(summary: dict[str, Any], pending: Pending, as_json: bool) -> None:
    interrupted = summary.pop("message", None)
    if as_json:
        print_json(summary)
    else:
        print_summary(summary)
    if interrupted is None and pending.reason is not None:  # the signal came after the last step
        interrupted = f"interrupted; {summary['out']} is complete" if "out" in summary else "interrupted at the end"
    if interrupted is not None:
        raise Interrupted(pending.reason or KeyboardInterrupt(), interrupted)


def _start(
    name: str, draws: Draws, out: Path | None, device: DeviceName, checkpoint_every: int, diagnostics: bool
) -> dict[str, Any]:
    """Samples from noise; returns the summary."""
    path, model = open_model(name, device)
    if out is not None:
        check_new(out, ".npz")
        check_new(out.with_suffix(".png"))
        _check_no_chains(out.with_suffix(".chains"))
    held = parse_given(draws.given, model.space)
    num, thin = draws.num, draws.thin
    num_steps = model.config.num_steps if draws.steps is None else draws.steps
    if thin is not None and thin > num_steps:
        raise ValueError(f"--thin {thin}: keeps none of {num_steps} steps; choose at most that, or more --steps")
    _check_diagnosable(thin, num_steps, diagnostics)
    if None not in (num, held.num_rows) and num != held.num_rows:
        raise ValueError(f"--num {num}: --given holds {held.num_rows} rows; leave --num out, or give one row for all")
    num_chains = num or held.num_rows or NUM_SAMPLES
    generator = torch.Generator(model.device).manual_seed(draws.seed)
    sampling = begin_sampling(
        model,
        model.space,
        model.kernel,
        num_chains=num_chains,
        given=held.values,
        init=chain_starts(model, num_chains, held.values, generator),
        generator=generator,
        thin=thin,
    )
    if out is None:
        interrupted = _run(sampling, num_steps, None, 0)
        summary = {"model": shown_model(name, path), **summary_of(model, sampling.samples(), interrupted=interrupted)}
        summary |= convergence_summary(sampling.trajectory()) if diagnostics and not interrupted else {}
        return summary | (_interruption(sampling, num_steps, "without --out, nothing is saved") if interrupted else {})
    config = SamplingConfig(
        model=shown_model(name, path.absolute()),
        weights=weights_digest(path),
        given=draws.given,
        num=len(sampling.chain.f),
        steps=num_steps,
        thin=thin,
        seed=draws.seed,
    )
    folder = out.with_suffix(".chains")
    with _saving(folder, sampling, config) as (save, remove):
        result = _to_file(model, sampling, config, folder, save, checkpoint_every)
        result |= convergence_summary(sampling.trajectory()) if diagnostics and "message" not in result else {}
        if "message" not in result:
            remove()
        return {"model": shown_model(name, path), **result}


def _resume(folder: Path, device: DeviceName, checkpoint_every: int, diagnostics: bool) -> dict[str, Any]:
    """Continues saved chains; returns the summary."""
    found = read_chains(folder)
    out = _out_of(folder)
    with lock(folder / "lock"):
        found = read_chains(folder)  # another process may have continued them in between
        for line in found.damaged:
            say(f"{line}; resuming from the checkpoint before it")
        _check_diagnosable(found.config.thin, found.config.steps, diagnostics)
        check_new(out)
        check_new(out.with_suffix(".png"))
        path, model = open_model(found.config.model, device)
        if weights_digest(path) != found.config.weights:
            raise ValueError(
                f"{path / 'model.safetensors'}: SHA-256 differs from that of the weights which the chains in {folder} ran "
                "with; restore those weights, or remove the folder and sample again"
            )
        sampling = restore_chains(found, model)
        save = partial(write_chains, folder, sampling, found.config)
        result = _to_file(model, sampling, found.config, folder, save, checkpoint_every)
        result |= convergence_summary(sampling.trajectory()) if diagnostics and "message" not in result else {}
        if "message" not in result:
            shutil.rmtree(folder)
        return {"model": shown_model(found.config.model, path), **result}


def _check_diagnosable(thin: int | None, num_steps: int, diagnostics: bool) -> None:
    """Raises ValueError if diagnostics are asked for and the run keeps too few states."""
    kept = 0 if thin is None else num_steps // thin
    if diagnostics and kept < MIN_STATES:
        raise ValueError(
            f"--diagnostics: the run keeps {kept} states; at least {MIN_STATES} are needed: pass --thin K with a smaller K, "
            "or more --steps"
        )


def _to_file(
    model: Model,
    sampling: SamplingState,
    config: SamplingConfig,
    folder: Path,
    save: Callable[[], None],
    checkpoint_every: int,
) -> dict[str, Any]:
    """Runs the chains to their end and writes the file and the picture; saves the chains if interrupted."""
    if _run(sampling, config.steps, save, checkpoint_every):
        next_step = f"resume with: jointebm sample --resume {folder} --threads {torch.get_num_threads()}"
        summary = summary_of(model, sampling.samples(), interrupted=True)
        return {**summary, **_interruption(sampling, config.steps, next_step)}
    trajectory = sampling.trajectory()
    samples = trajectory.samples
    kept = samples.values if config.thin is None else trajectory.values
    out = _out_of(folder)
    picture = write_samples(model, samples, kept, out, ", ".join(config.given))
    return {**summary_of(model, samples, interrupted=False), "out": str(out), "picture": picture}


def _run(sampling: SamplingState, num_steps: int, save: Callable[[], None] | None, checkpoint_every: int) -> bool:
    """Runs the chains; returns whether a signal came before their end."""
    assert isinstance(sampling.log_density, Model)
    try:
        with StepProgress(f"sampling {sampling.log_density.config.name}", num_steps) as progress:
            run_chains(sampling, num_steps, save=save, save_every=checkpoint_every, on_step=progress.show)
    except KeyboardInterrupt:
        return True
    return False


def _interruption(sampling: SamplingState, num_steps: int, next_step: str) -> dict[str, str]:
    return {"message": f"interrupted after {len(sampling.accept_probs)} of {num_steps} steps; {next_step}"}


def _out_of(folder: Path) -> Path:
    """The file next to the chains, wherever the folder is now."""
    return folder.with_suffix(".npz")


def _check_no_chains(folder: Path) -> None:
    if folder.exists():
        raise FileExistsError(
            f"{folder}: exists; resume it with: jointebm sample --resume {folder}, or remove it, or choose another --out"
        )


Action = Callable[[], None]


@contextmanager
def _saving(folder: Path, sampling: SamplingState, config: SamplingConfig) -> Iterator[tuple[Action, Action]]:
    """Functions that save the chains and remove them.

    The folder is made at the first save and locked until the block ends; an existing one is left alone.
    """
    with ExitStack() as stack:
        is_mine = False

        def save() -> None:
            nonlocal is_mine
            if not is_mine:
                _check_no_chains(folder)
                folder.parent.mkdir(parents=True, exist_ok=True)
                make_folder(folder)
                stack.enter_context(lock(folder / "lock"))
                is_mine = True
            write_chains(folder, sampling, config)

        def remove() -> None:
            if is_mine:
                shutil.rmtree(folder)

        yield save, remove
