"""Independent marginals as a reference: a few Gaussians for each real, class frequencies for each discrete variable.

Legend: N rows, V discrete variables, F classes of all of them, K the largest number of classes of any, D reals, G Gaussians
of each.
"""

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.references.expectation_maximisation import Prior, best_gaussians, prior_of
from jointebm.references.gaussians import HALF_LOG_TWO_PI, draw_gaussians, log_mass
from jointebm.references.layout import Constraints, Layout, MixedRows
from jointebm.references.product_mixture import ENTRIES_AT_ONCE
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["Marginals"]

MAX_ROWS = 2_000  # that Gaussians are fitted to


class Marginals(nn.Module):
    """A product of independent marginals, made for images and their labels.

        q(x, y) = prod_d [sum_g pi_dg Normal(x_d; mu_dg, sigma_dg)] prod_j theta_j(y_j)

    A `Reference`; every operation is exact, and a conditional is the marginal. Precision is that of the buffers.

    Args:
        space: the blocks.
        num_gaussians: G. Fresh marginals are uniform over classes and standard normal over reals.

    Example:
        >>> from jointebm.spaces import Categorical, Continuous, Space
        >>> space = Space(image=Continuous((8, 8)), digit=Categorical(10))
        >>> marginals = Marginals(space)
        >>> position, _ = space.encode({"digit": [3, 4]})
        >>> marginals.log_prob(position).exp()
        tensor([0.1000, 0.1000])
    """

    log_probs: Tensor  # (F,)
    log_weights: Tensor  # (G, D)
    means: Tensor  # (G, D)
    log_sds: Tensor  # (G, D)

    def __init__(self, space: Space, num_gaussians: int = 1) -> None:
        super().__init__()
        self.space, self.layout = space, Layout(space)
        uniform = [torch.full((count,), -math.log(count)) for count in self.layout.num_classes]
        shape = (num_gaussians, self.layout.num_reals)
        self.register_buffer("log_probs", torch.cat([torch.empty(0), *uniform]))
        self.register_buffer("log_weights", torch.full(shape, -math.log(num_gaussians)))
        self.register_buffer("means", torch.zeros(shape))
        self.register_buffer("log_sds", torch.zeros(shape))

    @classmethod
    def fit(
        cls,
        space: Space,
        position: Position,
        num_gaussians: int = 1,
        *,
        prior_strength: float = 1.0,
        min_sd: float = 0.05,
        num_iterations: int = 20,
    ) -> Self:
        """Fits each marginal to its observed entries; draws nothing.

        Gaussians are fitted to at most 2,000 rows, at equal steps; with several of them by EM, to a local maximum.

        Args:
            space: the blocks.
            position: rows, any entries missing; their dtype is that of the marginals.
            num_gaussians: G, at least 1.
            prior_strength: of the prior of every Gaussian, in rows that have the variance of the data over G^2.
            min_sd: smallest standard deviation, as a share of the root mean variance of the block: a pixel that is almost
                always black gets no narrower.
            num_iterations: of EM, where there are several Gaussians.

        Raises:
            ValueError: no rows, fewer than one Gaussian, a prior strength or a smallest deviation that is not positive, or
                positions that do not fit the space.
        """
        for name, value in (("num_gaussians", num_gaussians), ("prior_strength", prior_strength), ("min_sd", min_sd)):
            if not value > 0:
                raise ValueError(f"Marginals.fit: {name} is positive, got {value}")
        marginals = cls(space, num_gaussians)
        rows = marginals.layout.rows(position)
        if not len(rows.codes):
            raise ValueError("Marginals.fit: got no rows; give at least one")
        marginals.to(rows.reals)
        prior = prior_of(rows, marginals.layout.num_classes, prior_strength)
        marginals.log_probs.copy_(prior.classes.log())
        if marginals.layout.num_reals:
            floor = min_sd**2 * marginals._block_variances(prior.variances)
            some = rows.reals[:: -(-len(rows.reals) // MAX_ROWS)]
            marginals._fit_gaussians(some, prior, floor, num_iterations if num_gaussians > 1 else 1)
        return marginals

    def forward(self, position: Position) -> Tensor:
        """`log_prob`, so that the marginals are a log-density that kernels take."""
        return self.log_prob(position)

    def log_prob(self, position: Position) -> Tensor:
        """log q of the observed entries of each row, missing (NaN) ones marginalised, shape (N,), nats."""
        one_hot, reals = self.layout.one_hot(position, self.log_probs.dtype)
        return (one_hot * self.log_probs).sum(dim=1) + self._of_reals(reals).sum(dim=1)

    @property
    def num_features(self) -> int:
        """Width of `encode`: 1."""
        return 1

    def encode(self, position: Position) -> Tensor:
        """The log-density of the reals, shape (N, 1); reads continuous blocks only."""
        return self._of_reals(self.layout.reals(position).to(self.means)).sum(dim=1, keepdim=True)

    def head(self, features: Tensor, position: Position) -> Tensor:
        """`log_prob` from the features and the discrete blocks, shape (N,)."""
        return features[:, 0] + (self.layout.classes(position, features.dtype) * self.log_probs).sum(dim=1)

    def draw(self, num: int, generator: Generator) -> dict[str, Tensor]:
        """Draws `num` independent positions."""
        codes = torch.full((num, len(self.layout.num_classes)), -1, device=self.log_probs.device)
        rows = MixedRows(codes, self.means.new_full((num, self.layout.num_reals), torch.nan))
        return self.layout.position(self._draw(rows, self.layout.constraints(None, num, self.means), generator))

    def complete(
        self, position: Position, generator: Generator, evidence: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Draws all missing entries of each row; observed ones keep their bits.

        Args:
            position: rows with missing (NaN) entries.
            generator: source of the draws.
            evidence: what is known about missing entries; see `Reference`.

        Raises:
            ValueError: positions or evidence that do not fit the space.
        """
        rows = self.layout.rows(position)
        constraints = self.layout.constraints(evidence, len(rows.codes), self.log_probs)
        drawn = self._draw(MixedRows(rows.codes, rows.reals.to(self.means)), constraints, generator)
        return self.layout.completed(position, drawn)

    def log_conditional(self, position: Position, free: Mask, evidence: Mapping[str, Tensor] | None = None) -> Tensor:
        """log q(free entries | all others, evidence) of complete rows, shape (N,), nats; -inf where evidence forbids them.

        Args:
            position: complete rows.
            free: per block, what `complete` would draw; a block left out is clamped.
            evidence: what is known about free entries; see `Reference`.
        """
        rows = self.layout.rows(position)
        constraints = self.layout.constraints(evidence, len(rows.codes), self.log_probs)
        clamped = self.layout.clamped(rows, free)
        of_classes = self._of_classes(constraints).log_softmax(dim=1).expand(len(rows.codes), -1, -1)  # (N, K, V)
        of_codes = of_classes.gather(1, rows.codes[:, None])[:, 0]  # (N, V)
        reals = rows.reals.to(self.means)
        of_reals = self._of_reals(reals)
        if constraints.bounds is not None:
            low, high = constraints.bounds
            of_reals = of_reals - self._of_gaussians(constraints).logsumexp(dim=1)
            of_reals = of_reals.masked_fill((reals < low) | (reals > high), -torch.inf)
        is_free = clamped.codes < 0, clamped.reals.isnan()
        return torch.where(is_free[0], of_codes, 0).sum(dim=1) + torch.where(is_free[1], of_reals, 0).sum(dim=1)

    def _of_reals(self, reals: Tensor) -> Tensor:
        """Log-density of each real, zero where missing, shape (N, D)."""
        parts = []
        for rows in reals.split(max(1, ENTRIES_AT_ONCE // max(1, self.means.numel()))):
            seen = ~rows.isnan()
            log_densities = self._joint(torch.where(seen, rows, 0)).logsumexp(dim=1)
            parts.append(torch.where(seen, log_densities, 0))
        return torch.cat(parts)

    def _joint(self, reals: Tensor) -> Tensor:
        """Log-density of each Gaussian and real together, shape (N, G, D)."""
        distances = (reals[:, None] - self.means) * (-self.log_sds).exp()
        return self.log_weights - self.log_sds - HALF_LOG_TWO_PI - 0.5 * distances.square()

    def _of_classes(self, constraints: Constraints) -> Tensor:
        """Log-weights of the classes of each variable, -inf for those it does not have, shape (1 or N, K, V)."""
        parts = []
        for column, weights in enumerate(constraints.log_weights):
            log_probs = self.log_probs[self.layout.offsets[column] : self.layout.offsets[column + 1]]
            parts.append((log_probs if weights is None else log_probs + weights).reshape(-1, len(log_probs)))
        num_rows, most = max(map(len, parts), default=1), max(self.layout.num_classes, default=1)
        padded = self.log_probs.new_full((num_rows, most, len(parts)), -torch.inf)
        for column, part in enumerate(parts):
            padded[:, : part.shape[1], column] = part
        return padded

    def _of_gaussians(self, constraints: Constraints) -> Tensor:
        """Log-weights of the Gaussians of each real, shape (1 or N, G, D)."""
        if constraints.bounds is None:
            return self.log_weights[None]
        low, high = (
            (bound.reshape(-1, 1, self.layout.num_reals) - self.means) * (-self.log_sds).exp()
            for bound in constraints.bounds
        )
        return self.log_weights + log_mass(low, high).to(self.log_weights)

    def _draw(self, rows: MixedRows, constraints: Constraints, generator: Generator) -> MixedRows:
        num_rows, (codes, reals) = len(rows.codes), rows
        if self.layout.num_classes:
            chosen = draws.choose(self._of_classes(constraints).expand(num_rows, -1, -1), generator)
            codes = torch.where(codes < 0, chosen, codes)
        if self.layout.num_reals:
            chosen = draws.choose(self._of_gaussians(constraints).expand(num_rows, -1, -1), generator)[:, None]
            means, sds = (
                each.expand(num_rows, -1, -1).gather(1, chosen)[:, 0] for each in (self.means, self.log_sds.exp())
            )
            drawn = draw_gaussians(means, sds, constraints.bounds, generator)
            reals = torch.where(reals.isnan(), drawn, reals)
        return MixedRows(codes, reals)

    def _block_variances(self, variances: Tensor) -> Tensor:
        """The mean variance of the block of each real, shape (D,)."""
        parts = variances.split([self.space[name].num_variables for name in self.space.continuous])
        return torch.cat([part.mean().expand_as(part) for part in parts])

    def _fit_gaussians(self, reals: Tensor, prior: Prior, floor: Tensor, num_iterations: int) -> None:
        """EM for each real on its own, started at Gaussians at equal steps over three standard deviations."""
        num_gaussians, middle, sds = len(self.means), prior.means, prior.variances.sqrt()
        steps = torch.linspace(-1.5, 1.5, num_gaussians).to(sds) if num_gaussians > 1 else sds.new_zeros(1)
        self.means.copy_(middle + sds * steps[:, None])
        self.log_sds.copy_((sds / num_gaussians).log().expand(num_gaussians, -1))
        for _ in range(num_iterations):
            moments = sds.new_zeros(3, *self.means.shape)
            for rows in reals.split(max(1, ENTRIES_AT_ONCE // self.means.numel())):
                seen = ~rows.isnan()
                r = self._joint(torch.where(seen, rows, 0)).softmax(dim=1) * seen[:, None]  # (n, G, D)
                z = torch.where(seen, (rows - middle) / sds, 0).to(r)[:, None]
                moments += torch.stack([r.sum(dim=0), (r * z).sum(dim=0), (r * z.square()).sum(dim=0)])
            least = (floor / prior.variances)[:, None]
            means, variances = (each.T for each in best_gaussians(moments.transpose(1, 2), prior.strength, least))
            self.means.copy_(middle + sds * means)
            self.log_sds.copy_(0.5 * variances.log() + sds.log())
            weights = moments[0] + prior.strength / num_gaussians
            self.log_weights.copy_((weights / weights.sum(dim=0)).log())
