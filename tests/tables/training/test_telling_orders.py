"""Orders of codes that tell nothing are left out; smooth ones are kept, for few rows and many."""

import math

import pytest
import torch
from torch import Tensor

from jointebm.tables.training import telling_orders as module
from jointebm.tables.training.telling_orders import telling_orders
from support.tiny_tables import generator

BINS = (tuple(range(40)), None)
CLASSES = (40, 3)


def table(num_rows: int, shares: Tensor) -> Tensor:
    """A column of 40 numbers, and a level that is 0 with the share of its number, else 1 or 2."""
    drawn = generator(3)
    number = torch.randint(40, (num_rows,), generator=drawn)
    is_first = torch.rand(num_rows, generator=drawn) < shares[number]
    level = torch.where(is_first, 0, torch.randint(1, 3, (num_rows,), generator=drawn))
    return torch.stack([number, level], dim=1)


def is_kept(codes: Tensor) -> bool:
    return telling_orders(codes, CLASSES, BINS)[0] is not None


@pytest.mark.parametrize("num_rows", [200, 4000])
def test_a_smooth_dependence_keeps_the_order(num_rows: int) -> None:
    assert is_kept(table(num_rows, torch.linspace(0.05, 0.95, 40)))


def test_numbers_of_their_own_kind_lose_it() -> None:
    erratic = torch.where(torch.rand(40, generator=generator(1)) < 0.5, 0.05, 0.95)
    assert not is_kept(table(4000, erratic))
    hidden = table(4000, erratic).masked_fill(torch.rand(4000, 2, generator=generator(2)) < 0.3, -1)
    assert not is_kept(hidden)


@pytest.mark.parametrize("num_rows", [0, 1, 50, 4000])
def test_without_dependence_the_order_is_kept(num_rows: int) -> None:
    assert is_kept(table(num_rows, torch.full((40,), 0.5)))


def test_a_column_without_an_order_gets_none() -> None:
    codes = table(4000, torch.linspace(0.05, 0.95, 40))
    assert telling_orders(codes, CLASSES, (None, None)) == (None, None)


def test_columns_of_many_classes_tell_nothing() -> None:
    number = torch.arange(40).repeat(100)
    codes = torch.stack([number, number * 7 % 40], dim=1)
    bins = (tuple(range(40)),) * 2
    assert telling_orders(codes, (40, 40), bins) == bins


def test_a_code_is_no_neighbour_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without neighbours nothing is told, and any dependence leaves the order out."""
    monkeypatch.setattr(module, "NEIGHBOURING", 0)
    assert not is_kept(table(4000, torch.linspace(0.05, 0.95, 40)))


def test_no_row_is_predicted_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a loop over rows, which leaves each out."""
    strength = 4.0
    monkeypatch.setattr(module, "ORDER_STRENGTHS", (strength,))
    codes = table(300, (torch.arange(40) % 2) * 0.9 + 0.05)
    counts = torch.zeros(40, 3, dtype=torch.float64)
    counts.index_put_((codes[:, 0], codes[:, 1]), torch.ones(300, dtype=torch.float64), accumulate=True)
    prior, expected = counts.sum(dim=0) / 300, 0.0
    for row in range(300):
        others = torch.cat([codes[:row], codes[row + 1 :]])
        same = others[others[:, 0] == codes[row, 0], 1]
        p = float(prior[codes[row, 1]])
        expected += math.log((int((same == codes[row, 1]).sum()) + strength * p) / (len(same) + strength) / p)
    assert module._gain(counts, counts, is_own=True) == pytest.approx(expected, abs=1e-9) and expected > 10
