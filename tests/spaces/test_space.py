"""Specification of `Space`: encoding, decoding and clamping."""

import itertools
import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Noise, Space
from jointebm.spaces.transforms import Logit
from support.generators import seeded

NAN = math.nan
ALL_KINDS = Space(
    point=Continuous(2),
    image=Continuous((2, 2), Logit(0.01)),
    bit=Binary(),
    bits=Binary((2, 2)),
    digit=Categorical(10),
    pair=Categorical(4, (2,)),
    group=Categorical((2, 3, 7)),
)
VALUES: dict[str, Any] = {
    "point": [[0.5, -1.0], [NAN, 2.0]],
    "image": [[[0.0, 0.25], [NAN, 1.0]], [[NAN, NAN], [0.5, 0.75]]],
    "bit": [1, -1],
    "bits": [[[0, 1], [1, -1]], [[1, 1], [0, 0]]],
    "digit": [9, -1],
    "pair": [[3, 0], [-1, 1]],
    "group": [[1, -1, 6], [0, 2, -1]],
}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Any], atol: float = 0) -> None:
    assert list(actual) == list(expected)
    for name, value in actual.items():
        wanted = torch.as_tensor(np.asarray(expected[name])).to(value.dtype)
        torch.testing.assert_close(value, wanted, rtol=0, atol=atol, equal_nan=True)


# Encoding and decoding.


def test_decode_gives_back_what_encode_was_given() -> None:
    position, _ = ALL_KINDS.encode(VALUES, dtype=torch.float64)
    assert_same(ALL_KINDS.decode(position), VALUES, atol=1e-15)


def test_a_block_that_is_absent_is_missing_throughout() -> None:
    position, observed = ALL_KINDS.encode({"digit": [3, 4, 5]})
    assert list(position) == list(ALL_KINDS)
    decoded = ALL_KINDS.decode(position)
    assert decoded["digit"].tolist() == [3, 4, 5]
    for name, block in ALL_KINDS.items():
        if name != "digit":
            assert not observed[name].any() and position[name].isnan().all()
            assert position[name].shape == (3, *block.position_shape)
            assert bool((decoded[name] == -1).all() if block.discrete else decoded[name].isnan().all())


def test_blocks_keep_the_order_of_the_space_whatever_the_order_of_the_values() -> None:
    position, _ = ALL_KINDS.encode({name: VALUES[name] for name in reversed(VALUES)})
    assert list(position) == list(ALL_KINDS)


def test_decode_leaves_out_what_it_is_not_given() -> None:
    position, _ = ALL_KINDS.encode(VALUES)
    assert list(ALL_KINDS.decode({"group": position["group"], "bit": position["bit"]})) == ["bit", "group"]


def test_no_rows_encode_to_no_rows() -> None:
    position, observed = ALL_KINDS.encode({"point": np.empty((0, 2))})
    for name, block in ALL_KINDS.items():
        assert position[name].shape == (0, *block.position_shape)
        assert observed[name].shape == ALL_KINDS.decode(position)[name].shape == (0, *block.variable_shape)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_position_has_the_dtype_that_was_asked_for(dtype: torch.dtype) -> None:
    position, observed = ALL_KINDS.encode(VALUES, dtype=dtype)
    assert {value.dtype for value in position.values()} == {dtype}
    assert {mask.dtype for mask in observed.values()} == {torch.bool}


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32"])
def test_labels_may_have_any_dtype_that_holds_whole_numbers(kind: str) -> None:
    space = Space(y=Categorical((2, 300)))
    labels = np.array([[1, 255 if kind == "uint8" else 100]], dtype=kind)
    assert space.decode(space.encode({"y": labels})[0])["y"].tolist() == labels.tolist()


def test_lists_tensors_and_arrays_encode_alike() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    lists = {"x": [[0.5, 1.5], [2.5, NAN]], "y": [2, -1]}
    expected, _ = space.encode(lists)
    for kind in (torch.tensor, np.array, np.asfortranarray, lambda v: np.array(v)[::-1][::-1]):
        assert_same(space.encode({name: kind(values) for name, values in lists.items()})[0], expected)


