"""Chains on disk: a sampling run that was interrupted goes on from where it was, bit for bit.

The layout is that of `jointebm.storage.checkpoint`, in a folder of its own: FILE.chains/000000003/, with the number of steps done.
"""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from jointebm.storage.checkpoint import Checkpoint, newest, write
from jointebm.storage.config import Config
from jointebm.kernels.chain import Chain, LogDensity, Score, encoded
from jointebm.inference.model import Model
from jointebm.sampling.sample import SamplingState
from jointebm.storage.untrusted import quoted

__all__ = ["Found", "SamplingConfig", "chain_from_tensors", "chain_tensors", "read_chains", "restore_chains", "weights_digest", "write_chains"]

Count = Annotated[int, Field(ge=1)]


class SamplingConfig(Config):
    """What a sampling run was asked for."""

    model: str = Field(description="folder of the model")
    weights: str = Field(description="SHA-256 of its model.safetensors")
    given: tuple[str, ...] = Field(description="what was held still, as written")
    num: Count = Field(description="number of chains")
    steps: int = Field(ge=0, description="kernel steps asked for")
    thin: Count | None = Field(description="keep every so many states; null keeps none")
    seed: int = Field(description="of all draws")


class Found(NamedTuple):
    """What lies in a folder of chains.

    Args:
        config: what was asked for.
        checkpoint: how far it came.
        damaged: one line per newer checkpoint that was passed over.
    """

    config: SamplingConfig
    checkpoint: Checkpoint
    damaged: tuple[str, ...]


def write_chains(folder: Path, sampling: SamplingState, config: SamplingConfig) -> None:
    """Writes chains on their way; with the same model, versions, device type and threads they go on bit for bit.

    Args:
        folder: where; what was written there before is removed when this is complete.
        sampling: the chains, between two steps.
        config: what was asked for.

    Raises:
        OSError: it cannot be written; names the file.
    """
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
        FileNotFoundError: there is no such folder.
        ValueError: it holds no intact checkpoint of a sampling run, with the reason.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected FILE.chains of an interrupted 'jointebm sample'")
    loaded = newest(folder)
    if loaded.checkpoint is None:
        reason = loaded.damaged[0] if loaded.damaged else f"{folder}: holds no checkpoint"
        raise ValueError(f"{reason}; there is nothing to go on from. Remove {folder} and sample anew")
    try:
        config = SamplingConfig.model_validate(loaded.checkpoint.plain | {"given": _given(loaded.checkpoint.plain)})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ValueError(f"{folder}: holds no chains of 'jointebm sample': {quoted(reason)}") from None
    return Found(config, loaded.checkpoint, loaded.damaged)


def restore_chains(found: Found, model: Model) -> SamplingState:
    """Chains as they were when they were written.

    Args:
        found: what `read_chains` returned.
        model: the model it names, with the same weights.

    Raises:
        ValueError: the chains are not ones of this model, or not as many as the configuration says.
    """
    tensors, config, space = dict(found.checkpoint.tensors), found.config, model.space
    num_kept = found.checkpoint.iteration // config.thin if config.thin is not None else 0
    _check(tensors, _expected(model, config.num, found.checkpoint.iteration, num_kept, tensors.keys()))
    generator = torch.Generator()
    try:
        chain = chain_from_tensors(model, tensors)
        generator.set_state(tensors["generator"])
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


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights of a model folder."""
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _given(plain: Mapping[str, object]) -> object:
    """JSON has lists where the configuration has a tuple."""
    given = plain.get("given")
    return tuple(given) if isinstance(given, list) else given


Expected = dict[str, tuple[torch.dtype, tuple[int | None, ...]]]


def _expected(model: Model, num: int, num_steps: int, num_kept: int, names: Collection[str]) -> Expected:
    """Type and shape of every tensor of a sampling run; None stands for any length.

    `names` tells whether chains came with an encoding, and with a score, all of it read or only what is not encoded.
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
        if wanted is None or found is None or not _fits(wanted, found):
            raise ValueError(
                f"chains: tensor {quoted(repr(name))} does not fit the model: got {found or 'none'}, expected "
                f"{wanted or 'none'}"
            )


def _fits(wanted: tuple[torch.dtype, tuple[int | None, ...]], found: tuple[torch.dtype, tuple[int, ...]]) -> bool:
    return (
        wanted[0] == found[0]
        and len(wanted[1]) == len(found[1])
        and all(size in (None, length) for size, length in zip(wanted[1], found[1], strict=True))
    )


def chain_tensors(chain: Chain) -> dict[str, Tensor]:
    """A chain as named tensors, from which `chain_from_tensors` makes one that goes on bit for bit as this one would.

    What is known of f, score and encoding is kept rather than evaluated again: in another batch, or in another order, the
    last bits may come out differently.
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
    """Puts a chain together again; runs the encoder once, if it had an encoding.

    Args:
        log_density: the one that the chain was evaluated with.
        tensors: what `chain_tensors` returned.

    Example:
        >>> import torch
        >>> from jointebm.kernels import evaluate
        >>> chain = evaluate(lambda position: -position["x"].square().sum(dim=1), {"x": torch.ones(3, 2)})
        >>> again = chain_from_tensors(lambda position: -position["x"].square().sum(dim=1), chain_tensors(chain))
        >>> again.f.equal(chain.f), again.score["x"].equal(chain.score["x"])
        (True, True)
    """
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
