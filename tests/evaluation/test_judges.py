"""Specification of the judges: right about data, independent of the model, and hard on samples that are wrong."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, KernelSpec, Model, ModelConfig, Space
from jointebm.data import ArrayDataset, GeneratedDataset, Toy, digits
from jointebm.data.dsprites import chosen_latents, halved, render
from jointebm.data.toy import attributes_of, centers
from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.evaluation import (
    ImageClassifier,
    Judgement,
    NearestMode,
    SpriteCentre,
    frechet_distance,
    judge_for,
    judge_samples,
    nearest_distances,
    placement,
    total_variance,
)
from jointebm.evaluation.accuracy import accuracy
from jointebm.spaces.space import image_block
from jointebm.spaces.transforms import Identity
from support.true_toy import TrueEnergy, toy_model


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def judged(energy: TrueEnergy, *, num: int = 150, step_size: float = 0.5) -> Judgement:
    return judge_samples(
        toy_model(energy, num_steps=80, step_size=step_size), Toy(), NearestMode(), num=num, generator=generator()
    )


def test_nearest_mode_names_the_attributes_of_every_mode() -> None:
    labels = NearestMode().label({"point": centers() + 0.3})
    assert {name: value.tolist() for name, value in labels.items()} == {
        name: value.tolist() for name, value in attributes_of(torch.arange(8)).items()
    }


def test_image_classifier_is_right_on_at_least_98_percent_of_the_digits_held_out() -> None:
    data = digits()
    before = torch.get_rng_state()
    judge = judge_for(data, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    real = data.test()
    assert accuracy(data.space, judge.label(real), real).mean >= 0.98
    # It reads the image and nothing else, row by row.
    some = torch.tensor([5, 2, 9])
    alone = judge.label({"image": real["image"][some]})["digit"]
    assert torch.equal(alone, judge.label(real)["digit"][some])


def test_image_classifier_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    data, images = digits(), {"image": digits().test()["image"]}
    first, again, other = (
        ImageClassifier.train(data, seed=seed, num_iterations=5).label(images)["digit"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


class Corners(GeneratedDataset):
    """5 x 4 images with one bright corner: a bit says which row, a group of two which column (and nothing)."""

    name = "corners"
    num_test = 1100
    space = Space(image=Continuous((5, 4)), low=Binary(), group=Categorical((2, 3)))

    def draw(self, num: int, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        labels = torch.randint(0, 2, (num, 2), generator=generator)
        image = 0.1 * torch.randn(num, 5, 4, generator=generator)
        image[torch.arange(num), labels[:, 0] * 4, labels[:, 1] * 3] += 1
        return {"image": image, "low": labels[:, 0], "group": torch.stack([labels[:, 1], 2 * labels[:, 1]], dim=1)}


def test_image_classifier_learns_binary_and_ragged_variables_of_images_of_any_shape() -> None:
    data = Corners()
    labels = ImageClassifier.train(data, seed=0, num_iterations=60).label(data.test())
    assert accuracy(data.space, labels, data.test()).exact_match > 0.99


def test_image_classifier_refuses_data_without_an_image() -> None:
    assert image_block(Toy().space) is None
    with pytest.raises(ValueError, match="needs one image block and a discrete one"):
        ImageClassifier(Toy().space)
    with pytest.raises(ValueError, match="needs one image block and a discrete one"):
        ImageClassifier(Space(image=Continuous((4, 4))))


def test_samples_of_the_true_density_are_judged_right_with_all_modes_and_the_right_spread() -> None:
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


def test_samples_that_ignore_what_is_asked_agree_by_chance_only() -> None:
    judgement = judged(TrueEnergy(ignores_labels=True))
    single = [share for text, share in judgement.per_condition.items() if text.count("=") == 1]
    joint = [share for text, share in judgement.per_condition.items() if text.count("=") == 3]
    # Chance is 1/2 and 1/8; standard errors of 150 samples .041 and .027.
    assert max(single) < 0.5 + 5 * 0.041 and max(joint) < 0.125 + 5 * 0.027
    assert judgement.worst_agreement == min(single + joint)


def test_samples_with_too_little_diversity_show_in_the_variance_ratio() -> None:
    judgement = judged(TrueEnergy(4.0), step_size=0.15)
    ratios = [value for text, value in judgement.variance_ratio.items() if text.count("=") == 3]
    assert judgement.agreement > 0.99
    assert all(value is not None and abs(value - 0.25) < 5 * 0.02 for value in ratios)


def test_a_variance_ratio_needs_two_samples() -> None:
    assert set(judged(TrueEnergy(), num=1).variance_ratio.values()) == {None}


def test_no_sample_as_asked_is_no_mode_and_no_error() -> None:
    class Contrary(NearestMode):
        def label(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: torch.full_like(labels, 7) for name, labels in super().label(values).items()}

    judgement = judge_samples(toy_model(TrueEnergy(), num_steps=2), Toy(), Contrary(), num=3, generator=generator())
    assert judgement.agreement == 0 and set(judgement.num_modes.values()) == {0}


# The geometry of dSprites.


def sprites(noise_sd: float = 0.1, every: int = 29) -> ArrayDataset:
    """Rendered ellipses of every position and size, a part of them."""
    latents = chosen_latents()[::every]
    rows = {
        "image": halved(render(latents)),
        "horizontal": (latents[:, 4] // 2).astype(np.uint8),
        "vertical": (latents[:, 5] // 2).astype(np.uint8),
    }
    space = Space(image=Continuous((32, 32), Identity()), horizontal=Categorical(16), vertical=Categorical(16))
    return ArrayDataset(
        "dsprites-some",
        space,
        train=rows,
        held_out=rows,
        white=4,
        noise_width=0.0,
        noise_sd=noise_sd,
        judge="sprite centre",
    )


@pytest.mark.parametrize("scale", [0, 5])
def test_every_position_of_a_rendered_sprite_is_in_its_own_bin(scale: int) -> None:
    positions = np.array([(0, 1, scale, angle, x, y) for angle in (0, 9, 39) for x in range(32) for y in range(32)])
    measured = SpriteCentre().label({"image": torch.from_numpy(halved(render(positions))) / 4})
    assert measured["horizontal"].tolist() == (positions[:, 4] // 2).tolist()
    assert measured["vertical"].tolist() == (positions[:, 5] // 2).tolist()


def test_the_centre_is_found_through_the_noise_of_the_data() -> None:
    data = sprites()
    assert isinstance(judge_for(data, seed=0), SpriteCentre)
    real = data.test()
    found = placement(data.space, SpriteCentre().label(real), real)
    assert set(found.exact) == {"horizontal", "vertical", "all"}
    assert found.exact["all"] > 0.99 and found.within_one == {"horizontal": 1.0, "vertical": 1.0, "all": 1.0}
    # Columns taken for rows, as in a transposed image, are wrong but on the diagonal: one bin in 16.
    turned = placement(data.space, SpriteCentre().label({"image": real["image"].mT}), real)
    assert turned.exact["all"] < 0.1


def test_an_image_without_a_sprite_is_nowhere_near_any_bin() -> None:
    space, labels = sprites().space, SpriteCentre().label({"image": torch.full((2, 32, 32), 0.4)})
    for asked in (0, 15):
        result = placement(space, labels, {name: torch.full((2,), asked) for name in ("horizontal", "vertical")})
        assert set(result.exact.values()) == set(result.within_one.values()) == {0.0}


def test_placement_counts_offsets_of_at_most_one_per_variable_and_of_all_at_once() -> None:
    space, zero = sprites().space, torch.zeros(4, dtype=torch.uint8)
    measured = {"horizontal": torch.tensor([0, 1, 2, 0]), "vertical": torch.tensor([0, 0, 1, 3])}
    result = placement(space, measured, {"horizontal": zero, "vertical": zero})
    assert result.exact == {"horizontal": 0.5, "vertical": 0.5, "all": 0.25}
    assert result.within_one == {"horizontal": 0.75, "vertical": 0.75, "all": 0.5}


def still_model(data: ArrayDataset | Corners, name: str) -> Model:
    """A model whose samples are never looked at; `answering` replaces them."""
    config = ModelConfig(
        name=name,
        data=data.name,
        space=data.space.config,
        energy=ConcatSpec(net=MLPSpec(hidden=(1,))),
        kernel=KernelSpec(discrete="gibbs", step_size=0.1),
    )
    with torch.random.fork_rng():
        return Model(config)


Draw = Callable[[Mapping[str, Tensor], int], Tensor]


def answering(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    """Lets `judge_samples` receive images that `draw` gives for the labels of a condition, whatever the model."""

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
def test_sprites_are_placed_as_asked_and_bins_beside_it_are_told_apart(
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
    judgement = judge_samples(still_model(data, "t"), data, SpriteCentre(), num=16, generator=generator())
    assert judgement.placement is not None and judgement.placement_data is not None and len(pairs) == 256
    assert judgement.placement.exact == pytest.approx({"horizontal": exact, "vertical": 1.0, "all": exact})
    assert judgement.placement.within_one == pytest.approx(
        {"horizontal": within_one, "vertical": 1.0, "all": within_one}
    )
    assert judgement.placement_data.within_one["all"] == 1.0 and judgement.frechet is None
    assert judgement.per_condition["vertical = 3"] == 1.0 and len(judgement.per_condition) == 32


# Measures of quality.


def test_total_variance_is_the_sum_over_all_entries() -> None:
    rows = torch.randn(50, 3, 4, generator=generator(), dtype=torch.float64)
    assert total_variance(rows) == pytest.approx(float(np.trace(np.cov(rows.flatten(1).numpy().T))), rel=1e-12)


def test_nearest_distances_of_a_tiny_set_are_those_by_hand() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])
    assert nearest_distances(rows).tolist() == pytest.approx([5.0, 1.0, 1.0])
    assert nearest_distances(rows, torch.tensor([[0.0, 1.0], [3.0, 4.0]])).tolist() == pytest.approx([1.0, 0.0, 1.0])
    assert nearest_distances(torch.ones(2, 2)).tolist() == [0.0, 0.0]  # a row's twin is not the row itself


def test_nearest_distances_agree_with_all_pairs_across_batches() -> None:
    rows = torch.randn(600, 2, 3, generator=generator())
    pairs = (rows.flatten(1).double()[:, None] - rows.flatten(1).double()).norm(dim=2)
    torch.testing.assert_close(nearest_distances(rows, rows[:70]), pairs[:, :70].amin(dim=1), rtol=0, atol=1e-6)
    pairs.fill_diagonal_(torch.inf)
    torch.testing.assert_close(nearest_distances(rows), pairs.amin(dim=1), rtol=0, atol=1e-6)


def with_moments(mean: Tensor, covariance: Tensor, num: int, seed: int) -> Tensor:
    """Rows whose sample mean and covariance are the given ones exactly."""
    rows = torch.randn(num, len(mean), generator=generator(seed), dtype=torch.float64)
    rows = torch.linalg.qr(rows - rows.mean(dim=0)).Q * math.sqrt(num - 1)  # zero mean, identity
    values, vectors = torch.linalg.eigh(covariance)
    return rows @ (vectors * values.clamp(min=0).sqrt()).T + mean


DIAGONALS = {
    "regular": ([1.0, 4.0, 9.0], [4.0, 1.0, 0.25]),
    "one singular": ([1.0, 4.0, 0.0], [4.0, 1.0, 0.25]),
    "both singular, in different directions": ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    "nothing varies": ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("case", DIAGONALS)
def test_frechet_distance_of_covariances_that_commute_is_that_of_their_roots(case: str) -> None:
    """In a common basis it is |m - n|^2 + sum (sqrt a_i - sqrt b_i)^2, also where an eigenvalue is zero."""
    a, b = (torch.tensor(values, dtype=torch.float64) for values in DIAGONALS[case])
    basis = torch.linalg.qr(torch.randn(3, 3, generator=generator(), dtype=torch.float64)).Q
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    rows = [
        with_moments(mean, basis @ values.diag() @ basis.T, 40, seed)
        for seed, (mean, values) in enumerate([(torch.zeros_like(shift), a), (shift, b)])
    ]
    expected = float(shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(*rows) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(*reversed(rows)) == pytest.approx(expected, abs=1e-6)


def test_frechet_distance_of_covariances_that_do_not_commute() -> None:
    """For 2 x 2, tr (A B)^1/2 = sqrt(tr(A B) + 2 sqrt(det A det B))."""
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.8], [-0.8, 3.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    cross = float(((a @ b).trace() + 2 * (a.det() * b.det()).sqrt()).sqrt())
    expected = float(a.trace() + b.trace()) - 2 * cross
    assert frechet_distance(with_moments(zero, a, 30, 0), with_moments(zero, b, 20, 1)) == pytest.approx(expected)


def test_frechet_distance_of_fewer_rows_than_entries_is_defined_and_zero_to_itself() -> None:
    rows = torch.randn(5, 30, generator=generator())
    assert frechet_distance(rows, rows) == pytest.approx(0.0, abs=1e-5)
    assert frechet_distance(rows, rows.flip(0) + 1) == pytest.approx(30.0, abs=1e-4)


# Quality of samples.


def quality(draw: Draw, monkeypatch: pytest.MonkeyPatch, *, num: int = 12) -> Judgement:
    """What is said of images drawn for digits, by a classifier that was hardly trained."""
    data = digits()
    judge = ImageClassifier.train(data, seed=0, num_iterations=20)
    answering(monkeypatch, draw)
    return judge_samples(still_model(data, "t"), data, judge, num=num, generator=generator())


def of_class(rows: Mapping[str, np.ndarray], noise: int, start: int = 0) -> Draw:
    """The first rows of each class, with the noise of the data."""

    def draw(labels: Mapping[str, Tensor], num: int) -> Tensor:
        chosen = rows["image"][rows["digit"] == int(labels["digit"][0])][start : start + num]
        return digits().dequantise({"image": torch.tensor(chosen)}, generator(noise))["image"]

    return draw


def test_samples_that_are_training_rows_are_nearer_to_training_rows_than_test_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the noise of the data is between: uniform of width w = 1/8 on either side, w^2 / 6 per pixel."""
    judgement = quality(of_class(digits().train, noise=1), monkeypatch)
    assert judgement.nearest is not None and judgement.nearest.num_rows == 120
    assert judgement.nearest.training == pytest.approx(math.sqrt(64 / 6) / 8, rel=0.1)
    assert judgement.nearest.training_data > 1.5 * judgement.nearest.training
    assert judgement.nearest.other == pytest.approx(judgement.nearest.other_data, rel=0.2)


