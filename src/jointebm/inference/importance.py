"""Sums over what is missing in a row: exact over few labels, by weighted draws of the reference otherwise; and exact draws.

    log of the integral of exp F over the missing entries = log E_q[exp(F) / q(missing | known)]

Legend: N rows, K draws of each, S configurations of the missing labels, M columns of all labels, V label variables.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels import LogDensity, evaluate_candidates
from jointebm.kernels.columns import Columns, columns_of
from jointebm.randomness.draws import Generator, choose
from jointebm.references.reference import Reference
from jointebm.sampling.diagnostics import MIN_ESS
from jointebm.sampling.weighted_draws import Averages, effective_size, log_mean_weights, weighted_averages
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["Mass", "drawn_labels", "mass_of_known"]

MAX_EXACT = 4096  # configurations of the missing labels of a row whose reals are all known
MAX_SUMMED = 256  # configurations that are summed out at each draw of missing reals
MAX_EVALUATIONS = 1 << 17  # rows of the network at once
MORE = 16  # times as many draws for rows with an ess below `MIN_ESS`


class Mass(NamedTuple):
    """Integrals of exp F over the missing entries of N rows.

    Args:
        log_mass: shape (N,), nats; F itself where nothing is missing.
        error: standard error of `log_mass`, shape (N,), float64; zero where the sum is exact.
        ess: effective number of draws of each row, shape (N,), float64; infinite where the sum is exact.
        columns: marginal probabilities of all columns of labels given what is known, shape (N, M); observed ones are 0 or 1.
        column_errors: their standard errors, shape (N, M).
    """

    log_mass: Tensor
    error: Tensor
    ess: Tensor
    columns: Tensor
    column_errors: Tensor


@torch.no_grad()
def mass_of_known(
    log_density: LogDensity,
    space: Space,
    reference: Reference | None,
    position: Position,
    *,
    num_draws: int,
    generator: Generator,
    with_marginals: bool = True,
) -> Mass:
    """Sums exp F over the missing entries of each row.

    Exact if all reals of a row are known and its missing labels have at most 4096 configurations. Otherwise reals, and
    labels of more than 256 configurations, are drawn from the reference given what is known; rows whose draws have an ess
    below 10 get 16 times as many.

    Args:
        log_density: F, shape (N,).
        space: the blocks.
        reference: q; None where every sum is exact.
        position: rows, NaN is missing.
        num_draws: K.
        generator: source of all draws.
        with_marginals: whether to find the marginals of labels; without, `columns` has no column.

    Raises:
        ValueError: a row needs draws, and there is no reference.
    """
    num_rows = len(next(iter(position.values())))
    like = next(iter(position.values()))
    unknown = _missing_variables(space, position)
    log_mass, (error, ess) = like.new_empty(num_rows), like.new_empty(2, num_rows, dtype=torch.float64)
    num_columns = unknown.columns.variable.numel() if unknown.columns and with_marginals else 0
    columns, column_errors = like.new_empty(2, num_rows, num_columns)
    mass = Mass(log_mass, error, ess, columns, column_errors)
    for rows, group in _groups(unknown):
        group = group._replace(with_marginals=with_marginals)
        for piece in rows.split(max(1, MAX_EVALUATIONS // group.evaluations(num_draws))):
            part = {name: value[piece] for name, value in position.items()}
            found = group.sum(log_density, reference, part, num_draws, generator)
            poor = found.ess < MIN_ESS
            if bool(poor.any()):
                again = _sum_in_pieces(
                    group, log_density, reference, {n: v[poor] for n, v in part.items()}, MORE * num_draws, generator
                )
                for old, new in zip(found, again, strict=True):
                    old[poor] = new
            for whole, of_piece in zip(mass, found, strict=True):
                whole[piece] = of_piece
    return mass


@torch.no_grad()
def drawn_labels(
    log_density: LogDensity, space: Space, position: Position, generator: Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Draws the missing labels of each row whose reals are all known from their exact joint conditional, where they are few.

        y_missing ~ softmax over all their configurations of F(known, y_missing)

    Args:
        log_density: F, shape (N,); minus infinity forbids a configuration.
        space: the blocks.
        position: rows, NaN is missing.
        generator: source of one choice for each of these rows; nothing is drawn if no row is one.

    Returns:
        The rows with these labels filled in, and which rows those are, shape (N,), bool: all that know every real and miss
        labels of at most 4096 configurations. Others are as they were.

    Raises:
        FloatingPointError: F has no finite maximum over the configurations of a row.
    """
    filled = {name: value.clone() for name, value in position.items()}
    unknown = _missing_variables(space, position)
    exact = torch.zeros_like(unknown.reals)
    for rows, group in _groups(unknown):
        if group.columns is None or group.misses_reals or not group.labels or not group.sums_labels:
            continue
        missing = group.missing_columns()
        for piece in rows.split(max(1, MAX_EVALUATIONS // group.num_configurations)):
            part = {name: value[piece] for name, value in position.items()}
            flat = torch.cat([value.reshape(len(piece), -1) for value in part.values()], dim=1).nan_to_num()
            different, which = flat.unique(dim=0, return_inverse=True)  # equal rows are evaluated once
            first = which.new_full((len(different),), len(piece)).scatter_reduce(
                0, which, torch.arange(len(piece), device=which.device), "amin"
            )
            f, configurations = group.tabulate(log_density, {name: value[first] for name, value in part.items()})
            f = f.float() if f.dtype == torch.bfloat16 else f
            if not bool(f.amax(dim=1).isfinite().all()):
                row = int(piece[(~f.amax(dim=1).isfinite())[which]][0])
                raise FloatingPointError(f"log-density: has no finite maximum over the missing labels of row {row}")
            y = group.columns.join(part)
            y[:, missing] = configurations[choose(f[which], generator)][:, missing]
            for name, value in group.columns.split(y).items():
                filled[name][piece] = value
        exact[rows] = True
    return filled, exact


class _Unknown(NamedTuple):
    """Which variables are missing: labels (N, V) and whether any real is, (N,)."""

    columns: Columns | None
    labels: Tensor
    reals: Tensor


class _Group(NamedTuple):
    """Rows with the same missing labels."""

    columns: Columns | None
    labels: tuple[int, ...]
    misses_reals: bool
    with_marginals: bool = True

    @property
    def num_configurations(self) -> int:
        if self.columns is None:
            return 1
        return math.prod(int(self.columns.num_classes[variable]) for variable in self.labels)

    @property
    def sums_labels(self) -> bool:
        """Whether missing labels are summed out rather than drawn."""
        return self.num_configurations <= (MAX_SUMMED if self.misses_reals else MAX_EXACT)

    def evaluations(self, num_draws: int) -> int:
        """Evaluations of F for each row."""
        draws = num_draws if self.misses_reals or not self.sums_labels else 1
        return draws * (self.num_configurations if self.sums_labels else 1)

    def sum(
        self,
        log_density: LogDensity,
        reference: Reference | None,
        position: Position,
        num_draws: int,
        generator: Generator,
    ) -> Mass:
        """The sums of N rows."""
        num_rows = len(next(iter(position.values())))
        configurations: Tensor | None = None
        if self.sums_labels and not self.misses_reals:
            f, configurations = self.tabulate(log_density, position)
            return self._mass(f[:, None], configurations, position, exact=True)
        if reference is None:
            raise ValueError(
                "a row misses reals, or labels of too many configurations, and this model has no reference to draw them "
                "from; use jointebm.predict with method='gibbs', or fit a model by jointebm.fit"
            )
        repeated = {name: value.repeat_interleave(num_draws, dim=0) for name, value in position.items()}
        drawn = reference.complete(repeated, generator)
        if self.sums_labels:
            known = {n: drawn[n] if n in reference.space.continuous else v for n, v in repeated.items()}
            f, configurations = self.tabulate(log_density, known)
            log_q = reference.log_prob(known) - reference.log_prob(position).repeat_interleave(num_draws)
        else:
            f = log_density(drawn)[:, None]
            log_q = reference.log_conditional(drawn, _free(reference.space, repeated))
        terms = (f - log_q[:, None]).reshape(num_rows, num_draws, -1)
        if configurations is None and self.with_marginals:
            of_draws = self._conditionals(log_density, drawn).reshape(num_rows, num_draws, -1)
            return self._mass(terms, None, position, exact=False, of_draws=of_draws)
        return self._mass(terms, configurations, position, exact=False)

    def tabulate(self, log_density: LogDensity, position: Position) -> tuple[Tensor, Tensor]:
        """F at all configurations of the missing labels, (N, S), and their columns, (S, M)."""
        if self.columns is None or not self.labels:
            f = log_density(position)[:, None]
            return f, f.new_zeros(1, 0 if self.columns is None else self.columns.variable.numel())
        columns = self.columns
        like = columns.join(position)
        counts = [int(columns.num_classes[variable]) for variable in self.labels]
        codes = torch.cartesian_prod(*[torch.arange(count, device=like.device) for count in counts])
        codes = codes.reshape(-1, len(counts))  # (S, missing)
        table = codes.new_zeros(len(codes), columns.num_variables)
        table[:, list(self.labels)] = codes
        one_hot = (table[:, columns.variable] == columns.class_of_column).to(like.dtype)  # (S, M)
        missing = self.missing_columns()
        candidates = torch.where(missing, one_hot[None], like.nan_to_num()[:, None])  # (N, S, M)
        f = evaluate_candidates(log_density, position, columns.split(candidates))
        return f, torch.where(missing, one_hot, 0)

    def _mass(
        self,
        terms: Tensor,
        configurations: Tensor | None,
        position: Position,
        *,
        exact: bool,
        of_draws: Tensor | None = None,
    ) -> Mass:
        """From terms F - log q of shape (N, K, S)."""
        of_each = terms.logsumexp(dim=2)  # (N, K)
        sums = log_mean_weights(of_each)
        if exact:
            log_mass = Averages(of_each[:, 0], torch.zeros_like(sums.standard_error))
            ess = torch.full_like(sums.value, torch.inf)
        else:
            log_mass = Averages(sums.value.to(terms), sums.standard_error)
            ess = effective_size(of_each.double())
        if self.columns is None or not self.with_marginals:
            return Mass(*log_mass, ess, *terms.new_empty(2, len(terms), 0))
        values = self.columns.join(position).nan_to_num()
        errors, missing = torch.zeros_like(values), self.missing_columns()
        if configurations is not None:
            of_draws = terms.softmax(dim=2) @ configurations[:, missing]
        else:
            assert of_draws is not None
            of_draws = of_draws[..., missing]
        found = weighted_averages(of_each, of_draws)
        values[:, missing] = found.value.to(values)
        if not exact:
            errors[:, missing] = found.standard_error.to(values)
        return Mass(*log_mass, ess, values, errors)

    def missing_columns(self) -> Tensor:
        """The columns of the missing labels, (M,), bool."""
        assert self.columns is not None
        chosen = torch.zeros(self.columns.num_variables, dtype=torch.bool, device=self.columns.variable.device)
        chosen[list(self.labels)] = True
        return chosen[self.columns.variable]

    def _conditionals(self, log_density: LogDensity, position: Position) -> Tensor:
        """The exact conditional of each missing label given all else of each draw, shape (N K, M)."""
        assert self.columns is not None
        y = self.columns.join(position)
        found = y.clone()
        for variable in self.labels:
            of_variable = self.columns.variable == variable
            classes = torch.arange(int(self.columns.num_classes[variable]), device=y.device)
            one_hot = (self.columns.class_of_column == classes[:, None]).to(y.dtype)  # (classes, M)
            candidates = torch.where(of_variable, one_hot, y[:, None])
            f = evaluate_candidates(log_density, position, self.columns.split(candidates))
            found[:, of_variable] = f.softmax(dim=1)[:, self.columns.class_of_column[of_variable]]
        return found


def _sum_in_pieces(
    group: _Group,
    log_density: LogDensity,
    reference: Reference | None,
    position: Position,
    num_draws: int,
    generator: Generator,
) -> Mass:
    num_rows = len(next(iter(position.values())))
    size = max(1, MAX_EVALUATIONS // group.evaluations(num_draws))
    parts = [
        group.sum(log_density, reference, {n: v[i : i + size] for n, v in position.items()}, num_draws, generator)
        for i in range(0, num_rows, size)
    ]
    return Mass(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _missing_variables(space: Space, position: Position) -> _Unknown:
    like = next(iter(position.values()))
    num_rows = len(like)
    reals = torch.zeros(num_rows, dtype=torch.bool, device=like.device)
    for name in space.continuous:
        reals |= position[name].isnan().reshape(num_rows, -1).any(dim=1)
    if not space.discrete:
        return _Unknown(None, reals.new_zeros(num_rows, 0), reals)
    columns = columns_of(space, space.discrete, like.device)
    missing = [(space[name].decode(position[name]) < 0).reshape(num_rows, -1) for name in space.discrete]
    return _Unknown(columns, torch.cat(missing, dim=1), reals)


def _groups(unknown: _Unknown) -> Iterator[tuple[Tensor, _Group]]:
    """Rows with the same missing labels, and alike in whether a real is missing, together."""
    keys = torch.cat([unknown.labels, unknown.reals[:, None]], dim=1)
    patterns, which = keys.unique(dim=0, return_inverse=True)
    for index, pattern in enumerate(patterns.tolist()):
        labels = tuple(place for place, is_missing in enumerate(pattern[:-1]) if is_missing)
        yield (which == index).nonzero().flatten(), _Group(unknown.columns, labels, bool(pattern[-1]))


def _free(space: Space, position: Position) -> Mask:
    """Masks of the missing variables of rows."""
    free: Mapping[str, Tensor] = {
        name: block.decode(position[name]) < 0 if block.discrete else position[name].isnan()
        for name, block in space.items()
    }
    return free
