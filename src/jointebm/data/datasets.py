"""Data sets: what training, evaluation and figures need of data, and rows held in memory.

A data set states everything that other modules ask of it: rows to train on, rows to test on, who judges samples of it,
which figures show it. To add one, write a function that returns an `ArrayDataset` (rows held in memory) or a subclass of
`GeneratedDataset` (rows drawn from a known distribution), and name it in `jointebm.data.registry`. No other module changes.

Judges and figures are plain names here, because data import neither `jointebm.evaluation` nor `jointebm.plots`; each of
those maps the names to functions in one table (`JUDGES`, `FIGURES`). Only a new kind of judge or figure needs a new name.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, normal, uniform
from jointebm.spaces.space import Space
from jointebm.spaces.transforms import Logit

__all__ = ["LOGIT", "ArrayDataset", "Batch", "Dataset", "FigureKind", "JudgeKind"]

LOGIT = Logit(margin=1e-6)  # of all images of the paper (App. B.2.1, B.3.1)

JudgeKind = Literal["nearest mode", "sprite centre", "image classifier"]
FigureKind = Literal["toy", "images"]


class Batch(NamedTuple):
    """Training rows, some entries of which may be missing.

    Completions are kept between visits under the numbers of their rows; a row may occur twice.
    """

    position: Mapping[str, Tensor]  # encoded; NaN is missing
    numbers: Tensor | None = None  # (N,), int64; None if every batch is drawn afresh, and then no entry may be missing


class Dataset(ABC):
    """A source of training batches and test rows over one space.

    Example:
        >>> from jointebm.data import Toy
        >>> data = Toy()
        >>> isinstance(data, Dataset), data.batch(3, generator=torch.Generator().manual_seed(0))["point"].shape
        (True, torch.Size([3, 2]))
    """

    name: str
    space: Space
    noise_sd: float = 0.0  # of normal noise that is added to training rows afresh
    judge: JudgeKind | None = None  # of class-conditional samples, a key of `jointebm.evaluation.judges.JUDGES`
    figures: FigureKind | None = None  # a key of `jointebm.plots.figures.FIGURES`

    @property
    def stored(self) -> "ArrayDataset | None":
        """The rows held in memory; None if every batch is drawn afresh."""
        return None

    @abstractmethod
    def rows(self, num: int, *, generator: Generator) -> Batch:
        """Draws training rows with their row numbers."""

    @abstractmethod
    def labelled(self, num: int, *, generator: Generator) -> Batch:
        """Draws training rows that have at least one label and every real."""

    @abstractmethod
    def test(self) -> dict[str, Tensor]:
        """All test rows as values; the same ones each time."""

    def part(self, number: int, num_parts: int) -> "Dataset":
        """One of several parts of the training rows, equal but for one row: every `num_parts`-th row from `number` on.

        Rows that are drawn afresh in every batch have no parts: it is the data set itself.

        Example:
            >>> from jointebm.data import digits
            >>> [len(digits().part(number, 4).stored.train["digit"]) for number in range(4)]
            [360, 360, 359, 359]
        """
        stored = self.stored
        if stored is None or num_parts == 1:
            return self
        rows = slice(number, None, num_parts)
        return replace(
            stored,
            train={name: array[rows] for name, array in stored.train.items()},
            observed={name: mask[rows] for name, mask in stored.observed.items()},
        )

    def without_noise(self) -> "Dataset":
        """The same rows without their normal noise; themselves if they have none."""
        return self

    def batch(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws training rows as a position."""
        return dict(self.rows(num, generator=generator).position)