def test_read_only_and_reversed_arrays_are_encoded_and_left_alone() -> None:
    space, array = Space(x=Continuous(2)), np.arange(6.0, dtype=np.float32).reshape(3, 2)
    array.flags.writeable = False
    position, _ = space.encode({"x": array})  # torch would warn here, and refuse the next
    backward, _ = space.encode({"x": array[::-1]})
    assert torch.equal(position["x"].flip(0), backward["x"])
    position["x"] += 1
    assert array.tolist() == [[0, 1], [2, 3], [4, 5]]


# Any space, any values.


# Refusals name the block, the value, the row and the remedy.

SMALL = Space(
    x=Continuous(2), share=Continuous((), Logit()), bit=Binary(), digit=Categorical(10), group=Categorical((2, 3))
)
REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    (
        {"digit": [1, 9, 0, 10]},
        ("block 'digit' (Categorical, 10 classes)", "label 10 in row 3", "from 0 to 9", "Declare more classes, or map"),
    ),
    ({"digit": [-2]}, ("block 'digit'", "label -2 in row 0", "-1 is missing")),
    ({"group": [[1, 2], [1, 3]]}, ("block 'group' (Categorical, 2/3 classes)", "label 3 in row 1", "from 0 to 2")),
    ({"group": [[2, 2]]}, ("block 'group'", "label 2 in row 0", "from 0 to 1")),
    ({"bit": [0, 2]}, ("block 'bit' (Binary)", "label 2 in row 1", "from 0 to 1")),
    ({"digit": [1.0, 2.5]}, ("block 'digit'", "got 2.5 in row 1", "whole numbers", "Declare the block Continuous")),
    ({"digit": [NAN, 3.5]}, ("block 'digit'", "got 3.5 in row 1", "-1 or NaN is missing")),
    ({"digit": [NAN, -2.0]}, ("block 'digit'", "label -2 in row 1", "from 0 to 9")),
    ({"digit": [0.0, 1e18]}, ("block 'digit'", "label 1000000000000000000 in row 1", "from 0 to 9")),
    ({"digit": [1e30]}, ("block 'digit'", f"label {int(1e30)} in row 0", "from 0 to 9")),
    ({"bit": [math.inf]}, ("block 'bit'", "got inf in row 0", "whole numbers")),
    ({"x": [[0.0, 1.0], [0.0, math.inf]]}, ("block 'x' (Continuous)", "got inf in row 1", "finite", "NaN is missing")),
    ({"x": [[-math.inf, 1.0]]}, ("block 'x'", "got -inf in row 0")),
    ({"x": [[1e300, 1.0]]}, ("block 'x'", "got 1e+300 in row 0", "finite in float32")),
    ({"share": [0.5, 1.5]}, ("block 'share' (Continuous)", "got 1.5 in row 1", "in [0, 1]", "NaN is missing")),
    ({"share": [-0.25]}, ("block 'share'", "got -0.25 in row 0")),
    ({"x": [0.0, 1.0]}, ("block 'x' (Continuous)", "shape (2,)", "expected (rows, 2)")),
    ({"bit": [[0], [1]]}, ("block 'bit'", "shape (2, 1)", "expected (rows,)")),
    ({"group": [[0, 1, 1]]}, ("block 'group'", "shape (1, 3)", "expected (rows, 2)")),
    ({"bit": [0, 1], "digit": [0]}, ("every block needs the same number of rows", "'bit': 2", "'digit': 1")),
    ({}, ("values name no block; give at least one of 'x', 'share', 'bit', 'digit', 'group'",)),
    ({"colour": [0]}, ("no block 'colour'", "'x', 'share', 'bit', 'digit', 'group'")),
    ({"x": [["a", "b"]]}, ("block 'x' (Continuous)", "cannot be read as numbers")),
    ({"x": [[None, 1.0]]}, ("block 'x'", "cannot be read as numbers")),
    ({"x": [[1.0], [1.0, 2.0]]}, ("block 'x'", "cannot be read as numbers")),
    ({"x": [[1j, 0]]}, ("block 'x'", "complex numbers")),
]


@pytest.mark.parametrize(("values", "parts"), REFUSED, ids=[" ".join(parts[:2]) for _, parts in REFUSED])
def test_what_does_not_fit_is_refused_by_name(values: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(parts[0])) as error:
        SMALL.encode(values)
    assert [part for part in parts if part not in str(error.value)] == []


