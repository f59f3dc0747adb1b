"""Specification of the terms for rows without labels: value and gradient are those of the definition, by enumeration."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.randomness.draws import normal
from jointebm.training.label_terms import label_information, label_roughness
from support.tiny_models import CASES, Case, every_case, gradient


def information_by_definition(
    case: Case, share_of: Callable[[Tensor], Tensor] = lambda joint: joint.sum(dim=0)
) -> Tensor:
    """sum p(n, y_v) log p(n, y_v) / (p(n) p(y_v)) over rows, labels and classes, from one table for each label."""
    size, num_rows = case.space.num_configurations, len(next(iter(case.data.values())))
    configurations = case.space.configurations(dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for name in case.space.discrete:
        classes = case.space[name].decode(configurations[name]).reshape(size, -1)
        for label in classes.T:
            joint = []
            for row in range(num_rows):
                x = {n: v[[row]].expand(size, *v.shape[1:]) for n, v in case.data.items() if n in case.space.continuous}
                probs = case.model(x | configurations).softmax(dim=0) / num_rows
                joint.append(torch.stack([probs[label == k].sum() for k in label.unique()]))
            table = torch.stack(joint)  # (N, K)
            total = total + (table * (table * num_rows / share_of(table)).log()).sum()
    return total


@every_case
def test_the_information_of_labels_and_its_gradient_are_those_of_the_definition(case: Case) -> None:
    information, expected = label_information(case.model, case.space, case.data), information_by_definition(case)
    if case.space.continuous:
        assert float(expected.detach()) > 1e-5  # there is something to find
    torch.testing.assert_close(information, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(information, case), gradient(expected, case), rtol=0, atol=1e-12)


def test_the_check_finds_a_wrong_share_of_classes() -> None:
    wrong = information_by_definition(CASES[1], lambda joint: joint.mean(dim=0))
    assert float((label_information(CASES[1].model, CASES[1].space, CASES[1].data) - wrong).detach().abs()) > 1e-1


def test_the_information_of_labels_has_a_gradient_where_every_row_is_sure() -> None:
    """Probabilities that underflow to 0 give 0, not NaN."""
    x = torch.tensor([-300.0, 300.0], requires_grad=True)
    space = Space(x=Continuous(), y=Binary())
    information = label_information(
        lambda position: position["x"] * position["y"], space, {"x": x, "y": torch.zeros(2)}
    )
    information.backward()
    torch.testing.assert_close(information.detach(), torch.tensor(2.0).log())
    assert x.grad is not None and x.grad.tolist() == [0.0, 0.0]


def test_the_information_of_labels_is_kept_from_being_rounded_to_bfloat16() -> None:
    space = Space(x=Continuous(), y=Binary())
    rows = {"x": torch.tensor([-1.0, 1.0]), "y": torch.zeros(2)}
    information = label_information(lambda position: (position["x"] * position["y"]).bfloat16(), space, rows)
    exact = label_information(lambda position: position["x"] * position["y"], space, rows)
    torch.testing.assert_close(information, exact, rtol=1e-6, atol=0)


# How rough p(y | x) is.


def log_probs_of_rows(case: Case, reals: dict[str, Tensor]) -> Tensor:
    """log p(y | x) of each row, from one evaluation per row, (N, S)."""
    size = case.space.num_configurations
    configurations = case.space.configurations(dtype=torch.float64)
    rows = []
    for row in range(len(case.data[case.space.discrete[0]])):
        f = case.model({n: v[row].expand(size, *v.shape[1:]) for n, v in reals.items()} | configurations)
        rows.append(f - f.exp().sum().log())
    return torch.stack(rows)


def roughness_by_definition(case: Case, radius: float, seed: int, *, holds_start: bool = True) -> Tensor:
    """Miyato et al. 2018, row by row: the direction of one gradient, and the divergence at the end of it."""
    reals = {name: case.data[name] for name in case.space.continuous}
    generator = torch.Generator().manual_seed(seed)
    directions = {name: normal(value, generator) for name, value in reals.items()}
    start = log_probs_of_rows(case, reals)
    total = torch.zeros((), dtype=torch.float64)
    for row in range(len(start)):
        length = sum(float(d[row].square().sum()) for d in directions.values()) ** 0.5
        at = {n: (v + radius * directions[n] / length).requires_grad_() for n, v in reals.items()}
        divergence = (start[row].exp() * (start[row] - log_probs_of_rows(case, at)[row])).sum()
        slopes = dict(zip(at, torch.autograd.grad(divergence, list(at.values()), retain_graph=True), strict=True))
        steepness = sum(float(slope[row].square().sum()) for slope in slopes.values()) ** 0.5
        end = log_probs_of_rows(case, {n: v + radius * slopes[n] / steepness for n, v in reals.items()})[row]
        of_start = start[row].detach() if holds_start else start[row]
        total = total + (of_start.exp() * (of_start - end)).sum() / len(start)
    return total


WITH_REALS = [case for case in CASES if case.space.continuous]


@pytest.mark.parametrize("case", WITH_REALS, ids=lambda case: case.name)
def test_the_roughness_of_labels_and_its_gradient_are_those_of_the_definition(case: Case) -> None:
    generator = torch.Generator().manual_seed(3)
    roughness = label_roughness(case.model, case.space, case.data, radius=0.7, generator=generator)
    expected = roughness_by_definition(case, 0.7, seed=3)
    assert float(expected.detach()) > 1e-4  # there is something to find
    torch.testing.assert_close(roughness, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(roughness, case), gradient(expected, case), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("radius", "seed", "holds_start"), [(0.8, 3, True), (0.7, 4, True), (0.7, 3, False)])
def test_the_check_finds_another_radius_direction_or_gradient(radius: float, seed: int, holds_start: bool) -> None:
    case = WITH_REALS[0]
    roughness = label_roughness(
        case.model, case.space, case.data, radius=0.7, generator=torch.Generator().manual_seed(3)
    )
    wrong = roughness_by_definition(case, radius, seed, holds_start=holds_start)
    assert float((gradient(roughness, case) - gradient(wrong, case)).abs().max()) > 1e-6


def test_where_only_one_direction_matters_the_move_is_along_it_whatever_was_drawn() -> None:
    """p(y = 1 | x) = sigmoid(w x) and x = 0: the worst move is radius w / |w|, to either side."""
    space = Space(x=Continuous(3), y=Binary())
    w, rows = torch.tensor([1.0, -2.0, 2.0]), {"x": torch.zeros(4, 3), "y": torch.zeros(4)}
    for seed in range(5):
        roughness = label_roughness(
            lambda position: (position["x"] @ w) * position["y"],
            space,
            rows,
            radius=0.5,
            generator=torch.Generator().manual_seed(seed),
        )
        torch.testing.assert_close(roughness, torch.tensor(0.5 * 3 / 2).cosh().log())


def test_labels_that_do_not_depend_on_x_are_not_rough_and_have_a_gradient() -> None:
    bias = torch.tensor(0.3, requires_grad=True)
    space, rows = Space(x=Continuous(), y=Binary()), {"x": torch.ones(2), "y": torch.zeros(2)}
    roughness = label_roughness(
        lambda position: bias * position["y"] + 0 * position["x"],
        space,
        rows,
        radius=1.0,
        generator=torch.Generator().manual_seed(0),
    )
    roughness.backward()
    assert float(roughness.detach()) == 0 and bias.grad is not None and float(bias.grad) == 0


def test_the_roughness_of_labels_moves_all_reals_together_and_changes_no_input() -> None:
    space = Space(a=Continuous(2), b=Continuous((2, 2)), y=Categorical(3))
    rows = {"a": torch.ones(5, 2), "b": torch.ones(5, 2, 2), "y": torch.eye(3)[[0] * 5]}
    seen: list[dict[str, Tensor]] = []

    def f(position: dict[str, Tensor]) -> Tensor:
        seen.append({name: position[name].detach().clone() for name in ("a", "b")})
        return (position["y"] * torch.arange(3)).sum(dim=1) * (
            position["a"].sum(dim=1) + position["b"].square().sum((1, 2))
        )

    label_roughness(f, space, rows, radius=2.0, generator=torch.Generator().manual_seed(0))
    moved = [
        (place["a"] - 1).square().sum(dim=1) + (place["b"] - 1).square().sum(dim=(1, 2)) for place in seen
    ]  # all three classes of a row lie side by side
    for squares, length in zip(moved, (0.0, 2.0, 2.0), strict=True):
        torch.testing.assert_close(squares.sqrt(), torch.full_like(squares, length))
    assert all(bool((rows[name] == 1).all()) for name in ("a", "b"))
