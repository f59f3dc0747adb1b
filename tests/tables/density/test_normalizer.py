"""log Z by annealing, against enumeration."""

import math

import pytest
import torch

from jointebm.tables.density import normalizer
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import chain_at
from jointebm.tables.density.normalizer import (
    AnnealedRows,
    RowsBack,
    annealed,
    annealed_back,
    annealing_rungs,
    weighted_rows,
    weighted_rows_back,
)
from support.tiny_tables import ALL, energy, energy_with_network, enumerated, generator, rebased_energy


def far() -> TableEnergy:
    """F many nats from its reference."""
    made = energy()
    with torch.no_grad():
        made.residual.readout.mul_(2)
    return made


@pytest.mark.parametrize("is_far", [False, True])
def test_both_ends_agree_with_enumeration_as_often_as_they_should(
    is_far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 runs of 16 small groups, the way back from exact draws; all of them in one call, as groups are independent.

    Of each end and of their difference, more than 8 beyond three standard errors have a probability below 1e-4 with tails of
    a t of 15 degrees; weights of the way back are skewed, and their mean is looser.
    """
    monkeypatch.setattr(normalizer, "GROUP", 32)
    made = far() if is_far else energy()
    f = enumerated(made)
    truth, rungs = float(f.logsumexp(dim=0)), annealing_rungs(made, generator=generator())
    assert (len(rungs) > 2) == is_far
    exact = ALL[torch.multinomial(f.softmax(dim=0), 200 * 512, replacement=True, generator=generator(1))]
    forth = annealed(made, rungs, num_groups=200 * 16, generator=generator(2)).log_weights
    back = annealed_back(made, rungs, exact, generator=generator(3)).log_weights
    errors = []
    for one, other in zip(forth.split(512), back.split(512), strict=True):
        lower, upper = AnnealedRows(ALL, one, rungs), RowsBack(other)
        apart = upper.log_normalizer - lower.log_normalizer
        errors.append(
            [
                (lower.log_normalizer - truth) / lower.standard_error,
                (upper.log_normalizer - truth) / upper.standard_error,
                apart / math.hypot(lower.standard_error, upper.standard_error),
            ]
        )
    off = torch.tensor(errors)
    assert off.shape == (200, 3) and ((off.abs() > 3).sum(dim=0) <= 8).all()
    assert ((off.std(dim=0) > 0.7) & (off.std(dim=0) < 1.4)).all() and (off.mean(dim=0).abs() < 0.7).all()
    assert off[:, 0].mean().abs() < 0.4 and off[:, 1].mean() > -3 / 200**0.5  # a bracket, in expectation


def test_weighted_rows_are_those_of_the_density() -> None:
    """2,048 * 20 draws: each probability within 5.5 standard errors, groups apart (fixed seeds)."""
    made = far()
    rungs = annealing_rungs(made, generator=generator())
    shares = []
    drawn = annealed(made, rungs, num_groups=20 * 16, generator=generator())
    for codes, log_weights in zip(drawn.codes.split(2048), drawn.log_weights.split(2048), strict=True):
        weights = log_weights.softmax(dim=0)
        shares.append(((codes[:, None] == ALL).all(dim=2) * weights[:, None]).sum(dim=0))
    stacked = torch.stack(shares)
    probs = enumerated(made).softmax(dim=0)
    assert ((stacked.mean(dim=0) - probs).abs() < 5.5 * stacked.std(dim=0) / math.sqrt(20) + 1e-3).all()


def test_near_the_reference_one_rung_is_enough_and_equal_densities_have_no_error() -> None:
    made = energy()
    with torch.no_grad():
        made.residual.readout.zero_()
    assert annealing_rungs(made, generator=generator()) == (1.0,)
    rows = annealed(made, (1.0,), num_groups=2, generator=generator())
    back = annealed_back(made, (1.0,), ALL[:1].expand(256, -1), num_moves=1, generator=generator())
    for each in (rows, back):
        assert each.log_normalizer == pytest.approx(0, abs=1e-12) and each.standard_error == pytest.approx(0, abs=1e-12)
    assert rows.share == pytest.approx(1)


def test_a_network_of_zeros_over_another_base_is_no_reference() -> None:
    """F = log b: the way back to q has weights, although the network says nothing; within 5 standard errors of Z = 1."""
    made = rebased_energy()
    with torch.no_grad():
        made.residual.net.readout.zero_()  # type: ignore[union-attr]
        made.residual.net.tables.zero_()  # type: ignore[union-attr]
    exact = ALL[torch.multinomial(enumerated(made).exp(), 2048, replacement=True, generator=generator(1))]
    back = annealed_back(made, (1.0,), exact, generator=generator())
    assert back.log_weights.std() > 0.1 and abs(back.log_normalizer) < 5 * back.standard_error < 1


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


def test_rows_that_move_under_the_density_before_they_go_are_draws_of_it() -> None:
    """From one corner, where no moves would be 2 nats off; five standard errors."""
    made = far()
    truth, rungs = float(enumerated(made).logsumexp(dim=0)), annealing_rungs(made, generator=generator())
    corner = ALL[int(enumerated(made).argmin())].expand(2048, -1)
    moved = annealed_back(made, rungs, corner, num_moves=20, generator=generator())
    stuck = annealed_back(made, rungs, corner, generator=generator())
    assert abs(moved.log_normalizer - truth) < 5 * moved.standard_error < 0.5
    assert abs(stuck.log_normalizer - truth) > 1


@pytest.fixture
def any_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of the proposal are even enough, however uneven."""
    monkeypatch.setattr(normalizer, "SHARE_OF_DRAWS", 0.0)


@pytest.mark.usefixtures("any_draws")
def test_draws_of_the_proposal_take_the_place_of_annealing() -> None:
    """log Z by 64 groups of draws, within 5 standard errors: false alarm below 1e-5 (fixed seed)."""
    made = energy_with_network()
    exact = float(enumerated(made).logsumexp(dim=0))
    rows = weighted_rows(made, num_groups=64, generator=generator())
    assert rows.by_proposal and len(rows.codes) == 64 * 128
    assert abs(rows.log_normalizer - exact) < 5 * rows.standard_error < 0.4
    drawn = (rows.codes[:, None] == ALL).all(dim=2).int().argmax(dim=1)
    assert made.network is not None
    weights = (enumerated(made) - made.network.log_prob(ALL)).double()  # of each configuration
    assert (rows.log_weights - weights[drawn]).abs().max() < 1e-12


def test_uneven_draws_of_a_proposal_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalizer, "SHARE_OF_DRAWS", 2.0)
    rows = weighted_rows(energy_with_network(), num_groups=2, generator=generator())
    assert not rows.by_proposal and rows.rungs[-1] == 1.0 and len(rows.codes) == 2 * 128
    rows = weighted_rows(energy_with_network(), num_groups=2, num_annealed=3, generator=generator())
    assert not rows.by_proposal and len(rows.codes) == 3 * 128


