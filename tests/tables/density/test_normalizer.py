"""log Z by annealing, against enumeration."""

import math

import pytest
import torch

from jointebm.tables.density import normalizer
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.normalizer import annealed, annealing_rungs
from support.tiny_tables import ALL, energy, enumerated, generator


def far() -> TableEnergy:
    """F many nats from its reference."""
    made = energy()
    with torch.no_grad():
        made.residual.readout.mul_(3)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("is_far", [False, True])
def test_log_z_is_within_three_of_its_standard_errors_as_often_as_it_should_be(is_far: bool) -> None:
    """200 seeds; more than 8 beyond three standard errors have a probability below 1e-4 with tails of a t of 15 degrees."""
    made = far() if is_far else energy()
    truth = float(enumerated(made).logsumexp(dim=0))
    rungs = annealing_rungs(made, generator=generator())
    assert (len(rungs) > 2) == is_far
    errors = []
    for seed in range(200):
        found = annealed(made, rungs, num_groups=16, generator=generator(seed))
        errors.append((found.log_normalizer - truth) / found.standard_error)
    off = torch.tensor(errors)
    assert (off.abs() > 3).sum() <= 8
    assert 0.7 < off.std() < 1.4 and off.mean().abs() < 0.4


def test_weighted_rows_are_those_of_the_density() -> None:
    """2,048 * 20 draws: each probability within 5.5 standard errors, groups apart (fixed seeds)."""
    made = far()
    rungs = annealing_rungs(made, generator=generator())
    shares = []
    for seed in range(20):
        rows = annealed(made, rungs, num_groups=16, generator=generator(seed))
        weights = rows.log_weights.softmax(dim=0)
        shares.append(((rows.codes[:, None] == ALL).all(dim=2) * weights[:, None]).sum(dim=0))
    stacked = torch.stack(shares)
    probs = enumerated(made).softmax(dim=0)
    assert ((stacked.mean(dim=0) - probs).abs() < 5.5 * stacked.std(dim=0) / math.sqrt(20) + 1e-3).all()


def test_near_the_reference_one_rung_is_enough_and_equal_densities_have_no_error() -> None:
    made = energy()
    with torch.no_grad():
        made.residual.readout.zero_()
    assert annealing_rungs(made, generator=generator()) == (1.0,)
    rows = annealed(made, (1.0,), num_groups=2, generator=generator())
    assert rows.log_normalizer == pytest.approx(0, abs=1e-12) and rows.standard_error == pytest.approx(0, abs=1e-12)
    assert rows.share == pytest.approx(1)


def test_resampling_that_forgets_the_mean_weight_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: weights are one after resampling."""
    made = far()
    rungs, right = annealing_rungs(made, generator=generator()), normalizer.resampled

    def forgets(weights: torch.Tensor, source: torch.Generator) -> object:
        found = right(weights, source, min_share=2.0)
        return found._replace(log_weights=torch.zeros_like(weights))

    monkeypatch.setattr(normalizer, "resampled", forgets)
    found = annealed(made, rungs, num_groups=16, generator=generator())
    assert abs(found.log_normalizer - float(enumerated(made).logsumexp(dim=0))) > 10 * found.standard_error
