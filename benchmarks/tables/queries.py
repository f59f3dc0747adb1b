"""Any subset given the rest: 10, 25, 50 or 75% of each test row hidden at random, and everybody asked for 50 joint draws.

    python benchmarks/tables/queries.py --data DIR [--anchors ANCHORS/bin/python]

Training rows have 10% hidden, for all alike (miceforest needs some). Per hidden entry: Brier and log score of
categories, with the probability of a category (its count + its share in training) / (draws + 1), so that 50 draws cannot
say "never"; CRPS of numbers in standard deviations, and their 90% coverage, ties split by chance. `energy`: the energy
score of all that is hidden in a row as one block, numbers in standard deviations, categories as 0 or 0.5 per level.
IterativeImputer answers numbers only, MissForest gives one guess and no distribution.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anchors_run import draws_of
from judges import coverage, crps, energy_score
from mixture_of_products import MixtureOfProducts
from ours import codes_of, frame_of_codes
from parts import Parts
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from tables_data import adult, arguments_of, numbers, read_table, split, with_holes

from jointebm.estimators import JointEBM

NUM_DRAWS, NUM_ROWS = 50, 300
RATES = (0.1, 0.25, 0.5, 0.75)
Draws = list[pd.DataFrame]


def judged(train: pd.DataFrame, test: pd.DataFrame, holes: pd.DataFrame, draws: Draws) -> dict[str, float]:
    """All scores; entries that an imputer left missing are not answered, and their scores are NaN."""
    truths, drawns, briers, logs, spreads, covers, weights = ([] for _ in range(7))
    for name in train:
        hidden = (holes[name].isna() & test[name].notna()).to_numpy()
        drawn = np.stack([each[name].to_numpy() for each in draws])  # (D, N)
        if name in numbers(train):
            scale, truth = train[name].std(), test[name].to_numpy(dtype=float)
            drawn = drawn.astype(float)
            spreads.append(crps(truth[hidden], drawn[:, hidden]) / scale)
            covers.append(coverage(truth[hidden], drawn[:, hidden])["randomised"])
            weights.append(hidden.sum())
            truths.append(np.where(hidden, truth / scale, 0)[:, None])
            drawns.append(np.where(hidden, drawn / scale, 0)[..., None])
            continue
        shares = train[name].value_counts(normalize=True)
        levels = shares.index.to_numpy()
        is_true = (test[name].to_numpy()[:, None] == levels)[hidden]  # (n, K)
        is_drawn = drawn[..., None] == levels  # (D, N, K)
        probs = (is_drawn[:, hidden].sum(axis=0) + shares.to_numpy()) / (len(draws) + 1)
        briers.append(((probs - is_true) ** 2).sum(axis=1))
        logs.append(np.log(probs[is_true]))
        truths.append(((test[name].to_numpy()[:, None] == levels) & hidden[:, None]) * 0.5)
        drawns.append((is_drawn & hidden[:, None]) * 0.5)
    rows = holes.isna().any(axis=1).to_numpy() & test.notna().all(axis=1).to_numpy()
    blocks = np.concatenate(truths, axis=1)[rows], np.concatenate(drawns, axis=2)[:, rows]
    return {
        "brier": np.concatenate(briers).mean(),
        "log_score": np.concatenate(logs).mean(),
        "crps": np.concatenate(spreads).mean(),
        "coverage": np.average(covers, weights=weights) if len(draws) > 2 else np.nan,  # a single guess has no interval
        "energy": energy_score(*blocks).mean(),
    }


def iterative(train: pd.DataFrame, holes: pd.DataFrame) -> Draws:
    """Draws from Bayesian ridge regressions of each column on the others; categories as their numbers, not answered."""
    texts = [name for name in train if name not in numbers(train)]
    levels = {name: pd.CategoricalDtype(sorted(train[name].dropna().unique())) for name in texts}
    tables = []
    for frame in (train, holes):
        codes = {name: frame[name].astype(levels[name]).cat.codes.astype(float).replace(-1, np.nan) for name in texts}
        tables.append(frame.assign(**codes))
    imputer = IterativeImputer(
        sample_posterior=True, min_value=tables[0].min(), max_value=tables[0].max(), random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged: with draws from the posterior it never does
        imputer.fit(tables[0])
        draws = []
        for draw in range(NUM_DRAWS):
            imputer.random_state_ = np.random.RandomState(draw)
            filled = pd.DataFrame(imputer.transform(tables[1]), columns=list(train))
            draws.append(filled.assign(**dict.fromkeys(texts, "")))
    return draws


class Table:
    """One table: training rows, test rows, and our model and the mixture, fitted when they are first asked."""

    def __init__(self, train: pd.DataFrame, test: pd.DataFrame) -> None:
        self.train = with_holes(train, 0.1, seed=1)
        self.test = test.head(NUM_ROWS).astype(dict.fromkeys(numbers(test), float))
        self._ours: JointEBM | None = None
        self._mixture: MixtureOfProducts | None = None

    @property
    def ours(self) -> JointEBM:
        if self._ours is None:
            self._ours = JointEBM(unseen="missing").fit(self.train)
        return self._ours

    def of_mixture(self, holes: pd.DataFrame) -> Draws:
        """In the codes of our model."""
        if self._mixture is None:
            codes = codes_of(self.ours, self.train)
            self._mixture = MixtureOfProducts.fit_best(codes, self.ours.codec_.num_codes, (4, 16, 64))
        codes = codes_of(self.ours, holes, unseen="missing")
        completed = (self._mixture.complete(codes, seed=draw) for draw in range(NUM_DRAWS))
        filled = (frame_of_codes(self.ours, each, seed=draw) for draw, each in enumerate(completed))
        return [holes.where(holes.notna(), each) for each in filled]


def run_table(parts: Parts, name: str, table: Table, anchors: Path | None) -> None:
    """One part per rate and method."""

    def anchor(method: str, holes: pd.DataFrame, num_draws: int) -> Draws:
        return draws_of(anchors, method, table.train, holes, num_draws=num_draws, threads=1)

    methods: dict[str, Callable[[pd.DataFrame], Draws]] = {
        "JointEBM": lambda holes: table.ours.impute(holes, n=NUM_DRAWS),
        "mixture": table.of_mixture,
        "IterativeImputer": lambda holes: iterative(table.train, holes),
    }
    if anchors is not None:
        methods["MissForest"] = lambda holes: (
            anchor("missforest", holes, 1) * 2
        )  # two equal draws: a guess without spread
        methods["miceforest"] = lambda holes: anchor("miceforest", holes, NUM_DRAWS)
    for method, impute in methods.items():
        for rate in RATES:
            holes = with_holes(table.test, rate, seed=2)

            def measure(impute: Callable = impute, holes: pd.DataFrame = holes) -> dict[str, float]:
                return judged(table.train, table.test, holes, impute(holes))

            parts.run(f"{name}, {rate:.0%} hidden", method, measure)


def main() -> None:
    arguments = arguments_of(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    parts = Parts(arguments.out / "queries.csv", arguments.only)
    for name in ("german_credit", "credit_scoring"):
        train, test = split(read_table(arguments.data, name), test_share=0.3, seed=0)
        run_table(parts, name, Table(train, test), arguments.anchors)
    train, test = adult(arguments.data)
    train, test = (frame.sample(size, random_state=0) for frame, size in ((train, 6000), (test, NUM_ROWS)))
    table = Table(train.reset_index(drop=True), test.reset_index(drop=True))
    run_table(parts, "adult", table, arguments.anchors)
    parts.print_table()


if __name__ == "__main__":
    main()
