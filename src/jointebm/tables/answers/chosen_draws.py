"""Draws chosen out of many, what is summed over them, and the errors of these sums.

Legend: N rows, D draws of each, U chosen draws of all rows together, K classes, Q quantities.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "COST_OF_DRAW",
    "ChosenDraws",
    "cheapest_numbers",
    "expected_distance",
    "first_of_equals",
    "read_out",
    "resampled_draws",
    "squares_of_neighbours",
]

COST_OF_DRAW = 4  # classes


class ChosenDraws(NamedTuple):
    """Chosen draws of N rows, each with the weight of its part in a sum."""

    rows: Tensor  # (U,)
    weights: Tensor  # (U,)
    chance: Tensor  # of being chosen, (U,)

    def summed(self, of_draws: Tensor, num_rows: int) -> Tensor:
        """Weighted sums (N, Q) of what is (U, Q)."""
        weighted = self.weights[:, None] * of_draws
        return of_draws.new_zeros(num_rows, of_draws.shape[1]).index_add_(0, self.rows, weighted)

    def square(self, of_draws: Tensor, num_rows: int) -> Tensor:
        """Squared errors (N, Q) of these sums, as of independent choices."""
        center = self.summed(of_draws, num_rows)[self.rows]
        squares = ((1 - self.chance) * self.weights.square())[:, None] * (of_draws - center).square()
        return of_draws.new_zeros(num_rows, of_draws.shape[1]).index_add_(0, self.rows, squares)

    def square_of_ratios(self, probs: Tensor, ratios: Tensor, read: Tensor | None, values: Tensor) -> Tensor:
        """Squared errors (N, Q) of values read out, by ratios (U, K) at few draws.

        Of two or three draws alone no class has an error; but ratios are rounding, of one size for all classes of a row.
        """
        squares = probs.square()
        both = torch.stack([(squares * ratios.square()).cumsum(dim=1)[:, -1], squares.cumsum(dim=1)[:, -1]], dim=1)
        of_rows = both.new_zeros(len(values), 2).index_add_(0, self.rows, both)
        size = (of_rows[:, 0] / of_rows[:, 1].clamp(min=1e-300))[self.rows]
        values = values[self.rows]
        shifts = read_out(squares, None if read is None else read.square()) - 2 * values * read_out(squares, read)
        shifts = shifts + values.square() * both[:, 1:]
        scaled = ((1 - self.chance) * self.weights.square() * size)[:, None] * shifts.clamp(min=0)
        return scaled.new_zeros(len(of_rows), values.shape[1]).index_add_(0, self.rows, scaled)


def read_out(probs: Tensor, read: Tensor | None) -> Tensor:
    """Probabilities (U, K) themselves, or what is read out of them, (U, Q)."""
    return probs if read is None else probs @ read


def squares_of_neighbours(entries: Tensor) -> Tensor:
    """Half the sum of squared differences between neighbours, the last and first included: (N, D, P) to (N, P)."""
    return 0.5 * (entries - entries.roll(1, dims=1)).square().cumsum(dim=1)[:, -1]


def first_of_equals(names: Tensor) -> Tensor:
    """Place of the first entry of each row that has the same name, shape (N, D)."""
    ordered, order = names.sort(dim=1, stable=True)
    is_new = torch.ones_like(names, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = is_new.cumsum(dim=1) - 1
    firsts = torch.full_like(names, names.shape[1]).scatter_reduce_(1, group, order, "amin")
    return torch.empty_like(names).scatter_(1, order, firsts.gather(1, group))


def resampled_draws(shares: Tensor, num: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Chooses at most `num` of the entries of each row by their shares, without bias.

    Entries above a threshold c are kept, others with the chance share / c and then the weight c, systematically.

    Args:
        shares: shape (N, D), of sum 1.
        num: of entries, shape (N,), int64.
        start: a uniform for each row, shape (N, 1), which decides the systematic choice.

    Returns:
        (kept, weights, chance): bool and two of float64, each (N, D).
    """
    descending = shares.sort(dim=1, descending=True).values
    tails = descending.flip(1).cumsum(dim=1).flip(1)
    left = num[:, None] - torch.arange(shares.shape[1], device=num.device)  # to be chosen, if so many are kept
    levels = tails / left.clamp(min=1)  # c
    is_level = (descending <= levels) & (left > 0) & (num[:, None] < shares.shape[1])
    number = is_level.int().argmax(dim=1, keepdim=True)
    threshold = torch.where(is_level.any(dim=1, keepdim=True), levels.gather(1, number), 0)
    is_heavy = shares >= threshold
    light = torch.where(is_heavy, 0, shares / threshold.clamp(min=1e-300))
    ends = (light.cumsum(dim=1) + start).floor()
    begins = torch.cat([torch.zeros_like(start), ends[:, :-1]], dim=1)
    kept = (is_heavy & (shares > 0)) | (ends > begins)
    return kept, torch.maximum(shares, threshold), torch.where(is_heavy, 1.0, light.clamp(min=1e-300))


def expected_distance(squares: Tensor) -> Tensor:
    """Expected total variation (N,) of probabilities with squared errors (N, K): a half of the sum of .8 errors."""
    return 0.4 * squares.sqrt().sum(dim=1)


def cheapest_numbers(
    of_draws: Tensor, of_classes: Tensor, num_draws: int, num_classes: Tensor, error: float
) -> tuple[Tensor, Tensor]:
    """Numbers of draws and of classes that make an error small enough at the least cost.

    A draw costs as much as 4 classes. With errors e_D from D draws and e_C from C classes, whose squares add up and fall as
    1 / D and 1 / C,

        D' = D e_D (a e_D + b e_C) / (a e^2),   C' = C e_C (a e_D + b e_C) / (b e^2),   a = sqrt(4 D),   b = sqrt(C)

    Where D' is no more than D, C' is what the draws that there are leave to be desired.

    Args:
        of_draws: e_D of each row, shape (N,).
        of_classes: e_C, shape (N,).
        num_draws: D.
        num_classes: C, shape (N,).
        error: e.

    Returns:
        (D' / D, C'), each (N,).
    """
    a, b = (COST_OF_DRAW * num_draws) ** 0.5, num_classes.sqrt()
    both = (a * of_draws + b * of_classes) / error**2
    growth, classes = of_draws * both / a, num_classes * of_classes * both / b
    left = (error**2 - of_draws.square()).clamp(min=1e-300)
    return growth, torch.where(growth <= 1, num_classes * of_classes.square() / left, classes)
