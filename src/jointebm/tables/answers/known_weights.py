"""What is known about missing entries, as weights of their classes: under the reference, and for each column.

Legend: N rows, V columns, K_j classes of column j.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from jointebm.references import ProductMixture
from jointebm.references.layout import Constraints, MixedRows

__all__ = ["log_prob_of_known", "without_column"]


def log_prob_of_known(
    reference: ProductMixture, log_weights: Sequence[Tensor | None] | None
) -> Callable[[Tensor], Tensor]:
    """A function of rows (N, V): log q of their observed entries and of the evidence about the missing ones, shape (N,).

        log sum_{missing m} q(observed, m) prod_j w_j(m_j)

    Example:
        >>> known = log_prob_of_known(ProductMixture((2, 4)), [None, torch.tensor([0.0, 0.0, -torch.inf, -torch.inf])])
        >>> known(torch.tensor([[0, -1], [-1, 3]])).exp()  # 1/2 * 2/4; an observed entry is not weighted
        tensor([0.2500, 0.2500])
    """
    constraints = Constraints(tuple(log_weights or [None] * len(reference.num_classes)), None)
    return lambda rows: reference.given(MixedRows(rows, torch.empty(len(rows), 0)), constraints).logsumexp(dim=1)


def without_column(log_weights: Sequence[Tensor | None] | None, column: int) -> list[Tensor | None] | None:
    """The weights of all other columns."""
    return (
        None if log_weights is None else [each if place != column else None for place, each in enumerate(log_weights)]
    )
