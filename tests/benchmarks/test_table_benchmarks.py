"""Specification of the table benchmarks, each run on tiny tables: parts, figures, report, and no part twice."""

import warnings
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jointebm import ConvergenceWarning
from jointebm.estimators import JointEBM, JointEBMClassifier, JointEBMRegressor
from support.benchmark_scripts import load

COLUMNS = ["species", "sex", "bill_length_mm", "body_mass_g"]  # of penguins, who stand in for every table
OURS = "JointEBM"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:training was cut short")]


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What models have learned is measured elsewhere; here the networks are narrow and soon trained."""
    defaults = JointEBM.__init__.__kwdefaults__
    assert defaults["training"] is None
    short = {**defaults, "training": {"num_visits": 60, "width": 64}}
    monkeypatch.setattr(JointEBM.__init__, "__kwdefaults__", short)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder with tiny versions of all tables."""
    penguins = pd.read_csv(files("jointebm.data") / "penguins.csv.gz", compression="gzip")
    penguins = penguins.sample(len(penguins), random_state=0, ignore_index=True)
    nltcs = pd.DataFrame(np.random.default_rng(0).integers(2, size=(150, 16)))
    frames = {
        "adult_train": penguins[COLUMNS].head(150),
        "adult_test": penguins[COLUMNS].tail(150),
        "german_credit": penguins[["species", "bill_depth_mm", "flipper_length_mm"]].head(120),
        "credit_scoring": penguins[["species", "bill_depth_mm", "flipper_length_mm"]].tail(120),
        "penguins": penguins.head(120),
        "nltcs_train": nltcs.head(90),
        "nltcs_valid": nltcs[90:120],
        "nltcs_test": nltcs.tail(30),
    }
    folder = tmp_path / "tables"
    folder.mkdir()
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv.gz", index=False)
    return folder


