"""Specification of the mixture of products, the exact baseline of the benchmarks, against enumeration."""

from types import ModuleType

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from support.benchmark_scripts import load

CLASSES = (2, 3, 4)
STATES = np.stack(np.meshgrid(*map(np.arange, CLASSES), indexing="ij"), axis=-1).reshape(-1, 3)
NUM_DRAWS = 20_000


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("mixture_of_products", monkeypatch)


@pytest.fixture
def mixture(module: ModuleType) -> object:
    """Three components with random weights and tables."""
    generator = np.random.default_rng(0)
    tables = [log_softmax(2 * generator.normal(size=(count, 3)), axis=0) for count in CLASSES]
    return module.MixtureOfProducts(log_softmax(generator.normal(size=3)), tables)


def by_definition(mixture: object) -> np.ndarray:
    """log p of all states, component by component."""
    parts = [
        mixture.log_weights[m] + sum(table[STATES[:, j], m] for j, table in enumerate(mixture.log_probs))
        for m in range(3)
    ]
    return logsumexp(np.stack(parts), axis=0)


def agreeing(row: np.ndarray) -> np.ndarray:
    """The states that agree with the observed codes of a row."""
    return ((row < 0) | (row == STATES)).all(axis=1)


@pytest.mark.parametrize("row", [[-1, -1, -1], [1, -1, 2], [-1, 0, -1], [0, 2, 3]])
def test_log_prob_marginalises_missing_entries(mixture: object, row: list[int]) -> None:
    codes = np.array([row])
    expected = logsumexp(by_definition(mixture)[agreeing(codes[0])])
    assert mixture.log_prob(codes)[0] == pytest.approx(expected, abs=1e-6)  # one-hot rows are float32


@pytest.mark.parametrize("row", [[-1, -1, -1], [1, -1, 2], [-1, 0, -1], [0, 2, 3]])
@pytest.mark.parametrize("column", range(3))
def test_conditional_is_that_of_the_enumerated_joint(mixture: object, row: list[int], column: int) -> None:
    others = np.array(row)
    others[column] = -1  # its own code is not looked at
    joint = np.where(agreeing(others), by_definition(mixture), -np.inf)
    by_class = [logsumexp(joint[STATES[:, column] == k]) for k in range(CLASSES[column])]
    np.testing.assert_allclose(
        mixture.conditional(np.array([row]), column)[0], log_softmax(np.array(by_class)), atol=1e-6
    )


def test_dependence_compares_with_the_enumerated_marginals(mixture: object) -> None:
    joint = by_definition(mixture)
    independent = sum(
        np.array([logsumexp(joint[STATES[:, j] == k]) for k in range(count)])[STATES[:, j]]
        for j, count in enumerate(CLASSES)
    )
    np.testing.assert_allclose(mixture.dependence(STATES), joint - independent, atol=1e-6)


@pytest.mark.parametrize("row", [[-1, -1, -1], [1, -1, -1], [-1, 0, 3]])
def test_completions_follow_the_enumerated_conditional(mixture: object, row: list[int]) -> None:
    drawn = mixture.complete(np.tile(row, (NUM_DRAWS, 1)), seed=1)
    allowed = agreeing(np.array(row))
    probs = np.exp(log_softmax(np.where(allowed, by_definition(mixture), -np.inf)))
    shares = (drawn[:, None] == STATES).all(axis=2).mean(axis=0)
    assert not shares[~allowed].any()
    errors = np.sqrt(probs * (1 - probs) / NUM_DRAWS)[allowed]
    assert (np.abs(shares - probs)[allowed] < 4.5 * errors + 1e-12).all()  # 24 states: one in 6,000 seeds fails


def test_more_iterations_never_lower_the_likelihood(module: ModuleType, mixture: object) -> None:
    codes = mixture.sample(2000, seed=2)
    codes[np.random.default_rng(3).random(codes.shape) < 0.2] = -1
    fits = [
        module.MixtureOfProducts.fit(codes, CLASSES, 3, smoothing=1e-6, num_iterations=number) for number in (1, 5, 25)
    ]
    scores = [fit.log_prob(codes).mean() for fit in fits]
    assert scores == sorted(scores)
    independent = module.MixtureOfProducts.fit(codes, CLASSES, 1, smoothing=1e-6)
    shares = np.bincount(codes[codes[:, 2] >= 0, 2]) / (codes[:, 2] >= 0).sum()
    np.testing.assert_allclose(
        np.exp(independent.log_probs[2][:, 0]), shares, atol=1e-3
    )  # half a row per class is added
    assert scores[-1] > independent.log_prob(codes).mean()
