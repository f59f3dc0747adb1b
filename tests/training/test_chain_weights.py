"""Specification of `jointebm.training.chain_weights`: exact where the sums are finite."""

import math

import pytest
import torch

from jointebm.training.chain_weights import effective_share, log_mean_exp, resampled

WEIGHTS = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)


class Uniform:
    """A stream whose uniforms are given."""

    def __init__(self, value: float) -> None:
        self.value = value

    def uniform(self, like: torch.Tensor) -> torch.Tensor:
        return torch.full_like(like, self.value)


def test_equal_weights_have_the_share_one_and_a_single_weight_one_chain() -> None:
    assert float(effective_share(torch.full((7,), 3.0))) == pytest.approx(1.0, abs=1e-6)
    alone = torch.tensor([0.0, -torch.inf, -torch.inf, -torch.inf])
    assert float(effective_share(alone)) == pytest.approx(0.25, abs=1e-7)


def test_the_share_does_not_depend_on_a_common_factor() -> None:
    for shift in (-800.0, 0.0, 800.0):
        share = effective_share(WEIGHTS.log() + shift)
        assert float(share) == pytest.approx(1 / float(WEIGHTS.square().sum()) / 4, abs=1e-12)


def test_each_chain_is_kept_in_proportion_to_its_weight_on_average() -> None:
    """Exactly, by the average over a fine grid of the one uniform; and never more than one off in a single draw."""
    counts = torch.zeros(4, dtype=torch.float64)
    grid = (torch.arange(1000) + 0.5) / 1000
    for value in grid.tolist():
        origins = resampled(WEIGHTS.log(), Uniform(value), min_share=1.0).origins
        drawn = torch.bincount(origins, minlength=4).double()
        assert bool(((drawn - 4 * WEIGHTS).abs() < 1).all())
        counts += drawn / len(grid)
    assert torch.allclose(counts, 4 * WEIGHTS, atol=2e-3)


def test_resampling_keeps_the_mean_weight() -> None:
    after = resampled(WEIGHTS.log() + 5, torch.Generator().manual_seed(0), min_share=1.0)
    assert torch.allclose(after.log_weights, log_mean_exp(WEIGHTS.log() + 5).expand(4))
    assert float(log_mean_exp(after.log_weights)) == pytest.approx(math.log(float(WEIGHTS.mean())) + 5, abs=1e-12)


def test_a_good_batch_is_left_alone_and_draws_the_same_numbers() -> None:
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    left = resampled(WEIGHTS.log(), generators[0], min_share=0.1)
    assert left.origins.tolist() == [0, 1, 2, 3] and torch.equal(left.log_weights, WEIGHTS.log())
    resampled(WEIGHTS.log(), generators[1], min_share=1.0)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
