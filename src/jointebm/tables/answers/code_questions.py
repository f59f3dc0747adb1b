"""Questions to a density over codes, each with its diagnostics.

Legend: N rows, V columns, K_j classes of column j, D draws. Codes are integers in 0..K_j-1; -1 is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from jointebm.randomness.devices import on_cpu
from jointebm.randomness.row_streams import RowStream, row_keys
from jointebm.sampling.diagnostics import MIN_ESS, Answer, Diagnostics
from jointebm.sampling.weighted_draws import weighted_averages
from jointebm.tables.answers.checked_codes import checked_codes, complete_codes
from jointebm.tables.answers.chosen_draws import COST_OF_DRAW
from jointebm.tables.answers.configurations import MAX_ENUMERATED, few_configurations, with_configurations
from jointebm.tables.answers.corrected_draws import CHAINS, NUM_STARTS, ChainEnds, corrected_draws, log_mean_of_draws
from jointebm.tables.answers.weighted_answers import Estimates, WeightedAnswers
from jointebm.tables.density.energy import TableEnergy

__all__ = ["CodeQuestions", "enough_draws", "enough_jumps"]

EVALUATIONS = 2048  # of the network at once, for all classes of a column
MANY_ROUNDS = 10  # more than there are
MIN_CHAINS = 8  # of a row that draws do not answer
MIN_CHAIN_JUMPS = 0.1  # accepted by a chain, on average over chains


class CodeQuestions(nn.Module):
    """The questions that `TableModel` answers.

    Answers are on the CPU, wherever the parameters are. `log_prob`, `complete` and `predictive` warn where an answer may be
    far off; the methods `..._answer` do not, and return the diagnostics that decide it.
    """

    energy: TableEnergy
    num_classes: tuple[int, ...]
    log_normalizer: float

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and all that is computed with them; `to` moves them."""
        return self.energy.reference.log_weights.device

    @torch.no_grad()
    def log_density(self, codes: Tensor) -> Tensor:
        """F of complete rows, not normalised, shape (N,), nats."""
        return _in_chunks(self.energy, complete_codes(self._placed(codes)), EVALUATIONS // 8).cpu()

    @torch.no_grad()
    def conditional(self, codes: Tensor, column: int) -> Tensor:
        """log p(c_j = k | all other columns), shape (N, K_j); the column's own code is ignored."""
        return self._conditional(self._placed(codes, column), column).cpu()

    def log_prob(self, codes: Tensor, *, num_draws: int = 100, seed: int) -> Tensor:
        """log p of the observed codes of each row, shape (N,), nats, float64.

            log p(observed) = log E_{m ~ r(. | observed)} exp(F(observed, m)) / r(m | observed) - log Z

        Exact, but for log Z, for rows with few configurations; of others a mean over `num_draws` draws m, or over 4, 16 or
        64 times as many where its standard error is above .1. Its log is a little too low on average.

        Args:
            codes: shape (N, V), -1 is missing.
            num_draws: of the missing entries.
            seed: of the draws.

        Warns:
            ConvergenceWarning: rows have few effective draws.
        """
        answer = self.log_prob_answer(codes, num_draws=num_draws, seed=seed)
        return answer.checked("log_prob", {"num_draws": "a larger"}, min_ess=enough_draws(num_draws)).value

    @torch.no_grad()
    def log_prob_answer(
        self, codes: Tensor, *, num_draws: int, seed: int, log_weights: Sequence[Tensor | None] | None = None
    ) -> Answer[Tensor]:
        """`log_prob`, with its standard error, which is without that of log Z; `log_weights` as in `complete`."""
        codes, log_weights = self._placed(codes), self._evidence(log_weights)
        log_probs = torch.empty(len(codes), dtype=torch.float64, device=codes.device)
        few = few_configurations(codes, self.num_classes, COST_OF_DRAW * num_draws)
        found = _exact_where(few, torch.zeros_like(log_probs))
        many = (~few).nonzero().flatten()
        if len(many):
            num_rounds = self._num_rounds(codes[many], num_draws)
            estimates = WeightedAnswers(self.energy, num_draws, seed, log_weights).log_prob(codes[many], num_rounds)
            log_probs[many] = estimates.value
            found = _estimated(found, many, estimates, num_rounds < MANY_ROUNDS)
        exact = found.exact.nonzero().flatten()
        for group in with_configurations(codes[exact], self.num_classes, self._in_chunks_of_rows):
            log_probs[exact[group.numbers]] = group.given(log_weights).log_density.logsumexp(dim=1)
        return on_cpu(Answer(log_probs - self.log_normalizer, found))

    def log_marginals(self) -> list[Tensor]:
        """log q(c_j = k) of the reference, shape (K_j,) each, nats."""
        reference = self.energy.reference
        columns = range(len(self.num_classes))
        return [reference.of_classes(reference.log_weights[None], column)[0].cpu() for column in columns]

    def complete(
        self,
        codes: Tensor,
        *,
        num_draws: int = 1,
        num_sweeps: int = 10,
        seed: int,
        log_weights: Sequence[Tensor | None] | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """Draws the missing entries of each row.

        Exact draws where the configurations are few. Otherwise one of 16 draws of the proposal is taken by its weight, and
        moved by jumps of all missing entries and sweeps over them.

        Args:
            codes: shape (N, V), -1 is missing.
            num_draws: D, independent draws per row.
            num_sweeps: sweeps, and as many jumps, where the configurations are many.
            seed: of all draws.
            log_weights: per column, added to F of its classes where it is missing, shape (K_j,); -inf forbids a class.
            keys: of the rows' streams, shape (N,), int64; None numbers the rows.

        Returns:
            Completed codes, shape (D, N, V), int64.

        Warns:
            ConvergenceWarning: hardly a chain has accepted a jump.
        """
        answer = self.complete_answer(
            codes, num_draws=num_draws, num_sweeps=num_sweeps, seed=seed, log_weights=log_weights, keys=keys
        )
        min_jumps = enough_jumps(answer.diagnostics, num_draws)
        return answer.checked("complete", {"num_sweeps": "a larger"}, min_jumps=min_jumps).value

    @torch.no_grad()
    def complete_answer(
        self,
        codes: Tensor,
        *,
        num_draws: int,
        num_sweeps: int,
        seed: int,
        log_weights: Sequence[Tensor | None] | None = None,
        keys: Tensor | None = None,
    ) -> Answer[Tensor]:
        """`complete`, with diagnostics of the chains of each row."""
        keys = torch.arange(len(codes)) if keys is None else keys
        codes, keys = self._placed(codes), keys.to(self.device)
        return on_cpu(self._completed(codes, keys, num_draws, num_sweeps, seed, self._evidence(log_weights)))

    def _completed(
        self,
        codes: Tensor,
        keys: Tensor,
        num_draws: int,
        num_sweeps: int,
        seed: int,
        log_weights: Sequence[Tensor | None] | None,
    ) -> Answer[Tensor]:
        completed = codes.repeat(num_draws, 1, 1)
        few = few_configurations(codes, self.num_classes, num_draws * (NUM_STARTS + 3 * num_sweeps))
        exact, many = few.nonzero().flatten(), (~few).nonzero().flatten()
        for group in with_configurations(codes[exact], self.num_classes, self._in_chunks_of_rows):
            rows, weights = exact[group.numbers], group.given(log_weights).log_density
            for draw in range(num_draws if group.columns else 0):
                chosen = RowStream(keys[rows], seed, draw=draw).choose(weights)
                completed[draw, rows[:, None], codes.new_tensor(group.columns)] = group.configurations[chosen]
        found = _exact_where(few)
        if len(many):
            numbers = torch.arange(num_draws, device=codes.device).repeat_interleave(len(many))
            stream = RowStream(keys[many].repeat(num_draws), seed, draw=numbers)
            parts = [
                corrected_draws(
                    self.energy, codes[many[rows % len(many)]], stream.select(rows), num_sweeps, log_weights
                )
                for rows in torch.arange(num_draws * len(many), device=codes.device).split(CHAINS)
            ]
            ends = ChainEnds.joined(parts)
            completed[:, many] = ends.codes.view(num_draws, len(many), -1)
            conditions = codes[many].unique(dim=0, return_inverse=True)[1]
            found = _with_chains(found, many, ends.diagnostics(conditions.repeat(num_draws)).of_draws(num_draws))
        return Answer(completed, found)

    def predictive(
        self, codes: Tensor, column: int, *, num_draws: int = 100, num_sweeps: int = 10, seed: int
    ) -> Tensor:
        """log p(c_j = k | the row's observed entries but column j), shape (N, K_j).

        Exact where the configurations of all missing entries are few. Otherwise draws m of the other missing entries from
        the proposal r are weighted, as many as `weighted_answers` says:

            p(k | observed) ~ sum_s w_s p(k | observed, m_s),   m_s, k_s ~ r(. | observed),   w = exp(F) / r

        Rows in which even 64 * num_draws of them leave few effective draws are answered by the mean of exact conditionals
        over num_draws / 4 chains.

        Warns:
            ConvergenceWarning: hardly a chain of these has accepted a jump.
        """
        answer = self.predictive_answer(codes, column, num_draws=num_draws, num_sweeps=num_sweeps, seed=seed)
        min_ess, min_jumps = enough_draws(num_draws), enough_jumps(answer.diagnostics, num_draws)
        return answer.checked(
            "predictive", {"num_draws": "a larger", "num_sweeps": "a larger"}, min_ess=min_ess, min_jumps=min_jumps
        ).value

    @torch.no_grad()
    def predictive_answer(
        self,
        codes: Tensor,
        column: int,
        *,
        num_draws: int,
        num_sweeps: int,
        seed: int,
        readout: Tensor | None = None,
        log_weights: Sequence[Tensor | None] | None = None,
    ) -> Answer[Tensor]:
        """`predictive`, with standard errors of the probabilities p, or of `p @ readout`, whose shape is (K_j, Q).

        `log_weights` as in `complete`; those of column j itself are left out.
        """
        log_weights = self._evidence(_without_column(log_weights, column))
        readout = None if readout is None else readout.to(self.device)
        codes = self._placed(codes, column).clone()
        codes[:, column] = -1
        num_classes = self.num_classes[column]
        log_probs = torch.empty(len(codes), num_classes, dtype=torch.float64, device=codes.device)
        alone = (codes < 0).sum(dim=1) == 1
        log_probs[alone] = self._conditional(codes[alone], column).double()
        few = alone | few_configurations(codes, self.num_classes, COST_OF_DRAW * num_draws)
        found = _exact_where(few, log_probs.new_zeros(len(codes), num_classes if readout is None else readout.shape[1]))
        many, poor = (~few).nonzero().flatten(), few.new_zeros(0, dtype=torch.int64)
        if len(many):
            num_rounds = self._num_rounds(codes[many], num_draws)
            weighted = WeightedAnswers(self.energy, num_draws, seed, log_weights)
            estimates = weighted.predictive(codes[many], column, num_rounds, readout)
            log_probs[many] = estimates.value
            found = _estimated(found, many, estimates, num_rounds < MANY_ROUNDS)
            poor = (~found.exact & (found.ess < enough_draws(num_draws))).nonzero().flatten()
        exact = (found.exact & ~alone).nonzero().flatten()
        for group in with_configurations(codes[exact], self.num_classes, self._in_chunks_of_rows):
            of_classes = group.given(log_weights).of_column(column, self.num_classes)
            log_probs[exact[group.numbers]] = of_classes.log_softmax(dim=1)
        if len(poor):
            num_chains = max(MIN_CHAINS, num_draws // 4)
            drawn = self._completed(codes[poor], row_keys(codes[poor]), num_chains, num_sweeps, seed, log_weights)
            given = self._conditional(drawn.value.flatten(0, 1), column).reshape(num_chains, -1, num_classes)
            log_probs[poor] = log_mean_of_draws(given).double().log_softmax(dim=1)
            found.standard_error[poor] = _errors(given, readout)
            found = _with_chains(found, poor, drawn.diagnostics)
        return on_cpu(Answer(log_probs.to(self.energy.reference.log_probs), found))

    def _placed(self, codes: Tensor, column: int = 0) -> Tensor:
        """Checked codes, where the parameters are."""
        return checked_codes(codes, self.num_classes, column).to(self.device)

    def _evidence(self, log_weights: Sequence[Tensor | None] | None) -> list[Tensor | None] | None:
        """Log-weights of classes, where the parameters are."""
        if log_weights is None:
            return None
        return [None if each is None else each.to(self.device) for each in log_weights]

    def _conditional(self, codes: Tensor, column: int) -> Tensor:
        codes = codes.clone()
        codes[:, column] = 0
        return self._of_classes(complete_codes(codes), column).log_softmax(dim=1)

    def _num_rounds(self, codes: Tensor, num_draws: int) -> Tensor:
        """How often rows get draws before their configurations, if these are not too many, are cheaper, shape (N,)."""
        after_one = few_configurations(codes, self.num_classes, 10 * num_draws)
        after_two = few_configurations(codes, self.num_classes, MAX_ENUMERATED)
        return torch.where(after_one, 1, torch.where(after_two, 2, MANY_ROUNDS))

    def _in_chunks_of_rows(self, codes: Tensor) -> Tensor:
        return _in_chunks(self.energy, codes, EVALUATIONS // 8)

    def _of_classes(self, codes: Tensor, column: int) -> Tensor:
        chunk = max(8, EVALUATIONS // self.num_classes[column] // 8 * 8)
        return _in_chunks(lambda rows: self.energy.of_classes(rows, column), codes, chunk)


def _in_chunks(evaluate: Callable[[Tensor], Tensor], codes: Tensor, chunk: int) -> Tensor:
    """Evaluates rows in chunks of exactly one size; the last is padded with zeros.

    Products of matrices round differently in different shapes.
    """
    # An empty batch is one chunk, so that its answer has the right shape and dtype.
    parts = [evaluate(pad(rows, (0, 0, 0, chunk - len(rows))))[: len(rows)] for rows in codes.split(chunk)]
    return torch.cat(parts)


def enough_draws(num_draws: int) -> float:
    """Effective draws of a row that are enough, out of so many."""
    return min(MIN_ESS, num_draws / 4)


def enough_jumps(diagnostics: Diagnostics[Tensor], num_draws: int) -> float:
    """Jumps of a chain that are enough on average; of few chains fewer, which may have had bad luck."""
    if diagnostics.num_jumps is None:
        return MIN_CHAIN_JUMPS
    return MIN_CHAIN_JUMPS - 2 / (num_draws * int((~diagnostics.num_jumps.isnan()).sum()))


def _exact_where(exact: Tensor, standard_error: Tensor | None = None) -> Diagnostics[Tensor]:
    ess = torch.where(exact, torch.inf, torch.zeros_like(exact, dtype=torch.float64))
    return Diagnostics(exact, ess, standard_error)


def _with_chains(found: Diagnostics[Tensor], rows: Tensor, chains: Diagnostics[Tensor]) -> Diagnostics[Tensor]:
    """With the diagnostics of chains in some rows."""
    if not len(rows) or chains.num_jumps is None:
        return found
    num_jumps = torch.full_like(found.ess, torch.nan)
    num_jumps[rows], found.ess[rows] = chains.num_jumps, chains.ess
    return replace(found, num_jumps=num_jumps, accept_rate=chains.accept_rate, r_hat=chains.r_hat)


def _estimated(
    found: Diagnostics[Tensor], rows: Tensor, estimates: Estimates, is_enumerable: Tensor
) -> Diagnostics[Tensor]:
    """With estimates of some rows; those that are not good enough and can be enumerated are to be exact."""
    exact, ess, error = found.exact.clone(), found.ess.clone(), found.standard_error.clone()
    ess[rows], error[rows] = estimates.ess, estimates.standard_error
    enumerated = rows[is_enumerable & ~estimates.is_good]
    exact[enumerated], ess[enumerated], error[enumerated] = True, torch.inf, 0
    return replace(found, exact=exact, ess=ess, standard_error=error)


def _without_column(log_weights: Sequence[Tensor | None] | None, column: int) -> list[Tensor | None] | None:
    """The weights of all other columns."""
    if log_weights is None:
        return None
    return [None if place == column else each for place, each in enumerate(log_weights)]


def _errors(log_probs: Tensor, readout: Tensor | None) -> Tensor:
    """Standard errors of averages over chains of probabilities p or of `p @ readout`, from log p, shape (D, N, K)."""
    probs = log_probs.double().exp().movedim(0, 1)  # (N, D, K)
    of_chains = probs if readout is None else probs @ readout
    return weighted_averages(probs.new_zeros(probs.shape[:2]), of_chains).standard_error
