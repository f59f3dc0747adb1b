"""Compares a fitted density with its data: moments, weights of components, calibration, and chains from the reference.

Legend: N rows, M columns of labels and reals.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.inference.corrected import Target, draw_given, num_candidates
from jointebm.inference.importance import MAX_EXACT, mass_of_known
from jointebm.inference.model import Model
from jointebm.inference.reports import ChainRecord, Estimate, Moment, Report
from jointebm.kernels.columns import columns_of
from jointebm.references.mixture import Mixture
from jointebm.sampling.component_weights import ComponentWeight, component_weights
from jointebm.sampling.diagnostics import ConvergenceWarning, warn_caller
from jointebm.spaces.space import Position, Space

__all__ = ["FitSummary", "warn_of_wrong_modes", "with_report"]

CHAINS_OF_REPORT = 500  # of the diagnostics and of the moments
STEPS_OF_REPORT = 100
MAX_COLUMNS = 40  # whose products are compared
NUM_KEPT = 5  # worst moments
MAX_CALIBRATED = 500  # held-out rows
CLEAR_GAIN = 3.0  # nats over all these rows, below which a factor is not told from 1
FACTORS = tuple(2 ** (k / 4) for k in range(-12, 13))  # tried for the labels


class FitSummary(NamedTuple):
    """What training reached."""

    held_out: Estimate
    held_out_reference: Estimate
    iterations: int
    best_iteration: int
    negatives: str


def with_report(
    model: Model, rows: Position, held_out: Position, summary: FitSummary, generator: torch.Generator
) -> Model:
    """Runs chains from the reference, compares them with the data, and gives the model its diagnostics and report.

    Args:
        model: the fitted density, with a reference; its configuration changes in place.
        rows: training rows, NaN is missing.
        held_out: held-out rows.
        summary: what training reached.
        generator: source of all draws.
    """
    assert model.reference is not None
    target = Target(model, model.reference, model.kernel, model.config.weighted)
    drawn = draw_given(
        target,
        CHAINS_OF_REPORT,
        None,
        num_steps=STEPS_OF_REPORT,
        generator=generator,
        with_r_hat=True,
        enumerates=False,
    )
    space = target.space
    like = next(iter(rows.values()))
    of_model = space.encode(drawn.value, dtype=like.dtype, device=like.device)[0]
    moments = _moments(space, of_model, rows)
    weights = _component_weights(target, of_model, rows)
    report = Report(
        num_rows=len(like),
        num_held_out=len(next(iter(held_out.values()))),
        held_out=summary.held_out,
        held_out_reference=summary.held_out_reference,
        moments=tuple(sorted(moments, key=lambda moment: -abs(moment.z))[:NUM_KEPT]),
        num_moments=len(moments),
        component_weights=tuple((each.model, each.data) for each in weights),
        component_errors=tuple(each.standard_error if math.isfinite(each.standard_error) else None for each in weights),
        log_normalizer=model.log_normalizer,
        calibration_factor=_calibration_factor(target, held_out, generator),
        iterations=summary.iterations,
        best_iteration=summary.best_iteration,
        negatives=summary.negatives,
    )
    found = drawn.diagnostics
    record = ChainRecord(
        num_draws=num_candidates(CHAINS_OF_REPORT),
        ess=float(found.ess[0]),
        num_steps=STEPS_OF_REPORT,
        accept_rate=dict(found.accept_rate),
        r_hat=found.r_hat,
    )
    model.config = model.config.model_copy(update={"diagnostics": record, "report": report})
    return model


def warn_of_wrong_modes(model: Model) -> None:
    """Warns of each group of rows whose weight is wrong, as the report says."""
    for failure in model.report.mode_failures if model.report is not None else ():
        finding = f"fit: {failure}. Samples and scores of such rows are wrong"
        warn_caller(ConvergenceWarning(finding, "more rows, or an energy of your own that is smaller"))


def _moments(space: Space, model: Position, data: Position) -> list[Moment]:
    """Means of the first columns and of their products; rows that miss one are left out."""
    ours, theirs = _columns(space, model), _columns(space, data)
    names = _names(space)
    center, spread = theirs.nanmean(dim=0), (theirs - theirs.nanmean(dim=0)).square().nanmean(dim=0).sqrt()
    usable = [index for index in range(len(names)) if float(spread[index]) > 0][:MAX_COLUMNS]
    ours, theirs = ((each[:, usable] - center[usable]) / spread[usable] for each in (ours, theirs))
    moments = []
    for a, column in enumerate(usable):
        moments.append(_moment(names[column], ours[:, a], theirs[:, a]))
        for b in range(a):
            product = f"{names[usable[b]]} * {names[column]}"
            moments.append(_moment(product, ours[:, a] * ours[:, b], theirs[:, a] * theirs[:, b]))
    return [moment for moment in moments if moment is not None]


def _moment(name: str, ours: Tensor, theirs: Tensor) -> Moment | None:
    """Means of two samples, in standard deviations of the data, and their difference in standard errors."""
    theirs = theirs[~theirs.isnan()]
    if len(theirs) < 2:
        return None
    error = math.sqrt(float(ours.var()) / len(ours) + float(theirs.var()) / len(theirs))
    difference = float(ours.mean() - theirs.mean())
    z = difference / error if error > 0 else 0.0
    return Moment(name=name, model=float(ours.mean()), data=float(theirs.mean()), z=z)


def _columns(space: Space, position: Position) -> Tensor:
    """Columns of all labels, one of each class, and reals, shape (N, M), float64."""
    return torch.cat([position[name].double().reshape(len(position[name]), -1) for name in space], dim=1)


def _names(space: Space) -> list[str]:
    found = []
    for name, block in space.items():
        width = math.prod(block.position_shape)
        found += [name] if width == 1 else [f"{name}[{place}]" for place in range(width)]
    return found


def _component_weights(target: Target, model: Position, data: Position) -> tuple[ComponentWeight, ...]:
    """Weights of the components of a mixture: in samples, and in the data."""
    if not isinstance(target.reference, Mixture):
        return ()
    ours, theirs = (target.reference.components(each).softmax(dim=1) for each in (model, data))
    return component_weights(ours, torch.zeros(len(ours), device=ours.device), theirs)


def _calibration_factor(target: Target, held_out: Position, generator: torch.Generator) -> float | None:
    """The factor on f that is best for held-out labels given all else, 1 if none is clearly better; None without labels.

    Of the conditional of one label, log p(y_v | rest) times the factor, normalised again.
    """
    space = target.space
    if not space.discrete or max(max(space.num_classes(name)) for name in space.discrete) > MAX_EXACT:
        return None
    rows = {name: value[:MAX_CALIBRATED] for name, value in held_out.items()}
    whole = ~torch.stack([v.isnan().reshape(len(v), -1).any(dim=1) for v in rows.values()]).any(dim=0)
    rows = {name: value[whole] for name, value in rows.items()}
    if int(whole.sum()) < 2:
        return None
    columns = columns_of(space, space.discrete, next(iter(rows.values())).device)
    joined = columns.join(rows)
    totals = joined.new_zeros(len(FACTORS), dtype=torch.float64)
    for variable in range(min(columns.num_variables, 8)):
        of_variable = columns.variable == variable
        asked = {**rows, **columns.split(joined.masked_fill(of_variable, torch.nan))}
        mass = mass_of_known(target.log_density, space, target.reference, asked, num_draws=1, generator=generator)
        probs, true = mass.columns[:, of_variable], joined[:, of_variable]
        if bool(columns.is_binary[of_variable].any()):
            probs, true = torch.cat([1 - probs, probs], dim=1), torch.cat([1 - true, true], dim=1)
        log_probs = probs.double().clamp(min=1e-12).log()
        for index, factor in enumerate(FACTORS):
            totals[index] += (factor * log_probs).log_softmax(dim=1).masked_select(true > 0.5).mean()
    at_one = FACTORS.index(1.0)
    if float(totals.max() - totals[at_one]) * len(joined) < CLEAR_GAIN:
        return 1.0
    return FACTORS[int(totals.argmax())]
