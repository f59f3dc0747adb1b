"""Specification of conditions: their texts, the rows that meet them, and samples given many of them in one batch."""

import pytest
import torch

from jointebm import Binary, Categorical, Continuous, Model, Noise, Space
from jointebm.data import Toy
from jointebm.inference.conditions import Condition, configurations, sample_each, single_values
from support.true_toy import TrueEnergy, toy_model

MIXED = Space(x=Continuous(), bits=Binary((2,)), group=Categorical((2, 3)), digit=Categorical(4))


def test_single_values_list_every_value_of_every_variable_once() -> None:
    conditions = single_values(MIXED)
    assert [c.text for c in conditions] == [
        *("bits[0] = 0", "bits[0] = 1", "bits[1] = 0", "bits[1] = 1"),
        *("group[0] = 0", "group[0] = 1", "group[1] = 0", "group[1] = 1", "group[1] = 2"),
        *("digit = 0", "digit = 1", "digit = 2", "digit = 3"),
    ]
    assert {name: labels.tolist() for name, labels in conditions[8].given.items()} == {"group": [-1, 2]}


def test_a_condition_holds_in_exactly_the_rows_that_meet_it() -> None:
    values = {"bits": torch.tensor([[0, 1], [1, 1], [0, 0]]), "digit": torch.tensor([3, 3, 0])}
    condition = Condition("", {"bits": torch.tensor([-1, 1]), "digit": torch.tensor(3)})
    assert condition.holds(values).tolist() == [True, True, False]
    assert Condition("", {"bits": torch.tensor([0, 1])}).holds(values).tolist() == [True, False, False]
    assert Condition("", {}).holds(values).all()


def test_configurations_come_in_the_order_of_the_space_and_partition_it() -> None:
    conditions = configurations(MIXED)
    labels = MIXED.decode(MIXED.configurations())
    holds = torch.stack([condition.holds(labels) for condition in conditions])
    assert torch.equal(holds, torch.eye(MIXED.num_configurations, dtype=torch.bool))
    assert conditions[1].text == "bits[0] = 0, bits[1] = 0, group[0] = 0, group[1] = 0, digit = 1"


@pytest.mark.slow
@pytest.mark.parametrize("max_chains", [1, 64, 1000])
def test_every_part_of_sample_each_meets_its_own_condition_and_leaves_the_rest_free(
    max_chains: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointebm.inference.conditions.MAX_CHAINS", max_chains)
    conditions = [*single_values(Toy().space), Condition("", {})]
    model = toy_model(TrueEnergy(), num_steps=4)
    generator = torch.Generator().manual_seed(0)
    parts = sample_each(model, conditions, 32, generator=generator)
    assert len(parts) == 7
    for condition, values in zip(conditions, parts, strict=True):
        assert condition.holds(values).all() and values["point"].shape == (32, 2)
        for name in Toy().space.discrete:
            assert (len(values[name].unique()) == 2) == (name not in condition.given)


@pytest.mark.parametrize("max_chains", [1, 5, 16])
def test_sample_each_never_evaluates_more_chains_at_once_than_allowed(
    max_chains: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointebm.inference.conditions.MAX_CHAINS", max_chains)

    class Counting(TrueEnergy):
        largest = 0

        def forward(self, position):  # type: ignore[no-untyped-def]
            self.largest = max(self.largest, len(position["point"]))
            return super().forward(position)

    energy = Counting()
    model = toy_model(energy, num_steps=2)
    parts = sample_each(model, single_values(Toy().space), 12, generator=torch.Generator().manual_seed(0))
    assert [len(values["point"]) for values in parts] == [12] * 6
    # Exact Gibbs evaluates both values of a bit at once.
    assert energy.largest <= 2 * max_chains


@pytest.mark.parametrize("num", [0, -3])
def test_sample_each_refuses_fewer_than_one_sample(num: int) -> None:
    with pytest.raises(ValueError, match=f"num, the samples per condition, is a whole number >= 1, got {num}"):
        sample_each(toy_model(TrueEnergy()), [Condition("", {})], num, generator=torch.Generator())


@pytest.mark.parametrize("block", ["point", "lfet"])
def test_sample_each_refuses_a_condition_on_another_block(block: str) -> None:
    conditions = [Condition("", {}), Condition("", {block: torch.tensor([0.0, 0.0])})]
    with pytest.raises(ValueError, match=f"no discrete block {block!r}; this space has"):
        sample_each(toy_model(TrueEnergy()), conditions, 2, generator=torch.Generator())


@pytest.mark.parametrize("max_chains", [3, 1000])
def test_sample_each_starts_from_the_noise_of_the_model(max_chains: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a step the samples are the noise: here reals in [5, 6] and every free label 1."""
    monkeypatch.setattr("jointebm.inference.conditions.MAX_CHAINS", max_chains)
    model = toy_model(TrueEnergy())
    certain = {name: torch.tensor([0.0, 1.0]) for name in model.space.discrete}
    bounds = torch.tensor([[5.0, 5.0], [6.0, 6.0]])
    noise = Noise(model.space, {"point": bounds, **certain})
    model = Model(model.config, energy=model.energy, noise=noise)
    conditions = [Condition("", {}), Condition("left = 0", {"left": torch.tensor(0)})]
    drawn = sample_each(model, conditions, 4, num_steps=0, generator=torch.Generator().manual_seed(0))
    for part, left in zip(drawn, (1, 0), strict=True):
        assert bool(((part["point"] >= 5) & (part["point"] <= 6)).all())
        assert part["left"].tolist() == [left] * 4 and part["bottom"].tolist() == [1] * 4
