"""The mixture as a reference: components are products of Gaussians and categoricals over the blocks of a space.

Legend: N rows, M components.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from jointebm.randomness.draws import Generator
from jointebm.references.evidence_of_codes import evidence_of_codes
from jointebm.references.expectation_maximisation import fit_product_mixture, prior_of, spread_rows
from jointebm.references.layout import Constraints, Layout, MixedRows
from jointebm.references.mixture_sizes import MIXTURE_SIZES
from jointebm.references.product_mixture import ProductMixture, linear_by_row
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["Mixture", "MixtureChoice", "choose_mixture"]

OTHER_CLASSES = 0.01  # probability of a class drawn at random, in a component of one class: bounds its log-odds
PATIENCE = 2  # candidates in a row without improvement, after which no larger one is tried


class Mixture(nn.Module):
    """A mixture of products over any space: diagonal Gaussians in position units, categoricals and binaries.

        q(x, y) = sum_m pi_m prod_d Normal(x_d; mu_dm, sigma_dm) prod_j theta_jm(y_j)

    A `Reference`; every operation is exact. At one-hot positions log q is extended linearly inside each component, so that
    its score exists. Precision is that of the buffers: call `.double()` for float64.

    Args:
        space: the blocks.
        num_components: M. A fresh mixture is uniform over classes and standard normal over reals.

    Example:
        >>> from jointebm.spaces import Categorical, Continuous, Space
        >>> space = Space(point=Continuous(), group=Categorical(2))
        >>> values = {"point": torch.tensor([-1.0, -0.9, -1.1, 5.0, 5.1, 4.9]), "group": [0, 0, 0, 1, 1, 1]}
        >>> position, _ = space.encode(values)
        >>> generator = torch.Generator().manual_seed(0)
        >>> mixture = Mixture.fit(space, position, 2, generator=generator, prior_strength=0.1)
        >>> known, _ = space.encode({"point": [-1.0, 5.0]})
        >>> space.decode(mixture.complete(known, generator))["group"]
        tensor([0, 1])
    """

    def __init__(self, space: Space, num_components: int = 1) -> None:
        super().__init__()
        self.space, self.layout = space, Layout(space)
        self.products = ProductMixture(self.layout.num_classes, num_components, num_reals=self.layout.num_reals)

    @classmethod
    def fit(
        cls,
        space: Space,
        position: Position,
        num_components: int,
        *,
        generator: Generator,
        prior_strength: float = 1.0,
        num_iterations: int = 100,
        tolerance: float = 1e-3,
    ) -> Self:
        """Fits a mixture by EM with missing entries marginalised, started around rows far from one another.

        Finds a local maximum. No component's variance falls below 1e-5 of the data's own variance of that real.

        Args:
            space: the blocks.
            position: rows, any entries missing; their dtype is that of the mixture.
            num_components: M, at least 1.
            generator: chooses the rows to start from.
            prior_strength: pseudo-rows per component, with the marginals' classes and, for reals, the variance of the
                data over M^2. Positive.
            num_iterations: of EM, at most.
            tolerance: stops when an iteration improves the objective by less than this, in nats per row.

        Raises:
            ValueError: no rows, fewer than one component, a prior strength that is not positive, or positions that do not
                fit the space.
        """
        mixture = cls(space, _checked(num_components, prior_strength))
        rows = _some_rows(mixture.layout.rows(position))
        start = rows.codes.new_zeros(1)  # of one component, any row
        if num_components > 1:
            prior = prior_of(rows, mixture.layout.num_classes, prior_strength)
            start = spread_rows(rows, prior, num_components, generator)
        mixture.products = fit_product_mixture(
            rows,
            mixture.layout.num_classes,
            start=start,
            prior_strength=prior_strength,
            num_iterations=num_iterations,
            tolerance=tolerance,
        )
        return mixture

    @classmethod
    def fit_classes(
        cls,
        space: Space,
        position: Position,
        num_components: int,
        *,
        label: str,
        generator: Generator,
        prior_strength: float = 1.0,
    ) -> Self:
        """Fits components to the rows of each class of a label, as many to each, and joins them by the class frequencies.

        A draw given the label then comes from a component of its class, but for a share of about `OTHER_CLASSES`. Where
        components of all rows are fitted together, one of them often serves several classes. Rows without the label are
        left out.

        Args:
            space: the blocks.
            position: rows, any entries missing.
            num_components: M, a multiple of the number of classes.
            label: name of a discrete block of one variable.
            generator: chooses the rows to start from.
            prior_strength: see `fit`.

        Raises:
            ValueError: a block of several variables, a number of components that is no such multiple, or a class without
                rows.
        """
        space.require((label,), discrete=True)
        counts = space.num_classes(label)
        if len(counts) != 1 or num_components < counts[0] or num_components % counts[0]:
            raise ValueError(
                f"Mixture.fit_classes: label {label!r} has {len(counts)} variables of {counts[0]} classes and "
                f"num_components is {num_components}; give a label of one variable, and a multiple of its classes"
            )
        encoded = position[label].reshape(len(position[label]), -1)
        classes = space[label].decode(position[label].nan_to_num()).reshape(-1).long()
        classes = torch.where(encoded.isnan().any(dim=1), -1, classes)
        parts, shares = [], []
        for number in range(counts[0]):
            rows = (classes == number).nonzero().flatten()
            if not len(rows):
                raise ValueError(
                    f"Mixture.fit_classes: class {number} of label {label!r} has no rows; give some of each"
                )
            of_class = {name: value[rows] for name, value in position.items()}
            each = num_components // counts[0]
            fitted = cls.fit(space, of_class, each, generator=generator, prior_strength=prior_strength)
            parts.append(fitted.products)
            shares.append(len(rows) / int((classes >= 0).sum()))
        mixture = cls(space, num_components).to(parts[0].log_weights)
        products = mixture.products
        products.log_weights.copy_(
            torch.cat([part.log_weights + math.log(share) for part, share in zip(parts, shares, strict=True)])
        )
        for name in ("log_probs", "means", "log_sds"):
            products.get_buffer(name).copy_(torch.cat([part.get_buffer(name) for part in parts], dim=1))
        before = space.discrete[: space.discrete.index(label)]
        column = sum(space[name].num_variables for name in before)
        own = torch.arange(counts[0]).repeat_interleave(num_components // counts[0])
        of_label = torch.nn.functional.one_hot(own, counts[0]).T.to(products.log_probs)  # (K, M)
        products.of_column(column).copy_(((1 - OTHER_CLASSES) * of_label + OTHER_CLASSES / counts[0]).log())
        return mixture

    @property
    def num_components(self) -> int:
        """M."""
        return len(self.products.log_weights)

    def forward(self, position: Position) -> Tensor:
        """`log_prob`, so that the mixture is a log-density that kernels take."""
        return self.log_prob(position)

    def log_prob(self, position: Position) -> Tensor:
        """log q of the observed entries of each row, missing (NaN) ones marginalised, shape (N,), nats."""
        return self.components(position).logsumexp(dim=1)

    @property
    def num_features(self) -> int:
        """Width of `encode`: M."""
        return self.num_components

    def encode(self, position: Position) -> Tensor:
        """The part of each component that belongs to the reals, shape (N, M); reads continuous blocks only."""
        return self.products.of_reals(self.layout.reals(position).to(self.products.log_weights))

    def head(self, features: Tensor, position: Position) -> Tensor:
        """`log_prob` from the features and the discrete blocks, shape (N,)."""
        one_hot = self.layout.classes(position, features.dtype)
        of_labels = linear_by_row(one_hot, self.products.log_probs.T) + self.products.log_weights
        return (of_labels + features).logsumexp(dim=1)

    def components(self, position: Position) -> Tensor:
        """Log-density of each component and the observed entries together, shape (N, M)."""
        one_hot, reals = self.layout.one_hot(position, self.products.log_weights.dtype)
        return self.products.components_of_one_hot(one_hot, reals)

    def draw(self, num: int, generator: Generator) -> dict[str, Tensor]:
        """Draws `num` independent positions."""
        like = self.products.log_weights
        codes = torch.full((num, len(self.layout.num_classes)), -1, device=like.device)
        rows = MixedRows(codes, like.new_full((num, self.layout.num_reals), torch.nan))
        nothing = self.layout.constraints(None, num, like)
        return self.layout.position(self.products.draw_rows(rows, nothing, generator))

    def complete(
        self, position: Position, generator: Generator, evidence: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Draws all missing entries of each row from their exact joint conditional given the observed ones.

        Args:
            position: rows with missing (NaN) entries; observed ones keep their bits.
            generator: source of the draws.
            evidence: what is known about missing entries; see `Reference`.

        Raises:
            ValueError: positions or evidence that do not fit the space.
        """
        rows = self._rows(position)
        constraints = self.layout.constraints(evidence, len(rows.codes), self.products.log_weights)
        return self.layout.completed(position, self.products.draw_rows(rows, constraints, generator))

    def log_conditional(self, position: Position, free: Mask, evidence: Mapping[str, Tensor] | None = None) -> Tensor:
        """log q(free entries | all others, evidence) of complete rows, shape (N,), nats; -inf where evidence forbids them.

        Args:
            position: complete rows.
            free: per block, what `complete` would draw; a block left out is clamped.
            evidence: what is known about free entries; see `Reference`.
        """
        rows = self._rows(position)
        constraints = self.layout.constraints(evidence, len(rows.codes), self.products.log_weights)
        clamped = self.layout.clamped(rows, free)
        known = self.products.given(clamped, constraints).logsumexp(dim=1)
        return self.log_prob(position) + log_evidence(rows, clamped, constraints) - known

    def _rows(self, position: Position) -> MixedRows:
        codes, reals = self.layout.rows(position)
        return MixedRows(codes, reals.to(self.products.log_weights))


