"""Weights of components, against their exact errors, and the findings that they give."""

import math

import pytest
import torch

from jointebm.sampling.component_weights import ComponentWeight, component_weights


def test_errors_are_those_of_independent_draws_and_alarms_are_rare() -> None:
    """400 runs of the same three groups: errors agree with the spread over runs, and no finding (rate 400 * 3 * 6e-5)."""
    generator, share = torch.Generator().manual_seed(0), torch.tensor([0.7, 0.28, 0.02])
    apart, errors = [], []
    for _ in range(400):
        model, data = (
            torch.eye(3)[torch.multinomial(share, num, replacement=True, generator=generator)] for num in (500, 2000)
        )
        found = component_weights(model, torch.zeros(500), data)
        assert all(each.finding is None for each in found)
        apart.append([each.model - each.data for each in found])
        errors.append([each.standard_error for each in found])
    ratio = torch.tensor(apart).std(dim=0) / torch.tensor(errors).mean(dim=0)
    assert bool(((ratio > 0.85) & (ratio < 1.15)).all())


def test_weights_of_draws_count_and_groups_that_disagree_widen_the_error() -> None:
    of_model = torch.eye(2).repeat(8, 1)  # 16 draws
    weighted = component_weights(of_model, torch.tensor([0.0, math.log(3)]).repeat(8), torch.eye(2))
    assert [each.model for each in weighted] == pytest.approx([0.25, 0.75])
    sorted_draws = torch.eye(2).repeat_interleave(8, dim=0)  # the first group holds the first component alone
    alike, unlike = (
        component_weights(each, torch.zeros(16), torch.eye(2).repeat(5000, 1), num_groups=2)[0]
        for each in (of_model, sorted_draws)
    )
    assert alike.standard_error < 0.2 and unlike.standard_error == pytest.approx(0.5, abs=0.01)
    one = component_weights(of_model, torch.tensor([900.0] + [0.0] * 15), torch.eye(2))[0]
    assert one.standard_error == math.inf and one.finding is None


@pytest.mark.parametrize(
    ("model", "data", "error", "match"),
    [
        (0.03, 0.01, 0.004, "spurious mode"),
        (0.03, 0.01, 0.006, None),  # not clear
        (0.019, 0.01, 0.001, None),  # not twice as much
        (0.009, 0.0001, 0.0001, None),  # too small to matter
        (0.36, 0.3, 0.01, "spurious mode"),
        (0.34, 0.3, 0.001, None),
        (0.01, 0.04, 0.005, "lacks"),
        (0.03, 0.04, 0.001, None),
    ],
)
def test_a_finding_is_clear_and_large(model: float, data: float, error: float, match: str | None) -> None:
    found = ComponentWeight(model, data, error).finding
    assert found is None if match is None else match in (found or "")
