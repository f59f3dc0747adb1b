"""Any subset given the rest: 10, 25, 50 or 75% of each test row hidden at random, and everybody asked for 30 joint draws.

    python benchmarks/tables/queries.py --data DIR [--anchors ANCHORS/bin/python] [--report]

At most 200 test rows of a table, each four times; 6,000 training rows of Adult, 70% of the rows of the others, with 10% of
their entries hidden for all alike (miceforest needs some). Per hidden entry: Brier and log score of categories, with the
probability of a category (its count + its share in training) / (draws + 1), so that 30 draws cannot say "never"; CRPS of
numbers in standard deviations, and their 90% coverage, ties split by chance. `energy`: the energy score of all that is
hidden in a row as one block, numbers in standard deviations, categories as 0 or 0.5 per level. Seconds hold fitting, but
for JointEBM, which is fitted beforehand ("fit"), and are a quarter of those for all four shares.
IterativeImputer answers numbers only, MissForest gives one guess and no distribution.
"""

import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from anchors_run import draws_of
from command_line import run_benchmark
from judges import coverage, crps, energy_score
from mixture_of_products import MixtureOfProducts
from ours import codes_of, frame_of_codes, run_fit
from parts import Parts
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from tables_data import numbers, train_and_test, with_holes

from jointebm.estimators import JointEBM

NUM_DRAWS, SIZES = 30, (6_000, 200)
PERCENTS = (10, 25, 50, 75)
TABLES = ("german_credit", "credit_scoring", "adult")
COMPONENTS = (4, 16, 64)  # that the mixture chooses from
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
        if pd.isna(drawn[:, hidden]).any():
            briers.append([np.nan])
            logs.append([np.nan])
            drawns.append(np.full((*drawn.shape, 1), np.nan))
            truths.append(np.zeros((len(test), 1)))
            continue
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
            draws.append(filled.assign(**dict.fromkeys(texts)))
    return draws


def of_mixture(ours: JointEBM, train: pd.DataFrame, holes: pd.DataFrame) -> Draws:
    """Exact joint draws of the missing codes, in the codes of our model."""
    mixture = MixtureOfProducts.fit_best(codes_of(ours, train), ours.codec_.num_codes, COMPONENTS)
    codes = codes_of(ours, holes, unseen="missing")
    completed = (mixture.complete(codes, seed=draw) for draw in range(NUM_DRAWS))
    filled = (frame_of_codes(ours, each, seed=draw) for draw, each in enumerate(completed))
    return [holes.where(holes.notna(), each) for each in filled]


def run_table(parts: Parts, name: str, train: pd.DataFrame, test: pd.DataFrame, arguments: Namespace) -> None:
    """One part per rate and method; a method gets all rates as one table, and so is fitted once."""
    train = with_holes(train, 0.1, seed=1)
    test = test.head(SIZES[1]).astype(dict.fromkeys(numbers(test), float))
    all_holes = [with_holes(test, percent / 100, seed=2) for percent in PERCENTS]
    folder = arguments.out / f"{name}-model-10-missing"
    run_fit(parts, f"fit: {name}", train, folder, unseen="missing")

    def anchor(method: str, holes: pd.DataFrame, *, num_draws: int) -> Draws:
        return draws_of(arguments.anchors, method, train, holes, num_draws=num_draws, threads=arguments.threads)

    methods: dict[str, Callable[[pd.DataFrame], Draws]] = {
        "JointEBM": lambda holes: JointEBM.load(folder).draw_imputations(holes, NUM_DRAWS),
        "mixture": lambda holes: of_mixture(JointEBM.load(folder), train, holes),
        "IterativeImputer": lambda holes: iterative(train, holes),
    }
    if arguments.anchors is not None:
        methods["miceforest"] = lambda holes: anchor("miceforest", holes, num_draws=NUM_DRAWS)
        methods["MissForest"] = lambda holes: anchor("missforest", holes, num_draws=1) * 2  # two equal draws: no spread
    labels = [f"{name}: {percent}% hidden" for percent in PERCENTS]
    for method, impute in methods.items():

        def judged_by_rate(impute: Callable[[pd.DataFrame], Draws] = impute) -> dict[str, dict[str, float]]:
            draws = impute(pd.concat(all_holes, ignore_index=True))
            scores = {}
            for number, (label, holes) in enumerate(zip(labels, all_holes, strict=True)):
                rows = slice(number * len(test), (number + 1) * len(test))
                scores[label] = judged(train, test, holes, [each.iloc[rows] for each in draws])
            return scores

        parts.run_together(labels, method, judged_by_rate)


def measure(arguments: Namespace, parts: Parts) -> None:
    for name in TABLES:
        run_table(parts, name, *train_and_test(arguments.data, name, num_adult=SIZES), arguments)


def main(argv: Sequence[str] | None = None) -> None:
    run_benchmark(__doc__, "queries", measure, argv)


if __name__ == "__main__":
    main()
