"""Specification of `jointebm.kernels.columns`: the order of columns, and masks; exact kernels test the rest."""

import torch

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels.columns import columns_of

CPU = torch.device("cpu")


def test_join_takes_the_chosen_blocks_in_the_chosen_order() -> None:
    space = Space(a=Binary(), x=Continuous(2), b=Categorical(2))
    position = {"a": torch.tensor([1.0]), "x": torch.zeros(1, 2), "b": torch.tensor([[0.0, 5.0]])}
    assert columns_of(space, ("b", "a"), CPU).join(position).tolist() == [[0, 5, 1]]


def test_masks_of_any_shape_that_broadcasts_are_widened_and_absent_blocks_are_clamped() -> None:
    space = Space(a=Binary(2), b=Categorical(3, (2, 2)), c=Categorical((2, 4)), d=Binary())
    columns = columns_of(space, space.discrete, CPU)
    free = {
        "a": torch.tensor([True, False]),
        "b": torch.tensor([[[True], [False]], [[False], [True]]]),
        "d": torch.tensor([False, True]),
    }
    expected = [
        [True, False, True, True, False, False, False, False, False],
        [True, False, False, False, True, True, False, False, True],
    ]
    assert columns.join_free(free, 2).tolist() == expected
    assert columns.join_free({"c": torch.tensor(True)}, 2).sum() == 4
