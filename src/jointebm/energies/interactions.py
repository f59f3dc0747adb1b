"""Interactions of labels: the terms h(y) of a `StructuredEnergy`, for sequences and for grids.

Legend: N chains, T places of a sequence, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

__all__ = ["GridPairs", "Transitions"]


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
