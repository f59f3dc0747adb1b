"""Specification of accuracy, calibration and the area under the curve, against figures by hand."""

import math
from typing import Literal

import pytest
import torch

from jointebm import Binary, Categorical, Continuous, KernelSpec, Model, ModelConfig, Space, predict
from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.evaluation.accuracy import accuracy, auroc, calibration, evaluate_model

SPACE = Space(digit=Categorical(3), bits=Binary(2), group=Categorical((2, 3)))
TRUE = {
    "digit": torch.tensor([0, 1, 2, 2]),
    "bits": torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]]),
    "group": torch.tensor([[0, 0], [1, 2], [1, 1], [0, 2]]),
}


def test_accuracy_is_per_variable_over_all_and_of_whole_rows() -> None:
    predicted = {
        "digit": torch.tensor([0, 1, 2, 0]),  # 3 of 4
        "bits": torch.tensor([[0, 1], [0, 1], [0, 0], [1, 1]]),  # 3 of 4, 3 of 4
        "group": torch.tensor([[0, 0], [1, 2], [1, 0], [0, 2]]),  # 4 of 4, 3 of 4
    }
    result = accuracy(SPACE, predicted, TRUE)
    assert result.per_attribute == {"digit": 0.75, "bits[0]": 0.75, "bits[1]": 0.75, "group[0]": 1.0, "group[1]": 0.75}
    assert result.mean == pytest.approx(16 / 20)
    assert result.exact_match == 1 / 4  # only row 0 is right throughout


def test_accuracy_of_some_blocks_counts_those_alone() -> None:
    assert accuracy(SPACE, {"digit": TRUE["digit"]}, TRUE) == (1.0, 1.0, {"digit": 1.0})


def test_brier_is_the_squared_error_of_all_classes() -> None:
    probs = {
        "digit": torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]),
        "bits": torch.tensor([[0.2, 0.9], [0.8, 1.0], [0.0, 0.5], [1.0, 0.4]]),
    }
    digit = (0.09 + 0.04 + 0.01 + 0.01 + 0.16 + 0.09 + 0.25 + 0.25 + 1.0 + 0.0) / 4
    first = 2 * (0.04 + 0.04 + 0.0 + 0.0) / 4  # a bit has two classes, both as wrong
    second = 2 * (0.01 + 0.0 + 0.25 + 0.16) / 4
    assert calibration(SPACE, probs, TRUE).brier == pytest.approx((digit + first + second) / 3, abs=1e-7)


def test_ece_is_the_gap_of_confidence_and_accuracy_in_fifteen_bins() -> None:
    """Confidences .95, .95 (bin 14), .70 (bin 10), .55 (bin 8); right, wrong, right, wrong."""
    probs = torch.tensor([[0.95, 0.05, 0.0], [0.95, 0.05, 0.0], [0.1, 0.2, 0.7], [0.55, 0.45, 0.0]])
    expected = (2 * abs(0.95 - 0.5) + abs(0.70 - 1.0) + abs(0.55 - 0.0)) / 4
    assert calibration(SPACE, {"digit": probs}, TRUE).ece == pytest.approx(expected, abs=1e-6)


def test_ece_of_a_bit_takes_the_more_probable_of_its_two_values() -> None:
    """First bit: confidences .9 (bin 13) right, .8 (bin 12) wrong, .9 right, .6 (bin 9) right. Second: sure and right."""
    probs = {"bits": torch.tensor([[0.1, 1.0], [0.2, 1.0], [0.1, 0.0], [0.6, 0.0]])}
    first = (2 * abs(0.9 - 1.0) + abs(0.8 - 0.0) + abs(0.6 - 1.0)) / 4
    assert calibration(SPACE, probs, TRUE).ece == pytest.approx((first + 0.0) / 2, abs=1e-6)


def test_ece_is_the_mean_over_the_variables_of_a_ragged_group() -> None:
    group = torch.tensor([[1.0, 0.0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 1, 0, 1, 0], [0, 1, 1, 0, 0]])
    result = calibration(SPACE, {"group": group}, TRUE)  # sure of everything; wrong about both variables of row 3
    assert result.ece == pytest.approx(1 / 4) and result.brier == pytest.approx(2 / 4)


def test_probabilities_of_zero_and_one_that_are_right_are_perfect() -> None:
    probs = {name: SPACE.encode(TRUE)[0][name] for name in SPACE}
    assert calibration(SPACE, probs, TRUE) == (0.0, 0.0)