@dataclass(frozen=True)
class ArrayDataset(Dataset):
    """Rows held in memory: quantised images with labels, dequantised afresh in each batch.

    A grey level x in 0 .. white becomes x / white * (1 - noise_width) + noise_width * u, with u uniform on [0, 1): a
    density on [0, 1]. With noise_width = 1 / (white + 1) this is the usual (x + u) / (white + 1) of MNIST; the paper's
    dSprites take 1/8, far more than a grey level, so that the noise of the sampler is small next to that of the data.

    Normal noise is smoother: it has no edges, so the score of the density is bounded by about 1 / noise_sd and f need not
    grow ever steeper. Positions are then pixels (`Identity`) and reach slightly beyond [0, 1].

    Args:
        name: name of the data.
        space: the blocks; exactly one continuous block takes the images.
        train: per block, the training rows: grey levels 0 .. white for images (or reals, with white 1), labels otherwise.
        held_out: per block, the test rows in the same form.
        white: the largest grey level.
        noise_width: width of the uniform noise, in [0, 1).
        noise_sd: standard deviation of the normal noise, >= 0.
        dropout: probability that a real of a training row is set to 0, redrawn in every batch; the others are divided by
            1 - dropout.
        observed: per block, which entries of the training rows are known, shape (rows, *variable_shape), bool; blocks
            left out are known entirely. `hide` sets it.
        judge: see `Dataset`.
        figures: see `Dataset`.

    References:
        Kelly & Grathwohl 2021, App. B.2.1 (white 255, noise_width 1/256) and B.3.1 (white 1, noise_width 1/8).

    Example:
        >>> from jointebm import Categorical, Continuous
        >>> rows = {"image": np.zeros((6, 4, 4), np.uint8), "shade": np.array([0, 1, 0, 1, 0, 1])}
        >>> space = Space(image=Continuous((4, 4)), shade=Categorical(2))
        >>> data = ArrayDataset("mine", space, rows, rows, white=255, noise_width=1 / 256)
        >>> {name: tuple(part.shape) for name, part in data.batch(2, generator=torch.Generator().manual_seed(0)).items()}
        {'image': (2, 4, 4), 'shade': (2, 2)}
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
    judge: JudgeKind | None = "image classifier"
    figures: FigureKind | None = "images"

    @property
    def stored(self) -> "ArrayDataset":
        """These rows."""
        return self

    def rows(self, num: int, *, generator: Generator) -> Batch:
        """Draws rows with replacement and dequantises them; entries that are not observed are NaN."""
        return self._encoded(_drawn(num, self._num_rows, generator), generator)

    def labelled(self, num: int, *, generator: Generator) -> Batch:
        """Draws rows as `rows` does, among those with a label and without a missing real.

        Raises:
            ValueError: no row has both.
        """
        eligible = self.labelled_numbers()
        if len(eligible) == 0:
            raise ValueError(f"data {self.name!r}: no training row has both a label and all reals; hide fewer entries")
        return self._encoded(eligible[_drawn(num, len(eligible), generator)], generator)

    def without_noise(self) -> "ArrayDataset":
        """The same rows without their normal noise."""
        return replace(self, noise_sd=0.0)

    def labelled_numbers(self) -> Tensor:
        """Row numbers that `labelled` draws from, shape (rows,), int64."""
        known = {name: np.ones((self._num_rows, 1), dtype=np.bool_) for name in self.space}
        known |= {name: mask.reshape(self._num_rows, -1) for name, mask in self.observed.items()}
        any_label = np.any([known[name].any(axis=1) for name in self.space.discrete], axis=0)
        every_real = np.all([known[name].all(axis=1) for name in self.space.continuous], axis=0)
        return torch.from_numpy(np.flatnonzero(any_label & every_real))

    def all_rows(self, *, generator: Generator) -> dict[str, Tensor]:
        """Every training row once, in order, dequantised: a position; entries that are not observed are NaN."""
        return dict(self._encoded(torch.arange(self._num_rows), generator).position)

    @property
    def _num_rows(self) -> int:
        return len(next(iter(self.train.values())))

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
        """Turns grey levels into reals with fresh noise, as in every batch; labels are unchanged.

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
    """Row numbers drawn with replacement, shape (num,), int64."""
    return (uniform(torch.empty(num, dtype=torch.float64), generator) * num_rows).long()
