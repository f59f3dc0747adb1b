"""Rows per second of answers about rows with several missing entries, on one core, and what they cost.

    python benchmarks/tables/speed.py [--only "9 columns"] [--report]

Two tables: 9 columns like the diamonds data (density.py, without its first grade) and 40 columns of four hidden factors, a
fifth of them letters. Models have default settings. "several missing": 300 rows with 2 to 4 missing entries at random, one
of them the target. "10% missing": entries of the 40 columns hidden at random, which is 4 of a row. `evaluations` counts rows
and classes at which the network of F is evaluated, per row asked about, and `rough` those at which rough F is, in bfloat16.
Rates are per CPU second.
"""

import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from command_line import run_benchmark
from parts import Parts

from density import smooth
from jointebm import ConvergenceWarning
from jointebm.estimators import JointEBM
from jointebm.tables.density.energy import Residual
from jointebm.tables.density.rough_energy import RoughEnergy

NUM_ROWS = 300


def factors(num_rows: int = 3_300, num_columns: int = 40) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training rows, and rows to ask about."""
    generator = np.random.default_rng(5)
    loadings = generator.normal(size=(4, num_columns)) * (generator.random((4, num_columns)) < 0.5)
    values = generator.normal(size=(num_rows, 4)) @ loadings + 0.7 * generator.normal(size=(num_rows, num_columns))
    columns = {
        f"c{j}": np.array(list("abcdef"))[np.digitize(column, [-1.5, -0.5, 0, 0.5, 1.5])]
        if j % 5 == 4
        else column.round(3)
        for j, column in enumerate(values.T)
    }
    frame = pd.DataFrame(columns)
    return frame.tail(num_rows - NUM_ROWS), frame.head(NUM_ROWS)


def several_missing(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Hides the target and one to three further entries of each row."""
    generator = np.random.default_rng(0)
    others = [name for name in rows if name != target]
    hidden = pd.DataFrame(False, index=rows.index, columns=rows.columns).assign(**{target: True})
    for row in rows.index:
        hidden.loc[row, list(generator.choice(others, generator.integers(1, 4), replace=False))] = True
    return rows.mask(hidden)


@contextmanager
def counted() -> Iterator[list[int]]:
    """Counts the rows and classes at which F and rough F are evaluated."""
    head, log_density, found = Residual.head, RoughEnergy.log_density, [0, 0]

    def counting(self: Residual, summed: object) -> object:
        found[0] += summed.shape[:-1].numel()  # type: ignore[attr-defined]
        return head(self, summed)  # type: ignore[arg-type]

    def counting_rough(self: RoughEnergy, codes: object, known: object = None) -> object:
        found[1] += len(codes)  # type: ignore[arg-type]
        return log_density(self, codes, known)  # type: ignore[arg-type]

    Residual.head = counting  # type: ignore[method-assign, assignment]
    RoughEnergy.log_density = counting_rough  # type: ignore[method-assign, assignment]
    try:
        yield found
    finally:
        Residual.head, RoughEnergy.log_density = head, log_density  # type: ignore[method-assign]


def measured(ask: Callable[[], object], num_rows: int) -> dict[str, float]:
    with warnings.catch_warnings(), counted() as evaluations:
        warnings.simplefilter("ignore", ConvergenceWarning)
        started = time.process_time()
        ask()
        seconds = time.process_time() - started
    of_f, of_rough_f = (each / num_rows for each in evaluations)
    return {"rows_per_second": num_rows / max(seconds, 1e-9), "evaluations": of_f, "rough": of_rough_f}


def run_table(
    parts: Parts, name: str, train: pd.DataFrame, rows: pd.DataFrame, targets: Sequence[str], folder: object
) -> None:
    def fit() -> dict[str, float]:
        model = JointEBM().fit(train)
        model.save(folder)
        return {"codes": float(np.mean(model.model_.num_classes))}

    parts.run(f"fit: {name}", "JointEBM", fit)
    asked = {f"several missing: {name}": several_missing(rows, targets[0])}
    if rows.shape[1] > 20:
        asked[f"10% missing: {name}"] = rows.mask(np.random.default_rng(1).random(rows.shape) < 0.1)
    for part, holes in asked.items():
        questions: dict[str, Callable[[JointEBM], object]] = {
            **{f"predict {each}": lambda model, each=each, holes=holes: model.predict(holes, each) for each in targets},
            "score_samples": lambda model, holes=holes: model.score_samples(holes),
            "impute": lambda model, holes=holes: model.impute(holes),
            "score_samples, complete rows": lambda model: model.score_samples(rows),
        }
        for question, ask in questions.items():
            parts.run(
                part, question, lambda ask=ask, holes=holes: measured(lambda: ask(JointEBM.load(folder)), len(holes))
            )


def measure(arguments: Namespace, parts: Parts) -> None:
    train, rows = (each.drop(columns="cut") for each in smooth())
    run_table(parts, "9 columns", train, rows.head(NUM_ROWS), ("price", "color"), arguments.out / "speed-9")
    run_table(parts, "40 columns", *factors(), ("c5", "c4"), arguments.out / "speed-40")


def main(argv: Sequence[str] | None = None) -> None:
    run_benchmark(__doc__, "speed", measure, argv)


if __name__ == "__main__":
    main()
