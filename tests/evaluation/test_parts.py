"""Specification of the report on parts: it says what `predict`, `sample` and `impute` answer, counted by hand."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, KernelSpec, Model, ModelConfig, Space, load, predict
from jointebm.energies import AnySubsetSpec, LevelConvSpec, LevelMLPSpec
from jointebm.evaluation.parts import draw_report, label_report

POINTS = Space(x=Continuous(2), y=Categorical(3))
IMAGES = Space(image=Continuous((4, 4)), digit=Categorical(3))


def a_model(space: Space, net: LevelMLPSpec | LevelConvSpec) -> Model:
    spec = AnySubsetSpec(net=net, min_noise=0.1, max_noise=5.0, num_levels=10)
    kernel = KernelSpec(discrete="gibbs", continuous="mala", step_size=0.1)
    config = ModelConfig(name="random", data="none", space=space.config, energy=spec, kernel=kernel, num_steps=1)
    torch.manual_seed(0)
    model = Model(config)
    for parameter in model.energy.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def images() -> Model:
    return a_model(IMAGES, LevelConvSpec(channels=(4,), hidden=(8,)))


@pytest.fixture(scope="module")
def rows(images: Model) -> dict[str, Tensor]:
    return images.sample(40, seed=3)


class Always:
    """A judge that gives every image the same label."""

    name, num_positions, features = "always", None, None

    def __init__(self, label: int) -> None:
        self._label = label

    def label(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"digit": torch.full((len(values["image"]),), self._label)}


def test_labels_of_each_part_are_those_of_predict(images: Model, rows: dict[str, Tensor]) -> None:
    report = label_report(images, rows, torch.Generator().manual_seed(0))
    assert list(report.accuracy) == [
        *("whole image", "top half", "bottom half", "left half", "right half", "random 25% of the pixels"),
    ]
    top = rows["image"].clone()
    top[:, 2:] = torch.nan
    right = predict(images, {"image": top}, "digit").labels["digit"] == rows["digit"]
    assert report.accuracy["top half"]["digit"] == pytest.approx(float(right.double().mean()))
    assert report.rows_per_second > 0 and set(report.ece) == set(report.accuracy)


def test_under_noise_labels_are_read_at_that_noise_level(images: Model, rows: dict[str, Tensor]) -> None:
    """With a generator whose normals are zeros, the noisy rows are the rows themselves."""

    class Silent:
        def normal(self, like: Tensor) -> Tensor:
            return torch.zeros_like(like)

        def uniform(self, like: Tensor) -> Tensor:
            return torch.zeros_like(like)

        def choose(self, log_weights: Tensor) -> Tensor:
            return log_weights.argmax(dim=1)

        def accept(self, log_ratio: Tensor) -> Tensor:
            return log_ratio > 0

    report = label_report(images, rows, Silent())
    reals = rows["image"].flatten(1)
    with torch.no_grad():
        found = images.energy.table(reals, torch.full_like(reals, 0.6)).argmax(dim=1)
    assert report.noisy["digit"] == pytest.approx(float((found == rows["digit"]).double().mean()))


def test_points_are_read_from_each_real_alone() -> None:
    model = a_model(POINTS, LevelMLPSpec(hidden=(8,)))
    values = {"x": torch.randn(30, 2, generator=torch.Generator().manual_seed(0)), "y": torch.arange(30) % 3}
    report = label_report(model, values, torch.Generator().manual_seed(0))
    assert list(report.accuracy) == ["all reals", "x[0] alone", "x[1] alone"]
    alone = torch.stack([torch.full((30,), torch.nan), values["x"][:, 1]], dim=1)
    right = model.predict({"x": alone}, "y").labels["y"] == values["y"]
    assert report.accuracy["x[1] alone"]["y"] == pytest.approx(float(right.double().mean()))


def test_draws_are_compared_with_test_rows(images: Model, rows: dict[str, Tensor]) -> None:
    report = draw_report(images, rows, Always(0), num=20, generator=torch.Generator().manual_seed(0))
    assert report.frequencies == report.frequencies_data == 0.0
    assert report.num == 20 and 0 <= report.below_data <= 1
    top = rows["image"].clone()
    top[:, 2:] = torch.nan
    probs = predict(images, {"image": top}, "digit").probs["digit"].double()
    ambiguous = probs[probs.amax(dim=1) < 0.9][:25]
    assert report.num_ambiguous == len(ambiguous) > 0
    assert report.paintings == pytest.approx(1 - float(ambiguous[:, 0].mean()))  # all in-paintings are called 0
    assert report.disagreement == 0.0
    expected = 1 - float(ambiguous.square().sum(dim=1).mean())
    assert report.disagreement_expected == pytest.approx(expected)


def test_rows_that_f_puts_far_above_all_draws_are_noticed(images: Model, rows: dict[str, Tensor]) -> None:
    position, _ = IMAGES.encode(rows)
    with torch.no_grad():
        best = images(position).topk(20).indices
    chosen = {name: value[best].repeat_interleave(2, dim=0) for name, value in rows.items()}
    report = draw_report(images, chosen, Always(0), num=20, generator=torch.Generator().manual_seed(0))
    assert report.below_data > 0.2 and report.median_gap < 0


def test_other_models_and_too_few_rows_are_refused(images: Model, rows: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="model 'toy' is not one of any subset"):
        label_report(load("pretrained:toy"), {"point": torch.zeros(1, 2)}, torch.Generator())
    with pytest.raises(ValueError, match="30 draws are compared with 60 test rows, but there are 40"):
        draw_report(images, rows, Always(0), num=30, generator=torch.Generator())