def test_draws_from_the_probabilities_themselves_are_calibrated() -> None:
    """ECE of 50,000 calibrated forecasts. In each of 15 bins the gap has variance <= n/4, so ECE <= 6 * .5 * sum sqrt(n)/N.

    By Cauchy-Schwarz sum sqrt(n) <= sqrt(15 N), which gives 3 sqrt(15 / N) = .052; a false alarm in fewer than 15 * 2e-9.
    """
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(50_000, 3, generator=generator).square().clamp(min=1e-3)
    probs /= probs.sum(dim=1, keepdim=True)
    labels = torch.multinomial(probs, 1, generator=generator).squeeze(1)
    space = Space(y=Categorical(3))
    limit = 3 * math.sqrt(15 / 50_000)
    assert calibration(space, {"y": probs}, {"y": labels}).ece < limit
    sharpened = probs.square() / probs.square().sum(dim=1, keepdim=True)
    assert calibration(space, {"y": sharpened}, {"y": labels}).ece > limit  # overconfidence is seen


def test_auroc_is_the_share_of_pairs_in_order_with_ties_counting_half() -> None:
    """Of the nine pairs five are in order, (3, 3) and twice (2, 2) are ties, and (2, 3) is out of order, twice."""
    assert auroc(torch.tensor([5.0, 3.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])) == (3 + 2.5 + 1.5) / 9
    assert auroc(torch.tensor([2.0, 2.0]), torch.tensor([2.0])) == 0.5
    assert auroc(torch.tensor([1.0, torch.inf]), torch.tensor([0.0, -torch.inf])) == 1.0
    assert auroc(torch.tensor([-1.0]), torch.tensor([0.0, 1.0])) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_auroc_agrees_with_all_pairs_and_changes_sides_with_its_arguments(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(0, 12, (num,), generator=generator).double() for num in (37, 54))  # many ties
    pairs = (a[:, None] > b).double() + (a[:, None] == b).double() / 2
    assert auroc(a, b) == pytest.approx(float(pairs.mean()), abs=1e-12)
    assert auroc(b, a) == pytest.approx(1 - auroc(a, b), abs=1e-12)
    assert auroc(a.exp(), b.exp()) == auroc(a, b)  # of ranks alone


def test_auroc_refuses_what_has_no_rank() -> None:
    one = torch.tensor([1.0])
    for sides in ((one, one[:0]), (one[:0], one), (one, one * torch.nan)):
        with pytest.raises(ValueError, match="needs scores of both, all of them numbers"):
            auroc(*sides)


MIXED = Space(x=Continuous(2), y=Categorical(3), bit=Binary())


def make_model() -> Model:
    config = ModelConfig(
        name="t",
        data="none",
        space=MIXED.config,
        energy=ConcatSpec(net=MLPSpec(hidden=(8,))),
        kernel=KernelSpec(step_size=0.1),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(config)


def test_a_model_is_evaluated_by_each_decoder_and_calibrated_by_the_last() -> None:
    model, generator = make_model(), torch.Generator().manual_seed(0)
    values = MIXED.decode(MIXED.clamp(None, num_chains=40, generator=generator)[0])
    methods: list[Literal["exact", "gibbs", "sample"]] = ["sample", "gibbs", "exact"]
    accuracies, calibrated = evaluate_model(model, values, methods=methods, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    for method in methods:
        prediction = predict(model, {"x": values["x"]}, ("y", "bit"), method=method, generator=generator)
        assert accuracies[method] == accuracy(MIXED, prediction.labels, values)
    assert calibrated == calibration(MIXED, prediction.probs, values)
    assert list(accuracies) == methods


def test_an_evaluation_names_a_decoder() -> None:
    rows = {"x": torch.zeros(1, 2), "y": torch.zeros(1), "bit": torch.zeros(1)}
    with pytest.raises(ValueError, match="names no method"):
        evaluate_model(make_model(), rows, methods=(), generator=torch.Generator())


@pytest.mark.parametrize(
    "space", [Space(y=Categorical(3), bit=Binary()), Space(x=Continuous(2))], ids=["labels", "reals"]
)
def test_a_model_of_one_kind_of_block_is_refused_with_a_way_out(space: Space) -> None:
    config = make_model().config.model_copy(update={"space": space.config})
    with pytest.raises(ValueError, match=r"needs continuous and discrete blocks, got Space.* Call `predict`"):
        evaluate_model(Model(config), {}, generator=torch.Generator())
