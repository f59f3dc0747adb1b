"""Specification of the judges: right about data, independent of the model, and hard on samples that are wrong."""

import pytest
import torch

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.data import Toy, digits
from jointebm.data.toy import attributes_of, centers
from jointebm.evaluation import accuracy
from jointebm.judge import ImageClassifier, Judgement, NearestMode, image_block, judge_for, judge_samples
from true_toy import TrueEnergy, toy_model


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


class Corners:
    """5 x 4 images with one bright corner: a bit says which row, a group of two which column (and nothing)."""

    name = "corners"
    space = Space(image=Continuous((5, 4)), low=Binary(), group=Categorical((2, 3)))

    def draw(self, num: int, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        labels = torch.randint(0, 2, (num, 2), generator=generator)
        image = 0.1 * torch.randn(num, 5, 4, generator=generator)
        image[torch.arange(num), labels[:, 0] * 4, labels[:, 1] * 3] += 1
        return {"image": image, "low": labels[:, 0], "group": torch.stack([labels[:, 1], 2 * labels[:, 1]], dim=1)}

    def batch(self, num: int, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return self.space.encode(self.draw(num, generator=generator))[0]

    def test(self) -> dict[str, torch.Tensor]:
        return self.draw(1100, generator=generator(1))


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
