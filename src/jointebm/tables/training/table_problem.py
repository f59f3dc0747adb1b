"""Training on a table: what the loop draws, moves and minimises.

    gradient of the loss = sum_i w_i grad g(chain_i) - mean grad g(data) + pseudo_weight * that of the pseudo-likelihood

The weights w of the chains take up every change of the network (`jointebm.training.chain_weights`). While fresh draws of
the proposal have weights that are even enough, they take the place of chains.

Legend: N training rows, V columns, B rows of a batch and as many chains.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, shuffled
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.moves import State, chain_at, jump_to, propose, sweep
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.pseudo_likelihood import pseudo_likelihood
from jointebm.tables.training.smoothing import Curves
from jointebm.training.chain_weights import effective_share, log_mean_exp, resampled
from jointebm.training.divergence import Diverged, Scales
from jointebm.training.objectives import LossInputs, PseudoLikelihood

__all__ = ["Negatives", "Residuals", "TableAttempt", "TableProblem"]

ENOUGH_SHARE = 0.5  # effective share of fresh draws of the proposal, above which no chains are run
MAX_SEEN = 128  # rows of a batch that tell how even weights are
OFTEN = 0.25  # share of jumps accepted, above which a chain jumps and is swept in turn
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
        fresh_normalizer: log Z by these draws, a scalar, nats.
        acceptance: share of jumps that were accepted, a scalar; 1 for draws.
    """

    codes: Tensor
    log_weights: Tensor
    offsets: Tensor
    source: Literal["draws", "chains"]
    share: Tensor
    log_normalizer: Tensor
    fresh_share: Tensor
    fresh_normalizer: Tensor
    acceptance: Tensor


class TableAttempt(NamedTuple):
    """An iteration up to its loss.

    Args:
        loss: scalar, nats.
        codes: the rows of the batch, completed, shape (B, V).
        negatives: weighted rows of the model; None if the objective needs none.
    """

    loss: Tensor
    codes: Tensor
    negatives: Negatives | None


