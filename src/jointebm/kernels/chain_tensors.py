"""A chain as named tensors and back again, so that it can be written down and go on bit for bit."""

from collections.abc import Mapping

from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, Score, encoded

__all__ = ["chain_from_tensors", "chain_tensors"]


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
