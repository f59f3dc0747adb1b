"""Composed energies: weighted sums, and conditions that no single model was trained on together."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jointebm.spaces.space import Position, Space, Values

__all__ = ["ConditionalEnergy", "WeightedSum"]


class WeightedSum(nn.Module):
    """f(z) = sum_k w_k f_k(z): a product of experts, prod_k p_k(z)^(w_k) up to a constant.

    A weight of 1 / T tempers a term, a negative weight divides by it. With a negative weight f need not have a finite
    normaliser: the term that is divided by must fall off more slowly than the rest.

    Encoders of the terms run at every evaluation: nothing is cached between kernel steps.

    Args:
        terms: modules from a position to f, shape (N,); a term may ignore blocks of the position.
        weights: one per term, finite; None is 1 each, a plain product.

    Raises:
        ValueError: no terms, not as many weights as terms, or a weight is not finite.

    References:
        Hinton 2002 (products of experts). Du, Li & Mordatch 2020, Compositional visual generation.

    Example:
        >>> class Gaussian(nn.Module):
        ...     def __init__(self, mean):
        ...         super().__init__()
        ...         self.mean = mean
        ...     def forward(self, position):
        ...         return -0.5 * (position["x"] - self.mean).square()
        >>> both = WeightedSum((Gaussian(0.0), Gaussian(4.0)))  # N(2, 1/2)
        >>> both({"x": torch.tensor([1.0, 2.0, 3.0])}).tolist()
        [-5.0, -4.0, -5.0]
    """

    def __init__(self, terms: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weights = (1.0,) * len(terms) if weights is None else tuple(weights)
        if not terms or len(weights) != len(terms):
            raise ValueError(
                f"WeightedSum: got {len(terms)} terms and {len(weights)} weights; give at least one term, with a weight each"
            )
        if not all(map(math.isfinite, weights)):
            raise ValueError(f"WeightedSum: weights must be finite, got {weights}")
        self.terms, self.weights = nn.ModuleList(terms), weights

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        parts = [weight * term(position) for weight, term in zip(self.weights, self.terms, strict=True)]
        return torch.stack(parts).sum(dim=0)


class ConditionalEnergy(nn.Module):
    """f(rest) = log sum_s exp f(rest, given, s): a joint energy with some blocks given and others summed out.

    As a density of the remaining blocks it is p(rest | given), up to a constant. Conditions of different models combine: if
    a and b are independent given x,

        log p(x | a, b) = log p(x | a) + log p(x | b) - log p(x) + const

    which is the `WeightedSum` of three conditional energies, given a, b and neither (a summed out), with weights
    1, 1, -1. Labels that x determines are independent given x. Where a and b are not, this density is not p(x | a, b).

    Args:
        energy: f, a module over all blocks of the space.
        space: its blocks.
        given: per block, its complete value, the same for all rows.
        summed_out: names of discrete blocks to sum out, by enumeration.

    Raises:
        ValueError: an unknown block, a block both given and summed out, a block to sum out that is not discrete, or a
            given value with missing entries. When called: the position has a block that is given or summed out.

    References:
        Du, Li & Mordatch 2020, Compositional visual generation, Sec. 3.

    Example:
        >>> from jointebm import Categorical, Continuous
        >>> space = Space(x=Continuous(), y=Categorical(2))
        >>> class Labelled(nn.Module):
        ...     def forward(self, position):
        ...         return position["x"] * position["y"][:, 1]
        >>> x = {"x": torch.tensor([0.0, 1.0])}
        >>> ConditionalEnergy(Labelled(), space, {"y": 1})(x).tolist()
        [0.0, 1.0]
        >>> ConditionalEnergy(Labelled(), space, summed_out=("y",))(x).exp()
        tensor([2.0000, 3.7183])
    """

    def __init__(
        self, energy: nn.Module, space: Space, given: Values | None = None, *, summed_out: Sequence[str] = ()
    ) -> None:
        super().__init__()
        given = given or {}
        space.require(given)
        space.require(summed_out, discrete=True)
        if given.keys() & set(summed_out):
            raise ValueError(
                f"ConditionalEnergy: block {min(given.keys() & set(summed_out))!r} is both given and summed out"
            )
        self.energy = energy
        self._fixed: dict[str, Tensor] = {}
        for name, value in given.items():
            part, observed = Space(**{name: space[name]}).encode({name: torch.as_tensor(value)[None]})
            if not bool(observed[name].all()):
                raise ValueError(
                    f"ConditionalEnergy: block {name!r} has missing entries; give all of it, or sum it out"
                )
            self._fixed[name] = part[name]
        self._summed = Space(**{name: space[name] for name in summed_out}) if summed_out else None

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position of the remaining blocks, shape (N,), nats."""
        twice = position.keys() & (self._fixed.keys() | (self._summed.keys() if self._summed else set()))
        if twice:
            raise ValueError(
                f"ConditionalEnergy: block {min(twice)!r} is given or summed out already; leave it out of the position"
            )
        like = next(iter(position.values()))

        def at(blocks: Position, index: int) -> dict[str, Tensor]:
            return {name: value[index].to(like).expand(len(like), *value.shape[1:]) for name, value in blocks.items()}

        rows = {**position, **at(self._fixed, 0)}
        if self._summed is None:
            return self.energy(rows)
        configurations = self._summed.configurations(dtype=like.dtype, device=like.device)
        parts = [self.energy({**rows, **at(configurations, i)}) for i in range(self._summed.num_configurations)]
        return torch.stack(parts).logsumexp(dim=0)
