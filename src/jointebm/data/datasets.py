"""What training and evaluation need of data: a space, batches to train on, rows to test on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, normal, uniform
from jointebm.spaces.space import Space
from jointebm.spaces.transforms import Logit

__all__ = ["LOGIT", "ArrayDataset", "Batch", "Dataset"]

LOGIT = Logit(margin=1e-6)  # of all images of the paper (App. B.2.1, B.3.1)


class Batch(NamedTuple):
    """Training rows, some entries of which may be missing.

    Args:
        position: the rows, encoded; NaN is missing.
        numbers: of the rows, shape (N,), int64, by which what completes them is kept from visit to visit; the same row may
            come twice. None if rows are drawn afresh each time, and then nothing may be missing.
    """

    position: Mapping[str, Tensor]
    numbers: Tensor | None = None


class Dataset(Protocol):
    """A source of training batches and test rows over one space."""

    @property
    def name(self) -> str: ...

    @property
    def space(self) -> Space: ...

    def batch(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws a training batch as a position."""
        ...

    def test(self) -> dict[str, Tensor]:
        """All test rows as values; the same ones each time."""
        ...


@dataclass(frozen=True)
class ArrayDataset:
    """Rows held in memory: quantised images with labels, dequantised afresh in each batch.

    A grey level x in 0 .. white becomes x / white * (1 - noise_width) + noise_width * u, with u uniform on [0, 1): a
    density on [0, 1]. With noise_width = 1 / (white + 1) this is the usual (x + u) / (white + 1) of MNIST; the paper's
    dSprites take 1/8, far more than a grey level, so that a sampler's own noise is small beside that of the data.

    Normal noise does the same better: it has no edges, so the score of the density is bounded by about 1 / noise_sd and
    f need not grow ever steeper. Then positions are pixels (`Identity`), and reach a little beyond [0, 1].

    Args:
        name: name of the data.
        space: the blocks; exactly one continuous block takes the images.
        train: per block, the training rows: grey levels 0 .. white for images (or reals, with white 1), labels for the rest.
        held_out: per block, the test rows in the same form.
        white: the largest grey level.
        noise_width: width of the uniform noise, in [0, 1).
        noise_sd: standard deviation of the normal noise, >= 0.
        dropout: share of the reals of training rows that are 0, others in every batch; the rest is divided by 1 - dropout.
        observed: per block, which entries of the training rows are known, shape (rows, *variable_shape), bool; a block that
            it leaves out is known entirely. `hide` makes it.

    References:
        Kelly & Grathwohl 2021, App. B.2.1 (white 255, noise_width 1/256) and B.3.1 (white 1, noise_width 1/8).
    """

    name: str
    space: Space
    train: Mapping[str, npt.NDArray[Any]]
    held_out: Mapping[str, npt.NDArray[Any]]
    white: int
    noise_width: float
    noise_sd: float = 0.0
    dropout: float = 0.0
    observed: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def batch(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws rows with replacement and dequantises them; what is not observed is NaN."""
        return dict(self.rows(num, generator=generator).position)

    def rows(self, num: int, *, generator: Generator) -> Batch:
        """Draws rows as `batch` does, and says which they are."""
        num_rows = len(next(iter(self.train.values())))
        return self._encoded(_drawn(num, num_rows, generator), generator)

    def labelled(self, num: int, *, generator: Generator) -> Batch:
        """Draws rows as `rows` does, among those with a label and without a missing real.

        Raises:
            ValueError: there is no such row.
        """
        eligible = self.labelled_numbers()
        if len(eligible) == 0:
            raise ValueError(f"data {self.name!r}: no training row has both a label and all reals; hide fewer entries")
        return self._encoded(eligible[_drawn(num, len(eligible), generator)], generator)

    def labelled_numbers(self) -> Tensor:
        """The numbers of the rows that `labelled` draws from, shape (rows,), int64."""
        num_rows = len(next(iter(self.train.values())))
        known = {name: np.ones((num_rows, 1), dtype=np.bool_) for name in self.space}
        known |= {name: mask.reshape(num_rows, -1) for name, mask in self.observed.items()}
        any_label = np.any([known[name].any(axis=1) for name in self.space.discrete], axis=0)
        every_real = np.all([known[name].all(axis=1) for name in self.space.continuous], axis=0)
        return torch.from_numpy(np.flatnonzero(any_label & every_real))

    def _encoded(self, numbers: Tensor, generator: Generator) -> Batch:
        rows = numbers.numpy()
        values = {name: torch.from_numpy(array[rows]) for name, array in self.train.items()}
        dequantised = self.dequantise(values, generator)
        for name in self.space.continuous if self.dropout else ():
            kept = uniform(dequantised[name], generator) >= self.dropout
            dequantised[name] = dequantised[name] * kept / (1 - self.dropout)
        position, _ = self.space.encode(dequantised)
        for name, mask in self.observed.items():
            known = self.space[name].expand(torch.from_numpy(mask[rows]))
            position[name] = torch.where(known, position[name], torch.nan)
        return Batch(position, numbers)

    def test(self) -> dict[str, Tensor]:
        """The test rows, dequantised with the same noise each time."""
        values = {name: torch.tensor(array) for name, array in self.held_out.items()}
        return self.dequantise(values, torch.Generator().manual_seed(0))

    def dequantise(self, values: Mapping[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        """Turns grey levels into reals with fresh noise, as in every batch; labels stay as they are.

        Args:
            values: the images, grey levels 0 .. white, and any other blocks.
            generator: source of the noise.
        """
        dequantised = dict(values)
        for name in self.space.continuous:
            signal = values[name].to(torch.get_default_dtype()) / self.white
            if self.noise_width:
                signal = signal * (1 - self.noise_width) + self.noise_width * uniform(signal, generator)
            if self.noise_sd:
                signal = signal + self.noise_sd * normal(signal, generator)
            dequantised[name] = signal
        return dequantised


def _drawn(num: int, num_rows: int, generator: Generator) -> Tensor:
    """Numbers of rows, drawn with replacement, shape (num,), int64."""
    return (uniform(torch.empty(num, dtype=torch.float64), generator) * num_rows).long()
