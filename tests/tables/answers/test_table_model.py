"""The model of codes: answers agree with enumeration, and each depends on its row alone, bit for bit."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import ConvergenceWarning
from jointebm.references import ProductMixture
from jointebm.tables.answers import code_questions, configurations, corrected_draws, weighted_answers
from jointebm.tables.answers.corrected_draws import CHAINS
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.answers.weighted_answers import WeightedAnswers
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.training.table_report import FitReport
from support.tiny_tables import ALL, CLASSES, energy, energy_with_network, enumerated, generator, matches


def model(dtype: torch.dtype = torch.float64, make: Callable[..., TableEnergy] = energy) -> TableModel:
    return TableModel(make(dtype=dtype)).eval()


PROPOSALS = pytest.mark.parametrize("make", [energy, energy_with_network])


def exact_predictive(codes: Tensor, column: int) -> Tensor:
    """log p(c_j | observed others) by enumeration, shape (N, K_j)."""
    others = codes.clone()
    others[:, column] = -1
    f = torch.where(matches(others), enumerated(energy()), -torch.inf)  # (N, 24)
    of_class = [f[:, ALL[:, column] == code].logsumexp(dim=1) for code in range(CLASSES[column])]
    return torch.stack(of_class, dim=1).log_softmax(dim=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("column", range(3))
def test_conditionals_are_those_of_enumeration(column: int, dtype: torch.dtype, tolerance: float) -> None:
    assert (model(dtype).conditional(ALL, column).exp() - exact_predictive(ALL, column).exp()).abs().max() < tolerance


def test_conditionals_ignore_the_code_of_their_column() -> None:
    codes = ALL.clone()
    codes[:, 1] = -1
    assert torch.equal(model().conditional(codes, 1), model().conditional(ALL, 1))


def test_log_density_is_not_normalised_and_marginals_are_those_of_the_reference() -> None:
    made = model()
    assert (made.log_density(ALL) - enumerated(made.energy)).abs().max() < 1e-12
    of_reference = made.energy.reference(ALL).exp()
    for column, (count, found) in enumerate(zip(CLASSES, made.log_marginals(), strict=True)):
        expected = torch.stack([of_reference[ALL[:, column] == code].sum() for code in range(count)]).log()
        assert (found - expected).abs().max() < 1e-12


INCOMPLETE = torch.cartesian_prod(*[torch.arange(-1, count) for count in CLASSES])  # every row with every missing entry


def exact_log_prob(made: TableModel, codes: Tensor) -> Tensor:
    """By enumeration, normalised, shape (N,)."""
    log_probs = enumerated(made.energy).log_softmax(dim=0)
    return torch.where(matches(codes), log_probs, -torch.inf).logsumexp(dim=1)


def normalised(make: Callable[[], TableEnergy] = energy) -> TableModel:
    made = make()
    log_normalizer = float(enumerated(made).logsumexp(dim=0))
    return TableModel(
        made, FitReport(log_normalizer=log_normalizer, log_normalizer_error=0.0, ess=1, num_rungs=1)
    ).eval()


def test_log_p_is_that_of_enumeration_with_missing_entries_marginalised() -> None:
    made = normalised()
    assert (made.log_prob(INCOMPLETE, seed=0) - exact_log_prob(made, INCOMPLETE)).abs().max() < 1e-9


@pytest.fixture
def no_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows with two or more missing entries have too many configurations."""
    monkeypatch.setattr(configurations, "MAX_ENUMERATED", 0.5)


@PROPOSALS
@pytest.mark.usefixtures("no_enumeration")
def test_log_p_by_draws_is_near_that_of_enumeration(make: Callable[[], TableEnergy]) -> None:
    made = normalised(make)
    found = made.log_prob(INCOMPLETE, num_draws=3000, seed=0)
    assert 1e-6 < (found - exact_log_prob(made, INCOMPLETE)).abs().max() < 0.25


