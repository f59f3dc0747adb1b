"""Training on a table: what the loop draws, moves and minimises.

    gradient of the loss = sum_i w_i grad g(chain_i) - mean grad g(data) + pseudo_weight * that of the pseudo-likelihood

The weights w of the chains take up every change of the network (`jointebm.training.chain_weights`). While fresh draws of
the proposal have weights that are even enough, they take the place of chains.

Legend: N training rows, V columns, B rows of a batch and as many chains.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, shuffled
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.moves import State, chain_at, jump_to, propose, sweep
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.pseudo_likelihood import pseudo_likelihood
from jointebm.tables.training.smoothing import Curves
from jointebm.tables.training.table_numbers import TableNumbers
from jointebm.training.chain_weights import effective_share, log_mean_exp, resampled
from jointebm.training.divergence import Diverged, Scales
from jointebm.training.objectives import LossInputs, PseudoLikelihood

__all__ = ["Negatives", "Residuals", "TableAttempt", "TableProblem"]

ENOUGH_SHARE = 0.5  # effective share of fresh draws of the proposal, above which no chains are run
MAX_SEEN = 128  # rows of a batch that tell how even weights are
OFTEN = 0.25  # share of jumps accepted, above which a chain jumps and is swept in turn
HARDLY_EVER = 0.002  # share below which chains jump in one of 8 iterations: a jump costs as much as two sweeps
SELDOM = 8
FIRST_ACCEPTANCE = 0.02  # that its running mean begins with: ten times as much, for 20 iterations at least
SMOOTHING = 0.1  # weight of the newest share in its running mean


class Residuals:
    """The conditionals of F as the pseudo-likelihood asks for them. The reference is not trained.

    Args:
        energy: F.
        precision: dtype of the hidden layers.
    """

    def __init__(self, energy: TableEnergy, precision: torch.dtype) -> None:
        self._energy, self._precision = energy, precision

    @property
    def num_classes(self) -> tuple[int, ...]:
        """K_j of each column."""
        return self._energy.num_classes

    def composite(
        self, parts: Sequence[tuple[int, Tensor]], *, num_candidates: int, generator: Generator | None
    ) -> Tensor:
        """Sum of -log p(c_j | others), see `pseudo_likelihood`."""
        return pseudo_likelihood(
            self._energy, parts, num_candidates=num_candidates, generator=generator, precision=self._precision
        )


class Negatives(NamedTuple):
    """Weighted rows of the model.

    Args:
        codes: shape (B, V).
        log_weights: A, shape (B,), nats: the mean of exp(A) h estimates Z E[h] for every h.
        offsets: A - g at the codes, shape (B,); a change of the network changes A by as much as g, and not the offset.
        source: "draws" of the proposal, or "chains".
        share: effective share of the weights before resampling, a scalar.
        log_normalizer: log of the mean weight, a scalar, nats.
        fresh_share: effective share of draws of the proposal, as these and as the data see it, the lower one, a scalar.
        fresh_normalizer: log Z by these draws, a scalar, nats; None where no chain jumped, so that none were made.
        acceptance: share of jumps that were accepted, a scalar; 1 for draws; its running mean where no chain jumped.
    """

    codes: Tensor
    log_weights: Tensor
    offsets: Tensor
    source: Literal["draws", "chains"]
    share: Tensor
    log_normalizer: Tensor
    fresh_share: Tensor
    fresh_normalizer: Tensor | None
    acceptance: Tensor


class TableAttempt(NamedTuple):
    """An iteration up to its loss.

    Args:
        loss: scalar, nats.
        codes: the rows of the batch, completed, shape (B, V).
        negatives: weighted rows of the model; None if the objective needs none.
        numbers: what it found.
        of_chains: the part of the loss that is a mean by the weights; None if the objective needs none.
    """

    loss: Tensor
    codes: Tensor
    negatives: Negatives | None
    numbers: TableNumbers
    of_chains: Tensor | None = None


class TableProblem:
    """Rows of a table, each once per pass; their completions; weighted chains; and the loss.

    Args:
        energy: F; its network is trained in place.
        completed: completions of the training rows; of several processes those of this one.
        observed: all training rows, of which neighbouring classes are learned together, shape (rows, V), -1 is missing.
        pseudo_likelihood: which candidates a code is told from.
        pseudo_weight: of the pseudo-likelihood beside maximum likelihood; None: the pseudo-likelihood alone, without chains.
        bins: per column, the bin of each class; None if neighbouring classes are not learned together.
        batch_size: B, at most N; of several processes the share of this one.
        precision: dtype of the hidden layers in the pseudo-likelihood.
        generator: source of all draws, on the device of the energy and the rows.
    """

    def __init__(
        self,
        energy: TableEnergy,
        completed: CompletedRows,
        *,
        observed: Tensor,
        pseudo_likelihood: PseudoLikelihood,
        pseudo_weight: float | None,
        bins: Sequence[Sequence[int] | None],
        batch_size: int,
        precision: torch.dtype,
        generator: torch.Generator,
    ) -> None:
        assert isinstance(energy.residual, Residual)  # nothing trains a `Rebased`
        self._energy, self._completed = energy, completed
        self._pseudo_likelihood, self._pseudo_weight = pseudo_likelihood, pseudo_weight
        self._batch_size, self._generator = batch_size, generator
        self._residuals = Residuals(energy, precision)
        self.module, self.scales = Curves(energy.residual, bins, observed), Scales()
        self._order = torch.arange(len(completed), device=generator.device)
        self._num_drawn = len(completed)  # rows of this pass; all of them: the next batch begins another
        self._chains = self._fresh(0 if pseudo_weight is None else batch_size)
        self._offsets = energy.reference.log_weights.new_zeros(len(self._chains))
        self._fresh_share = self._first_share()  # running means
        self._acceptance = energy.reference.log_weights.new_full((), FIRST_ACCEPTANCE)
        self._num_without_jump = 0

    def draw(self) -> Tensor:
        """Numbers of the rows of a batch, shape (B,)."""
        if self._num_drawn + self._batch_size > len(self._order):
            self._order, self._num_drawn = shuffled(len(self._order), self._generator), 0
        first = self._num_drawn
        self._num_drawn += self._batch_size
        return self._order[first : first + self._batch_size]

    def attempt(self, drawn: Tensor, where: str) -> TableAttempt:
        """Moves missing entries by a sweep and chains by jumps and sweeps, and evaluates the loss."""
        codes = self._completed.moved(self._energy, drawn, generator=self._generator)
        missing, where = self._completed.missing(drawn), f"{where} of fitting a table"
        if self._pseudo_weight is None:
            loss = self._of_conditionals(codes, missing)
            self.scales.check_loss(loss, where)
            return TableAttempt(loss, codes, None, TableNumbers(len(codes), float(loss.detach())))
        negatives = self._negatives()
        g = self._energy.residual(torch.cat([codes, negatives.codes]))
        of_data, of_model = g[: len(codes)], g[len(codes) :]
        lost = ~(of_model.detach() + negatives.log_weights).isfinite()
        if bool(lost.any()):
            raise Diverged(
                "chain", f"log-density: not finite in {int(lost.sum())} of {len(lost)} chains in {where}", lost
            )
        if negatives.fresh_normalizer is not None:
            negatives = negatives._replace(fresh_share=_share_seen(negatives, self._log_weights(codes[:MAX_SEEN])))
        of_chains = (negatives.log_weights.softmax(dim=0) * of_model).sum()
        gap = of_data.mean() - of_chains
        loss = -gap
        if self._pseudo_weight:
            loss = loss + self._pseudo_weight * self._of_conditionals(codes, missing)
        self.scales.check_loss(loss, where)
        self.scales.check_gap(float(gap.detach()), float(of_data.detach().std(correction=0)), where)
        numbers = TableNumbers(
            rows=len(codes),
            loss=float(loss.detach()),
            of_chains=float(of_chains.detach()),
            source=negatives.source,
            share=float(negatives.share),
            log_normalizer=float(negatives.log_normalizer),
            fresh_share=float(negatives.fresh_share),
            acceptance=float(negatives.acceptance),
        )
        return TableAttempt(loss, codes, negatives, numbers, of_chains)

    def pooled(self, attempt: TableAttempt, numbers: Sequence[Mapping[str, Any]]) -> TableAttempt:
        """The attempt with the numbers of all processes."""
        return attempt._replace(numbers=TableNumbers.pooled([TableNumbers(**each) for each in numbers]))

    def commit(self, drawn: Tensor, attempt: TableAttempt) -> None:
        """Keeps completions and chains."""
        self._completed.keep(drawn, attempt.codes)
        if attempt.negatives is not None:
            self._chains, self._offsets = attempt.negatives.codes, attempt.negatives.offsets
            has_jumped = attempt.negatives.fresh_normalizer is not None
            self._num_without_jump = 0 if has_jumped else self._num_without_jump + 1
            seen = self._acceptance.new_tensor([attempt.numbers.fresh_share, attempt.numbers.acceptance])
            self._fresh_share = torch.lerp(self._fresh_share, seen[0], SMOOTHING)
            self._acceptance = torch.lerp(self._acceptance, seen[1], SMOOTHING)

    def restart(self, drawn: Tensor, chains: Tensor) -> int:  # noqa: ARG002  # the form of a problem
        """Draws offending chains from the reference; their weight is then exp(g)."""
        num = int(chains.sum())
        self._chains, self._offsets = self._chains.clone(), self._offsets.clone()
        self._chains[chains] = self._fresh(num)
        self._offsets[chains] = 0.0
        return num

    def state(self) -> dict[str, Tensor]:
        """Completions, chains with their weights, and the order of the rows."""
        return {
            "completed": self._completed.codes,
            "chains": self._chains,
            "offsets": self._offsets,
            "fresh_share": self._fresh_share,
            "acceptance": self._acceptance,
            "order": self._order,
            "num_drawn": torch.tensor(self._num_drawn),
            "num_without_jump": torch.tensor(self._num_without_jump),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, and takes the tensors over."""
        self._completed.codes, self._chains, self._offsets = (
            tensors[name] for name in ("completed", "chains", "offsets")
        )
        self._fresh_share, self._acceptance, self._order = (
            tensors[name] for name in ("fresh_share", "acceptance", "order")
        )
        self._num_drawn, self._num_without_jump = int(tensors["num_drawn"]), int(tensors["num_without_jump"])

    def _first_share(self) -> Tensor:
        """The effective share of draws of the proposal before training."""
        nothing = self._energy.unknown_rows(self._batch_size)
        return effective_share(propose(self._energy, nothing, self._generator).log_weights)

    def _fresh(self, num: int) -> Tensor:
        """Draws of the reference, whose density is F before training, shape (num, V)."""
        return self._energy.reference.draw(self._energy.unknown_rows(num), self._generator)

    def _of_conditionals(self, codes: Tensor, missing: Tensor) -> Tensor:
        """The pseudo-likelihood of these rows, per row."""
        inputs = LossInputs({"codes": codes}, {}, missing={"codes": missing}, generator=self._generator)
        return self._pseudo_likelihood.loss(self._residuals, inputs).loss

    @torch.no_grad()
    def _negatives(self) -> Negatives:
        """Fresh draws of the proposal if their weights are even enough, else chains.

        Every chain jumps and is swept; where jumps are often accepted, one half of them jumps and the other is swept; where
        they hardly ever are, chains jump in one of eight iterations.
        """
        are_enough = bool(self._fresh_share > ENOUGH_SHARE)
        if not are_enough and bool(self._acceptance < HARDLY_EVER) and self._num_without_jump < SELDOM - 1:
            return self._swept()
        in_turn = not are_enough and bool(self._acceptance > OFTEN)
        num_fresh = (self._batch_size + 1) // 2 if in_turn else self._batch_size
        fresh = propose(self._energy, self._energy.unknown_rows(num_fresh), self._generator)
        fresh_share = effective_share(fresh.log_weights)
        fresh_normalizer = log_mean_exp(fresh.log_weights)
        if are_enough:
            offsets, always = fresh.log_weights - fresh.state.residual, fresh.log_weights.new_ones(())
            seen = (fresh_share, fresh_normalizer, fresh_share, fresh_normalizer, always)
            return Negatives(fresh.state.codes, fresh.log_weights, offsets, "draws", *seen)
        chains = self._resampled()
        order = shuffled(len(chains.log_weights), self._generator)
        jumping, others = (
            State(*(part[some] for part in chains.state)) for some in (order[:num_fresh], order[num_fresh:])
        )
        free = torch.ones_like(chains.state.codes).bool()
        jumping, accepted = jump_to(self._energy, jumping, fresh, free=free[:num_fresh], generator=self._generator)
        swept = others if in_turn else jumping
        swept, _ = sweep(self._energy, swept, free=free[: len(swept.codes)], generators=lambda _: self._generator)
        parts = (jumping, swept) if in_turn else (swept,)
        state = State(*(torch.cat(each)[order.argsort()] for each in zip(*parts, strict=True)))
        of_chains = (chains.share, chains.log_normalizer, fresh_share, fresh_normalizer)
        return chains.negatives(state, *of_chains, accepted.to(chains.log_weights).mean())

    def _swept(self) -> Negatives:
        """Chains that are swept and do not jump."""
        chains = self._resampled()
        free = torch.ones_like(chains.state.codes).bool()
        state, _ = sweep(self._energy, chains.state, free=free, generators=lambda _: self._generator)
        seen = (chains.share, chains.log_normalizer, self._fresh_share, None, self._acceptance)
        return chains.negatives(state, *seen)

    def _resampled(self) -> "_Chains":
        """The chains with the weights that the network of now gives them, resampled."""
        state = chain_at(self._energy, self._chains)
        log_weights = self._offsets + state.residual
        origins, resampled_weights, share = resampled(log_weights, self._generator)
        return _Chains(State(*(part[origins] for part in state)), resampled_weights, share, log_mean_exp(log_weights))

    @torch.no_grad()
    def _log_weights(self, codes: Tensor) -> Tensor:
        """F - log r of complete rows, r the proposal, shape (N,)."""
        return self._energy(codes) - self._energy.proposal.log_conditional(codes, torch.ones_like(codes).bool())


class _Chains(NamedTuple):
    """Weighted chains before they move."""

    state: State
    log_weights: Tensor
    share: Tensor  # before resampling
    log_normalizer: Tensor

    def negatives(self, state: State, *seen: Tensor | None) -> Negatives:
        """These chains where they have moved to, with all that is seen of them."""
        return Negatives(state.codes, self.log_weights, self.log_weights - state.residual, "chains", *seen)  # type: ignore[arg-type]


def _share_seen(negatives: Negatives, of_data: Tensor) -> Tensor:
    """The effective share of draws of the proposal r, by these draws and by rows of the data, the lower one.

        share = Z / E_p[exp(F - log r)],   p = exp F / Z

    The data stand for draws of p: they see groups of rows that the proposal hardly ever draws.
    """
    assert negatives.fresh_normalizer is not None  # there are draws
    return torch.minimum(negatives.fresh_share, (negatives.fresh_normalizer - log_mean_exp(of_data)).exp())
