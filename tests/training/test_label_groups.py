"""Specification of the composite likelihood of groups of labels, by enumeration: its value, its minimum, its cost."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import LabelProducts, PerPlace, StructuredEnergy
from jointebm.randomness.draws import shuffled
from jointebm.spaces.space import Position
from jointebm.training import label_groups
from jointebm.training.label_groups import label_group_likelihood
from jointebm.training.likelihoods import conditional_likelihood
from jointebm.training.objectives import LabelGroups, LossInputs
from support.mutants import altered
from support.tiny_models import LABELS, Case, every_case, gradient, make, probs


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels_of(space: Space, position: Position) -> Tensor:
    """All labels side by side, (N, V)."""
    parts = [space[name].decode(position[name]) for name in space.discrete]
    return torch.cat([part.reshape(len(part), -1) for part in parts], dim=1)


def by_definition(case: Case, row: int, groups: list[Tensor]) -> Tensor:
    """Sum over groups of -log p(y_A | others, x) of one outcome, from f at all outcomes."""
    f, labels = case.model(case.outcomes), labels_of(case.space, case.outcomes)
    same_x = torch.ones(len(f), dtype=torch.bool)
    for name in case.space.continuous:
        x = case.outcomes[name].reshape(len(f), -1)
        same_x &= (x == x[row]).all(dim=1)
    total = f.new_zeros(())
    for group in groups:
        others = [v for v in range(labels.shape[1]) if v not in group.tolist()]
        agrees = same_x & (labels[:, others] == labels[row, others]).all(dim=1)
        total = total + f[agrees].logsumexp(dim=0) - f[row]
    return total


def one_row(case: Case, row: int) -> dict[str, Tensor]:
    return {name: value[[row]] for name, value in case.outcomes.items()}


def loss(case: Case, rows: Position, size: int, seed: int, function: Any = label_group_likelihood) -> Tensor:
    return function(case.model, case.space, rows, group_size=size, generator=seeded(seed)).loss


def distance(case: Case, function: Any = label_group_likelihood) -> float:
    """Largest difference from the definition, over rows, sizes and partitions."""
    worst, num_labels = 0.0, labels_of(case.space, case.outcomes).shape[1]
    for size in range(1, num_labels + 1):
        for seed in range(3):
            groups = list(shuffled(num_labels, seeded(seed)).split(size))
            for row in (0, 3, len(probs(case)) - 1):
                found = loss(case, one_row(case, row), size, seed, function)
                worst = max(worst, float((found - by_definition(case, row, groups)).detach().abs()))
    return worst


@every_case
def test_the_loss_is_that_of_the_definition(case: Case) -> None:
    assert distance(case) < 1e-10


@every_case
def test_the_loss_of_rows_is_their_mean_and_f_is_that_of_the_rows(case: Case) -> None:
    phases = label_group_likelihood(case.model, case.space, case.data, group_size=2, generator=seeded(1))
    rows = [{name: value[[n]] for name, value in case.data.items()} for n in range(7)]
    singly = torch.stack([loss(case, row, 2, 1) for row in rows])
    torch.testing.assert_close(phases.loss, singly.mean(), rtol=0, atol=1e-10)
    torch.testing.assert_close(phases.positive, case.model(case.data), rtol=0, atol=1e-10)


@every_case
@pytest.mark.parametrize("size", [1, 2])
def test_the_truth_is_stationary_and_another_density_is_not(case: Case, size: int) -> None:
    """Expected gradient over rows drawn from exp f, as a finite sum."""
    p = probs(case)
    gradients = torch.stack([gradient(loss(case, one_row(case, row), size, 0), case) for row in range(len(p))])
    assert float((p @ gradients).abs().max()) < 1e-10
    other = torch.linspace(0, 1, len(p), dtype=torch.float64)
    assert float((other / other.sum() @ gradients).abs().max()) > 1e-3


@every_case
def test_one_group_of_all_labels_is_the_conditional_likelihood(case: Case) -> None:
    if case.space.continuous:
        torch.testing.assert_close(
            loss(case, case.data, 9, 0), conditional_likelihood(case.model, case.space, case.data), rtol=0, atol=1e-10
        )


def test_more_groups_than_are_taken_are_weighted_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one group of one label at a time, the mean over the labels is the sum over all groups."""
    space = Space(y=Categorical(3, (4,)))
    case = make("four", space, StructuredLabels(space))
    every = loss(case, case.data, 1, 0)
    monkeypatch.setattr(label_groups, "MAX_GROUPS", 1)
    seed_of = {int(taken_group(4, 1, seed)): seed for seed in range(40)}
    assert seed_of.keys() == {0, 1, 2, 3}
    taken = torch.stack([loss(case, case.data, 1, seed) for seed in seed_of.values()])
    torch.testing.assert_close(taken.mean(), every, rtol=0, atol=1e-10)
    assert float((taken - every).detach().abs().max()) > 1e-3


def test_a_smaller_last_group_is_taken_as_often_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three labels and one: either group is taken alone and counts twice; 40 seeds miss one of them in 1e-12 of cases."""
    space = Space(y=Categorical(3, (4,)))
    case = make("four", space, StructuredLabels(space))
    monkeypatch.setattr(label_groups, "MAX_GROUPS", 1)
    row, sizes = one_row(case, 5), set()
    for seed in range(40):
        group = taken_group(4, 3, seed)
        torch.testing.assert_close(loss(case, row, 3, seed), 2 * by_definition(case, 5, [group]), rtol=0, atol=1e-10)
        sizes.add(len(group))
    assert sizes == {1, 3}


def taken_group(num_labels: int, size: int, seed: int) -> Tensor:
    """The one group of a random partition that is taken."""
    generator = seeded(seed)
    groups = shuffled(num_labels, generator).split(size)
    return groups[int(shuffled(len(groups), generator)[0])]


class StructuredLabels(nn.Module):
    """Products of the four labels of a space without x."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.products = LabelProducts(4, 3, num_terms=5)
        self.y = space.discrete[0]

    def forward(self, position: Position) -> Tensor:
        return self.products(position[self.y])


