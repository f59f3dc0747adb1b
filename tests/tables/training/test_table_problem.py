"""What a table's loop minimises and moves, against enumeration."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm.randomness.draws import Generator
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.moves import State
from jointebm.tables.training import table_problem
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.table_problem import Negatives, TableProblem
from jointebm.training.chain_weights import Resampled, log_mean_exp
from jointebm.training.objectives import PseudoLikelihood
from support.tiny_tables import ALL, CLASSES, energy, energy_with_network, enumerated, generator, matches, mixture


def problem_of(
    made: TableEnergy, codes: Tensor, batch_size: int, *, pseudo_weight: float | None = 0.0, seed: int = 1
) -> TableProblem:
    return TableProblem(
        made,
        CompletedRows(codes, made.reference, generator()),
        observed=codes,
        pseudo_likelihood=PseudoLikelihood(),
        pseudo_weight=pseudo_weight,
        bins=(None,) * 3,
        batch_size=batch_size,
        precision=torch.float64,
        generator=generator(seed),
    )


def nll(made: TableEnergy, codes: Tensor) -> Tensor:
    """-log p(observed) per row, by enumeration."""
    everything = made(ALL)
    seen = everything.expand(len(codes), 24).masked_fill(~matches(codes), -torch.inf)
    return (everything.logsumexp(dim=0) - seen.logsumexp(dim=1)).mean()


@pytest.fixture
def always_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains are run however near the reference is."""
    monkeypatch.setattr(table_problem, "ENOUGH_SHARE", 2.0)


def without_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_problem, "jump_to", lambda _, state, *__, **___: (state, torch.zeros(len(state.codes))))
    monkeypatch.setattr(table_problem, "sweep", lambda _, state, **__: (state, torch.zeros_like(state.codes[:, 0])))


def trained(made: TableEnergy, problem: TableProblem, num: int, rate: float = 0.05) -> Negatives:
    """Negatives after so many updates that push the network the same way in every run."""
    push = torch.linspace(-1, 1, len(made.residual.readout), dtype=made.residual.readout.dtype)
    for _ in range(num):
        drawn = problem.draw()
        problem.commit(drawn, problem.attempt(drawn, "iteration"))
        with torch.no_grad():
            made.residual.readout += rate * push
    negatives = problem.attempt(problem.draw(), "iteration").negatives
    assert negatives is not None
    return negatives


def fresh(dtype: torch.dtype = torch.float64, seed: int = 0, *, with_network: bool = False) -> TableEnergy:
    """F = log q, with a network that is zero, and a far proposal or none."""
    residual = Residual(CLASSES, width=8, num_layers=2)
    residual.initialise(generator(seed))
    network = energy_with_network(dtype=dtype).network if with_network else None
    return TableEnergy(mixture(dtype=dtype), residual.to(dtype), network)


@pytest.mark.usefixtures("always_chains")
def test_without_moves_it_is_importance_sampling_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    without_moves(monkeypatch)
    monkeypatch.setattr("jointebm.training.chain_weights.MIN_SHARE", 0.0)
    monkeypatch.setattr(table_problem, "resampled", lambda weights, _: Resampled(torch.arange(24), weights, weights[0]))
    made = fresh(torch.float32)
    problem = problem_of(made, ALL, 24)
    start = problem.state()["chains"].clone()
    negatives = trained(made, problem, 30)
    assert torch.equal(negatives.codes, start)
    assert torch.equal(negatives.log_weights, made.residual(start).detach())
    assert torch.equal(negatives.log_normalizer, log_mean_exp(made.residual(start).detach()))
    assert float(negatives.log_weights.std()) > 0.5  # the network has moved


