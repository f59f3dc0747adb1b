"""Accuracy of predicted labels, by decoder.

Legend: N rows, V variables.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from jointebm.evaluation.calibration import Calibration, calibration
from jointebm.inference.conditions import variable_names
from jointebm.inference.model import Model
from jointebm.inference.predict import predict
from jointebm.inference.prediction import Prediction
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Space

__all__ = ["Accuracy", "accuracy", "evaluate_model"]


class Accuracy(NamedTuple):
    """Shares of correct labels.

    Args:
        mean: over rows and variables (what the paper reports).
        exact_match: share of rows in which every variable is correct.
        per_attribute: per variable, named by its block, or by block and number if the block has several.
    """

    mean: float
    exact_match: float
    per_attribute: dict[str, float]


def accuracy(space: Space, predicted: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> Accuracy:
    """Compares predicted labels with the true ones.

    Args:
        space: the blocks.
        predicted: per block, labels (N, *variable_shape).
        true: the same blocks and shapes.

    Example:
        >>> from jointebm import Binary
        >>> space = Space(bit=Binary(), bits=Binary(2))
        >>> labels = {"bit": torch.tensor([0, 1]), "bits": torch.tensor([[0, 1], [1, 1]])}
        >>> accuracy(space, labels, {**labels, "bit": torch.tensor([0, 0])})
        Accuracy(mean=0.8333333333333334, exact_match=0.5, per_attribute={'bit': 0.5, 'bits[0]': 1.0, 'bits[1]': 1.0})
    """
    correct: dict[str, Tensor] = {}
    for name in predicted:
        matches = (predicted[name] == true[name]).reshape(len(predicted[name]), -1)  # (N, V of the block)
        correct |= dict(zip(variable_names(space, name), matches.T, strict=True))
    joined = torch.stack(list(correct.values()), dim=1)  # (N, V)
    return Accuracy(
        mean=float(joined.double().mean()),
        exact_match=float(joined.all(dim=1).double().mean()),
        per_attribute={name: float(matches.double().mean()) for name, matches in correct.items()},
    )


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
        methods: decoders; the calibration is that of the last one.
        generator: source of all draws.

    Returns:
        (accuracy per decoder, calibration).

    Raises:
        ValueError: the space lacks continuous or discrete blocks, or `methods` is empty.
    """
    if not model.space.continuous or not model.space.discrete:
        raise ValueError(
            f"evaluate_model: expected continuous and discrete blocks, got {model.space}. Call `predict` with the known "
            "blocks, then `accuracy` and `calibration`"
        )
    given = {name: values[name] for name in model.space.continuous}
    true = {name: values[name] for name in model.space.discrete}
    accuracies: dict[str, Accuracy] = {}
    prediction: Prediction | None = None
    for method in methods:
        prediction = predict(model, given, model.space.discrete, method=method, generator=generator)
        accuracies[method] = accuracy(model.space, prediction.labels, true)
    if prediction is None:
        raise ValueError("evaluate_model: got no methods; expected some of 'sample', 'gibbs', 'exact'")
    return accuracies, calibration(model.space, prediction.probs, true)
