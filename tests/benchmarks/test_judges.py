"""Specification of the measures of the table benchmarks, against definitions and known distributions."""

from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from support.benchmark_scripts import load

NUM_DRAWS, NUM = 9, 4000


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("judges", monkeypatch)


def test_c2st_is_near_one_for_equal_distributions_and_near_zero_for_others(judges: ModuleType) -> None:
    generator = np.random.default_rng(0)

    def rows(shift: float) -> pd.DataFrame:
        return pd.DataFrame({"x": generator.normal(size=1500) + shift, "kind": generator.choice(["a", "b"], 1500)})

    assert judges.c2st(rows(0), rows(0)) > 0.9
    assert judges.c2st(rows(0), rows(9)) < 0.01


def test_auroc_is_the_share_of_pairs(judges: ModuleType) -> None:
    normal, strange = np.array([3.0, 1.0]), np.array([0.0, 1.0, 5.0])
    pairs = (normal[:, None] > strange) + 0.5 * (normal[:, None] == strange)
    assert judges.auroc(normal, strange) == pytest.approx(pairs.mean())


def test_crps_is_its_definition_over_distinct_draws(judges: ModuleType) -> None:
    generator = np.random.default_rng(0)
    truth, drawn = generator.normal(size=5), generator.normal(size=(NUM_DRAWS, 5))
    distinct = ~np.eye(NUM_DRAWS, dtype=bool)
    between = np.abs(drawn[:, None] - drawn[None])[distinct].mean(axis=0)
    np.testing.assert_allclose(judges.crps(truth, drawn), np.abs(drawn - truth).mean(axis=0) - between / 2)


def test_energy_score_is_lowest_for_the_true_distribution(judges: ModuleType) -> None:
    generator = np.random.default_rng(0)
    truth, draws = generator.normal(size=(NUM, 2)), generator.normal(size=(NUM_DRAWS, NUM, 2))
    right = judges.energy_score(truth, draws)
    for wrong in (0.5 * draws, 2 * draws, draws + 1):
        gains = judges.energy_score(truth, wrong) - right
        assert gains.mean() > 4 * gains.std() / np.sqrt(NUM)


def test_coverage_of_the_true_distribution_is_90_percent_with_and_without_ties(judges: ModuleType) -> None:
    generator = np.random.default_rng(0)
    truth, drawn = generator.normal(size=NUM), generator.normal(size=(99, NUM))
    error = np.sqrt(0.9 * 0.1 / NUM)
    assert judges.coverage(truth, drawn)["coverage"] == pytest.approx(
        0.9, abs=0.02 + 4 * error
    )  # quantiles of 99 draws
    for step in (1e-9, 1.0):
        found = judges.coverage(np.round(truth / step), np.round(drawn / step))
        assert found["randomised"] == pytest.approx(0.9, abs=4 * error)


def test_the_shortest_interval_is_the_narrowest_window_of_sorted_draws(judges: ModuleType) -> None:
    generator = np.random.default_rng(0)
    for drawn in (generator.exponential(size=(50, 30)), generator.integers(6, size=(50, 30)).astype(float)):
        low, high = judges.shortest_interval(drawn)
        assert (((low <= drawn) & (drawn <= high)).sum(axis=0) >= 46).all()  # 90% of 51
        for entry, values in enumerate(drawn.T):
            pairs = [(a, b) for a in values for b in values if ((a <= values) & (values <= b)).sum() >= 46]
            shortest = min(b - a for a, b in pairs)
            assert high[entry] - low[entry] == shortest
            fullest = max(((a <= values) & (values <= b)).sum() for a, b in pairs if b - a == shortest)
            assert ((low[entry] <= values) & (values <= high[entry])).sum() == fullest


def test_expected_coverage_is_that_of_the_true_distribution(judges: ModuleType) -> None:
    """An atom of 92%: intervals that include their ends hold more than 90%, and the central one more than the shortest."""
    generator = np.random.default_rng(0)

    def values(*shape: int) -> np.ndarray:
        return np.where(generator.random(shape) < 0.92, 0.0, generator.exponential(size=shape))

    found = judges.coverage(values(NUM), values(100, NUM))
    error = np.sqrt(2 * 0.08 * 0.92 / NUM)
    assert found["coverage"] == pytest.approx(found["expected"], abs=4 * error)
    assert found["shortest"] == pytest.approx(found["shortest_expected"], abs=4 * error)
    assert found["coverage"] > found["shortest"] + 0.01 > 0.92
    overconfident = judges.coverage(values(NUM) + 1, values(100, NUM))
    assert overconfident["coverage"] < 0.5 < overconfident["expected"]  # `expected` depends on the draws alone


def test_pair_trends_is_one_minus_the_total_variation(judges: ModuleType) -> None:
    real = pd.DataFrame({"a": ["x", "x", "y", "y"], "b": ["u", "u", "v", "v"]})
    crossed = pd.DataFrame({"a": ["x", "x", "y", "y"], "b": ["u", "v", "u", "v"]})
    assert judges.pair_trends(real, real) == 1
    assert judges.pair_trends(real, crossed) == pytest.approx(0.5)


def test_copula_keeps_marginals_and_the_sign_of_dependence(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=NUM)
    rows = pd.DataFrame(
        {"x": x, "minus": -x + 0.1 * generator.normal(size=NUM), "kind": np.where(x > 1, "rare", "often")}
    )
    samples = load("gaussian_copula", monkeypatch).sample_copula(rows, NUM)
    assert set(samples["x"]) <= set(rows["x"])
    share = (rows["kind"] == "rare").mean()
    assert (samples["kind"] == "rare").mean() == pytest.approx(share, abs=6 * np.sqrt(share * (1 - share) / NUM))
    assert samples[["x", "minus"]].corr().iloc[0, 1] < -0.9
    assert samples["x"][samples["kind"] == "rare"].mean() > samples["x"].mean() + 0.5


def test_parts_run_once_and_share_their_seconds(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = load("parts", monkeypatch).Parts(tmp_path / "parts.csv", only="c")
    asked = []

    def work() -> dict[str, dict[str, float]]:
        asked.append(1)
        return {"c: 1": {"score": 0.25}, "c: 2": {"score": 0.75}}

    parts.run_together(["c: 1", "c: 2"], "ours", work)
    parts.run_together(["c: 1", "c: 2"], "ours", work)
    parts.run_together(["c: 1", "c: 2"], "c of theirs", lambda: {"c: 1": {"score": 0.5}, "c: 2": {"score": 0.25}})
    parts.run("left out", "ours", lambda: {"score": 1.0})
    assert len(asked) == 1
    assert parts.table().part.tolist() == ["c: 1", "c: 2"] * 2
    assert parts.report().splitlines()[4:7] == [
        "| 1 | 0.250 | 0.500 |",
        "| 2 | 0.750 | 0.250 |",
        "| mean | 0.500 | 0.375 |",
    ]
