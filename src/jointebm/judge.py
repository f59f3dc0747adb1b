"""Judges: are samples what they were asked to be? Answered by a classifier that has never seen the model.

Legend: N rows, K classes of a variable, M columns of all discrete variables.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from jointebm.conditions import configurations, sample_each, single_values
from jointebm.data import Dataset, Toy
from jointebm.data.toy import attributes_of, nearest_mode
from jointebm.draws import Generator
from jointebm.evaluation import accuracy
from jointebm.models import Model
from jointebm.spaces import Space

__all__ = ["ImageClassifier", "Judge", "Judgement", "NearestMode", "image_block", "judge_for", "judge_samples"]

MAX_CONDITIONS = 64
ROWS_AT_ONCE = 1024


class Judge(Protocol):
    """Says what a row is, from its continuous blocks alone."""

    @property
    def name(self) -> str: ...

    def label(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Labels of every discrete block, (N, *variable_shape), from values of the continuous ones."""
        ...


class NearestMode:
    """The Bayes classifier of the toy data: the attributes of the mode that is nearest.

    Example:
        >>> NearestMode().label({"point": torch.tensor([[3.0, 0.1]])})
        {'bottom': tensor([0]), 'left': tensor([0]), 'diagonal': tensor([0])}
    """

    name = "nearest mode"

    def label(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The attributes of the nearest mode."""
        return attributes_of(nearest_mode(values["point"]))


class ImageClassifier:
    """A small convolutional network with one head per discrete variable, trained on data rows only.

    Args:
        space: one continuous block of shape (height, width), and discrete blocks.

    Raises:
        ValueError: the space has no image to look at, or nothing to say about it.

    References:
        Kingma & Ba 2015 (Adam). Smith & Topin 2018 (one cycle of the learning rate).
    """

    name = "image classifier"

    def __init__(self, space: Space) -> None:
        self.space, self.image = space, image_block(space)
        if self.image is None or space.continuous != (self.image,) or not space.discrete:
            raise ValueError(f"ImageClassifier: needs one image block and a discrete one, got {space}")
        height, width = space[self.image].variable_shape
        self._widths = {name: list(space.num_classes(name)) for name in space.discrete}
        self._network = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(64 * -(-height // 2) * -(-width // 2), sum(map(sum, self._widths.values()))),
        )

    @classmethod
    def train(
        cls,
        dataset: Dataset,
        *,
        seed: int,
        num_iterations: int = 500,
        batch_size: int = 64,
        learning_rate: float = 3e-3,
    ) -> "ImageClassifier":
        """Trains on the training rows by Adam, the learning rate rising and falling once.

        Args:
            dataset: where the rows come from.
            seed: of the weights, the batches and the dropout; torch's global generator is put back as it was.
            num_iterations: parameter updates.
            batch_size: rows per update.
            learning_rate: of Adam, at its highest.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # torch.nn draws initial weights and dropout from the global generator only
            judge = cls(dataset.space)
            optimizer = torch.optim.Adam(judge._network.parameters(), lr=learning_rate)
            schedule = OneCycleLR(optimizer, learning_rate, total_steps=num_iterations)
            for _ in range(num_iterations):
                values = dataset.space.decode(dataset.batch(batch_size, generator=generator))
                optimizer.zero_grad()
                judge._loss(values).backward()
                optimizer.step()
                schedule.step()
        judge._network.eval()
        return judge

    @torch.no_grad()
    def label(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The most probable class of every discrete variable."""
        assert self.image is not None
        pieces = [self._logits({self.image: rows}) for rows in values[self.image].split(ROWS_AT_ONCE)]
        labels = {}
        for name, widths in self._widths.items():
            columns = [
                torch.cat([piece[name][v].argmax(dim=1) for piece in pieces]) for v in range(len(widths))
            ]  # V of (N,)
            labels[name] = torch.stack(columns, dim=1).reshape(-1, *self.space[name].variable_shape)
        return labels

    def _logits(self, values: Mapping[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Per block, one (N, K) per variable."""
        assert self.image is not None
        joined = self._network(values[self.image].unsqueeze(1))  # (N, M)
        blocks = joined.split([sum(widths) for widths in self._widths.values()], dim=1)
        return {name: part.split(self._widths[name], dim=1) for name, part in zip(self._widths, blocks, strict=True)}

    def _loss(self, values: Mapping[str, Tensor]) -> Tensor:
        terms = [
            cross_entropy(logits, labels)
            for name, parts in self._logits(values).items()
            for logits, labels in zip(parts, values[name].reshape(len(values[name]), -1).T, strict=True)
        ]
        return torch.stack(terms).sum()


def image_block(space: Space) -> str | None:
    """The first continuous block of shape (height, width); None if there is none.

    Example:
        >>> from jointebm import Continuous
        >>> image_block(Space(point=Continuous(2), image=Continuous((8, 8))))
        'image'
    """
    return next((name for name in space.continuous if len(space[name].variable_shape) == 2), None)


def judge_for(dataset: Dataset, *, seed: int) -> Judge:
    """The judge of a data set: the Bayes classifier where it is known, else one trained on the training rows.

    Args:
        dataset: the data.
        seed: of the training.
    """
    return NearestMode() if isinstance(dataset, Toy) else ImageClassifier.train(dataset, seed=seed)


class Judgement(NamedTuple):
    """How good class-conditional samples are.

    Args:
        judge: who said so.
        judge_accuracy: its own accuracy on the test rows, mean over rows and variables: what to compare with.
        num_per_condition: samples of each condition.
        agreement: share of samples that the judge labels as they were asked to be, mean over conditions.
        worst_agreement: that of the worst condition.
        per_condition: that of each condition, by its text.
        num_modes: per condition that leaves discrete variables free, in how many configurations of all of them samples
            that agree were found.
        num_modes_data: the same, among the test rows that meet the condition.
        variance_ratio: per condition, variance of the samples over that of the test rows that meet it, each summed over
            all continuous variables; 1 is right, less is too little diversity. None without two of both.
    """

    judge: str
    judge_accuracy: float
    num_per_condition: int
    agreement: float
    worst_agreement: float
    per_condition: dict[str, float]
    num_modes: dict[str, int]
    num_modes_data: dict[str, int]
    variance_ratio: dict[str, float | None]


def judge_samples(model: Model, dataset: Dataset, judge: Judge, *, num: int, generator: Generator) -> Judgement:
    """Samples from noise given every value of every discrete variable, and every configuration if there are at most 64.

    Args:
        model: the model; its kernel, noise and number of steps are used.
        dataset: the data it was trained on; its test rows are the standard.
        judge: labels the samples, from their continuous blocks alone.
        num: samples per condition.
        generator: source of all draws.

    Returns:
        `Judgement`.
    """
    space, real = model.space, dataset.test()
    conditions = single_values(space)
    if len(_variables(space)) > 1 and space.num_configurations <= MAX_CONDITIONS:
        conditions += configurations(space)
    per_condition: dict[str, float] = {}
    num_modes: dict[str, int] = {}
    num_modes_data: dict[str, int] = {}
    variance_ratio: dict[str, float | None] = {}
    for condition, values in zip(conditions, sample_each(model, conditions, num, generator=generator), strict=True):
        judged = judge.label(values)
        agrees, meets = condition.holds(judged), condition.holds(real)
        per_condition[condition.text] = float(agrees.double().mean())
        if any(bool((condition.given.get(name, torch.tensor(-1)) < 0).any()) for name in space.discrete):
            num_modes[condition.text] = _num_modes(space, judged, agrees)
            num_modes_data[condition.text] = _num_modes(space, real, meets)
        variance_ratio[condition.text] = _variance_ratio(space, values, {n: v[meets] for n, v in real.items()})
    shares = list(per_condition.values())
    return Judgement(
        judge=judge.name,
        judge_accuracy=accuracy(space, judge.label(real), real).mean,
        num_per_condition=num,
        agreement=fmean(shares),
        worst_agreement=min(shares),
        per_condition=per_condition,
        num_modes=num_modes,
        num_modes_data=num_modes_data,
        variance_ratio=variance_ratio,
    )


def _variables(space: Space) -> list[int]:
    return [count for name in space.discrete for count in space.num_classes(name)]


def _num_modes(space: Space, labels: Mapping[str, Tensor], rows: Tensor) -> int:
    """Number of distinct configurations among some rows."""
    joined = torch.cat([labels[name][rows].reshape(int(rows.sum()), -1) for name in space.discrete], dim=1)
    return len(joined.unique(dim=0))


def _variance_ratio(space: Space, values: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> float | None:
    if min(len(next(iter(rows.values()))) for rows in (values, real)) < 2:
        return None
    spread = [sum(float(rows[name].var(dim=0).sum()) for name in space.continuous) for rows in (values, real)]
    return spread[0] / spread[1] if spread[1] > 0 else None
