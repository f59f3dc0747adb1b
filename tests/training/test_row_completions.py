"""Specification of `Completions`: kept by row, from visit to visit, and nothing more than that is kept."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Noise, Space
from jointebm.spaces.space import Position
from jointebm.training.row_completions import Completions, missing_entries, noise_of

SPACE = Space(x=Continuous(3), y=Categorical(4), bits=Binary(2), group=Categorical((2, 3)))
NAN = torch.nan


def rows(num: int, *, seed: int = 0) -> dict[str, Tensor]:
    """Complete rows."""
    return Noise.uniform(SPACE).draw(num, generator=torch.Generator().manual_seed(seed))


def with_gaps(position: Position, gaps: dict[str, list[int]]) -> dict[str, Tensor]:
    """The rows with the first variable of a block missing in some of them."""
    values = {name: value.clone() for name, value in SPACE.decode(position).items()}
    for name, which in gaps.items():
        view = values[name] if values[name].ndim > 1 else values[name][:, None]
        view[which, 0] = NAN if name == "x" else -1
    return SPACE.encode(values)[0]


def draw(completions: Completions, numbers: list[int], position: Position, *, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return completions.draw(torch.tensor(numbers), position, noise=Noise.uniform(SPACE), generator=generator)


def write(completions: Completions, numbers: list[int], completed: Position, position: Position) -> None:
    missing = missing_entries(SPACE, position)
    assert missing is not None
    completions.write(torch.tensor(numbers), completed, missing)


def test_missing_entries_are_those_that_decode_as_missing() -> None:
    position = with_gaps(rows(5), {"x": [1], "y": [2], "bits": [0, 4], "group": [4]})
    missing = missing_entries(SPACE, position)
    assert missing is not None
    values = SPACE.decode(position)
    for name in SPACE:
        assert torch.equal(missing[name], values[name].isnan() if name == "x" else values[name] < 0)
        assert missing[name].shape == (5, *SPACE[name].variable_shape)
    assert missing_entries(SPACE, rows(5)) is None


def test_observed_entries_stay_and_rows_without_a_gap_draw_nothing() -> None:
    whole, generator = rows(4), torch.Generator().manual_seed(0)
    before = generator.get_state()
    same = Completions(SPACE).draw(torch.arange(4), whole, noise=Noise.uniform(SPACE), generator=generator)
    assert all(same[name] is whole[name] for name in SPACE) and torch.equal(generator.get_state(), before)
    position = with_gaps(whole, {"x": [1, 3], "y": [0], "bits": [2], "group": [0, 1, 2, 3]})
    completed = draw(Completions(SPACE), [7, 5, 3, 1], position)
    for name, value in completed.items():
        known = ~position[name].isnan()
        assert torch.equal(value[known], position[name][known]) and bool(value.isfinite().all())
    encoded, observed = SPACE.encode(SPACE.decode(completed))  # filled with what is a position
    assert all(bool(mask.all()) for mask in observed.values())
    assert all(torch.equal(encoded[name], completed[name]) for name in SPACE)


def test_a_row_goes_on_from_where_it_was_left_whatever_the_batch() -> None:
    position = with_gaps(rows(4), {"x": [0, 1], "y": [1, 2]})
    completions = Completions(SPACE)
    first = draw(completions, [10, 20, 30, 40], position)
    write(completions, [10, 20, 30, 40], first, position)
    order = [2, 0, 3, 1]
    again = draw(completions, [30, 10, 40, 20], {name: value[order] for name, value in position.items()}, seed=9)
    assert all(torch.equal(again[name], first[name][order]) for name in SPACE)
    other = draw(completions, [11, 21, 31, 41], position, seed=9)  # rows of other numbers start from noise
    assert not torch.equal(other["x"], first["x"])


def test_a_later_visit_replaces_an_earlier_one_and_of_a_row_that_comes_twice_the_last_is_kept() -> None:
    position = with_gaps(rows(3), {"x": [0, 1, 2]})
    completions = Completions(SPACE)
    for value, numbers in ((1.0, [5, 6, 7]), (2.0, [6, 8, 6])):
        completed = dict(position) | {"x": torch.full((3, 3), value) + torch.arange(3.0)[:, None] / 10}
        write(completions, numbers, completed, position)
    found = draw(completions, [5, 6, 7], position)["x"][:, 0]
    torch.testing.assert_close(found, torch.tensor([1.0, 2.2, 1.2]))


def test_only_blocks_with_a_gap_are_stored_and_memory_does_not_grow_with_epochs() -> None:
    completions, generator = Completions(SPACE), torch.Generator().manual_seed(0)
    whole = rows(50)
    position = with_gaps(whole, {"x": list(range(0, 50, 5)), "y": list(range(20))})
    sizes = []
    for _ in range(6):  # epochs, in another order each time
        for part in torch.randperm(50, generator=generator).split(8):
            batch = {name: value[part] for name, value in position.items()}
            missing = missing_entries(SPACE, batch)
            if missing is not None:
                completed = completions.draw(part, batch, noise=Noise.uniform(SPACE), generator=generator)
                completions.write(part, completed, missing)
        sizes.append(sum(tensor.numel() for tensor in completions.state().values()))
        assert completions.num_rows == {"x": 10, "y": 20, "bits": 0, "group": 0}
    assert set(sizes) == {10 * (1 + 3) + 20 * (1 + 4)}


def test_the_state_is_put_back_bit_for_bit_and_a_wrong_one_is_refused() -> None:
    position = with_gaps(rows(6), {"x": [0, 1], "y": [1, 2, 5], "group": [3]})
    completions = Completions(SPACE)
    write(completions, [9, 4, 7, 2, 0, 5], draw(completions, [9, 4, 7, 2, 0, 5], position), position)
    state = {name: tensor.clone() for name, tensor in completions.state().items()}
    restored = Completions(SPACE)
    restored.restore(state)
    assert (
        restored.state().keys()
        == state.keys()
        == {f"{p}.{n}" for p in ("rows", "position") for n in ("x", "y", "group")}
    )
    assert all(torch.equal(tensor, state[name]) for name, tensor in restored.state().items())
    for wrong in (
        {"position.x": state["position.x"][:, :2]},
        {"rows.x": state["rows.x"][:1]},
        {"rows.x": torch.tensor([3, 3])},
    ):
        with pytest.raises(ValueError, match="completions of block 'x' do not fit this run"):
            restored.restore(state | wrong)
    with pytest.raises(ValueError, match=r"'rows.z', which this run does not have"):
        restored.restore(state | {"rows.z": state["rows.x"]})
    assert all(torch.equal(tensor, state[name]) for name, tensor in restored.state().items())  # refused as a whole
    restored.restore({})
    assert restored.state() == {} and Completions(SPACE).state() == {}


def test_noise_without_gaps_is_the_papers_and_with_gaps_that_of_what_is_observed() -> None:
    whole = rows(40)
    for labels in ("frequency", "uniform"):
        one, other = Noise.from_batch(SPACE, whole, labels=labels), noise_of(SPACE, whole, labels=labels)
        assert all(torch.equal(one.parameters[name], other.parameters[name]) for name in SPACE)
    gaps = list(range(10))
    noise = noise_of(SPACE, with_gaps(whole, {"x": gaps, "y": gaps}), labels="frequency")
    bounds = torch.stack([whole["x"].amin(dim=0), whole["x"].amax(dim=0)])
    bounds[:, 0] = torch.stack([whole["x"][10:, 0].min(), whole["x"][10:, 0].max()])
    torch.testing.assert_close(noise.parameters["x"], bounds, rtol=0, atol=0)
    torch.testing.assert_close(noise.parameters["y"], (whole["y"][10:].sum(dim=0) + 10 / 4) / 40)
    unseen = noise_of(SPACE, with_gaps(whole, {"x": list(range(40)), "y": list(range(40))}), labels="frequency")
    assert unseen.parameters["x"][:, 0].tolist() == [whole["x"][:, 1:].min(), whole["x"][:, 1:].max()]
    assert unseen.parameters["y"].tolist() == [0.25] * 4
    by_moments = noise_of(SPACE, with_gaps(whole, {"x": gaps}), labels="frequency", reals="moments").parameters["x"][
        :, 0
    ]
    torch.testing.assert_close(by_moments.mean(), whole["x"][10:, 0].mean())
    torch.testing.assert_close((by_moments[1] - by_moments[0]) ** 2 / 12, whole["x"][10:, 0].var(correction=0))
    with pytest.raises(ValueError, match="block 'x': nothing of it is observed"):
        noise_of(SPACE, whole | {"x": torch.full((40, 3), NAN)}, labels="frequency")
    with pytest.raises(ValueError, match="missing or infinite"):
        noise_of(
            SPACE,
            whole | {"x": torch.tensor([[NAN, torch.inf, 0.0]] * 40).index_fill(0, torch.tensor([0]), 1.0)},
            labels="uniform",
        )
