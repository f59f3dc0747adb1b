"""Moves of missing entries: transition matrices leave exp F invariant, and each row keeps its completion."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from jointebm import Categorical, Space
from jointebm.kernels import Chain, Info, evaluate
from jointebm.references.masked_network import MaskedNetwork
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.moves import chain_at, jump, propose, redraw, sweep
from jointebm.testing import detailed_balance_residual, stationarity_residual, target_probs, transition_matrix
from references.small_spaces import outcomes
from support.tiny_tables import (
    ALL,
    CLASSES,
    energy,
    energy_with_network,
    enumerated,
    generator,
    matches,
    rebased_energy,
)

SPACE = Space(row=Categorical(CLASSES))
EVIDENCE = (None, torch.tensor([0.5, -1.0, 0.0]).double(), torch.tensor([0.0, 1.0, -2.0, 0.3]).double())


@dataclass(frozen=True)
class Move:
    """The moves of a table as a kernel over one-hot rows, so that `transition_matrix` can walk through them."""

    energy: TableEnergy
    columns: tuple[int, ...]
    evidence: Any = None
    jumps: bool = False
    uses_score = False

    def step(self, log_density: Any, chain: Chain, *, free: Any, generator: Any) -> tuple[Chain, Info]:
        may_move = free["row"].expand(len(chain.f), 3) & torch.isin(torch.arange(3), torch.tensor(self.columns))
        state = chain_at(self.energy, SPACE.decode(chain.position)["row"])
        if self.jumps:
            state, _ = jump(self.energy, state, free=may_move, generator=generator, log_weights=self.evidence)
        state, _ = sweep(self.energy, state, free=may_move, generators=lambda _: generator, log_weights=self.evidence)
        again = chain_at(self.energy, state.codes)
        for kept, fresh in zip(state, again, strict=True):
            assert (kept - fresh).abs().max() < 1e-12  # the sums of a state are never stale
        parts = [one_hot(codes, count) for codes, count in zip(state.codes.T, CLASSES, strict=True)]
        moved = evaluate(log_density, {"row": torch.cat(parts, dim=1).double()}, with_score=False)
        return moved, Info(torch.ones_like(chain.f), torch.ones_like(chain.f, dtype=torch.bool))


@dataclass(frozen=True)
class Jumps:
    """The jump of a table as a kernel over one-hot rows."""

    energy: TableEnergy
    evidence: Any
    uses_score = False

    def step(self, log_density: Any, chain: Chain, *, free: Any, generator: Any) -> tuple[Chain, Info]:
        state = chain_at(self.energy, SPACE.decode(chain.position)["row"])
        may_move = free["row"].expand(len(chain.f), 3)
        state, accepted = jump(self.energy, state, free=may_move, generator=generator, log_weights=self.evidence)
        parts = [one_hot(codes, count) for codes, count in zip(state.codes.T, CLASSES, strict=True)]
        moved = evaluate(log_density, {"row": torch.cat(parts, dim=1).double()}, with_score=False)
        return moved, Info(torch.ones_like(chain.f), accepted)


def target(made: TableEnergy, evidence: Any = None) -> Any:
    """exp F times the evidence, as a function of one-hot rows."""

    def log_density(position: dict[str, Tensor]) -> Tensor:
        codes = SPACE.decode(position)["row"]
        extra = [each[codes[:, column]] for column, each in enumerate(evidence or ()) if each is not None]
        return made(codes).detach() + sum(extra)

    return log_density


@pytest.mark.parametrize("make", [energy, rebased_energy])
@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("evidence", [None, EVIDENCE])
def test_a_move_satisfies_detailed_balance_on_every_pair_of_rows(
    column: int, evidence: Any, make: Callable[[], TableEnergy]
) -> None:
    made = make()
    matrix, position = transition_matrix(Move(made, (column,), evidence), target(made, evidence), SPACE)
    assert detailed_balance_residual(matrix, target_probs(target(made, evidence), position)) < 1e-15
    assert (matrix > 0).sum(dim=1).eq(CLASSES[column]).all()  # every class of the column can be reached, nothing else


@pytest.mark.parametrize("make", [energy, rebased_energy])
@pytest.mark.parametrize(("known", "num"), [([-1, 1, -1], 8), ([-1, -1, -1], 24)])
def test_a_sweep_over_missing_entries_leaves_their_conditional_invariant(
    known: list[int], num: int, make: Callable[[], TableEnergy]
) -> None:
    made = make()
    given = {"row": torch.tensor(known)}
    matrix, position = transition_matrix(Move(made, (0, 1, 2)), target(made), SPACE, given)
    assert matrix.shape == (num, num)
    assert stationarity_residual(matrix, target_probs(target(made), position)) < 1e-14


@pytest.mark.parametrize("make", [energy, rebased_energy, energy_with_network])
@pytest.mark.parametrize("evidence", [None, EVIDENCE])
def test_a_jump_satisfies_detailed_balance_and_reaches_every_row(
    evidence: Any, make: Callable[[], TableEnergy]
) -> None:
    made = make()
    matrix, position = transition_matrix(Jumps(made, evidence), target(made, evidence), SPACE)
    assert detailed_balance_residual(matrix, target_probs(target(made, evidence), position)) < 1e-14
    assert (matrix > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("make", [energy, rebased_energy, energy_with_network])
def test_a_jump_and_a_sweep_leave_the_density_invariant(make: Callable[[], TableEnergy]) -> None:
    """Of two missing entries; the jump and the sweep alone leave that of whole rows invariant, as tested above."""
    made, given = make(), {"row": torch.tensor([-1, 1, -1])}
    matrix, position = transition_matrix(Move(made, (0, 1, 2), jumps=True), target(made), SPACE, given)
    assert stationarity_residual(matrix, target_probs(target(made), position)) < 1e-14


def test_a_jump_without_the_network_fails() -> None:
    made = energy()
    matrix, position = transition_matrix(Jumps(TableEnergy(made.reference, _silent(made)), None), target(made), SPACE)
    assert stationarity_residual(matrix, target_probs(target(made), position)) > 1e-3


def test_a_jump_weighed_as_if_the_reference_had_drawn_fails() -> None:
    """The planted bug: weights leave out with what probability the network draws."""
    made = energy_with_network()
    assert made.network is not None

    class Unweighed(Jumps):
        def step(self, *arguments: Any, **others: Any) -> Any:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(MaskedNetwork, "log_conditional", lambda _, codes, *__: made.reference(codes))
                return super().step(*arguments, **others)

    matrix, position = transition_matrix(Unweighed(made, None), target(made), SPACE)
    assert stationarity_residual(matrix, target_probs(target(made), position)) > 1e-3


@pytest.mark.parametrize("make", [energy, energy_with_network])
@pytest.mark.parametrize("evidence", [None, EVIDENCE])
def test_weights_of_proposed_rows_have_the_mean_of_enumeration(evidence: Any, make: Callable[[], TableEnergy]) -> None:
    """E[exp(weight)] = sum over missing entries of exp F times the evidence, over all outcomes of the draw."""
    made, known = make(), torch.tensor([[-1, -1, -1], [1, -1, 2], [0, 1, 3]])
    mean = torch.zeros(3, dtype=torch.float64)
    for prob, proposed in outcomes(lambda stream: propose(made, known, stream, log_weights=evidence), 3):
        mean += prob * proposed.log_weights.exp()
    exact = enumerated(made).expand(3, -1).masked_fill(~matches(known), -torch.inf)
    for column, each in enumerate(evidence or []):
        if each is not None:
            exact = exact + torch.where(known[:, [column]] < 0, each[ALL[:, column]], 0)
    assert (mean.log() - exact.logsumexp(dim=1)).abs().max() < 1e-12


def test_a_move_without_the_network_fails() -> None:
    """The mutant accepts every proposal of the reference."""
    made = energy()
    matrix, position = transition_matrix(Move(TableEnergy(made.reference, _silent(made)), (2,)), target(made), SPACE)
    assert stationarity_residual(matrix, target_probs(target(made), position)) > 1e-3


def _silent(made: TableEnergy) -> Residual:
    """A network that says nothing."""
    return Residual(CLASSES, width=8, num_layers=2).to(made.reference.log_probs.dtype)


def test_with_a_reference_that_is_exp_f_every_proposal_is_accepted() -> None:
    made = TableEnergy(energy().reference, _silent(energy()))
    matrix, _position = transition_matrix(Move(made, (2,)), target(made), SPACE)
    exact = made.of_classes(ALL, 2).softmax(dim=1).detach()
    for code in range(4):
        rows = ALL.clone()
        rows[:, 2] = code
        numbers = (rows[:, None] == ALL).all(dim=2).double().argmax(dim=1)
        assert (matrix[torch.arange(24), numbers] - exact[:, code]).abs().max() < 1e-12


def test_rows_that_are_not_free_keep_their_bits() -> None:
    made, free = energy(), torch.arange(24) % 2 == 0
    before = chain_at(made, ALL)
    after, accepted = redraw(made, before, 2, free=free, generator=generator())
    assert not torch.equal(after.codes, before.codes)
    for kept, old in zip(after, before, strict=True):
        assert torch.equal(kept[~free], old[~free])
    assert not bool(accepted[~free].any()) and bool(accepted[(after.codes != before.codes).any(dim=1)].all())


def test_a_sweep_counts_the_moves_that_rows_accept() -> None:
    """Where F is q every move is accepted, so a row accepts as many as it has free entries."""
    made = TableEnergy(energy().reference, Residual(CLASSES, width=1, num_layers=1))  # zero
    free = torch.rand(24, 3, generator=generator()) < 0.5
    after, num = sweep(made, chain_at(made, ALL), free=free, generators=lambda _: generator(1))
    assert torch.equal(num, free.sum(dim=1)) and not torch.equal(after.codes, ALL)
    stiff, source = energy(), generator(2)
    before = chain_at(stiff, ALL)
    after, num = sweep(stiff, before, free=free, generators=lambda _: source)
    assert bool(((after.codes != ALL).sum(dim=1) <= num).all()) and bool((num <= free.sum(dim=1)).all())
    assert int(num.sum()) < int(free.sum())