class MixtureChoice(NamedTuple):
    """A mixture chosen among several numbers of components.

    Args:
        mixture: the one with the best held-out score.
        scores: mean held-out log-density in nats, by number of components.
    """

    mixture: Mixture
    scores: dict[int, float]


def choose_mixture(
    space: Space,
    position: Position,
    held_out: Position,
    *,
    generator: Generator,
    candidates: Iterable[int] = MIXTURE_SIZES,
    prior_strength: float = 1.0,
    label: str | None = None,
) -> MixtureChoice:
    """Fits mixtures of growing size and keeps the one with the largest log-density on held-out rows.

    Stops after two candidates in a row without improvement, and before a candidate with more components than rows.

    Args:
        space: the blocks.
        position: rows to fit, any entries missing.
        held_out: rows to score, any entries missing; not fitted.
        generator: chooses the rows to start from.
        candidates: numbers of components, tried in increasing order.
        prior_strength: see `Mixture.fit`.
        label: a label each of whose classes has components of its own (`Mixture.fit_classes`); None: they share.

    Example:
        >>> from jointebm.spaces import Continuous, Space
        >>> space, generator = Space(point=Continuous()), torch.Generator().manual_seed(0)
        >>> values = torch.randn(400, generator=generator) + 9 * (torch.arange(400) % 2)
        >>> position, held_out = ({"point": part} for part in values.split([300, 100]))
        >>> choice = choose_mixture(space, position, held_out, generator=generator, candidates=(1, 2))
        >>> choice.mixture.num_components
        2
    """
    best, scores, num_rows = None, {}, len(position[next(iter(space))])
    best_score, since = -torch.inf, 0
    for number in sorted(set(candidates)):
        if best is not None and (number > num_rows or since == PATIENCE):
            break
        if label is None:
            mixture = Mixture.fit(space, position, number, generator=generator, prior_strength=prior_strength)
        else:
            mixture = Mixture.fit_classes(
                space, position, number, label=label, generator=generator, prior_strength=prior_strength
            )
        scores[number] = float(mixture.log_prob(held_out).mean(dtype=torch.float64))
        since += 1
        if best is None or scores[number] > best_score:
            best, best_score, since = mixture, scores[number], 0
    if best is None:
        raise ValueError("choose_mixture: got no candidates; give at least one number of components")
    return MixtureChoice(best, scores)


def log_evidence(rows: MixedRows, clamped: MixedRows, constraints: Constraints) -> Tensor:
    """Sum of the log-weights that evidence gives to what is free, shape (N,); -inf outside an interval.

    Args:
        rows: complete rows.
        clamped: the same rows, missing what is free.
        constraints: what is known about what is free.
    """
    total = evidence_of_codes(rows.codes, clamped.codes < 0, constraints.log_weights)
    if constraints.bounds is not None:
        low, high = constraints.bounds
        outside = ((rows.reals < low) | (rows.reals > high)) & clamped.reals.isnan()
        total = total.masked_fill(outside.any(dim=1), -torch.inf)
    return total


def _checked(num_components: int, prior_strength: float) -> int:
    if num_components < 1:
        raise ValueError(f"Mixture.fit: num_components is a whole number >= 1, got {num_components}")
    if not prior_strength > 0:
        raise ValueError(
            f"Mixture.fit: prior_strength is positive, got {prior_strength}; give a small one for a weak prior"
        )
    return num_components


def _some_rows(rows: MixedRows) -> MixedRows:
    if not len(rows.codes):
        raise ValueError("Mixture.fit: got no rows; give at least one")
    return rows
