"""The anchors: other packages, each run as a command in its own environment on the files of a folder.

    ANCHORS/bin/python benchmarks/tables/anchors.py NAME FOLDER

A generator reads train.parquet and writes samples.parquet with the number of rows in num_samples.txt. A specialist reads
codes.npz (train, test, ordered, column) and writes log_scores.npy, the log-probability of each test row's code. An
imputer reads train.parquet and holes.parquet and writes draw-0.parquet and so on. See requirements.txt for versions.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
NRGBOOST_ROWS = 5_000  # all 30,162 complete rows of Adult take ten CPU minutes
# Its defaults are 200 and 80,000; the time grows with the square of the number of trees.
NRGBOOST_SIZE = {"num_trees": 60, "num_model_samples": 20_000}
UTREES_ORDERS, UTREES_ROUNDS = 10, 50  # its defaults, 50 and 100, take ten times as long
FLOOR = 1e-6  # of a probability: bounds the loss of a specialist on codes not seen in training


def lightgbm(folder: Path) -> None:
    """Boosted trees for one column of codes, the number of leaves chosen on a tenth of the rows."""
    import lightgbm as lgb

    files = np.load(folder / "codes.npz")
    column, ordered = int(files["column"]), files["ordered"]
    train, test = (files[name].astype(float) for name in ("train", "test"))
    known = train[:, column] >= 0
    (x, y), (x_test, y_test) = ((np.delete(t, column, axis=1), t[:, column].astype(int)) for t in (train[known], test))
    levels = np.unique(y)
    held_out = np.random.default_rng(0).random(len(y)) < 0.1
    held_out &= np.isin(y, y[~held_out])
    categorical = np.flatnonzero(~np.delete(ordered, column)).tolist()
    fits = []
    for leaves in (8, 31):
        model = lgb.LGBMClassifier(
            n_estimators=600, learning_rate=0.05, num_leaves=leaves, n_jobs=THREADS, random_state=0, verbosity=-1
        )
        model.fit(
            x[~held_out], y[~held_out], eval_set=[(x[held_out], y[held_out])], categorical_feature=categorical,
            callbacks=[lgb.early_stopping(15, verbose=False)],
        )  # fmt: skip
        fits.append((next(iter(model.best_score_["valid_0"].values())), leaves, model))
    model = min(fits, key=lambda fit: fit[:2])[2]
    probs = np.full((len(y_test), max(levels.max(), y_test.max()) + 1), FLOOR)
    probs[:, model.classes_] = model.predict_proba(x_test).clip(FLOOR)
    np.save(folder / "log_scores.npy", np.log(probs[np.arange(len(y_test)), y_test]))


def nrgboost(folder: Path) -> None:
    """Generative boosting on some complete rows: samples."""
    train = pd.read_parquet(folder / "train.parquet").dropna()
    train = train.sample(min(NRGBOOST_ROWS, len(train)), random_state=0)
    _nrgboost(_categories(train)).sample(_num_samples(folder), num_threads=THREADS, seed=0).to_parquet(
        folder / "samples.parquet"
    )


def nrgboost_codes(folder: Path) -> None:
    """Generative boosting of codes on some complete rows: the log score of every column, shape (rows, columns)."""
    files = np.load(folder / "codes.npz")
    train, test, ordered = files["train"], files["test"], files["ordered"]
    train = train[(train >= 0).all(axis=1)]
    train = np.random.default_rng(0).permutation(train)[:NRGBOOST_ROWS]
    frames = [pd.DataFrame({f"c{j}": rows[:, j] for j in range(rows.shape[1])}) for rows in (train, test)]
    known = {name: pd.CategoricalDtype(range(frames[0][name].max() + 1)) for name in frames[0]}
    known = {name: dtype for j, (name, dtype) in enumerate(known.items()) if not ordered[j]}
    model = _nrgboost(frames[0].astype(known))
    asked = model.transform(frames[1].astype(known))
    scores = []
    for j in range(test.shape[1]):
        first = train[:, j].min() if ordered[j] else 0
        logits = model.booster.predict(asked, slice_dims=[j], stop=None, cumulative=False, normalize=True)
        probs = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs = (probs / probs.sum(axis=1, keepdims=True)).clip(FLOOR)
        places = (test[:, j] - first).clip(0, probs.shape[1] - 1)
        scores.append(np.log(probs[np.arange(len(test)), places]))
    np.save(folder / "log_scores.npy", np.stack(scores, axis=1))


def arf(folder: Path) -> None:
    """Adversarial random forest on the complete rows: samples as it draws them, whole numbers not rounded."""
    from arfpy.arf import arf as forest

    train = pd.read_parquet(folder / "train.parquet").dropna().reset_index(drop=True)
    fitted = forest(x=train, num_trees=20, min_node_size=5, random_state=0, verbose=False)
    fitted.forde()
    fitted.forge(n=_num_samples(folder)).to_parquet(folder / "samples.parquet")


def utrees(folder: Path) -> None:
    """Unmasking trees: draws of the missing entries, numbers by balanced trees of boosted trees."""
    from utrees import UnmaskingTrees

    frames = [pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "holes")]
    levels = _levels(frames[0])
    train, holes = (_as_codes(frame, levels).to_numpy(dtype=float) for frame in frames)
    kinds = ["categorical" if name in levels else "continuous" for name in frames[0]]
    model = UnmaskingTrees(
        duplicate_K=UTREES_ORDERS, xgboost_kwargs={"n_jobs": THREADS, "n_estimators": UTREES_ROUNDS}, random_state=0
    ).fit(train, quantize_cols=kinds)
    num_draws = int((folder / "num_draws.txt").read_text())
    for draw, filled in enumerate(model.impute(n_impute=num_draws, X=holes)):
        frame = pd.DataFrame(filled, columns=list(frames[0]))
        for name, dtype in levels.items():
            frame[name] = pd.Categorical.from_codes(frame[name].astype(int), dtype=dtype).astype(str)
        frame.to_parquet(folder / f"draw-{draw}.parquet")


def miceforest(folder: Path) -> None:
    """Chained equations with boosted trees and mean matching: draws of the missing entries."""
    import miceforest as mf

    train, holes = (_categories(pd.read_parquet(folder / f"{name}.parquet")) for name in ("train", "holes"))
    holes = holes.astype({name: train[name].dtype for name in train if train[name].dtype == "category"})
    num_draws = int((folder / "num_draws.txt").read_text())
    num_forests = min(
        num_draws, 5
    )  # data sets with forests of their own; each imputes the new rows as often as is needed
    kernel = mf.ImputationKernel(train, num_datasets=num_forests, mean_match_strategy="fast", random_state=0)
    kernel.mice(3, num_threads=THREADS)
    for draw in range(num_draws):
        filled = kernel.impute_new_data(holes, datasets=[draw % num_forests], random_state=draw, iterations=3)
        complete = filled.complete_data(draw % num_forests)
        complete.astype({name: str for name in train if train[name].dtype == "category"}).to_parquet(
            folder / f"draw-{draw}.parquet"
        )


def miceforest_itself(folder: Path) -> None:
    """The same, all defaults, for the missing entries of the rows it is fitted to: one data set for each draw."""
    import miceforest as mf

    train = _categories(pd.read_parquet(folder / "train.parquet"))
    num_draws = int((folder / "num_draws.txt").read_text())
    kernel = mf.ImputationKernel(train, num_datasets=num_draws, random_state=0)
    kernel.mice(5, num_threads=THREADS)
    for draw in range(num_draws):
        complete = kernel.complete_data(draw)
        complete.astype({name: str for name in train if train[name].dtype == "category"}).to_parquet(
            folder / f"draw-{draw}.parquet"
        )


def missforest(folder: Path) -> None:
    """Random forests in turns until they change little: one guess of the missing entries."""
    import lightgbm as lgb
    from missforest import MissForest

    frames = [pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "holes")]
    levels = _levels(frames[0])
    texts = list(levels)
    train, holes = (_as_codes(frame, levels) for frame in frames)
    imputer = MissForest(
        clf=lgb.LGBMClassifier(n_jobs=THREADS, verbosity=-1),
        rgr=lgb.LGBMRegressor(n_jobs=THREADS, verbosity=-1),
        categorical=texts,
        verbose=0,
    )
    imputer.fit(train)
    guess = imputer.transform(holes)[list(train)]
    for name in texts:
        guess[name] = pd.Categorical.from_codes(guess[name].astype(int), dtype=levels[name]).astype(str)
    guess.to_parquet(folder / "draw-0.parquet")


def _categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Text as categories."""
    return frame.astype({name: "category" for name in frame if frame[name].dtype == object})


def _levels(frame: pd.DataFrame) -> dict[str, pd.CategoricalDtype]:
    """The levels of columns of text."""
    texts = [name for name in frame if frame[name].dtype == object]
    return {name: pd.CategoricalDtype(sorted(frame[name].dropna().unique())) for name in texts}


def _as_codes(frame: pd.DataFrame, levels: dict[str, pd.CategoricalDtype]) -> pd.DataFrame:
    """Text as numbers of its levels, NaN is missing."""
    codes = {name: frame[name].astype(dtype).cat.codes.replace(-1, np.nan) for name, dtype in levels.items()}
    return frame.assign(**codes)


def _nrgboost(frame: pd.DataFrame) -> object:
    from nrgboost import Dataset, NRGBooster

    return NRGBooster.fit(Dataset(frame), {"num_threads": THREADS, **NRGBOOST_SIZE}, seed=0)


def _num_samples(folder: Path) -> int:
    return int((folder / "num_samples.txt").read_text())


if __name__ == "__main__":
    anchors = (lightgbm, nrgboost, nrgboost_codes, arf, miceforest, miceforest_itself, missforest, utrees)
    {each.__name__: each for each in anchors}[sys.argv[1]](Path(sys.argv[2]))
