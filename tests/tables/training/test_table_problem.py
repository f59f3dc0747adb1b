"""What a table's loop minimises and moves, against enumeration."""

import pytest
import torch
from torch import Tensor

from jointebm.tables.density.energy import TableEnergy
from jointebm.references import ProductMixture
from jointebm.tables.training import table_problem
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.table_problem import BURN_IN, Residuals, TableProblem
from jointebm.training.objectives import LossInputs, MaximumLikelihood, PseudoLikelihood
from support.tiny_tables import ALL, CLASSES, energy, enumerated, generator, matches

COUNTS = torch.arange(24) % 5 + 1  # how many of 70 rows each configuration has


def rational() -> TableEnergy:
    """An energy with a random network whose probabilities are COUNTS / 70: the base makes up for the network.

    So a finite set of rows can hold every configuration exactly as often as the model expects it.
    """
    made = energy()
    base = ProductMixture(CLASSES, 24).to(torch.float64)  # one component for each configuration
    with torch.no_grad():
        base.log_weights.copy_((COUNTS.double().log() - made.residual(ALL)).log_softmax(dim=0))
    base.log_probs.fill_(-torch.inf)
    first = torch.tensor([0, 2, 5])
    base.log_probs[ALL + first, torch.arange(24)[:, None]] = 0.0
    return TableEnergy(base, made.residual)


def contrastive(made: TableEnergy, completed: Tensor, chains: Tensor) -> Tensor:
    samples = LossInputs({"codes": completed}, {"codes": chains})
    return MaximumLikelihood().loss(Residuals(made, torch.float64), samples).loss


def gradients(value: Tensor, made: TableEnergy) -> Tensor:
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(made.residual.parameters()))])


def nll(made: TableEnergy, codes: Tensor) -> Tensor:
    """-log p(observed) per row, by enumeration."""
    everything = made(ALL)
    seen = everything.expand(len(codes), 24).masked_fill(~matches(codes), -torch.inf)
    return (everything.logsumexp(dim=0) - seen.logsumexp(dim=1)).mean()


def test_the_energy_of_this_test_has_the_probabilities_it_says() -> None:
    assert (enumerated(rational()).softmax(dim=0) - COUNTS.double() / 70).abs().max() < 1e-12


def test_its_gradient_is_that_of_the_likelihood_of_complete_rows() -> None:
    made = rational()
    chains, data = ALL.repeat_interleave(COUNTS, dim=0), ALL[[0, 3, 3, 17, 23]]
    expected = gradients(nll(made, data), made)
    assert (gradients(contrastive(made, data, chains), made) - expected).abs().max() < 1e-12
    assert expected.abs().max() > 0.1
    assert (gradients(contrastive(made, chains, data), made) + expected).abs().max() < 1e-12  # of the wrong sign


@pytest.mark.parametrize("row", [[-1, 2, 1], [1, -1, -1], [-1, -1, 0], [-1, -1, -1]])
def test_with_missing_entries_it_is_that_of_the_observed_entries(row: list[int]) -> None:
    """Eq. 8: completions stand for their conditional distribution."""
    made, codes = rational(), torch.tensor([row])
    chains = ALL.repeat_interleave(COUNTS, dim=0)
    agree = matches(codes)[0]
    completed = ALL[agree].repeat_interleave(COUNTS[agree], dim=0)
    expected = gradients(nll(made, codes), made)
    assert (gradients(contrastive(made, completed, chains), made) - expected).abs().max() < 1e-12


# Rows and chains.


def problem_of(
    made: TableEnergy, codes: Tensor, batch_size: int, *, objective: MaximumLikelihood | PseudoLikelihood | None = None
) -> TableProblem:
    return TableProblem(
        objective or MaximumLikelihood(),
        made,
        CompletedRows(codes, made.reference, generator()),
        ordered=(False,) * 3,
        batch_size=batch_size,
        precision=torch.float64,
        generator=generator(1),
    )


def test_every_row_is_drawn_once_per_pass_in_another_order_each_time() -> None:
    problem = problem_of(energy(), ALL, 5)
    passes = [torch.cat([problem.draw() for _ in range(4)]).tolist() for _ in range(6)]
    assert all(len(set(each)) == 20 for each in passes)  # the last four rows of 24 wait for another pass
    assert len({tuple(each) for each in passes}) == 6


def test_chains_start_near_the_model_and_not_where_the_reference_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,800 chains: every share within 5.5 standard errors of exp f, and some not of the reference (fixed seed)."""
    made, num = energy(), 4800
    problem = problem_of(made, ALL.repeat(200, 1), num)
    sweeps: list[int] = []
    sweep = table_problem.sweep
    monkeypatch.setattr(table_problem, "sweep", lambda *a, **k: (sweeps.append(1), sweep(*a, **k))[1])
    problem.start_chains()
    shares = (problem.state()["chains"][:, None] == ALL).all(dim=2).double().mean(dim=0)

    def is_like(log_weights: Tensor) -> bool:
        probs = log_weights.softmax(dim=0)
        return bool(((shares - probs).abs() <= 5.5 * (probs * (1 - probs) / num).sqrt()).all())

    assert is_like(enumerated(made)) and not is_like(made.reference(ALL))
    assert len(sweeps) == BURN_IN


def test_an_attempt_leaves_no_trace_until_it_is_committed() -> None:
    codes = ALL.masked_fill(torch.rand(24, 3, generator=generator(3)) < 0.5, -1)
    problem = problem_of(energy(), codes, 24)
    problem.start_chains()
    drawn = problem.draw()
    before = {name: tensor.clone() for name, tensor in problem.state().items()}
    attempt = problem.attempt(drawn, "iteration 1")
    assert all(torch.equal(before[name], tensor) for name, tensor in problem.state().items())
    problem.commit(drawn, attempt)
    after = problem.state()
    assert torch.equal(after["chains"], attempt.chains) and not torch.equal(after["chains"], before["chains"])
    assert torch.equal(after["completed"][drawn].long(), attempt.codes)
    observed = codes >= 0
    assert torch.equal(after["completed"][observed].long(), codes[observed])
    assert not torch.equal(after["completed"], before["completed"])


def test_offending_chains_alone_restart_from_the_reference() -> None:
    problem = problem_of(energy(), ALL, 24)
    problem.start_chains()
    before = problem.state()["chains"].clone()
    offending = torch.arange(24) % 2 == 0
    assert problem.restart(problem.draw(), offending) == 12
    after = problem.state()["chains"]
    assert torch.equal(after[~offending], before[~offending]) and not torch.equal(after[offending], before[offending])
