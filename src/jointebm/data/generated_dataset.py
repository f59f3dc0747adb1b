"""Data drawn afresh in every batch from a distribution that is known in closed form."""

from abc import abstractmethod

import torch
from torch import Tensor

from jointebm.data.datasets import Batch, Dataset
from jointebm.randomness.draws import Generator

__all__ = ["GeneratedDataset"]


class GeneratedDataset(Dataset):
    """A `Dataset` with complete rows and without row numbers; a subclass says its name, its space and how to draw.

    The test rows are drawn once, with a seed of their own.

    Example:
        >>> from jointebm import Binary, Space
        >>> class Coin(GeneratedDataset):
        ...     name, space, num_test = "coin", Space(face=Binary()), 4
        ...     def draw(self, num, *, generator):
        ...         return {"face": torch.randint(2, (num,), generator=generator)}
        >>> Coin().test()["face"].shape
        torch.Size([4])
    """

    num_test: int

    @abstractmethod
    def draw(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws values of N rows from the true joint distribution."""
        ...

    def rows(self, num: int, *, generator: Generator) -> Batch:
        """Draws a fresh batch."""
        return Batch(self.space.encode(self.draw(num, generator=generator))[0])

    def labelled(self, num: int, *, generator: Generator) -> Batch:
        """Draws a fresh batch; every row has all its labels."""
        return self.rows(num, generator=generator)

    def test(self) -> dict[str, Tensor]:
        """The test rows."""
        return self.draw(self.num_test, generator=torch.Generator().manual_seed(1))
