"""Prediction of any discrete variables given whatever is known of a row (Sec. 5).

Legend: N rows, R chains per row, V discrete variables, M their columns, C configurations of a piece.
"""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from jointebm.inference.exact_predictions import exact_prediction, rows_for_exact
from jointebm.inference.model import Model
from jointebm.inference.prediction import Prediction
from jointebm.inference.subset_answers import PART_ENERGIES, subset_prediction
from jointebm.kernels import Chain, Cycle, LogDensity, evaluate, parts_of, settle
from jointebm.kernels.columns import columns_of
from jointebm.kernels.gibbs import draw_variable
from jointebm.randomness.devices import on_cpu
from jointebm.randomness.draws import Generator
from jointebm.sampling.chain_diagnostics import rates_by_name
from jointebm.sampling.checks import check_finite
from jointebm.sampling.diagnostics import Answer, Diagnostics, HalfChains
from jointebm.sampling.sample import run_chain
from jointebm.sampling.tabulated import Tabulated
from jointebm.spaces.space import Position, Space, Values

__all__ = ["predict"]


@overload
def predict(
    model: Model,
    values: Values,
    target: str | Sequence[str],
    *,
    method: Literal["exact", "gibbs", "sample"] = ...,
    num_chains: int | None = ...,
    num_steps: int | None = ...,
    generator: Generator | None = ...,
    max_evaluations: int = ...,
    diagnostics: Literal[False] = ...,
) -> Prediction: ...
@overload
def predict(
    model: Model,
    values: Values,
    target: str | Sequence[str],
    *,
    method: Literal["exact", "gibbs", "sample"] = ...,
    num_chains: int | None = ...,
    num_steps: int | None = ...,
    generator: Generator | None = ...,
    max_evaluations: int = ...,
    diagnostics: Literal[True],
) -> Answer[Prediction]: ...
@torch.no_grad()
def predict(
    model: Model,
    values: Values,
    target: str | Sequence[str],
    *,
    method: Literal["exact", "gibbs", "sample"] = "exact",
    num_chains: int | None = None,
    num_steps: int | None = None,
    generator: Generator | None = None,
    max_evaluations: int = 65_536,
    diagnostics: bool = False,
) -> Prediction | Answer[Prediction]:
    """Predicts discrete blocks from whatever else is known of each row.

    Observed entries are clamped, those of a target too: leave out, or set to -1, the labels to predict. Missing entries are
    free; those that are not asked for are averaged over.

    - "exact" (the paper's energy-based prediction): enumerates the configurations of all free discrete variables; labels
      are the most probable configuration, probs the marginals. Needs every continuous entry observed, but for a model of
      any subset, which answers by one pass whatever is missing.
    - "gibbs" (Rao-Blackwellised): sweeps of exact Gibbs draws over the free discrete variables, with moves of the free
      continuous entries by the model's kernel in between; probs average the exact conditional of each variable over the
      last half of the sweeps, labels are their argmax, variable by variable.
    - "sample" (the paper's sample-based prediction): chains from noise, moved by the model's kernel; labels are the
      majority vote of their last states, variable by variable; ties go to the lower label.

    "gibbs" and "sample" run finite chains and are approximate.

    Args:
        model: the model; its space, noise and kernel are used.
        values: per block, shape (N, *variable_shape); NaN, -1 or an absent block is missing.
        target: name or names of discrete blocks.
        method: "exact", "gibbs" or "sample".
        num_chains: chains R per row; None is the model's (10 in the paper). Not used by "exact".
        num_steps: kernel steps, for "gibbs" sweeps; None is the model's (200 in the paper), for "gibbs" 10.
        generator: source of all draws; needed by "gibbs" and "sample".
        max_evaluations: limit of rows in one evaluation of the network; bounds memory.
        diagnostics: whether to return (prediction, `Diagnostics`). Rows are exact by enumeration, or if nothing is missing;
            the ess of the others is the number of chains. The standard errors of `probs`, by block, come from the spread
            over the chains of a row, infinite for one chain; they know nothing of the bias of short chains. Split R-hat of
            f and the labels compares the chains of each row, from four steps on.

    Returns:
        `Prediction`, or (prediction, `Diagnostics`), on the CPU.

    Raises:
        TypeError: `model` is not a `Model`.
        ValueError: the target is not discrete, the method is unknown, "gibbs" or "sample" has no generator, there are no
            rows, chains or steps, too many configurations to enumerate, or a continuous entry is missing for "exact".
        FloatingPointError: the log-density is not finite.

    References:
        Kelly & Grathwohl 2021, Sec. 5, Eq. 7.

    Example:
        >>> from jointebm import load
        >>> predict(load("pretrained:toy"), {"point": [[-3.0, 0.0], [3.0, 0.0]]}, "left").labels["left"].tolist()
        [1, 0]
    """
    if not isinstance(model, Model):
        raise TypeError(
            f"predict: needs a Model, which knows its space, noise and kernel; got {type(model).__name__}. Wrap any module "
            "as Model(config, energy=module), or run `sample` on it directly"
        )
    targets = (target,) if isinstance(target, str) else tuple(target)
    model.space.require(targets, discrete=True)
    if method not in ("exact", "gibbs", "sample"):
        raise ValueError(f"predict: method must be 'exact', 'gibbs' or 'sample', got {method!r}")
    if method != "exact" and generator is None:
        raise ValueError(f"predict: method {method!r} draws random numbers; pass a generator")
    parameter = next(model.parameters())
    position, observed = model.space.encode(values, dtype=parameter.dtype, device=parameter.device)
    num_rows = len(next(iter(position.values())))
    num_chains = model.config.num_chains if num_chains is None else num_chains
    if num_steps is None:
        num_steps = 10 if method == "gibbs" else model.config.num_steps
    if num_rows < 1 or num_chains < 1 or num_steps < 1:
        raise ValueError(
            f"predict: needs at least one row, num_chains >= 1 and num_steps >= 1, got {num_rows} rows, {num_chains} and "
            f"{num_steps}"
        )
    if method == "exact" and isinstance(model.energy, PART_ENERGIES):
        return on_cpu(subset_prediction(model.energy, model.space, position, targets, joint=True))
    if method == "exact":
        rows_at_once = rows_for_exact(model.space, observed, max_evaluations)
    else:
        num_candidates = columns_of(model.space, model.space.discrete, parameter.device).max_classes
        rows_at_once = max(1, max_evaluations // (num_chains * num_candidates))
    parts: list[_Part] = []
    for start in range(0, num_rows, rows_at_once):
        rows = slice(start, start + rows_at_once)
        part = {name: value[rows] for name, value in position.items()}
        free = {name: ~mask[rows] for name, mask in observed.items()}
        if generator is None or method == "exact":
            summed = exact_prediction(model, part, free, max_evaluations, first_row=start)
            parts.append(_Part(*summed, {name: torch.zeros_like(value) for name, value in summed.probs.items()}))
            continue
        halves = HalfChains(num_steps) if diagnostics and num_steps >= 4 else None
        if method == "gibbs":
            parts.append(_gibbs(model, part, free, num_chains, num_steps, generator, halves, first_row=start))
        else:
            parts.append(_sample(model, part, free, num_chains, num_steps, generator, halves))
    labels, probs, errors = (
        {name: torch.cat([getattr(part, field)[name] for part in parts]) for name in targets}
        for field in ("labels", "probs", "errors")
    )
    prediction = on_cpu(Prediction(labels, probs))
    if not diagnostics:
        return prediction
    exact = torch.stack([mask.reshape(num_rows, -1).all(dim=1) for mask in observed.values()]).all(dim=0)
    exact = exact | (method == "exact")
    found = Diagnostics(
        exact=exact,
        ess=torch.where(exact, torch.inf, torch.full_like(exact, num_chains, dtype=torch.float64)),
        standard_error=errors,
        accept_rate={name: sum(part.accept_rate[name] for part in parts) / len(parts) for name in parts[0].accept_rate},
        r_hat=max((part.r_hat for part in parts if part.r_hat is not None), default=None),
    )
    return on_cpu(Answer(prediction, found))


class _Part(NamedTuple):
    """The answer about some rows: a `Prediction`, standard errors of its probabilities, and what their chains did."""

    labels: dict[str, Tensor]
    probs: dict[str, Tensor]
    errors: dict[str, Tensor]
    accept_rate: Mapping[str, float] = MappingProxyType({})
    r_hat: float | None = None


def _start(
    model: Model, position: Position, free: Position, num_chains: int, num_evaluations: int, generator: Generator
) -> tuple[LogDensity, Space, dict[str, Tensor], dict[str, Tensor]]:
    """f, space, positions and masks of R chains per row, the observed entries in place and noise elsewhere.

    While x is clamped, and a table of f costs less than about so many evaluations of f, the space is its discrete part.
    """
    masks = {name: mask.repeat_interleave(num_chains, dim=0) for name, mask in free.items()}
    noise = model.noise.draw(len(next(iter(masks.values()))), generator=generator)
    start = {
        name: torch.where(block.expand(masks[name]), noise[name], position[name].repeat_interleave(num_chains, dim=0))
        for name, block in model.space.items()
    }
    masks = settle(masks)
    discrete = Space(**{name: model.space[name] for name in model.space.discrete})
    x_is_clamped = bool(model.space.continuous) and not masks.keys() & set(model.space.continuous)
    if not x_is_clamped or discrete.num_configurations > num_chains * num_evaluations:
        return model, model.space, start, masks
    table = Tabulated(model, discrete, {name: position[name] for name in model.space.continuous})
    return table, discrete, {name: start[name] for name in discrete}, masks


def _sample(
    model: Model,
    position: Position,
    free: Position,
    num_chains: int,
    num_steps: int,
    generator: Generator,
    halves: HalfChains | None,
) -> _Part:
    """Moves chains by the model's kernel; each class gets the share of chains that end in it."""
    log_density, space, start, masks = _start(model, position, free, num_chains, num_steps, generator)
    spec = model.config.kernel
    kernel = Cycle((*spec.build_discrete(space), *spec.build_continuous(space)))  # without lazy steps: y is asked for
    chain = evaluate(log_density, start, with_score=kernel.uses_score)
    steps = run_chain(log_density, kernel, chain, free=masks, generator=generator)
    accepted = chain.f.new_zeros(len(parts_of(kernel)))
    for chain, infos in itertools.islice(steps, num_steps):
        if halves is not None:
            accepted += torch.stack([info.accept_prob.mean() for info in infos])
            _watch(halves, chain, model.space)
    check_finite(chain, space, f"after {num_steps} steps")
    part = _averaged(model.space, {name: chain.position[name] for name in model.space.discrete}, num_chains)
    if halves is None:
        return part
    rates = rates_by_name(kernel, (accepted / num_steps).tolist())
    return part._replace(accept_rate=rates, r_hat=_r_hat(halves, len(chain.f), num_chains))


def _gibbs(
    model: Model,
    position: Position,
    free: Position,
    num_chains: int,
    num_steps: int,
    generator: Generator,
    halves: HalfChains | None,
    *,
    first_row: int,
) -> _Part:
    """Sweeps of exact draws; each class gets its exact conditional, averaged over the last half of the sweeps."""
    num_classes = sum(sum(model.space.num_classes(name)) for name in model.space.discrete)
    log_density, space, start, masks = _start(model, position, free, num_chains, num_steps * num_classes, generator)
    chain = evaluate(log_density, start, with_score=False)
    columns = columns_of(model.space, model.space.discrete, chain.f.device)
    free_variables = columns.join_free(masks, len(chain.f))  # (N R, V)
    swept = free_variables.any(dim=0).nonzero().flatten().tolist()
    total, num_kept = torch.zeros_like(columns.join(chain.position)), num_steps - num_steps // 2
    for step in range(num_steps):
        for kernel in model.config.kernel.build_continuous(space):
            chain, _ = kernel.step(log_density, chain, free=masks, generator=generator)
        for variable in swept:
            which = torch.full_like(chain.f, variable, dtype=torch.int64)
            chain, probs = draw_variable(columns, log_density, chain, which, free_variables[:, variable], generator)
            if step >= num_steps - num_kept:
                of_variable = columns.variable == variable
                total[:, of_variable] += probs[:, columns.class_of_column[of_variable]]
        if halves is not None:
            _watch(halves, chain, model.space)
    check_finite(chain, space, f"after {num_steps} sweeps")
    undefined = total.isnan().any(dim=1)
    if bool(undefined.any()):
        row = first_row + int(undefined.nonzero()[0]) // num_chains
        raise FloatingPointError(f"log-density: not a number, or infinite, at some class of a variable in row {row}")
    average = torch.where(free_variables[:, columns.variable], total / num_kept, columns.join(chain.position))
    part = _averaged(model.space, columns.split(average), num_chains)
    return part if halves is None else part._replace(r_hat=_r_hat(halves, len(chain.f), num_chains))


def _averaged(space: Space, probs: Position, num_chains: int) -> _Part:
    """Averages over the chains of each row and their errors; labels are the most probable class of each variable."""
    of_rows = {name: value.unflatten(0, (-1, num_chains)) for name, value in probs.items()}
    averages = {name: value.mean(dim=1) for name, value in of_rows.items()}
    if num_chains == 1:
        errors = {name: torch.full_like(value, torch.inf) for name, value in averages.items()}
    else:
        errors = {name: value.std(dim=1) / num_chains**0.5 for name, value in of_rows.items()}
    return _Part(space.decode(averages), averages, errors)


def _watch(halves: HalfChains, chain: Chain, space: Space) -> None:
    labels = [chain.position[name].reshape(len(chain.f), -1) for name in space.discrete]
    halves.add(torch.cat([chain.f[:, None], *labels], dim=1))


def _r_hat(halves: HalfChains, num: int, num_chains: int) -> float:
    """Split R-hat over the chains of each row, which have one condition."""
    return halves.r_hat(torch.arange(num // num_chains).repeat_interleave(num_chains))
