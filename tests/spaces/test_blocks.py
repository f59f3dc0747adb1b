"""Specification of the kinds of block: their shapes, codes, noise, and what they refuse."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous
from jointebm.spaces.blocks import Block, block_from_config
from jointebm.spaces.transforms import Logit

# block, shape of the variables, shape of the position, classes per variable
SHAPES = [
    (Continuous(), (), (), None),
    (Continuous(2), (2,), (2,), None),
    (Continuous((28, 28)), (28, 28), (28, 28), None),
    (Binary(), (), (), (2,)),
    (Binary((2, 3)), (2, 3), (2, 3), (2,) * 6),
    (Categorical(10), (), (10,), (10,)),
    (Categorical(4, (2, 3)), (2, 3), (2, 3, 4), (4,) * 6),
    (Categorical((2, 3, 7)), (3,), (12,), (2, 3, 7)),
    (Categorical((5,)), (1,), (5,), (5,)),
]
BLOCKS = [Continuous((2, 2), Logit(0.01)), *(shapes[0] for shapes in SHAPES)]


@pytest.mark.parametrize(("block", "variables", "entries", "classes"), SHAPES, ids=str)
def test_shapes_of_variables_and_of_positions(
    block: Block, variables: tuple[int, ...], entries: tuple[int, ...], classes: tuple[int, ...] | None
) -> None:
    assert block.variable_shape == variables
    assert block.position_shape == entries
    assert block.num_variables == math.prod(variables)
    assert getattr(block, "num_classes_per_variable", None) == classes
    assert block.discrete is (classes is not None)


def test_a_whole_number_is_a_shape_of_one_axis() -> None:
    assert (Continuous(2), Binary(3)) == (Continuous((2,)), Binary((3,)))
    assert Categorical(4, 2) == Categorical(4, (2,))
    assert Categorical([2, 3]) == Categorical((2, 3))  # type: ignore[arg-type]
    assert hash(Categorical([2, 3])) == hash(Categorical((2, 3)))  # type: ignore[arg-type]


def test_a_whole_number_of_numpy_is_a_whole_number() -> None:
    for three in (np.int64(3), np.uint8(3)):
        assert Continuous(three) == Continuous(3) and Binary((2, three)) == Binary((2, 3))
        assert Categorical(three) == Categorical(3) and Categorical((2, three)) == Categorical((2, 3))
    assert Categorical(np.array([2, 3])) == Categorical((2, 3))  # type: ignore[arg-type]
    config = Categorical(np.int64(3), np.int64(2)).config  # type: ignore[arg-type]
    assert json.loads(json.dumps(config)) == Categorical(3, 2).config


def test_one_variable_and_a_group_of_one_are_different_blocks() -> None:
    assert Categorical(5) != Categorical((5,))
    assert Binary() != Binary(1)


@pytest.mark.parametrize("shape", [0, -1, (2, 0), (2.0,), ("2",), (True,), 2.5, "23", None, True])
@pytest.mark.parametrize("kind", [Continuous, Binary, lambda shape: Categorical(3, shape), Categorical])
def test_a_shape_that_is_not_made_of_whole_numbers_from_one_is_refused(kind: Any, shape: Any) -> None:
    with pytest.raises(ValueError, match="a shape is made of whole numbers >= 1, got") as error:
        kind(shape)
    assert repr(shape) in str(error.value)


@pytest.mark.parametrize("arguments", [((2, 3), 2), ((),)])
def test_a_ragged_group_names_its_variables_and_takes_no_shape(arguments: Any) -> None:
    with pytest.raises(ValueError, match="names at least one variable and takes no shape"):
        Categorical(*arguments)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_config_is_json_and_rebuilds_the_block(block: Block) -> None:
    assert block_from_config(json.loads(json.dumps(block.config))) == block


def test_a_config_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="block of kind 'ordinal': expected 'continuous', 'binary' or 'categorical'"):
        block_from_config({"kind": "ordinal"})


# Codes, by hand.

NAN = math.nan
CODES: list[tuple[Block, Any, Any]] = [
    (Continuous(), [1.5, NAN], [1.5, NAN]),
    (Continuous(2), [[0.25, -3.0], [NAN, 4.0]], [[0.25, -3.0], [NAN, 4.0]]),
    (Binary(), [0, 1, -1], [0.0, 1.0, NAN]),
    (Binary((1, 2)), [[[0, 1]], [[-1, 0]]], [[[0.0, 1.0]], [[NAN, 0.0]]]),
    (Categorical(3), [2, -1, 0], [[0, 0, 1], [NAN, NAN, NAN], [1, 0, 0]]),
    (Categorical(2, (1, 2)), [[[0, -1]]], [[[[1, 0], [NAN, NAN]]]]),
    (Categorical((2, 1, 3)), [[1, 0, 2], [-1, 0, -1]], [[0, 1, 1, 0, 0, 1], [NAN, NAN, 1, NAN, NAN, NAN]]),
]


@pytest.mark.parametrize(("block", "values", "code"), CODES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encode_is_the_code_and_decode_undoes_it(block: Block, values: Any, code: Any, dtype: torch.dtype) -> None:
    values = torch.tensor(values)
    position, observed = block.encode("name", values, dtype)
    torch.testing.assert_close(position, torch.tensor(code, dtype=dtype), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(observed, ~values.isnan() & (values != -1) if block.discrete else ~values.isnan())
    decoded = block.decode(position)
    expected = values.to(torch.int64 if block.discrete else dtype)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("block", [Binary(2), Categorical(2, 2), Categorical((2, 2))], ids=str)
def test_whole_floats_and_booleans_are_labels(block: Block) -> None:
    expected, _ = block.encode("name", torch.tensor([[0, 1]]), torch.float32)
    for labels in (
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([[False, True]]),
        torch.tensor([[0, 1]], dtype=torch.uint8),
    ):
        assert torch.equal(block.encode("name", labels, torch.float32)[0], expected)


@pytest.mark.parametrize("block", [Binary(2), Categorical(2, 2), Categorical((2, 2))], ids=str)
def test_nan_is_a_missing_label_as_minus_one_is(block: Block) -> None:
    expected = block.encode("name", torch.tensor([[0, -1], [-1, 1]]), torch.float32)
    position, observed = block.encode("name", torch.tensor([[0.0, NAN], [-1.0, 1.0]]), torch.float32)
    torch.testing.assert_close(position, expected[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(observed, expected[1])


def test_a_constant_of_one_class_is_always_one() -> None:
    position, _ = Categorical(1).encode("name", torch.tensor([0, 0]), torch.float32)
    assert position.tolist() == [[1.0], [1.0]]


# Noise.


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.discrete], ids=str)
def test_drawn_labels_are_codes_and_every_class_occurs(block: Block) -> None:
    """With 2,000 draws of at most 10 classes a class is absent with probability below 10 * .9^2000 < 1e-90."""
    position = block.draw(block.uniform_noise(), 2000, torch.Generator().manual_seed(0))
    labels = block.decode(position)
    assert torch.equal(block.encode("name", labels, position.dtype)[0], position)
    assert labels.shape == (2000, *block.variable_shape)
    assert not isinstance(block, Continuous)
    for column, count in zip(labels.reshape(2000, -1).T, block.num_classes_per_variable, strict=True):
        assert column.unique().tolist() == list(range(count))


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.discrete], ids=str)
def test_reals_are_drawn_between_minus_one_and_one_in_position_units(block: Block) -> None:
    position = block.draw(block.uniform_noise(), 1000, torch.Generator().manual_seed(0))
    assert position.shape == (1000, *block.position_shape)
    assert bool((position >= -1).all() and (position < 1).all())
    assert float(position.min()) < -0.9 and float(position.max()) > 0.9  # fails with probability 2 * .95^1000 < 1e-22


@pytest.mark.parametrize("block", [Binary(2), Categorical(3, 2), Categorical((2, 3))], ids=str)
def test_expand_repeats_a_mask_of_a_variable_over_its_columns(block: Block) -> None:
    values = torch.tensor([[1, -1], [-1, 0]])
    position, observed = block.encode("name", values, torch.float32)
    widened: Tensor = block.expand(observed).expand_as(position)
    assert torch.equal(widened, ~position.isnan())