def run(name: str, tables: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Runs a benchmark and returns its finished lines."""
    load(name, monkeypatch).main(["--data", str(tables), "--out", str(tables / "out"), "--repetitions", "2"])
    return pd.read_csv(tables / "out" / f"{name}.csv")


def parts_of(lines: pd.DataFrame) -> set[tuple[str, str]]:
    return set(lines[["part", "method"]].itertuples(index=False, name=None))


def test_adult_and_then_holes(
    tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run("adult", tables, monkeypatch)
    generators = {"real training rows", "independent columns", OURS, "mixture", "Gaussian copula"}
    scores = {"JointEBMOutlierDetector", "JointEBM.conditional_surprise", "JointEBM.score_samples"}
    scores |= {"mixture, log p", "mixture, dependence", "IsolationForest", "5-NN"}
    methods = {OURS, "mixture", "specialist, scikit-learn"}
    assert parts_of(lines) == (
        {("fit", OURS), ("fit", "mixture")}
        | {("generation", method) for method in generators}
        | {("anomalies", method) for method in scores}
        | {(f"log score: {column}", method) for column in COLUMNS for method in methods}
    )
    assert lines.value.notna().all()
    log_scores = lines[lines.metric == "log_score"]
    assert (log_scores.value < 0).all()
    c2st = lines[(lines.method == OURS) & (lines.metric == "c2st")].value.item()
    assert f"| C2ST of Adult samples | {c2st:.3f} |" in capsys.readouterr().out
    pd.testing.assert_frame_equal(run("adult", tables, monkeypatch), lines)  # nothing is measured twice

    kept = run("holes", tables, monkeypatch)
    assert {part for part, _ in parts_of(kept) if part.startswith("holes")} == {
        f"holes: {percent}% missing" for percent in (20, 50)
    }
    share = (
        kept[(kept.part == "holes: 50% missing") & (kept.method == OURS) & (kept.metric == "c2st")].value.item() / c2st
    )
    assert f"| C2ST kept with 50% missing | {share:.1%} |" in load("bars", monkeypatch).bars(tables / "out")


def test_pooled_intervals_are_resumed_by_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    coverage = load("coverage", monkeypatch)
    coverage.main(["--only", "pooled", "--out", str(tmp_path), "--repetitions", "1"])
    first = (tmp_path / "pooled.csv").read_text()
    coverage.main(["--only", "pooled", "--out", str(tmp_path), "--repetitions", "2"])
    lines = pd.read_csv(tmp_path / "pooled.csv")
    assert (tmp_path / "pooled.csv").read_text().startswith(first)
    assert set(lines.part) == {"pooled: 0", "pooled: 1"}
    assert set(lines.method) == {"complete data", "complete cases", "JointEBM, model", "JointEBM, draws"}
    ends = (
        lines[lines.metric.str.endswith("low")].value.to_numpy(),
        lines[lines.metric.str.endswith("high")].value.to_numpy(),
    )
    assert (ends[0] < ends[1]).all()
    assert "| effect of smoking on pay | JointEBM, model | " in capsys.readouterr().out


def test_the_simulated_tables_miss_what_they_should_and_their_truths_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40,000 rows: shares and estimates within five standard errors, false alarms 4e-6."""
    load("coverage", monkeypatch)
    pooled = load("pooled", monkeypatch)
    generator = np.random.default_rng(0)
    table = pooled.drawn_table(generator, 40_000)
    holed = pooled.with_missing(table, generator)
    assert holed[["age", "group"]].notna().all().all()
    assert (holed[["pay", "smokes"]].isna().mean() - 0.3).abs().max() < 5 * 0.0023
    assert (holed.fillna({"pay": 0, "smokes": ""}) == table).mean().between(0.68, 1).all()
    values, variances = pooled.estimates(table)
    assert (np.abs(values - pooled.truths()) < 5 * np.sqrt(variances) + 0.005).all()


def test_coverage_and_then_queries_of_the_same_models(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run("coverage", tables, monkeypatch)
    names = ("adult", "credit_scoring", "german_credit", "penguins")
    assert parts_of(lines) == {(f"{part}: {name}", OURS) for part in ("fit", "coverage") for name in names}
    shares = lines[lines.metric.isin(["coverage", "randomised"])].value
    bars = load("bars", monkeypatch).bars(tables / "out")
    for what, metric in (
        ("coverage of central 90% intervals", "coverage"),
        ("coverage of shortest 90% intervals", "shortest"),
        ("coverage, central, ties split by chance", "randomised"),
    ):
        found = lines[lines.metric == metric].set_index("part").value
        measured = ", ".join(f"{name} {found[f'coverage: {name}']:.3f}" for name in names)
        assert f"| {what} | {measured} |" in bars
    assert shares.between(0, 1).all()

    lines = run("queries", tables, monkeypatch)
    assert parts_of(lines) == {
        (f"{name}: {percent}% hidden", method)
        for name in names[:3]
        for percent in (10, 25, 50, 75)
        for method in (OURS, "mixture", "IterativeImputer")
    }
    answered = lines[lines.metric.isin(["crps", "coverage"])]
    assert answered.value.notna().all()
    assert (lines[lines.metric == "crps"].value > 0).all()
    of_categories = lines[lines.metric.isin(["brier", "log_score", "energy"])]
    assert (of_categories.value.isna() == (of_categories.method == "IterativeImputer")).all()  # it imputes numbers only


def test_truths_are_log_densities_and_fits_are_measured_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entropies of 20,000 rows in nats, by hand, within five standard errors; marginals lack what they share."""
    truths = load("truths", monkeypatch)
    normal, shared = (
        0.5 * np.log(2 * np.pi * np.e),
        {"two numbers": 0.5 * np.log(2), "close numbers": -0.5 * np.log(1 - 0.98**2)},
    )
    entropies = {name: 2 * normal - each for name, each in shared.items()}
    entropies["two groups"] = 4 * normal - 0.8 * np.log(0.8) - 0.2 * np.log(0.2)
    for name, entropy in entropies.items():
        draw, truth, _ = truths.TABLES[name]
        found = -truth(draw(20_000, np.random.default_rng(0)))
        assert abs(found.mean() - entropy) < 5 * found.std() / np.sqrt(20_000)
    draw, truth, _ = truths.TABLES["survey"]
    rows = draw(20_000, np.random.default_rng(0))
    other = rows.assign(smokes=np.where(rows.smokes == "yes", "no", "yes"), pay=rows.pay + 0.5, age=rows.age - 0.2)
    weights = np.exp(truth(other) - truth(rows))  # the map keeps volumes, so their mean is one
    assert abs(weights.mean() - 1) < 5 * weights.std() / np.sqrt(20_000)

    core = {"num_visits": 0, "max_components": 1}
    monkeypatch.setattr(truths, "JointEBM", lambda random_state: JointEBM(training=core, random_state=random_state))
    monkeypatch.setattr(truths, "NUM_SEEDS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it says that marginals learn nothing
        truths.main(["--out", str(tmp_path)])
    lines = pd.read_csv(tmp_path / "truths.csv").set_index(["part", "metric"]).value
    for name, nats in shared.items():
        assert lines[name, "kl"] == pytest.approx(nats + 0.06, abs=0.12)
    assert abs(lines["close numbers", "correlation"]) < 5 / np.sqrt(2000)
    assert 0.05 < lines["survey", "kl"] < 1 and "**two groups**" in capsys.readouterr().out


def test_nltcs(tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run("nltcs", tables, monkeypatch).set_index(["method", "metric"]).value
    for method in (OURS, "independent", "Chow-Liu", "mixture"):
        assert -16 < lines[method, "test"] < 0
    fair_coins = 16 * np.log(0.5)
    assert lines["independent", "test"] == pytest.approx(fair_coins, abs=0.4)
    printed = capsys.readouterr().out
    load("nltcs", monkeypatch).main(["--data", "nowhere", "--out", str(tables / "out"), "--report"])
    assert capsys.readouterr().out in printed


def test_specialist_recovers_a_known_conditional(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(2, size=(3000, 2))
    y = np.where(generator.random(3000) < 0.8, x[:, 0], 1 - x[:, 0])
    codes = np.column_stack([x, y])
    specialists = load("specialists", monkeypatch)
    scores = specialists.boosted_trees(codes[:2000], codes[2000:], np.array([True, False, False]), 2)
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert scores.mean() == pytest.approx(-entropy, abs=4 * scores.std() / np.sqrt(1000))


@pytest.mark.filterwarnings("ignore::pandas.errors.PerformanceWarning")
def test_small_tables_are_judged_next_to_both_anchors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = load("small", monkeypatch)
    core = JointEBM(training={"num_visits": 0, "rows_per_component": 10})
    quick = {JointEBMClassifier: lambda: JointEBMClassifier(core), JointEBMRegressor: lambda: JointEBMRegressor(core)}
    methods = small.methods
    monkeypatch.setattr(
        small,
        "methods",
        lambda is_number: {name: quick.get(make, make) for name, make in methods(is_number).items()},
    )
    monkeypatch.setattr(small, "NUM_FOLDS", 2)
    monkeypatch.setattr(small, "TABLES", {name: small.TABLES[name] for name in ("iris", "diabetes")})
    small.main(["--out", str(tmp_path)])
    lines = pd.read_csv(tmp_path / "small.csv").set_index(["part", "metric", "method"]).value
    assert set(lines["class: iris", "accuracy"].index) == {OURS, "logistic regression", "boosted trees"}
    assert lines["class: iris", "accuracy"].between(0.85, 1).all() and (lines["class: iris", "log_loss"] < 0.7).all()
    assert lines["number: diabetes", "rmse"].between(50, 77).all()  # the standard deviation is 77
    assert "| iris, JointEBM |" in capsys.readouterr().out


def test_speed_is_that_of_rows_with_several_missing_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = load("speed", monkeypatch)
    rows = pd.DataFrame({name: np.arange(12) % (place + 2) for place, name in enumerate("abcdef")})
    holes = speed.several_missing(rows, "a")
    assert holes["a"].isna().all() and holes.isna().sum(axis=1).between(2, 4).all()
    assert speed.several_missing(rows, "a").equals(holes)
    train, asked = speed.factors(400, 5)
    assert (len(train), len(asked)) == (340, 60) and train.select_dtypes("number").shape[1] == 4
    monkeypatch.setattr(speed, "JointEBM", Quick)
    speed.run_table(
        speed.Parts(tmp_path / "speed.csv"), "5 columns", train, asked.head(20), ("c0", "c4"), tmp_path / "m"
    )
    lines = pd.read_csv(tmp_path / "speed.csv").set_index(["method", "metric"]).value
    assert set(lines.index.get_level_values(0)) == {
        OURS,
        "predict c0",
        "predict c4",
        "score_samples",
        "impute",
        "score_samples, complete rows",
    }
    assert (lines.loc[:, "rows_per_second"] > 0).all()
    assert lines["score_samples, complete rows", "evaluations"] < lines["predict c0", "evaluations"]


class Quick:
    """Makes estimators whose density is that of the reference."""

    load = staticmethod(JointEBM.load)

    def __new__(cls) -> JointEBM:  # type: ignore[misc]
        return JointEBM(training={"num_visits": 0}, num_draws=20)
