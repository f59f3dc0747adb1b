"""How long a table's network is trained, and with how many rows at a time."""

import pytest

from jointebm.tables.training.table_config import TableConfig
from jointebm.tables.training.table_schedule import planned_iterations


@pytest.mark.parametrize(
    ("num_rows", "num_visits", "expected"),
    [
        (900, 250, 1000),  # a quarter of the rows at a time
        (30_000, 250, 3000),  # as many as are allowed at most
        (18_000, 10, 1000),  # batches of 180 rows, where 480 would leave 375 iterations
        (4000, 10, 313),  # batches of 128 rows
        (400, 10, 40),  # a quarter of the rows is fewer than 128
        (20, 10, 10),
    ],
)
def test_few_visits_take_fewer_rows_at_a_time(num_rows: int, num_visits: int, expected: int) -> None:
    assert planned_iterations(num_rows, 2, TableConfig(num_visits=num_visits)) == expected
