"""Tables of pairs: what they start F from, which pairs have one, and how much a row is believed."""

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from jointebm.references import ProductMixture
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.training import pair_tables as module
from jointebm.tables.training.bins import Bins
from jointebm.tables.training.pair_tables import MAX_TABLE_ROWS, NEAR_REFERENCE, pair_tables
from support.tiny_tables import generator

CLASSES = (3, 4, 2, 5)


def chain(num_rows: int, *, hidden: float = 0.0, kept: float = 0.95) -> Tensor:
    """Columns 0 - 1 - 3, each a noisy function of the one before, and column 2 by itself."""
    drawn = generator(1)

    def noisy(code: Tensor, column: int) -> Tensor:
        other = torch.randint(CLASSES[column], (num_rows,), generator=drawn)
        return torch.where(torch.rand(num_rows, generator=drawn) < kept, code % CLASSES[column], other)

    first = torch.randint(3, (num_rows,), generator=drawn)
    second = noisy(first, 1)
    fourth = noisy(second, 3)
    codes = torch.stack([first, second, torch.randint(2, (num_rows,), generator=drawn), fourth], dim=1)
    return codes.masked_fill(torch.rand(codes.shape, generator=drawn) < hidden, -1)


def pairs_of(tables: Tensor) -> set[tuple[int, int]]:
    """Which columns the tables join."""
    column = torch.repeat_interleave(torch.arange(len(CLASSES)), torch.tensor(CLASSES))
    left, right = tables.chunk(2, dim=1)
    found = set()
    for side, other in zip(left.T, right.T, strict=True):
        ends = sorted((int(column[side != 0].unique()), int(column[other != 0].unique())))
        found.add((ends[0], ends[1]))
    return found


def of_all_pairs(codes: Tensor, num_classes: tuple[int, ...] = CLASSES) -> Tensor:
    """Tables of all edges of the tree, as where the reference is no better than the marginals."""
    return pair_tables(codes, num_classes, codes[:9], 0.0)


def of_strong_pairs(codes: Tensor, num_classes: tuple[int, ...] = CLASSES) -> Tensor:
    """Those of columns that nearly determine one another, as where the reference is better than any tree."""
    return pair_tables(codes, num_classes, codes[:9], 99.0)


def start(codes: Tensor) -> TableEnergy:
    """F before training: the marginals with the tables."""
    residual = Residual(CLASSES, width=4, num_layers=1, num_table_rows=0)
    residual.tables = of_all_pairs(codes)
    return TableEnergy(Bins([None] * 4, CLASSES).marginals(codes), residual)


