"""Coverage of 90% intervals of imputed numbers, and of pooled 95% intervals of what is estimated from imputed tables.

    python benchmarks/tables/coverage.py --data DIR [--anchors ANCHORS/bin/python] [--report]
    python benchmarks/tables/coverage.py --only pooled [--anchors ANCHORS/bin/python] [--repetitions 200] [--report]

Test rows with 30% of all entries missing, training rows with 10% missing, imputed 100 times. For each missing number: does
its interval hold the truth, ends included? `coverage`: the central interval, from the 5% to the 95% quantile of the draws;
`shortest`: the shortest that holds 90% of them. `expected` and `shortest_expected`: the same for a draw instead of the
truth, which is what draws from the true distribution would reach. `randomised`: the central interval with ties split at
random (see judges.py). `crps`: the continuous ranked probability score in standard deviations of the column. At most 500
test rows, and 6,000 training rows of Adult, because miceforest keeps a forest per column and data set. Unmasking trees
(utrees), which draw one entry of one row at a time, impute penguins only.

The pooled intervals are those of 200 simulated tables, see pooled.py; the second command runs these alone. Stopped, it
resumes with the next table when it is run again.
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
from pooled import measure_pooled, pooled_report
from tables_data import numbers, train_and_test, with_holes

from jointebm.estimators import JointEBM

NUM_DRAWS, SIZES = 100, (6_000, 500)
KINDS = ("coverage", "expected", "shortest", "shortest_expected", "randomised")
TABLES = ("adult", "credit_scoring", "german_credit", "penguins")


def judged(train: pd.DataFrame, test: pd.DataFrame, holes: pd.DataFrame, draws: list[pd.DataFrame]) -> dict[str, float]:
    """Means over the missing numbers, and the extremes of coverage over columns."""
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


def pooled_parts(arguments: Namespace) -> Parts:
    """The repetitions, in a file of their own."""
    return Parts(arguments.out / "pooled.csv", arguments.only)


def measure(arguments: Namespace, parts: Parts) -> None:
    pooled = pooled_parts(arguments)
    measure_pooled(arguments, pooled)
    if arguments.only is not None and arguments.only in "pooled":
        return
    for name in TABLES:
        run_table(parts, name, *train_and_test(arguments.data, name, num_adult=SIZES), arguments)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = run_benchmark(__doc__, "coverage", measure, argv)
    print(pooled_report(pooled_parts(arguments)))


if __name__ == "__main__":
    main()