def errors_of_gradients(num_seeds: int = 160, *, num_updates: int = 12, with_network: bool = False) -> Tensor:
    """Mean error of the gradient of the negative phase over seeds, in standard errors, the worst parameter; and of 1 / Z.

    Z is 1 at the start and moves with the network: the weights must know it.
    """
    errors, of_z = [], []
    for seed in range(num_seeds):
        made = fresh(with_network=with_network)
        problem = problem_of(made, ALL.repeat(10, 1), 240, seed=seed + 10)
        negatives = trained(made, problem, num_updates, rate=0.25)
        # Unbiased are sums with unnormalised weights: E[exp(A) h] = Z E[h].
        weights = negatives.log_weights.exp() / len(negatives.codes)
        probs = enumerated(made).exp()
        wanted = torch.stack([probs[ALL[:, column] == code].sum() for column in range(3) for code in range(2)])
        found = torch.stack(
            [weights[negatives.codes[:, column] == code].sum() for column in range(3) for code in range(2)]
        )
        errors.append(found - wanted)
        of_z.append(weights.sum() - probs.sum())
    stacked = torch.cat([torch.stack(errors), torch.stack(of_z)[:, None]], dim=1)
    return (stacked.mean(dim=0) / (stacked.std(dim=0) / math.sqrt(num_seeds))).abs().max()


@pytest.mark.slow
@pytest.mark.usefixtures("always_chains")
@pytest.mark.parametrize(
    ("often", "hardly_ever", "with_network"),
    [(2.0, 0.0, False), (-1.0, 0.0, False), (-1.0, 0.0, True), (2.0, 2.0, True)],
)
def test_weighted_chains_are_unbiased(
    often: float, hardly_ever: float, with_network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chain jumps and is swept, or both in turn, or it seldom jumps, with jumps from q or from a far proposal.

    The worst of 7 means over 160 seeds, in standard errors: above 4.5 with a probability below 1e-4 (fixed seeds).
    """
    monkeypatch.setattr(table_problem, "OFTEN", often)
    monkeypatch.setattr(table_problem, "HARDLY_EVER", hardly_ever)
    assert errors_of_gradients(with_network=with_network) < 4.5


@pytest.mark.usefixtures("always_chains")
@pytest.mark.parametrize(("hardly_ever", "expected"), [(0.0, 20), (2.0, 2)])
def test_chains_whose_jumps_are_hardly_ever_accepted_seldom_jump(
    hardly_ever: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In iterations 8 and 16 of 20, or in all of them; what is known of the proposal stays from jump to jump."""
    monkeypatch.setattr(table_problem, "HARDLY_EVER", hardly_ever)
    problem, calls, shares = problem_of(fresh(with_network=True), ALL, 24), [], []
    jump_to = table_problem.jump_to

    def counted(*arguments: Any, **choices: Any) -> Any:
        calls.append(len(shares) + 1)
        return jump_to(*arguments, **choices)

    monkeypatch.setattr(table_problem, "jump_to", counted)
    for _ in range(20):
        drawn = problem.draw()
        problem.commit(drawn, problem.attempt(drawn, "iteration"))
        shares.append(float(problem.state()["fresh_share"]))
    assert len(calls) == expected
    if expected == 2:
        assert calls == [8, 16] and shares[7] != shares[6] and shares[:7] == pytest.approx([shares[0]] * 7)


def test_weighted_draws_are_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_problem, "ENOUGH_SHARE", 0.0)
    assert errors_of_gradients(60) < 4.5


BUGS = ("not updated", "after the move", "not reset")


