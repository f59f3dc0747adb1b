"""A masked network over codes: every missing column's distribution given the visible ones.

    log q(c_j = k | visible) = log_softmax_k [log p_mixture(c_j = k | visible) + net_jk(visible)]

The last layer starts at zero, so a fresh network has the conditionals of its mixture.

Legend: N rows, V columns, K_j classes of column j, F = sum of K_j, H hidden units, M components of the mixture.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear, silu

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.randomness.waiting import may_read
from jointebm.references.network_prior import draw_weights
from jointebm.references.product_mixture import ProductMixture, features, linear_by_row

__all__ = ["WIDTH_STEP", "MaskedNetwork"]

WIDTH_STEP = 32  # torch rounds the activations of a few entries at the end of a batch otherwise than those in its midst


class MaskedNetwork(nn.Module):
    """Conditionals of each column given any others, and the density that they make in a fixed order of columns.

    Args:
        mixture: over the same columns; not trained further.
        width: H, a multiple of 32, so that a row has the same bits in every batch.
        num_layers: hidden layers of H units.

    Raises:
        ValueError: a width that is not a multiple of 32.

    Example:
        >>> network = MaskedNetwork(ProductMixture((2, 3)), width=32, num_layers=2)
        >>> network.log_prob(torch.tensor([[0, 2]])).exp()
        tensor([0.1667], grad_fn=<ExpBackward0>)
    """

    def __init__(self, mixture: ProductMixture, *, width: int, num_layers: int) -> None:
        super().__init__()
        if width % WIDTH_STEP:
            raise ValueError(f"MaskedNetwork: width is a multiple of {WIDTH_STEP}, got {width}")
        self.mixture = mixture
        num_features = mixture.offsets[-1]
        self.embedding = nn.Parameter(torch.zeros(num_features, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.weights = nn.ParameterList([torch.zeros(width, width) for _ in range(num_layers - 1)])
        self.biases = nn.ParameterList([torch.zeros(width) for _ in range(num_layers - 1)])
        self.readout = nn.Parameter(torch.zeros(num_features, width))
        self.readout_bias = nn.Parameter(torch.zeros(num_features))

    def initialise(self, generator: Generator) -> None:
        """Draws all weights but those of the last layer, which stay zero."""
        draw_weights(self, len(self.mixture.num_classes), generator)

    def conditionals(self, codes: Tensor) -> Tensor:
        """log q(c_j = k | visible) of every class of every column, shape (N, F), nats.

        Columns that are visible get a distribution that means nothing.

        Args:
            codes: shape (N, V); -1 is missing.
        """
        posterior = self.mixture.components(codes).softmax(dim=1)
        known = (posterior @ self.mixture.log_probs.exp().T).log()  # (N, F)
        logits = known + linear(self.hidden(codes), self.readout, self.readout_bias)
        parts = logits.split(list(self.mixture.num_classes), dim=1)
        return torch.cat([part.log_softmax(dim=1) for part in parts], dim=1)

    def conditional(self, codes: Tensor, column: int) -> Tensor:
        """log q(c_j = k | visible) of one missing column, shape (N, K_j), nats; its bits do not depend on other rows."""
        if len(self.mixture.log_weights) == 1:  # no column tells anything of another
            known = self.mixture.of_column(column).T
        else:
            known = self.mixture.of_classes(self.mixture.components(codes), column)
        classes = slice(self.mixture.offsets[column], self.mixture.offsets[column + 1])
        of_net = linear_by_row(self.hidden(codes), self.readout[classes], self.readout_bias[classes])
        return (known + of_net).log_softmax(dim=1)

    def hidden(self, codes: Tensor) -> Tensor:
        """The last hidden layer, shape (N, H); a missing code adds nothing to the first one."""
        padded = torch.cat([self.embedding, self.embedding.new_zeros(1, len(self.bias))])
        hidden = silu(embedding_bag(features(codes, self.mixture.offsets), padded, mode="sum") + self.bias)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = hidden + silu(linear_by_row(hidden, weight, bias))
        return hidden

    def log_prob(self, codes: Tensor) -> Tensor:
        """log q of rows whose observed columns come first, shape (N,), nats.

            log q(c_1 .. c_n) = sum_j log q(c_j | c_1 .. c_(j-1))

        Raises:
            ValueError: a missing column precedes an observed one; its marginal is a sum that is not computed.
        """
        missing = codes < 0
        gaps = missing[:, :-1] & ~missing[:, 1:]
        if bool(gaps.any()):
            row, column = gaps.nonzero()[0].tolist()
            raise ValueError(
                f"log_prob: row {row} lacks column {column} and has column {column + 1}; a masked network marginalises the "
                "last columns only. Use `log_conditional` given the observed columns, or a mixture"
            )
        start = torch.full_like(codes, -1)
        return self._log_ratio(codes, start, ~missing, [None] * codes.shape[1])

    def log_conditional(self, codes: Tensor, free: Tensor, evidence: Sequence[Tensor | None] | None = None) -> Tensor:
        """Log-probability with which `draw` completes the free columns given all others, shape (N,), nats.

        Args:
            codes: complete rows, shape (N, V).
            free: shape (N, V), bool.
            evidence: as `draw` had it.
        """
        evidence = evidence or [None] * codes.shape[1]
        return self._log_ratio(codes, codes.masked_fill(free, -1), free, evidence)

    @torch.no_grad()
    def draw(self, codes: Tensor, generator: Generator, *, evidence: Sequence[Tensor | None] | None = None) -> Tensor:
        """Draws the missing columns of each row in order, each given all that are observed or drawn.

        Args:
            codes: shape (N, V).
            generator: source of one choice per row and column.
            evidence: per column, log-weights of its classes, shape (K_j,) or (N, K_j), or None. Each column is normalised
                with them on its own, which is not the conditional of the joint density given evidence on several columns;
                `log_conditional` with the same evidence is the log-probability of the draw.

        Returns:
            Completed codes, shape (N, V).
        """
        return self.drawn(codes, generator, evidence=evidence)[0]

    @torch.no_grad()
    def drawn(
        self, codes: Tensor, generator: Generator, *, evidence: Sequence[Tensor | None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """`draw`, and the log-probability of what was drawn, which is `log_conditional` of it.

        Args:
            codes: shape (N, V).
            generator: source of one choice per row and column.
            evidence: as of `draw`.

        Returns:
            Completed codes, shape (N, V), and their log-probabilities, shape (N,), nats.
        """
        drawn, total = codes.clone(), self.bias.new_zeros(len(codes))
        for column, weights in enumerate(evidence or [None] * codes.shape[1]):
            log_probs = self._where_missing(drawn, codes[:, column] < 0, column)
            if weights is not None:
                log_probs = (log_probs + weights).log_softmax(dim=1)
            chosen = draws.choose(log_probs, generator)
            total = total + torch.where(codes[:, column] < 0, log_probs.gather(1, chosen[:, None])[:, 0], 0)
            drawn[:, column] = torch.where(codes[:, column] < 0, chosen, codes[:, column])
        return drawn, total

    def _log_ratio(self, codes: Tensor, start: Tensor, wanted: Tensor, evidence: Sequence[Tensor | None]) -> Tensor:
        """Sum over the wanted columns, in order, of their log-probability given `start` and those before them."""
        total, seen = self.bias.new_zeros(len(codes)), start.clone()
        for column, weights in enumerate(evidence):
            log_probs = self._where_missing(seen, wanted[:, column], column)
            if weights is not None:
                log_probs = (log_probs + weights).log_softmax(dim=1)
            of_codes = log_probs.gather(1, codes[:, column, None].clamp(min=0))[:, 0]
            total = total + torch.where(wanted[:, column], of_codes, 0)
            seen[:, column] = torch.where(wanted[:, column], codes[:, column], seen[:, column])
        return total

    def _where_missing(self, codes: Tensor, missing: Tensor, column: int) -> Tensor:
        """`conditional` in rows that miss the column, (N,) of bool; elsewhere numbers that mean nothing."""
        if not may_read(missing):
            return self.conditional(codes, column)
        log_probs = self.bias.new_zeros(len(codes), self.mixture.num_classes[column])
        rows = missing.nonzero()[:, 0]
        if len(rows):
            log_probs[rows] = self.conditional(codes[rows], column)
        return log_probs
