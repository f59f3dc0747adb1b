"""Specification of `Noise`, from which chains start (App. B, "Sampling Noise")."""

import pytest
import torch

from jointebm import Binary, Categorical, Continuous, Noise, Space
from jointebm.spaces.transforms import Logit
from support.generators import Fixed, seeded

SPACE = Space(x=Continuous(2), z=Continuous((), Logit()), bits=Binary(2), y=Categorical(4), group=Categorical((2, 3)))
BATCH, _ = SPACE.encode(
    {
        "x": [[1.0, -2.0], [3.0, 5.0], [2.0, 0.0], [1.5, 0.5]],
        "z": [0.25, 0.5, 0.75, 0.5],
        "bits": [[1, 0], [1, 0], [1, 1], [0, 0]],
        "y": [3, 3, 3, 1],
        "group": [[0, 2], [0, 2], [0, 1], [1, 2]],
    }
)
FALSE_ALARM_RATE = 1e-6


@pytest.mark.parametrize("labels", ["frequency", "uniform"])
@pytest.mark.parametrize("number", [0.0, 0.25, 0.5])
def test_reals_are_uniform_between_the_least_and_the_largest_entry_of_the_batch(labels: str, number: float) -> None:
    position = Noise.from_batch(SPACE, BATCH, labels=labels).draw(3, generator=Fixed(number))
    for name in SPACE.continuous:
        low, high = BATCH[name].amin(dim=0), BATCH[name].amax(dim=0)
        torch.testing.assert_close(position[name], (low + number * (high - low)).expand(3, *low.shape))


def test_labels_by_frequency_have_the_class_frequencies_of_the_batch() -> None:
    parameters = Noise.from_batch(SPACE, BATCH, labels="frequency").parameters
    assert parameters["bits"].tolist() == [0.75, 0.25]
    assert parameters["y"].tolist() == [0, 0.25, 0, 0.75]
    assert parameters["group"].tolist() == [0.75, 0.25, 0, 0.25, 0.75]


def test_labels_are_chosen_by_the_weights_of_their_own_variable() -> None:
    stream = Fixed(0.6)
    position = Noise.from_batch(SPACE, BATCH, labels="frequency").draw(2, generator=stream)
    assert [weights.exp().tolist()[0] for weights in stream.log_weights] == [
        pytest.approx([0, 0.25, 0, 0.75]),
        pytest.approx([0.75, 0.25]),
        pytest.approx([0, 0.25, 0.75]),
    ]
    assert position["bits"].tolist() == [[1.0, 0.0]] * 2  # 0.6 lies below 0.75 and above 0.25


def test_uniform_labels_give_every_class_of_a_variable_the_same_weight() -> None:
    stream = Fixed(0.0)
    noise = Noise.from_batch(SPACE, BATCH, labels="uniform")
    noise.draw(2, generator=stream)
    assert [weights.exp().tolist()[0] for weights in stream.log_weights] == [
        pytest.approx([1 / count] * count) for count in (4, 2, 3)
    ]
    assert noise.parameters["bits"].tolist() == [0.5, 0.5]


def test_labels_by_frequency_are_drawn_that_often_and_absent_classes_never() -> None:
    """Shares of 20,000 draws within 6 standard errors: false alarms below 2e-9 each, 9 shares."""
    noise = Noise.from_batch(SPACE, BATCH, labels="frequency")
    position = noise.draw(20_000, generator=seeded(0))
    for name in SPACE.discrete:
        p = noise.parameters[name]
        share = position[name].mean(dim=0)
        assert bool(((share - p).abs() <= 6 * (p * (1 - p) / 20_000).sqrt()).all())
        assert bool((share[p == 0] == 0).all())


def test_noise_without_data_is_uniform() -> None:
    noise = Noise.uniform(SPACE)
    for name in SPACE.continuous:
        assert bool((noise.parameters[name][0] == -1).all() and (noise.parameters[name][1] == 1).all())
    assert noise.parameters["group"].tolist() == pytest.approx([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])


def test_draws_are_positions_and_follow_the_generator() -> None:
    noise = Noise.from_batch(SPACE, BATCH, labels="frequency")
    one, two = (noise.draw(7, generator=seeded(3)) for _ in range(2))
    other = noise.draw(7, generator=seeded(4))
    assert list(one) == list(SPACE)
    for name, block in SPACE.items():
        assert one[name].shape == (7, *block.position_shape)
        assert torch.equal(one[name], two[name])
    assert not torch.equal(one["x"], other["x"])
    labels = {name: SPACE.decode(one)[name] for name in SPACE.discrete}
    assert all(torch.equal(SPACE.encode(labels)[0][name], one[name]) for name in SPACE.discrete)


@pytest.mark.parametrize("labels", ["frequency", "uniform"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_have_the_dtype_of_the_batch_or_the_one_asked_for(dtype: torch.dtype, labels: str) -> None:
    noise = Noise.from_batch(SPACE, {name: value.to(dtype) for name, value in BATCH.items()}, labels=labels)
    assert {value.dtype for value in noise.draw(2, generator=torch.Generator()).values()} == {dtype}
    asked = noise.draw(2, generator=torch.Generator(), dtype=torch.bfloat16)
    assert {value.dtype for value in asked.values()} == {torch.bfloat16}


def test_variables_of_a_row_do_not_share_a_uniform() -> None:
    """Correlations of all pairs of 8 variables of 20,000 rows, 5.5 standard errors: false alarm 2e-6 (fixed seed)."""
    values = SPACE.decode(Noise.uniform(SPACE).draw(20_000, generator=seeded(0)))
    columns = torch.cat([values[name].reshape(20_000, -1).double() for name in SPACE], dim=1)
    correlations = torch.corrcoef(columns.T) - torch.eye(8)
    assert float(correlations.abs().max()) < 5.5 / 20_000**0.5


def test_a_seed_is_no_generator() -> None:
    with pytest.raises(TypeError, match=r"^generator: got 0, expected a torch\.Generator .*manual_seed\(seed\)$"):
        Noise.uniform(SPACE).draw(2, generator=0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="generator: got 0"):
        SPACE.clamp(None, num_chains=2, generator=0)  # type: ignore[arg-type]


def test_unknown_kinds_of_noise_and_a_batch_without_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="Noise: labels must be 'frequency' or 'uniform', got 'flat'"):
        Noise.from_batch(SPACE, BATCH, labels="flat")
    with pytest.raises(ValueError, match="reals must be 'range' or 'moments', got 'normal'"):
        Noise.from_batch(SPACE, BATCH, labels="uniform", reals="normal")
    with pytest.raises(ValueError, match="block 'x': needs a batch of at least one row"):
        Noise.from_batch(SPACE, {name: value[:0] for name, value in BATCH.items()}, labels="frequency")


@pytest.mark.parametrize("name", SPACE)
def test_a_batch_with_a_missing_entry_is_refused(name: str) -> None:
    spoiled = BATCH[name].clone()
    spoiled[1] = torch.nan
    with pytest.raises(ValueError, match=f"block '{name}': .* without missing or infinite entries"):
        Noise.from_batch(SPACE, BATCH | {name: spoiled}, labels="frequency")


def test_reals_by_moments_have_the_mean_and_variance_of_the_batch() -> None:
    bounds = Noise.from_batch(SPACE, BATCH, labels="uniform", reals="moments").parameters["x"]
    torch.testing.assert_close(bounds.mean(dim=0), BATCH["x"].mean(dim=0))
    torch.testing.assert_close((bounds[1] - bounds[0]).square() / 12, BATCH["x"].var(dim=0, correction=0))