@pytest.mark.slow
@pytest.mark.usefixtures("always_chains")
@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_biased_by_more_than_ten_standard_errors(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bug == "not updated":
        original = TableProblem._negatives

        def not_updated(self: TableProblem) -> Negatives:
            return _not_updated_of(original(self))

        monkeypatch.setattr(TableProblem, "_negatives", not_updated)
    elif bug == "after the move":  # the offset is that of the place before the moves
        monkeypatch.setattr(table_problem, "OFTEN", 2.0)  # every chain is swept in every iteration
        assert errors_of_gradients(60, num_updates=4) < 4.5
        right = table_problem.sweep

        def stale(energy: TableEnergy, state: State, *, free: Tensor, generators: Any) -> tuple[State, Tensor]:
            after, num_accepted = right(energy, state, free=free, generators=generators)
            return after._replace(residual=state.residual), num_accepted

        monkeypatch.setattr(table_problem, "sweep", stale)
    else:
        resampled = table_problem.resampled

        def not_reset(log_weights: Tensor, source: Generator) -> Resampled:
            found = resampled(log_weights, source)
            return found._replace(log_weights=log_weights[found.origins])

        monkeypatch.setattr(table_problem, "resampled", not_reset)
    # A stale offset shows after few updates: later on its errors spread more than they shift.
    assert (errors_of_gradients(60, num_updates=4) if bug == "after the move" else errors_of_gradients()) > 10


def _not_updated_of(negatives: Negatives) -> Negatives:
    return negatives._replace(log_weights=torch.zeros_like(negatives.log_weights))


@pytest.mark.slow
@pytest.mark.usefixtures("always_chains")
def test_the_gradient_is_that_of_the_likelihood_of_observed_entries() -> None:
    """Means over 200 seeds of a batch of 480 chains that have mixed; within 5 standard errors, ratio bias below these."""
    row = torch.tensor([[1, -1, -1]])
    found = []
    for seed in range(40):
        made = energy()
        problem = problem_of(made, row.repeat(480, 1), 480, seed=seed)
        for _ in range(10):
            drawn = problem.draw()
            problem.commit(drawn, problem.attempt(drawn, "iteration"))
        loss = problem.attempt(problem.draw(), "iteration").loss
        # The parameters of `Curves` are vectors: those behind the first layer have their gradient.
        found.append(torch.autograd.grad(loss, made.residual.readout)[0])
    stacked = torch.stack(found)
    made = energy()
    expected = torch.autograd.grad(nll(made, row), made.residual.readout)[0]
    error = stacked.std(dim=0) / math.sqrt(len(stacked))
    assert ((stacked.mean(dim=0) - expected).abs() < 5 * error + 1e-3).all()
    assert (expected.abs() > 20 * error).any()


# Rows and chains.


def test_draws_of_a_near_reference_take_the_place_of_chains_until_it_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_problem, "SMOOTHING", 1.0)
    made = fresh()
    problem = problem_of(made, ALL, 24)
    assert trained(made, problem, 3, rate=1e-3).source == "draws"
    assert trained(made, problem, 3, rate=3.0).source == "chains"


def test_a_group_that_the_reference_never_draws_is_seen_in_the_data() -> None:
    """Draws have even weights, but the data lie where g is large."""
    nothing, ones = torch.zeros(480), torch.ones(())
    negatives = Negatives(ALL, nothing, nothing, "draws", ones, torch.zeros(()), ones, torch.zeros(()), ones)
    of_data = torch.cat([torch.zeros(475), torch.full((5,), 8.0)])
    assert table_problem._share_seen(negatives, torch.zeros(480)) == 1
    assert table_problem._share_seen(negatives, of_data) < 0.05


def test_every_row_is_drawn_once_per_pass_in_another_order_each_time() -> None:
    problem = problem_of(energy(), ALL, 5)
    passes = [torch.cat([problem.draw() for _ in range(4)]).tolist() for _ in range(6)]
    assert all(len(set(each)) == 20 for each in passes)  # the last four rows of 24 wait for another pass
    assert len({tuple(each) for each in passes}) == 6


@pytest.mark.usefixtures("always_chains")
def test_an_attempt_leaves_no_trace_until_it_is_committed() -> None:
    codes = ALL.masked_fill(torch.rand(24, 3, generator=generator(3)) < 0.5, -1)
    problem = problem_of(energy(), codes, 24)
    drawn = problem.draw()
    before = {name: tensor.clone() for name, tensor in problem.state().items()}
    attempt = problem.attempt(drawn, "iteration 1")
    assert all(torch.equal(before[name], tensor) for name, tensor in problem.state().items())
    problem.commit(drawn, attempt)
    after = problem.state()
    assert (
        attempt.negatives is not None
        and torch.equal(after["chains"], attempt.negatives.codes)
        and not torch.equal(after["chains"], before["chains"])
    )
    assert torch.equal(after["completed"][drawn].long(), attempt.codes)
    observed = codes >= 0
    assert torch.equal(after["completed"][observed].long(), codes[observed])
    assert not torch.equal(after["completed"], before["completed"])


def test_offending_chains_alone_restart_from_the_reference() -> None:
    problem = problem_of(energy(), ALL, 24)
    before = problem.state()["chains"].clone()
    offending = torch.arange(24) % 2 == 0
    assert problem.restart(problem.draw(), offending) == 12
    after = problem.state()["chains"]
    assert (problem.state()["offsets"][offending] == 0).all()
    assert torch.equal(after[~offending], before[~offending]) and not torch.equal(after[offending], before[offending])
