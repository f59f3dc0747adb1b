"""High cardinality: 1,568 levels in 8,000 rows, most of them rare, and two columns that depend on the level.

    python benchmarks/tables/cardinality.py [--only detected] [--report]

Levels follow Zipf's law. A number has a mean that the level decides, and a standard deviation of 1; a class is a function of
the level, with or without 2% of exceptions. A sampled row agrees if its class is that of its level; its number agrees within
3 of the mean. Shares over 2,000 samples: of rows in the 63 most frequent levels, in all others, and in levels that the table
holds once. Ten visits of each row; `fit seconds` are CPU seconds.
"""

import time
from argparse import Namespace
from collections.abc import Sequence

import numpy as np
import pandas as pd
from command_line import run_benchmark
from parts import Parts

from jointebm import JointEBM

NUM_ROWS, NUM_LEVELS, NUM_FREQUENT = 8000, 5000, 63
CASES = {  # share of exceptions, relations
    "a function, detected": (0.0, "auto"),
    "a function, relations=None": (0.0, None),
    "2% exceptions": (0.02, "auto"),
}


def products(exceptions: float) -> pd.DataFrame:
    generator = np.random.default_rng(7)
    shares = 1 / np.arange(1, NUM_LEVELS + 1) ** 1.1
    level = generator.choice(NUM_LEVELS, NUM_ROWS, p=shares / shares.sum())
    price = (10 + level % 50 + generator.normal(size=NUM_ROWS)).round(2)
    is_cheap = (level % 50 < 25) ^ (generator.random(NUM_ROWS) < exceptions)
    product = [f"prod{number:05d}" for number in level]
    return pd.DataFrame({"product": product, "price": price, "class": np.where(is_cheap, "cheap", "dear")})


def agreement(rows: pd.DataFrame, counts: pd.Series) -> dict[str, float]:
    level = rows["product"].str[4:].astype(int) % 50
    classes, prices = (rows["class"] == "cheap") == (level < 25), (rows["price"] - 10 - level).abs() < 3
    is_frequent = rows["product"].isin(counts.index[:NUM_FREQUENT])
    found = {"rare_share": float((~is_frequent).mean())}
    groups = {"frequent": is_frequent, "rare": ~is_frequent, "once": rows["product"].map(counts) == 1}
    for name, chosen in groups.items():
        found |= {f"{name}_class": float(classes[chosen].mean()), f"{name}_price": float(prices[chosen].mean())}
    return found


def judged(exceptions: float, relations: str | None) -> dict[str, float]:
    table, started = products(exceptions), time.process_time()
    model = JointEBM(training={"num_visits": 10}, relations=relations).fit(table)
    seconds = time.process_time() - started
    return agreement(model.sample(2000), table["product"].value_counts()) | {"fit_seconds": seconds}


def measure(_: Namespace, parts: Parts) -> None:
    for name, (exceptions, relations) in CASES.items():
        table = products(exceptions)
        parts.run(name, "data", lambda table=table: agreement(table, table["product"].value_counts()))
        parts.run(name, "jointebm", lambda exceptions=exceptions, relations=relations: judged(exceptions, relations))


def main(argv: Sequence[str] | None = None) -> None:
    run_benchmark(__doc__, "cardinality", measure, argv)


if __name__ == "__main__":
    main()
