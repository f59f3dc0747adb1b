"""Diagnostics of the answers of a table model, on a table that can be enumerated."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from jointebm import ConvergenceWarning, JointEBM
from jointebm.randomness.row_streams import RowStream, row_keys
from jointebm.tables.answers import code_questions, configurations, weighted_answers
from jointebm.tables.answers.shared_draws import shared_draws
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.rough_energy import RoughEnergy
from support.coverage import NUM_SEEDS, draw_independently, expect_no_coverage, few_draws_differ, require_coverage
from support.tiny_tables import ALL, CLASSES, energy, enumerated, matches

NOTHING = torch.full((1, 3), -1)
ONE = torch.tensor([[-1, 1, -1]])
SEEDS = range(NUM_SEEDS)
pytestmark = pytest.mark.usefixtures("no_enumeration")


@pytest.fixture
def no_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows with two or more missing entries have too many configurations."""
    monkeypatch.setattr(configurations, "MAX_ENUMERATED", 0.5)


def model() -> TableModel:
    return TableModel(energy(dtype=torch.float64)).eval()


def exact_probs(codes: Tensor, column: int) -> Tensor:
    f = torch.where(matches(codes)[0], enumerated(energy()), -torch.inf).softmax(dim=0)
    return torch.stack([f[ALL[:, column] == code].sum() for code in range(CLASSES[column])])


@pytest.mark.slow
def test_standard_errors_of_scores_cover_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """By enumeration; false alarm below 4e-4 (fixed seeds)."""
    draw_independently(monkeypatch)
    made = model()
    truth = float(torch.where(matches(ONE)[0], enumerated(made.energy), -torch.inf).logsumexp(dim=0))
    answers = [made.log_prob_answer(ONE, num_draws=400, seed=seed) for seed in SEEDS]
    found, errors = (
        torch.cat(each) for each in zip(*[(a.value, a.diagnostics.standard_error) for a in answers], strict=True)
    )
    assert few_draws_differ(found) and not any(bool(each.diagnostics.exact.any()) for each in answers)
    require_coverage(found, errors, truth)
    expect_no_coverage(found, errors, truth, factor=0.6)


