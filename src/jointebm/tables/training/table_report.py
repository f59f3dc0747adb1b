"""The report of a fit: how far its density can be trusted.

Legend: N rows, V columns, K_j classes of column j, F = sum of K_j, M components of the reference.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from jointebm.references.product_mixture import features
from jointebm.sampling.component_weights import ComponentWeight, component_weights
from jointebm.storage.config import Config
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.normalizer import GROUP, AnnealedRows, RowsBack
from jointebm.tables.training.dependence import MAX_DEPENDENCE_ROWS, chance_of_dependence
from jointebm.tables.training.validation import HeldOut

__all__ = ["FitReport", "in_data_units", "table_report_of"]

MAX_MOMENT_ROWS = 20_000  # of the data, that moments are taken over
MAX_ERROR = 0.1  # standard error of log Z, nats
OFF = 4.0  # z-score of a moment
MAX_OFF = 0.05  # share of moments that may be off
MAX_MOMENT_CLASSES = 256  # of a column in moments; of more, all but the most frequent count as one


class FitReport(Config):
    """How far the density of a fit can be trusted; entries that held-out rows decide are None where none are held out.

    Example:
        >>> FitReport(log_normalizer=0.0, log_normalizer_error=0.3, ess=20, num_rungs=1).findings
        ('log Z is uncertain: all scores share its error',)
    """

    num_held_out: int = Field(0, ge=0, description="rows that nothing was learned from")
    log_likelihood: float | None = Field(None, description="mean log p of their codes, nats per row")
    log_likelihood_error: float | None = Field(None, description="its standard error")
    reference_log_likelihood: float | None = Field(None, description="mean log q of their codes, nats per row")
    reference_log_likelihood_error: float | None = Field(None, description="its standard error")
    gain: float | None = Field(None, description="log-likelihood over that of the reference")
    gain_error: float | None = Field(None, description="its standard error")
    log_score: float | None = Field(None, description="of one entry given the others, nats per observed entry")
    inside_codes: float | None = Field(
        None, description="mean log p of the values of held-out rows given their codes, nats per row, in data units"
    )
    inside_codes_error: float | None = Field(None, description="its standard error")
    data_units_error: float | None = Field(
        None, description="standard error of the log-likelihood in data units, the sum of both, over rows and log Z"
    )
    prior_strength: float | None = Field(
        None, gt=0, description="of the reference, in rows per component; None: not recorded"
    )
    is_judged: bool = Field(
        True, description="whether log Z of a network was known at a look, so that held-out rows could judge it"
    )
    log_normalizer: float = Field(description="log Z, nats")
    log_normalizer_error: float | None = Field(description="its standard error; None if one draw has all weight")
    log_normalizer_upper: float | None = Field(
        None, description="log Z by rows of the data that go the other way, nats; None: not estimated"
    )
    log_normalizer_upper_error: float | None = Field(
        None, description="its standard error; None if one row has all weight"
    )
    ess: float = Field(ge=0, description="effective number of the draws that log Z is estimated with")
    num_rungs: int = Field(ge=1, description="between the reference and F; 1 is plain importance sampling")
    worst_component: float = Field(0.0, description="clearest difference of a component's weight, F minus data")
    worst_component_weight: float = Field(1.0, description="the weight of that component in the data")
    worst_component_error: float | None = Field(0.0, description="standard error of the difference; None: not known")
    worst_moment: float = Field(0.0, ge=0, description="largest z-score of a frequency of two classes, F against data")
    moments_off: float = Field(0.0, ge=0, le=1, description="share of these frequencies with a z-score above 4")
    chance_of_dependence: float = Field(
        1.0,
        ge=0,
        le=1,
        description="that independent columns depend as much by chance; 1 unless F is that of marginals",
    )

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, one line each."""
        found = []
        if self.log_normalizer_error is None or self.log_normalizer_error > MAX_ERROR:
            found.append("log Z is uncertain: all scores share its error")
        found += [each for each in (self.bracket_finding, self.component_finding) if each is not None]
        if self.moments_off > MAX_OFF:
            found.append(f"{self.moments_off:.0%} of the frequencies of two classes differ from the data")
        return tuple(found)

    @property
    def bracket_finding(self) -> str | None:
        """What is wrong, if log Z differs between the end of the draws and that of the data."""
        if self.log_normalizer_upper is None:
            return None
        errors = (self.log_normalizer_error, self.log_normalizer_upper_error)
        error = math.hypot(*(0.0 if each is None else each for each in errors))
        if abs(self.log_normalizer_upper - self.log_normalizer) <= max(MAX_ERROR, OFF * error):
            return None
        return (
            f"log Z is {self.log_normalizer:z.2f} from draws and {self.log_normalizer_upper:z.2f} from the data: "
            "chains from one end do not reach all rows of the other"
        )

    @property
    def component_finding(self) -> str | None:
        """What is wrong, if a component of the reference has far more or less weight under F than in the data."""
        error = math.inf if self.worst_component_error is None else self.worst_component_error
        weight = self.worst_component_weight
        return ComponentWeight(weight + self.worst_component, weight, error).finding

    def lines(self) -> list[str]:
        """The report as text."""
        error = "unknown" if self.log_normalizer_error is None else f"{self.log_normalizer_error:.3f}"
        upper = ""
        if self.log_normalizer_upper is not None:
            of_upper = (
                "unknown" if self.log_normalizer_upper_error is None else f"{self.log_normalizer_upper_error:.3f}"
            )
            upper = f", from the data {self.log_normalizer_upper:z.3f} +- {of_upper}"
        of_worst = "unknown" if self.worst_component_error is None else f"{self.worst_component_error:.3f}"
        lines = ["no rows were held out (fewer than 50 rows, or num_visits=0): F is the reference"]
        if self.log_likelihood is not None:
            lines = [
                *self._in_data_units(),
                f"held-out log-likelihood of codes {self.log_likelihood:.3f} +- {self.log_likelihood_error:.3f} nats per "
                f"row ({self.num_held_out} rows); of the reference {self.reference_log_likelihood:.3f}; gain "
                f"{self.gain:.3f} +- {self.gain_error:.3f}",
                f"held-out log score {self.log_score:.4f} nats per entry",
                *([f"F is the reference: {self._reason}"] if self.gain == 0 else []),
            ]
        return [
            *lines,
            f"log Z {self.log_normalizer:.3f} +- {error}{upper} (effective draws {self.ess:.0f}, rungs {self.num_rungs})",
            f"worst weight of a component: {self.worst_component:+.3f} +- {of_worst} from "
            f"{self.worst_component_weight:.3f}",
            f"frequencies of two classes: worst z-score {self.worst_moment:.1f}, {self.moments_off:.1%} above {OFF:g}",
            *(f"WARNING: {finding}" for finding in self.findings),
        ]

    @property
    def _reason(self) -> str:
        """Why F is the reference."""
        if self.is_judged:
            return "held-out rows prefer it to the network"
        return "log Z of the network was known at no look, so that held-out rows could not judge it"

    def _in_data_units(self) -> list[str]:
        """The held-out log-likelihood as `score_samples` has it, if the values of the rows are known."""
        if self.log_likelihood is None or self.inside_codes is None:
            return []
        error = "unknown" if self.data_units_error is None else f"{self.data_units_error:.3f}"
        return [
            f"held-out log-likelihood {self.log_likelihood + self.inside_codes:.3f} +- {error} nats per row, in data units: "
            f"that of codes, and {self.inside_codes:.3f} +- {self.inside_codes_error or 0.0:.3f} of values given their codes"
        ]


