"""Sampling runs on disk: interrupted chains resume bit for bit.

The folder FILE.chains has the layout of `jointebm.storage.checkpoint`; a checkpoint is named by the number of steps done.
"""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from jointebm.inference.model import Model
from jointebm.kernels.chain import Chain, LogDensity, Score, encoded
from jointebm.randomness.devices import resume_generator
from jointebm.runs.interrupts import held_back
from jointebm.sampling.diagnostics import warn_caller
from jointebm.sampling.sample import SamplingState
from jointebm.storage.checkpoint import Checkpoint, newest, write
from jointebm.storage.config import Config
from jointebm.storage.digests import file_digest
from jointebm.storage.untrusted import quoted, reason_of

__all__ = [
    "Found",
    "SamplingConfig",
    "chain_from_tensors",
    "chain_tensors",
    "read_chains",
    "restore_chains",
    "run_chains",
    "weights_digest",
    "write_chains",
]

Count = Annotated[int, Field(ge=1)]


class SamplingConfig(Config):
    """The request of a sampling run."""

    model: str = Field(description="folder of the model")
    weights: str = Field(description="SHA-256 of its model.safetensors")
    given: tuple[str, ...] = Field(description="what is clamped, as written")
    num: Count = Field(description="number of chains")
    steps: int = Field(ge=0, description="kernel steps asked for")
    thin: Count | None = Field(description="keep every thin-th state; null keeps none")
    seed: int = Field(description="seed of all draws")


class Found(NamedTuple):
    """Content of a folder of chains."""

    config: SamplingConfig
    checkpoint: Checkpoint
    damaged: tuple[str, ...]  # one line per newer checkpoint that was skipped


def write_chains(folder: Path, sampling: SamplingState, config: SamplingConfig) -> None:
    """Writes chains between two steps; they resume bit for bit with the same model, versions, device type and threads."""
    assert isinstance(sampling.generator, torch.Generator)
    tensors = {
        **chain_tensors(sampling.chain),
        **{f"free.{name}": mask for name, mask in sampling.free.items()},
        "generator": sampling.generator.get_state(),
    }
    if sampling.accept_probs:
        tensors["accept_probs"] = torch.stack(sampling.accept_probs)
    if sampling.kept:
        tensors["kept.f"] = torch.stack([chain.f for chain in sampling.kept])
        for name in sampling.space:
            tensors[f"kept.position.{name}"] = torch.stack([chain.position[name] for chain in sampling.kept])
    write(folder, Checkpoint(len(sampling.accept_probs), tensors, config.model_dump(mode="json")), keep=1)


def read_chains(folder: Path) -> Found:
    """Reads the newest intact checkpoint of a sampling run.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no checkpoint of a sampling run is intact; names the reason.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected FILE.chains of an interrupted 'jointebm sample'")
    loaded = newest(folder)
    if loaded.checkpoint is None:
        reason = loaded.damaged[0] if loaded.damaged else f"{folder}: holds no checkpoint"
        raise ValueError(f"{reason}; nothing can be resumed. Remove {folder} and sample again")
    try:
        config = SamplingConfig.model_validate_json(json.dumps(loaded.checkpoint.plain))  # JSON has lists for tuples
    except ValidationError as error:
        raise ValueError(f"{folder}: holds no chains of 'jointebm sample': {reason_of(error)}") from None
    return Found(config, loaded.checkpoint, loaded.damaged)


def restore_chains(found: Found, model: Model) -> SamplingState:
    """Restores chains to the state in which they were written.

    Raises:
        ValueError: the chains do not fit the model or the configuration.
    """
    tensors, config, space = dict(found.checkpoint.tensors), found.config, model.space
    num_kept = found.checkpoint.iteration // config.thin if config.thin is not None else 0
    _check(tensors, _expected(model, config.num, found.checkpoint.iteration, num_kept, tensors.keys()))
    generator = torch.Generator(model.device)
    state = tensors["generator"]
    tensors = {name: tensor.to(model.device) for name, tensor in tensors.items()}
    try:
        chain = chain_from_tensors(model, tensors)
        if not resume_generator(generator, state):
            line = (
                f"chains: were written on another kind of device than {model.device.type}; the bits will differ from "
            )
            warn_caller(UserWarning(f"{line}those of an uninterrupted run"))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"chains: do not fit the model: {quoted(error)}") from None
    return SamplingState(
        model,
        space,
        model.kernel,
        chain,
        {name: tensors[f"free.{name}"] for name in space},
        generator,
        config.thin,
        [
            Chain({name: tensors[f"kept.position.{name}"][index] for name in space}, tensors["kept.f"][index], None)
            for index in range(num_kept)
        ],
        list(tensors["accept_probs"]) if found.checkpoint.iteration else [],
    )


def run_chains(
    sampling: SamplingState,
    num_steps: int,
    *,
    save: Callable[[], object] | None,
    save_every: int,
    on_step: Callable[[int], object],
) -> None:
    """Runs chains to their last step; saves them on the way and when interrupted.

    Ctrl-C and SIGTERM let the step finish, so that the saved chains resume bit for bit.

    Args:
        sampling: the chains; after an error they are at their last complete step.
        num_steps: steps in all.
        save: writes the chains; None saves nothing.
        save_every: steps between two saves; 0 saves only when interrupted.
        on_step: called after each step with the number of steps done.

    Raises:
        KeyboardInterrupt: after Ctrl-C, and `Terminated` after SIGTERM; the chains are saved.
    """
    with held_back() as pending:

        def after(num_done: int) -> None:
            if save is not None and save_every and num_done % save_every == 0 and num_done < num_steps:
                save()
            on_step(num_done)
            pending.check()

        try:
            sampling.run(num_steps, after)
        except KeyboardInterrupt:
            if save is not None:
                save()
            raise


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights of a model folder."""
    return file_digest(folder / "model.safetensors")


