"""How far to trust the answers about rows: effective sizes, standard errors, acceptance, split R-hat, and one warning.

Legend: N rows, T states of a chain, Q quantities.
"""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "MIN_ESS",
    "Answer",
    "ConvergenceWarning",
    "Diagnostics",
    "ExtrapolationWarning",
    "HalfChains",
    "Remedy",
    "split_r_hat",
    "warn_caller",
    "warn_if_poor",
]

Array = TypeVar("Array", Tensor, np.ndarray)
T_co = TypeVar("T_co", covariant=True)

Remedy = Mapping[str, Any]  # parameter -> value, or words before its name, or a mapping of the parameters within

MIN_ESS = 10.0  # effective draws of a row; with fewer, and without chains that jump, its answer may be far off


class ConvergenceWarning(UserWarning):
    """An answer by finite draws or chains that may be far from the saved density; names the remedy.

    Args:
        finding: the message, without its last dot.
        remedy: the parameters to change, each with a value or, in words, with what to do to it; or words alone. The
            parameters of a dict-valued one lie within.

    Example:
        >>> print(ConvergenceWarning("few draws", {"num_draws": "a larger", "num_sweeps": "a larger"}))
        few draws. Remedy: a larger num_draws or a larger num_sweeps
        >>> print(ConvergenceWarning("few rows", {"training": {"width": 8, "num_visits": 250}}))
        few rows. Remedy: training={'width': 8, 'num_visits': 250}
    """

    def __init__(self, finding: str, remedy: "str | Remedy" = "") -> None:
        super().__init__(finding, remedy)
        self.finding, self.remedy = finding, remedy

    def __str__(self) -> str:
        return self.told(_in_python)

    def told(self, written: "Callable[[Remedy], str]") -> str:
        """The message, whose remedy is written by the function."""
        remedy = self.remedy if isinstance(self.remedy, str) else written(self.remedy)
        return f"{self.finding}. Remedy: {remedy}" if remedy else self.finding


class ExtrapolationWarning(UserWarning):
    """An answer given values outside the range of the training data; names the column, a value, the range and the remedy.

    Example:
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", ExtrapolationWarning)  # asked on purpose
    """