def test_a_space_is_made_of_at_least_one_block() -> None:
    with pytest.raises(ValueError, match="needs at least one block, such as"):
        Space()
    with pytest.raises(TypeError, match="block 'x' must be Continuous, Binary or Categorical, got int"):
        Space(x=3)  # type: ignore[arg-type]


def test_num_classes_are_those_of_every_variable_of_a_discrete_block() -> None:
    assert [SMALL.num_classes(name) for name in SMALL.discrete] == [(2,), (10,), (2, 3)]
    assert Space(y=Categorical(4, (1, 2))).num_classes("y") == (4, 4)
    with pytest.raises(ValueError, match="no discrete block 'x'; this space has 'bit', 'digit', 'group'"):
        SMALL.num_classes("x")


def test_require_takes_a_string_for_one_name() -> None:
    SMALL.require("digit", discrete=True)
    with pytest.raises(ValueError, match="no block 'digits'"):
        SMALL.require("digits")


def test_require_names_what_there_is() -> None:
    SMALL.require(["x", "bit"])
    SMALL.require(["bit"], discrete=True)
    with pytest.raises(ValueError, match="no discrete block 'x'; this space has 'bit', 'digit', 'group'"):
        SMALL.require(["x"], discrete=True)
    with pytest.raises(ValueError, match="no continuous block 'bit'; this space has 'x', 'share'"):
        SMALL.require(["bit"], discrete=False)
    with pytest.raises(ValueError, match="no discrete block 'y'; this space has none"):
        Space(x=Continuous()).require(["y"], discrete=True)


# A space is a value.


def test_spaces_are_equal_if_names_blocks_and_order_are() -> None:
    space = Space(x=Continuous(2), y=Categorical((2, 3)))
    same = Space(x=Continuous((2,)), y=Categorical((2, 3)))
    assert space == same and hash(space) == hash(same) and {space: 1}[same] == 1
    for other in (
        Space(y=Categorical((2, 3)), x=Continuous(2)),
        Space(x=Continuous(3), y=Categorical((2, 3))),
        Space(x=Continuous(2), z=Categorical((2, 3))),
        Space(x=Continuous(2, Logit()), y=Categorical((2, 3))),
        Space(x=Continuous(2)),
    ):
        assert space != other
    assert space != {"x": Continuous(2), "y": Categorical((2, 3))}


def test_a_space_is_a_mapping_that_reads_its_declaration_back() -> None:
    space = Space(x=Continuous(2), y=Binary())
    assert list(space) == ["x", "y"] and len(space) == 2 and space["y"] == Binary() and "z" not in space
    assert repr(space) == f"Space(x={Continuous(2)!r}, y={Binary()!r})"
    assert Space.from_config(json.loads(json.dumps(ALL_KINDS.config))) == ALL_KINDS
    with pytest.raises(TypeError):
        space["z"] = Binary()  # type: ignore[index]


def test_names_by_kind_keep_their_order() -> None:
    assert ALL_KINDS.continuous == ("point", "image")
    assert ALL_KINDS.discrete == ("bit", "bits", "digit", "pair", "group")


# Clamping.

GIVEN_SPACE = Space(x=Continuous(2), share=Continuous((), Logit()), bit=Binary(), group=Categorical((2, 3)))


def test_given_entries_stand_in_place_and_the_rest_is_free() -> None:
    given_values = {"x": [[0.5, NAN], [NAN, NAN], [1.0, 2.0]], "group": [[1, -1], [0, 2], [-1, -1]]}
    position, free = GIVEN_SPACE.clamp(given_values, num_chains=3, generator=seeded())
    values = GIVEN_SPACE.decode(position)
    assert free["x"].tolist() == [[False, True], [True, True], [False, False]]
    assert free["group"].tolist() == [[False, True], [False, False], [True, True]]
    assert free["bit"].tolist() == [True] * 3 and free["share"].tolist() == [True] * 3
    for name, array in given_values.items():
        clamped = ~free[name]
        assert values[name][clamped].tolist() == torch.tensor(array)[clamped].tolist()


