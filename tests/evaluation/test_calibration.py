"""Specification of ECE and Brier score, against sums by hand and calibrated draws."""

import pytest
import torch

from jointebm.evaluation.calibration import calibration
from support.labelled_rows import SPACE, TRUE


def test_brier_is_the_squared_error_of_all_classes() -> None:
    probs = {
        "digit": torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]),
        "bits": torch.tensor([[0.2, 0.9], [0.8, 1.0], [0.0, 0.5], [1.0, 0.4]]),
    }
    digit = (0.09 + 0.04 + 0.01 + 0.01 + 0.16 + 0.09 + 0.25 + 0.25 + 1.0 + 0.0) / 4
    first = 2 * (0.04 + 0.04 + 0.0 + 0.0) / 4  # a bit has two classes, equally wrong
    second = 2 * (0.01 + 0.0 + 0.25 + 0.16) / 4
    assert calibration(SPACE, probs, TRUE).brier == pytest.approx((digit + first + second) / 3, abs=1e-7)


def test_ece_is_the_gap_of_confidence_and_accuracy_in_fifteen_bins() -> None:
    """Confidences .95, .95 (bin 14), .70 (bin 10), .55 (bin 8); right, wrong, right, wrong."""
    probs = torch.tensor([[0.95, 0.05, 0.0], [0.95, 0.05, 0.0], [0.1, 0.2, 0.7], [0.55, 0.45, 0.0]])
    expected = (2 * abs(0.95 - 0.5) + abs(0.70 - 1.0) + abs(0.55 - 0.0)) / 4
    assert calibration(SPACE, {"digit": probs}, TRUE).ece == pytest.approx(expected, abs=1e-6)


def test_ece_of_a_bit_takes_the_more_probable_of_its_two_values() -> None:
    """First bit: confidences .9 (bin 13) right, .8 (bin 12) wrong, .9 right, .6 (bin 9) right. Second: certain and right."""
    probs = {"bits": torch.tensor([[0.1, 1.0], [0.2, 1.0], [0.1, 0.0], [0.6, 0.0]])}
    first = (2 * abs(0.9 - 1.0) + abs(0.8 - 0.0) + abs(0.6 - 1.0)) / 4
    assert calibration(SPACE, probs, TRUE).ece == pytest.approx((first + 0.0) / 2, abs=1e-6)


def test_ece_is_the_mean_over_the_variables_of_a_ragged_group() -> None:
    group = torch.tensor([[1.0, 0.0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 1, 0, 1, 0], [0, 1, 1, 0, 0]])
    result = calibration(SPACE, {"group": group}, TRUE)  # certain of everything; wrong about both variables of row 3
    assert result.ece == pytest.approx(1 / 4) and result.brier == pytest.approx(2 / 4)


def test_certain_and_correct_probabilities_are_perfect() -> None:
    probs = {name: SPACE.encode(TRUE)[0][name] for name in SPACE}
    assert calibration(SPACE, probs, TRUE) == (0.0, 0.0)
