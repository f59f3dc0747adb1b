"""Some discrete variables as a table of classes: indices made once, so that a step is a few gathers and no search.

Legend: N chains, V variables of the table, K classes (the largest number of any variable), M columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels.columns import Columns

__all__ = ["ClassTable"]

MAX_WIDER = 3  # times as many variables as move


class ClassTable(NamedTuple):
    """Where the classes of some variables are among the columns.

    Args:
        number: the variables, (V,), int64.
        source: the column of each class, (K, V), int64; M stands for class 0 of a bit, M + 1 for a class that a variable
            does not have.
        place: of each column, the place of its variable in `number`, (M,), int64; 0 for columns of other variables.
        label: of each column, its class, (M,), int64; -1 for columns of other variables.
        bits: whether all variables are bits, with one column each.
        whole: whether every variable has a column for each of the K classes.
        run: the first variable and the one behind the last if they are side by side.
        span: the first column and the one behind the last if the variables are bits side by side, such as a layer.
        moves: which of the variables move, (V,), bool, in a table that has others too; None if all do.
        in_turn: whether the columns are the K classes of each variable in turn, and nothing else.
    """

    number: Tensor
    source: Tensor
    place: Tensor
    label: Tensor
    bits: bool
    whole: bool
    run: tuple[int, int] | None
    span: tuple[int, int] | None
    moves: Tensor | None = None
    in_turn: bool = False

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
        bits = bool(columns.is_binary[column].all())
        if bits:
            source = source[:2]
        whole = bool((source < num_columns).all())
        return ClassTable(number, source, place, label, bits, whole, _run(number), _run(column) if bits else None)

    @staticmethod
    def without_gathers(columns: Columns, chosen: Tensor) -> "ClassTable":
        """The table of a mask, made wider where that saves gathers: bits strewn among others, but not thinly.

        The table then has all variables, of which those of the mask move. They need more draws, and no index.
        """
        table = ClassTable.of(columns, chosen)
        if table.span is not None or not bool(columns.is_binary.all()) or len(chosen) > MAX_WIDER * len(table.number):
            return table
        return ClassTable.of(columns, torch.ones_like(chosen))._replace(moves=chosen)

    def within(self, own: Tensor) -> "ClassTable":
        """The table over its own columns alone, whose numbers are `own`, ascending."""
        num_columns, (num_classes, num_variables) = len(self.place), self.source.shape
        number = torch.full((num_columns + 2,), -1)
        number[own] = torch.arange(len(own))
        number[num_columns:] = torch.tensor([len(own), len(own) + 1])
        source = number[self.source]
        in_turn = torch.arange(num_variables * num_classes).reshape(num_variables, num_classes).T
        return self._replace(
            source=source,
            place=self.place[own],
            label=self.label[own],
            span=(0, len(own)) if self.bits else None,
            in_turn=torch.equal(source, in_turn),
        )

    def to(self, device: torch.device) -> "ClassTable":
        """The table on a device."""
        return self._replace(
            number=self.number.to(device),
            source=self.source.to(device),
            place=self.place.to(device),
            label=self.label.to(device),
            moves=None if self.moves is None else self.moves.to(device),
        )

    def spread(self, values: Tensor) -> Tensor:
        """Values of columns (N, M) by class, (N, K, V): 0 at class 0 of a bit, -inf at classes that a variable lacks."""
        if self.bits:
            own = self._own(values)
            return torch.stack([torch.zeros_like(own), own], dim=1)
        if self.in_turn:
            return values.unflatten(1, self.number.shape + self.source.shape[:1]).transpose(1, 2)
        if self.whole:
            return values[:, self.source]
        ends = values.new_tensor([0.0, -torch.inf]).expand(len(values), 2)
        return torch.cat([values, ends], dim=1)[:, self.source]

    def labels(self, y: Tensor) -> Tensor:
        """The labels in columns (N, M), shape (N, V), int64."""
        if self.bits:
            return (self._own(y) > 0.5).to(torch.int64)
        classes = torch.arange(len(self.source), device=y.device)[:, None]
        return ((torch.cat([y, y.new_zeros(len(y), 2)], dim=1)[:, self.source] > 0.5) * classes).sum(dim=1)

    def movable(self, free: Tensor) -> Tensor:
        """Which of the variables may move, (N, V), from a mask of all variables; a view of it where they are neighbours."""
        own = free[:, self.number] if self.run is None else free[:, slice(*self.run)]
        return own if self.moves is None else own & self.moves

    def choices(self, values: Tensor, movable: Tensor) -> Tensor:
        """As `spread`, with class 0 alone for the variables of a wider table that do not move."""
        spread = self.spread(values)
        if self.moves is None:
            return spread
        first = torch.arange(2, device=values.device)[:, None] == 0
        return torch.where(movable[:, None] | first, spread, -torch.inf)

    def write(self, y: Tensor, labels: Tensor, movable: Tensor) -> Tensor:
        """Columns (N, M) with labels replaced by (N, V) where they are movable (N, V)."""
        if self.span is not None:
            first, end = self.span
            own = torch.where(movable, labels.to(y.dtype), y[:, first:end])
            return torch.cat([y[:, :first], own, y[:, end:]], dim=1)
        if self.in_turn:
            each = y.unflatten(1, self.number.shape + self.source.shape[:1])  # (N, V, K)
            drawn = labels[:, :, None] == torch.arange(len(self.source), device=y.device)
            return torch.where(movable[:, :, None], drawn.to(y.dtype), each).flatten(1)
        # One gather alone: where steps are compiled, it fuses with what is around it, and scattering does not.
        new = torch.where(movable, labels, -1)[:, self.place]  # (N, M)
        return torch.where((self.label >= 0) & (new >= 0), (new == self.label).to(y.dtype), y)

    def _own(self, values: Tensor) -> Tensor:
        """The columns (N, V) of bits."""
        return values[:, self.source[1]] if self.span is None else values[:, slice(*self.span)]


def _run(numbers: Tensor) -> tuple[int, int] | None:
    """The first of ascending numbers and the one behind the last, if none is missing."""
    first, end = int(numbers[0]), int(numbers[-1]) + 1
    return (first, end) if end - first == len(numbers) else None