Expected = dict[str, tuple[torch.dtype, tuple[int | None, ...]]]


def _expected(model: Model, num: int, num_steps: int, num_kept: int, names: Collection[str]) -> Expected:
    """Type and shape of every tensor of a sampling run; None means any length.

    `names` tells whether chains have an encoding, and a score, read in full or for the blocks without encoding only.
    """
    dtype, space = next(model.parameters()).dtype, model.space
    has_score = any(name.startswith("score.") for name in names)
    is_unread = has_score and "unread" in names
    expected: Expected = {"f": (dtype, (num,)), "generator": (torch.uint8, (None,))}
    for name, block in space.items():
        position = (dtype, (num, *block.position_shape))
        expected |= {f"position.{name}": position, f"free.{name}": (torch.bool, (num, *block.variable_shape))}
        if f"score.{name}" in names or (has_score and not (is_unread and name in model.encoded_blocks)):
            expected[f"score.{name}"] = position
        if num_kept:
            expected[f"kept.position.{name}"] = (dtype, (num_kept, num, *block.position_shape))
    if is_unread or (model.encoded_blocks and "features" in names):
        expected["features"] = (dtype, (num, None))
    if is_unread:
        expected["unread"] = (dtype, (num, None))
    if num_steps:
        expected["accept_probs"] = (dtype, (num_steps, None))
    if num_kept:
        expected["kept.f"] = (dtype, (num_kept, num))
    return expected


def _check(tensors: Mapping[str, Tensor], expected: Expected) -> None:
    for name in sorted(expected.keys() | tensors.keys()):
        wanted = expected.get(name)
        found = (tensors[name].dtype, tuple(tensors[name].shape)) if name in tensors else None
        if wanted is not None and found is not None and len(wanted[1]) == len(found[1]):
            sizes = zip(wanted[1], found[1], strict=True)
            fits = wanted[0] == found[0] and all(size in (None, length) for size, length in sizes)
        else:
            fits = False
        if not fits:
            raise ValueError(
                f"chains: tensor {quoted(repr(name))} does not fit the model: got {found or 'none'}, expected "
                f"{wanted or 'none'}"
            )


def chain_tensors(chain: Chain) -> dict[str, Tensor]:
    """A chain as named tensors, from which `chain_from_tensors` restores it with the same bits.

    Known values of f, score and encoding are kept, not evaluated again: the last bits depend on the batch and the order.
    """
    tensors = {f"position.{name}": value for name, value in chain.position.items()} | {"f": chain.f}
    if chain.encoding is not None:
        tensors["features"] = chain.encoding.features
    if chain.score is not None:
        unread = chain.score.unread(chain.encoding)
        known: Mapping[str, Tensor] = chain.score if unread is None else chain.score.known()
        tensors |= {f"score.{name}": value for name, value in known.items()}
        tensors |= {} if unread is None else {"unread": unread}
    return tensors


def chain_from_tensors(log_density: LogDensity, tensors: Mapping[str, Tensor]) -> Chain:
    """Restores a chain; runs the encoder once if the chain had an encoding."""
    position, blocks = (
        {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for prefix in ("position.", "score.")
    )
    chain = Chain(position, tensors["f"], None)
    encoding, unread = None, tensors.get("unread")
    if "features" in tensors:
        found = encoded(log_density, chain, moving=()).encoding
        encoding = None if found is None else found._replace(features=tensors["features"])
    score = Score(blocks, unread, None if unread is None else encoding) if blocks or unread is not None else None
    return chain._replace(score=score, encoding=encoding)