def test_the_start_is_the_tree_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalised, with the frequencies of the pairs of the tree; within the rounding to bfloat16."""
    monkeypatch.setattr(module, "TABLE_STRENGTHS", (1e-9,))
    codes = chain(4000)
    every = torch.cartesian_prod(*[torch.arange(count) for count in CLASSES])
    log_p = start(codes)(every).detach().double()
    assert abs(float(log_p.exp().sum()) - 1) < 0.01
    for i, j in ((0, 1), (1, 3)):
        found = torch.zeros(CLASSES[i], CLASSES[j], dtype=torch.float64)
        found.index_put_((every[:, i], every[:, j]), log_p.exp(), accumulate=True)
        seen = torch.zeros_like(found)
        seen.index_put_((codes[:, i], codes[:, j]), torch.ones(len(codes), dtype=torch.float64), accumulate=True)
        assert ((found * len(codes) + 1) / (seen + 1)).log().abs().max() < 0.03


@pytest.mark.parametrize("hidden", [0.0, 0.4])
def test_the_pairs_are_the_edges_of_the_chain(hidden: float) -> None:
    codes = chain(4000, hidden=hidden)
    assert pairs_of(of_all_pairs(codes)) == pairs_of(of_strong_pairs(codes)) == {(0, 1), (1, 3)}


def test_columns_that_say_little_of_one_another_have_tables_only_where_a_tree_is_as_good_as_the_reference() -> None:
    """The gain of the tree on held-out rows, by a loop over rows and F, decides."""
    codes, held_out = chain(4000, kept=0.5), chain(300, kept=0.5, hidden=0.2)
    tree = of_all_pairs(codes)
    assert pairs_of(tree) == {(0, 1), (1, 3)} and of_strong_pairs(codes).shape[1] == 0
    residual = Residual(CLASSES, width=4, num_layers=1)
    residual.tables = tree
    gain = sum(float(residual.of_tables(row[None])) for row in held_out) / 300
    assert gain > 0.05
    assert torch.equal(pair_tables(codes, CLASSES, held_out, gain / NEAR_REFERENCE - 1e-4), tree)
    assert pair_tables(codes, CLASSES, held_out, gain / NEAR_REFERENCE + 1e-4).shape[1] == 0
    assert pair_tables(codes, CLASSES, held_out[:0], 1.0).shape[1] == 0


def test_independent_columns_have_no_tables() -> None:
    codes = torch.stack([torch.randint(count, (4000,), generator=generator(count)) for count in CLASSES], dim=1)
    assert of_all_pairs(codes).shape == (sum(CLASSES), 0)


def test_columns_of_many_classes_have_no_tables() -> None:
    codes = torch.arange(MAX_TABLE_ROWS + 1).repeat(100)[:, None].repeat(1, 2)
    most = (MAX_TABLE_ROWS + 1,) * 2
    assert of_all_pairs(codes, most).shape[1] == 0
    assert of_strong_pairs(codes.clamp(max=MAX_TABLE_ROWS - 1), (MAX_TABLE_ROWS,) * 2).shape[1] == 2 * MAX_TABLE_ROWS


def test_the_gain_is_that_of_rows_that_the_others_predict() -> None:
    codes, strength = chain(60)[:, :2], 3.0
    marginals = [torch.bincount(codes[:, j], minlength=CLASSES[j]).double() / 60 for j in range(2)]
    expected = 0.0
    for row in range(60):
        others = torch.cat([codes[:row], codes[row + 1 :]])
        same = int((others == codes[row]).all(dim=1).sum())
        independent = float(marginals[0][codes[row, 0]] * marginals[1][codes[row, 1]])
        expected += math.log((same + strength * independent) / (59 + strength) / independent)
    counts = module.pair_counts(codes, 0, 1, CLASSES)
    assert module._gain(counts, strength) == pytest.approx(expected, abs=1e-10)


def test_rare_codes_that_one_another_determine_are_rarely_torn() -> None:
    """Two columns of one code each, one of them in 20 of 4,000 rows: a network would need 5 nats for it."""
    code = torch.cat([torch.arange(4).repeat(995), torch.full((20,), 4)])
    tables = of_strong_pairs(torch.stack([code, code], dim=1), (5, 5))
    reference = ProductMixture((5, 5))
    share = torch.bincount(code) / len(code)
    reference.log_probs.copy_(share.log().repeat(2)[:, None])
    residual = Residual((5, 5), width=4, num_layers=1)
    residual.tables = tables
    with torch.no_grad():
        p = TableEnergy(reference, residual)(torch.cartesian_prod(torch.arange(5), torch.arange(5))).exp().view(5, 5)
    assert float(p[4, 4]) == pytest.approx(0.005, rel=0.05)
    assert float(p.sum() - p.trace()) < 0.001


def test_no_pair_closes_a_cycle() -> None:
    equal = torch.randint(3, (500, 1), generator=generator()).repeat(1, 5)
    left, right = of_strong_pairs(equal, (3,) * 5).chunk(2, dim=1)
    assert left.shape[1] == 4 * 3
    gains = [module._pair(equal, i, j, (3,) * 5, 0.0) for i, j in combinations(range(5), 2)]
    assert len({round(pair.gain, 6) for pair in gains if pair is not None}) == 1 and len(gains) == 10
    assert torch.equal(left.sum(dim=0), torch.ones(12)) and bool((right != 0).any(dim=0).all())