def test_nothing_is_missing_at_the_start() -> None:
    position, _ = GIVEN_SPACE.clamp({"x": [NAN, 1.0], "bit": -1}, num_chains=100, generator=seeded())
    values = GIVEN_SPACE.decode(position)
    assert all(bool(value.isfinite().all()) for value in position.values())
    assert all(bool((values[name] >= 0).all()) for name in GIVEN_SPACE.discrete)
    again, _ = GIVEN_SPACE.encode({name: values[name] for name in GIVEN_SPACE.discrete})
    assert all(torch.equal(again[name], position[name]) for name in GIVEN_SPACE.discrete)  # every row is a code


@pytest.mark.parametrize("absent", [None, {}])
def test_without_given_values_everything_is_free(absent: Any) -> None:
    position, free = GIVEN_SPACE.clamp(absent, num_chains=4, generator=seeded())
    for name, block in GIVEN_SPACE.items():
        assert position[name].shape == (4, *block.position_shape)
        assert free[name].shape == (4, *block.variable_shape) and bool(free[name].all())


@pytest.mark.parametrize(
    ("given_values", "wanted"),
    [
        ({"bit": 1}, [1, 1, 1]),
        ({"bit": [0, 1, 1]}, [0, 1, 1]),
        ({"x": 2.0}, [[2.0, 2.0]] * 3),
        ({"x": [1.0, 2.0]}, [[1.0, 2.0]] * 3),
        ({"x": [[1.0], [2.0], [3.0]]}, [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]),
        ({"group": [[1, 2]]}, [[1, 2]] * 3),
    ],
)
def test_given_values_broadcast_over_chains_and_then_variables(given_values: dict[str, Any], wanted: Any) -> None:
    position, free = GIVEN_SPACE.clamp(given_values, num_chains=3, generator=seeded())
    ((name, _),) = given_values.items()
    assert GIVEN_SPACE.decode(position)[name].tolist() == wanted
    assert not free[name].any()


def test_free_entries_start_from_the_initial_positions() -> None:
    init = Noise.uniform(GIVEN_SPACE).draw(3, generator=seeded(1))
    position, _ = GIVEN_SPACE.clamp({"x": [NAN, 7.0], "group": [-1, 2]}, num_chains=3, generator=seeded(), init=init)
    assert torch.equal(position["x"][:, 0], init["x"][:, 0]) and position["x"][:, 1].tolist() == [7.0] * 3
    assert torch.equal(position["group"][:, :2], init["group"][:, :2])
    assert position["group"][:, 2:].tolist() == [[0, 0, 1]] * 3
    assert torch.equal(position["bit"], init["bit"]) and torch.equal(position["share"], init["share"])
    assert init["x"][:, 1].tolist() != [7.0] * 3  # what was passed in is not written to


def test_clamped_entries_hide_whatever_the_initial_positions_hold_there() -> None:
    init, _ = Space(x=Continuous(2)).encode({"x": [[NAN, 1.0]]})
    position, _ = Space(x=Continuous(2)).clamp({"x": [3.0, NAN]}, num_chains=1, generator=seeded(), init=init)
    assert position["x"].tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clamp_draws_in_the_dtype_that_was_asked_for_or_that_of_the_initial_positions(dtype: torch.dtype) -> None:
    drawn, _ = GIVEN_SPACE.clamp({"x": 1.0}, num_chains=2, generator=seeded(), dtype=dtype)
    again, _ = GIVEN_SPACE.clamp({"x": 1.0}, num_chains=2, generator=seeded(), init=drawn)
    assert {value.dtype for value in (drawn | again).values()} == {dtype}
    assert {value.dtype for value in again.values()} == {dtype}


@pytest.mark.parametrize(
    ("given_values", "parts"),
    [
        ({"colour": 1}, ("no block 'colour'", "'x', 'share', 'bit', 'group'")),
        ({"bit": [0, 1]}, ("block 'bit' (Binary)", "shape (2,)", "do not broadcast to (3,)")),
        ({"x": [1.0, 2.0, 3.0]}, ("block 'x' (Continuous)", "shape (3,)", "do not broadcast to (3, 2)")),
    ],
)
def test_clamp_refuses_what_does_not_fit(given_values: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(parts[0])) as error:
        GIVEN_SPACE.clamp(given_values, num_chains=3, generator=seeded())
    assert [part for part in parts if part not in str(error.value)] == []


