"""What is known about missing entries, as weights of their classes.

Legend: K_j classes of column j.
"""

from collections.abc import Sequence

from torch import Tensor

__all__ = ["without_column"]


def without_column(log_weights: Sequence[Tensor | None] | None, column: int) -> list[Tensor | None] | None:
    """The weights of all other columns."""
    return (
        None if log_weights is None else [each if place != column else None for place, each in enumerate(log_weights)]
    )
