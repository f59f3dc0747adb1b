"""Weights of rows, `JointEBM.score`, grid search and metadata routing."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from jointebm import JointEBM, JointEBMClassifier
from jointebm.tables.training.row_weights import resampled_rows

RNG = np.random.default_rng(4)
GROUP = RNG.integers(0, 2, 400)
TABLE = pd.DataFrame({"a": np.where(GROUP, "x", "y"), "b": np.where(RNG.random(400) < 0.9, GROUP, 1 - GROUP)})
FAST = {"num_visits": 0, "rows_per_component": 50, "prior_strength": 0.1}


def test_rows_are_repeated_as_their_weights_say() -> None:
    weights = torch.from_numpy(RNG.exponential(size=1000) * (RNG.random(1000) < 0.7))
    codes = torch.from_numpy(RNG.integers(0, 3, (1000, 2)))
    counts = torch.bincount(resampled_rows(weights, codes), minlength=1000)
    expected = 1000 * weights / weights.sum()
    assert bool((counts >= expected.floor()).all()) and bool((counts <= expected.ceil()).all())
    assert counts.sum() == 1000
    for row in codes.unique(dim=0):
        equal = (codes == row).all(dim=1)
        assert abs(float(counts[equal].sum() - expected[equal].sum())) <= 1 + 1e-9


def test_the_density_has_weighted_frequencies() -> None:
    """Equal numbers of both levels, one with four times the weight: 80%, up to one row and the prior."""
    table = pd.DataFrame({"a": list("xy") * 500})
    weights = np.where(table["a"] == "x", 4.0, 1.0)
    model = JointEBM(training=FAST).fit(table, sample_weight=weights)
    assert np.exp(model.score_samples(pd.DataFrame({"a": ["x"]}))) == pytest.approx(0.8, abs=0.002)
    scaled = JointEBM(training=FAST).fit(table, sample_weight=weights * 10)
    assert np.array_equal(scaled.score_samples(TABLE[["a"]]), model.score_samples(TABLE[["a"]]))


def test_rows_without_weight_are_left_out() -> None:
    strange = pd.concat([TABLE, pd.DataFrame({"a": ["z"] * 50, "b": [7] * 50})], ignore_index=True)
    weights = np.r_[np.ones(400), np.zeros(50)]
    model = JointEBM(training=FAST).fit(strange, sample_weight=weights)
    assert model.classes("a").tolist() == ["x", "y"]
    ones = JointEBM(training=FAST).fit(TABLE, sample_weight=np.ones(400))
    assert np.array_equal(model.score_samples(TABLE), ones.score_samples(TABLE))


def test_a_trained_fit_uses_weights_and_holds_out_no_copy_of_a_training_row() -> None:
    weights = np.where(TABLE["a"] == "x", 3.0, 1.0)
    training = {"num_visits": 3, "width": 8, "rows_per_component": 50}
    share = np.average(TABLE["a"] == "x", weights=weights)
    model = JointEBM(training=training, num_members=1).fit(TABLE, sample_weight=weights)
    assert np.exp(model.score_samples(pd.DataFrame({"a": ["x"]}))) == pytest.approx(share, abs=0.05)
    assert float(model.members_[0].log_marginals()[0][0].exp()) == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"sample_weight: got shape \(3,\), expected \(400,\)"),
        (np.r_[np.ones(399), -1], "sample_weight: row 399 has -1.0, expected a finite weight"),
        (np.r_[np.nan, np.ones(399)], "sample_weight: row 0 has nan"),
        (np.zeros(400), "sample_weight: all are 0"),
    ],
)
def test_weights_that_are_none_are_refused(weights: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JointEBM(training=FAST).fit(TABLE, sample_weight=weights)


def test_the_score_is_the_mean_log_density() -> None:
    model = JointEBM(training=FAST).fit(TABLE)
    assert model.score(TABLE) == pytest.approx(model.score_samples(TABLE).mean(), abs=1e-12)
    weights = RNG.random(400)
    expected = (weights * model.score_samples(TABLE)).sum() / weights.sum()
    assert model.score(TABLE, sample_weight=weights) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="score: got y, and the model was fitted without one"):
        model.score(TABLE[["a"]], TABLE["b"])
    joint = JointEBM(training=FAST).fit(TABLE[["a"]], TABLE["b"])
    assert joint.score(TABLE[["a"]], TABLE["b"]) == pytest.approx(joint.score(TABLE), abs=1e-12)
    assert joint.score(TABLE[["a"]]) > joint.score(TABLE)  # b is marginalised


@pytest.mark.filterwarnings("ignore:the fit learned nothing")
def test_grid_search_finds_the_density_of_held_out_rows() -> None:
    """Columns that depend on one another need more than one component."""
    grid = {"training": [FAST | {"max_components": num} for num in (1, 4)]}
    search = GridSearchCV(JointEBM(), grid, cv=3).fit(TABLE)
    assert search.best_params_["training"]["max_components"] == 4
    assert search.best_score_ > search.cv_results_["mean_test_score"][0] + 0.1


def test_weights_are_routed_through_a_pipeline() -> None:
    weights = np.where(TABLE["a"] == "x", 4.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = JointEBMClassifier(JointEBM(training=FAST)).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), classifier)
        probs = pipeline.fit(TABLE[["b"]], TABLE["a"], sample_weight=weights).predict_proba(TABLE[["b"]])
    direct = JointEBMClassifier(JointEBM(training=FAST)).fit(TABLE[["b"]], TABLE["a"], sample_weight=weights)
    plain = JointEBMClassifier(JointEBM(training=FAST)).fit(TABLE[["b"]], TABLE["a"])
    assert np.array_equal(probs, direct.predict_proba(TABLE[["b"]]))
    assert (probs[:, 0] > plain.predict_proba(TABLE[["b"]])[:, 0]).all()
