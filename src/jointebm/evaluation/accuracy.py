"""How good a model is: accuracy by decoder, calibration, and how well scores tell data from what is none.

Legend: N rows, V variables, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from jointebm.inference.conditions import variable_names
from jointebm.inference.model import Model
from jointebm.inference.predict import Prediction, predict
from jointebm.randomness.draws import Generator
from jointebm.spaces.blocks import Binary
from jointebm.spaces.space import Space

__all__ = ["Accuracy", "Calibration", "accuracy", "auroc", "calibration", "evaluate_model"]

NUM_BINS = 15


class Accuracy(NamedTuple):
    """Shares of right labels.

    Args:
        mean: over rows and variables (what the paper reports).
        exact_match: rows in which every variable is right.
        per_attribute: per variable, named by its block, and by block and number if the block has several.
    """

    mean: float
    exact_match: float
    per_attribute: dict[str, float]


class Calibration(NamedTuple):
    """How far probabilities are from frequencies; 0 is perfect for both.

    Args:
        ece: expected calibration error, sum_b (N_b / N) |confidence_b - accuracy_b|: rows are put into 15 bins b of equal
            width by the confidence, which is the probability of the most probable class; confidence_b is its mean in a
            bin, accuracy_b the share of rows for which that class is the true one. Mean over variables; in [0, 1].
        brier: sum over all K classes (two for a bit) of (probability - indicator of the true class)^2, mean over rows and
            variables; in [0, 2].
    """

    ece: float
    brier: float


def accuracy(space: Space, predicted: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> Accuracy:
    """Compares labels.

    Args:
        space: the blocks.
        predicted: per block, labels (N, *variable_shape).
        true: the same blocks and shapes.

    Example:
        >>> space = Space(bit=Binary(), bits=Binary(2))
        >>> labels = {"bit": torch.tensor([0, 1]), "bits": torch.tensor([[0, 1], [1, 1]])}
        >>> accuracy(space, labels, {**labels, "bit": torch.tensor([0, 0])})
        Accuracy(mean=0.8333333333333334, exact_match=0.5, per_attribute={'bit': 0.5, 'bits[0]': 1.0, 'bits[1]': 1.0})
    """
    right: dict[str, Tensor] = {}
    for name in predicted:
        matches = (predicted[name] == true[name]).reshape(len(predicted[name]), -1)  # (N, V of the block)
        right |= dict(zip(variable_names(space, name), matches.T, strict=True))
    joined = torch.stack(list(right.values()), dim=1)  # (N, V)
    return Accuracy(
        mean=float(joined.double().mean()),
        exact_match=float(joined.all(dim=1).double().mean()),
        per_attribute={name: float(matches.double().mean()) for name, matches in right.items()},
    )


def calibration(space: Space, probs: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> Calibration:
    """Compares probabilities of classes with what came true.

    Args:
        space: the blocks.
        probs: per block, marginal probabilities (N, *position_shape).
        true: per block, labels (N, *variable_shape).

    References:
        Guo et al. 2017 (ECE). Brier 1950.

    Example:
        >>> from jointebm import Categorical
        >>> calibration(Space(y=Categorical(2)), {"y": torch.tensor([[0.0, 1.0]])}, {"y": torch.tensor([1])})
        Calibration(ece=0.0, brier=0.0)
    """
    errors, squares = [], []
    for name in probs:
        block = space[name]
        one_hot = block.encode(name, true[name], probs[name].dtype)[0]
        if isinstance(block, Binary):
            pairs = [torch.stack([1 - value, value], dim=-1) for value in (probs[name], one_hot)]
        else:
            pairs = [probs[name], one_hot]
        p, y = (value.reshape(len(value), -1) for value in pairs)
        counts = list(space.num_classes(name))
        for p_v, y_v in zip(p.split(counts, dim=1), y.split(counts, dim=1), strict=True):
            squares.append((p_v - y_v).square().sum(dim=1).mean())
            confidence, label = p_v.max(dim=1)
            right = y_v.gather(1, label[:, None]).squeeze(1)
            bins = (confidence * NUM_BINS).long().clamp(max=NUM_BINS - 1)
            gap = torch.zeros(NUM_BINS, dtype=p.dtype).index_add_(0, bins, confidence - right)
            errors.append(gap.abs().sum() / len(p_v))
    return Calibration(float(torch.stack(errors).mean()), float(torch.stack(squares).mean()))


def auroc(scores: Tensor, outlier_scores: Tensor) -> float:
    """Area under the receiver operating characteristic, with data as the positive class.

    It is the probability that a random row of the data scores higher than a random outlier, a tie counting half: 1 if data
    always score higher, .5 if scores say nothing, 0 if outliers always score higher.

    Args:
        scores: of rows of the data, (N,).
        outlier_scores: of the others, (M,).

    Raises:
        ValueError: a side is empty, or a score is not a number.

    References:
        Hanley & McNeil 1982: it is the statistic of Mann and Whitney over N M.

    Example:
        >>> auroc(torch.tensor([3.0, 2.0]), torch.tensor([2.0, 1.0]))
        0.875
    """
    if not len(scores) or not len(outlier_scores) or bool(scores.isnan().any() or outlier_scores.isnan().any()):
        raise ValueError(
            f"auroc: needs scores of both, all of them numbers; got {len(scores)} and {len(outlier_scores)}, of which "
            f"{int(scores.isnan().sum())} and {int(outlier_scores.isnan().sum())} are not"
        )
    ordered = outlier_scores.sort().values
    num_below = torch.searchsorted(ordered, scores.contiguous())
    num_not_above = torch.searchsorted(ordered, scores.contiguous(), right=True)
    return int((num_below + num_not_above).sum()) / (2 * len(scores) * len(outlier_scores))


def evaluate_model(
    model: Model,
    values: Mapping[str, Tensor],
    *,
    methods: Sequence[Literal["exact", "gibbs", "sample"]] = ("sample", "gibbs", "exact"),
    generator: Generator,
) -> tuple[dict[str, Accuracy], Calibration]:
    """Predicts every discrete block from all continuous ones, by each decoder.

    Args:
        model: the model.
        values: complete rows, per block.
        methods: decoders; calibration is that of the last one.
        generator: source of all draws.

    Returns:
        (accuracy per decoder, calibration).

    Raises:
        ValueError: the space lacks continuous or discrete blocks, or `methods` is empty.
    """
    if not model.space.continuous or not model.space.discrete:
        raise ValueError(
            f"evaluate_model: needs continuous and discrete blocks, got {model.space}. Call `predict` with the blocks "
            "that are known, then `accuracy` and `calibration`"
        )
    given = {name: values[name] for name in model.space.continuous}
    true = {name: values[name] for name in model.space.discrete}
    accuracies: dict[str, Accuracy] = {}
    prediction: Prediction | None = None
    for method in methods:
        prediction = predict(model, given, model.space.discrete, method=method, generator=generator)
        accuracies[method] = accuracy(model.space, prediction.labels, true)
    if prediction is None:
        raise ValueError("evaluate_model: names no method; choose among 'sample', 'gibbs' and 'exact'")
    return accuracies, calibration(model.space, prediction.probs, true)
