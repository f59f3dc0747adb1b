"""Out-of-distribution detection: does a model score images that are no digits below the test rows?

Legend: N rows, H x W pixels.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from jointebm.data import Dataset
from jointebm.data.mnist import fashion_images
from jointebm.evaluation.accuracy import auroc
from jointebm.inference.model import Model
from jointebm.randomness.draws import Generator, uniform
from jointebm.sampling.enumeration import marginalize
from jointebm.spaces.space import Space, Values

__all__ = ["SCORES", "outlier_images", "outlier_scores", "separation"]

# What rows are told apart by, each a score that data ought to have more of.
SCORES = {
    "log_marginal": "log sum_y exp f(x, y), which is log p(x) + log Z",
    "confidence": "max_y p(y | x)",
}
FASHION_SHAPE = (28, 28)


def outlier_images(dataset: Dataset, data_dir: Path | None, *, generator: Generator) -> dict[str, Tensor]:
    """Images that do not come from the data, as many of each kind as there are test rows, with the noise of the data.

    - "fashion": the test images of Fashion-MNIST.
    - "uniform": every pixel an independent uniform grey level.
    - "shuffled": the test images, the pixels of each in a random order of its own.

    Args:
        dataset: grey images of 28 x 28 pixels.
        data_dir: the folder that holds `fashion-mnist/`.
        generator: source of all draws.

    Returns:
        Values of the image block, per kind, (N, 28, 28).

    Raises:
        FileNotFoundError: the file of Fashion-MNIST is missing, with where it was looked for.
        ValueError: the data are other than images of that shape.
    """
    shapes = [dataset.space[name].variable_shape for name in dataset.space.continuous]
    stored = dataset.stored
    if stored is None or shapes != [FASHION_SHAPE]:
        raise ValueError(
            f"data {dataset.name!r}: out-of-distribution tests compare with Fashion-MNIST, so they need images of 28 x 28 "
            f"pixels, such as mnist; these data have {dataset.space}"
        )
    (image,) = dataset.space.continuous
    test = torch.tensor(stored.held_out[image])
    noise = uniform(torch.empty(test.shape), generator)
    order = uniform(torch.empty(test.shape), generator).flatten(1).argsort(dim=1)
    grey = {
        "fashion": torch.tensor(fashion_images(data_dir)),
        "uniform": (noise * (stored.white + 1)).to(test.dtype),
        "shuffled": test.flatten(1).gather(1, order).reshape(test.shape),
    }
    return {kind: stored.dequantise({image: images}, generator)[image] for kind, images in grey.items()}


def outlier_scores(model: Model, values: Values) -> dict[str, Tensor]:
    """Each of `SCORES` of rows, (N,), by enumeration of all labels.

    Args:
        model: the model.
        values: complete continuous blocks; others are not looked at.
    """
    parameter = next(model.parameters())
    given = {name: values[name] for name in model.space.continuous}
    position, _ = model.space.encode(given, dtype=parameter.dtype, device=parameter.device)
    labels = Space(**{name: model.space[name] for name in model.space.discrete})
    marginal = marginalize(model, labels, {name: position[name] for name in given})
    return {"log_marginal": marginal.log_density, "confidence": marginal.log_confidence.exp()}


def separation(model: Model, values: Values, outliers: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """AUROC of test rows against each kind of outliers by each score: 1 if test rows always score higher.

    Args:
        model: a model with one continuous block.
        values: test rows.
        outliers: per kind, values of the continuous block.

    Returns:
        Per score, per kind of outliers, the area.
    """
    (image,) = model.space.continuous
    real = outlier_scores(model, values)
    others = {kind: outlier_scores(model, {image: images}) for kind, images in outliers.items()}
    return {score: {kind: auroc(real[score], others[kind][score]) for kind in others} for score in SCORES}
