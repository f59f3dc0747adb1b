"""Measures of answers: a two-sample test by boosted trees, the area under a ROC curve, and proper scores of draws."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold


def c2st(real: pd.DataFrame, samples: pd.DataFrame, *, seed: int = 0) -> float:
    """2 (1 - AUC), at most 1, of boosted trees that separate real rows from samples, 3 folds; 1 is indistinguishable."""
    both = pd.concat([real, samples[list(real)]], ignore_index=True)
    is_text = [not pd.api.types.is_numeric_dtype(real[name]) for name in real]
    table = np.column_stack(
        [
            both[name].astype("category").cat.codes if text else both[name]
            for name, text in zip(real, is_text, strict=True)
        ]
    )
    is_real = np.arange(len(both)) < len(real)
    areas = []
    for fit, test in StratifiedKFold(3, shuffle=True, random_state=seed).split(table, is_real):
        judge = HistGradientBoostingClassifier(categorical_features=is_text, random_state=seed)
        judge.fit(table[fit], is_real[fit])
        areas.append(roc_auc_score(is_real[test], judge.predict_proba(table[test])[:, 1]))
    return float(min(1.0, 2 * (1 - np.mean(areas))))


def judge_samples(real: pd.DataFrame, samples: pd.DataFrame) -> dict[str, float]:
    """Both judges of a generator."""
    return {"c2st": c2st(real, samples), "pair_trends": pair_trends(real, samples)}


def auroc(normal: np.ndarray, strange: np.ndarray) -> float:
    """Share of pairs in which the normal row has the higher score; ties count half."""
    return float(roc_auc_score(np.r_[np.ones(len(normal)), np.zeros(len(strange))], np.r_[normal, strange]))


def crps(truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """E|X - y| - E|X - X'| / 2 from draws of shape (D, N), shape (N,); the unbiased estimate for finite D."""
    num_draws = len(drawn)
    ranks = np.arange(num_draws)[:, None]
    spread = ((2 * ranks - num_draws + 1) * np.sort(drawn, axis=0)).sum(axis=0) / (num_draws * (num_draws - 1))
    return np.abs(drawn - truth).mean(axis=0) - spread


def energy_score(truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """E||X - y|| - E||X - X'|| / 2 of blocks: truth (N, F), draws (D, N, F), shape (N,); X' is the next draw."""
    to_truth = np.linalg.norm(drawn - truth, axis=2).mean(axis=0)
    between = np.linalg.norm(drawn - np.roll(drawn, 1, axis=0), axis=2).mean(axis=0)
    return to_truth - between / 2


def coverage(truth: np.ndarray, drawn: np.ndarray, *, seed: int = 0) -> Mapping[str, float]:
    """Coverage of 90% intervals of draws (D, N), ends included.

    `coverage`: the central interval, from the 5% to the 95% quantile. `shortest`: see `shortest_interval`. `randomised`:
    the central one with ties split by chance, which alone is .9 for the true distribution if values are atoms. `expected`:
    `coverage` of the first draw by the intervals of the others, which is what `coverage` would be if the draws were right.
    """
    return {
        "coverage": _held(truth, central_interval(drawn)),
        "expected": _held(drawn[0], central_interval(drawn[1:])),
        "shortest": _held(truth, shortest_interval(drawn)),
        "shortest_expected": _held(drawn[0], shortest_interval(drawn[1:])),
        "randomised": _share_inside(truth, drawn, np.random.default_rng(seed)),
    }


def central_interval(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From the 5% to the 95% quantile of draws (D, N), both of them draws."""
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0, method="closest_observation")
    return low, high


def shortest_interval(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shortest interval that holds 90% of D + 1 values, D of them draws (D, N); of equally short ones the fullest.

    An atom of 90% alone is an interval of length zero, where the central one would reach to the next atoms.
    """
    drawn = np.sort(drawn, axis=0)
    num = min(len(drawn), math.ceil(0.9 * (len(drawn) + 1)))
    low, high = drawn[: len(drawn) - num + 1], drawn[num - 1 :]
    held = np.stack([((drawn >= first) & (drawn <= last)).sum(axis=0) for first, last in zip(low, high, strict=True)])
    chosen = np.lexsort((-held, high - low), axis=0)[0]
    return tuple(np.take_along_axis(ends, chosen[None], axis=0)[0] for ends in (low, high))


def _held(truth: np.ndarray, interval: tuple[np.ndarray, np.ndarray]) -> float:
    """Share of the truths inside, ends included."""
    return float(((interval[0] <= truth) & (truth <= interval[1])).mean())


def _share_inside(truth: np.ndarray, drawn: np.ndarray, generator: np.random.Generator) -> float:
    """Share of the truths whose rank among their draws is in the central 90%, ties split at random."""
    below, ties = (drawn < truth).sum(axis=0), (drawn == truth).sum(axis=0)
    rank = (below + generator.random(len(truth)) * (ties + 1)) / (len(drawn) + 1)
    return float(((rank > 0.05) & (rank < 0.95)).mean())


def pair_trends(real: pd.DataFrame, samples: pd.DataFrame) -> float:
    """Mean over pairs of columns of 1 - total variation between their joint tables, numbers in tenths; 1 is equality."""
    codes = [_coarse(real, real), _coarse(samples, real)]
    shares = []
    for i, first in enumerate(real):
        for second in list(real)[i + 1 :]:
            tables = [pd.crosstab(each[first], each[second], normalize=True) for each in codes]
            shares.append(1 - tables[0].sub(tables[1], fill_value=0).fillna(0).abs().to_numpy().sum() / 2)
    return float(np.mean(shares))


def _coarse(frame: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Numbers as tenths of a reference."""
    coarse = {}
    for name in reference:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(reference[name]):
            edges = np.unique(np.quantile(reference[name], np.linspace(0.1, 0.9, 9)))
            column = pd.Series(np.searchsorted(edges, column.to_numpy()))
        coarse[name] = column.reset_index(drop=True)
    return pd.DataFrame(coarse)
