"""Out-of-distribution detection: scores of test rows against scores of images from elsewhere.

Legend: N rows, H x W pixels.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from jointebm.data import Dataset
from jointebm.data.mnist import fashion_images
from jointebm.inference.model import Model
from jointebm.randomness.draws import Generator, uniform
from jointebm.sampling.enumeration import marginalize
from jointebm.spaces.space import Space, Values

__all__ = ["SCORES", "auroc", "outlier_images", "outlier_scores", "separation"]

# Scores that should be higher for data than for outliers.
SCORES = {
    "log_sum_exp": "log sum_y exp f(x, y)",  # log p(x) + log Z if the model has one temperature, else a heuristic
    "confidence": "max_y p(y | x)",
}


def auroc(scores: Tensor, outlier_scores: Tensor) -> float:
    """Area under the receiver operating characteristic, with data as the positive class.

    The probability that a random row of the data scores higher than a random outlier, ties counting half: 1 if data always
    score higher, .5 if scores do not separate them, 0 if outliers always score higher.

    References:
        Hanley & McNeil 1982: the statistic of Mann and Whitney, divided by N M.

    Example:
        >>> auroc(torch.tensor([3.0, 2.0]), torch.tensor([2.0, 1.0]))
        0.875
    """
    if not len(scores) or not len(outlier_scores) or bool(scores.isnan().any() or outlier_scores.isnan().any()):
        raise ValueError(
            f"auroc: got {len(scores)} scores of data, of them {int(scores.isnan().sum())} NaN, and {len(outlier_scores)} "
            f"of outliers, of them {int(outlier_scores.isnan().sum())} NaN; expected some of each and no NaN"
        )
    ordered = outlier_scores.sort().values
    num_below_twice = sum(
        torch.searchsorted(ordered, scores.contiguous(), right=right).sum() for right in (False, True)
    )
    return int(num_below_twice) / (2 * len(scores) * len(outlier_scores))


def outlier_images(dataset: Dataset, data_dir: Path | None, *, generator: Generator) -> dict[str, Tensor]:
    """Images from elsewhere, as many of each kind as test rows, with the noise of the data.

    - "fashion": the test images of Fashion-MNIST.
    - "uniform": every pixel an independent uniform grey level.
    - "shuffled": the test images, each with its pixels in its own random order.

    The data must be images of 28 x 28 pixels held in memory, and `data_dir` the folder that holds `fashion-mnist/`.
    """
    shapes = [dataset.space[name].variable_shape for name in dataset.space.continuous]
    stored = dataset.stored
    if stored is None or shapes != [(28, 28)]:
        raise ValueError(
            f"data {dataset.name!r}: got {dataset.space}; expected images of 28 x 28 pixels, such as those of mnist, to "
            "compare with Fashion-MNIST"
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
    """Each of `SCORES`, (N,), of complete continuous blocks, by enumeration of all labels."""
    parameter = next(model.parameters())
    given = {name: values[name] for name in model.space.continuous}
    position, _ = model.space.encode(given, dtype=parameter.dtype, device=parameter.device)
    labels = Space(**{name: model.space[name] for name in model.space.discrete})
    marginal = marginalize(model, labels, {name: position[name] for name in given})
    return {"log_sum_exp": marginal.log_density, "confidence": marginal.log_confidence.exp()}


def separation(model: Model, values: Values, outliers: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """AUROC of test rows against each kind of outlier by each score: 1 if test rows always score higher."""
    (image,) = model.space.continuous
    real = outlier_scores(model, values)
    others = {kind: outlier_scores(model, {image: images}) for kind, images in outliers.items()}
    return {score: {kind: auroc(real[score], others[kind][score]) for kind in others} for score in SCORES}
