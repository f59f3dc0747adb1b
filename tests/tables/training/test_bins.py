"""Bins of codes: a mixture over bins, spread over codes, is the density it says it is."""

import pytest
import torch

from jointebm.references import ProductMixture
from jointebm.tables.training.bins import Bins, checked_bins, checked_spreads
from support.tiny_tables import generator

CLASSES, BINS = (3, 4), ((0, 0, 1), None)
ROWS = torch.cartesian_prod(torch.arange(3), torch.arange(4))


def narrow() -> ProductMixture:
    mixture = ProductMixture((2, 4), 3).double()
    mixture.log_weights.copy_(torch.randn(3, generator=generator(1), dtype=torch.float64).log_softmax(dim=0))
    tables = [
        torch.randn(count, 3, generator=generator(count), dtype=torch.float64).log_softmax(dim=0) for count in (2, 4)
    ]
    mixture.log_probs.copy_(torch.cat(tables))
    return mixture


def seen() -> torch.Tensor:
    """Codes 0 and 1 of the first column six and two times."""
    return torch.tensor([[0, 0]] * 6 + [[1, 1]] * 2 + [[2, 3]] * 5 + [[-1, 2]])


def test_a_mixture_over_bins_becomes_one_over_codes_with_the_frequencies_in_each_bin() -> None:
    bins, mixture = Bins(BINS, CLASSES), narrow()
    wide = bins.expanded(mixture, seen()).double()
    share = torch.tensor([6.5 / 9, 2.5 / 9, 1.0], dtype=torch.float64)
    expected = mixture(bins.of_codes(ROWS)) + share[ROWS[:, 0]].log()
    assert (wide(ROWS) - expected).abs().max() < 1e-6
    assert wide(ROWS).exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_merging_undoes_expanding() -> None:
    bins, mixture = Bins(BINS, CLASSES), narrow().float()
    again = bins.merged(bins.expanded(mixture, seen()))
    assert (again.log_probs - mixture.log_probs).abs().max() < 1e-6
    assert torch.equal(again.log_weights, mixture.log_weights)


def test_missing_codes_have_no_bin() -> None:
    assert Bins(BINS, CLASSES).of_codes(torch.tensor([[-1, 3], [2, -1]])).tolist() == [[-1, 3], [1, -1]]


@pytest.mark.parametrize("of_column", [(0, 0), (1, 1, 2), (0, 2, 2), (0, 1, 0)])
def test_bins_that_do_not_ascend_are_refused(of_column: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"bins: those of column 0 are .*; expected one for each of its 3 codes"):
        checked_bins([of_column, None], CLASSES)


def test_half_rows_of_many_rare_levels_do_not_add_to_their_mass() -> None:
    """A thousand levels of one row, one of a thousand and one of none; the numbers beside them have half a row each."""
    levels = torch.cat([torch.zeros(1000, dtype=torch.int64), torch.arange(1, 1001)])
    codes, classes = torch.stack([levels, levels], dim=1), (1002, 1002)
    shares = Bins((None, tuple(range(1002))), classes).marginals(codes).log_probs.exp()[:, 0].split(1002)
    assert shares[0][[0, 1, 1001]].tolist() == pytest.approx([1000 / 2000.5, 1 / 2000.5, 0.5 / 2000.5], rel=1e-5)
    assert shares[1][[0, 1, 1001]].tolist() == pytest.approx([1000.5 / 2501, 1.5 / 2501, 0.5 / 2501], rel=1e-5)


SPREAD = torch.tensor([[0.5, 0.2, 0.0], [0.5, 0.6, 0.3], [0.0, 0.2, 0.7]])


def test_rows_count_for_codes_as_spread_says() -> None:
    """Marginals by hand; shares within a bin likewise."""
    codes, bins = torch.tensor([[0], [0], [1], [2], [2], [2], [-1]]), ((0, 0, 1),)
    rows = (SPREAD @ torch.tensor([2.0, 1.0, 3.0])) + 0.5
    found = Bins(bins, (3,), (SPREAD,)).marginals(codes).log_probs.exp()[:, 0]
    torch.testing.assert_close(found, rows / rows.sum())
    assert not torch.allclose(found, Bins(bins, (3,)).marginals(codes).log_probs.exp()[:, 0])
    wide = Bins(bins, (3,), (SPREAD,)).expanded(ProductMixture((2,)), codes).log_probs.exp()[:, 0]
    torch.testing.assert_close(wide, torch.cat([0.5 * rows[:2] / rows[:2].sum(), torch.tensor([0.5])]))


@pytest.mark.parametrize(
    ("spreads", "match"),
    [
        ((None,), "got 1 entries for 2 columns"),
        ((None, SPREAD), r"column 1 is of shape \(3, 3\); expected shares from 0 to 1 of shape \(2, 2\)"),
        ((SPREAD, 2 * torch.eye(2)), "column 1 .* whose columns sum to one"),
        ((SPREAD, torch.tensor([[2.0, 0.0], [-1.0, 1.0]])), "column 1 .* from 0 to 1"),
    ],
)
def test_a_spread_that_is_none_is_refused(spreads: tuple[torch.Tensor | None, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        checked_spreads(spreads, (3, 2))