def test_test_rows_as_samples_are_like_test_rows_in_every_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    judgement = quality(of_class(digits().held_out, noise=0), monkeypatch, num=14)
    assert judgement.nearest is not None and judgement.frechet is not None
    assert judgement.nearest.training == pytest.approx(judgement.nearest.training_data, rel=0.05)
    assert judgement.nearest.other == pytest.approx(judgement.nearest.other_data, rel=0.05)
    assert all(ratio is not None and 0.6 < ratio < 1.4 for ratio in judgement.variance_ratio.values())
    assert judgement.frechet.num_rows == 140 and "not FID" in judgement.frechet.features
    assert judgement.frechet.samples < 1.5 * judgement.frechet.data


def test_one_image_per_class_is_seen_as_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(labels: Mapping[str, Tensor], num: int) -> Tensor:
        return of_class(digits().held_out, noise=0)(labels, 1).expand(num, 8, 8)

    judgement = quality(draw, monkeypatch)
    assert judgement.nearest is not None and judgement.frechet is not None
    assert judgement.nearest.other < 1e-5 and judgement.nearest.other_data > 1
    assert all(ratio == pytest.approx(0, abs=1e-9) for ratio in judgement.variance_ratio.values())
    assert judgement.frechet.samples > 2 * judgement.frechet.data


def test_noise_in_place_of_images_is_far_in_every_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    judgement = quality(lambda _, num: torch.rand(num, 8, 8, generator=generator()), monkeypatch)
    assert judgement.nearest is not None and judgement.frechet is not None
    assert judgement.nearest.training > 1.2 * judgement.nearest.training_data
    assert judgement.frechet.samples > 5 * judgement.frechet.data


def test_a_class_without_test_rows_has_no_figures_of_data(monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits()
    held_out = {name: rows[data.held_out["digit"] != 3] for name, rows in data.held_out.items()}
    data = replace(data, held_out=held_out)
    judge = ImageClassifier.train(data, seed=0, num_iterations=2)
    answering(monkeypatch, of_class(data.train, noise=1))
    judgement = judge_samples(still_model(data, "t"), data, judge, num=4, generator=generator())
    assert judgement.per_condition_data["digit = 3"] is judgement.nearest_per_condition["digit = 3"] is None
    assert judgement.frechet is not None and judgement.frechet.num_rows == 9 * 4
    assert judgement.nearest is not None and judgement.nearest.num_rows == 9 * 4
