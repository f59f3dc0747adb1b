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
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.mixture import Mixture
from jointebm.tables.density.moves import chain_at, sweep
from jointebm.tables.training.fit_record import FitRecord, identity_of, run_fit
from jointebm.tables.training.table_config import Progress, TableConfig
from jointebm.tables.training.table_fit import TableFit

__all__ = ["TableModel"]

# Chunks of rows are padded to one shape: products of matrices round differently in different shapes.
EVALUATIONS = 2048  # of the network at once, for all classes of a column
CHAINS = 128  # moved at once
ROWS_PER_VECTOR = 64  # a multiple of the vector length of every processor


class TableModel(nn.Module):
    """log p(c) = f(c) - log Z over rows of V codes.

    An answer about a row depends on that row and the seed alone, bit for bit, not on the batch or its place in it. Draws
    come from streams keyed by the row's content, or by `keys`, so equal rows get equal draws unless `keys` differ. f is
    not normalised.

    Args:
        energy: f.

    Example:
        >>> codes = torch.tensor([[0, 0, 1], [1, 1, -1]]).repeat(60, 1)
        >>> model = TableModel.fit(codes, (2, 2, 2), seed=0)
        >>> model.predictive(torch.tensor([[-1, 0, -1]]), 0, seed=0).argmax().item()
        0
        >>> model.complete(torch.tensor([[-1, 1, -1]]), num_draws=3, seed=0).shape
        torch.Size([3, 1, 3])
    """

    def __init__(self, energy: TableEnergy) -> None:
        super().__init__()
        self.energy = energy

    @property
    def num_classes(self) -> tuple[int, ...]:
        """K_j of each column."""
        return self.energy.num_classes

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
        run_fit(fit, record=record, on_progress=on_progress)
        return cls(fit.energy).eval()

    @torch.no_grad()
    def log_density(self, codes: Tensor) -> Tensor:
        """f of complete rows, shape (N,), nats."""
        codes = _complete(_checked(codes, self.num_classes))
        return _in_chunks(self.energy, codes, EVALUATIONS // 8)

    @torch.no_grad()
    def conditional(self, codes: Tensor, column: int) -> Tensor:
        """log p(c_j = k | all other columns), shape (N, K_j); the column's own code is ignored."""
        codes = _checked(codes, self.num_classes, column).clone()
        codes[:, column] = 0
        return self._of_classes(_complete(codes), column).log_softmax(dim=1)

    def log_marginals(self) -> list[Tensor]:
        """log p(c_j = k) under the base, shape (K_j,) each, nats."""
        base = self.energy.base
        return [base.of_classes(base.log_weights[None], column)[0] for column in range(len(self.num_classes))]

    @torch.no_grad()
    def complete(
        self,
        codes: Tensor,
        *,
        num_draws: int = 1,
        num_sweeps: int = 20,
        seed: int,
        log_weights: Sequence[Tensor | None] | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """Draws the missing entries of each row by Markov chains that start from an exact draw of the reference.

        Args:
            codes: shape (N, V), -1 is missing.
            num_draws: D, independent chains per row.
            num_sweeps: over all missing columns.
            seed: of all draws.
            log_weights: per column, added to f of its classes where it is missing, shape (K_j,); -inf forbids a class.
            keys: of the rows' streams, shape (N,), int64; None hashes the content of each row.

        Returns:
            Completed codes, shape (D, N, V), int64.
        """
        codes = _checked(codes, self.num_classes)
        if not len(codes):
            return codes.expand(num_draws, *codes.shape)
        keys = row_keys(codes) if keys is None else keys
        numbers = torch.arange(num_draws).repeat_interleave(len(codes))
        stream = RowStream(keys.repeat(num_draws), seed, draw=numbers)
        chunks = torch.arange(num_draws * len(codes)).split(CHAINS)
        drawn = [
            self._complete_chunk(codes[rows % len(codes)], stream.select(rows), num_sweeps, log_weights)
            for rows in chunks
        ]
        return torch.cat(drawn).reshape(num_draws, *codes.shape)

    def _complete_chunk(
        self, codes: Tensor, stream: RowStream, num_sweeps: int, log_weights: Sequence[Tensor | None] | None
    ) -> Tensor:
        """One draw of the missing entries of at most `CHAINS` rows, padded to that number."""
        num_rows, num_columns = codes.shape
        filler = torch.arange(CHAINS) % num_rows
        codes, stream = codes[filler], stream.select(filler)
        free = codes < 0
        if not bool(free.any()):
            return codes[:num_rows]
        state = chain_at(self.energy, self.energy.reference.draw(codes, stream, log_weights=log_weights))
        for number in range(1, num_sweeps + 1):
            first = number * 2 * num_columns  # counters of two draws per column, fixed in advance

            def generators(column: int, first: int = first) -> RowStream:
                return stream.at(first + 2 * column)

            state = sweep(self.energy, state, free=free, generators=generators, log_weights=log_weights)
        return state.codes[:num_rows]

    @torch.no_grad()
    def predictive(self, codes: Tensor, column: int, *, num_draws: int = 20, num_sweeps: int = 10, seed: int) -> Tensor:
        """log p(c_j = k | the row's observed entries but column j), shape (N, K_j).

        Rao-Blackwellised: the mean of exact conditionals over draws of the other missing entries; exact without any.
        """
        codes = _checked(codes, self.num_classes, column).clone()
        codes[:, column] = -1
        incomplete = (codes < 0).sum(dim=1) > 1
        log_probs = self.energy.base.log_probs.new_empty(len(codes), self.num_classes[column])
        log_probs[~incomplete] = self.conditional(codes[~incomplete], column)
        drawn = self.complete(codes[incomplete], num_draws=num_draws, num_sweeps=num_sweeps, seed=seed)
        of_draws = self.conditional(drawn.flatten(0, 1), column).reshape(num_draws, -1, log_probs.shape[1])
        log_probs[incomplete] = _log_mean(of_draws).log_softmax(dim=1)
        return log_probs

    def spec(self) -> dict[str, Any]:
        """The shapes of the model as JSON data, for `from_spec`."""
        residual = self.energy.residual
        return {
            "num_classes": list(self.num_classes),
            "num_base_components": len(self.energy.base.log_weights),
            "num_reference_components": len(self.energy.reference.log_weights),
            "width": len(residual.bias),
            "num_layers": len(residual.weights) + 1,
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """Makes an unfitted model with the shapes of `spec`."""
        base = Mixture(spec["num_classes"], spec["num_base_components"])
        reference = Mixture(spec["num_classes"], spec["num_reference_components"])
        residual = Residual(spec["num_classes"], width=spec["width"], num_layers=spec["num_layers"])
        return cls(TableEnergy(base, residual, reference)).eval()

    def _of_classes(self, codes: Tensor, column: int) -> Tensor:
        chunk = max(8, EVALUATIONS // self.num_classes[column] // 8 * 8)
        return _in_chunks(lambda rows: self.energy.of_classes(rows, column), codes, chunk)


def _in_chunks(evaluate: Callable[[Tensor], Tensor], codes: Tensor, chunk: int) -> Tensor:
    """Evaluates rows in chunks of exactly one size; the last is padded with zeros."""
    # An empty batch is one chunk, so that its answer has the right shape and dtype.
    parts = [evaluate(pad(rows, (0, 0, 0, chunk - len(rows))))[: len(rows)] for rows in codes.split(chunk)]
    return torch.cat(parts)


def _log_mean(of_draws: Tensor) -> Tensor:
    """log of the mean over draws of probabilities, shape (D, N, K) to (N, K).

    Summed draw by draw and in whole vectors: torch's sum over an axis, and exponentials of partial vectors, round
    differently at the end of a batch.
    """
    num_rows = of_draws.shape[1]
    padded = pad(of_draws.double(), (0, 0, 0, -num_rows % ROWS_PER_VECTOR))
    peak = padded.amax(dim=0)
    total = torch.zeros_like(peak)
    for each in padded:
        total += (each - peak).exp()
    return ((total / len(padded)).log() + peak)[:num_rows].to(of_draws.dtype)


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
