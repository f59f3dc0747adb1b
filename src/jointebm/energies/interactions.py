"""Interactions of labels: the terms h(y) of a `StructuredEnergy`, for sequences, for grids, and for rules of all labels.

Legend: N chains, T places of a sequence, C classes, R terms.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

__all__ = ["GridPairs", "LabelProducts", "Transitions"]

FACTOR_SD = 0.7  # of a number of one label before training


class Transitions(nn.Module):
    """h(y) = sum_k sum_t y_t^T W_k y_(t+k): a learned matrix for labels k = 1 .. reach places apart.

    With reach 1 this is a chain, with exact marginals by forward-backward; with a larger reach, sample.

    Args:
        num_classes: C.
        reach: the largest distance, at least 1; it may exceed the length of the sequence.

    Raises:
        ValueError: the reach is less than 1.

    References:
        Lafferty et al. 2001 (chains). Sutton & McCallum 2004 (skip-chain conditional random fields).

    Example:
        >>> transitions = Transitions(3)
        >>> _ = nn.init.ones_(transitions.weight)
        >>> transitions(torch.eye(3).expand(2, 3, 3)).tolist()  # two transitions
        [2.0, 2.0]
    """

    def __init__(self, num_classes: int, *, reach: int = 1) -> None:
        super().__init__()
        if reach < 1:
            raise ValueError(f"Transitions: reach must be at least 1, got {reach}")
        self.weight = nn.Parameter(torch.zeros(reach, num_classes, num_classes))  # W_k from y_t to y_(t+k)

    def forward(self, y: Tensor) -> Tensor:
        """h of one-hot labels (N, T, C), shape (N,)."""
        total = y.new_zeros(len(y))
        for distance, weight in enumerate(self.weight[: y.shape[1] - 1], start=1):
            total = total + ((y[:, :-distance] @ weight) * y[:, distance:]).sum(dim=(1, 2))
        return total


class GridPairs(nn.Module):
    """h(y) = sum over pairs of pixels p, q of K_(q - p) s_p s_q, with s = 2 y - 1: an Ising model with learned couplings.

    Pixels interact up to width // 2 apart in each direction; each pair counts once; outside the grid s is 0.

    Args:
        width: side of the neighbourhood, odd, at least 3.

    Raises:
        ValueError: the width is even, or less than 3.

    Example:
        >>> pairs = GridPairs(width=3)
        >>> _ = nn.init.ones_(pairs.weight)
        >>> pairs(torch.ones(2, 4, 4)).tolist()  # 12 + 12 next to or above one another, 9 + 9 across
        [42.0, 42.0]
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        if width < 3 or width % 2 == 0:
            raise ValueError(f"GridPairs: width must be odd and at least 3, got {width}")
        self.reach = width // 2
        # Half of the neighbours, those after the pixel in reading order; the others mirror them.
        everywhere = range(-self.reach, self.reach + 1)
        self.offsets = [(down, right) for down in everywhere for right in everywhere if (down, right) > (0, 0)]
        self.weight = nn.Parameter(torch.zeros(len(self.offsets)))

    def forward(self, y: Tensor) -> Tensor:
        """h of binary labels (N, rows, columns), shape (N,)."""
        spins, reach = 2 * y - 1, self.reach
        rows, columns = spins.shape[1:]
        padded = pad(spins, (reach,) * 4)
        # Sums of shifted grids: a convolution of a single channel takes six times as long on a CPU.
        field = torch.zeros_like(spins)
        for weight, (down, right) in zip(self.weight, self.offsets, strict=True):
            top, left = reach + down, reach + right
            field = field + weight * padded[:, top : top + rows, left : left + columns]
        return (spins * field).sum(dim=(1, 2))


class LabelProducts(nn.Module):
    """h(y) = sum_r w_r prod_t A_t[r, y_t]: products of one number for each label, for rules that all labels keep together.

    Any function of the labels is such a sum if R is large. A rule on their sum needs few terms: that the sum is a multiple
    of m is a mean of m products of complex numbers, prod_t exp(2 pi i k y_t / m) with k = 0 .. m - 1.

    A_t starts random and w at 0, so that h starts at 0 and the gradient of w does not.

    Args:
        num_labels: T.
        num_classes: C.
        num_terms: R.

    Raises:
        ValueError: a number is less than 1.

    Example:
        >>> products = LabelProducts(4, 10, num_terms=8)
        >>> products(torch.eye(10)[torch.tensor([[1, 2, 3, 4], [5, 5, 5, 5]])]).tolist()
        [0.0, 0.0]
    """

    def __init__(self, num_labels: int, num_classes: int, *, num_terms: int) -> None:
        super().__init__()
        if min(num_labels, num_classes, num_terms) < 1:
            raise ValueError(
                f"LabelProducts: num_labels, num_classes and num_terms must be at least 1, got {num_labels}, "
                f"{num_classes} and {num_terms}"
            )
        drawn = nn.Linear(num_classes, num_labels * num_terms, bias=False).weight.detach()  # of sd 1 / sqrt(3 C)
        drawn = drawn * (FACTOR_SD * math.sqrt(3 * num_classes))
        self.factors = nn.Parameter(drawn.reshape(num_labels, num_terms, num_classes).transpose(1, 2).contiguous())  # A
        self.weight = nn.Parameter(torch.zeros(num_terms))

    def forward(self, y: Tensor) -> Tensor:
        """h of labels (N, T, C), one-hot, shape (N,)."""
        of_labels = torch.bmm(y.transpose(0, 1), self.factors)  # (T, N, R)
        product = of_labels[0]
        for factor in of_labels[1:]:
            product = product * factor
        return product @ self.weight
