"""Answers of a model of any subset: labels from parts of a row, draws from the highest noise, in-paintings of halves.

Legend: N rows, H x W pixels, M in-paintings of a row, K classes.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.evaluation.calibration import calibration
from jointebm.evaluation.judges import Judge
from jointebm.inference.inpainting import HALVES, WHOLE, masked
from jointebm.inference.model import Model
from jointebm.inference.predict import predict
from jointebm.inference.subset_answers import subset_log_density
from jointebm.randomness.draws import Generator, normal, uniform
from jointebm.spaces.space import image_block

__all__ = ["DrawReport", "LabelReport", "draw_report", "label_report"]

RANDOM_SHARE = 0.25  # of the pixels of a random part
NOISY = 6.0  # times the lowest noise level
AMBIGUOUS = 0.9  # largest probability of a label that counts as ambiguous
PAINTINGS = 8  # M
MAX_AMBIGUOUS = 25  # rows


@dataclass(frozen=True)
class LabelReport:
    """Labels read from parts of test rows.

    Args:
        accuracy: by part, by block of labels.
        ece: expected calibration error, by part; mean over labels.
        noisy: accuracy by block from the whole row under six times the lowest noise.
        rows_per_second: of these answers, over all parts.
    """

    accuracy: dict[str, dict[str, float]]
    ece: dict[str, float]
    noisy: dict[str, float]
    rows_per_second: float


@dataclass(frozen=True)
class DrawReport:
    """Draws from the highest noise, labelled by a judge.

    Args:
        num: unconditional draws.
        frequencies: total variation between the judged labels of the draws and those of as many test rows; the largest over
            blocks.
        frequencies_data: the same between test rows and other test rows: what exact draws would have on average.
        below_data: share of draws whose F is below that of every test row: noise-like, or spurious modes.
        median_gap: median of F over draws minus that over test rows, nats.
        num_ambiguous: test rows whose label is ambiguous given their top half; 0: none was painted.
        paintings: total variation over classes between judged in-paintings of these and p(label | half), pooled over rows;
            None without such rows.
        disagreement: share of pairs of in-paintings of a row that differ in label; None without such rows.
        disagreement_expected: the same by p(label | half).
    """

    num: int
    frequencies: float
    frequencies_data: float
    below_data: float
    median_gap: float
    num_ambiguous: int
    paintings: float | None
    disagreement: float | None
    disagreement_expected: float | None


def label_report(model: Model, values: Mapping[str, Tensor], generator: Generator) -> LabelReport:
    """Reads labels from the whole of each row and from parts: halves and a random quarter of an image, or single reals.

    Raises:
        ValueError: the model is not one of any subset.
    """
    energy, labels = _any_subset(model), {name: values[name] for name in model.space.discrete}
    accuracy, ece, seconds, num_rows = {}, {}, 0.0, 0
    for part, given in _parts(model, values, generator).items():
        started = time.perf_counter()
        prediction = predict(model, given, model.space.discrete)
        seconds += time.perf_counter() - started
        num_rows += len(next(iter(given.values())))
        accuracy[part] = _right(prediction.labels, labels)
        ece[part] = calibration(model.space, prediction.probs, labels).ece
    level = NOISY * energy.min_noise
    reals = energy.reals(model.space.encode(values, dtype=energy.mean.dtype)[0])
    noisy = reals + (level**2 - energy.min_noise**2) ** 0.5 * normal(reals, generator)
    with torch.no_grad():
        index = torch.cat([energy.table(rows, torch.full_like(rows, level)).argmax(dim=1) for rows in noisy.split(500)])
    of_configurations = model.space.decode(model.space.configurations())
    found = {name: of_all[index] for name, of_all in of_configurations.items()}
    return LabelReport(accuracy, ece, _right(found, labels), num_rows / seconds)


def draw_report(
    model: Model, values: Mapping[str, Tensor], judge: Judge, *, num: int, generator: Generator
) -> DrawReport:
    """Draws rows from the highest noise and paints the rest of ambiguous halves.

    Raises:
        ValueError: the model is not one of any subset, or there are fewer than 2 num test rows.
    """
    energy, available = _any_subset(model), len(next(iter(values.values())))
    if available < 2 * num:
        raise ValueError(f"draw_report: {num} draws are compared with {2 * num} test rows, but there are {available}")
    drawn = model.sample(num, seed=_seed(generator))
    found, real = judge.label(drawn), judge.label(values)
    f_drawn, f_real = (
        subset_log_density(energy, model.space.encode(rows, dtype=energy.mean.dtype)[0]) for rows in (drawn, values)
    )
    half = {name: (labels[:num], labels[num : 2 * num]) for name, labels in real.items()}
    counts = {name: max(model.space.num_classes(name)) for name in found}
    pairs = [(_shares(labels, counts[name]), _shares(real[name], counts[name])) for name, labels in found.items()]
    of_data = [(_shares(a, counts[name]), _shares(b, counts[name])) for name, (a, b) in half.items()]
    ambiguous = _ambiguous(model, values)
    painted = None if not len(ambiguous) else _painted(model, values, ambiguous, judge, generator)
    return DrawReport(
        num=num,
        frequencies=max(_distance(*pair) for pair in pairs),
        frequencies_data=max(_distance(*pair) for pair in of_data),
        below_data=float((f_drawn < f_real.min()).double().mean()),
        median_gap=float(f_drawn.median() - f_real.median()),
        num_ambiguous=len(ambiguous),
        paintings=None if painted is None else painted[0],
        disagreement=None if painted is None else painted[1],
        disagreement_expected=None if painted is None else painted[2],
    )


def _any_subset(model: Model) -> AnySubsetEnergy:
    if not isinstance(model.energy, AnySubsetEnergy):
        raise ValueError(
            f"parts: model {model.config.name!r} is not one of any subset (energy of kind any-subset); it answers parts by "
            "chains, see benchmarks/half_image.py"
        )
    return model.energy


def _parts(model: Model, values: Mapping[str, Tensor], generator: Generator) -> dict[str, dict[str, Tensor]]:
    """What is given in each question: reals, NaN where they are missing."""
    image = image_block(model.space)
    reals = {name: values[name] for name in model.space.continuous}
    if image is not None:
        found = {part.text: {**reals, image: masked(values[image], part)} for part in (WHOLE, *HALVES)}
        kept = uniform(values[image], generator) < RANDOM_SHARE
        found[f"random {RANDOM_SHARE:.0%} of the pixels"] = {
            **reals,
            image: torch.where(kept, values[image], torch.nan),
        }
        return found
    found = {"all reals": reals}
    for name, value in reals.items():
        flat = value.reshape(len(value), -1)
        for place in range(flat.shape[1] if flat.shape[1] <= 4 else 0):
            alone = torch.full_like(flat, torch.nan)
            alone[:, place] = flat[:, place]
            found[f"{name}[{place}] alone"] = {name: alone.reshape(value.shape)}
    return found


def _right(predicted: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float((labels == true[name]).double().mean()) for name, labels in predicted.items()}


def _shares(labels: Tensor, num_classes: int) -> Tensor:
    """Shares of the classes among labels of any shape, (K,)."""
    return torch.bincount(labels.flatten(), minlength=num_classes).double() / labels.numel()


def _distance(first: Tensor, second: Tensor) -> float:
    """Total variation."""
    return float(0.5 * (first - second).abs().sum())


def _seed(generator: Generator) -> int:
    return int(uniform(torch.empty(1, dtype=torch.float64), generator) * 2**31)


def _ambiguous(model: Model, values: Mapping[str, Tensor]) -> Tensor:
    """The first test rows whose one label is ambiguous given the top half of their image; empty for other data."""
    image = image_block(model.space)
    if image is None or len(model.space.discrete) != 1 or model.space[model.space.discrete[0]].variable_shape:
        return torch.empty(0, dtype=torch.int64)
    label = model.space.discrete[0]
    probs = predict(model, {image: masked(values[image], HALVES[0])}, label).probs[label]
    confidence = probs.amax(dim=1) if probs.ndim == 2 else torch.maximum(probs, 1 - probs)
    return (confidence < AMBIGUOUS).nonzero().flatten()[:MAX_AMBIGUOUS]


def _painted(
    model: Model, values: Mapping[str, Tensor], rows: Tensor, judge: Judge, generator: Generator
) -> tuple[float, float, float]:
    """Total variation of judged labels, and how often two in-paintings of a row differ: found, and by p(label | half)."""
    image, label = image_block(model.space), model.space.discrete[0]
    assert image is not None
    half = {image: masked(values[image][rows], HALVES[0])}
    probs = predict(model, half, label).probs[label].double()
    probs = probs if probs.ndim == 2 else torch.stack([1 - probs, probs], dim=1)  # (N, K)
    found = [judge.label(each)[label] for each in model.impute(half, num=PAINTINGS, seed=_seed(generator))]
    counts = torch.stack(found, dim=1)  # (N, M)
    shares = torch.nn.functional.one_hot(counts, probs.shape[1]).double().mean(dim=1)  # (N, K)
    same = (shares.square().sum(dim=1) * PAINTINGS - 1) / (PAINTINGS - 1)  # of two different in-paintings
    return (
        _distance(shares.mean(dim=0), probs.mean(dim=0)),
        float(1 - same.mean()),
        float(1 - probs.square().sum(dim=1).mean()),
    )
