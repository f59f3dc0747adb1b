"""Specification of the held-out rows: the last tenth of stored rows, fresh draws of generated data."""

from dataclasses import replace

import pytest
import torch

from jointebm.data import Toy, digits
from jointebm.data.validation_split import split_rows
from jointebm.training.hiding import hide
from jointebm.training.train_config import Hiding


def test_stored_rows_split_into_nine_tenths_and_the_last_tenth() -> None:
    data = digits()
    split = split_rows(data)
    labels = torch.tensor(data.train["digit"])
    assert torch.equal(split.rows["digit"].argmax(dim=1), labels[:1294])
    assert torch.equal(split.held_out["digit"].argmax(dim=1), labels[1294:])
    assert split.dataset.stored is not None and len(split.dataset.stored.train["digit"]) == 1294
    assert all(torch.equal(value, data.test()[name]) for name, value in split.dataset.test().items())


def test_training_never_draws_a_held_out_row() -> None:
    split = split_rows(digits())
    numbers = split.dataset.rows(20_000, generator=torch.Generator().manual_seed(0)).numbers
    assert numbers is not None and int(numbers.max()) == 1293  # missed with probability 2e-7


def test_what_is_missing_stays_missing_in_both_parts() -> None:
    hidden = hide(digits(), Hiding(observe_labels=0.5))
    split, known = split_rows(hidden), torch.tensor(hidden.observed["digit"])  # type: ignore[attr-defined]
    assert torch.equal(split.rows["digit"].isnan()[:, 0], ~known[:1294])
    assert torch.equal(split.held_out["digit"].isnan()[:, 0], ~known[1294:])


def test_both_parts_are_the_same_each_time() -> None:
    for data in (digits(), Toy()):
        one, two = split_rows(data), split_rows(data)
        for first, second in ((one.rows, two.rows), (one.held_out, two.held_out)):
            assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_generated_rows_are_drawn_and_nothing_is_held_back() -> None:
    split = split_rows(Toy())
    assert len(split.rows["point"]) == 10_000 and len(split.held_out["point"]) == 2_000
    assert split.dataset == Toy()
    assert not torch.isin(split.held_out["point"][:, 0], split.rows["point"][:, 0]).all()


def test_too_few_rows_are_refused() -> None:
    data = digits()
    few = replace(data, train={name: array[:10] for name, array in data.train.items()})
    with pytest.raises(ValueError, match="got 10 training rows; at least 20"):
        split_rows(few)
