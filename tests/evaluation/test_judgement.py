"""Specification of judged samples: right samples score like data, and each kind of wrong sample shows in its figure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from jointebm import Model
from jointebm.data import ArrayDataset, Toy, digits
from jointebm.data.dsprites import halved, render
from jointebm.evaluation import ImageClassifier, Judgement, NearestMode, SpriteCentre, judge_samples
from support.block_models import small_config
from support.generators import seeded
from support.rendered_sprites import sprites
from support.true_toy import TrueEnergy, toy_model


def judged(energy: TrueEnergy, *, num: int = 150, step_size: float = 0.5) -> Judgement:
    return judge_samples(
        toy_model(energy, num_steps=80, step_size=step_size), Toy(), NearestMode(), num=num, generator=seeded()
    )


def test_samples_of_the_true_density_agree_and_have_all_modes_and_the_true_spread() -> None:
    judgement = judged(TrueEnergy())
    assert judgement.judge == "nearest mode" and judgement.judge_accuracy > 0.997 and judgement.num_per_condition == 150
    # 14 conditions of 150 samples, each wrong with probability .001 to .002: more than 15 wrong ones never happen.
    assert judgement.agreement > 1 - 15 / 2100 and judgement.worst_agreement > 0.96
    assert len(judgement.per_condition) == 6 + 8
    assert set(judgement.num_modes) == {f"{name} = {v}" for name in Toy().space.discrete for v in (0, 1)}
    assert judgement.num_modes == judgement.num_modes_data == dict.fromkeys(judgement.num_modes, 4)
    # The ratio of two variances of 2 x 150 independent normals: standard error sqrt(2 / 300) = .08.
    of_configurations = [v for text, v in judgement.variance_ratio.items() if text.count("=") == 3]
    assert all(value is not None and abs(value - 1) < 5 * 0.08 for value in of_configurations)


def test_samples_that_ignore_the_condition_agree_by_chance() -> None:
    judgement = judged(TrueEnergy(ignores_labels=True))
    single = [share for text, share in judgement.per_condition.items() if text.count("=") == 1]
    joint = [share for text, share in judgement.per_condition.items() if text.count("=") == 3]
    # Chance is 1/2 and 1/8; standard errors of 150 samples .041 and .027.
    assert max(single) < 0.5 + 5 * 0.041 and max(joint) < 0.125 + 5 * 0.027
    assert judgement.worst_agreement == min(single + joint)


def test_too_little_diversity_shows_in_the_variance_ratio() -> None:
    judgement = judged(TrueEnergy(4.0), step_size=0.15)
    ratios = [value for text, value in judgement.variance_ratio.items() if text.count("=") == 3]
    assert judgement.agreement > 0.99
    assert all(value is not None and abs(value - 0.25) < 5 * 0.02 for value in ratios)


def still_model(data: ArrayDataset) -> Model:
    """A model whose samples `answering` replaces."""
    with torch.random.fork_rng():
        return Model(small_config(data.space))


Draw = Callable[[Mapping[str, Tensor], int], Tensor]


def answering(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    """Replaces the samples of the model by images that `draw` returns for the labels of a condition."""

    def sample_each(model: Model, conditions, num: int, *, generator: torch.Generator):  # type: ignore[no-untyped-def]
        space, parts = model.space, []
        for condition in conditions:
            labels = {
                name: torch.where(
                    given >= 0, given, torch.randint(0, space.num_classes(name)[0], (num,), generator=generator)
                )
                for name in space.discrete
                for given in [condition.given.get(name, torch.tensor(-1))]
            }
            parts.append({**labels, "image": draw(labels, num)})
        return parts

    monkeypatch.setattr("jointebm.evaluation.judgement.sample_each", sample_each)


def drawn_sprites(labels: Mapping[str, Tensor], num: int, *, offset: int = 0) -> Tensor:
    latents = np.zeros((num, 6), dtype=np.int64)
    latents[:, 4] = (2 * labels["horizontal"] + offset).clamp(max=31).numpy()
    latents[:, 5] = (2 * labels["vertical"]).numpy()
    return torch.from_numpy(halved(render(latents))) / 4


@pytest.mark.parametrize(
    ("offset", "exact", "within_one"), [(0, 1.0, 1.0), (2, 1 / 16, 1.0), (4, 1 / 16, 2 / 16)], ids=["0", "1", "2"]
)
def test_placement_of_samples_separates_exact_bins_from_neighbours(
    offset: int, exact: float, within_one: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 samples per column and row name every pair once. The rightmost column cannot move: its offset is zero."""
    data = sprites()
    pairs = set()

    def draw(labels: Mapping[str, Tensor], num: int) -> Tensor:
        if num == 1:
            pairs.add((int(labels["horizontal"]), int(labels["vertical"])))
        return drawn_sprites(labels, num, offset=offset)

    answering(monkeypatch, draw)
    judgement = judge_samples(still_model(data), data, SpriteCentre(), num=16, generator=seeded())
    assert judgement.placement is not None and judgement.placement_data is not None and len(pairs) == 256
    assert judgement.placement.exact == pytest.approx({"horizontal": exact, "vertical": 1.0, "all": exact})
    assert judgement.placement.within_one == pytest.approx(
        {"horizontal": within_one, "vertical": 1.0, "all": within_one}
    )
    assert judgement.placement_data.within_one["all"] == 1.0 and judgement.frechet is None
    assert judgement.per_condition["vertical = 3"] == 1.0 and len(judgement.per_condition) == 32


