"""Do 90% intervals of imputed numbers hold the truth 90% of the time, no more and no less?

    python benchmarks/tables/coverage.py --data DIR [--anchors ANCHORS/bin/python]

Test rows with 30% of all entries hidden, training rows with 10% hidden, imputed 100 times; the interval of an entry runs
from the 5% to the 95% quantile of its draws. `randomised` splits ties by chance (see judges.py), `crps` is
the continuous ranked probability score in standard deviations of the column. Adult with 6,000 training and 500 test
rows, because miceforest keeps a forest per column and data set.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anchors_run import draws_of
from judges import coverage, crps
from parts import Parts
from tables_data import adult, arguments_of, numbers, read_table, split, with_holes

from jointebm.estimators import JointEBM

NUM_DRAWS = 100
TABLES = ("adult", "credit_scoring", "german_credit", "penguins")


def judged(train: pd.DataFrame, test: pd.DataFrame, holes: pd.DataFrame, draws: list[pd.DataFrame]) -> dict[str, float]:
    """Mean over columns of numbers, so that one with wide holes does not hide another; all of them at once for `pooled`."""
    of_columns, scores = {}, []
    for name in numbers(train):
        hidden = (holes[name].isna() & test[name].notna()).to_numpy()
        truth = test[name].to_numpy()[hidden].astype(float)
        drawn = np.stack([each[name].to_numpy()[hidden].astype(float) for each in draws])
        of_columns[name] = coverage(truth, drawn) | {"num": hidden.sum()}
        scores.append((crps(truth, drawn) / train[name].std()).mean())
    table = pd.DataFrame(of_columns).T
    return {
        "coverage": np.average(table.coverage, weights=table.num),
        "randomised": np.average(table.randomised, weights=table.num),
        "lowest": table.coverage.min(),
        "lowest_randomised": table.randomised.min(),
        "highest_randomised": table.randomised.max(),
        "crps": float(np.mean(scores)),
    }


def run_table(parts: Parts, name: str, train: pd.DataFrame, test: pd.DataFrame, anchors: Path | None) -> None:
    """One part per method."""
    train, holes = with_holes(train, 0.1, seed=1), with_holes(test, 0.3, seed=2)
    methods: dict[str, Callable[[], list[pd.DataFrame]]] = {
        "JointEBM": lambda: JointEBM(unseen="missing").fit(train).impute(holes, n=NUM_DRAWS)
    }
    if anchors is not None:
        methods["miceforest"] = lambda: draws_of(anchors, "miceforest", train, holes, num_draws=NUM_DRAWS, threads=1)
    for method, impute in methods.items():
        parts.run(name, method, lambda impute=impute: judged(train, test, holes, impute()))


def main() -> None:
    arguments = arguments_of(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    parts = Parts(arguments.out / "coverage.csv", arguments.only)
    for name in TABLES:
        if name == "adult":
            train, test = (
                frame.sample(size, random_state=0).reset_index(drop=True)
                for frame, size in zip(adult(arguments.data), (6000, 500), strict=True)
            )
        else:
            train, test = split(read_table(arguments.data, name), test_share=0.3, seed=0)
        run_table(parts, name, train, test, arguments.anchors)
    parts.print_table()


if __name__ == "__main__":
    main()
