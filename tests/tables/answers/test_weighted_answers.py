"""Averages over weighted draws agree with enumeration, state their errors, and cost what is said."""

from collections.abc import Callable

import pytest
import torch

from jointebm.randomness.row_streams import RowStream
from jointebm.tables.answers import chosen_draws, weighted_answers
from jointebm.tables.answers.weighted_answers import WeightedAnswers
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.rough_energy import KnownRows, RoughEnergy
from support.coverage import NUM_SEEDS, draw_independently, few_draws_differ
from support.tiny_tables import ALL, CLASSES, energy, energy_with_network, enumerated, matches

PROPOSALS = pytest.mark.parametrize("make", [energy, energy_with_network])
NOTHING = torch.full((1, 3), -1)
EVIDENCE = [torch.tensor([0.4, -0.4]), torch.tensor([0.0, -torch.inf, 1.0]), None]
ONE = torch.tensor([1])  # round of draws


def make_rough(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """Puts rough F away from F, by an amount for each row of the table."""
    log_density = RoughEnergy.log_density
    noise = size * torch.randn(CLASSES, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    def noisy(self: RoughEnergy, codes: torch.Tensor, known: KnownRows | None = None) -> torch.Tensor:
        return log_density(self, codes, known) + noise[codes[:, 0], codes[:, 1], codes[:, 2]]

    monkeypatch.setattr(RoughEnergy, "log_density", noisy)


def exact(codes: torch.Tensor, evidence: list[torch.Tensor | None] | None) -> torch.Tensor:
    """log of the summand of each configuration, shape (24,)."""
    f = torch.where(matches(codes)[0], enumerated(energy(dtype=torch.float64)), -torch.inf)
    for column, each in enumerate(evidence or []):
        if each is not None and int(codes[0, column]) < 0:
            f = f + each[ALL[:, column]]
    return f


@PROPOSALS
@pytest.mark.parametrize("roughness", [0.0, 0.7])
@pytest.mark.parametrize("evidence", [None, EVIDENCE])
def test_many_draws_come_to_the_sums(
    make: Callable[..., TableEnergy],
    evidence: list[torch.Tensor | None] | None,
    roughness: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of F, wherever rough F is, if F corrects it often: within 5.5 standard errors, which are small.

    False alarm below 1e-6 for each number (fixed seed).
    """
    make_rough(monkeypatch, roughness)
    for name in ("EXACT_DRAWS", "EXACT_CLASSES"):
        monkeypatch.setattr(weighted_answers, name, 4000)
    asked = WeightedAnswers(make(dtype=torch.float64), 4000, 0, evidence)
    score = asked.log_prob(NOTHING, ONE)
    assert float(score.standard_error) < (0.25 if roughness else 0.15)
    assert (score.value - exact(NOTHING, evidence).logsumexp(dim=0)).abs() < 5.5 * score.standard_error
    probs = exact(NOTHING, evidence).softmax(dim=0)
    truth = torch.stack([probs[ALL[:, 2] == code].sum() for code in range(4)])
    found = asked.predictive(NOTHING, 2, ONE, None)
    assert found.standard_error.max() < (0.06 if roughness else 0.03)
    assert ((found.value.exp()[0] - truth).abs() < 5.5 * found.standard_error[0]).all()


@pytest.mark.slow
@pytest.mark.parametrize("is_even", [True, False])
@pytest.mark.parametrize("roughness", [0.0, 0.1])
def test_errors_cover_where_few_conditionals_are_exact(
    roughness: float, is_even: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three conditionals of up to 8 different ones, over 200 seeds; false alarm of each class below 2e-3 (fixed seeds).

    F corrects two of them. A systematic choice has a smaller error than the independent one whose error is stated, so mean
    squares may be below 1, and that of draws on a lattice further below.
    """
    make_rough(monkeypatch, roughness)
    if not is_even:
        draw_independently(monkeypatch)
    monkeypatch.setattr(weighted_answers, "LEAST_CLASSES", 0)
    monkeypatch.setattr(weighted_answers, "EXACT_CLASSES", 0)
    monkeypatch.setattr(weighted_answers, "MIN_CONDITIONALS", 3)
    made = energy(dtype=torch.float64)
    answers = [WeightedAnswers(made, 400, seed).predictive(NOTHING, 1, ONE, None) for seed in range(NUM_SEEDS)]
    probs, errors = torch.cat([each.value.exp() for each in answers]), torch.cat([a.standard_error for a in answers])
    truth = exact(NOTHING, None).softmax(dim=0)
    for code in range(CLASSES[1]):
        assert few_draws_differ(probs[:, code])
        z = (probs[:, code] - float(truth[ALL[:, 1] == code].sum())) / errors[:, code]
        assert int((z.abs() > 2).sum()) <= 22 and (0.1 if is_even else 0.2) < float(z.square().mean()) < 1.3


@pytest.mark.slow
@pytest.mark.parametrize("is_even", [True, False])
@pytest.mark.parametrize("roughness", [0.0, 0.3])
def test_errors_of_scores_cover(roughness: float, is_even: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 200 seeds; false alarm below 2e-3 (fixed seeds). On a lattice of 24 rows the error is next to none."""
    make_rough(monkeypatch, roughness)
    if not is_even:
        draw_independently(monkeypatch)
    made = energy(dtype=torch.float64)
    answers = [WeightedAnswers(made, 200, seed).log_prob(NOTHING, ONE) for seed in range(NUM_SEEDS)]
    values, errors = torch.cat([each.value for each in answers]), torch.cat([a.standard_error for a in answers])
    truth = float(exact(NOTHING, None).logsumexp(dim=0))
    assert few_draws_differ(values)
    z = (values - truth) / errors
    assert int((z.abs() > 2).sum()) <= 22 and (0.0 if is_even else 0.5) < float(z.square().mean()) < 1.5


def test_the_design_effect_is_that_of_neighbours() -> None:
    """1 of independent entries, and next to 0 of a trend; the mean of 4,000 is within .1: false alarm below 1e-5."""
    generator = torch.Generator().manual_seed(0)
    independent = torch.randn(1, 4000, 1, generator=generator, dtype=torch.float64)
    assert float(chosen_draws.squares_of_neighbours(independent) / 4000) == pytest.approx(1.0, abs=0.1)
    trend = torch.linspace(-1, 1, 400, dtype=torch.float64)[None, :, None]
    assert float(chosen_draws.squares_of_neighbours(trend) / trend.square().sum()) < 0.02


def test_equal_names_are_found_where_they_come_first() -> None:
    names = torch.tensor([[7, -3, 7, 5, -3], [1, 2, 3, 4, 1]])
    assert chosen_draws.first_of_equals(names).tolist() == [[0, 1, 0, 3, 1], [0, 1, 2, 3, 0]]


def test_resampling_keeps_heavy_entries_and_is_unbiased() -> None:
    """4,000 choices of 4 entries of 6; means within 5 standard errors: false alarm below 4e-6 (fixed seed)."""
    shares = torch.tensor([[0.5, 0.2, 0.1, 0.1, 0.06, 0.04]]).double().repeat(4000, 1)
    starts, num = RowStream(torch.arange(4000), 0).uniform(shares[:, :1]), torch.full((4000,), 4)
    kept, weights, chance = chosen_draws.resampled_draws(shares, num, starts)
    assert bool(kept[:, :2].all()) and (kept.sum(dim=1) - 4).abs().max() <= 1
    found = (weights * kept).mean(dim=0)
    spread = (weights * kept).std(dim=0) / 4000**0.5
    assert ((found - shares[0]).abs() <= 5 * spread + 1e-12).all()
    assert (kept.double().mean(dim=0) - chance[0]).abs().max() < 0.05
    others = torch.tensor([4, 6, 2, 4])
    mixed = chosen_draws.resampled_draws(shares[:4], others, starts[:4])
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
    asked = WeightedAnswers(made, 10, 0)
    found, f = asked._conditionals(codes, 2, proposed.double())
    ratios = asked._ratios(codes[:1], 2, f[:1])
    assert sum(evaluated) == 2
    assert found[0, [0, 3]] == pytest.approx([0.05, 0.05]) and found.sum(dim=1) == pytest.approx([1.0, 1.0])
    assert float(found[0, 1] / found[0, 2]) == pytest.approx(float(exact_probs[0, 1] / exact_probs[0, 2]))
    assert found[1] == pytest.approx(exact_probs[1])
    assert ratios.shape == (1, 4) and ratios.abs().max() < 1e-12
    make_rough(monkeypatch, 0.5)
    found, f = asked._conditionals(codes, 2, proposed.double())
    moved = found[1] * (1 + asked._ratios(codes[1:], 2, f[1:])[0])
    assert moved / moved.sum() == pytest.approx(exact_probs[1])


@pytest.mark.parametrize("column", [None, 2])
def test_rows_get_as_many_draws_as_they_need_and_no_more_than_16_times(
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

    name = "SCORE_ERROR" if column is None else "DISTANCE"
    monkeypatch.setattr(weighted_answers, name, 1e-9)
    ask(10)
    assert numbers == [(2, 20), (2, 300)]  # equal rows are asked about once
    ask(1)
    assert numbers == [(2, 20)]
    monkeypatch.setattr(weighted_answers, name, 10.0)
    ask(10)
    assert numbers == [(2, 20)]
    estimates = WeightedAnswers._log_mean if column is None else WeightedAnswers._averaged

    def wanting(self: WeightedAnswers, *arguments: object) -> weighted_answers.Estimates:
        found = estimates(self, *arguments)  # type: ignore[arg-type, operator]
        growth = torch.linspace(3.0, 7.0, len(found.growth)).double()
        return found._replace(growth=growth, is_good=torch.zeros_like(found.is_good))

    monkeypatch.setattr(WeightedAnswers, estimates.__name__, wanting)
    ask(10)
    assert numbers == [(2, 20), (1, 40), (1, 140)]
    if column is not None:  # an error that few effective draws state is not known
        monkeypatch.setattr(weighted_answers, "effective_size", lambda weights: weights.new_ones(len(weights)))
        ask(10)
        assert numbers == [(2, 20), (2, 300), (1, 960), (1, 960)]
        ask(2)
        assert numbers == [(2, 20), (2, 300)]


def test_no_other_draws_and_classes_that_are_enough_cost_less() -> None:
    """By trying 200 numbers of draws, each with the fewest classes that make the error small enough."""
    distance = 0.025
    of_draws, of_classes = torch.tensor([0.05, 0.2, 0.04]).double(), torch.tensor([0.1, 0.03, 0.05]).double()
    num_draws, num_classes = 100, torch.tensor([300.0, 100.0, 200.0]).double()
    growth, classes = chosen_draws.cheapest_numbers(of_draws, of_classes, num_draws, num_classes, distance)
    cost = chosen_draws.COST_OF_DRAW
    left = of_draws.square() / growth + of_classes.square() * num_classes / classes
    assert left.sqrt() == pytest.approx([distance] * 3)
    least = of_draws.square() / distance**2  # times as many draws, if conditionals were exact
    tried = least * torch.linspace(1.01, 6, 200).double()[:, None]
    needed = num_classes * of_classes.square() / (distance**2 - of_draws.square() / tried)
    costs = cost * num_draws * tried + needed
    assert (cost * num_draws * growth + classes <= costs + 1e-6).all()
    assert (costs.amin(dim=0) < 1.01 * (cost * num_draws * growth + classes)).all()
    few = torch.tensor([0.01]).double()  # draws that are enough stay
    growth, classes = chosen_draws.cheapest_numbers(few, few, num_draws, num_classes[:1], distance)
    assert float(growth) < 1
    assert (few.square() + few.square() * num_classes[:1] / classes).sqrt() == pytest.approx([distance])


def test_f_is_evaluated_for_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first round tells how many classes a prediction needs; draws of a score that get company wait for it."""
    made, ratios, corrections = energy(dtype=torch.float64), [], []
    of_classes, of_draws = WeightedAnswers._ratios, WeightedAnswers._corrections

    def counted(self: WeightedAnswers, codes: torch.Tensor, column: int, f: torch.Tensor) -> torch.Tensor:
        ratios.append(len(codes))
        return of_classes(self, codes, column, f)

    def counted_draws(self: WeightedAnswers, codes: torch.Tensor) -> torch.Tensor:
        corrections.append(len(codes))
        return of_draws(self, codes)

    monkeypatch.setattr(WeightedAnswers, "_ratios", counted)
    monkeypatch.setattr(WeightedAnswers, "_corrections", counted_draws)
    for distance in (10.0, 1e-9):
        ratios.clear()
        monkeypatch.setattr(weighted_answers, "DISTANCE", distance)
        WeightedAnswers(made, 20, 0).predictive(NOTHING, 2, torch.tensor([10]), None)
        assert ratios[0] == 0 and len(ratios) == 2 and ratios[1] >= 2
    monkeypatch.setattr(weighted_answers, "SCORE_ERROR", 1e-9)
    WeightedAnswers(made, 20, 0).log_prob(NOTHING, torch.tensor([10]))
    assert len(corrections) == 2 and corrections[0] == 0 and corrections[1] > 0
