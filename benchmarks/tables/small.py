"""Small tables: one fit of JointEBM against linear models and boosted trees, by 5-fold cross-validation.

    python benchmarks/tables/small.py [--only iris] [--report]

iris, wine, breast cancer and diabetes come with scikit-learn, penguins with jointebm; rows of penguins with missing entries
are left out. Accuracy and log loss of a class, against logistic regression; RMSE of a number, against ridge regression. Both
anchors have standardised inputs and, where they need it, one-hot categories; boosted trees are scikit-learn's with default
settings. JointEBM has default settings, and its fit answers for every column. Means over the folds; `fit seconds` are CPU
seconds of one fit.
"""

import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib.resources import files

import numpy as np
import pandas as pd
from command_line import run_benchmark
from parts import Parts
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, log_loss, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from jointebm.estimators import JointEBMClassifier, JointEBMRegressor

NUM_FOLDS = 5


def of_sklearn(load: Callable[..., object]) -> tuple[pd.DataFrame, pd.Series]:
    found = load(as_frame=True)
    target = found.target  # type: ignore[attr-defined]
    if hasattr(found, "target_names"):
        target = target.map(dict(enumerate(found.target_names)))
    return found.data, target.rename("target")  # type: ignore[attr-defined]


def penguins() -> tuple[pd.DataFrame, pd.Series]:
    frame = pd.read_csv(files("jointebm.data") / "penguins.csv.gz", compression="gzip").dropna().reset_index(drop=True)
    return frame.drop(columns="species"), frame["species"]


TABLES: dict[str, Callable[[], tuple[pd.DataFrame, pd.Series]]] = {
    "iris": lambda: of_sklearn(load_iris),
    "wine": lambda: of_sklearn(load_wine),
    "breast cancer": lambda: of_sklearn(load_breast_cancer),
    "penguins": penguins,
    "diabetes": lambda: of_sklearn(load_diabetes),
}


def prepared(model: object) -> Pipeline:
    """Standardised numbers, and categories one-hot."""
    is_text = make_column_selector(dtype_exclude=np.number)
    one_hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    columns = make_column_transformer(
        (one_hot, is_text), (StandardScaler(), make_column_selector(dtype_include=np.number))
    )
    return make_pipeline(columns, model)


def methods(is_number: bool) -> dict[str, Callable[[], object]]:
    if is_number:
        return {
            "JointEBM": JointEBMRegressor,
            "ridge": lambda: prepared(RidgeCV(np.logspace(-3, 3, 13))),
            "boosted trees": lambda: prepared(HistGradientBoostingRegressor(random_state=0)),
        }
    return {
        "JointEBM": JointEBMClassifier,
        "logistic regression": lambda: prepared(LogisticRegression(max_iter=2000)),
        "boosted trees": lambda: prepared(HistGradientBoostingClassifier(random_state=0)),
    }


def judged(make: Callable[[], object], data: pd.DataFrame, target: pd.Series, num_folds: int) -> dict[str, float]:
    """Means over the folds."""
    is_number = pd.api.types.is_numeric_dtype(target)
    folds = (KFold if is_number else StratifiedKFold)(num_folds, shuffle=True, random_state=0)
    found: list[dict[str, float]] = []
    for train, test in folds.split(data, target):
        started = time.process_time()
        model = make().fit(data.iloc[train], target.iloc[train])  # type: ignore[attr-defined]
        seconds, truth = time.process_time() - started, target.iloc[test]
        predicted = model.predict(data.iloc[test])
        if is_number:
            found.append({"rmse": root_mean_squared_error(truth, predicted), "fit_seconds": seconds})
            continue
        probs = np.asarray(model.predict_proba(data.iloc[test]), dtype=float).clip(1e-15, 1)
        loss = log_loss(truth, probs / probs.sum(axis=1, keepdims=True), labels=model.classes_)
        found.append({"accuracy": accuracy_score(truth, predicted), "log_loss": loss, "fit_seconds": seconds})
    return pd.DataFrame(found).mean().to_dict()


def measure(_: Namespace, parts: Parts) -> None:
    for name, read in TABLES.items():
        data, target = read()
        is_number = pd.api.types.is_numeric_dtype(target)
        for method, make in methods(is_number).items():
            parts.run(
                f"{'number' if is_number else 'class'}: {name}",
                method,
                lambda make=make, data=data, target=target: judged(make, data, target, NUM_FOLDS),
            )


def main(argv: Sequence[str] | None = None) -> None:
    run_benchmark(__doc__, "small", measure, argv)


if __name__ == "__main__":
    main()
