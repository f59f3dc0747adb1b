"""Specification of the objectives: their gradient is that of the log-likelihood, with every log Z by enumeration.

A sampled gradient with exact negatives is a random variable over few outcomes, so its expectation is a finite sum: the
gradient with one negative chain at outcome s, times the probability of s. Nothing here is statistical.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from jointebm import Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy
from jointebm.spaces.space import Position
from jointebm.training.objectives import (
    Phases,
    conditional_likelihood,
    maximum_likelihood,
    observed_log_density,
    summed_maximum_likelihood,
)
from support.tiny_models import CASES, MIXED, Case, every_case, gradient, probs

Objective = Callable[[Case, Position], Phases]


def plain(case: Case, negative: Position) -> Phases:
    return maximum_likelihood(case.model, case.data, negative)


def summed(case: Case, negative: Position) -> Phases:
    return summed_maximum_likelihood(case.model, case.space, case.data, negative)


def shared(case: Case, negative: Position) -> Phases:
    return summed_maximum_likelihood(case.model, case.space, case.data, negative, sampled_share=0.25)


def likelihood_gradient(case: Case) -> Tensor:
    """Gradient of the negative mean log-likelihood of the data, log Z by enumeration."""
    log_z = case.model(case.outcomes).logsumexp(dim=0)
    return gradient(log_z - case.model(case.data).mean(), case)


def gradients_of_single_chains(case: Case, objective: Objective) -> Tensor:
    """The gradient with one negative chain, for every place it can be in, shape (outcomes, parameters)."""
    rows = [{name: value[[s]] for name, value in case.outcomes.items()} for s in range(len(probs(case)))]
    return torch.stack([gradient(objective(case, row).loss, case) for row in rows])


def bias(case: Case, objective: Objective) -> float:
    """Largest difference between the expected gradient with exact negatives and that of the likelihood."""
    expected = probs(case) @ gradients_of_single_chains(case, objective)
    return float((expected - likelihood_gradient(case)).abs().max())


@every_case
@pytest.mark.parametrize("objective", [plain, summed, shared])
def test_the_gradient_with_exact_negatives_is_that_of_the_likelihood(case: Case, objective: Objective) -> None:
    assert float(likelihood_gradient(case).abs().max()) > 1e-2  # there is something to find
    assert bias(case, objective) < 1e-10


@every_case
@pytest.mark.parametrize("objective", [plain, summed, shared])
def test_many_chains_are_the_mean_of_single_chains(case: Case, objective: Objective) -> None:
    chosen = torch.tensor([0, 3, 3, 5, len(probs(case)) - 1])
    together = gradient(objective(case, {name: value[chosen] for name, value in case.outcomes.items()}).loss, case)
    singly = gradients_of_single_chains(case, objective)[chosen].mean(dim=0)
    torch.testing.assert_close(together, singly, rtol=0, atol=1e-12)


@every_case
def test_both_objectives_agree_in_expectation_and_summing_y_out_is_never_noisier(case: Case) -> None:
    p = probs(case)
    singles, sums = gradients_of_single_chains(case, plain), gradients_of_single_chains(case, summed)
    torch.testing.assert_close(p @ singles, p @ sums, rtol=0, atol=1e-10)
    variance, variance_summed = (p @ each.square() - (p @ each).square() for each in (singles, sums))
    assert bool((variance_summed <= variance + 1e-12).all())
    assert float(variance_summed.sum()) < 0.9 * float(variance.sum())


@every_case
def test_summing_y_out_is_the_conditional_expectation_at_every_x(case: Case) -> None:
    """sum_y p(y | x) grad f(x, y) = grad log sum_y exp f(x, y), at each x by itself."""
    size = case.space.num_configurations
    singles, sums = gradients_of_single_chains(case, plain), gradients_of_single_chains(case, summed)
    for start in range(0, len(sums), size):
        conditional = probs(case)[start : start + size] / probs(case)[start : start + size].sum()
        expected = conditional @ singles[start : start + size]
        torch.testing.assert_close(sums[start : start + size], expected.expand(size, -1), rtol=0, atol=1e-10)


@every_case
def test_a_share_of_the_chains_own_labels_lies_between_both_objectives(case: Case) -> None:
    each = [gradients_of_single_chains(case, objective) for objective in (plain, summed, shared)]
    torch.testing.assert_close(each[2], 0.25 * each[0] + 0.75 * each[1], rtol=0, atol=1e-10)


@every_case
def test_phases_report_f_of_the_data_and_of_the_chains(case: Case) -> None:
    negative = {name: value[:4] for name, value in case.outcomes.items()}
    phases = plain(case, negative)
    torch.testing.assert_close(phases.positive, case.model(case.data), rtol=0, atol=1e-12)
    torch.testing.assert_close(phases.negative, case.model(negative), rtol=0, atol=1e-12)
    torch.testing.assert_close(phases.loss, phases.negative.mean() - phases.positive.mean(), rtol=0, atol=1e-12)
    phases, size = summed(case, negative), case.space.num_configurations
    marginal = case.model(case.outcomes).reshape(-1, size).logsumexp(dim=1)  # log sum_y exp f, per x
    torch.testing.assert_close(phases.positive, case.model(case.data), rtol=0, atol=1e-12)
    torch.testing.assert_close(phases.negative, marginal[torch.arange(4) // size], rtol=0, atol=1e-12)
    torch.testing.assert_close(phases.loss, phases.negative.mean() - phases.positive.mean(), rtol=0, atol=1e-12)


def test_data_and_chains_may_differ_in_number() -> None:
    case = CASES[1]
    phases = plain(case, {name: value[:4] for name, value in case.outcomes.items()})
    assert phases.positive.shape == (7,) and phases.negative.shape == (4,)


def test_no_gradient_flows_into_the_chains() -> None:
    case = CASES[1]
    negative = {name: value[:4].clone().requires_grad_() for name, value in case.outcomes.items()}
    plain(case, negative).loss.backward()
    assert all(value.grad is None for value in negative.values())
    case.model.zero_grad()


def test_the_sum_over_y_follows_the_dtype_of_the_chains() -> None:
    model = ConcatEnergy(MIXED, MLP(6, (4,)))
    outcomes = {name: value.float() for name, value in CASES[1].outcomes.items()}
    assert summed_maximum_likelihood(model, MIXED, outcomes, outcomes).loss.dtype == torch.float32
    assert summed(CASES[1], CASES[1].outcomes).loss.dtype == torch.float64


# Planted bugs.


def wrong_sign(case: Case, negative: Position) -> Phases:
    phases = plain(case, negative)
    return phases._replace(loss=-phases.loss)


def sums_of_chains_and_means_of_data(case: Case, negative: Position) -> Phases:
    phases = plain(case, negative)
    return phases._replace(loss=2 * phases.negative.sum() - phases.positive.mean())


def mean_over_y_instead_of_logsumexp(case: Case, negative: Position) -> Phases:
    size = case.space.num_configurations
    repeated = {name: value.repeat_interleave(size, dim=0) for name, value in negative.items()}
    f = case.model(repeated | case.space.configurations(dtype=torch.float64))
    return Phases(f.mean() - case.model(case.data).mean(), f, f)


@pytest.mark.parametrize("fault", [wrong_sign, sums_of_chains_and_means_of_data, mean_over_y_instead_of_logsumexp])
@every_case
def test_the_check_finds_wrong_objectives(case: Case, fault: Objective) -> None:
    assert bias(case, fault) > 1e-3


# The composite term.


@every_case
def test_the_conditional_likelihood_and_its_gradient_are_those_of_the_enumerated_conditional(case: Case) -> None:
    """-mean log p(y | x) from the softmax of f over all y, by autograd through another way of writing it."""
    size = case.space.num_configurations
    configurations = case.space.configurations(dtype=torch.float64)
    log_probs = []
    for row in range(len(next(iter(case.data.values())))):
        x = {n: v[[row]].expand(size, *v.shape[1:]) for n, v in case.data.items() if n not in case.space.discrete}
        f = case.model(x | configurations)
        same = torch.stack(
            [(configurations[n] == case.data[n][row]).reshape(size, -1).all(dim=1) for n in case.space.discrete]
        ).all(dim=0)
        log_probs.append(f.log_softmax(dim=0)[same].squeeze())
    expected = -torch.stack(log_probs).mean()
    loss = conditional_likelihood(case.model, case.space, case.data)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(loss, case), gradient(expected, case), rtol=0, atol=1e-12)


def test_jems_objective_is_the_summed_one() -> None:
    """log p(y | x) + log p(x): what JEM maximises is what "summed" maximises, term by term (App. A.2)."""
    case = CASES[1]
    negative = {name: value[:4] for name, value in case.outcomes.items()}
    phases, size = summed(case, negative), case.space.num_configurations
    configurations = case.space.configurations(dtype=torch.float64)
    log_marginal = [
        case.model(
            {n: v.repeat_interleave(size, dim=0) for n, v in rows.items() if n not in case.space.discrete}
            | {n: v.repeat(len(next(iter(rows.values()))), *[1] * (v.ndim - 1)) for n, v in configurations.items()}
        )
        .reshape(-1, size)
        .logsumexp(dim=1)
        .mean()
        for rows in (case.data, negative)
    ]
    jem = conditional_likelihood(case.model, case.space, case.data) - (log_marginal[0] - log_marginal[1])
    torch.testing.assert_close(phases.loss, jem, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(phases.loss, case), gradient(jem, case), rtol=0, atol=1e-12)


def test_sums_over_configurations_are_not_rounded_to_bfloat16() -> None:
    """An f of 8 bits is summed in float32: what is lost is lost in f alone."""
    space = Space(x=Continuous(), y=Categorical(3))
    coarse = torch.tensor([0.0, 1.0, 2.5]).bfloat16()  # each of them exactly
    rows = {"x": torch.zeros(2), "y": torch.eye(3)[:2]}

    def f(position: Position) -> Tensor:
        return position["y"].bfloat16() @ coarse

    log_z = coarse.double().logsumexp(dim=0).float()
    nothing = {"y": torch.ones(2, dtype=torch.bool)}
    torch.testing.assert_close(summed_maximum_likelihood(f, space, rows, rows).negative, log_z.expand(2))
    torch.testing.assert_close(observed_log_density(f, space, rows, nothing), log_z.expand(2))
    torch.testing.assert_close(conditional_likelihood(f, space, rows), log_z - 0.5)
