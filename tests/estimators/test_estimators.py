"""Estimators: scikit-learn's checks, frames in and out, independence of rows, folders."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from jointebm.estimators import (
    JointEBM,
    JointEBMClassifier,
    JointEBMImputer,
    JointEBMOutlierDetector,
    JointEBMRegressor,
)

FAST = {"num_visits": 0, "rows_per_component": 20, "prior_strength": 0.1}  # the mixture alone
SHORT = {"num_visits": 40, "width": 64, "num_looks": 4}  # a network that is trained for a while
RNG = np.random.default_rng(0)


def make_table(num: int) -> pd.DataFrame:
    """Two groups that differ in every column, with missing entries."""
    group = RNG.integers(0, 2, num)
    table = pd.DataFrame(
        {
            "size": np.where(RNG.random(num) < 0.2, 0.0, np.round(RNG.normal(10 + 20 * group, 2), 1)),
            "count": RNG.integers(0, 4, num) + 10 * group,
            "kind": np.where(group == 1, "dog", "cat"),
            "indoors": group == 0,
            "grade": pd.Categorical(
                np.where(RNG.random(num) < 0.5, "good", np.where(group == 1, "best", "bad")),
                ["bad", "good", "best"],
                ordered=True,
            ),
            "born": pd.to_datetime("2020-01-01") + pd.to_timedelta(RNG.integers(0, 300, num) + 1000 * group, unit="D"),
            "name": [f"pet {i}" for i in range(num)],
            "empty": pd.Series([None] * num, dtype=object),
        }
    )
    for name in ("size", "kind", "grade", "born"):
        table.loc[RNG.random(num) < 0.1, name] = None
    return table


TABLE = make_table(300)
MODEL = JointEBM(training=FAST, num_draws=5).fit(TABLE)
MODELLED = [name for name in TABLE if name not in ("name", "empty")]


NOT_EQUAL = {  # held-out rows are chosen before rows are repeated, and copies of a row would be on both sides
    "check_sample_weight_equivalence_on_dense_data": "weights are shares of rows, not copies of them"
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit learned nothing", "ignore:training was cut short")
@parametrize_with_checks(
    [
        JointEBMClassifier(JointEBM(training=SHORT, num_draws=5)),
        JointEBMRegressor(JointEBM(training={"num_visits": 150, "width": 128, "num_looks": 10}, num_draws=5)),
        JointEBMImputer(JointEBM(training={"num_visits": 3, "width": 32})),
        JointEBMOutlierDetector(JointEBM(training=FAST)),
    ],
    # An imputer returns complete rows as they are, whatever the weights.
    expected_failed_checks=lambda estimator: {} if isinstance(estimator, JointEBMImputer) else NOT_EQUAL,
)
def test_scikit_learn_checks(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


# Frames


@pytest.mark.parametrize("order", [1, -1])
def test_imputed_pandas_frames_keep_index_order_dtypes_and_observed_entries(order: int) -> None:
    table = TABLE[TABLE.columns[::order]].set_index(np.arange(300) + 5)
    filled = MODEL.impute(table)
    assert filled.index.equals(table.index) and filled.columns.equals(table.columns)
    assert (filled.dtypes == table.dtypes).all()
    assert filled[MODELLED].notna().all().all() and filled["empty"].isna().all()
    for name in table:
        seen = table[name].notna()
        assert filled[name][seen].equals(table[name][seen])


@pytest.mark.slow
def test_polars_frames_come_back_as_polars() -> None:
    table = pl.from_pandas(TABLE.drop(columns="empty")).with_columns(pl.lit(None).alias("empty"))
    model = JointEBM(training=FAST, num_draws=5).fit(table)
    filled = model.impute(table)
    assert filled.schema == table.schema and filled["kind"].null_count() == 0
    assert model.sample(5).schema == table.schema
    assert_frame_equal(model.impute(table[::-1], row_ids="name")[::-1], model.impute(table, row_ids="name"))
    guess = model.predict_frame(table, ["grade", "size"])
    assert guess.columns == ["grade", "size"] and guess.schema["grade"] == table.schema["grade"]
    assert_series_equal(model.predict(table.drop("size"), target="grade"), guess["grade"])


def test_a_model_answers_for_another_kind_of_frame() -> None:
    expected = MODEL.score_samples(TABLE)
    table = pl.from_pandas(TABLE.drop(columns="empty"))
    assert (MODEL.score_samples(table) == expected).all()
    assert isinstance(MODEL.predict(table, target="kind"), pl.Series)
    assert MODEL.predict(table, target="kind").to_list() == MODEL.predict(TABLE, target="kind").tolist()
    assert (MODEL.score_samples(table.to_arrow()) == expected).all()
    assert (MODEL.impute(table)["size"].to_numpy() == MODEL.impute(TABLE)["size"].to_numpy()).all()


def test_arrays_are_tables_too() -> None:
    features = TABLE[["size", "count"]].to_numpy()
    model = JointEBM(training=FAST, num_draws=5).fit(features, TABLE["indoors"].to_numpy())
    assert model.impute(features).dtype == features.dtype and not np.isnan(model.impute(features)).any()
    assert model.predict(features).dtype == bool and (model.predict(features) == TABLE["indoors"]).mean() > 0.9
    assert model.predict_proba(features).shape == (300, 2) and model.classes().tolist() == [False, True]
    assert model.predict(features, target=0).shape == (300,) and model.predict_frame(features, [0, 1]).shape == (
        300,
        2,
    )
    assert model.sample(3).shape == (3, 3)


@pytest.mark.slow
def test_samples_have_the_dtypes_of_training_and_respect_grid_bounds_and_atoms() -> None:
    drawn = MODEL.sample(2000)
    assert (drawn.dtypes == TABLE.dtypes).all() and drawn[["name", "empty"]].isna().all().all()
    assert drawn["size"].min() >= TABLE["size"].min() and drawn["size"].max() <= TABLE["size"].max()
    assert np.array_equal(drawn["size"].round(1), drawn["size"])
    assert (drawn["size"] == 0).mean() == pytest.approx((TABLE["size"].dropna() == 0).mean(), abs=0.05)
    assert set(drawn["count"]) == set(TABLE["count"])
    assert (drawn["born"] == drawn["born"].dt.normalize()).all() and drawn["born"].max() <= TABLE["born"].max()
    assert MODEL.sample(20).equals(drawn.head(20)) and not MODEL.sample(20, seed=1).equals(drawn.head(20))


def test_samples_agree_with_given() -> None:
    drawn = MODEL.sample(300, given={"kind": "dog", "size": (28, 33), "count": {10, 12}, "born": (None, "2023-01-01")})
    assert set(drawn["kind"]) == {"dog"} and set(drawn["count"]) == {10, 12} and (~drawn["indoors"]).mean() > 0.8
    assert drawn["size"].between(28, 33).all() and (drawn["born"] <= "2023-01-01").all()
    assert set(MODEL.sample(100, given={"grade": ("good", None)})["grade"]) == {"good", "best"}
    assert set(MODEL.sample(5, given={"size": 31.4})["size"]) == {31.4}


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: MODEL.sample(2.5), "n: got 2.5, expected 1 or more rows"),
        (lambda: MODEL.sample("3"), "n: got '3', expected 1 or more rows"),
        (lambda: MODEL.sample(0), "n: got 0, expected 1 or more rows"),
        (lambda: MODEL.sample(2, first=0.5), "first: got 0.5, expected the number of a row, 0 or more"),
        (lambda: MODEL.sample(2, seed=-1), "seed: got -1, expected a whole number from 0"),
        (lambda: MODEL.sample(2, seed=1.5), "seed: got 1.5, expected a whole number from 0 to 2\\^63 - 1"),
        (lambda: MODEL.draw_imputations(TABLE.head(2), 2.0), "num: got 2.0, expected 1 or more draws"),
    ],
)
def test_numbers_of_rows_draws_and_seeds_are_whole_and_not_negative(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


def test_numpy_numbers_and_names_are_accepted() -> None:
    some, names = TABLE.head(4), np.array(["kind", "size"])
    assert MODEL.sample(np.int64(3), seed=np.int64(5), first=np.int64(1)).equals(MODEL.sample(3, seed=5, first=1))
    assert MODEL.predict(some, names[0]).equals(MODEL.predict(some, "kind"))
    assert MODEL.predict_frame(some, names).equals(MODEL.predict_frame(some, ["kind", "size"]))
    assert list(MODEL.predict_frame(some, TABLE.columns[:2])) == ["size", "count"]
    scores = [MODEL.conditional_log_score(some, each) for each in (names, list(names))]
    assert np.array_equal(*scores, equal_nan=True)
    assert MODEL.with_target(names[0]).predict(some).equals(MODEL.predict(some, "kind"))
    objects = pd.DataFrame(np.ones((4, 1)), columns=np.array([np.int64(3)], dtype=object))
    assert JointEBM(training=FAST).fit(objects).codec_.names == (3,)


# Answers


def test_predictions_ignore_the_entries_of_the_target() -> None:
    dogs = pd.DataFrame({"size": [30.0, 11.0, np.nan], "count": [12, 1, 11]})
    assert MODEL.predict(dogs, target="kind").tolist() == ["dog", "cat", "dog"]
    assert MODEL.predict(dogs.assign(kind="cat"), target="kind").tolist() == ["dog", "cat", "dog"]
    guess = MODEL.predict_frame(dogs, ["size", "grade", "born"], statistic="median")
    assert (guess.dtypes == TABLE.dtypes[["size", "grade", "born"]]).all()
    assert (guess["size"] > 20).tolist() == [True, False, True]
    assert MODEL.predict(dogs, target="size").tolist() == np.round(MODEL.predict(dogs, target="size"), 1).tolist()


def test_class_probabilities_sum_to_one_and_numbers_in_bins_have_none() -> None:
    for name in ("kind", "indoors", "grade", "count"):
        probs = MODEL.predict_proba(TABLE, name)
        assert probs.shape == (300, len(MODEL.classes(name))) and probs.sum(axis=1) == pytest.approx(np.ones(300))
    with pytest.raises(ValueError, match="column 'size' holds numbers in bins, so it has no classes"):
        MODEL.predict_proba(TABLE, "size")


def test_the_log_density_of_values_is_that_of_codes_and_the_density_inside() -> None:
    """Conditionals of the density are ratios of it, over all values a column can have."""
    row = TABLE.dropna(subset=MODELLED).head(1)
    counts = sorted(set(TABLE["count"]))
    rows = pd.concat([row.assign(count=each) for each in counts])
    scores = MODEL.score_samples(rows)
    conditional = MODEL.conditional_log_score(rows, ["count"])[:, 0]
    kept = np.isfinite(scores)  # the others break relations
    assert kept.sum() >= 3 and np.isneginf(conditional[~kept]).all()
    scores, conditional = scores[kept], conditional[kept]
    spread = (scores - np.logaddexp.reduce(scores)) - (conditional - np.logaddexp.reduce(conditional))
    assert np.abs(spread).max() < 1e-4


def test_the_density_of_an_incomplete_row_marginalises_the_missing_entry() -> None:
    row = TABLE.dropna(subset=MODELLED).head(1)
    rows = pd.concat([row.assign(kind=kind) for kind in ("cat", "dog")])
    summed = np.logaddexp.reduce(MODEL.score_samples(rows))
    assert MODEL.score_samples(row.assign(kind=None))[0] == pytest.approx(summed, abs=1e-4)
    pairs = pd.concat([rows.assign(indoors=each) for each in (True, False)])
    summed = np.logaddexp.reduce(MODEL.score_samples(pairs))
    both = JointEBM(training=FAST, num_draws=400).fit(TABLE).score_samples(row.drop(columns=["kind", "indoors"]))
    assert both[0] == pytest.approx(summed, abs=0.1)  # estimated from 400 draws of a few classes


@pytest.mark.slow
def test_missing_entries_have_no_conditional_score() -> None:
    scores = MODEL.conditional_log_score(TABLE)
    assert np.array_equal(np.isnan(scores[:, :4]), TABLE.iloc[:, :4].isna())
    assert MODEL.conditional_log_score(TABLE, ["kind", "size"]).shape == (300, 2)
    assert np.array_equal(
        MODEL.conditional_log_score(TABLE, "size")[:, 0], scores[:, list(TABLE).index("size")], equal_nan=True
    )


def test_values_outside_the_training_range_score_low_but_finite() -> None:
    row = TABLE.dropna(subset=MODELLED).head(1)
    sizes = [float(row["size"].iloc[0]), 100.0, 1e6, -1e6]
    surprise = MODEL.conditional_surprise(pd.concat([row.assign(size=each) for each in sizes]))
    assert np.isfinite(surprise).all() and surprise[0] > surprise[1] > surprise[2]


@pytest.mark.slow
def test_an_answer_about_a_row_depends_on_the_row_alone() -> None:
    part = TABLE.head(40)
    whole = {
        "impute": MODEL.impute(part, row_ids="name"),
        "proba": MODEL.predict_proba(part, "kind"),
        "mean": MODEL.predict(part, "size"),
        "score": MODEL.score_samples(part),
        "conditional": MODEL.conditional_log_score(part),
        "surprise": MODEL.conditional_surprise(part),
    }
    for chosen in ([0], [17], list(range(39, -1, -1)), list(range(0, 40, 7))):
        some = part.iloc[chosen]
        assert MODEL.impute(some, row_ids="name").equals(whole["impute"].iloc[chosen])
        assert np.array_equal(MODEL.predict_proba(some, "kind"), whole["proba"][chosen])
        assert MODEL.predict(some, "size").equals(whole["mean"].iloc[chosen])
        assert np.array_equal(MODEL.score_samples(some), whole["score"][chosen])
        assert np.array_equal(MODEL.conditional_log_score(some), whole["conditional"][chosen], equal_nan=True)
        assert np.array_equal(MODEL.conditional_surprise(some), whole["surprise"][chosen])


@pytest.mark.slow
def test_probabilities_of_many_classes_do_not_depend_on_the_batch() -> None:
    """A single row is stored in another order than many are, in which sums over eight classes and more round differently."""
    levels = RNG.integers(0, 13, 400)
    table = pd.DataFrame({"x": levels + RNG.normal(0, 3, 400), "level": np.array(list("abcdefghijklm"))[levels]})
    model = JointEBM(training=FAST).fit(table)
    classifier, features = JointEBMClassifier.of(model, "level"), table[["x"]].head(40)
    for ask in (classifier.predict_proba, lambda some: model.predict_proba(some, "level")):
        assert np.array_equal(np.concatenate([ask(features.iloc[[row]]) for row in range(40)]), ask(features))


def test_an_ignored_column_may_hold_anything() -> None:
    features = TABLE.drop(columns=["kind", "name", "empty"]).head(20)
    expected = MODEL.predict_proba(features, "kind")
    numbered = features.assign(name=np.arange(20), empty=pd.Timestamp("2020-01-01"))
    assert np.array_equal(MODEL.predict_proba(numbered, "kind"), expected)
    assert MODEL.impute(numbered)[["name", "empty"]].equals(numbered[["name", "empty"]])


def test_an_unseen_category_is_an_error_or_missing() -> None:
    strange = pd.DataFrame({"kind": ["fox"], "count": [11]})
    with pytest.raises(ValueError, match="column 'kind': row 0 holds 'fox'"):
        MODEL.predict(strange, "size")
    lenient = JointEBM(training=FAST, unseen="missing").fit(TABLE)
    assert lenient.predict(strange, "size").equals(lenient.predict(strange.drop(columns="kind"), "size"))
    assert lenient.impute(strange.assign(size=np.nan))["kind"].tolist() == ["fox"]  # observed entries stay


def test_the_shape_of_an_answer_does_not_depend_on_a_flag() -> None:
    some = TABLE.head(6)
    draws = MODEL.draw_imputations(some, 3)
    assert isinstance(draws, list) and len(draws) == 3 and len(MODEL.draw_imputations(some, 1)) == 1
    assert isinstance(MODEL.impute(some), pd.DataFrame) and MODEL.impute(some).equals(draws[0])
    assert isinstance(MODEL.predict(some, "kind"), pd.Series)
    assert isinstance(MODEL.predict_frame(some, ["kind"]), pd.DataFrame)
    for several in (["kind"], TABLE.columns[:2]):
        with pytest.raises(TypeError, match=r"predict: got several targets .*call predict_frame\(X, targets\)"):
            MODEL.predict(some, several)  # type: ignore[arg-type]
    for one in ("kind", {"kind", "size"}):  # a set has no order
        with pytest.raises(TypeError, match=r"predict_frame: got .*expected a list of names"):
            MODEL.predict_frame(some, one)  # type: ignore[arg-type]


# Parameters and errors


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"objective": "gan"}, "training.objective: got 'gan'"),
        ({"training": {"num_visits": -1}}, "training.num_visits: got -1"),
        (
            {"training": {"epochs": 3}},
            "training.epochs: got 3: unknown field; available: objective, max_components",
        ),
        (
            {"training": [("width", 3)]},
            r"training: got \[\('width', 3\)\], expected a mapping, such as {'num_visits': 10}",
        ),
        ({"max_bins": 1}, "max_bins: got 1"),
        ({"unseen": "ignore"}, "unseen: got 'ignore'"),
        ({"kinds": {"kind": "text"}}, "kinds: column 'kind': got 'text', expected 'numeric', 'categorical' or 'id'"),
        ({"kinds": ["kind"]}, r"kinds: got \['kind'\], expected a mapping, such as {'code': 'categorical'}"),
        ({"kinds": {"sort": "id"}}, "kinds: unknown column 'sort'"),
        ({"num_draws": 0}, "num_draws: got 0"),
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JointEBM(**parameters).fit(TABLE)  # type: ignore[arg-type]


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(NotFittedError):
        JointEBM().sample(1)
    with pytest.raises(ValueError, match="target: name the column to predict"):
        MODEL.predict(TABLE)
    with pytest.raises(ValueError, match="unknown column 'sort'; columns of the model: 'size'"):
        MODEL.predict(TABLE, "sort")
    with pytest.raises(
        ValueError, match=re.escape("column 'name' (id) is ignored by the model and cannot be predicted")
    ):
        MODEL.predict(TABLE, "name")
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        JointEBM().fit(TABLE.head(0))
    with pytest.raises(ValueError, match="y: its name 'kind' is also a column of X"):
        JointEBM().fit(TABLE, TABLE["kind"])


def test_tiny_and_degenerate_tables_fit() -> None:
    """A table without a column that can be modelled is fitted too, with a warning."""
    for table in (TABLE.head(1), TABLE.head(2), TABLE[["empty"]], TABLE[["name"]], pd.DataFrame({"one": [1] * 30})):
        knows_nothing = list(table) in (["empty"], ["name"])
        with pytest.warns(UserWarning, match="no column is modelled") if knows_nothing else nullcontext():
            model = JointEBM().fit(table)
        assert (model.sample(3).columns == table.columns).all()
        assert np.isfinite(model.score_samples(table)).all()
        model.impute(table)


def test_on_progress_is_called_during_training() -> None:
    heard: list[float] = []
    training = {"num_visits": 2, "width": 16}
    JointEBM(training=training).fit(TABLE, on_progress=lambda progress: heard.append(progress.fraction))
    assert heard == sorted(heard) and heard


# Facades


def test_facades_share_one_fitted_core() -> None:
    classifier = JointEBMClassifier.of(MODEL, "kind")
    assert classifier.core_.model_ is MODEL.model_
    features = TABLE.drop(columns="kind")
    assert classifier.predict_proba(features) == pytest.approx(MODEL.predict_proba(features, "kind"), abs=1e-12)
    assert classifier.classes_.tolist() == ["cat", "dog"]
    regressor = JointEBMRegressor.of(MODEL, "size")
    assert regressor.predict(TABLE.drop(columns="size")) == pytest.approx(MODEL.predict(TABLE, "size"), abs=0.051)
    assert JointEBMImputer.of(MODEL).transform(TABLE).equals(MODEL.impute(TABLE))
    detector = JointEBMOutlierDetector.of(MODEL, TABLE, contamination=0.05)
    assert (detector.predict(TABLE) == -1).mean() == pytest.approx(0.05, abs=0.005)
    with pytest.raises(ValueError, match="does not hold numbers"):
        JointEBMRegressor.of(MODEL, "kind")


def test_the_detector_finds_rows_whose_entries_do_not_fit_together() -> None:
    strange = TABLE.dropna(subset=MODELLED).head(50).copy()
    strange["indoors"] = ~strange["indoors"]
    for criterion in ("conditional", "density"):
        detector = JointEBMOutlierDetector.of(MODEL, TABLE.head(10), criterion=criterion)
        pairs = detector.score_samples(strange)[:, None] < detector.score_samples(TABLE.head(150))
        assert pairs.mean() > 0.9  # the area under the ROC curve


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA])
@pytest.mark.parametrize("estimator", [JointEBMClassifier(), JointEBMRegressor()])
def test_a_target_with_missing_entries_is_refused_by_row(
    estimator: JointEBMClassifier | JointEBMRegressor, gap: object
) -> None:
    labels = np.array([1, 2, gap, 1], dtype=object)
    with pytest.raises(ValueError, match="y: row 2 is missing; drop such rows, or fit a JointEBM, whose y may have"):
        estimator.fit(TABLE.head(4), labels)


@pytest.mark.parametrize("share", [0.9, 0, "auto", None])
def test_a_contamination_that_is_no_share_is_refused(share: Any) -> None:
    with pytest.raises(ValueError, match=f"contamination: got {share!r}, expected a share in"):
        JointEBMOutlierDetector(contamination=share).fit(TABLE.head(4))


def test_labels_of_any_type_come_back() -> None:
    features = TABLE[["size", "count"]]
    for labels in (["dog", "cat"], [3, 7], [True, False]):
        y = np.where(TABLE["indoors"], labels[1], labels[0])
        classifier = JointEBMClassifier(JointEBM(training=FAST)).fit(features, y)
        assert classifier.predict(features).dtype == y.dtype and classifier.score(features, y) > 0.9
    assert clone(classifier).get_params()["core__training"] == FAST


# Folders


def test_a_saved_model_gives_the_same_answers(tmp_path: Path) -> None:
    model = JointEBM(training=FAST, kinds={"count": "categorical"}, unseen="missing", num_draws=7).fit(TABLE)
    model.save(tmp_path / "model")
    loaded = JointEBM.load(tmp_path / "model")
    assert loaded.get_params() == model.get_params()
    assert loaded.sample(30).equals(model.sample(30)) and (loaded.sample(30).dtypes == TABLE.dtypes).all()
    assert np.array_equal(loaded.score_samples(TABLE), model.score_samples(TABLE))
    assert loaded.impute(TABLE).equals(model.impute(TABLE))
    with pytest.raises(FileExistsError, match="exists; choose another folder"):
        model.save(tmp_path / "model")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 1, "format: Input should be 2"),
        (("seed",), 1, "seed: Extra inputs"),
        (("model", "num_classes"), [3, 3], "does not describe a model"),
        (("model", "width"), 10**12, "does not describe a model: model: .* do not fit model.safetensors"),
        (("model", "width"), "wide", "does not describe a model"),
        (("codec", "columns", 0, "codec", "kind"), "pickle", "not a table's configuration"),
        (("codec", "columns", 0, "name"), "else", "name other columns"),
        (("codec", "columns", 0, "codec", "counts", 0), -1, "not negative"),
        (("frame", "columns", 0, "dtype"), "\x1b[2J", "should match pattern"),
        (("parameters", "num_draws"), 0, "num_draws"),
        (("target",), "else", "name other columns"),
    ],
)
def test_a_forged_folder_is_refused(tmp_path: Path, path: tuple[str | int, ...], value: object, message: str) -> None:
    MODEL.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as caught:
        JointEBM.load(tmp_path / "model")
    assert str(tmp_path / "model" / "config.json") in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_with_files_missing_or_torn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds neither config\.json nor model/config\.json"):
        JointEBM.load(tmp_path)
    MODEL.save(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a safetensors file"):
        JointEBM.load(tmp_path / "model")


def test_without_the_extra_there_is_one_clear_line() -> None:
    script = (
        "import sys; sys.modules['narwhals'] = None\n"
        "import jointebm\n"
        "assert not {'sklearn', 'pandas', 'scipy'} & sys.modules.keys()\n"
        "try:\n    import jointebm.estimators\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1 and "pip install 'jointebm[tables]'" in done.stdout
