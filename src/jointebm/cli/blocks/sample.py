"""Runs `jointebm sample` for a model of blocks."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jointebm.cli.blocks.given import parse_given
from jointebm.cli.blocks.written_samples import summary_of, write_samples
from jointebm.cli.console import say
from jointebm.cli.files import open_model
from jointebm.cli.progress import StepProgress
from jointebm.inference.model import Model
from jointebm.runs.interrupts import Pending
from jointebm.runs.sampling_run import SamplingConfig, read_chains, restore_chains, weights_digest, write_chains
from jointebm.sampling.sample import SamplingState, begin_sampling
from jointebm.storage.atomic import check_new, flush_folder, lock

__all__ = []


NUM_SAMPLES = 64


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
    sampling = begin_sampling(
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
    sampling: SamplingState,
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


def _run(
    sampling: SamplingState, num_steps: int, save: Callable[[], None], checkpoint_every: int, pending: Pending
) -> bool:
    """Runs the chains; whether a signal came before their end."""
    assert isinstance(sampling.log_density, Model)
    with StepProgress(f"sampling {sampling.log_density.config.name}", num_steps) as progress:

        def show(num_done: int) -> None:
            if checkpoint_every and num_done % checkpoint_every == 0 and num_done < num_steps:
                save()
            progress.show(num_done)
            pending.check()

        return sampling.run(num_steps, show)


def _interruption(sampling: SamplingState, num_steps: int, way_on: str) -> dict[str, str]:
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
def _written(folder: Path, sampling: SamplingState, config: SamplingConfig) -> Iterator[_Folder]:
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