STRIP = Space(image=Continuous((3, 2)), digits=Categorical(4, (3,)))


def strip(rule: float) -> tuple[StructuredEnergy, dict[str, Tensor]]:
    """An energy whose labels sum to a multiple of four, as far as a penalty says so, and rows that keep the rule."""
    generator = seeded(0)
    energy = StructuredEnergy(STRIP, PerPlace(nn.Linear(2, 4)), Rule(rule)).double()
    with torch.no_grad():
        energy.unary.net.weight.copy_(torch.randn(4, 2, generator=generator))
    digits = torch.randint(4, (6, 3), generator=generator)
    digits[:, 2] = (-digits[:, :2].sum(dim=1)) % 4
    rows = {
        "image": torch.randn(6, 3, 2, generator=generator).double(),
        "digits": nn.functional.one_hot(digits, 4).double(),
    }
    return energy, rows


class Rule(nn.Module):
    def __init__(self, penalty: float) -> None:
        super().__init__()
        self.penalty = penalty

    def forward(self, y: Tensor) -> Tensor:
        total = (y @ torch.arange(4, dtype=y.dtype)).sum(dim=1)
        return -self.penalty * (total.round() % 4 != 0).to(y.dtype)


def test_where_a_rule_fixes_each_label_groups_of_two_have_a_gradient_and_groups_of_one_have_none() -> None:
    energy, rows = strip(100.0)
    for size, low, high in ((1, 0.0, 1e-12), (2, 1e-2, torch.inf)):
        found = label_group_likelihood(energy, STRIP, rows, group_size=size, generator=seeded(0)).loss
        (of_weight,) = torch.autograd.grad(found, energy.unary.net.weight)
        assert low <= float(of_weight.abs().max()) < high


def test_without_interaction_single_labels_are_the_loss_of_a_classifier() -> None:
    energy, rows = strip(0.0)
    logits = energy.encode(rows).unflatten(1, (3, 4))
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), rows["digits"].argmax(dim=2).flatten()) * 3
    found = label_group_likelihood(energy, STRIP, rows, group_size=1, generator=seeded(0)).loss
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_encoder_runs_once() -> None:
    energy, rows = strip(1.0)
    calls: list[int] = []
    energy.unary.register_forward_hook(lambda *_: calls.append(1))
    LabelGroups(group_size=1).loss(energy, LossInputs(rows, {}, STRIP, None, seeded(0)))
    assert len(calls) == 1


FAULTS = {
    "one label keeps its class": {"zip(group, configurations.T, strict=True)": "zip(group[:1], configurations.T)"},
    "the sum leaves the true class out": {"f.logsumexp(dim=1) - f_positive)": "f.logsumexp(dim=1) - f[:, 0])"},
    "other labels move too": {"columns.variable == variable, new": "columns.variable >= variable, new"},
    "only the last group counts": {"total = total + (f.": "total = 0 * total + (f."},
    "x of another row": {"features=features\n": "features=None if features is None else features.flip(0)\n"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_mutants_are_found(fault: str) -> None:
    """By the definition on labels alone, or on rows with an encoder."""
    wrong, labels = altered_function(FAULTS[fault]), make("labels", LABELS, Linear(LABELS))
    energy, rows = strip(1.0)
    right = label_group_likelihood(energy, STRIP, rows, group_size=2, generator=seeded(0)).loss
    found = wrong(energy, STRIP, rows, group_size=2, generator=seeded(0)).loss
    assert max(float((found - right).detach().abs()), distance(labels, wrong)) > 1e-3


class Linear(nn.Module):
    """A network over all blocks side by side."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.names = tuple(space)
        width = sum(int(torch.tensor(block.position_shape).prod()) for block in space.values())
        self.net = nn.Sequential(nn.Linear(width, 7), nn.SiLU(), nn.Linear(7, 1))

    def forward(self, position: Position) -> Tensor:
        parts = [position[name].reshape(len(position[name]), -1) for name in self.names]
        return self.net(torch.cat(parts, dim=1)).squeeze(1)


def altered_function(changes: dict[str, str]) -> Any:
    return altered(label_group_likelihood, changes)  # type: ignore[arg-type]


def test_groups_with_too_many_configurations_and_missing_reals_are_refused() -> None:
    space = Space(y=Categorical(70, (2,)))
    rows = {"y": torch.zeros(1, 2, 70)}
    with pytest.raises(ValueError, match=r"classes have 4900 configurations, at most 4096; set a smaller group_size"):
        label_group_likelihood(lambda p: p["y"].sum(dim=(1, 2)), space, rows, group_size=2, generator=seeded(0))
    energy, rows = strip(1.0)
    missing = {"image": torch.ones(6, 3, 2, dtype=torch.bool), "digits": torch.zeros(6, 3, dtype=torch.bool)}
    with pytest.raises(ValueError, match="learns p\\(y \\| x\\), but reals of 'image' are missing"):
        LabelGroups().loss(energy, LossInputs(rows, {}, STRIP, missing, seeded(0)))


def test_binary_labels_have_two_classes() -> None:
    space = Space(bits=Binary(2))
    rows = {"bits": torch.tensor([[1.0, 0.0]])}
    found = label_group_likelihood(
        lambda p: 2 * p["bits"][:, 0] + p["bits"][:, 1], space, rows, group_size=2, generator=seeded(0)
    )
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0]).logsumexp(dim=0)
    torch.testing.assert_close(found.loss, weights - 2.0)
