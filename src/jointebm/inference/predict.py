"""Prediction of any discrete variables given whatever is known of a row (Sec. 5).

Legend: N rows, R chains per row, V discrete variables, M their columns, C configurations of a piece.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.inference.model import Model
from jointebm.inference.prediction import Prediction
from jointebm.inference.subset_answers import subset_prediction
from jointebm.kernels import Cycle, LogDensity, evaluate, settle
from jointebm.kernels.columns import columns_of
from jointebm.kernels.gibbs import draw_variable
from jointebm.randomness.draws import Generator
from jointebm.sampling.checks import check_finite
from jointebm.sampling.enumeration import enumerate_log_density
from jointebm.sampling.sample import run_chain
from jointebm.sampling.tabulated import Tabulated
from jointebm.spaces.space import Position, Space, Values

__all__ = ["predict"]

MAX_CONFIGURATIONS = 1_000_000


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
) -> Prediction:
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

    Returns:
        `Prediction`.

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
    if method == "exact" and isinstance(model.energy, AnySubsetEnergy):
        return subset_prediction(model.energy, position, targets, joint=True)
    if method == "exact":
        rows_at_once = _rows_for_exact(model.space, observed, max_evaluations)
    else:
        num_candidates = columns_of(model.space, model.space.discrete, parameter.device).max_classes
        rows_at_once = max(1, max_evaluations // (num_chains * num_candidates))
    parts = []
    for start in range(0, num_rows, rows_at_once):
        rows = slice(start, start + rows_at_once)
        part = {name: value[rows] for name, value in position.items()}
        free = {name: ~mask[rows] for name, mask in observed.items()}
        if generator is None or method == "exact":
            parts.append(_exact(model, part, free, max_evaluations, first_row=start))
        elif method == "gibbs":
            parts.append(_gibbs(model, part, free, num_chains, num_steps, generator, first_row=start))
        else:
            parts.append(_sample(model, part, free, num_chains, num_steps, generator))
    labels = {name: torch.cat([part.labels[name] for part in parts]) for name in targets}
    probs = {name: torch.cat([part.probs[name] for part in parts]) for name in targets}
    return Prediction(labels, probs)


def _rows_for_exact(space: Space, observed: Position, max_evaluations: int) -> int:
    """Number of rows to enumerate at once; raises if enumeration is not possible."""
    for name in space.continuous:
        complete = observed[name].reshape(len(observed[name]), -1).all(dim=1)
        if not bool(complete.all()):
            raise ValueError(
                f"block {name!r}: has missing entries in row {int((~complete).nonzero()[0])}; method 'exact' enumerates "
                "discrete variables only. Use method 'gibbs' or 'sample', which also average over missing reals"
            )
    blocks = {name: space[name] for name in space.discrete if not bool(observed[name].all())}
    num_configurations = Space(**blocks).num_configurations if blocks else 1
    if num_configurations > MAX_CONFIGURATIONS:
        raise ValueError(
            f"predict: {num_configurations} configurations of the free discrete variables are too many to enumerate "
            f"(at most {MAX_CONFIGURATIONS}); use method 'gibbs' or 'sample'"
        )
    return max(1, max_evaluations // num_configurations)


def _exact(model: Model, position: Position, free: Position, max_evaluations: int, *, first_row: int) -> Prediction:
    """Enumerates the blocks with free entries; keeps a running maximum and running marginals."""
    labels = {name: model.space[name].decode(position[name]) for name in model.space.discrete}
    probs = {name: position[name] for name in model.space.discrete}
    blocks = {name: model.space[name] for name in model.space.discrete if bool(free[name].any())}
    if not blocks:
        return Prediction(labels, probs)
    space, fixed = Space(**blocks), {name: value for name, value in position.items() if name not in blocks}
    columns = columns_of(model.space, tuple(blocks), next(iter(position.values())).device)
    known = columns.join(position).to(torch.float64)  # (N, M), NaN where free
    observed = (~known.isnan()).to(known.dtype)
    known = known.nan_to_num()
    best, best_columns = known.new_full((len(known),), -torch.inf), known
    log_scale, weights = best, known.new_zeros(len(known), known.shape[1] + 1)
    for configurations, f in enumerate_log_density(model, space, fixed or position, max_evaluations=max_evaluations):
        c = columns.join(configurations).to(known.dtype)  # (C, M)
        mismatches = known @ (1 - c).T + (observed - known) @ c.T  # (N, C) observed columns that differ
        f = f.to(known.dtype).masked_fill(mismatches > 0.5, -torch.inf)
        top, index = f.max(dim=1)
        best_columns = torch.where((top > best)[:, None], c[index], best_columns)
        best = best.maximum(top)
        # Sums of exp(f) over the configurations of each column, and over all, relative to the largest f so far.
        rescale = torch.where(best.isfinite(), (log_scale - best).exp(), 0)
        terms = torch.where(f.isinf(), 0, (f - best[:, None]).exp())
        weights = weights * rescale[:, None] + torch.cat([terms @ c, terms.sum(dim=1, keepdim=True)], dim=1)
        log_scale = best
    if not bool(best.isfinite().all()):
        row = int((~best.isfinite()).nonzero()[0])
        raise FloatingPointError(
            f"log-density: its maximum over all configurations is {float(best[row])} in row {first_row + row}"
        )
    marginals = torch.where(observed > 0, known, weights[:, :-1] / weights[:, -1:])  # known entries keep every bit
    marginals = marginals.to(next(iter(position.values())).dtype)
    return Prediction(labels | space.decode(columns.split(best_columns)), probs | columns.split(marginals))


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
    model: Model, position: Position, free: Position, num_chains: int, num_steps: int, generator: Generator
) -> Prediction:
    """Moves chains by the model's kernel; each class gets the share of chains that end in it."""
    log_density, space, start, masks = _start(model, position, free, num_chains, num_steps, generator)
    spec = model.config.kernel
    kernel = Cycle((*spec.build_discrete(space), *spec.build_continuous(space)))  # without lazy steps: y is asked for
    chain = evaluate(log_density, start, with_score=kernel.uses_score)
    steps = run_chain(log_density, kernel, chain, free=masks, generator=generator)
    for chain, _ in itertools.islice(steps, num_steps):
        pass
    check_finite(chain, space, f"after {num_steps} steps")
    return _averaged(model.space, {name: chain.position[name] for name in model.space.discrete}, num_chains)


def _gibbs(
    model: Model,
    position: Position,
    free: Position,
    num_chains: int,
    num_steps: int,
    generator: Generator,
    *,
    first_row: int,
) -> Prediction:
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
    check_finite(chain, space, f"after {num_steps} sweeps")
    undefined = total.isnan().any(dim=1)
    if bool(undefined.any()):
        row = first_row + int(undefined.nonzero()[0]) // num_chains
        raise FloatingPointError(f"log-density: not a number, or infinite, at some class of a variable in row {row}")
    average = torch.where(free_variables[:, columns.variable], total / num_kept, columns.join(chain.position))
    return _averaged(model.space, columns.split(average), num_chains)


def _averaged(space: Space, probs: Position, num_chains: int) -> Prediction:
    """Averages over the chains of each row; labels are the most probable class of each variable."""
    averages = {name: value.unflatten(0, (-1, num_chains)).mean(dim=1) for name, value in probs.items()}
    return Prediction(space.decode(averages), averages)