class TableProblem:
    """Rows of a table, each once per pass; their completions; weighted chains; and the loss.

    Args:
        energy: F; its network is trained in place.
        completed: completions of the training rows.
        pseudo_likelihood: which candidates a code is told from.
        pseudo_weight: of the pseudo-likelihood beside maximum likelihood; None: the pseudo-likelihood alone, without chains.
        bins: per column, the bin of each class; None if neighbouring classes are not learned together.
        batch_size: B, at most N.
        precision: dtype of the hidden layers in the pseudo-likelihood.
        generator: source of all draws.
    """

    def __init__(
        self,
        energy: TableEnergy,
        completed: CompletedRows,
        *,
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
        self.module, self.scales = Curves(energy.residual, bins, completed.observed), Scales()
        self._order = torch.arange(len(completed))
        self._num_drawn = torch.tensor(len(completed))  # rows of this pass; all of them: the next batch begins another
        self._chains = self._fresh(0 if pseudo_weight is None else batch_size)
        self._offsets = energy.reference.log_weights.new_zeros(len(self._chains))
        self._fresh_share = self._first_share()  # running means
        self._acceptance = energy.reference.log_weights.new_zeros(())

    def draw(self) -> Tensor:
        """Numbers of the rows of a batch, shape (B,)."""
        if self._num_drawn + self._batch_size > len(self._order):
            self._order, self._num_drawn = shuffled(len(self._order), self._generator), torch.tensor(0)
        first = int(self._num_drawn)
        self._num_drawn = self._num_drawn + self._batch_size
        return self._order[first : first + self._batch_size]

    def attempt(self, drawn: Tensor, where: str) -> TableAttempt:
        """Moves missing entries by a sweep and chains by jumps and sweeps, and evaluates the loss."""
        codes = self._completed.moved(self._energy, drawn, generator=self._generator)
        missing, where = self._completed.missing(drawn), f"{where} of fitting a table"
        if self._pseudo_weight is None:
            loss = self._of_conditionals(codes, missing)
            self.scales.check_loss(loss, where)
            return TableAttempt(loss, codes, None)
        negatives = self._negatives()
        g = self._energy.residual(torch.cat([codes, negatives.codes]))
        of_data, of_model = g[: len(codes)], g[len(codes) :]
        lost = ~(of_model.detach() + negatives.log_weights).isfinite()
        if bool(lost.any()):
            raise Diverged(
                "chain", f"log-density: not finite in {int(lost.sum())} of {len(lost)} chains in {where}", lost
            )
        negatives = negatives._replace(fresh_share=_share_seen(negatives, self._log_weights(codes[:MAX_SEEN])))
        gap = of_data.mean() - (negatives.log_weights.softmax(dim=0) * of_model).sum()
        loss = -gap
        if self._pseudo_weight:
            loss = loss + self._pseudo_weight * self._of_conditionals(codes, missing)
        self.scales.check_loss(loss, where)
        self.scales.check_gap(float(gap.detach()), float(of_data.detach().std(correction=0)), where)
        return TableAttempt(loss, codes, negatives)

    def commit(self, drawn: Tensor, attempt: TableAttempt) -> None:
        """Keeps completions and chains."""
        self._completed.keep(drawn, attempt.codes)
        if attempt.negatives is not None:
            self._chains, self._offsets = attempt.negatives.codes, attempt.negatives.offsets
            self._fresh_share = torch.lerp(self._fresh_share, attempt.negatives.fresh_share, SMOOTHING)
            self._acceptance = torch.lerp(self._acceptance, attempt.negatives.acceptance, SMOOTHING)

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
            "num_drawn": self._num_drawn,
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, and takes the tensors over."""
        self._completed.codes, self._chains, self._offsets = (
            tensors[name] for name in ("completed", "chains", "offsets")
        )
        self._fresh_share, self._acceptance, self._order, self._num_drawn = (
            tensors[name] for name in ("fresh_share", "acceptance", "order", "num_drawn")
        )

    def _first_share(self) -> Tensor:
        """The effective share of draws of the proposal before training."""
        nothing = torch.full((self._batch_size, len(self._energy.num_classes)), -1)
        return effective_share(propose(self._energy, nothing, self._generator).log_weights)

    def _fresh(self, num: int) -> Tensor:
        """Draws of the reference, whose density is F before training, shape (num, V)."""
        return self._energy.reference.draw(torch.full((num, len(self._energy.num_classes)), -1), self._generator)

    def _of_conditionals(self, codes: Tensor, missing: Tensor) -> Tensor:
        """The pseudo-likelihood of these rows, per row."""
        inputs = LossInputs({"codes": codes}, {}, missing={"codes": missing}, generator=self._generator)
        return self._pseudo_likelihood.loss(self._residuals, inputs).loss

    @torch.no_grad()
    def _negatives(self) -> Negatives:
        """Fresh draws of the proposal if their weights are even enough, else chains.

        Every chain jumps and is swept; where jumps are often accepted, one half of them jumps and the other is swept.
        """
        are_enough = bool(self._fresh_share > ENOUGH_SHARE)
        in_turn = not are_enough and bool(self._acceptance > OFTEN)
        num_fresh = (self._batch_size + 1) // 2 if in_turn else self._batch_size
        nothing = torch.full((num_fresh, len(self._energy.num_classes)), -1)
        fresh = propose(self._energy, nothing, self._generator)
        fresh_share = effective_share(fresh.log_weights)
        fresh_normalizer = log_mean_exp(fresh.log_weights)
        if are_enough:
            offsets, always = fresh.log_weights - fresh.state.residual, fresh.log_weights.new_ones(())
            seen = (fresh_share, fresh_normalizer, fresh_share, fresh_normalizer, always)
            return Negatives(fresh.state.codes, fresh.log_weights, offsets, "draws", *seen)
        state = chain_at(self._energy, self._chains)
        log_weights = self._offsets + state.residual
        normalizer = log_mean_exp(log_weights)
        origins, log_weights, share = resampled(log_weights, self._generator)
        state = State(*(part[origins] for part in state))
        order = shuffled(len(origins), self._generator)
        jumping, others = (State(*(part[some] for part in state)) for some in (order[:num_fresh], order[num_fresh:]))
        free = torch.ones_like(state.codes).bool()
        jumping, accepted = jump_to(self._energy, jumping, fresh, free=free[:num_fresh], generator=self._generator)
        swept = others if in_turn else jumping
        swept = sweep(self._energy, swept, free=free[: len(swept.codes)], generators=lambda _: self._generator)
        parts = (jumping, swept) if in_turn else (swept,)
        state = State(*(torch.cat(each)[order.argsort()] for each in zip(*parts, strict=True)))
        offsets = log_weights - state.residual
        seen = (share, normalizer, fresh_share, fresh_normalizer, accepted.to(log_weights).mean())
        return Negatives(state.codes, log_weights, offsets, "chains", *seen)

    @torch.no_grad()
    def _log_weights(self, codes: Tensor) -> Tensor:
        """F - log r of complete rows, r the proposal, shape (N,)."""
        return self._energy(codes) - self._energy.proposal.log_conditional(codes, torch.ones_like(codes).bool())


def _share_seen(negatives: Negatives, of_data: Tensor) -> Tensor:
    """The effective share of draws of the proposal r, by these draws and by rows of the data, the lower one.

        share = Z / E_p[exp(F - log r)],   p = exp F / Z

    The data stand for draws of p: they see groups of rows that the proposal hardly ever draws.
    """
    return torch.minimum(negatives.fresh_share, (negatives.fresh_normalizer - log_mean_exp(of_data)).exp())
