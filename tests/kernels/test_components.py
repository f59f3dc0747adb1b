"""Specification of `components`: those of every graph, after a number of rounds that a graph needs."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm.kernels.components import components
from jointebm.randomness.waiting import unread_values
from support.mutants import altered

SIDE = 9


def grid_cells(name: str) -> list[tuple[int, int]]:
    """The cells of a square in an order in which neighbours in the list are neighbours on the grid."""
    if name == "snake":
        return [(row, column if row % 2 == 0 else SIDE - 1 - column) for row in range(SIDE) for column in range(SIDE)]
    cells, (row, column), (down, right) = [], (0, 0), (0, 1)
    while len(cells) < SIDE**2:  # a spiral
        cells.append((row, column))
        ahead = (row + down, column + right)
        if ahead in cells or not (0 <= ahead[0] < SIDE and 0 <= ahead[1] < SIDE):
            down, right = right, -down
        row, column = row + down, column + right
    return cells


def corona(edges: list[tuple[int, int]], num: int, times: int) -> list[tuple[int, int]]:
    """Every variable gets a leaf with its number and moves behind all leaves, several times; each takes a round to undo."""
    for _ in range(times):
        edges = [(one + num, other + num) for one, other in edges] + [(each, each + num) for each in range(num)]
        num *= 2
    return edges


def worst_cases() -> dict[str, tuple[int, list[tuple[int, int]]]]:
    path = [(v, v + 1) for v in range(127)]
    comb = [(v, v + 1) for v in range(31)] + [(32 * k + v, 32 * (k + 1) + v) for k in range(3) for v in range(32)]
    of_cells = {}
    for name in ("snake", "spiral"):
        number = [row * SIDE + column for row, column in grid_cells(name)]
        of_cells[name] = (SIDE**2, list(pairwise(number)))
    star = (65, [(64, v) for v in range(64)])
    coronas = {
        "corona of one": (64, corona([], 1, 6)),  # 6 rounds
        "corona of a path": (96, corona([(0, 1), (1, 2)], 3, 5)),  # 6 rounds, of which the last hooks two in a row
    }
    return {"path": (128, path), "comb": (128, comb), **of_cells, "star": star, **coronas}


CASES = worst_cases()


def joined_one_by_one(num: int, edges: list[tuple[int, int]]) -> list[int]:
    """The smallest variable of each component, by joining sets."""
    number = list(range(num))
    for one, other in edges:
        low, high = sorted((number[one], number[other]))
        number = [low if each == high else each for each in number]
    return number


def same_partition(root: Tensor, expected: list[int]) -> bool:
    """Whether variables share a root where they share a component, and every root is one of its component."""
    other = torch.tensor(expected)
    return torch.equal(root[:, None] == root, other[:, None] == other) and torch.equal(root[root], root)


def found(function: Any, num: int, edges: list[tuple[int, int]], order: Tensor) -> bool:
    """Whether a function finds the components, with variables renamed to `order`."""
    renamed = [(int(order[one]), int(order[other])) for one, other in edges]
    pairs = torch.tensor(renamed).T
    bonds = torch.ones(1, len(edges), dtype=torch.bool)
    (root,) = function(pairs, bonds, num)
    with unread_values():  # all rounds, as on an accelerator
        (same,) = function(pairs, bonds, num)
    return torch.equal(root, same) and same_partition(root, joined_one_by_one(num, renamed))


@pytest.mark.parametrize("name", CASES)
def test_worst_cases_are_one_component_in_any_order(name: str) -> None:
    num, edges = CASES[name]
    generator = torch.Generator().manual_seed(0)
    orders = [
        torch.arange(num),
        torch.arange(num).flip(0),
        *(torch.randperm(num, generator=generator) for _ in range(20)),
    ]
    assert all(found(components, num, edges, order) for order in orders)


@pytest.mark.parametrize("num", [1, 2, 3, 4, 5, 7, 8, 9, 16, 33, 60])
def test_random_graphs_of_every_density(num: int) -> None:
    """Many graphs at once, each with its own edges."""
    generator = torch.Generator().manual_seed(num)
    pairs = torch.combinations(torch.arange(num), 2).T
    density = torch.linspace(0, min(1.0, 3 / num), 40)[:, None]
    bonds = torch.rand(40, pairs.shape[1], generator=generator) < density
    roots = components(pairs, bonds, num)
    for root, kept in zip(roots, bonds, strict=True):
        assert same_partition(root, joined_one_by_one(num, pairs.T[kept].tolist()))


def test_graphs_without_pairs_are_variables() -> None:
    assert (
        components(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(3, 0, dtype=torch.bool), 4).tolist()
        == [[0, 1, 2, 3]] * 3
    )


MUTANTS = {
    "one round less": ("num.bit_length() - 1)", "num.bit_length() - 2)"),
    "one doubling less": ("(longest - 1).bit_length() if", "(longest - 1).bit_length() - 1 if"),
    "both of two trees that choose each other hook": ("mutual & (own < hooked)", "mutual & (own < 0)"),
    "neither hooks": ("mutual & (own < hooked)", "mutual"),
    "pairs seen from one side": ("= both & (here", "= torch.cat([bonds, torch.zeros_like(bonds)], dim=1) & (here"),
    "bonds ignored": ("= both & (here", "= (here"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_faults_are_found(name: str) -> None:
    """The number of rounds is needed by a corona, and so is that of doublings."""
    faulty = altered(components, dict([MUTANTS[name]]))
    pairs = torch.tensor([[0, 1, 2], [1, 2, 3]])
    bonds = torch.tensor([[True, False, True]])
    with unread_values():
        right = same_partition(faulty(pairs, bonds, 4)[0], [0, 0, 2, 2])
    right &= all(found(faulty, num, edges, torch.arange(num)) for num, edges in CASES.values())
    assert not right
