"""Averages over weighted draws, against sums and jackknives written as loops."""

import math

import torch
from torch import Tensor

from jointebm.sampling.weighted_draws import effective_size, log_mean_weights, weighted_averages

LOG_WEIGHTS = 2 * torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OF_DRAWS = torch.rand(3, 7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def jackknife(left_out: list[Tensor]) -> Tensor:
    """Standard error from the estimates without each draw."""
    each = torch.stack(left_out)
    return ((len(each) - 1) / len(each) * (each - each.mean(dim=0)).square().sum(dim=0)).sqrt()


def test_the_effective_size_is_that_of_the_weights() -> None:
    weights = LOG_WEIGHTS.exp()
    expected = weights.sum(dim=1).square() / weights.square().sum(dim=1)
    assert (effective_size(LOG_WEIGHTS) - expected).abs().max() < 1e-12
    assert effective_size(LOG_WEIGHTS + 800).isfinite().all()


def test_the_log_of_the_mean_weight_has_the_error_of_leaving_draws_out() -> None:
    for row in LOG_WEIGHTS:
        found = log_mean_weights(row)
        expected = jackknife([row[torch.arange(7) != draw].exp().mean().log() for draw in range(7)])
        assert abs(found.value - row.exp().mean().log()) < 1e-12
        assert abs(found.standard_error - expected) < 1e-12
    assert torch.equal(
        log_mean_weights(LOG_WEIGHTS).standard_error, torch.stack([log_mean_weights(row)[1] for row in LOG_WEIGHTS])
    )


def test_averages_have_the_error_of_leaving_draws_out() -> None:
    found = weighted_averages(LOG_WEIGHTS, OF_DRAWS)
    for row in range(3):
        weights = LOG_WEIGHTS[row].exp()
        kept = [torch.arange(7) != draw for draw in range(7)]
        left_out = [weights[keep] @ OF_DRAWS[row, keep] / weights[keep].sum() for keep in kept]
        assert (found.value[row] - weights @ OF_DRAWS[row] / weights.sum()).abs().max() < 1e-12
        assert (found.standard_error[row] - jackknife(left_out)).abs().max() < 1e-12


def test_one_draw_with_all_weight_leaves_the_error_unknown() -> None:
    log_weights = torch.tensor([[0.0, -800.0, -900.0]])
    assert log_mean_weights(log_weights).standard_error.tolist() == [math.inf]
    assert weighted_averages(log_weights, torch.rand(1, 3, 2)).standard_error.tolist() == [[math.inf, math.inf]]
    assert weighted_averages(torch.zeros(1, 1), torch.ones(1, 1, 1)).standard_error.tolist() == [[math.inf]]


def test_no_rows_have_no_averages() -> None:
    assert weighted_averages(torch.empty(0, 5), torch.empty(0, 5, 2)).value.shape == (0, 2)