# Collapse and memorisation.


def quality(draw: Draw, monkeypatch: pytest.MonkeyPatch, *, num: int = 12) -> Judgement:
    """The judgement of images drawn for digits, by a classifier trained for 20 iterations."""
    data = digits()
    judge = ImageClassifier.train(data, seed=0, num_iterations=20)
    answering(monkeypatch, draw)
    return judge_samples(still_model(data), data, judge, num=num, generator=seeded())


def of_class(rows: Mapping[str, np.ndarray], noise: int, start: int = 0) -> Draw:
    """The first rows of each class, with the noise of the data."""

    def draw(labels: Mapping[str, Tensor], num: int) -> Tensor:
        chosen = rows["image"][rows["digit"] == int(labels["digit"][0])][start : start + num]
        return digits().dequantise({"image": torch.tensor(chosen)}, seeded(noise))["image"]

    return draw


def test_memorised_samples_are_nearer_to_training_rows_than_test_rows_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They differ by the noise of the data alone: uniform of width w = 1/8 on either side, w^2 / 6 per pixel."""
    judgement = quality(of_class(digits().train, noise=1), monkeypatch)
    assert judgement.nearest is not None and judgement.nearest.num_rows == 120
    assert judgement.nearest.training == pytest.approx(math.sqrt(64 / 6) / 8, rel=0.1)
    assert judgement.nearest.training_data > 1.5 * judgement.nearest.training
    assert judgement.nearest.other == pytest.approx(judgement.nearest.other_data, rel=0.2)


def test_test_rows_as_samples_score_like_test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    judgement = quality(of_class(digits().held_out, noise=0), monkeypatch, num=14)
    assert judgement.nearest is not None and judgement.frechet is not None
    assert judgement.nearest.training == pytest.approx(judgement.nearest.training_data, rel=0.05)
    assert judgement.nearest.other == pytest.approx(judgement.nearest.other_data, rel=0.05)
    assert all(ratio is not None and 0.6 < ratio < 1.4 for ratio in judgement.variance_ratio.values())
    assert judgement.frechet.num_rows == 140 and "not FID" in judgement.frechet.features
    assert judgement.frechet.samples < 1.5 * judgement.frechet.data


def test_one_image_per_class_shows_as_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(labels: Mapping[str, Tensor], num: int) -> Tensor:
        return of_class(digits().held_out, noise=0)(labels, 1).expand(num, 8, 8)

    judgement = quality(draw, monkeypatch)
    assert judgement.nearest is not None and judgement.frechet is not None
    assert judgement.nearest.other < 1e-5 and judgement.nearest.other_data > 1
    assert all(ratio == pytest.approx(0, abs=1e-9) for ratio in judgement.variance_ratio.values())
    assert judgement.frechet.samples > 2 * judgement.frechet.data


def test_a_class_without_test_rows_has_no_figures_of_data(monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits()
    held_out = {name: rows[data.held_out["digit"] != 3] for name, rows in data.held_out.items()}
    data = replace(data, held_out=held_out)
    judge = ImageClassifier.train(data, seed=0, num_iterations=2)
    answering(monkeypatch, of_class(data.train, noise=1))
    judgement = judge_samples(still_model(data), data, judge, num=4, generator=seeded())
    assert judgement.per_condition_data["digit = 3"] is judgement.nearest_per_condition["digit = 3"] is None
    assert judgement.frechet is not None and judgement.frechet.num_rows == 9 * 4
    assert judgement.nearest is not None and judgement.nearest.num_rows == 9 * 4
