"""Calibration: how far predicted probabilities are from frequencies.

Legend: N rows, K classes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.spaces.blocks import Binary
from jointebm.spaces.space import Space

__all__ = ["Calibration", "Reliability", "calibration", "reliability"]

NUM_CONFIDENCE_BINS = 15


class Calibration(NamedTuple):
    """Two distances of probabilities from frequencies; 0 is perfect for both.

    Args:
        ece: expected calibration error, sum_b (N_b / N) |confidence_b - accuracy_b|: rows are put into 15 bins b of equal
            width by confidence, the probability of the most probable class; confidence_b is its mean in bin b, accuracy_b
            the share of rows whose most probable class is the true one. Mean over variables; in [0, 1].
        brier: sum over all K classes (two for a bit) of (probability - indicator of the true class)^2, mean over rows and
            variables; in [0, 2].
    """

    ece: float
    brier: float


def calibration(space: Space, probs: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> Calibration:
    """Compares marginal probabilities, per block (N, *position_shape), with true labels, per block (N, *variable_shape).

    References:
        Guo et al. 2017 (ECE). Brier 1950.

    Example:
        >>> from jointebm import Categorical
        >>> calibration(Space(y=Categorical(2)), {"y": torch.tensor([[0.0, 1.0]])}, {"y": torch.tensor([1])})
        Calibration(ece=0.0, brier=0.0)
    """
    errors, squares = [], []
    for name in probs:
        block = space[name]
        one_hot = block.encode(name, true[name], probs[name].dtype)[0]
        if isinstance(block, Binary):
            pairs = [torch.stack([1 - value, value], dim=-1) for value in (probs[name], one_hot)]
        else:
            pairs = [probs[name], one_hot]
        p, y = (value.reshape(len(value), -1) for value in pairs)
        counts = list(space.num_classes(name))
        for p_v, y_v in zip(p.split(counts, dim=1), y.split(counts, dim=1), strict=True):
            squares.append((p_v - y_v).square().sum(dim=1).mean())
            errors.append(reliability(p_v, y_v.argmax(dim=1)).ece)
    return Calibration(sum(errors) / len(errors), float(torch.stack(squares).mean()))


class Reliability(NamedTuple):
    """Confidence next to accuracy, in 15 bins of equal width of the confidence.

    Args:
        confidence: mean probability of the most probable class in each bin, shape (15,); NaN in an empty bin.
        accuracy: share of rows whose most probable class is the true one, shape (15,); NaN in an empty bin.
        num_rows: in each bin, shape (15,), int64.
    """

    confidence: Tensor
    accuracy: Tensor
    num_rows: Tensor

    @property
    def ece(self) -> float:
        """Expected calibration error, as in `Calibration`."""
        share = self.num_rows / self.num_rows.sum()
        return float((share * (self.confidence - self.accuracy).nan_to_num().abs()).sum())


def reliability(probs: Tensor, true: Tensor) -> Reliability:
    """Compares probabilities of one variable (N, K) with its true labels (N,), bin by bin of the confidence.

    A bin with few rows says little: its accuracy has a standard error of up to 1 / (2 sqrt(rows)).

    References:
        Guo et al. 2017.

    Example:
        >>> reliability(torch.tensor([[0.3, 0.7], [0.3, 0.7]]), torch.tensor([1, 0])).accuracy[10]
        tensor(0.5000)
    """
    confidence, label = probs.max(dim=1)
    bins = (confidence * NUM_CONFIDENCE_BINS).long().clamp(max=NUM_CONFIDENCE_BINS - 1)
    count = torch.bincount(bins, minlength=NUM_CONFIDENCE_BINS)
    empty = torch.zeros(NUM_CONFIDENCE_BINS, dtype=probs.dtype)
    sums = [empty.index_add(0, bins, each) for each in (confidence, (label == true).to(probs.dtype))]
    return Reliability(sums[0] / count, sums[1] / count, count)
