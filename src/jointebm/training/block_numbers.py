"""The numbers of an iteration on blocks, of one process or of all."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

__all__ = ["BlockNumbers"]


class BlockNumbers(NamedTuple):
    """What an attempt found, as JSON data.

    Args:
        rows: rows of data, and as many chains.
        f_positive: mean f of the data, nats.
        f_negative: mean f of the chains by their weights, nats; None if the objective needs no chains.
        accept_rate: mean acceptance probability of each kernel of the cycle.
        low: smallest continuous entry of the chains; None if the objective needs no chains.
        high: largest continuous entry of the chains.
        drawn_afresh: whether they are fresh draws of the reference that did not move.
        ess: effective number of chains before resampling; None if they carry no weights.
        log_normalizer: log of their mean weight, nats; None if they carry none.
        terms: the terms of the loss by name; None if it has one.
    """

    rows: int
    f_positive: float
    f_negative: float | None
    accept_rate: tuple[float, ...]
    low: float | None
    high: float | None
    drawn_afresh: bool = False
    ess: float | None = None
    log_normalizer: float | None = None
    terms: dict[str, float] | None = None

    @classmethod
    def pooled(cls, parts: Sequence[Self]) -> Self:
        """The numbers of all rows and chains, from those of each process.

        Chains of all are drawn afresh only if those of every process are.

        Example:
            >>> one = BlockNumbers(3, -1.0, -2.0, (0.5,), -3.0, 4.0)
            >>> both = BlockNumbers.pooled([one, one._replace(rows=1, f_positive=-5.0, low=-9.0)])
            >>> both.rows, both.f_positive, both.f_negative, both.low
            (4, -2.0, -2.0, -9.0)
        """
        if len(parts) == 1:
            return parts[0]
        total = sum(part.rows for part in parts)
        shares = [part.rows / total for part in parts]
        weights, log_normalizer, ess = shares, None, None
        logs = [part.log_normalizer for part in parts if part.log_normalizer is not None]
        if logs:
            top = max(logs)
            masses = [share * math.exp(log - top) for share, log in zip(shares, logs, strict=True)]
            log_normalizer = top + math.log(sum(masses))
            weights = [mass / sum(masses) for mass in masses]
            ess = 1 / sum(weight**2 / (part.ess or 1.0) for weight, part in zip(weights, parts, strict=True))
        moved = [part for part in parts if part.accept_rate]  # draws did not move
        rates = zip(*(part.accept_rate for part in moved), strict=True)
        of_moved = [part.rows / sum(each.rows for each in moved) for part in moved]
        lows, highs = [p.low for p in parts if p.low is not None], [p.high for p in parts if p.high is not None]
        negative = [part.f_negative for part in parts if part.f_negative is not None]
        first = parts[0].terms
        return cls(
            rows=total,
            f_positive=_mean([part.f_positive for part in parts], shares),
            f_negative=_mean(negative, weights) if negative else None,
            accept_rate=tuple(_mean(rate, of_moved) for rate in rates),
            low=min(lows) if lows else None,
            high=max(highs) if highs else None,
            drawn_afresh=all(part.drawn_afresh for part in parts),
            ess=ess,
            log_normalizer=log_normalizer,
            terms=first and {name: _mean([(part.terms or {})[name] for part in parts], shares) for name in first},
        )


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(weight * value for value, weight in zip(values, weights, strict=True))
