"""A masked network as a reference: sharper than a mixture, with ancestral draws of any columns given any others.

Legend: N rows, V discrete variables (columns), F classes of all of them.
"""

import copy
import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.references.layout import Layout, MixedRows
from jointebm.references.masked_network import MaskedNetwork
from jointebm.references.mixture import Mixture
from jointebm.references.network_prior import WEIGHT_PRIOR, prior_groups
from jointebm.references.product_mixture import ProductMixture
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["AnyOrder", "fit_masked_network", "masked_loss"]

NUM_CHECKS = 10  # of held-out rows, in the course of training
MAX_CHECKED = 2_000  # held-out rows of a check
WARM_UP = 50  # steps
AVERAGED_SHARE = 0.02  # of all steps, that parameters are averaged over


class AnyOrder(nn.Module):
    """A masked network over all variables of a discrete space.

    Free variables are drawn in the order of the space, each given everything that is clamped or already drawn:

        q(free | clamped) = prod over free j, in order, of q(y_j | clamped, free before j)

    Exact: `draw`, `complete` without evidence, `log_conditional` for every set of free variables (it sums to one over them
    and is the log-probability of `complete`), and `log_prob` of complete rows or of the first variables of the order.

    Not exact: the conditionals of different clamped sets are not those of one joint density, except where the clamped
    variables are the first ones. `log_prob` of any other subset raises. With evidence, `complete` does not draw from q given
    the evidence, but from a proposal whose log-probability is `log_conditional` with the same evidence.

    Args:
        space: discrete blocks only.
        network: over its variables; its parameters are frozen.

    Example:
        >>> from jointebm.spaces import Binary, Space
        >>> space, generator = Space(bits=Binary(3)), torch.Generator().manual_seed(0)
        >>> position, _ = space.encode({"bits": [[0, 1, 1], [1, 0, 1]] * 200})
        >>> mixture = Mixture.fit(space, position, 1, generator=generator)
        >>> any_order = AnyOrder.fit(position, mixture, generator=generator, width=32, num_steps=60)
        >>> known, _ = space.encode({"bits": [[-1, 0, 1]]})
        >>> any_order.complete(known, generator)["bits"]
        tensor([[1., 0., 1.]])
    """

    def __init__(self, space: Space, network: MaskedNetwork) -> None:
        super().__init__()
        self.space, self.layout, self.network = space, _discrete(space), network.requires_grad_(False)

    @classmethod
    def untrained(cls, space: Space, num_components: int, *, width: int, num_layers: int) -> Self:
        """A network of these sizes with the parameters of a fresh one."""
        mixture = ProductMixture(_discrete(space).num_classes, num_components)
        return cls(space, MaskedNetwork(mixture, width=width, num_layers=num_layers))

    @classmethod
    def fit(
        cls,
        position: Position,
        mixture: Mixture,
        *,
        generator: Generator,
        held_out: Position | None = None,
        width: int = 256,
        num_layers: int = 3,
        num_steps: int = 2_000,
        learning_rate: float = 2e-3,
        weight_prior: float = WEIGHT_PRIOR,
    ) -> Self:
        """Trains a network on random masks, starting from a mixture of the same space.

        Args:
            position: rows, any entries missing.
            mixture: fitted to the same rows, of a space of discrete blocks only; copied.
            generator: source of weights, batches and masks.
            held_out: rows to stop by; None trains to the end.
            width: hidden units of a layer, a multiple of 32.
            num_layers: hidden layers.
            num_steps: of Adam, 512 rows each.
            learning_rate: at its peak.
            weight_prior: strength s of the prior of the weights; see `network_prior`.

        Raises:
            ValueError: a continuous block, no rows, a width that is not a multiple of 32, or positions that do not fit the
                space.
        """
        layout = _discrete(mixture.space)
        network = MaskedNetwork(copy.deepcopy(mixture.products), width=width, num_layers=num_layers)
        network.to(mixture.products.log_weights)
        network.initialise(generator)
        rows = layout.rows(position).codes
        scored = None if held_out is None else layout.rows(held_out).codes
        fitted = fit_masked_network(
            network,
            rows,
            generator=generator,
            held_out=scored,
            num_steps=num_steps,
            learning_rate=learning_rate,
            weight_prior=weight_prior,
        )
        return cls(mixture.space, fitted)

    def log_prob(self, position: Position) -> Tensor:
        """log q of complete rows, or of rows whose first variables are observed, shape (N,), nats.

        Not differentiable in the position.

        Raises:
            ValueError: a missing variable precedes an observed one; see `log_conditional`.
        """
        return self.network.log_prob(self.layout.rows(position).codes)

    def draw(self, num: int, generator: Generator) -> dict[str, Tensor]:
        """Draws `num` independent positions."""
        like = self.network.bias
        codes = torch.full((num, len(self.layout.num_classes)), -1, device=like.device)
        return self.layout.position(MixedRows(self.network.draw(codes, generator), like.new_empty(num, 0)))

    def complete(
        self, position: Position, generator: Generator, evidence: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Draws all missing entries of each row in the order of the space; observed ones keep their bits.

        Args:
            position: rows with missing (NaN) entries.
            generator: source of the draws.
            evidence: what is known about missing entries; see `Reference`. Normalised variable by variable.

        Raises:
            ValueError: positions or evidence that do not fit the space.
        """
        rows = self.layout.rows(position)
        constraints = self.layout.constraints(evidence, len(rows.codes), self.network.bias)
        drawn = self.network.draw(rows.codes, generator, evidence=constraints.log_weights)
        return self.layout.completed(position, MixedRows(drawn, rows.reals))

    def log_conditional(self, position: Position, free: Mask, evidence: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log-probability with which `complete` draws the free entries given all others, shape (N,), nats.

        Args:
            position: complete rows.
            free: per block, what `complete` would draw; a block left out is clamped.
            evidence: what is known about free entries; see `Reference`.
        """
        rows = self.layout.rows(position)
        constraints = self.layout.constraints(evidence, len(rows.codes), self.network.bias)
        is_free = self.layout.clamped(rows, free).codes < 0
        return self.network.log_conditional(rows.codes, is_free, constraints.log_weights)


def masked_loss(network: MaskedNetwork, codes: Tensor, visible: Tensor) -> Tensor:
    """Estimates -log q of each row in a random order of its columns, from one prefix of it, shape (N,), nats.

        (num observed / num masked) * sum over masked j of -log q(c_j | visible)

    Its expectation over uniform orders and prefix lengths is the mean of -log q over all orders.

    Args:
        network: the conditionals.
        codes: shape (N, V); -1 is missing: neither visible nor asked for.
        visible: shape (N, V), bool.

    References:
        Uria et al. 2014; Hoogeboom et al. 2022.
    """
    masked = (codes >= 0) & ~visible
    log_probs = network.conditionals(codes.masked_fill(~visible, -1))
    first = torch.tensor(network.mixture.offsets[:-1], device=codes.device)
    of_codes = log_probs.gather(1, codes.clamp(min=0) + first)  # (N, V)
    num = (codes >= 0).sum(dim=1) / masked.sum(dim=1).clamp(min=1)
    return -num * torch.where(masked, of_codes, 0).sum(dim=1)


def fit_masked_network(
    network: MaskedNetwork,
    codes: Tensor,
    *,
    generator: Generator,
    held_out: Tensor | None = None,
    num_steps: int = 2_000,
    batch_size: int = 512,
    learning_rate: float = 2e-3,
    weight_prior: float = WEIGHT_PRIOR,
) -> MaskedNetwork:
    """Trains a network by Adam on uniformly random prefixes of random orders, and averages its parameters.

    Args:
        network: where to start, such as `initialise` leaves it; trained in place.
        codes: shape (N, V); -1 is missing.
        generator: source of batches and masks.
        held_out: rows (n, V) whose loss is checked ten times; the best of these networks, the untrained one included, is
            returned. None returns the last.
        num_steps: of Adam.
        batch_size: rows of a step.
        learning_rate: at its peak, after which it falls along a cosine.
        weight_prior: strength s of the prior of the weights; see `network_prior`.

    Returns:
        The averaged network.

    Raises:
        ValueError: no rows.
        FloatingPointError: the loss is not finite.
    """
    if not len(codes):
        raise ValueError("fit_masked_network: got no rows; give at least one")
    groups = prior_groups(
        network.named_parameters(),
        num_columns=len(network.mixture.num_classes),
        width=len(network.bias),
        strength=weight_prior / len(codes),
    )
    optimizer = torch.optim.Adam(groups, lr=learning_rate, betas=(0.9, 0.99))
    average = copy.deepcopy(network).requires_grad_(False)
    check = None if held_out is None else held_out[:: -(-len(held_out) // MAX_CHECKED)]
    masks = None if check is None else _visible(check, generator)
    best, best_loss = copy.deepcopy(average), _mean_loss(average, check, masks)
    for step in range(num_steps):
        for group in optimizer.param_groups:
            fall = 0.5 * (1 + math.cos(math.pi * step / num_steps))
            group["lr"] = learning_rate * min(1.0, (step + 1) / WARM_UP) * fall
        places = draws.uniform(network.bias.new_empty(batch_size, dtype=torch.float64), generator) * len(codes)
        batch = codes[places.to(torch.int64)]
        loss = masked_loss(network, batch, _visible(batch, generator)).mean()
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"fit_masked_network: loss {loss.item()} at step {step}; lower the learning rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            pull = max(1 / (AVERAGED_SHARE * num_steps + 1), 1 / (step + 1))
            for old, new in zip(average.parameters(), network.parameters(), strict=True):
                old.lerp_(new, pull)
        is_check = (step + 1) % -(-num_steps // NUM_CHECKS) == 0 or step + 1 == num_steps
        if check is None or not is_check:
            continue
        checked = _mean_loss(average, check, masks)
        if checked < best_loss:
            best, best_loss = copy.deepcopy(average), checked
    return average if check is None else best


@torch.no_grad()
def _mean_loss(network: MaskedNetwork, codes: Tensor | None, visible: Tensor | None) -> float:
    if codes is None or visible is None:
        return math.inf
    return float(masked_loss(network, codes, visible).mean(dtype=torch.float64))


def _visible(codes: Tensor, generator: Generator) -> Tensor:
    """A prefix of uniform length, 0 to (number of observed) - 1, of a uniform order of each row's observed columns."""
    order = draws.uniform(torch.empty(codes.shape, device=codes.device), generator).masked_fill(codes < 0, 2.0)
    rank = order.argsort(dim=1).argsort(dim=1)  # observed columns come first
    num_observed = (codes >= 0).sum(dim=1)
    length = (draws.uniform(torch.empty(len(codes), device=codes.device), generator) * num_observed).to(torch.int64)
    return rank < torch.minimum(length, num_observed - 1).clamp(min=0)[:, None]


def _discrete(space: Space) -> Layout:
    if space.continuous:
        raise ValueError(
            f"AnyOrder: block {space.continuous[0]!r} is continuous; its variables are discrete. Use a Mixture"
        )
    return Layout(space)
