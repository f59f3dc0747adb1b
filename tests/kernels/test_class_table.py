"""Specification of tables of classes: the same answers whichever shortcut the chosen variables allow."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Space
from jointebm.kernels.class_table import ClassTable
from jointebm.kernels.columns import Columns, columns_of

BITS = Space(a=Binary((2, 3)), b=Binary(2))
MIXED = Space(a=Binary(3), b=Categorical(3, (2,)), c=Categorical((2, 4)))
ALIKE = Space(a=Categorical(3, (4,)))
NUM_CHAINS = 6

CASES = {
    "bits side by side": (BITS, [1, 2, 3], ClassTable.of),
    "bits strewn": (BITS, [0, 2, 7], ClassTable.of),
    "bits strewn, made wider": (BITS, [0, 2, 7], ClassTable.without_gathers),
    "too few bits to be made wider": (BITS, [1, 7], ClassTable.without_gathers),
    "bits among others": (MIXED, [0, 2], ClassTable.of),
    "bits and classes": (MIXED, [1, 2, 3, 6], ClassTable.without_gathers),
    "classes of two numbers": (MIXED, [4, 5, 6], ClassTable.of),
    "classes side by side": (ALIKE, [1, 2], ClassTable.of),
    "classes strewn": (ALIKE, [0, 3], ClassTable.without_gathers),
}


def states(space: Space, seed: int) -> tuple[Columns, Tensor, list[list[int]]]:
    """Columns, positions (N, M), and the labels of every variable by chain."""
    columns = columns_of(space, tuple(space), torch.device("cpu"))
    labels = torch.stack(
        [torch.randint(int(count), (NUM_CHAINS,), generator=torch.Generator().manual_seed(seed + 7 * v))
         for v, count in enumerate(columns.num_classes)], dim=1
    )  # fmt: skip
    return columns, (labels[:, columns.variable] == columns.class_of_column).float(), labels.tolist()


@pytest.mark.parametrize("case", CASES)
def test_classes_are_read_and_written(case: str) -> None:
    space, chosen, make = CASES[case]
    columns, y, before = states(space, 0)
    _, wanted, after = states(space, 1)
    mask = torch.zeros(columns.num_variables, dtype=torch.bool)
    mask[chosen] = True
    table = make(columns, mask)
    assert (table.moves is not None) == ("made wider" in case and "too few" not in case)
    own = table.number.tolist()
    assert own == (chosen if table.moves is None else list(range(columns.num_variables)))

    values = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    spread = table.spread(values)
    for place, v in enumerate(own):
        mine = [float(values[0, column]) for column in (columns.variable == v).nonzero().flatten()]
        mine = [0.0, *mine] if len(mine) == 1 else mine
        lacking = [-torch.inf] * (spread.shape[1] - len(mine))
        torch.testing.assert_close(spread[0, :, place].tolist(), [*mine, *lacking], rtol=0, atol=0)
    assert table.labels(y).tolist() == [[row[v] for v in own] for row in before]

    free = torch.rand(NUM_CHAINS, columns.num_variables, generator=torch.Generator().manual_seed(3)) < 0.6
    movable = table.movable(free)
    assert movable.tolist() == [[bool(row[v]) and v in chosen for v in own] for row in free.tolist()]
    written = table.write(y, table.labels(wanted), movable)
    expected = [
        [after[n][v] if v in chosen and free[n, v] else before[n][v] for v in range(columns.num_variables)]
        for n in range(NUM_CHAINS)
    ]
    everything = ClassTable.of(columns, torch.ones_like(mask))
    assert everything.labels(written).tolist() == expected and set(written.flatten().tolist()) <= {0.0, 1.0}

    choices = table.choices(values, movable)
    moved = torch.ones_like(movable) if table.moves is None else movable
    assert torch.equal(choices.movedim(1, 2)[moved], spread.movedim(1, 2)[moved])
    assert torch.equal(choices.softmax(dim=1)[:, 0][~moved], torch.ones(int((~moved).sum())))


@pytest.mark.parametrize("case", [case for case in CASES if "wider" not in case])
def test_a_table_over_its_own_columns_reads_and_writes_the_same(case: str) -> None:
    space, chosen, _ = CASES[case]
    columns, y, _ = states(space, 0)
    mask = torch.zeros(columns.num_variables, dtype=torch.bool)
    mask[chosen] = True
    table, own = ClassTable.of(columns, mask), mask[columns.variable].nonzero().flatten()
    within = table.within(own)
    assert within.in_turn == case.startswith("classes s")
    values = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    assert torch.equal(within.spread(values[:, own]), table.spread(values))
    wanted = table.labels(states(space, 1)[1])
    free = torch.rand(NUM_CHAINS, columns.num_variables, generator=torch.Generator().manual_seed(3)) < 0.6
    movable = within.movable(free)
    assert torch.equal(movable, table.movable(free))
    assert torch.equal(within.write(y[:, own], wanted, movable), table.write(y, wanted, movable)[:, own])
