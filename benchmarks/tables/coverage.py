"""Do 90% intervals of imputed numbers hold the truth 90% of the time, no more and no less?

    python benchmarks/tables/coverage.py --data DIR [--anchors ANCHORS/bin/python] [--report]

Test rows with 30% of all entries hidden, training rows with 10% hidden, imputed 100 times. Of each hidden number: does its
interval hold it, ends included? `coverage`: the central interval, from the 5% to the 95% quantile of the draws; `shortest`:
the shortest that holds 90% of them. `expected` and `shortest_expected`: the same of a draw in the place of the truth, which
is what draws from the true distribution would get. `randomised`: the central interval with ties split by chance (see
judges.py). `crps`: the continuous ranked probability score in standard deviations of the column. At most 500 test rows,
and 6,000 training rows of Adult, because miceforest keeps a forest per column and data set. Unmasking trees (utrees), which
draw one entry of one row at a time, are asked about penguins alone.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from anchors_run import draws_of
from command_line import run_benchmark
from judges import coverage, crps
from ours import run_fit
from parts import Parts
from tables_data import numbers, train_and_test, with_holes

from jointebm.estimators import JointEBM

NUM_DRAWS, SIZES = 100, (6_000, 500)
KINDS = ("coverage", "expected", "shortest", "shortest_expected", "randomised")
TABLES = ("adult", "credit_scoring", "german_credit", "penguins")


def judged(train: pd.DataFrame, test: pd.DataFrame, holes: pd.DataFrame, draws: list[pd.DataFrame]) -> dict[str, float]:
    """Means over the hidden numbers, and of coverage the extremes over columns too."""
    of_columns, scores = {}, []
    for name in numbers(train):
        hidden = (holes[name].isna() & test[name].notna()).to_numpy()
        truth = test[name].to_numpy()[hidden].astype(float)
        drawn = np.stack([each[name].to_numpy()[hidden].astype(float) for each in draws])
        of_columns[name] = coverage(truth, drawn) | {"num": hidden.sum()}
        scores.append((crps(truth, drawn) / train[name].std()).mean())
    table = pd.DataFrame(of_columns).T
    means = {kind: np.average(table[kind], weights=table.num) for kind in KINDS}
    return means | {
        "lowest_randomised": table.randomised.min(),
        "highest_randomised": table.randomised.max(),
        "crps": float(np.mean(scores)),
    }


def run_table(parts: Parts, name: str, train: pd.DataFrame, test: pd.DataFrame, arguments: Namespace) -> None:
    """One part per method."""
    train, test = with_holes(train, 0.1, seed=1), test.head(SIZES[1])
    holes = with_holes(test, 0.3, seed=2)
    folder = arguments.out / f"{name}-model-10-missing"
    run_fit(parts, f"fit: {name}", train, folder, unseen="missing")
    methods: dict[str, Callable[[], list[pd.DataFrame]]] = {
        "JointEBM": lambda: JointEBM.load(folder).draw_imputations(holes, NUM_DRAWS)
    }
    if arguments.anchors is not None:
        for anchor in ("miceforest", "utrees") if name == "penguins" else ("miceforest",):
            methods[anchor] = lambda anchor=anchor: draws_of(
                arguments.anchors, anchor, train, holes, num_draws=NUM_DRAWS, threads=arguments.threads
            )
    for method, impute in methods.items():
        parts.run(f"coverage: {name}", method, lambda impute=impute: judged(train, test, holes, impute()))


def measure(arguments: Namespace, parts: Parts) -> None:
    for name in TABLES:
        run_table(parts, name, *train_and_test(arguments.data, name, num_adult=SIZES), arguments)


def main(argv: Sequence[str] | None = None) -> None:
    run_benchmark(__doc__, "coverage", measure, argv)


if __name__ == "__main__":
    main()
