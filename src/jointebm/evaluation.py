"""How good a model is: accuracy by decoder, and calibration.

Legend: N rows, V variables, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from jointebm.blocks import Binary
from jointebm.conditioning import Prediction, predict
from jointebm.conditions import variable_names
from jointebm.draws import Generator
from jointebm.models import Model
from jointebm.spaces import Space

__all__ = ["Accuracy", "Calibration", "accuracy", "calibration", "evaluate_model"]

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
    """How far probabilities are from frequencies.

    Args:
        ece: expected calibration error of the most probable class in 15 bins of equal width, mean over variables.
        brier: sum over classes of the squared error of the probability, mean over rows and variables; in [0, 2].
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