def in_data_units(of_codes: Tensor, inside: Tensor, report: FitReport) -> dict[str, float | None]:
    """Fields of a report about the values of held-out rows.

    Args:
        of_codes: log p of the codes of each row, shape (N,), nats.
        inside: log p of its values given its codes, shape (N,), nats, in data units.
        report: holds the standard error of log Z.
    """
    size = math.sqrt(len(inside))
    of_rows, of_normalizer = float((of_codes + inside).std()) / size, report.log_normalizer_error
    return {
        "inside_codes": float(inside.mean()),
        "inside_codes_error": float(inside.std()) / size,
        "data_units_error": None if of_normalizer is None else math.hypot(of_rows, of_normalizer),
    }


class Moments(NamedTuple):
    """Frequencies of pairs of classes of different columns, and their variances, shape (F, F); NaN where not seen."""

    frequencies: Tensor
    variances: Tensor


@torch.no_grad()
def table_report_of(
    energy: TableEnergy,
    rows: AnnealedRows,
    codes: Tensor,
    *,
    back: RowsBack,
    held_out: HeldOut | None,
    num_held_out: int,
    log_score: float | None,
) -> FitReport:
    """The report of a fit.

    Args:
        energy: F.
        rows: weighted draws of exp F.
        codes: the data, shape (N, V), -1 is missing.
        back: rows of the data on the way back, to the proposal or to the reference.
        held_out: log-likelihood of the held-out rows; None without any.
        num_held_out: their number.
        log_score: of them.
    """
    weights = rows.log_weights.softmax(dim=0)
    worst = max(
        component_weights(
            energy.reference.components(rows.codes).softmax(dim=1),
            rows.log_weights,
            energy.reference.components(codes).softmax(dim=1),
            num_groups=len(rows.codes) // GROUP,
        ),
        key=lambda each: each.excess,
    )
    is_marginals = len(energy.reference.log_weights) == 1 and (held_out is None or held_out.gain == 0)
    groups = _groups(codes[:MAX_MOMENT_ROWS], energy.num_classes)
    data, model = (
        _moments(part, groups, each)
        for part, each in (
            (codes[:MAX_MOMENT_ROWS], torch.ones_like(codes[:MAX_MOMENT_ROWS, 0], dtype=torch.float32)),
            (rows.codes, weights.float()),
        )
    )
    z = (model.frequencies - data.frequencies).abs() / (model.variances + data.variances).sqrt()
    z = z[z.isfinite()]
    held = {}
    if held_out is not None:
        held = {
            "num_held_out": num_held_out,
            "log_likelihood": held_out.of_model,
            "log_likelihood_error": held_out.of_model_error,
            "reference_log_likelihood": held_out.of_reference,
            "reference_log_likelihood_error": held_out.of_reference_error,
            "gain": held_out.gain,
            "gain_error": held_out.gain_error,
            "log_score": log_score,
        }
    return FitReport(
        **held,  # type: ignore[arg-type]
        log_normalizer=rows.log_normalizer,
        log_normalizer_error=_if_finite(rows.standard_error),
        log_normalizer_upper=back.log_normalizer,
        log_normalizer_upper_error=_if_finite(back.standard_error),
        ess=rows.share * len(rows.codes),
        num_rungs=len(rows.rungs),
        worst_component=worst.model - worst.data,
        worst_component_weight=worst.data,
        worst_component_error=_if_finite(worst.standard_error),
        worst_moment=float(z.amax()) if len(z) else 0.0,
        moments_off=float((z > OFF).float().mean()) if len(z) else 0.0,
        chance_of_dependence=chance_of_dependence(
            _grouped(codes[:MAX_DEPENDENCE_ROWS], groups), torch.Generator(codes.device).manual_seed(0)
        )
        if is_marginals
        else 1.0,
    )


