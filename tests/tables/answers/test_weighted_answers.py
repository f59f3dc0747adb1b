"""Averages over weighted draws agree with enumeration, state their errors, and cost what is said."""

from collections.abc import Callable

import pytest
import torch

from jointebm.randomness.row_streams import RowStream
from jointebm.tables.answers import weighted_answers
from jointebm.tables.answers.weighted_answers import WeightedAnswers
from jointebm.tables.density.energy import TableEnergy
from support.coverage import NUM_SEEDS, few_draws_differ
from support.tiny_tables import ALL, CLASSES, energy, energy_with_network, enumerated, matches

PROPOSALS = pytest.mark.parametrize("make", [energy, energy_with_network])
NOTHING = torch.full((1, 3), -1)
EVIDENCE = [torch.tensor([0.4, -0.4]), torch.tensor([0.0, -torch.inf, 1.0]), None]
ONE = torch.tensor([1])  # round of draws


def exact(codes: torch.Tensor, evidence: list[torch.Tensor | None] | None) -> torch.Tensor:
    """log of the summand of each configuration, shape (24,)."""
    f = torch.where(matches(codes)[0], enumerated(energy(dtype=torch.float64)), -torch.inf)
    for column, each in enumerate(evidence or []):
        if each is not None and int(codes[0, column]) < 0:
            f = f + each[ALL[:, column]]
    return f


@PROPOSALS
@pytest.mark.parametrize("evidence", [None, EVIDENCE])
def test_many_draws_come_to_the_sums(
    make: Callable[..., TableEnergy], evidence: list[torch.Tensor | None] | None
) -> None:
    """Within 5.5 standard errors, which are small: false alarm below 1e-6 for each number (fixed seed)."""
    asked = WeightedAnswers(make(dtype=torch.float64), 4000, 0, evidence)
    score = asked.log_prob(NOTHING, ONE)
    assert float(score.standard_error) < 0.15
    assert (score.value - exact(NOTHING, evidence).logsumexp(dim=0)).abs() < 5.5 * score.standard_error
    probs = exact(NOTHING, evidence).softmax(dim=0)
    truth = torch.stack([probs[ALL[:, 2] == code].sum() for code in range(4)])
    found = asked.predictive(NOTHING, 2, ONE, None)
    assert found.standard_error.max() < 0.03
    assert ((found.value.exp()[0] - truth).abs() < 5.5 * found.standard_error[0]).all()


