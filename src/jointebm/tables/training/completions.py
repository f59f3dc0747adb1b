"""Completions of table rows with missing entries, kept from visit to visit."""

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.mixture import Mixture
from jointebm.tables.density.moves import chain_at, sweep

__all__ = ["Completions"]


class Completions:
    """A completion of every training row, which goes on from visit to visit (Eq. 8 with persistent chains).

    Started from the guide's exact draw given what is observed. Memory is three bytes per entry.

    Args:
        codes: training rows, shape (N, V), -1 is missing.
        guide: what the missing entries are first drawn from.
        generator: source of the draws.

    Example:
        >>> completions = Completions(torch.tensor([[0, -1]]), Mixture((2, 1)), torch.Generator())
        >>> completions.rows(torch.tensor([0]))
        tensor([[0, 0]])
    """

    def __init__(self, codes: Tensor, guide: Mixture, generator: Generator) -> None:
        smallest = torch.int16 if max(guide.num_classes) < 2**15 else torch.int32
        self._codes = torch.cat([guide.draw(part, generator).to(smallest) for part in codes.split(8192)])
        self._missing = codes < 0

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def dtype(self) -> torch.dtype:
        """What a code is kept as."""
        return self._codes.dtype

    def rows(self, numbers: Tensor) -> Tensor:
        """Completed rows by their numbers, shape (n, V), int64."""
        return self._codes[numbers].to(torch.int64)

    def missing(self, numbers: Tensor) -> Tensor:
        """Which entries of these rows are not known, shape (n, V), bool."""
        return self._missing[numbers]

    def move(self, energy: TableEnergy, numbers: Tensor, *, generator: Generator) -> Tensor:
        """Moves the missing entries of these rows by one sweep under exp f, keeps and returns them, shape (n, V)."""
        codes, missing = self.rows(numbers), self.missing(numbers)
        holed = missing.any(dim=1).nonzero().squeeze(1)
        if len(holed):
            with torch.no_grad():
                state = chain_at(energy, codes[holed])
                codes[holed] = sweep(energy, state, free=missing[holed], generators=lambda _: generator).codes
            self._codes[numbers[holed]] = codes[holed].to(self.dtype)
        return codes
