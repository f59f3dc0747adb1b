"""Questions to a density over codes, each with its diagnostics.

Legend: N rows, V columns, K_j classes of column j, D draws. Codes are integers in 0..K_j-1; -1 is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from jointebm.randomness.row_streams import RowStream, row_keys
from jointebm.sampling.diagnostics import MIN_ESS, Answer, Diagnostics
from jointebm.sampling.weighted_draws import effective_size, log_mean_weights, weighted_averages
from jointebm.tables.answers.configurations import few_configurations, with_configurations
from jointebm.tables.answers.corrected_draws import CHAINS, NUM_STARTS, ChainEnds, corrected_draws, log_mean_of_draws
from jointebm.tables.answers.known_weights import log_prob_of_known, without_column
from jointebm.tables.density.energy import TableEnergy

__all__ = ["CodeQuestions", "checked_codes", "enough_draws", "enough_jumps"]

# Chunks of rows are padded to one shape: products of matrices round differently in different shapes.
EVALUATIONS = 2048  # of the network at once, for all classes of a column
MIN_CHAIN_JUMPS = 0.1  # accepted by a chain, on average over chains


class CodeQuestions(nn.Module):
    """The questions that `TableModel` answers.

    `log_prob`, `complete` and `predictive` warn where an answer may be far off; the methods `..._answer` do not, and return
    the diagnostics that decide it.
    """

    energy: TableEnergy
    num_classes: tuple[int, ...]
    log_normalizer: float

    @torch.no_grad()
    def log_density(self, codes: Tensor) -> Tensor:
        """F of complete rows, not normalised, shape (N,), nats."""
        codes = _complete(checked_codes(codes, self.num_classes))
        return _in_chunks(self.energy, codes, EVALUATIONS // 8)

    @torch.no_grad()
    def conditional(self, codes: Tensor, column: int) -> Tensor:
        """log p(c_j = k | all other columns), shape (N, K_j); the column's own code is ignored."""
        codes = checked_codes(codes, self.num_classes, column).clone()
        codes[:, column] = 0
        return self._of_classes(_complete(codes), column).log_softmax(dim=1)

    def log_prob(self, codes: Tensor, *, num_draws: int = 100, seed: int) -> Tensor:
        """log p of the observed codes of each row, shape (N,), nats, float64.

            log p(observed) = log q(observed) + log E_{m ~ q(. | observed)} exp g(observed, m) - log Z

        Exact, but for log Z, for rows with few configurations; of others a mean over `num_draws` draws m, whose log is a
        little too low on average.

        Args:
            codes: shape (N, V), -1 is missing.
            num_draws: of the missing entries.
            seed: of the draws.

        Warns:
            ConvergenceWarning: rows have few effective draws.
        """
        answer = self.log_prob_answer(codes, num_draws=num_draws, seed=seed)
        return answer.checked("log_prob", "a larger num_draws", min_ess=enough_draws(num_draws)).value

    @torch.no_grad()
    def log_prob_answer(
        self, codes: Tensor, *, num_draws: int, seed: int, log_weights: Sequence[Tensor | None] | None = None
    ) -> Answer[Tensor]:
        """`log_prob`, with its standard error, which is without that of log Z; `log_weights` as in `complete`."""
        codes = checked_codes(codes, self.num_classes)
        log_probs = torch.empty(len(codes), dtype=torch.float64)
        few = few_configurations(codes, self.num_classes, 10 * num_draws)  # exact is worth more
        found = _exact_where(few, torch.zeros_like(log_probs))
        for group in with_configurations(codes[few], self.num_classes, self._in_chunks_of_rows):
            log_probs[few.nonzero().flatten()[group.numbers]] = group.given(log_weights).log_density.logsumexp(dim=1)
        many = (~few).nonzero().flatten()
        if len(many):
            drawn = self._drawn(codes[many], num_draws, seed, log_weights)  # (D, n, V)
            residual = self._residual(drawn.flatten(0, 1)).reshape(num_draws, -1).double()
            known = log_prob_of_known(self.energy.reference, log_weights)
            of_observed = _in_chunks(known, codes[many], EVALUATIONS // 8)
            log_probs[many] = of_observed.double() + log_mean_of_draws(residual[:, :, None])[:, 0]
            found.ess[many] = effective_size(residual.T)
            found.standard_error[many] = log_mean_weights(residual.T).standard_error
        return Answer(log_probs - self.log_normalizer, found)

    def log_marginals(self) -> list[Tensor]:
        """log q(c_j = k) of the reference, shape (K_j,) each, nats."""
        reference = self.energy.reference
        return [reference.of_classes(reference.log_weights[None], column)[0] for column in range(len(self.num_classes))]

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

        Exact draws where the configurations are few. Otherwise one of 16 draws of the reference is taken by its weight, and
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
        return answer.checked("complete", "a larger num_sweeps", min_jumps=min_jumps).value

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
        codes = checked_codes(codes, self.num_classes)
        keys = torch.arange(len(codes)) if keys is None else keys
        completed = codes.repeat(num_draws, 1, 1)
        few = few_configurations(codes, self.num_classes, num_draws * (NUM_STARTS + 3 * num_sweeps))
        exact, many = few.nonzero().flatten(), (~few).nonzero().flatten()
        for group in with_configurations(codes[exact], self.num_classes, self._in_chunks_of_rows):
            rows, weights = exact[group.numbers], group.given(log_weights).log_density
            for draw in range(num_draws if group.columns else 0):
                chosen = RowStream(keys[rows], seed, draw=draw).choose(weights)
                completed[draw, rows[:, None], torch.tensor(group.columns)] = group.configurations[chosen]
        found = _exact_where(few)
        if len(many):
            numbers = torch.arange(num_draws).repeat_interleave(len(many))
            stream = RowStream(keys[many].repeat(num_draws), seed, draw=numbers)
            parts = [
                corrected_draws(
                    self.energy, codes[many[rows % len(many)]], stream.select(rows), num_sweeps, log_weights
                )
                for rows in torch.arange(num_draws * len(many)).split(CHAINS)
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
        the reference are weighted, with column j summed out of the weights:

            p(k | observed) ~ sum_s exp(F(observed, m_s, k) - log q(observed, m_s)),   m_s ~ q(. | observed)

        Rows in which that leaves few effective draws are answered by the mean of exact conditionals over chains.

        Warns:
            ConvergenceWarning: hardly a chain of these has accepted a jump.
        """
        answer = self.predictive_answer(codes, column, num_draws=num_draws, num_sweeps=num_sweeps, seed=seed)
        min_ess, min_jumps = enough_draws(num_draws), enough_jumps(answer.diagnostics, num_draws)
        return answer.checked(
            "predictive", "a larger num_draws or num_sweeps", min_ess=min_ess, min_jumps=min_jumps
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
        log_weights = without_column(log_weights, column)
        codes = checked_codes(codes, self.num_classes, column).clone()
        codes[:, column] = -1
        num_classes = self.num_classes[column]
        log_probs = self.energy.reference.log_probs.new_empty(len(codes), num_classes)
        few = few_configurations(codes, self.num_classes, num_draws * num_classes)
        alone = (codes < 0).sum(dim=1) == 1
        log_probs[alone] = self.conditional(codes[alone], column)
        exact = (few & ~alone).nonzero().flatten()
        for group in with_configurations(codes[exact], self.num_classes, self._in_chunks_of_rows):
            of_classes = group.given(log_weights).of_column(column, self.num_classes)
            log_probs[exact[group.numbers]] = of_classes.log_softmax(dim=1).to(log_probs)
        readout = torch.eye(num_classes, dtype=torch.float64) if readout is None else readout
        errors = torch.zeros(len(codes), readout.shape[1], dtype=torch.float64)
        found = _exact_where(few | alone, errors)
        many = (~few & ~alone).nonzero().flatten()
        if len(many):
            drawn_codes = self._drawn(codes[many], num_draws, seed, log_weights)
            weights = self._weights(drawn_codes, column)  # (D, n, K); evidence weighs F and q alike
            log_probs[many] = log_mean_of_draws(weights).log_softmax(dim=1)
            of_draws = weights.double().logsumexp(dim=2).T.contiguous()  # (n, D)
            sizes = found.ess[many] = effective_size(of_draws)
            errors[many] = _errors(of_draws, weights, readout)
            poor = many[sizes < enough_draws(num_draws)]
            ask: dict[str, Any] = {"num_sweeps": num_sweeps, "log_weights": log_weights, "keys": row_keys(codes[poor])}
            drawn = self.complete_answer(codes[poor], num_draws=num_draws, seed=seed, **ask)
            given = self.conditional(drawn.value.flatten(0, 1), column).reshape(num_draws, -1, num_classes)
            log_probs[poor] = log_mean_of_draws(given).log_softmax(dim=1)
            errors[poor] = _errors(torch.zeros(len(poor), num_draws), given, readout)
            found = _with_chains(found, poor, drawn.diagnostics)
        return Answer(log_probs, found)

    def _weights(self, drawn: Tensor, column: int) -> Tensor:
        """Log-weights of draws of the reference (D, N, V) together with each class of a column, shape (D, N, K_j)."""
        drawn[..., column] = -1
        flat = drawn.flatten(0, 1)
        proposed = _in_chunks(self.energy.reference, flat, EVALUATIONS // 8)
        return (self._of_classes(flat, column) - proposed[:, None]).reshape(*drawn.shape[:2], -1)

    def _drawn(
        self, codes: Tensor, num_draws: int, seed: int, log_weights: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """Draws of the missing entries from the reference, shape (D, N, V); equal rows get equal draws."""
        keys = row_keys(codes)
        stream = RowStream(keys.repeat(num_draws), seed, draw=torch.arange(num_draws).repeat_interleave(len(codes)))
        parts = []
        for rows in torch.arange(num_draws * len(codes)).split(CHAINS):
            filler = torch.arange(CHAINS) % len(rows)
            some = rows[filler]
            drawn = self.energy.reference.draw(codes[some % len(codes)], stream.select(some), evidence=log_weights)
            parts.append(drawn[: len(rows)])
        return torch.cat(parts).view(num_draws, *codes.shape)

    def _in_chunks_of_rows(self, codes: Tensor) -> Tensor:
        return _in_chunks(self.energy, codes, EVALUATIONS // 8)

    def _residual(self, codes: Tensor) -> Tensor:
        return _in_chunks(self.energy.residual, codes, EVALUATIONS // 8)

    def _of_classes(self, codes: Tensor, column: int) -> Tensor:
        chunk = max(8, EVALUATIONS // self.num_classes[column] // 8 * 8)
        return _in_chunks(lambda rows: self.energy.of_classes(rows, column), codes, chunk)


def _in_chunks(evaluate: Callable[[Tensor], Tensor], codes: Tensor, chunk: int) -> Tensor:
    """Evaluates rows in chunks of exactly one size; the last is padded with zeros."""
    # An empty batch is one chunk, so that its answer has the right shape and dtype.
    parts = [evaluate(pad(rows, (0, 0, 0, chunk - len(rows))))[: len(rows)] for rows in codes.split(chunk)]
    return torch.cat(parts)


def checked_codes(codes: Tensor, num_classes: tuple[int, ...], column: int = 0) -> Tensor:
    """The codes as int64; raises unless the codes fit the columns and `column` is one of them."""
    if not 0 <= column < max(1, len(num_classes)):
        raise ValueError(f"column: got {column}; the columns are numbered from 0 to {len(num_classes) - 1}")
    if codes.dim() != 2 or codes.shape[1] != len(num_classes) or codes.is_floating_point():
        raise ValueError(
            f"codes: got {codes.dtype} of shape {tuple(codes.shape)}, expected whole numbers of shape "
            f"(rows, {len(num_classes)})"
        )
    codes = codes.to(torch.int64)
    wrong = (codes < -1) | (codes >= torch.tensor(num_classes))
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"codes: got {int(codes[row, column])} in row {row}, column {column}; codes there run from 0 to "
            f"{num_classes[column] - 1}, and -1 is missing"
        )
    return codes


def _complete(codes: Tensor) -> Tensor:
    """Raises if an entry is missing."""
    if bool((codes < 0).any()):
        row, column = (codes < 0).nonzero()[0].tolist()
        raise ValueError(f"codes: row {row}, column {column} is missing; draw missing entries with `complete` first")
    return codes


def enough_draws(num_draws: int) -> float:
    """Effective draws of a row that are enough, out of so many."""
    return min(MIN_ESS, num_draws / 4)


def enough_jumps(diagnostics: Diagnostics[Tensor], num_draws: int) -> float:
    """Jumps of a chain that are enough on average; of few chains fewer, which may have had bad luck."""
    if diagnostics.num_jumps is None:
        return MIN_CHAIN_JUMPS
    return MIN_CHAIN_JUMPS - 2 / (num_draws * int((~diagnostics.num_jumps.isnan()).sum()))


def _exact_where(exact: Tensor, standard_error: Tensor | None = None) -> Diagnostics[Tensor]:
    ess = torch.where(exact, torch.inf, torch.zeros(len(exact), dtype=torch.float64))
    return Diagnostics(exact, ess, standard_error)


def _with_chains(found: Diagnostics[Tensor], rows: Tensor, chains: Diagnostics[Tensor]) -> Diagnostics[Tensor]:
    """With the diagnostics of chains in some rows."""
    if not len(rows) or chains.num_jumps is None:
        return found
    num_jumps = torch.full_like(found.ess, torch.nan)
    num_jumps[rows], found.ess[rows] = chains.num_jumps, chains.ess
    return replace(found, num_jumps=num_jumps, accept_rate=chains.accept_rate, r_hat=chains.r_hat)


def _errors(log_weights: Tensor, of_draws: Tensor, readout: Tensor) -> Tensor:
    """Standard errors of averages over draws of `p @ readout`, from log p of each class up to a constant, (D, N, K)."""
    probs = of_draws.double().softmax(dim=2).movedim(0, 1)  # (N, D, K)
    return weighted_averages(log_weights, probs @ readout).standard_error
