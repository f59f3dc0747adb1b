"""A mixture of products of categoricals over rows of codes, fitted by EM: a baseline with exact conditionals.

    p(c) = sum_m pi_m prod_j theta_jm(c_j)

Everything is exact: log p, any conditional, any sample, and training with missing entries (they are left out of the
product). A second, independent implementation in NumPy; the library's own is jointebm/tables/mixture.py.

Legend: N rows, V columns, K_j classes of column j, F = sum of K_j, M components. Codes are whole numbers, -1 is missing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.special import log_softmax, logsumexp


class MixtureOfProducts:
    """The mixture.

    Args:
        log_weights: log pi, shape (M,).
        log_probs: log theta_j for each column, shape (K_j, M).
    """

    def __init__(self, log_weights: np.ndarray, log_probs: Sequence[np.ndarray]) -> None:
        self.log_weights, self.log_probs = log_weights, list(log_probs)

    @classmethod
    def fit(
        cls,
        codes: np.ndarray,
        num_classes: Sequence[int],
        num_components: int,
        *,
        seed: int = 0,
        smoothing: float = 1.0,
        num_iterations: int = 200,
    ) -> "MixtureOfProducts":
        """EM from random responsibilities, with a prior of `smoothing` rows with the marginals in every component."""
        offsets = np.cumsum((0, *num_classes))
        one_hot = _one_hot(codes, offsets)  # (N, F)
        counts = one_hot.sum(axis=0) + 0.5
        prior = np.concatenate([part / part.sum() for part in np.split(counts, offsets[1:-1])])
        generator = np.random.default_rng(seed)
        shares = generator.dirichlet(np.full(num_components, 0.05), len(codes)).astype(np.float32)  # (N, M)
        before = -np.inf
        for _ in range(num_iterations):
            weights = shares.sum(axis=0) + 1e-3
            counts = one_hot.T @ shares + smoothing * prior[:, None]
            parts = np.split(counts, offsets[1:-1])
            mixture = cls(np.log(weights / weights.sum()), [np.log(part / part.sum(axis=0)) for part in parts])
            joint = one_hot @ np.concatenate(mixture.log_probs) + mixture.log_weights
            total = logsumexp(joint, axis=1, keepdims=True)
            shares = np.exp(joint - total)
            if total.mean() - before < 1e-4:
                break
            before = total.mean()
        return mixture

    @classmethod
    def fit_best(
        cls, codes: np.ndarray, num_classes: Sequence[int], sizes: Sequence[int], *, seed: int = 0
    ) -> "MixtureOfProducts":
        """The number of components with the best log-likelihood of a tenth of the rows, held out."""
        held_out = np.random.default_rng(seed).random(len(codes)) < 0.1
        fits = [cls.fit(codes[~held_out], num_classes, size, seed=seed) for size in sizes]
        return max(fits, key=lambda mixture: mixture.log_prob(codes[held_out]).mean())

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        np.savez(path, self.log_weights, *self.log_probs)

    @classmethod
    def load(cls, path: Path) -> "MixtureOfProducts":
        """Reads an .npz file."""
        with np.load(path) as file:
            arrays = [file[f"arr_{number}"] for number in range(len(file.files))]
        return cls(arrays[0], arrays[1:])

    def joint(self, codes: np.ndarray) -> np.ndarray:
        """log p(component, observed entries), shape (N, M)."""
        offsets = np.cumsum((0, *map(len, self.log_probs)))
        return _one_hot(codes, offsets) @ np.concatenate(self.log_probs) + self.log_weights

    def log_prob(self, codes: np.ndarray) -> np.ndarray:
        """log p(observed entries), shape (N,)."""
        return logsumexp(self.joint(codes), axis=1)

    def dependence(self, codes: np.ndarray) -> np.ndarray:
        """log p of each row minus that of independent columns with the same marginals, shape (N,)."""
        weights = np.exp(self.log_weights)
        marginals = [np.log(np.exp(table) @ weights) for table in self.log_probs]
        return self.log_prob(codes) - sum(table[codes[:, j]] for j, table in enumerate(marginals))

    def conditional(self, codes: np.ndarray, column: int) -> np.ndarray:
        """log p(c_j = k | the other observed entries), shape (N, K_j); exact for any missing entries."""
        others = codes.copy()
        others[:, column] = -1
        weights = log_softmax(self.joint(others), axis=1)
        return np.log(np.exp(weights) @ np.exp(self.log_probs[column]).T)

    def complete(self, codes: np.ndarray, *, seed: int = 0) -> np.ndarray:
        """One exact joint draw of the missing entries of each row."""
        generator = np.random.default_rng(seed)
        chosen = _choose(np.exp(log_softmax(self.joint(codes), axis=1)), generator)
        drawn = np.stack([_choose(np.exp(table).T[chosen], generator) for table in self.log_probs], axis=1)
        return np.where(codes < 0, drawn, codes)

    def sample(self, num: int, *, seed: int = 0) -> np.ndarray:
        """Complete rows, shape (num, V)."""
        return self.complete(np.full((num, len(self.log_probs)), -1), seed=seed)


def _one_hot(codes: np.ndarray, offsets: np.ndarray) -> csr_array:
    """Rows of ones at the features of the observed codes, shape (N, F)."""
    rows, columns = np.nonzero(codes >= 0)
    features = codes[rows, columns] + offsets[columns]
    return csr_array((np.ones(len(rows), np.float32), (rows, features)), shape=(len(codes), offsets[-1]))


def _choose(probs: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One column number per row, by the row's probabilities."""
    cumulative = probs.cumsum(axis=1)
    return (generator.random((len(probs), 1)) * cumulative[:, -1:] > cumulative).sum(axis=1)