def test_clamp_refuses_initial_positions_of_the_wrong_shape() -> None:
    init = Noise.uniform(GIVEN_SPACE).draw(3, generator=seeded())
    with pytest.raises(ValueError, match=r"block 'x' .*got initial positions of shape \(3, 2\), expected \(4, 2\)"):
        GIVEN_SPACE.clamp(None, num_chains=4, generator=seeded(), init=init)
    del init["group"]
    with pytest.raises(ValueError, match=r"block 'group' .*got initial positions of shape none, expected \(3, 5\)"):
        GIVEN_SPACE.clamp({"group": [0, 0]}, num_chains=3, generator=seeded(), init=init)


def test_clamp_refuses_initial_positions_that_are_no_floats() -> None:
    init = Noise.uniform(GIVEN_SPACE).draw(3, generator=seeded())
    with pytest.raises(ValueError, match=r"block 'bit' .*got initial positions of torch.int64; positions are floats"):
        GIVEN_SPACE.clamp(None, num_chains=3, generator=seeded(), init=init | {"bit": init["bit"].long()})


@pytest.mark.parametrize("num_chains", [0, -1])
def test_clamp_refuses_a_number_of_chains_below_one(num_chains: int) -> None:
    with pytest.raises(ValueError, match=f"num_chains is a whole number >= 1, got {num_chains}"):
        GIVEN_SPACE.clamp({"bit": 1}, num_chains=num_chains, generator=seeded())


# Configurations.

DISCRETE_SPACES = [
    Space(bit=Binary()),
    Space(bits=Binary((2, 2))),
    Space(y=Categorical(5)),
    Space(y=Categorical(3, (2,))),
    Space(y=Categorical((2, 1, 3))),
    Space(a=Binary(2), x=Continuous(3), b=Categorical(3), c=Categorical((2, 3))),
]
every_discrete_space = pytest.mark.parametrize("space", DISCRETE_SPACES, ids=lambda space: "-".join(space))


@every_discrete_space
def test_configurations_are_all_combinations_with_the_last_variable_counting_fastest(space: Space) -> None:
    labels = space.decode(space.configurations())
    joined = torch.cat([labels[name].reshape(space.num_configurations, -1) for name in space.discrete], dim=1)
    counts = [count for name in space.discrete for count in space[name].num_classes_per_variable]  # type: ignore[union-attr]
    assert joined.tolist() == [list(labels) for labels in itertools.product(*map(range, counts))]


@every_discrete_space
def test_configuration_index_undoes_configurations(space: Space) -> None:
    assert space.configuration_index(space.configurations()).tolist() == list(range(space.num_configurations))


@every_discrete_space
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_configurations_in_pieces_join_up(space: Space, size: int) -> None:
    total = space.num_configurations
    pieces = [space.configurations(start=start, stop=min(start + size, total)) for start in range(0, total, size)]
    joined = {name: torch.cat([piece[name] for piece in pieces]) for name in space.discrete}
    assert_same(joined, space.configurations())


def test_configurations_far_out_in_a_space_too_large_to_list() -> None:
    space = Space(bits=Binary(50), y=Categorical(7))
    start = space.num_configurations - 2
    assert space.num_configurations == 2**50 * 7
    last = space.configurations(start=start, stop=start + 2, dtype=torch.float64)
    assert last["bits"].dtype == torch.float64 and bool((last["bits"] == 1).all())
    assert space.decode(last)["y"].tolist() == [5, 6]
    assert space.configuration_index(last).tolist() == [start, start + 1]


def test_a_space_without_labels_has_one_configuration_and_no_index() -> None:
    space = Space(x=Continuous())
    assert space.num_configurations == 1 and space.configurations() == {}
    with pytest.raises(ValueError, match="this space has no discrete block"):
        space.configuration_index({"x": torch.zeros(1)})


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (-1, 3), (4, 2), (7, None)])
def test_configurations_beyond_those_there_are_are_refused(start: int, stop: int | None) -> None:
    space = Space(bit=Binary(), y=Categorical(3))
    with pytest.raises(ValueError, match=f"got start {start} and stop {6 if stop is None else stop}, .* has 6"):
        space.configurations(start=start, stop=stop)
