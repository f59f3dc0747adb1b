"""Chains: positions with the joint log-density and its score, and the one function that evaluates them.

The score is that of the *joint* log-density, so it stays right when another block moves next: a Gibbs-with-Gradients move
followed by a Langevin move costs two evaluations, not five.

An energy of the form head(encode(x), y) may declare it (`EncodedLogDensity`). A chain then keeps the encoding of its x: the
encoder runs again only for other tensor objects, and its backward pass waits until the score of x is read, so a joint step
costs one encoder pass in each direction. Positions are never changed in place, which makes object identity a safe test.

Legend: N chains, K candidates per chain.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from jointebm.kernels.known_scores import known_score
from jointebm.spaces.space import Position

__all__ = [
    "Chain",
    "EncodedLogDensity",
    "LogDensity",
    "Score",
    "encoded",
    "evaluate",
    "evaluate_candidates",
    "scored",
]


class LogDensity(Protocol):
    """Any callable from a position to f, shape (N,), nats: log p up to a constant.

    Example:
        >>> def log_density(position): return -0.5 * position["x"].square()
        >>> log_density({"x": torch.tensor([0.0, 2.0])})
        tensor([-0., -2.])
    """

    def __call__(self, position: Position, /) -> Tensor: ...


class EncodedLogDensity(LogDensity, Protocol):
    """A log-density head(encode(x), y): `encode` reads only `encoded_blocks`, `head` reads only the other blocks.

    Example:
        >>> class Squares:
        ...     encoded_blocks = ("x",)
        ...     def encode(self, position): return position["x"].square()
        ...     def head(self, features, position): return -features * position["y"]
        ...     def __call__(self, position): return self.head(self.encode(position), position)
        >>> evaluate(Squares(), {"x": torch.tensor([2.0]), "y": torch.tensor([3.0])}).encoding.features
        tensor([4.])
    """

    encoded_blocks: tuple[str, ...]

    def encode(self, position: Position) -> Tensor:
        """Features of the encoded blocks, one row per chain."""

    def head(self, features: Tensor, position: Position) -> Tensor:
        """f, shape (N,), from features and the other blocks."""


class Encoding(NamedTuple):
    """Features of the encoded blocks, with the graph that leads back to them."""

    blocks: dict[str, Tensor]
    features: Tensor
    leaves: dict[str, Tensor]
    graph: Tensor


class Score(Mapping[str, Tensor]):
    """Gradient of f with respect to each block of a position.

    Reading an encoded block runs the encoder's backward pass, once. Everything else was computed by `evaluate`. Blocks that
    f does not depend on, as far as autograd knows, are `constant`; their score is zero.

    Example:
        >>> chain = evaluate(lambda position: -position["x"].square(), {"x": torch.tensor([1.0, 2.0])})
        >>> list(chain.score), chain.score["x"]
        (['x'], tensor([-2., -4.]))
    """

    def __init__(
        self,
        blocks: Mapping[str, Tensor],
        features: Tensor | None = None,
        encoding: Encoding | None = None,
        constant: Collection[str] = (),
    ) -> None:
        self._blocks = dict(blocks)
        self._features = features
        self._encoding = encoding
        self.constant = frozenset(constant)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._blocks and self._encoding is not None and name in self._encoding.leaves:
            leaves = self._encoding.leaves
            pulled, _ = _gradients(self._encoding.graph, leaves, self._features, retain_graph=True)
            self._blocks.update(pulled)
        return self._blocks[name]

    def __iter__(self) -> Iterator[str]:
        names = self._encoding.leaves if self._encoding is not None else {}
        return iter({**names, **self._blocks})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def known(self) -> Mapping[str, Tensor]:
        """The blocks computed so far; no backward pass is run."""
        return self._blocks

    def unread(self, encoding: Encoding | None) -> Tensor | None:
        """Gradient of f with respect to the features, from which encoded blocks can still be read; None if all are known."""
        return self._features if self._encoding is not None and self._encoding is encoding else None

    def where(self, accepted: Tensor, other: "Score") -> "Score":
        """This score in the accepted rows, `other` in the rest."""
        if self._encoding is not None and self._encoding is other._encoding:
            # Both have the same x, and the backward pass of the encoder is linear: rows can be mixed before it.
            assert self._features is not None and other._features is not None
            features = where_rows(accepted, self._features, other._features)
            blocks = {
                name: where_rows(accepted, self._blocks[name], other._blocks[name])
                for name in self._blocks
                if name in other._blocks
            }
            return Score(blocks, features, self._encoding, self.constant)
        mixed = {name: where_rows(accepted, self[name], other[name]) for name in self}
        return Score(mixed, constant=self.constant & other.constant)


class Chain(NamedTuple):
    """N chains: their positions, and the log-density and its score there.

    Args:
        position: per block, shape (N, *position_shape).
        f: joint log-density up to a constant, shape (N,), nats.
        score: gradient of f with respect to `position`; None while no kernel has needed it.
        encoding: features of the encoded blocks of `position`, if the log-density has an encoder.

    Example:
        >>> chain = evaluate(lambda position: -position["x"].square(), {"x": torch.tensor([1.0, 2.0])})
        >>> chain.f, chain.score["x"]
        (tensor([-1., -4.]), tensor([-2., -4.]))
    """

    position: Position
    f: Tensor
    score: Score | None
    encoding: Encoding | None = None

    def where(self, accepted: Tensor, other: "Chain") -> "Chain":
        """This chain in the accepted rows, `other` in the rest; blocks that are the same object stay that object.

        The score is None unless both have one.
        """
        position = {
            name: value if value is other.position[name] else where_rows(accepted, value, other.position[name])
            for name, value in self.position.items()
        }
        encoding = self.encoding if self.encoding is other.encoding else None
        f = torch.where(accepted, self.f, other.f)
        score = None if self.score is None or other.score is None else self.score.where(accepted, other.score)
        return Chain(position, f, score, encoding)


def where_rows(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` in the accepted rows and `old` in the others, for any shape behind the leading axis."""
    return torch.where(accepted.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def evaluate(
    log_density: LogDensity, position: Position, *, previous: Chain | None = None, with_score: bool = True
) -> Chain:
    """Evaluates the log-density and its score at a position; kernels call a model here only.

    Costs one forward and one backward pass (of an encoder too, its backward pass only when the score of an encoded
    block is read). Finiteness is not checked, because that would wait for the device at each step; `sample` and `Trainer`
    check it where they must wait anyway. Where f does not depend on a block, the score is zero; kernels that need the score
    of the block raise (`scored`).

    Args:
        log_density: f, shape (N,).
        position: per block, shape (N, *position_shape).
        previous: a chain of the same log-density; its encoding is reused if all encoded blocks are the same objects.
        with_score: False runs no backward pass.

    Raises:
        ValueError: f does not have shape (N,).

    Example:
        >>> chain = evaluate(lambda position: -position["x"].square().sum(dim=1), {"x": torch.ones(3, 2)})
        >>> chain.f, chain.score["x"][0]
        (tensor([-2., -2., -2.]), tensor([-2., -2.]))
    """
    if getattr(log_density, "encoded_blocks", ()):
        return _evaluate_encoded(log_density, position, previous, with_score)  # type: ignore[arg-type]
    num_chains = len(next(iter(position.values())))
    if not with_score:
        with torch.no_grad():
            return Chain(position, _checked(log_density(position), num_chains), None)
    known = known_score(log_density, "value_and_score", position, blocks=position)
    if known is not None:
        return Chain(position, _checked(known[0], num_chains), Score(known[1]))
    leaves = {name: value.detach().requires_grad_() for name, value in position.items()}
    with torch.enable_grad():
        f = _checked(log_density(leaves), num_chains)
    gradients, constant = _gradients(f, leaves, torch.ones_like(f))
    return Chain(position, f.detach(), Score(gradients, constant=constant))


def scored(log_density: LogDensity, chain: Chain, kernel: object, *, block: str | None = None) -> Chain:
    """The chain with its score, evaluated now if no kernel has needed it since the chain last moved.

    Raises ValueError, in the name of the kernel, if f has no gradient with respect to the block, or to any if none is named:
    it requires none, or its graph does not reach the block. A kernel that took this for zero would diffuse without end.

    Example:
        >>> chain = evaluate(lambda position: -position["x"].square(), {"x": torch.tensor([1.0])}, with_score=False)
        >>> scored(lambda position: -position["x"].square(), chain, "mine").score["x"]
        tensor([-2.])
    """
    chain = chain if chain.score is not None else evaluate(log_density, chain.position, previous=chain)
    assert chain.score is not None
    constant = chain.score.constant
    if constant and (block in constant if block is not None else constant >= chain.position.keys()):
        where = "any block" if block is None else f"block {block!r}"
        name = getattr(log_density, "__name__", type(log_density).__name__)
        raise ValueError(
            f"{type(kernel).__name__}: needs the score, but f of {name} has no gradient with respect to "
            f"{where}. Compute f from the position by torch functions, without detach, item, numpy or no_grad, or use a "
            "kernel without score, such as kernels.Gibbs"
        )
    return chain


def _evaluate_encoded(
    log_density: EncodedLogDensity, position: Position, previous: Chain | None, with_score: bool
) -> Chain:
    encoding = _encoding_at(log_density, position, previous.encoding if previous is not None else None)
    num_chains = len(encoding.features)
    others = {name: value for name, value in position.items() if name not in encoding.blocks}
    if not with_score:
        with torch.no_grad():
            f = _checked(log_density.head(encoding.features, others), num_chains)
        return Chain(position, f, None, encoding)
    known = known_score(log_density, "head_value_and_score", encoding.features, others, blocks={"", *others})
    if known is not None:
        f, gradients = known
        constant = set() if encoding.graph.requires_grad else {*encoding.blocks}
        score = Score(gradients, gradients.pop(""), encoding, constant)
        return Chain(position, _checked(f, num_chains), score, encoding)
    leaves = {name: value.detach().requires_grad_() for name, value in others.items()}
    features = encoding.features.detach().requires_grad_()
    with torch.enable_grad():
        f = _checked(log_density.head(features, leaves), num_chains)
    gradients, constant = _gradients(f, {"": features, **leaves}, torch.ones_like(f))
    if "" in constant or not encoding.graph.requires_grad:
        constant |= encoding.blocks.keys()
    return Chain(position, f.detach(), Score(gradients, gradients.pop(""), encoding, constant - {""}), encoding)


def encoded(log_density: LogDensity, chain: Chain, *, moving: Collection[str]) -> Chain:
    """The chain with the encoding of its position, run now if it has none; without one if a moving block is encoded."""
    names = getattr(log_density, "encoded_blocks", ())
    if not names or not set(names).isdisjoint(moving):
        return chain._replace(encoding=None)
    return chain._replace(encoding=_encoding_at(log_density, chain.position, chain.encoding))  # type: ignore[arg-type]


def _encoding_at(log_density: EncodedLogDensity, position: Position, known: Encoding | None) -> Encoding:
    """The encoding of a position: the known one if it was made from these tensor objects."""
    if known is not None and all(position[name] is block for name, block in known.blocks.items()):
        return known
    blocks = {name: position[name] for name in log_density.encoded_blocks}
    leaves = {name: value.detach().requires_grad_() for name, value in blocks.items()}
    with torch.enable_grad():
        graph = log_density.encode(leaves)
    return Encoding(blocks, graph.detach(), leaves, graph)


def _gradients(
    output: Tensor, leaves: dict[str, Tensor], weight: Tensor | None, *, retain_graph: bool = False
) -> tuple[dict[str, Tensor], set[str]]:
    """Gradient of a weighted output with respect to each leaf, and which leaves the output does not depend on."""
    found: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if output.requires_grad:
        found = torch.autograd.grad(
            output, tuple(leaves.values()), weight, retain_graph=retain_graph, allow_unused=True
        )
    pairs = list(zip(leaves.items(), found, strict=True))
    gradients = {name: torch.zeros_like(leaf) if each is None else each for (name, leaf), each in pairs}
    return gradients, {name for (name, _), each in pairs if each is None}


def _checked(f: Tensor, num_chains: int) -> Tensor:
    if f.shape != (num_chains,):
        raise ValueError(
            f"log-density: returned shape {tuple(f.shape)}, expected one number per chain, ({num_chains},)"
        )
    return f


def evaluate_candidates(
    log_density: LogDensity, position: Position, candidates: Position, *, features: Tensor | None = None
) -> Tensor:
    """Evaluates f at K candidates per row in one batch; blocks without candidates keep the row's value.

    Runs an encoder at most once per row, and not at all if its features are given, unless a candidate changes what it
    reads. Gradients flow to parameters if they are enabled.

    Args:
        log_density: f, shape (N,).
        position: N rows; blocks that `candidates` names are ignored and may be absent.
        candidates: the blocks that differ, each of shape (N, K, *position_shape).
        features: the encoding of the rows, if it is known.

    Returns:
        f, shape (N, K), nats.

    Example:
        >>> rows, candidates = {"x": torch.tensor([1.0, 2.0])}, {"y": torch.tensor([[0.0, 1.0], [2.0, 3.0]])}
        >>> evaluate_candidates(lambda position: position["x"] * position["y"], rows, candidates)
        tensor([[0., 1.],
                [4., 6.]])
    """
    num_rows, num_candidates = next(iter(candidates.values())).shape[:2]
    encoded_blocks = getattr(log_density, "encoded_blocks", ())
    keeps_encoding = bool(encoded_blocks) and not candidates.keys() & set(encoded_blocks)
    crossed = {
        name: value.repeat_interleave(num_candidates, dim=0)
        for name, value in position.items()
        if name not in candidates and not (keeps_encoding and name in encoded_blocks)
    } | {name: value.flatten(0, 1) for name, value in candidates.items()}
    if keeps_encoding:
        if features is None:
            features = log_density.encode(position)  # type: ignore[attr-defined]
        f = log_density.head(features.repeat_interleave(num_candidates, dim=0), crossed)  # type: ignore[attr-defined]
    else:
        f = log_density(crossed)
    return _checked(f, num_rows * num_candidates).reshape(num_rows, num_candidates)