@pytest.mark.slow
@pytest.mark.parametrize(("is_exact", "make"), [(True, energy), (False, energy), (False, energy_with_network)])
@pytest.mark.parametrize("with_evidence", [False, True])
def test_completions_are_draws_of_the_model_given_observed_entries(
    with_evidence: bool, is_exact: bool, make: Callable[[], TableEnergy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """4,000 draws of each of 3 rows; each share within 5.5 standard errors: false alarm below 3e-6 (fixed seed).

    The evidence multiplies exp F where an entry is missing; a forbidden class never comes.
    """
    if not is_exact:
        monkeypatch.setattr(configurations, "MAX_ENUMERATED", 0.5)
    made, num = model(make=make), 4_000
    codes = torch.tensor([[-1, -1, -1], [1, -1, -1], [-1, 1, 3]])
    evidence = [torch.tensor([0.4, -0.4]), torch.tensor([0.0, -torch.inf, 1.0]), None] if with_evidence else None
    drawn = made.complete(codes, num_draws=num, num_sweeps=10, seed=0, log_weights=evidence)
    assert drawn.shape == (num, 3, 3)
    for number, row in enumerate(codes.tolist()):
        weights = enumerated(made.energy).masked_fill(~matches(codes[[number]])[0], -torch.inf)
        for column, each in enumerate(evidence or []):
            if each is not None and row[column] < 0:
                weights = weights + each[ALL[:, column]]
        probs = weights.softmax(dim=0)
        shares = (drawn[:, number, None] == ALL).all(dim=2).double().mean(dim=0)
        assert ((shares - probs).abs() <= 5.5 * (probs * (1 - probs) / num).sqrt() + 1e-12).all()


@pytest.mark.parametrize("column", range(3))
def test_predictions_are_exact_where_nothing_else_is_missing(column: int) -> None:
    found = model().predictive(ALL, column, seed=0)
    assert (found - exact_predictive(ALL, column)).abs().max() < 1e-12


def test_predictions_are_exact_where_configurations_are_few() -> None:
    for column in range(3):
        found = model().predictive(INCOMPLETE, column, seed=0)
        assert (found - exact_predictive(INCOMPLETE, column)).abs().max() < 1e-9
        assert (found.exp().sum(dim=1) - 1).abs().max() < 1e-12


def total_variation(codes: Tensor, make: Callable[..., TableEnergy] = energy, **choices: int) -> Tensor:
    found = model(make=make).predictive(codes, 1, seed=0, **choices).exp()
    return 0.5 * (found - exact_predictive(codes, 1).exp()).abs().sum(dim=1)


@PROPOSALS
@pytest.mark.usefixtures("no_enumeration")
def test_weighted_draws_predict_well(make: Callable[[], TableEnergy]) -> None:
    """Mean total variation over rows with one or two more missing entries, by 400 draws."""
    codes = INCOMPLETE[(INCOMPLETE < 0).sum(dim=1) > 1]
    assert 1e-6 < total_variation(codes, make, num_draws=400).mean() < 0.02


@PROPOSALS
@pytest.mark.usefixtures("no_enumeration")
def test_predictions_without_weights_are_wrong(
    make: Callable[[], TableEnergy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: draws of the proposal count alike, as draws of the density would."""
    codes = INCOMPLETE[(INCOMPLETE < 0).sum(dim=1) > 1]

    drawn = WeightedAnswers._drawn

    def unweighted(self: WeightedAnswers, *arguments: Any) -> Any:
        pool = drawn(self, *arguments)
        return pool._replace(log_weights=torch.zeros_like(pool.log_weights))

    monkeypatch.setattr(WeightedAnswers, "_drawn", unweighted)
    assert total_variation(codes, make, num_draws=400).mean() > 0.04


@pytest.mark.slow
@pytest.mark.usefixtures("no_enumeration")
def test_rows_with_few_effective_draws_are_answered_by_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = INCOMPLETE[(INCOMPLETE < 0).sum(dim=1) > 1]
    monkeypatch.setattr(code_questions, "enough_draws", lambda _: 1e9)
    assert total_variation(codes, num_draws=400, num_sweeps=20).mean() < 0.03


@pytest.mark.usefixtures("no_enumeration")
def test_chains_that_never_jump_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.full((200, 3), -1)
    keys = torch.arange(200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model().complete(codes, seed=0, keys=keys)
    monkeypatch.setattr(corrected_draws, "jump", lambda _, state, **__: (state, torch.zeros(len(state.codes)).bool()))
    with pytest.warns(ConvergenceWarning, match="chains accept 0.000 jumps.*Remedy: a larger num_sweeps"):
        model().complete(codes, seed=0, keys=keys)


@pytest.mark.usefixtures("no_enumeration")
def test_log_p_of_few_effective_draws_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighted_answers, "SCORE_ERROR", torch.inf)  # the first draws are enough
    made = normalised()
    with torch.no_grad():
        made.energy.residual.readout.mul_(20)
    with pytest.warns(ConvergenceWarning, match="fewer than 10 effective draws.*Remedy: a larger num_draws"):
        made.log_prob(torch.full((1, 3), -1), num_draws=50, seed=0)


def wide_model() -> tuple[TableModel, Tensor]:
    """A model of ordinary size in float32, and 300 rows with missing entries."""
    classes, drawn = (40, 3, 17, 2, 48, 9), generator(5)
    reference = ProductMixture(classes, 16)
    reference.log_probs.copy_(
        torch.cat([torch.randn(count, 16, generator=drawn).log_softmax(dim=0) for count in classes])
    )
    residual = Residual(classes, width=256, num_layers=3)
    residual.initialise(drawn)
    with torch.no_grad():
        residual.readout.copy_(0.1 * torch.randn(256, generator=drawn))
    rows = torch.stack([torch.randint(count, (300,), generator=generator(count)) for count in classes], dim=1)
    rows[torch.rand(rows.shape, generator=drawn) < 0.4] = -1
    return TableModel(TableEnergy(reference, residual)).eval(), rows


@pytest.mark.filterwarnings("ignore::jointebm.ConvergenceWarning")
@pytest.mark.slow
@pytest.mark.parametrize("ask", ["log_density", "log_prob", "conditional", "complete", "predictive"])
def test_a_rows_answer_does_not_depend_on_its_batch_or_place_or_the_threads(ask: str) -> None:
    made, incomplete = wide_model()
    whole, keys = made.complete(incomplete, seed=1, num_sweeps=1)[0], torch.arange(300)
    questions = {
        "log_density": lambda rows: made.log_density(whole[rows]),
        "log_prob": lambda rows: made.log_prob(incomplete[rows], num_draws=12, seed=3),
        "conditional": lambda rows: made.conditional(whole[rows], 4),
        "complete": lambda rows: made.complete(
            incomplete[rows], num_draws=2, num_sweeps=2, seed=3, keys=keys[rows]
        ).transpose(0, 1),
        "predictive": lambda rows: made.predictive(incomplete[rows], 0, num_draws=2, num_sweeps=1, seed=3),
    }
    answer, everyone = questions[ask], torch.arange(300)
    together = answer(everyone)
    shuffled = torch.randperm(300, generator=generator())
    assert torch.equal(answer(shuffled), together[shuffled])
    assert torch.equal(torch.cat([answer(rows) for rows in everyone.split(CHAINS - 31)]), together)
    for row in (0, 150, 299):
        assert torch.equal(answer(torch.tensor([row])), together[[row]])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert torch.equal(answer(everyone[:20]), together[:20])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_the_mean_over_draws_does_not_depend_on_the_batch(size: int) -> None:
    """With 20 draws: sums over so many round differently at the end of a batch."""
    made, incomplete = model(torch.float32), torch.full((133, 3), -1)
    incomplete[:, 2] = torch.arange(133) % 4
    together = made.predictive(incomplete, 0, num_draws=20, num_sweeps=1, seed=3)
    assert torch.equal(
        torch.cat([made.predictive(p, 0, num_draws=20, num_sweeps=1, seed=3) for p in incomplete.split(size)]), together
    )


def test_draws_differ_and_equal_rows_are_told_apart_by_keys_only() -> None:
    made = model()
    codes = torch.full((40, 3), -1)
    alike = made.complete(codes, num_draws=30, seed=0, keys=torch.full((40,), 7))
    assert (alike == alike[:, :1]).all()
    assert len(alike[:, 0].unique(dim=0)) > 5
    apart = made.complete(codes, seed=0)[0]
    assert len(apart.unique(dim=0)) > 5
    assert torch.equal(apart, made.complete(codes, seed=0, keys=torch.arange(40))[0])
    assert not torch.equal(apart, made.complete(codes, seed=1)[0])


@pytest.mark.filterwarnings("ignore::jointebm.ConvergenceWarning")
def test_equal_rows_have_equal_estimates() -> None:
    made, incomplete = wide_model()
    rows = incomplete[:20].repeat(2, 1)
    for found in (made.log_prob(rows, num_draws=12, seed=3), made.predictive(rows, 0, num_draws=12, seed=3)):
        assert torch.equal(found[:20], found[20:])


def test_answers_for_no_rows_have_no_rows() -> None:
    made = model()
    assert made.complete(ALL[:0], num_draws=2, seed=0).shape == (2, 0, 3)
    assert made.predictive(ALL[:0], 1, seed=0).shape == (0, 3)
    assert made.log_density(ALL[:0]).shape == (0,)


def test_observed_codes_are_kept_even_if_the_evidence_forbids_them() -> None:
    forbidding = [None, torch.tensor([-torch.inf, 0.0, 0.0]), None]
    codes = torch.tensor([[-1, 0, -1]]).expand(50, -1)
    assert (model().complete(codes, num_draws=4, seed=0, log_weights=forbidding)[..., 1] == 0).all()


@pytest.mark.slow
def test_a_model_comes_back_from_its_spec_and_state() -> None:
    codes = torch.stack([torch.randint(count, (300,), generator=generator(count)) for count in CLASSES], dim=1)
    made = TableModel.fit(codes, CLASSES, bins=(None, (0, 1, 1), None), seed=0)
    again = TableModel.from_spec(made.spec())
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.log_density(ALL), made.log_density(ALL))
    incomplete = torch.full((1, 3), -1)
    drawn = [each.complete(incomplete, num_draws=20, seed=0) for each in (again, made)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.tensor([[0, 3, 0]]), r"codes: got 3 in row 0, column 1; codes there run from 0 to 2, and -1 is missing"),
        (torch.tensor([[0, 0, 0], [-2, 0, 0]]), r"codes: got -2 in row 1, column 0"),
        (
            torch.zeros(2, 4, dtype=torch.int64),
            r"got torch.int64 of shape \(2, 4\), expected whole numbers of shape \(rows, 3\)",
        ),
        (torch.zeros(2, 3), r"got torch.float32 .* expected whole numbers"),
        (torch.tensor([[0, 0, -1]]), r"codes: row 0, column 2 is missing; draw missing entries with `complete` first"),
    ],
)
def test_codes_that_do_not_fit_are_named(codes: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model().log_density(codes)


def test_a_column_that_does_not_exist_and_a_table_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="column: got 3; the columns are numbered from 0 to 2"):
        model().conditional(ALL, 3)
    with pytest.raises(ValueError, match="fit: got 0 rows of 3 columns; a model needs at least one of each"):
        TableModel.fit(ALL[:0], CLASSES, seed=0)
    with pytest.raises(ValueError, match=r"bins: got 2 entries for 3 columns"):
        TableModel.fit(ALL, CLASSES, bins=(None, None), seed=0)