@pytest.mark.slow
@pytest.mark.parametrize("by_chains", [False, True])
def test_standard_errors_of_predictions_cover_the_sums(by_chains: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By enumeration, weighted draws and chains alike; false alarm of each class below 4e-4 (fixed seeds)."""
    if by_chains:
        monkeypatch.setattr(code_questions, "enough_draws", lambda _: 1e9)
    draw_independently(monkeypatch)
    made, column = model(), 2
    choices = {"num_draws": 100, "num_sweeps": 4} if by_chains else {"num_draws": 400, "num_sweeps": 1}
    answers = [made.predictive_answer(NOTHING, column, seed=seed, **choices) for seed in SEEDS]
    probs, errors = (
        torch.cat(each) for each in zip(*[(a.value.exp(), a.diagnostics.standard_error) for a in answers], strict=True)
    )
    assert (answers[0].diagnostics.num_jumps is not None) == by_chains
    for code, truth in enumerate(exact_probs(NOTHING, column).tolist()):
        assert few_draws_differ(probs[:, code])
        require_coverage(probs[:, code], errors[:, code], truth)
        expect_no_coverage(probs[:, code], errors[:, code], truth, factor=0.6)


def test_a_readout_has_the_error_of_its_own_average() -> None:
    """Of class 0 and of one minus class 0, against those of the probabilities."""
    readout = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    made, choices = model(), {"num_draws": 50, "num_sweeps": 1, "seed": 0}
    of_probs = made.predictive_answer(ONE, 2, **choices).diagnostics.standard_error  # type: ignore[arg-type]
    found = made.predictive_answer(ONE, 2, readout=readout, **choices).diagnostics.standard_error  # type: ignore[arg-type]
    assert found.shape == (1, 2) and (found - of_probs[:, :1]).abs().max() < 1e-12


def test_the_ess_of_a_row_is_that_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighted_answers, "SCORE_ERROR", torch.inf)  # the first draws are enough
    made = model()
    stream = RowStream(row_keys(ONE), 0, draw=0)
    drawn = shared_draws(RoughEnergy(made.energy), ONE, stream, 50).codes[0]  # the draws that the seed decides
    weights = (enumerated(made.energy) - made.energy.reference(ALL)).exp()  # (24,)
    of_draws = weights[(drawn[:, None] == ALL).all(dim=2).int().argmax(dim=1)]
    expected = float(of_draws.sum().square() / of_draws.square().sum())
    assert abs(float(made.log_prob_answer(ONE, num_draws=50, seed=0).diagnostics.ess[0]) - expected) < 1e-9


def test_exact_rows_have_no_error() -> None:
    codes = torch.tensor([[1, 2, 3], [-1, 2, 3], [-1, -1, 3]])
    made = model()
    for answer in (
        made.log_prob_answer(codes, num_draws=20, seed=0),
        made.predictive_answer(codes, 0, num_draws=20, num_sweeps=1, seed=0),
    ):
        found = answer.diagnostics
        assert found.exact.tolist() == [True, True, False] and found.ess.isinf().tolist() == [True, True, False]
        assert bool((found.standard_error[:2] == 0).all()) and bool((found.standard_error[2] > 0).all())


def test_completions_report_their_chains_row_by_row() -> None:
    codes = torch.tensor([[1, 2, 3], [-1, -1, 3], [-1, -1, -1]])
    found = model().complete_answer(codes, num_draws=30, num_sweeps=8, seed=0).diagnostics
    assert found.standard_error is None and found.exact.tolist() == [True, False, False]
    assert found.num_jumps is not None and found.num_jumps.isnan().tolist() == [True, False, False]
    assert found.accept_rate["Jump"] == pytest.approx(float(found.num_jumps[1:].mean()) / 8)
    assert 0.2 < found.accept_rate["Sweep"] < 1
    assert bool((found.ess[1:] > 1).all()) and bool((found.ess[1:] <= 16).all())
    assert found.r_hat is not None and 0.9 < found.r_hat < 1.6


def test_every_move_is_accepted_where_the_density_is_the_reference() -> None:
    """The second row misses one entry less than the third: each move of either counts as one of its own."""
    made = TableModel(TableEnergy(energy(dtype=torch.float64).reference, Residual(CLASSES, width=1, num_layers=1)))
    codes = torch.tensor([[-1, -1, 3], [-1, -1, -1]])
    found = made.complete_answer(codes, num_draws=5, num_sweeps=4, seed=0).diagnostics
    assert found.accept_rate == {"Jump": 1.0, "Sweep": 1.0}


RNG = np.random.default_rng(0)
NUMBERS = RNG.integers(0, 4, 300)
TABLE = pd.DataFrame({"a": NUMBERS.astype(float), "b": (NUMBERS + RNG.integers(0, 2, 300)) % 4, "c": NUMBERS > 1})
TABLE["c"] = TABLE["c"].map({True: "high", False: "low"})
HOLES = TABLE.head(6).assign(b=[0, None, 1, None, 2, 3], a=[None, None, 1, 2, 3, 0])


@pytest.fixture(scope="module")
def fitted() -> JointEBM:
    return JointEBM(training={"num_visits": 0}, num_draws=50).fit(TABLE)


def test_every_question_to_an_estimator_has_the_same_diagnostics(fitted: JointEBM) -> None:
    asked: dict[str, tuple[object, object]] = {
        "predict_proba": (fitted.predict_proba(HOLES, "c", diagnostics=True), fitted.predict_proba(HOLES, "c")),
        "mean": (fitted.predict(HOLES, "a", diagnostics=True), fitted.predict(HOLES, "a")),
        "score": (fitted.score_samples(HOLES, diagnostics=True), fitted.score_samples(HOLES)),
        "impute": (fitted.impute(HOLES, diagnostics=True), fitted.impute(HOLES)),
        "draws": (fitted.draw_imputations(HOLES, 2, diagnostics=True), fitted.draw_imputations(HOLES, 2)),
        "sample": (fitted.sample(6, diagnostics=True), fitted.sample(6)),
    }
    for name, (both, plain) in asked.items():
        answer, found = both  # type: ignore[misc]
        for ours, theirs in zip(answer, plain, strict=True) if name == "draws" else [(answer, plain)]:
            assert np.array_equal(np.asarray(ours), np.asarray(theirs)) or ours.equals(theirs), name
        assert found.exact.shape == found.ess.shape == (6,) and isinstance(found.ess, np.ndarray)
        assert np.array_equal(found.exact, np.isinf(found.ess))
    exact = [True, False, True, True, True, True]  # at most one entry is missing
    assert asked["score"][0][1].exact.tolist() == exact  # type: ignore[index]
    probs, found = asked["predict_proba"][0]  # type: ignore[misc]
    assert found.standard_error.shape == probs.shape == (6, 2)
    assert ((found.standard_error == 0).all(axis=1) == found.exact).all()
    assert asked["mean"][0][1].standard_error.shape == (6,)  # type: ignore[index]
    assert fitted.predict(HOLES, "c", diagnostics=True).diagnostics.standard_error is None


def test_a_question_in_blocks_of_rows_warns_once(fitted: JointEBM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jointebm.tables.answers.answer_progress.ROWS_OF_PART", 4)
    monkeypatch.setattr("jointebm.tables.answers.fitted.enough_draws", lambda _: 1e9)
    holes = pd.concat([HOLES] * 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, found = fitted.score_samples(holes, diagnostics=True)
    assert [each.category for each in caught] == [ConvergenceWarning] and found.ess.shape == (18,)
    assert "score_samples: 3 of 18 rows" in str(caught[0].message)
