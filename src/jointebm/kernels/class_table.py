"""Some discrete variables as a table of classes: indices made once, so that a step is a few gathers and no search.

Legend: N chains, V variables of the table, K classes (the largest number of any variable), M columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels.columns import Columns

__all__ = ["ClassTable"]


class ClassTable(NamedTuple):
    """Where the classes of some variables are among the columns.

    Args:
        number: the variables, (V,), int64.
        source: the column of each class, (K, V), int64; M stands for class 0 of a bit, M + 1 for a class that a variable
            does not have.
        column: all columns of the variables, (C,), int64.
        place: of each of these columns, the place of its variable in `number`, (C,), int64.
        label: of each of these columns, its class, (C,), int64.
    """

    number: Tensor
    source: Tensor
    column: Tensor
    place: Tensor
    label: Tensor

    @staticmethod
    def of(columns: Columns, chosen: Tensor) -> "ClassTable":
        """The table of the variables of a mask (V,) over all of them, both on the CPU."""
        num_columns = len(columns.variable)
        number, column = chosen.nonzero().flatten(), chosen[columns.variable].nonzero().flatten()
        place, label = (chosen.cumsum(dim=0) - 1)[columns.variable[column]], columns.class_of_column[column]
        source = torch.full((columns.max_classes, len(number)), num_columns + 1)
        source[0, place[columns.is_binary[column]]] = num_columns
        source[label, place] = column
        return ClassTable(number, source, column, place, label)

    def to(self, device: torch.device) -> "ClassTable":
        """The table on a device."""
        return ClassTable(*(tensor.to(device) for tensor in self))

    def spread(self, values: Tensor) -> Tensor:
        """Values of columns (N, M) by class, (N, K, V): 0 at class 0 of a bit, -inf at classes that a variable lacks."""
        ends = values.new_tensor([0.0, -torch.inf]).expand(len(values), 2)
        return torch.cat([values, ends], dim=1)[:, self.source]

    def labels(self, y: Tensor) -> Tensor:
        """The labels in columns (N, M), shape (N, V), int64."""
        on = (y[:, self.column] > 0.5) * self.label
        return torch.zeros(len(y), len(self.number), dtype=torch.int64, device=y.device).index_add_(1, self.place, on)

    def write(self, y: Tensor, labels: Tensor) -> Tensor:
        """Columns (N, M) with labels replaced by (N, V)."""
        return y.index_copy(1, self.column, (labels[:, self.place] == self.label).to(y.dtype))
