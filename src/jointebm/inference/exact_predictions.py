"""Predictions of labels by enumeration (Sec. 5): the most probable configuration, and marginals.

Legend: N rows, M columns of labels, C configurations of a piece.
"""

import torch

from jointebm.inference.model import Model
from jointebm.inference.prediction import Prediction
from jointebm.kernels.columns import columns_of
from jointebm.sampling.enumeration import enumerate_log_density
from jointebm.spaces.space import Position, Space

__all__ = ["MAX_CONFIGURATIONS", "exact_prediction", "rows_for_exact"]

MAX_CONFIGURATIONS = 1_000_000


def rows_for_exact(space: Space, observed: Position, max_evaluations: int) -> int:
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


def exact_prediction(
    model: Model, position: Position, free: Position, max_evaluations: int, *, first_row: int
) -> Prediction:
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
