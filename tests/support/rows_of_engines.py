"""A model in a folder, and numbered rows with missing entries to ask it about."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from jointebm.estimators import JointEBM


def make_table(num: int) -> pa.Table:
    """Rows of two kinds that differ in all columns, with missing entries."""
    generator = np.random.default_rng(0)
    group = generator.integers(0, 2, num)

    def missing() -> np.ndarray:
        return generator.random(num) < 0.2

    return pa.table(
        {
            "row": pa.array(np.arange(num)),
            "name": pa.array([f"n{number}" for number in range(num)]),
            "size": pa.array((4 * group + generator.normal(size=num)).round(2), mask=missing()),
            "kind": pa.array(["cat", "dog"]).take(pa.array(group, mask=missing())),
            "count": pa.array(generator.integers(0, 4, num) + 5 * group, mask=missing()),
        }
    )


ROWS = make_table(120)


def save_model(folder: Path) -> Path:
    """Fits a small model, and saves it."""
    training = {"num_visits": 0, "rows_per_component": 20}
    return JointEBM(training=training, num_draws=5).fit(ROWS.drop_columns(["row"])).save(folder)
