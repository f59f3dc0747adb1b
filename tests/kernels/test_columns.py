"""Specification of `jointebm.kernels.columns`, against loops over blocks, variables and classes."""

import pytest
import torch

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels.columns import columns_of
from support.oracles import SMALL_SPACES, SmallSpace

CPU = torch.device("cpu")
every_space = pytest.mark.parametrize("small", SMALL_SPACES, ids=str)


@every_space
def test_each_column_belongs_to_the_variable_that_its_place_in_the_one_hot_says(small: SmallSpace) -> None:
    space, num_classes = small.space, list[int]()
    variable, is_binary, class_of_column = list[int](), list[bool](), list[int]()
    for name in space.discrete:
        block = space[name]
        assert not isinstance(block, Continuous)
        for count in block.num_classes_per_variable:
            classes = [1] if isinstance(block, Binary) else list(range(count))
            variable += [len(num_classes)] * len(classes)
            is_binary += [isinstance(block, Binary)] * len(classes)
            class_of_column += classes
            num_classes.append(count)
    columns = columns_of(space, space.discrete, CPU)
    assert columns.variable.tolist() == variable
    assert columns.is_binary.tolist() == is_binary
    assert columns.class_of_column.tolist() == class_of_column
    assert columns.num_classes.tolist() == num_classes
    assert (columns.num_variables, columns.max_classes) == (len(num_classes), max(num_classes))
    assert sum(columns.widths) == len(variable)


@every_space
def test_split_undoes_join_bit_for_bit(small: SmallSpace) -> None:
    space = small.space
    position = space.configurations()
    columns = columns_of(space, space.discrete, CPU)
    joined = columns.join(position)
    assert joined.shape == (space.num_configurations, len(columns.variable))
    parts = columns.split(joined)
    assert parts.keys() == position.keys()
    assert all(torch.equal(parts[name], position[name]) for name in position)


@every_space
def test_split_keeps_leading_axes(small: SmallSpace) -> None:
    columns = columns_of(small.space, small.space.discrete, CPU)
    parts = columns.split(torch.arange(2 * 3 * len(columns.variable)).reshape(2, 3, -1))
    for name, part in parts.items():
        assert part.shape == (2, 3, *small.space[name].position_shape)
    rows = {name: part[1, 2][None] for name, part in parts.items()}
    assert columns.join(rows)[0].tolist() == list(range(5 * len(columns.variable), 6 * len(columns.variable)))


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


def test_columns_are_built_once_per_space_and_blocks() -> None:
    def make() -> Space:
        return Space(y=Categorical((2, 3)))

    assert columns_of(make(), ("y",), CPU) is columns_of(make(), ("y",), CPU)
