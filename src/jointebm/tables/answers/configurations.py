"""Rows whose missing entries have few configurations, each with the log-density of all of them.

Legend: N rows, V columns, n missing entries of a row, S configurations of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["MAX_ENUMERATED", "Configured", "few_configurations", "with_configurations"]

MAX_ENUMERATED = 4096  # S, at most
FEW_CONFIGURATIONS = 256  # S that are worth it whatever else would be done
ENUMERATED_AT_ONCE = 1 << 16  # N * S


class Configured(NamedTuple):
    """Rows with the same missing columns, and all that these may be.

    Args:
        numbers: of the rows, shape (N,).
        columns: that are missing.
        configurations: shape (S, n), the last column runs fastest.
        log_density: of each row with each configuration, shape (N, S), nats.
    """

    numbers: Tensor
    columns: tuple[int, ...]
    configurations: Tensor
    log_density: Tensor

    def given(self, log_weights: Sequence[Tensor | None] | None) -> "Configured":
        """With log-weights of the classes of each missing column added, shape (K_j,) or None."""
        log_density = self.log_density.double()
        for place, column in enumerate(self.columns):
            if log_weights is not None and (of_column := log_weights[column]) is not None:
                log_density = log_density + of_column[self.configurations[:, place]]
        return self._replace(log_density=log_density)

    def of_column(self, column: int, num_classes: Sequence[int]) -> Tensor:
        """log of the sum over the other columns, for each class of one of the missing columns, shape (N, K_j)."""
        sizes = [num_classes[each] for each in self.columns]
        of_class = self.log_density.view(len(self.numbers), *sizes).movedim(1 + self.columns.index(column), 1)
        return of_class.reshape(len(self.numbers), num_classes[column], -1).contiguous().logsumexp(dim=2)


def few_configurations(codes: Tensor, num_classes: Sequence[int], num_evaluations: int) -> Tensor:
    """Which rows are to be enumerated, bool (N,): all with at most one missing entry, and those with few configurations.

    Args:
        codes: shape (N, V), -1 is missing.
        num_classes: K_j of each column.
        num_evaluations: of a row by other means; so many configurations are few, within `FEW_CONFIGURATIONS` and
            `MAX_ENUMERATED`.
    """
    log_sizes = torch.tensor(num_classes, dtype=torch.float64, device=codes.device).log()
    missing = codes < 0
    most = min(MAX_ENUMERATED, max(FEW_CONFIGURATIONS, num_evaluations))
    return ((missing * log_sizes).sum(dim=1) < math.log(most) + 1e-9) | (missing.sum(dim=1) <= 1)


def with_configurations(
    codes: Tensor, num_classes: Sequence[int], log_density: Callable[[Tensor], Tensor]
) -> Iterator[Configured]:
    """All configurations of the missing entries of rows that have few, by the columns that are missing.

    Equal rows are evaluated once.

    Args:
        codes: shape (N, V), -1 is missing.
        num_classes: K_j of each column.
        log_density: of complete rows, shape (N,).
    """
    different, origin = codes.unique(dim=0, return_inverse=True)
    patterns, pattern = (different < 0).unique(dim=0, return_inverse=True)
    for number, missing in enumerate(patterns):
        columns = tuple(missing.nonzero().flatten().tolist())
        classes = [torch.arange(num_classes[column], device=codes.device) for column in columns]
        configurations = codes.new_zeros(1, 0)
        if columns:
            configurations = torch.cartesian_prod(*classes).reshape(-1, len(columns))
        members = (pattern == number).nonzero().flatten()
        for some in members.split(max(1, ENUMERATED_AT_ONCE // len(configurations))):
            rows = different[some][:, None].repeat(1, len(configurations), 1)
            rows[..., list(columns)] = configurations
            of_rows = log_density(rows.flatten(0, 1)).view(len(some), -1)
            place = codes.new_full((len(different),), -1)
            place[some] = torch.arange(len(some), device=codes.device)
            numbers = (place[origin] >= 0).nonzero().flatten()
            yield Configured(numbers, columns, configurations, of_rows[place[origin[numbers]]])
