"""How far fits of small tables are from the densities that their rows were drawn from.

    python benchmarks/tables/truths.py [--only "two numbers"] [--report]

The mean of log truth - log p over 2,000 fresh rows is the Kullback-Leibler divergence, nats per row; its median says how
much of it lies in few rows. "two numbers": correlation .71, 300 rows. "close numbers": correlation .98, 300 rows, with the
correlation of 2,000 samples. "survey": the table of pooled.py, 400 rows. "two groups": four numbers and a class, 150 rows.
Default settings, three seeds. CPU seconds are those of fit and scores.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from command_line import run_benchmark
from parts import Parts
from pooled import MEAN_PAY, SLOPES, drawn_table
from scipy.stats import multivariate_normal, norm

from jointebm.estimators import JointEBM

NUM_TEST, NUM_SEEDS = 2000, 3
CLOSE, SHARE, APART = 0.98, 0.8, 3.0

Draw = Callable[[int, np.random.Generator], pd.DataFrame]
Truth = Callable[[pd.DataFrame], np.ndarray]


def gaussian(correlation: float) -> tuple[Draw, Truth]:
    """Two standard normals."""
    law = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]])

    def draw(num: int, generator: np.random.Generator) -> pd.DataFrame:
        return pd.DataFrame(law.rvs(num, random_state=generator), columns=["a", "b"])

    return draw, lambda rows: law.logpdf(rows.to_numpy())


def of_survey(rows: pd.DataFrame) -> np.ndarray:
    smokes, age = rows.smokes == "yes", rows.age
    chance = 1 / (1 + np.exp(-(0.9 * age - 0.5 + (rows.group == "b"))))
    pay = MEAN_PAY + SLOPES["smokes"] * smokes + SLOPES["age"] * age + (rows.group == "c")
    group = rows.group.map({"a": 0.5, "b": 0.3, "c": 0.2}).astype(float)
    return norm.logpdf(age) + np.log(group) + np.log(np.where(smokes, chance, 1 - chance)) + norm.logpdf(rows.pay - pay)


def two_groups(num: int, generator: np.random.Generator) -> pd.DataFrame:
    is_first = generator.random(num) < SHARE
    numbers = generator.normal(size=(num, 4)) + np.where(is_first, 0, APART)[:, None]
    return pd.DataFrame(numbers, columns=list("abcd")).assign(group=np.where(is_first, "first", "second"))


def of_two_groups(rows: pd.DataFrame) -> np.ndarray:
    is_first = (rows.group == "first").to_numpy()
    numbers = rows[list("abcd")].to_numpy() - np.where(is_first, 0, APART)[:, None]
    return norm.logpdf(numbers).sum(axis=1) + np.log(np.where(is_first, SHARE, 1 - SHARE))


TABLES: dict[str, tuple[Draw, Truth, int]] = {
    "two numbers": (*gaussian(0.5**0.5), 300),
    "close numbers": (*gaussian(CLOSE), 300),
    "survey": (lambda num, generator: drawn_table(generator, num), of_survey, 400),
    "two groups": (two_groups, of_two_groups, 150),
}


def distance(name: str, seed: int) -> dict[str, float]:
    draw, truth, num = TABLES[name]
    rows = draw(num, np.random.default_rng(seed))
    fresh = draw(NUM_TEST, np.random.default_rng(1000 + seed))
    model = JointEBM(random_state=seed).fit(rows)
    excess = truth(fresh) - model.score_samples(fresh)
    found = {"kl": excess.mean(), "median": np.median(excess), "gain": model.report_.gain or 0.0}
    if name == "close numbers":
        found["correlation"] = model.sample(NUM_TEST).corr().iloc[0, 1]
    return found


def measure(_: Namespace, parts: Parts) -> None:
    for name in TABLES:
        for seed in range(NUM_SEEDS):
            parts.run(name, f"seed {seed}", lambda name=name, seed=seed: distance(name, seed))


def main(argv: Sequence[str] | None = None) -> None:
    run_benchmark(__doc__, "truths", measure, argv)


if __name__ == "__main__":
    main()