@pytest.mark.slow
def test_errors_cover_where_few_conditionals_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three conditionals of up to 8 different ones, over 200 seeds; false alarm of each class below 2e-3 (fixed seeds).

    A systematic choice has a smaller error than the independent one whose error is stated, so mean squares may be below 1.
    """
    monkeypatch.setattr(weighted_answers, "CLASSES_PER_DRAW", 0)
    monkeypatch.setattr(weighted_answers, "MIN_CONDITIONALS", 3)
    made = energy(dtype=torch.float64)
    answers = [WeightedAnswers(made, 400, seed).predictive(NOTHING, 1, ONE, None) for seed in range(NUM_SEEDS)]
    probs, errors = torch.cat([each.value.exp() for each in answers]), torch.cat([a.standard_error for a in answers])
    truth = exact(NOTHING, None).softmax(dim=0)
    for code in range(CLASSES[1]):
        assert few_draws_differ(probs[:, code])
        z = (probs[:, code] - float(truth[ALL[:, 1] == code].sum())) / errors[:, code]
        assert int((z.abs() > 2).sum()) <= 22 and 0.2 < float(z.square().mean()) < 1.3


def test_resampling_keeps_heavy_entries_and_is_unbiased() -> None:
    """4,000 choices of 4 entries of 6; means within 5 standard errors: false alarm below 4e-6 (fixed seed)."""
    shares = torch.tensor([[0.5, 0.2, 0.1, 0.1, 0.06, 0.04]]).double().repeat(4000, 1)
    starts, num = RowStream(torch.arange(4000), 0).uniform(shares[:, :1]), torch.full((4000,), 4)
    kept, weights, chance = weighted_answers._resampled(shares, num, starts)
    assert bool(kept[:, :2].all()) and (kept.sum(dim=1) - 4).abs().max() <= 1
    found = (weights * kept).mean(dim=0)
    spread = (weights * kept).std(dim=0) / 4000**0.5
    assert ((found - shares[0]).abs() <= 5 * spread + 1e-12).all()
    assert (kept.double().mean(dim=0) - chance[0]).abs().max() < 0.05
    others = torch.tensor([4, 6, 2, 4])
    mixed = weighted_answers._resampled(shares[:4], others, starts[:4])
    assert torch.equal(mixed[0][[0, 3]], kept[[0, 3]]) and torch.equal(mixed[1][[0, 3]], weights[[0, 3]])
    assert (
        mixed[0].sum(dim=1).tolist()[1] == 6 and torch.equal(mixed[1][1], shares[0]) and bool((mixed[2][1] == 1).all())
    )
    assert abs(int(mixed[0][2].sum()) - 2) <= 1


@torch.no_grad()
def test_classes_that_are_hardly_proposed_keep_the_proposed_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """All others have the ratios of the exact conditional, and F is not evaluated anywhere else."""
    monkeypatch.setattr(weighted_answers, "NEGLIGIBLE", 0.1)
    made, evaluated = energy(dtype=torch.float64), []
    forward = TableEnergy.forward

    def counted(self: TableEnergy, codes: torch.Tensor) -> torch.Tensor:
        evaluated.append(int((codes.sum(dim=1) > 0).sum()))
        return forward(self, codes)

    codes, proposed = torch.tensor([[1, 2, 0], [1, 1, 3]]), torch.tensor([[0.05, 0.5, 0.4, 0.05], [0.7, 0.1, 0.1, 0.1]])
    exact_probs = made.of_classes(codes, 2).softmax(dim=1)
    monkeypatch.setattr(TableEnergy, "forward", counted)
    found = WeightedAnswers(made, 10, 0)._conditionals(codes, 2, proposed.double())
    assert sum(evaluated) == 2 + 4
    assert found[0, [0, 3]] == pytest.approx([0.05, 0.05]) and found.sum(dim=1) == pytest.approx([1.0, 1.0])
    assert float(found[0, 1] / found[0, 2]) == pytest.approx(float(exact_probs[0, 1] / exact_probs[0, 2]))
    assert found[1] == pytest.approx(exact_probs[1])


@pytest.mark.parametrize("column", [None, 2])
def test_rows_get_more_draws_until_they_are_good_and_no_more_than_16_times(
    column: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, numbers = energy(dtype=torch.float64), []
    drawn = WeightedAnswers._drawn

    def counted(self: WeightedAnswers, codes: torch.Tensor, num: int, number: int, last: int | None) -> object:
        numbers.append((len(codes), num))
        return drawn(self, codes, num, number, last)

    monkeypatch.setattr(WeightedAnswers, "_drawn", counted)
    rows = torch.tensor([[-1, -1, -1], [1, -1, -1], [1, -1, -1]])

    def ask(num_rounds: int) -> None:
        numbers.clear()
        asked = WeightedAnswers(made, 20, 0)
        if column is None:
            asked.log_prob(rows, torch.full((3,), num_rounds))
        else:
            asked.predictive(rows, column, torch.full((3,), num_rounds), None)

    for name in ("SCORE_ERROR", "DISTANCE"):
        monkeypatch.setattr(weighted_answers, name, 0.0)
    ask(10)
    assert numbers == [(2, 20), (2, 60), (2, 240)]  # equal rows are asked about once
    ask(2)
    assert numbers == [(2, 20), (2, 60)]
    for name in ("SCORE_ERROR", "DISTANCE"):
        monkeypatch.setattr(weighted_answers, name, 10.0)
    ask(10)
    assert numbers == [(2, 20)]
    if column is not None:  # an error that few effective draws state is not known
        monkeypatch.setattr(weighted_answers, "effective_size", lambda weights: weights.new_ones(len(weights)))
        ask(10)
        assert numbers == [(2, 20), (2, 60), (2, 240), (2, 960)]
