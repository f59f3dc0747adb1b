"""Quality of class-conditional samples: labels, spread, and distances that reveal collapse and memorisation.

Legend: N rows, D entries of all continuous blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from jointebm.data import Dataset
from jointebm.evaluation.accuracy import accuracy
from jointebm.evaluation.distances import Frechet, frechet_distance, nearest_distances, total_variance
from jointebm.evaluation.geometry_judges import Placement, placement
from jointebm.evaluation.judges import Judge
from jointebm.inference.conditions import Condition, configurations, sample_each, single_values
from jointebm.inference.model import Model
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Space

__all__ = ["Judgement", "Nearest", "judge_samples"]

MAX_CONDITIONS = 64


@dataclass(frozen=True)
class Nearest:
    """Median Euclidean distances to the nearest neighbour that meets the condition, of samples and of as many test rows.

    Samples much nearer to training rows than test rows are have been memorised; samples much nearer to one another than
    test rows are have collapsed.
    """

    num_rows: int  # of samples, and of test rows
    training: float  # from a sample to a training row
    training_data: float  # from a test row to a training row
    other: float  # from a sample to another sample
    other_data: float  # from a test row to another test row


@dataclass(frozen=True)
class Judgement:
    """Figures of class-conditional samples, next to the same figures of the test rows that meet the condition (`_data`).

    `variance_ratio` compares samples with the training rows that meet the condition (test rows, if training rows are drawn
    afresh), summed over all continuous variables, with the noise of the data: 1 is ideal, less is too little diversity.

    Example:
        >>> import jointebm
        >>> from jointebm.data import Toy
        >>> from jointebm.evaluation import NearestMode
        >>> generator = torch.Generator().manual_seed(0)
        >>> found = judge_samples(jointebm.load("pretrained:toy"), Toy(), NearestMode(), num=2, generator=generator)
        >>> found.judge, found.num_per_condition, len(found.per_condition)
        ('nearest mode', 2, 14)
    """

    judge: str  # its name
    judge_accuracy: float  # on the test rows, mean over rows and variables: the upper limit in practice
    num_per_condition: int  # samples
    agreement: float  # share of samples whose label by the judge is the requested one, mean over conditions
    worst_agreement: float  # in the worst condition
    per_condition: dict[str, float]  # agreement, by the text of the condition
    per_condition_data: dict[str, float | None]  # None without any row
    num_modes: dict[str, int]  # configurations of free discrete variables among samples that agree
    num_modes_data: dict[str, int]
    variance_ratio: dict[str, float | None]  # None with fewer than two rows of either
    nearest: Nearest | None  # over all conditions; None if training rows are drawn afresh
    nearest_per_condition: dict[str, Nearest | None]  # None with fewer than two rows of either
    placement: Placement | None  # given every variable, all values equally often; None if labels are no positions
    placement_data: Placement | None
    frechet: Frechet | None  # in the features of the judge; None without features, or with too few rows


def judge_samples(model: Model, dataset: Dataset, judge: Judge, *, num: int, generator: Generator) -> Judgement:
    """Judges `num` samples given every value of every discrete variable, and every configuration if at most 64 exist.

    The model samples from noise with its own kernel and number of steps; samples are compared with test rows of the data.

    Example:
        >>> import jointebm
        >>> from jointebm.data import Toy
        >>> from jointebm.evaluation import NearestMode
        >>> generator = torch.Generator().manual_seed(0)
        >>> found = judge_samples(jointebm.load("pretrained:toy"), Toy(), NearestMode(), num=2, generator=generator)
        >>> found.agreement > 0.9
        True
    """
    space, real = model.space, dataset.test()
    conditions = single_values(space)
    num_variables = sum(space[name].num_variables for name in space.discrete)
    if num_variables > 1 and space.num_configurations <= MAX_CONDITIONS:
        conditions += configurations(space)
    real_labels = judge.label(real)
    samples = sample_each(model, conditions, num, generator=generator)
    per_condition: dict[str, float] = {}
    per_condition_data: dict[str, float | None] = {}
    num_modes: dict[str, int] = {}
    num_modes_data: dict[str, int] = {}
    variance_ratio: dict[str, float | None] = {}
    distances: dict[str, tuple[Tensor, ...] | None] = {}
    for condition, values in zip(conditions, samples, strict=True):
        text, judged, meets = condition.text, judge.label(values), condition.holds(real)
        agrees = condition.holds(judged)
        per_condition[text] = float(agrees.double().mean())
        right = condition.holds(real_labels)[meets]
        per_condition_data[text] = float(right.double().mean()) if len(right) else None
        if any(bool((condition.given.get(name, torch.tensor(-1)) < 0).any()) for name in space.discrete):
            num_modes[text] = _num_modes(space, judged, agrees)
            num_modes_data[text] = _num_modes(space, real, meets)
        drawn, held_out = _joined(space, values), _joined(space, real)[meets]
        training = _training_rows(dataset, condition, generator)
        variance_ratio[text] = _variance_ratio(drawn, held_out if training is None else training)
        distances[text] = None if training is None else _distances(drawn, held_out, training)
    shares = list(per_condition.values())
    return Judgement(
        judge=judge.name,
        judge_accuracy=accuracy(space, real_labels, real).mean,
        num_per_condition=num,
        agreement=fmean(shares),
        worst_agreement=min(shares),
        per_condition=per_condition,
        per_condition_data=per_condition_data,
        num_modes=num_modes,
        num_modes_data=num_modes_data,
        variance_ratio=variance_ratio,
        nearest=_nearest([each for each in distances.values() if each is not None]),
        nearest_per_condition={text: None if each is None else _nearest([each]) for text, each in distances.items()},
        placement=_placement(model, judge, judge.num_positions, num, generator) if judge.num_positions else None,
        placement_data=placement(space, real_labels, real) if judge.num_positions else None,
        frechet=_frechet(judge.features, space, conditions, samples, real) if judge.features else None,
    )


def _num_modes(space: Space, labels: Mapping[str, Tensor], rows: Tensor) -> int:
    """Number of distinct configurations among some rows."""
    joined = torch.cat([labels[name][rows].reshape(-1, space[name].num_variables) for name in space.discrete], dim=1)
    return len(joined.unique(dim=0))


def _joined(space: Space, values: Mapping[str, Tensor]) -> Tensor:
    """All continuous blocks, concatenated, (N, D)."""
    return torch.cat([values[name].reshape(-1, space[name].num_variables) for name in space.continuous], dim=1)


def _training_rows(dataset: Dataset, condition: Condition, generator: Generator) -> Tensor | None:
    """All training rows that meet a condition, (N, D), with fresh noise; None if training rows are drawn afresh."""
    if dataset.stored is None:
        return None
    rows, space = dataset.stored.train, dataset.space
    meets = condition.holds({name: torch.tensor(rows[name]) for name in space.discrete}).numpy()
    grey = {name: torch.tensor(rows[name][meets]) for name in space.continuous}
    return _joined(space, dataset.stored.dequantise(grey, generator))


def _variance_ratio(drawn: Tensor, real: Tensor) -> float | None:
    if min(len(drawn), len(real)) < 2 or not (spread := total_variance(real)):
        return None
    return total_variance(drawn) / spread


def _distances(drawn: Tensor, held_out: Tensor, training: Tensor) -> tuple[Tensor, ...] | None:
    """Distances in the order of `Nearest`, with equally many rows of both: neighbours get nearer with more rows."""
    num = min(len(drawn), len(held_out))
    if num < 2 or not len(training):
        return None
    drawn, held_out = drawn[:num], held_out[:num]
    pairs = ((drawn, training), (held_out, training), (drawn, None), (held_out, None))
    return tuple(nearest_distances(rows, others) for rows, others in pairs)


def _nearest(distances: Sequence[tuple[Tensor, ...]]) -> Nearest | None:
    """Medians over all rows of all conditions."""
    if not distances:
        return None
    medians = [float(torch.cat(parts).quantile(0.5)) for parts in zip(*distances, strict=True)]
    return Nearest(sum(len(each[0]) for each in distances), *medians)


def _placement(model: Model, judge: Judge, num_positions: int, num: int, generator: Generator) -> Placement:
    """`num` samples per column and per row, spread over the pairs: num_positions^2 in sequence name every pair once."""
    first, second = model.space.discrete
    pairs = [(i % num_positions, (i + i // num_positions) % num_positions) for i in range(num * num_positions)]
    conditions = [Condition("", {first: torch.tensor(a), second: torch.tensor(b)}) for a, b in pairs]
    parts = sample_each(model, conditions, 1, generator=generator)
    values = {name: torch.cat([part[name] for part in parts]) for name in model.space}  # labels are those asked for
    return placement(model.space, judge.label(values), values)


def _frechet(
    features_of: Callable[[Mapping[str, Tensor]], Tensor],
    space: Space,
    conditions: Sequence[Condition],
    samples: Sequence[Mapping[str, Tensor]],
    real: Mapping[str, Tensor],
) -> Frechet | None:
    """Samples against one half of the test rows, and that half against the other; equally many rows of each condition."""
    drawn, first, second = [], [], []
    for condition, values in zip(conditions, samples, strict=True):
        rows = condition.holds(real).nonzero().flatten()
        num = min(len(values[space.continuous[0]]), len(rows) // 2)
        drawn.append({name: values[name][:num] for name in space.continuous})
        first.append({name: real[name][rows[: 2 * num : 2]] for name in space.continuous})
        second.append({name: real[name][rows[1 : 2 * num : 2]] for name in space.continuous})
    features = [
        features_of({name: torch.cat([part[name] for part in parts]) for name in space.continuous})
        for parts in (drawn, first, second)
    ]
    num_rows, num_features = features[0].shape
    if num_rows < 2:
        return None
    return Frechet(
        features=f"{num_features} features of our own small classifier; this is not FID",
        num_rows=num_rows,
        num_features=num_features,
        samples=frechet_distance(features[0], features[1]),
        data=frechet_distance(features[2], features[1]),
    )
