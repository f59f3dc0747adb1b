"""Calibration: how far predicted probabilities are from frequencies.

Legend: N rows, K classes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.spaces.blocks import Binary
from jointebm.spaces.space import Space

__all__ = ["Calibration", "calibration"]

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
            confidence, label = p_v.max(dim=1)
            correct = y_v.gather(1, label[:, None]).squeeze(1)
            bins = (confidence * NUM_CONFIDENCE_BINS).long().clamp(max=NUM_CONFIDENCE_BINS - 1)
            gap = torch.zeros(NUM_CONFIDENCE_BINS, dtype=p.dtype).index_add_(0, bins, confidence - correct)
            errors.append(gap.abs().sum() / len(p_v))
    return Calibration(float(torch.stack(errors).mean()), float(torch.stack(squares).mean()))
