"""Specification of accuracy, against counts by hand."""

from typing import Literal

import pytest
import torch

from jointebm import Binary, Categorical, Continuous, Model, Space, predict
from jointebm.evaluation.accuracy import accuracy, evaluate_model
from jointebm.evaluation.calibration import calibration
from support.block_models import small_config
from support.labelled_rows import SPACE, TRUE


def test_accuracy_counts_variables_and_whole_rows() -> None:
    predicted = {
        "digit": torch.tensor([0, 1, 2, 0]),  # 3 of 4
        "bits": torch.tensor([[0, 1], [0, 1], [0, 0], [1, 1]]),  # 3 of 4, 3 of 4
        "group": torch.tensor([[0, 0], [1, 2], [1, 0], [0, 2]]),  # 4 of 4, 3 of 4
    }
    result = accuracy(SPACE, predicted, TRUE)
    assert result.per_attribute == {"digit": 0.75, "bits[0]": 0.75, "bits[1]": 0.75, "group[0]": 1.0, "group[1]": 0.75}
    assert result.mean == pytest.approx(16 / 20)
    assert result.exact_match == 1 / 4  # only row 0 is correct throughout


MIXED = Space(x=Continuous(2), y=Categorical(3), bit=Binary())


def make_model() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(small_config(MIXED))


def test_every_decoder_is_evaluated_and_the_last_one_calibrated() -> None:
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


def test_an_evaluation_without_a_decoder_is_refused() -> None:
    rows = {"x": torch.zeros(1, 2), "y": torch.zeros(1), "bit": torch.zeros(1)}
    with pytest.raises(ValueError, match="got no methods"):
        evaluate_model(make_model(), rows, methods=(), generator=torch.Generator())


@pytest.mark.parametrize(
    "space", [Space(y=Categorical(3), bit=Binary()), Space(x=Continuous(2))], ids=["labels", "reals"]
)
def test_a_model_of_one_kind_of_block_is_refused_with_a_remedy(space: Space) -> None:
    with pytest.raises(ValueError, match=r"expected continuous and discrete blocks, got Space.* Call `predict`"):
        evaluate_model(Model(small_config(space)), {}, generator=torch.Generator())
