"""A joint density over rows of codes, fitted to rows with missing entries: conditionals, completions and scores.

Legend: N rows, V columns, K_j classes of column j, D draws. Codes are integers in 0..K_j-1; -1 is missing.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from jointebm.randomness.row_streams import RowStream, row_keys
from jointebm.references import ProductMixture
from jointebm.tables.answers.configurations import few_configurations, with_configurations
from jointebm.tables.answers.corrected_draws import (
    CHAINS,
    MIN_ROW_ESS,
    NUM_STARTS,
    corrected_draws,
    log_mean_of_draws,
    warn_of_draws,
    warn_of_jumps,
)
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.training.fit_record import FitRecord, identity_of, run_fit
from jointebm.tables.training.table_config import Progress, TableConfig
from jointebm.tables.training.table_fit import TableFit
from jointebm.tables.training.table_report import FitReport

__all__ = ["TableModel"]

# Chunks of rows are padded to one shape: products of matrices round differently in different shapes.
EVALUATIONS = 2048  # of the network at once, for all classes of a column


class TableModel(nn.Module):
    """log p(c) = F(c) - log Z over rows of V codes.

    An estimate about a row depends on that row and the seed alone, bit for bit: what it averages over comes from streams
    keyed by the row's content. Completions come from streams keyed by row number, or by `keys`, so that equal rows get
    independent draws. Answers are exact where one entry is missing, or the missing entries have few configurations (256, or
    up to 4,096 where other ways cost as much). Otherwise they start from draws of the reference given what is known, and
    weights or moves correct these; a `ConvergenceWarning` says where that is not enough.

    Args:
        energy: F.
        report: of the fit, which holds log Z; None takes log Z for 0.

    Example:
        >>> codes = torch.tensor([[0, 0, 1], [1, 1, -1]]).repeat(60, 1)
        >>> model = TableModel.fit(codes, (2, 2, 2), seed=0)
        >>> model.predictive(torch.tensor([[-1, 0, -1]]), 0, seed=0).argmax().item()
        0
        >>> model.complete(torch.tensor([[-1, 1, -1]]), num_draws=3, seed=0).shape
        torch.Size([3, 1, 3])
    """

    def __init__(self, energy: TableEnergy, report: FitReport | None = None) -> None:
        super().__init__()
        self.energy, self.report = energy, report

    @property
    def num_classes(self) -> tuple[int, ...]:
        """K_j of each column."""
        return self.energy.num_classes

    @property
    def log_normalizer(self) -> float:
        """log Z, nats."""
        return 0.0 if self.report is None else self.report.log_normalizer

    @classmethod
    def fit(
        cls,
        codes: Tensor,
        num_classes: Sequence[int],
        *,
        ordered: Sequence[bool] | None = None,
        config: TableConfig | None = None,
        seed: int,
        on_progress: Callable[[Progress], object] | None = None,
        run: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Fits to rows with missing entries.

        With `run`, an interrupted fit resumes when it is called again with the same arguments, and ends bit for bit as an
        uninterrupted one.

        Args:
            codes: whole numbers, shape (N, V), -1 is missing.
            num_classes: K_j of each column.
            ordered: per column, whether neighbouring codes are alike (numbers); None: no column is.
            config: how to train; None is the default.
            seed: of all draws of training.
            on_progress: called whenever the held-out rows are scored.
            run: folder for checkpoints and metrics.jsonl; None writes nothing.

        Raises:
            ValueError: no rows, no columns, flags that do not fit, a code that its column does not have, or `run` holds
                checkpoints of another fit.
            Diverged: numbers were not finite or not usual, and rollbacks at half the learning rate did not help.
        """
        codes = _checked(codes, tuple(num_classes))
        if not codes.numel():
            raise ValueError(
                f"fit: got {codes.shape[0]} rows of {codes.shape[1]} columns; a model needs at least one of each"
            )
        if ordered is not None and len(ordered) != len(num_classes):
            raise ValueError(f"ordered: got {len(ordered)} flags for {len(num_classes)} columns; give one each")
        ordered = (False,) * len(num_classes) if ordered is None else tuple(ordered)
        config = config or TableConfig()
        fit = TableFit(codes, tuple(num_classes), ordered=ordered, config=config, seed=seed)
        record = None
        if run is not None:
            record = FitRecord(run, identity_of(codes, num_classes, ordered=ordered, config=config, seed=seed))
        report = run_fit(fit, record=record, on_progress=on_progress)
        return cls(fit.energy, report).eval()

    @torch.no_grad()
    def log_density(self, codes: Tensor) -> Tensor:
        """F of complete rows, not normalised, shape (N,), nats."""
        codes = _complete(_checked(codes, self.num_classes))
        return _in_chunks(self.energy, codes, EVALUATIONS // 8)

    @torch.no_grad()
    def conditional(self, codes: Tensor, column: int) -> Tensor:
        """log p(c_j = k | all other columns), shape (N, K_j); the column's own code is ignored."""
        codes = _checked(codes, self.num_classes, column).clone()
        codes[:, column] = 0
        return self._of_classes(_complete(codes), column).log_softmax(dim=1)

    @torch.no_grad()
    def log_prob(self, codes: Tensor, *, num_draws: int = 100, seed: int) -> Tensor:
        """log p of the observed codes of each row, shape (N,), nats, float64.

            log p(observed) = log q(observed) + log E_{m ~ q(. | observed)} exp g(observed, m) - log Z

        Exact, but for log Z, for rows with few configurations; of others a mean over `num_draws` draws m, whose log is a
        little too low on average.

        Args:
            codes: shape (N, V), -1 is missing.
            num_draws: of the missing entries.
            seed: of the draws.
        """
        codes = _checked(codes, self.num_classes)
        log_probs = torch.empty(len(codes), dtype=torch.float64)
        few = few_configurations(codes, self.num_classes, 10 * num_draws)  # exact is worth more
        for group in with_configurations(codes[few], self.num_classes, self._in_chunks_of_rows):
            log_probs[few.nonzero().flatten()[group.numbers]] = group.log_density.double().logsumexp(dim=1)
        many = (~few).nonzero().flatten()
        if len(many):
            drawn = self._drawn(codes[many], num_draws, seed)  # (D, n, V)
            residual = self._residual(drawn.flatten(0, 1)).reshape(num_draws, -1)
            of_observed = _in_chunks(self.energy.reference, codes[many], EVALUATIONS // 8)
            warn_of_draws(residual)
            log_probs[many] = of_observed.double() + log_mean_of_draws(residual[:, :, None].double())[:, 0]
        return log_probs - self.log_normalizer

    def log_marginals(self) -> list[Tensor]:
        """log q(c_j = k) of the reference, shape (K_j,) each, nats."""
        reference = self.energy.reference
        return [reference.of_classes(reference.log_weights[None], column)[0] for column in range(len(self.num_classes))]

    @torch.no_grad()
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
        codes = _checked(codes, self.num_classes)
        keys = torch.arange(len(codes)) if keys is None else keys
        completed = codes.repeat(num_draws, 1, 1)
        few = few_configurations(codes, self.num_classes, num_draws * (NUM_STARTS + 3 * num_sweeps))
        exact, many = few.nonzero().flatten(), (~few).nonzero().flatten()
        for group in with_configurations(codes[exact], self.num_classes, self._in_chunks_of_rows):
            rows, weights = exact[group.numbers], group.log_density.double()
            for place, column in enumerate(group.columns):
                if log_weights is not None and (of_column := log_weights[column]) is not None:
                    weights = weights + of_column[group.configurations[:, place]]
            for draw in range(num_draws if group.columns else 0):
                chosen = RowStream(keys[rows], seed, draw=draw).choose(weights)
                completed[draw, rows[:, None], torch.tensor(group.columns)] = group.configurations[chosen]
        if len(many):
            numbers = torch.arange(num_draws).repeat_interleave(len(many))
            stream = RowStream(keys[many].repeat(num_draws), seed, draw=numbers)
            parts = [
                corrected_draws(
                    self.energy, codes[many[rows % len(many)]], stream.select(rows), num_sweeps, log_weights
                )
                for rows in torch.arange(num_draws * len(many)).split(CHAINS)
            ]
            completed[:, many] = torch.cat([part[0] for part in parts]).view(num_draws, len(many), -1)
            warn_of_jumps(torch.cat([part[1] for part in parts]))
        return completed

    @torch.no_grad()
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
        codes = _checked(codes, self.num_classes, column).clone()
        codes[:, column] = -1
        log_probs = self.energy.reference.log_probs.new_empty(len(codes), self.num_classes[column])
        few = few_configurations(codes, self.num_classes, num_draws * self.num_classes[column])
        alone = (codes < 0).sum(dim=1) == 1
        log_probs[alone] = self.conditional(codes[alone], column)
        exact = (few & ~alone).nonzero().flatten()
        for group in with_configurations(codes[exact], self.num_classes, self._in_chunks_of_rows):
            of_classes = group.of_column(column, self.num_classes)
            log_probs[exact[group.numbers]] = of_classes.log_softmax(dim=1)
        many = (~few & ~alone).nonzero().flatten()
        if len(many):
            log_probs[many], sizes = self._weighted(codes[many], column, num_draws, seed)
            poor = many[sizes < min(MIN_ROW_ESS, num_draws / 4)]
            drawn = self.complete(
                codes[poor], num_draws=num_draws, num_sweeps=num_sweeps, seed=seed, keys=row_keys(codes[poor])
            )
            of_draws = self.conditional(drawn.flatten(0, 1), column).reshape(num_draws, -1, log_probs.shape[1])
            log_probs[poor] = log_mean_of_draws(of_draws).log_softmax(dim=1)
        return log_probs

    def _weighted(self, codes: Tensor, column: int, num_draws: int, seed: int) -> tuple[Tensor, Tensor]:
        """log p(c_j = k | observed) by weighted draws of the reference, and their effective number, shape (N,)."""
        drawn = self._drawn(codes, num_draws, seed)
        drawn[..., column] = -1
        flat = drawn.flatten(0, 1)
        proposed = _in_chunks(self.energy.reference, flat, EVALUATIONS // 8)
        weights = (self._of_classes(flat, column) - proposed[:, None]).reshape(num_draws, len(codes), -1)
        of_draws = weights.double().logsumexp(dim=2).T.contiguous()  # (N, D)
        sizes = (2 * of_draws.logsumexp(dim=1) - (2 * of_draws).logsumexp(dim=1)).exp()
        return log_mean_of_draws(weights).log_softmax(dim=1), sizes

    def _drawn(self, codes: Tensor, num_draws: int, seed: int) -> Tensor:
        """Draws of the missing entries from the reference, shape (D, N, V); equal rows get equal draws."""
        keys = row_keys(codes)
        stream = RowStream(keys.repeat(num_draws), seed, draw=torch.arange(num_draws).repeat_interleave(len(codes)))
        parts = []
        for rows in torch.arange(num_draws * len(codes)).split(CHAINS):
            filler = torch.arange(CHAINS) % len(rows)
            some = rows[filler]
            parts.append(self.energy.reference.draw(codes[some % len(codes)], stream.select(some))[: len(rows)])
        return torch.cat(parts).view(num_draws, *codes.shape)

    def _in_chunks_of_rows(self, codes: Tensor) -> Tensor:
        return _in_chunks(self.energy, codes, EVALUATIONS // 8)

    def _residual(self, codes: Tensor) -> Tensor:
        return _in_chunks(self.energy.residual, codes, EVALUATIONS // 8)

    def spec(self) -> dict[str, Any]:
        """The shapes of the model as JSON data, for `from_spec`."""
        residual = self.energy.residual
        return {
            "num_classes": list(self.num_classes),
            "num_components": len(self.energy.reference.log_weights),
            "width": len(residual.bias),
            "num_layers": len(residual.weights) + 1,
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any], report: FitReport | None = None) -> Self:
        """Makes an unfitted model with the shapes of `spec`."""
        reference = ProductMixture(spec["num_classes"], spec["num_components"])
        residual = Residual(spec["num_classes"], width=spec["width"], num_layers=spec["num_layers"])
        return cls(TableEnergy(reference, residual), report).eval()

    def _of_classes(self, codes: Tensor, column: int) -> Tensor:
        chunk = max(8, EVALUATIONS // self.num_classes[column] // 8 * 8)
        return _in_chunks(lambda rows: self.energy.of_classes(rows, column), codes, chunk)


def _in_chunks(evaluate: Callable[[Tensor], Tensor], codes: Tensor, chunk: int) -> Tensor:
    """Evaluates rows in chunks of exactly one size; the last is padded with zeros."""
    # An empty batch is one chunk, so that its answer has the right shape and dtype.
    parts = [evaluate(pad(rows, (0, 0, 0, chunk - len(rows))))[: len(rows)] for rows in codes.split(chunk)]
    return torch.cat(parts)


def _checked(codes: Tensor, num_classes: tuple[int, ...], column: int = 0) -> Tensor:
    """Raises unless the codes fit the columns and `column` is one of them."""
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