def warn_caller(warning: Warning) -> None:
    """Warns at the first line of the caller that is neither of this package nor of scikit-learn, which may lie between."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("jointebm", "sklearn"):
        level, frame = level + 1, frame.f_back
    warnings.warn(warning, stacklevel=level)


@dataclass(frozen=True, eq=False)
class Diagnostics(Generic[Array]):
    """How far to trust the answers about N rows; what every question returns with `diagnostics=True`.

    Not guaranteed: all of it knows of what the draws have met. A group of rows that neither draws nor chains reach is
    missing from the answer, and from its standard error.

    Args:
        exact: rows answered without random draws, or drawn from the exact conditional, bool (N,).
        ess: effective number of draws, (sum w)^2 / sum w^2, that a row's answer averages over, or that the start of its
            chains was chosen among, on average. Infinite where the answer is exact. Shape (N,).
        standard_error: of numerical answers, with their shape, or by block like them; zero where exact, infinite where one
            draw holds all weight. It does not include the error of log Z, which all rows share. None: the answer is a draw
            or a label.
        num_jumps: jumps of the whole row that a chain of the row has accepted, on average; NaN in rows without a chain,
            None without any chain. Shape (N,).
        accept_rate: mean acceptance of each kernel by its name; empty without chains.
        r_hat: largest split R-hat, over chains of one condition from different starts (see `split_r_hat`); None if no chain
            took four steps.

    Example:
        >>> exact = Diagnostics(exact=torch.tensor([True]), ess=torch.tensor([torch.inf]))
        >>> print(exact)
        1 of 1 rows exact
    """

    exact: Array
    ess: Array
    standard_error: Any = None
    num_jumps: Array | None = None
    accept_rate: Mapping[str, float] = field(default_factory=dict)
    r_hat: float | None = None

    def numpy(self) -> "Diagnostics[np.ndarray]":
        """The same with arrays of numpy."""
        each: Any = self
        error = each.standard_error
        if isinstance(error, Mapping):
            error = {name: None if value is None else value.numpy() for name, value in error.items()}
        elif error is not None:
            error = error.numpy()
        jumps = None if each.num_jumps is None else each.num_jumps.numpy()
        return replace(each, exact=each.exact.numpy(), ess=each.ess.numpy(), standard_error=error, num_jumps=jumps)

    def __str__(self) -> str:
        exact, ess = np.asarray(self.exact), np.asarray(self.ess)
        parts = [f"{int(exact.sum())} of {len(exact)} rows exact"]
        if not exact.all():
            parts.append(f"ess of the others {ess[~exact].min():.1f} and more")
        if self.accept_rate:
            parts.append("accepted: " + ", ".join(f"{name} {rate:.2f}" for name, rate in self.accept_rate.items()))
        if self.r_hat is not None:
            parts.append(f"split R-hat {self.r_hat:.3f}")
        return "; ".join(parts)

    def of_draws(self: "Diagnostics[Tensor]", num_draws: int) -> "Diagnostics[Tensor]":
        """Of N rows, from those of D draws of each: first all rows of the first draw, then those of the second.

        A row is exact if all its draws are. Jumps are averages over those of its draws that a chain made.
        """
        jumps = None if self.num_jumps is None else self.num_jumps.view(num_draws, -1).nanmean(dim=0)
        return replace(
            self,
            exact=self.exact.view(num_draws, -1).all(dim=0),
            ess=self.ess.view(num_draws, -1).mean(dim=0),
            num_jumps=jumps,
        )

    @staticmethod
    def of_exact(num_rows: int, standard_error: Tensor | Mapping[str, Tensor] | None = None) -> "Diagnostics[Tensor]":
        """Of rows that are answered exactly."""
        every = torch.ones(num_rows, dtype=torch.bool)
        return Diagnostics(every, torch.full((num_rows,), torch.inf, dtype=torch.float64), standard_error)

    @staticmethod
    def together(parts: "Mapping[Any, Diagnostics[Tensor]]") -> "Diagnostics[Tensor]":
        """Of several answers about the same rows: the least of each row, and standard errors by the name of the answer."""
        each = list(parts.values())
        jumps = [part.num_jumps for part in each if part.num_jumps is not None]
        names = dict.fromkeys(name for part in each for name in part.accept_rate)
        rates = {name: [part.accept_rate[name] for part in each if name in part.accept_rate] for name in names}
        return Diagnostics(
            exact=torch.stack([part.exact for part in each]).all(dim=0),
            ess=torch.stack([part.ess for part in each]).amin(dim=0),
            standard_error={name: part.standard_error for name, part in parts.items()},
            num_jumps=functools.reduce(torch.fmin, jumps) if jumps else None,
            accept_rate={name: sum(found) / len(found) for name, found in rates.items()},
            r_hat=max((part.r_hat for part in each if part.r_hat is not None), default=None),
        )

    @staticmethod
    def of_stages(stages: "Sequence[Diagnostics[Tensor]]") -> "Diagnostics[Tensor]":
        """Of rows that are drawn in stages, each given the draws before it: the least of each row.

        Rates are averages over the chains of all stages.

        Example:
            >>> drawn = Diagnostics(torch.tensor([False, False]), torch.tensor([7.0, 9.0]))
            >>> print(Diagnostics.of_stages([Diagnostics.of_exact(2), drawn]))
            0 of 2 rows exact; ess of the others 7.0 and more
        """
        rates = Diagnostics.joined(stages).accept_rate
        return replace(Diagnostics.together(dict(enumerate(stages))), standard_error=None, accept_rate=rates)

    @staticmethod
    def joined(parts: "Sequence[Diagnostics[Tensor]]") -> "Diagnostics[Tensor]":
        """Of the rows of several parts of a question, one after the other."""
        num_moved = [0.0 if each.num_jumps is None else float((~each.num_jumps.isnan()).sum()) for each in parts]
        names = dict.fromkeys(name for each in parts for name in each.accept_rate)
        rates = {
            name: sum(n * each.accept_rate.get(name, 0.0) for n, each in zip(num_moved, parts, strict=True))
            / max(1.0, sum(num_moved))
            for name in names
        }
        errors: list[Any] = [each.standard_error for each in parts]
        jumps = [torch.full_like(each.ess, torch.nan) if each.num_jumps is None else each.num_jumps for each in parts]
        return Diagnostics(
            exact=torch.cat([each.exact for each in parts]),
            ess=torch.cat([each.ess for each in parts]),
            standard_error=None if any(each is None for each in errors) else torch.cat(errors),
            num_jumps=torch.cat(jumps) if any(num_moved) else None,
            accept_rate=rates,
            r_hat=max((each.r_hat for each in parts if each.r_hat is not None), default=None),
        )


class Answer(NamedTuple, Generic[T_co]):
    """An answer, and how far to trust it.

    Example:
        >>> import jointebm
        >>> answer = jointebm.load("pretrained:toy").log_density({"bottom": [0, 1]}, diagnostics=True)
        >>> isinstance(answer, Answer), answer.value.shape, answer.diagnostics.ess.shape
        (True, torch.Size([2]), torch.Size([2]))
    """

    value: T_co
    diagnostics: Diagnostics[Any]

    def checked(
        self, what: str, remedy: str | Remedy, *, min_ess: float = MIN_ESS, min_jumps: float = math.inf
    ) -> "Answer[T_co]":
        """Itself, after `warn_if_poor`."""
        warn_if_poor(self.diagnostics, what, remedy, min_ess=min_ess, min_jumps=min_jumps)
        return self


def warn_if_poor(
    diagnostics: Diagnostics[Tensor],
    what: str,
    remedy: str | Remedy,
    *,
    min_ess: float = MIN_ESS,
    min_jumps: float = math.inf,
) -> None:
    """Warns the caller of the question once if rows have few effective draws, unless their chains jump.

    Args:
        diagnostics: of the answer.
        what: the question, which begins the message.
        remedy: as in `ConvergenceWarning`.
        min_ess: effective draws of a row that are enough.
        min_jumps: accepted jumps of a chain, on average over all chains, that are enough whatever the ess is.
    """
    poor = ~diagnostics.exact & ~(diagnostics.ess >= min_ess)
    if not bool(poor.any()):
        return
    jumps = ""
    if diagnostics.num_jumps is not None:
        mean = float(diagnostics.num_jumps.nanmean())
        if mean >= min_jumps:
            return
        jumps = f", and chains accept {mean:.3f} jumps on average (at least {max(0.0, min_jumps):.2g} are enough)"
    message = (
        f"{what}: {int(poor.sum())} of {len(poor)} rows have fewer than {min_ess:.3g} effective draws, the least of them "
        f"{float(diagnostics.ess[poor].min()):.1f}{jumps}: their answers may be far off"
    )
    warn_caller(ConvergenceWarning(message, remedy))


def _in_python(remedy: Remedy) -> str:
    parts = []
    for name, value in remedy.items():
        if isinstance(value, Mapping) and any(isinstance(each, str) for each in value.values()):
            parts += [f"{change} {name}[{key!r}]" for key, change in value.items()]
        else:
            parts.append(f"{value} {name}" if isinstance(value, str) else f"{name}={value!r}")
    return " or ".join(parts)


class HalfChains:
    """Running means and variances of both halves of chains, for split R-hat without keeping their states.

    Args:
        num_steps: T states to come, T >= 4; of an odd number, the last one is left out.
    """

    def __init__(self, num_steps: int) -> None:
        self._length, self._seen = num_steps // 2, 0
        if self._length < 2:
            raise ValueError(f"split_r_hat: needs at least 4 states, got {num_steps}")
        self._origin = torch.empty(0)
        self._sums: list[Tensor] = []  # of each half: of the distances to the origin, and of their squares

    def add(self, states: Tensor) -> None:
        """Takes the next state of every chain, shape (N, Q)."""
        if self._seen == 0:
            self._origin = states.double()
            self._sums = [torch.zeros(2, *states.shape, dtype=torch.float64, device=states.device) for _ in range(2)]
        if self._seen < 2 * self._length:
            shift = states.double() - self._origin
            self._sums[self._seen // self._length] += torch.stack([shift, shift.square()])
        self._seen += 1

    def r_hat(self, conditions: Tensor | None = None) -> float:
        """The largest split R-hat; see `split_r_hat`."""
        first, second = (torch.stack(each) for each in zip(*self._sums, strict=True))  # (2, N, Q)
        variances = (second - first.square() / self._length).clamp(min=0) / (self._length - 1)
        variances = variances.masked_fill(variances < 1e-12 * second / self._length, 0)  # rounding
        means = self._origin + first / self._length
        within = variances.mean(dim=(0, 1))
        num_chains = means.shape[1]
        group = means.new_zeros(num_chains, dtype=torch.int64) if conditions is None else conditions.to(means.device)
        num_groups = int(group.max()) + 1
        sums = means.new_zeros(num_groups, means.shape[2]).index_add_(0, group, means.sum(dim=0))
        counts = 2 * torch.bincount(group, minlength=num_groups)
        of_group = (sums / counts[:, None].clamp(min=1))[group]
        between = (means - of_group).square().sum(dim=(0, 1)) / (2 * num_chains - int((counts > 0).sum()))
        known = within > 0
        if not bool(known.any()):
            return 1.0 if not bool((between > 0).any()) else math.inf
        length = self._length
        return float(((length - 1) / length + between[known] / within[known]).sqrt().max())


def split_r_hat(states: Tensor, conditions: Tensor | None = None) -> float:
    """The largest split R-hat of several quantities: spread between half chains against the spread inside them.

    sqrt(((n - 1) / n W + B / n) / W), with W the mean variance of the half chains of length n and B / n the variance of
    their means around that of their condition. About 1 if chains from all starts agree; quantities that never change are
    left out.

    Args:
        states: shape (T, N) or (T, N, Q), T >= 4.
        conditions: numbers of the conditions that chains were given, shape (N,), int64; only chains of one condition have to
            agree. None: all chains have the same.

    References:
        Gelman et al. 2013, Sec. 11.4.

    Example:
        >>> chains = torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
        >>> split_r_hat(chains) < 1.05, split_r_hat(chains + 5 * torch.arange(50)) > 2
        (True, True)
        >>> split_r_hat(chains + 5 * torch.arange(50), torch.arange(50)) < 1.05
        True
    """
    halves = HalfChains(len(states))
    for state in states.reshape(len(states), states.shape[1], -1):
        halves.add(state)
    return halves.r_hat(conditions)
