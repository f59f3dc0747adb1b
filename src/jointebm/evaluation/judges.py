"""Judges of samples: who labels them, without the model that drew them."""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from jointebm.data import Dataset
from jointebm.data.datasets import JudgeKind
from jointebm.evaluation.geometry_judges import NearestMode, SpriteCentre
from jointebm.evaluation.image_judge import ImageClassifier

__all__ = ["JUDGES", "Judge", "judge_for"]


class Judge(Protocol):
    """Labels rows from their continuous blocks alone."""

    @property
    def name(self) -> str:
        """Name of the judge, for reports."""

    @property
    def num_positions(self) -> int | None:
        """Classes per discrete variable, if labels are positions on a line, so that near misses count; None otherwise."""

    @property
    def features(self) -> Callable[[Mapping[str, Tensor]], Tensor] | None:
        """Features (N, D) of values, for a Frechet distance; None if the judge computes none."""

    def label(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Labels of every discrete block, (N, *variable_shape), from values of the continuous ones."""


JUDGES: dict[JudgeKind, Callable[[Dataset, int], Judge]] = {
    "nearest mode": lambda dataset, seed: NearestMode(),  # noqa: ARG005
    "sprite centre": lambda dataset, seed: SpriteCentre(),  # noqa: ARG005
    "image classifier": lambda dataset, seed: ImageClassifier.train(dataset, seed=seed),
}


def judge_for(dataset: Dataset, *, seed: int) -> Judge:
    """The judge that a data set names: its known geometry, or a classifier trained on the training rows.

    Example:
        >>> from jointebm.data import Toy
        >>> judge_for(Toy(), seed=0).name
        'nearest mode'
    """
    if dataset.judge is None:
        raise ValueError(
            f"data {dataset.name!r}: no judge can label samples of {dataset.space}; expected an image, or known geometry. "
            "Leave out the judgement of samples"
        )
    return JUDGES[dataset.judge](dataset, seed)
