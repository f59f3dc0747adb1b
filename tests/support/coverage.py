"""Whether standard errors cover the truth: z-scores of independent estimates."""

import pytest
import torch
from torch import Tensor

from jointebm.randomness.row_streams import RowStream
from jointebm.tables.answers import shared_draws

NUM_SEEDS = 200


def require_coverage(estimates: Tensor, standard_errors: Tensor, truth: float) -> None:
    """Asserts that 200 independent estimates of one number are as far from the truth as their errors say.

    Normal z-scores lie beyond 2 with probability .0455: more than 22 of 200 have a probability of 7e-5, and so fail a right
    estimator that rarely. A mean square outside .65 and 1.5 (3.5 and 5 standard deviations) has 3e-4. Errors that are too
    small or too large by a third are found with a probability above .95.
    """
    z = (estimates.double() - truth) / standard_errors.double()
    assert z.shape == (NUM_SEEDS,) and bool(z.isfinite().all())
    assert int((z.abs() > 2).sum()) <= 22
    assert 0.65 < float(z.square().mean()) < 1.5


def expect_no_coverage(estimates: Tensor, standard_errors: Tensor, truth: float, *, factor: float) -> None:
    """Asserts that `require_coverage` fails for errors off by a factor."""
    try:
        require_coverage(estimates, factor * standard_errors, truth)
    except AssertionError:
        return
    raise AssertionError(f"errors off by {factor} pass")


def few_draws_differ(estimates: Tensor) -> bool:
    """Whether estimates are random at all."""
    return len(torch.unique(estimates)) > NUM_SEEDS // 2


def draw_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the draws of answers off their lattice, on which errors are smaller than they say."""

    def independent(stream: RowStream, _: Tensor, __: Tensor, like: Tensor) -> Tensor:
        return stream.uniform(like)

    monkeypatch.setattr(shared_draws, "_uniforms", independent)
