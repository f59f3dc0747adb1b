"""Spaces whose discrete part is enumerated and whose reals are integrated, and a stream that walks through all outcomes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from jointebm.references.layout import MixedRows
from jointebm.references.mixture import Mixture
from jointebm.spaces import Binary, Categorical, Continuous, Space

SPACE = Space(bit=Binary(), a=Continuous(), group=Categorical((2, 3)), b=Continuous((1,)))
DISCRETE = Space(bits=Binary(2), group=Categorical((2, 3)), pair=Categorical(2, (1, 1)))
STEP = 0.25
NODES = torch.arange(-60, 61, dtype=torch.float64) * STEP  # trapezoids over Gaussians: exact to 1e-14


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_mixture(space: Space = SPACE, num_components: int = 3, *, seed: int = 0) -> Mixture:
    """A mixture with random parameters, in float64."""
    drawn, made = generator(seed), Mixture(space, num_components).double()
    products = made.products
    products.log_weights.copy_(torch.randn(num_components, generator=drawn, dtype=torch.float64).log_softmax(dim=0))
    parts = products.log_probs.split(list(products.num_classes))
    for part in parts:
        part.copy_(torch.randn(part.shape, generator=drawn, dtype=torch.float64).log_softmax(dim=0))
    products.means.copy_(2 * torch.randn(products.means.shape, generator=drawn, dtype=torch.float64))
    products.log_sds.copy_(0.3 * torch.randn(products.means.shape, generator=drawn, dtype=torch.float64) - 0.3)
    return made


def all_codes(space: Space) -> Tensor:
    """Every configuration of the discrete variables, shape (S, V)."""
    counts = [count for name in space.discrete for count in space.num_classes(name)]
    return torch.cartesian_prod(*[torch.arange(count) for count in counts]).reshape(-1, len(counts))


def grid(space: Space = SPACE) -> tuple[MixedRows, float]:
    """All configurations at all nodes of every real, and the volume of a cell."""
    codes = all_codes(space)
    num = sum(space[name].num_variables for name in space.continuous)
    nodes = torch.cartesian_prod(*[NODES] * num).reshape(-1, num)
    return MixedRows(codes.repeat_interleave(len(nodes), dim=0), nodes.repeat(len(codes), 1)), STEP**num


def agree(rows: MixedRows, known: MixedRows) -> Tensor:
    """Which rows agree with the observed entries of one row, bool (len(rows),)."""
    codes = ((known.codes < 0) | (rows.codes == known.codes)).all(dim=1)
    return codes & (known.reals.isnan() | ((rows.reals - known.reals).abs() < 1e-9)).all(dim=1)


class Walk:
    """A stream that takes given outcomes at `choose`, then the first possible; its normals are all the same number."""

    def __init__(self, outcomes: tuple[int, ...], num_rows: int, normal: float) -> None:
        self.probs = torch.ones(num_rows, dtype=torch.float64)
        self.branches: list[tuple[int, ...]] = []
        self._outcomes, self._taken, self._normal = list(outcomes), 0, normal

    def choose(self, log_weights: Tensor) -> Tensor:
        if log_weights.ndim == 3:
            return torch.stack([self.choose(each) for each in log_weights.unbind(dim=2)], dim=1)
        probs = log_weights.double().softmax(dim=1)
        if self._taken == len(self._outcomes):
            possible = (self.probs[:, None] * probs > 0).any(dim=0).nonzero()[:, 0].tolist()
            self.branches += [(*self._outcomes, other) for other in possible[1:]]
            self._outcomes.append(possible[0])
        outcome = self._outcomes[self._taken]
        self._taken += 1
        self.probs = self.probs * probs[:, outcome]
        return torch.full((len(probs),), outcome)

    def normal(self, like: Tensor) -> Tensor:
        return torch.full_like(like, self._normal)

    def uniform(self, like: Tensor) -> Tensor:
        raise AssertionError(f"asked for uniforms of shape {tuple(like.shape)}")

    def accept(self, log_ratio: Tensor) -> Tensor:
        raise AssertionError(f"asked to accept rows of shape {tuple(log_ratio.shape)}")


def outcomes(call: Callable[[Any], Any], num_rows: int, *, normal: float = 0.0) -> Iterator[tuple[Tensor, Any]]:
    """Each outcome of the choices of `call(stream)`: its probability in each row (num_rows,), and what it returned."""
    pending: list[tuple[int, ...]] = [()]
    while pending:
        walk = Walk(pending.pop(), num_rows, normal)
        result = call(walk)
        yield walk.probs, result
        pending += walk.branches
