"""Held-out rows: the first of a random order, but training sees every level of a category."""

import torch

from jointebm.randomness.draws import shuffled
from jointebm.tables.training.held_out_rows import held_out_split
from support.tiny_tables import generator


def test_training_has_a_row_of_every_level_and_as_many_rows_are_held_out() -> None:
    for seed in range(20):
        codes = torch.stack([torch.randint(60, (200,), generator=generator(seed)), torch.arange(200) % 7], dim=1)
        codes[::9, 0] = -1
        held_out, training = held_out_split(codes, shuffled(200, generator(seed + 100)), 40, (None, None))
        assert len(held_out) == 40 and torch.cat([held_out, training]).sort().values.equal(torch.arange(200))
        for column in range(2):
            assert set(codes[training, column].tolist()) >= set(codes[:, column].tolist()) - {-1}


def test_the_order_decides_where_no_level_would_be_lost_and_numbers_are_free() -> None:
    order = shuffled(200, generator())
    frequent, numbers = (torch.arange(200) % 7)[:, None], torch.arange(200)[:, None]
    for codes, bins in ((frequent, (None,)), (numbers, (range(200),)), (torch.full((200, 1), -1), (None,))):
        held_out, training = held_out_split(codes, order, 40, bins)
        assert torch.equal(held_out, order[:40]) and torch.equal(training, order[40:])


def test_a_missing_entry_is_no_level() -> None:
    codes = torch.tensor([[0], [-1], [0], [-1]])
    held_out, training = held_out_split(codes, torch.arange(4), 4, (None,))
    assert held_out.tolist() == [0, 1, 3] and training.tolist() == [2]


def test_rows_that_all_differ_are_not_held_out() -> None:
    held_out, training = held_out_split(torch.arange(50)[:, None], torch.arange(50), 5, (None,))
    assert len(held_out) == 0 and torch.equal(training, torch.arange(50))
    twice = torch.tensor([0, 0, *range(1, 49)])[:, None]
    held_out, training = held_out_split(twice, torch.arange(50), 5, (None,))
    assert held_out.tolist() == [0] and training.tolist() == list(range(1, 50))
