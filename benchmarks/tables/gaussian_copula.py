"""A Gaussian copula over the columns of a table: a generator with exact marginals and linear dependence of ranks.

Each column is ranked, with ties and equal categories split at random; ranks become normal scores, fitted by one Gaussian.
A sample is mapped back to the empirical quantiles. Categories are ordered by frequency. Complete rows only.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri


def sample_copula(train: pd.DataFrame, num: int, *, seed: int = 0) -> pd.DataFrame:
    """Fits to the complete rows and draws."""
    rows = train.dropna()
    generator = np.random.default_rng(seed)
    sorts = {name: _sorted(rows[name]) for name in rows}
    scores = np.stack([_normal_scores(rows[name], sorts[name], generator) for name in rows], axis=1)
    normal = generator.multivariate_normal(np.zeros(len(sorts)), np.corrcoef(scores, rowvar=False), size=num)
    places = (ndtr(normal) * len(rows)).astype(int)  # ndtr is below 1
    return pd.DataFrame({name: values[places[:, j]] for j, (name, values) in enumerate(sorts.items())})


def _sorted(column: pd.Series) -> np.ndarray:
    """All values of a column in the order of its ranks."""
    if pd.api.types.is_numeric_dtype(column):
        return np.sort(column.to_numpy())
    counts = column.value_counts()
    return np.repeat(counts.index.to_numpy(), counts.to_numpy())


def _normal_scores(column: pd.Series, ordered: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Normal scores of the ranks, a random one among equals."""
    codes = pd.Index(pd.unique(ordered)).get_indexer(column)
    ranks = np.lexsort((generator.random(len(codes)), codes)).argsort()
    return ndtri((ranks + 0.5) / len(codes))
