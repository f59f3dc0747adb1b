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
        place: of each column, the place of its variable in `number`, (M,), int64; 0 for columns of other variables.
        label: of each column, its class, (M,), int64; -1 for columns of other variables.
    """

    number: Tensor
    source: Tensor
    place: Tensor
    label: Tensor

    @staticmethod
    def of(columns: Columns, chosen: Tensor) -> "ClassTable":
        """The table of the variables of a mask (V,) over all of them, both on the CPU."""
        num_columns = len(columns.variable)
        number, column = chosen.nonzero().flatten(), chosen[columns.variable].nonzero().flatten()
        place = torch.where(chosen[columns.variable], (chosen.cumsum(dim=0) - 1)[columns.variable], 0)
        label = torch.where(chosen[columns.variable], columns.class_of_column, -1)
        source = torch.full((columns.max_classes, len(number)), num_columns + 1)
        source[0, place[column[columns.is_binary[column]]]] = num_columns
        source[label[column], place[column]] = column
        return ClassTable(number, source, place, label)

    def to(self, device: torch.device) -> "ClassTable":
        """The table on a device."""
        return ClassTable(*(tensor.to(device) for tensor in self))

    def spread(self, values: Tensor) -> Tensor:
        """Values of columns (N, M) by class, (N, K, V): 0 at class 0 of a bit, -inf at classes that a variable lacks."""
        ends = values.new_tensor([0.0, -torch.inf]).expand(len(values), 2)
        return torch.cat([values, ends], dim=1)[:, self.source]

    def labels(self, y: Tensor) -> Tensor:
        """The labels in columns (N, M), shape (N, V), int64."""
        classes = torch.arange(len(self.source), device=y.device)[:, None]
        return ((torch.cat([y, y.new_zeros(len(y), 2)], dim=1)[:, self.source] > 0.5) * classes).sum(dim=1)

    def write(self, y: Tensor, labels: Tensor, movable: Tensor) -> Tensor:
        """Columns (N, M) with labels replaced by (N, V) where they are movable (N, V)."""
        # Gathers alone: where steps are compiled, they fuse with what is around them, and scattering does not.
        written = movable[:, self.place] & (self.label >= 0)
        return torch.where(written, (labels[:, self.place] == self.label).to(y.dtype), y)
