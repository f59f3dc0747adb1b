"""Baseline outlier detectors: IsolationForest and the distance to the nearest neighbours."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tables_data import numbers

Scorer = Callable[[pd.DataFrame], np.ndarray]  # higher is more normal


def isolation_forest(train: pd.DataFrame) -> Scorer:
    """Fitted to complete rows."""
    encode = ColumnsAsNumbers(train)
    forest = IsolationForest(n_estimators=200, random_state=0).fit(encode(train))
    return lambda rows: forest.score_samples(encode(rows))


def neighbours(train: pd.DataFrame) -> Scorer:
    """Minus the mean distance to the five nearest complete rows."""
    encode = ColumnsAsNumbers(train)
    nearest = NearestNeighbors(n_neighbors=5).fit(encode(train))
    return lambda rows: -nearest.kneighbors(encode(rows))[0].mean(axis=1)


class ColumnsAsNumbers:
    """Standardised numbers and one-hot categories."""

    def __init__(self, train: pd.DataFrame) -> None:
        self.numbers = numbers(train)
        self.texts = [name for name in train if name not in self.numbers]
        self.scaler = StandardScaler().fit(train[self.numbers])
        self.one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(train[self.texts])

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        return np.hstack([self.scaler.transform(rows[self.numbers]), self.one_hot.transform(rows[self.texts])])