@pytest.mark.parametrize(("in_vain", "expected"), [(0.0, 6), (1.0, 4)])
def test_the_first_groups_tell_that_more_draws_are_in_vain(
    in_vain: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws of which no share would be enough; four groups tell, or all six are drawn. Annealed rows choose their rungs."""
    monkeypatch.setattr(normalizer, "SHARE_OF_DRAWS", 2.0)
    monkeypatch.setattr(normalizer, "SHARE_IN_VAIN", in_vain)
    monkeypatch.setattr(normalizer, "_moved", lambda energy, codes, _: chain_at(energy, codes))
    counts, draw = [], normalizer.drawn_rows
    monkeypatch.setattr(
        normalizer, "drawn_rows", lambda *each, **named: counts.append(named["num_groups"]) or draw(*each, **named)
    )
    rows = weighted_rows(energy_with_network(), num_groups=6, num_annealed=1, has_pilot=False, generator=generator())
    assert sum(counts) == expected and not rows.by_proposal and len(rows.codes) == 128


@pytest.mark.usefixtures("any_draws")
def test_draws_that_were_made_before_are_weighted_as_new_ones() -> None:
    made = energy_with_network()
    assert made.network is not None
    drawn = normalizer.drawn_rows(made.network, num_groups=6, generator=generator())
    again = weighted_rows(made, num_groups=6, generator=generator(), drawn=drawn)
    new = weighted_rows(made, num_groups=6, generator=generator())
    assert again.codes.equal(drawn.codes) and again.codes.equal(new.codes) and again.log_weights.equal(new.log_weights)


@pytest.mark.usefixtures("any_draws")
def test_as_many_draws_are_annealed_as_are_asked_for_and_no_more_of_the_proposal() -> None:
    rows = weighted_rows(energy_with_network(), num_groups=2, num_annealed=3, generator=generator())
    assert rows.by_proposal and len(rows.codes) == 2 * 128


@pytest.mark.usefixtures("any_draws")
def test_rows_go_back_to_the_proposal_that_drew_the_others() -> None:
    """Draws of exp F, weighted by log r - F, give 1 / Z; the planted bug weighs them against q."""
    made = energy_with_network()
    rows = weighted_rows(made, num_groups=2, generator=generator())
    f = enumerated(made)
    drawn = torch.multinomial(f.softmax(dim=0), 64 * 128, replacement=True, generator=generator(1))
    back = weighted_rows_back(made, rows, ALL[drawn], num_moves=0, generator=generator(2))
    exact = float(f.logsumexp(dim=0))
    assert abs(back.log_normalizer - exact) < 5 * back.standard_error < 0.4
    against_q = RowsBack((made.reference(ALL[drawn]) - f[drawn]).double())
    assert made.network is not None
    assert (back.log_weights - (made.network.log_prob(ALL) - f)[drawn]).abs().max() < 1e-12
    assert (back.log_weights - against_q.log_weights).abs().max() > 0.1
    moved = weighted_rows_back(
        made, rows, ALL[drawn].masked_fill(ALL[drawn] == 1, -1), num_moves=5, generator=generator(3)
    )
    assert abs(moved.log_normalizer - exact) < 0.3
