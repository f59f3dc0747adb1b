"""The numbers of an iteration on a table, of one process or of all, and its metrics."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

__all__ = ["TableMetrics", "TableNumbers"]


class TableNumbers(NamedTuple):
    """What an attempt found, as JSON data.

    Args:
        rows: rows of data, and as many weighted rows of the model.
        loss: nats.
        of_chains: its part that is a mean by the weights, nats; None if the objective needs none, and so the next ones.
        source: weighted "draws" of the proposal, or weighted "chains".
        share: effective share of the weights before resampling.
        log_normalizer: log of the mean weight, nats.
        fresh_share: effective share of draws of the proposal, as these and as the data see it, the lower one.
        acceptance: share of jumps that were accepted; 1 for draws.
    """

    rows: int
    loss: float
    of_chains: float | None = None
    source: Literal["draws", "chains"] | None = None
    share: float | None = None
    log_normalizer: float | None = None
    fresh_share: float | None = None
    acceptance: float | None = None

    @classmethod
    def pooled(cls, parts: Sequence[Self]) -> Self:
        """The numbers of all rows and chains, from those of each process.

        Example:
            >>> one = TableNumbers(2, -1.0, 1.0, "draws", 1.0, 0.0, 0.5, 1.0)
            >>> both = TableNumbers.pooled([one, one._replace(log_normalizer=-1e9)])
            >>> both.rows, both.loss, both.share, round(both.log_normalizer, 4)
            (4, -1.0, 0.5, -0.6931)
        """
        if len(parts) == 1:
            return parts[0]
        total = sum(part.rows for part in parts)
        shares = [part.rows / total for part in parts]
        rest = sum(share * (part.loss - (part.of_chains or 0.0)) for share, part in zip(shares, parts, strict=True))
        logs = [part.log_normalizer for part in parts if part.log_normalizer is not None]
        if not logs:
            return cls(total, rest)
        top = max(logs)
        masses = [share * math.exp(log - top) for share, log in zip(shares, logs, strict=True)]
        weights = [mass / sum(masses) for mass in masses]
        of_chains = _mean([part.of_chains for part in parts], weights)
        effective = 1 / sum(
            weight**2 / (part.rows * (part.share or 1.0)) for weight, part in zip(weights, parts, strict=True)
        )
        return cls(
            rows=total,
            loss=rest + of_chains,
            of_chains=of_chains,
            source="draws" if all(part.source == "draws" for part in parts) else "chains",
            share=effective / total,
            log_normalizer=top + math.log(sum(masses)),
            fresh_share=_mean([part.fresh_share for part in parts], shares),
            acceptance=_mean([part.acceptance for part in parts], shares),
        )


class TableMetrics(NamedTuple):
    """One iteration of a fit.

    Args:
        iteration: number of updates done.
        objective: its name.
        loss: nats; that of maximum likelihood is no likelihood, and nears 0 as the model becomes like the data.
        grad_norm: Euclidean norm of the gradient of the parameters.
        learning_rate: used for this update.
        negatives: weighted "draws" of the proposal, or weighted "chains"; None without either.
        ess: effective share of their weights, before resampling, in (0, 1].
        jump_acceptance: share of jumps of whole rows that were accepted; 1 for draws.
        log_normalizer: log Z by the mean weight, nats.
        log_likelihood: mean log p of held-out rows, nats per row; None if they were not scored.
        log_score: mean conditional log score of held-out rows, nats per observed entry; None if they were not scored.
        seconds: since the start, over all sessions.
    """

    iteration: int
    objective: str
    loss: float
    grad_norm: float
    learning_rate: float
    negatives: str | None
    ess: float | None
    jump_acceptance: float | None
    log_normalizer: float | None
    log_likelihood: float | None
    log_score: float | None
    seconds: float


def _mean(values: Sequence[float | None], weights: Sequence[float]) -> float:
    return sum(weight * value for value, weight in zip(values, weights, strict=True) if value is not None)
