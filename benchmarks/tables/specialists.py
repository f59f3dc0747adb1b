"""A boosted-tree specialist for one column of codes: scikit-learn's, lightly tuned."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

LEAVES = (31, 8)  # of a tree
MANY = (
    20  # classes; from there on only small trees and larger steps are tried, since an iteration fits a tree per class
)
FLOOR = 1e-6  # of a probability: bounds the loss of a specialist on codes not seen in training


def boosted_trees(train: np.ndarray, test: np.ndarray, ordered: np.ndarray, column: int) -> np.ndarray:
    """log p(code of the column | all others) of each test row, with the tree size that is best on a tenth of the rows.

    Numbers are ordered codes to the trees, categories are categories, missing codes (-1) are missing.
    """
    known = train[:, column] >= 0
    x, y = np.delete(train[known], column, axis=1).astype(float), train[known, column]
    x[x < 0] = np.nan
    held_out = np.random.default_rng(0).random(len(y)) < 0.1
    held_out &= np.isin(y, y[~held_out])
    is_many = len(np.unique(y)) >= MANY
    fits = []
    for leaves in LEAVES[is_many:]:
        trees = HistGradientBoostingClassifier(
            max_leaf_nodes=leaves,
            learning_rate=0.1 if is_many else 0.06,
            l2_regularization=20.0,  # without it rare classes overfit: country -1.19 nats instead of -.42
            max_iter=400,
            early_stopping=True,
            n_iter_no_change=10,
            categorical_features=~np.delete(ordered, column),
            random_state=0,
        )
        trees.fit(x[~held_out], y[~held_out], X_val=x[held_out], y_val=y[held_out])
        fits.append(trees)
    best = max(fits, key=lambda trees: _log_scores(trees, x[held_out], y[held_out]).mean())
    return _log_scores(best, np.delete(test, column, axis=1).astype(float), test[:, column])


def _log_scores(trees: HistGradientBoostingClassifier, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    classes = trees.classes_.astype(int)
    probs = np.full((len(y), max(classes.max(), y.max()) + 1), FLOOR)
    probs[:, classes] = trees.predict_proba(x).clip(FLOOR)
    return np.log(probs[np.arange(len(y)), y])
