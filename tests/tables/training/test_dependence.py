"""Whether rows show that columns depend: information by hand, no alarm of independent columns, and missing entries."""

import math

import pytest
import torch

from jointebm.tables.training.dependence import NUM_SHUFFLES, chance_of_dependence
from support.tiny_tables import generator


def test_the_chance_is_that_of_the_bound() -> None:
    """Two equal bits of 400 rows: I is 400 log 2, m about 1/2 and v about 1/2, as 2 I is chi-square with one degree."""
    bit = torch.arange(400) % 2
    chance = chance_of_dependence(torch.stack([bit, bit], dim=1), generator())
    excess = 400 * math.log(2) - 0.5
    expected = (math.sqrt(1 + 4 * excess) - 1) ** 2 / 4
    assert -math.log(chance) == pytest.approx(expected, rel=0.05) and NUM_SHUFFLES >= 50


@pytest.mark.slow
def test_independent_columns_show_no_dependence() -> None:
    """60 tables, of which fewer than .01 each should have a chance below .01: four or more have a probability of 4e-3."""
    found = 0
    for seed in range(60):
        made = generator(seed)
        columns = [torch.randint(count, (80,), generator=made) for count in (2, 9, 15, 40)]
        rare = (torch.rand(80, 2, generator=made) < 0.02).long()
        codes = torch.cat([torch.stack(columns, dim=1), rare], dim=1)
        codes = codes.masked_fill(torch.rand(codes.shape, generator=made) < 0.2, -1)
        found += chance_of_dependence(codes, made) < 0.01
    assert found < 4


def test_dependence_shows_in_small_tables_with_missing_entries() -> None:
    made = generator(1)
    number = torch.randint(10, (60,), generator=made)
    codes = torch.stack([torch.randint(5, (60,), generator=made), number, (number > 4).long()], dim=1)
    assert chance_of_dependence(codes, made) < 1e-4
    assert chance_of_dependence(codes[:, :2], made) > 0.05
    holes = codes.masked_fill(torch.rand(codes.shape, generator=made) < 0.2, -1)
    assert chance_of_dependence(holes, made) < 0.01


@pytest.mark.parametrize("codes", [[[0]], [[0, 0]], [[0, 0], [1, 1]], [[-1, 0], [-1, 1]], [[0, -1], [-1, 1]]])
def test_tables_that_cannot_show_any(codes: list[list[int]]) -> None:
    assert chance_of_dependence(torch.tensor(codes), generator()) == 1.0
