"""The proposal of a table: it learns what a mixture cannot, and is left out where held-out rows do not like it."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from jointebm.references import ProductMixture
from jointebm.references.masked_network import MaskedNetwork
from jointebm.tables.training.bins import Bins, ColumnBins
from jointebm.tables.training.proposal_fit import fit_proposal
from jointebm.tables.training.smoothing import AlongColumns, smoothing
from jointebm.tables.training.table_config import TableConfig
from support.tiny_tables import generator

CONFIG = TableConfig()


def proposal(
    train: Tensor,
    held_out: Tensor,
    classes: tuple[int, ...],
    *,
    bins: Sequence[ColumnBins],
    config: TableConfig = CONFIG,
) -> MaskedNetwork | None:
    """Fitted over the marginals of its rows."""
    base = Bins(bins, classes).marginals(train)
    before = base.log_probs.clone()
    network = fit_proposal(train, held_out, base, bins=bins, config=config, generator=generator())
    assert torch.equal(base.log_probs, before) and (network is None or network.mixture is not base)
    return network


def sums(num: int, seed: int = 0) -> Tensor:
    """Two triples of bits of even sum: any two columns are independent."""
    bits = torch.randint(2, (num, 6), generator=generator(seed))
    bits[:, 2], bits[:, 5] = bits[:, :2].sum(dim=1) % 2, bits[:, 3:5].sum(dim=1) % 2
    return bits


@pytest.mark.slow
def test_it_learns_what_pairs_of_columns_do_not_show() -> None:
    network = proposal(sums(2000), sums(200, 1), (2,) * 6, bins=(None,) * 6)
    assert network is not None
    assert float(network.log_prob(sums(500, 2)).exp().mean()) == pytest.approx(2.0**-4, rel=0.05)


def test_it_is_left_out_where_columns_are_independent() -> None:
    rows = torch.randint(5, (300, 3), generator=generator())
    assert proposal(rows[30:], rows[:30], (5,) * 3, bins=(None,) * 3) is None


@pytest.mark.slow
def test_numbers_are_learned_along_their_columns() -> None:
    """400 rows near a diagonal of 40 codes, ten for each code: held-out rows are likelier if neighbours are alike."""
    first = torch.randint(40, (1400, 1), generator=generator(1))
    second = (first + torch.randint(-2, 3, (1400, 1), generator=generator(2))).clamp(0, 39)
    rows = torch.cat([first, second], dim=1)
    train, held_out, test = rows[:360], rows[360:400], rows[400:]
    scores = []
    for bins in ((tuple(i // 4 for i in range(40)),) * 2, (None, None)):
        network = proposal(train, held_out, (40, 40), bins=bins)
        scores.append(float("-inf") if network is None else float(network.log_prob(test).mean()))
    independent = float(ProductMixture((40, 40))(test).mean())
    assert scores[0] > independent + 0.8 and scores[0] > scores[1] + 0.3


def test_rows_along_columns_are_s_times_free_ones_and_stay_where_there_is_no_order() -> None:
    free = torch.randn(5, 4, generator=generator())
    found = AlongColumns((0, 3, 5), ((0, 0, 1), None), torch.zeros(9, 2, dtype=torch.int64))(free)
    assert torch.allclose(found[:3], smoothing((0, 0, 1), torch.tensor([9, 0, 0])).float() @ free[:3]) and torch.equal(
        found[3:], free[3:]
    )


@pytest.mark.slow
def test_a_proposal_learns_what_rare_levels_say_and_levels_without_rows_are_like_missing_ones() -> None:
    """400 levels with three rows each and a letter of their own; 40 more occur in held-out rows only."""
    level = torch.cat([torch.arange(400).repeat(3), torch.arange(400, 440)])
    letter = torch.randint(4, (440,), generator=generator(1))
    rows = torch.stack([level, letter[level], torch.randint(3, (1240,), generator=generator(2))], dim=1)
    held_out = torch.cat([rows[:80], rows[1200:]])
    classes, quick = (440, 4, 3), TableConfig(num_visits=250)
    made = proposal(rows[80:1200], held_out, classes, bins=(None,) * 3, config=quick)
    assert made is not None
    seen = torch.stack([torch.arange(80, 400), *torch.full((2, 320), -1)], dim=1)
    known = made.conditional(seen, 1).softmax(dim=1)[torch.arange(320), letter[80:400]]
    assert (known > 0.5).float().mean() > 0.9
    unseen, nothing = torch.tensor([[420, -1, 1]]), torch.tensor([[-1, -1, 1]])
    assert torch.allclose(made.conditional(unseen, 1), made.conditional(nothing, 1), atol=1e-5)


def test_a_trained_proposal_is_a_plain_network_no_wider_than_asked_for() -> None:
    first = torch.randint(4, (400, 1), generator=generator(1))
    rows = torch.cat([first, first], dim=1)
    quick = TableConfig(num_visits=75, width=40)
    network = proposal(rows[40:], rows[:40], (4, 4), bins=((0, 1, 2, 3), None), config=quick)
    assert network is not None and len(network.bias) == 64
    names = set(dict(network.named_parameters()))
    assert {"embedding", "readout"} <= names and not any("parametrizations" in name for name in names)
    assert not any(parameter.requires_grad for parameter in network.parameters())
