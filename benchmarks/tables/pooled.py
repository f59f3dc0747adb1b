"""Coverage of pooled 95% intervals of a mean, a proportion and a regression coefficient, with 30% missing at random.

Each repetition draws 400 rows of four columns. In `pay` and `smokes` 30% of the entries are missing, more often where `age`
is large and for one `group`; both are always observed. Each completed table gives an estimate with its standard error; m of
them are pooled by Rubin's rules. A repetition is kept with all its intervals, so the run may be stopped and resumed.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from anchors_run import draws_of
from parts import Parts

from jointebm import pool
from jointebm.estimators import JointEBM

NUM_ROWS, NUM_IMPUTATIONS, MISSING_RATE = 400, 5, 0.3
SLOPES = {"smokes": 1.5, "age": 0.8}  # of pay
MEAN_PAY = 10.0
QUESTIONS = ("mean of pay", "share of smokers", "effect of smoking on pay")


def drawn_table(generator: np.random.Generator, num_rows: int = NUM_ROWS) -> pd.DataFrame:
    """Complete rows of age (in standard deviations), group, smokes and pay."""
    age = generator.normal(size=num_rows)
    group = generator.choice(["a", "b", "c"], num_rows, p=[0.5, 0.3, 0.2])
    chance = 1 / (1 + np.exp(-(0.9 * age - 0.5 + (group == "b"))))
    smokes = generator.random(num_rows) < chance
    pay = MEAN_PAY + SLOPES["smokes"] * smokes + SLOPES["age"] * age + (group == "c") + generator.normal(size=num_rows)
    return pd.DataFrame({"age": age, "group": group, "smokes": np.where(smokes, "yes", "no"), "pay": pay})


def with_missing(table: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Pay and smokes missing at random given age and group, each in 30% of the rows on average."""
    score = 0.8 * table.age + (table.group == "b") - 0.3
    holed = table.copy()
    for name in ("pay", "smokes"):
        shift = shift_of(score.to_numpy())
        holed.loc[generator.random(len(table)) < 1 / (1 + np.exp(-(score + shift))), name] = None
    return holed


def shift_of(score: np.ndarray) -> float:
    """What to add to log-odds so that their probabilities have mean `MISSING_RATE`, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean(1 / (1 + np.exp(-(score + middle)))) < MISSING_RATE else (low, middle)
    return low


def truths() -> np.ndarray:
    """The three quantities in the population; the mean and the share by two million rows, to about .001."""
    table = drawn_table(np.random.default_rng(12345), 2_000_000)
    return np.array([table.pay.mean(), (table.smokes == "yes").mean(), SLOPES["smokes"]])


def estimates(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Estimates of the three quantities from complete rows, and their variances."""
    smokes, pay = (table.smokes == "yes").to_numpy(dtype=float), table.pay.to_numpy(dtype=float)
    num, share = len(table), smokes.mean()
    design = np.column_stack([np.ones(num), smokes, table.age, table.group == "b", table.group == "c"])
    inverse = np.linalg.inv(design.T @ design)
    slopes = inverse @ design.T @ pay
    noise = ((pay - design @ slopes) ** 2).sum() / (num - design.shape[1])
    variances = [pay.var(ddof=1) / num, share * (1 - share) / (num - 1), noise * inverse[1, 1]]
    return np.array([pay.mean(), share, slopes[1]]), np.array(variances)


def intervals(tables: list[pd.DataFrame]) -> dict[str, float]:
    """Pooled estimates and intervals as the metrics of a part; of a single table its own interval."""
    found = [estimates(table) for table in tables]
    q, u = (np.stack([each[place] for each in found]) for place in (0, 1))
    if len(tables) == 1:  # the rules with nothing between: two equal tables
        q, u = np.repeat(q, 2, axis=0), np.repeat(u, 2, axis=0)
    pooled = pool(q, u, df_complete=len(tables[0]) - 5)
    ends = {"estimate": pooled.estimate, "low": pooled.low, "high": pooled.high, "missing": pooled.missing_information}
    return {
        f"{name}, {end}": float(v) for end, values in ends.items() for name, v in zip(QUESTIONS, values, strict=True)
    }


def methods(
    complete: pd.DataFrame, holed: pd.DataFrame, seed: int, arguments: Namespace
) -> Iterator[tuple[str, Callable[[], dict[str, float]]]]:
    """What to do about the missing entries: nothing was missing, drop rows, or impute."""
    yield "complete data", lambda: intervals([complete])
    yield "complete cases", lambda: intervals([holed.dropna()])
    fitted: list[JointEBM] = []

    def model() -> JointEBM:
        if not fitted:
            fitted.append(JointEBM(num_members=NUM_IMPUTATIONS, random_state=seed).fit(holed))
        return fitted[0]

    for uncertainty in ("model", "draws"):
        yield (
            f"JointEBM, {uncertainty}",
            lambda uncertainty=uncertainty: intervals(
                model().draw_imputations(holed, NUM_IMPUTATIONS, uncertainty=uncertainty)
            ),
        )
    if arguments.anchors is not None:
        yield (
            "miceforest",
            lambda: intervals(
                draws_of(
                    arguments.anchors,
                    "miceforest_itself",
                    holed,
                    holed,
                    num_draws=NUM_IMPUTATIONS,
                    threads=arguments.threads,
                )
            ),
        )


def measure_pooled(arguments: Namespace, parts: Parts) -> None:
    """Runs the repetitions that are not finished."""
    for repetition in range(arguments.repetitions):
        generator = np.random.default_rng([2026, repetition])
        complete = drawn_table(generator)
        holed = with_missing(complete, generator)
        for method, work in methods(complete, holed, repetition, arguments):
            parts.run(f"pooled: {repetition}", method, work)


def pooled_report(parts: Parts) -> str:
    """Coverage, bias and length of the intervals of each method, as Markdown."""
    lines = parts.table()
    if not len(lines):
        return "**pooled** no repetition is finished"
    lines[["question", "end"]] = lines.metric.str.rsplit(", ", n=1, expand=True)
    truth = dict(zip(QUESTIONS, truths(), strict=True))
    rows = ["| | method | coverage of 95% | bias | sd of estimates | length | missing information | repetitions |"]
    rows.append("|---" * 8 + "|")
    for (question, method), group in lines.groupby(["question", "method"], sort=False):
        wide = group.pivot_table(index="part", columns="end", values="value")
        held = (wide.low <= truth[question]) & (truth[question] <= wide.high)
        numbers = (
            held.mean(), wide.estimate.mean() - truth[question], wide.estimate.std(), (wide.high - wide.low).mean(),
            wide.missing.mean(),
        )  # fmt: skip
        rows.append(f"| {question} | {method} | {' | '.join(f'{each:.3f}' for each in numbers)} | {len(wide)} |")
    return "\n".join(rows)