def _if_finite(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _groups(codes: Tensor, num_classes: Sequence[int]) -> list[Tensor]:
    """Per column, the group of each class, shape (K_j,): its own, but for all beyond the most frequent."""
    groups = []
    for column, count in enumerate(num_classes):
        counts = torch.bincount(codes[:, column][codes[:, column] >= 0], minlength=count)
        rank = counts.argsort(descending=True, stable=True).argsort()
        own = torch.arange(count, device=codes.device)
        groups.append(rank.clamp(max=MAX_MOMENT_CLASSES - 1) if count > MAX_MOMENT_CLASSES else own)
    return groups


def _grouped(codes: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """The groups of codes, shape (N, V), -1 is missing."""
    grouped = torch.stack([of_column[codes[:, j]] for j, of_column in enumerate(groups)], dim=1)
    return grouped.masked_fill(codes < 0, -1)


def _moments(codes: Tensor, groups: Sequence[Tensor], weights: Tensor) -> Moments:
    """Frequencies over the rows in which both columns are observed, each row with its weight."""
    counts = [int(of_column.max()) + 1 for of_column in groups]
    offsets = (0, *accumulate(counts))
    size = offsets[-1]
    seen, both, squares = (torch.zeros(size, size, device=codes.device) for _ in range(3))
    for rows, some in zip(codes.split(2048), weights.split(2048), strict=True):
        grouped = _grouped(rows, groups)
        one_hot = torch.zeros(len(rows), size + 1, device=codes.device).scatter_(1, features(grouped, offsets), 1.0)[
            :, :-1
        ]
        observed = torch.cat([(rows[:, [j]] >= 0).float().expand(-1, count) for j, count in enumerate(counts)], dim=1)
        both += (some[:, None] * one_hot).T @ one_hot
        seen += (some[:, None] * observed).T @ observed
        squares += (some.square()[:, None] * observed).T @ observed
    frequencies = both / seen
    middle = (both + 0.5 * squares / seen) / (seen + squares / seen)  # half a row more: no variance of zero
    variances = middle * (1 - middle) * squares / seen.square()
    column = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(codes.device)
    return Moments(frequencies.masked_fill(column[:, None] <= column, torch.nan), variances)
