"""Completed rows of a table, kept from visit to visit."""

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator
from jointebm.references import ProductMixture
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import chain_at, jump, sweep

__all__ = ["CompletedRows"]


class CompletedRows:
    """A completion of every training row, moved at each visit (Eq. 8 with persistent chains).

    Started from the reference's exact draw given the observed entries. Memory is three bytes per entry, five where a column
    has 2^15 classes.

    Args:
        codes: training rows, shape (N, V), -1 is missing.
        reference: draws the missing entries at the start.
        generator: source of the draws.

    Example:
        >>> completed = CompletedRows(torch.tensor([[0, -1]]), ProductMixture((2, 1)), torch.Generator())
        >>> completed.rows(torch.tensor([0]))
        tensor([[0, 0]])
    """

    def __init__(self, codes: Tensor, reference: ProductMixture, generator: Generator) -> None:
        smallest = torch.int16 if max(reference.num_classes) < 2**15 else torch.int32
        self.codes = torch.cat([reference.draw(part, generator).to(smallest) for part in codes.split(8192)])
        self._missing = codes < 0

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def observed(self) -> Tensor:
        """The training rows, shape (N, V), -1 is missing."""
        return self.codes.masked_fill(self._missing, -1)

    def rows(self, numbers: Tensor) -> Tensor:
        """Completed rows by their numbers, shape (n, V), int64."""
        return self.codes[numbers].to(torch.int64)

    def missing(self, numbers: Tensor) -> Tensor:
        """Which entries of these rows were not observed, shape (n, V), bool."""
        return self._missing[numbers]

    def moved(self, energy: TableEnergy, numbers: Tensor, *, generator: Generator) -> Tensor:
        """These rows after a jump and a sweep of their missing entries under exp F, shape (n, V); not kept, see `keep`.

        Without a network that proposes it, there is no jump.
        """
        codes, missing = self.rows(numbers), self.missing(numbers)
        incomplete = missing.any(dim=1).nonzero().squeeze(1)
        if len(incomplete):
            with torch.no_grad():
                state = chain_at(energy, codes[incomplete])
                free = missing[incomplete]
                if energy.network is not None:
                    state, _ = jump(energy, state, free=free, generator=generator)
                codes[incomplete] = sweep(energy, state, free=free, generators=lambda _: generator)[0].codes
        return codes

    def keep(self, numbers: Tensor, codes: Tensor) -> None:
        """Keeps completions that `moved` returned."""
        self.codes[numbers] = codes.to(self.codes.dtype)
