"""Members: the density refitted to bootstrap samples of the rows, whose spread is the uncertainty of the fit.

A member resamples the rows with replacement. Its reference follows from that of the fit by expectation maximisation on
these rows, its base are their marginals, and its network follows from that of the fit by some more training on them, with a
schedule of its own. Where the fit is its reference, so is the member. Tables of pairs are those of the fit, and the network
learns what differs. The proposal is that of the fit: it decides how fast answers are right, not what is right.

Priors count as in one fit to as many rows. That of the reference has the strength that held-out rows of the fit chose, in
rows per component; that of the network's weights is weight_prior / N in a loss of nats per row.

Legend: N rows, V columns, K_j classes of column j.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from jointebm.randomness.draws import uniform
from jointebm.randomness.row_streams import row_keys
from jointebm.references import ProductMixture
from jointebm.references.expectation_maximisation import em_step, prior_of
from jointebm.references.layout import MixedRows
from jointebm.tables.density.energy import Rebased, Residual, TableEnergy
from jointebm.tables.training.bins import Bins, ColumnSpread
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.smoothing import AlongColumns, Curves
from jointebm.tables.training.table_config import Progress, TableConfig
from jointebm.tables.training.table_schedule import loop_of_table, planned_iterations
from jointebm.tables.training.telling_orders import telling_orders

__all__ = ["SharedProgress", "bootstrapped", "unsmooth"]

SHARE = 0.16  # iterations of a member, as a share of those that the fit plans; five members cost less than two fits
NUM_STEPS, TOLERANCE = 100, 1e-4  # of expectation maximisation at most, and its end, in nats per row
_STREAM = 2  # of the seed; the fit itself has 0 and 1


class SharedProgress:
    """Progress of a fit and then of its members, as one.

    Args:
        on_progress: called whenever the held-out rows of the fit are scored, and after each member.
        num_members: that will follow the fit.

    Example:
        >>> told = []
        >>> progress = SharedProgress(told.append, 5)
        >>> progress.of_fit(Progress(1.0, -2.0, -0.5, 9.0)), progress.after_member(4)
        (None, None)
        >>> [round(each.fraction, 2) for each in told]
        [0.56, 1.0]
    """

    def __init__(self, on_progress: Callable[[Progress], object], num_members: int) -> None:
        self._on_progress, self._share = on_progress, 1 / (1 + SHARE * num_members)
        self._last: Progress | None = None

    def of_fit(self, progress: Progress) -> None:
        """Tells the progress of the fit."""
        self._last = progress
        self._on_progress(progress._replace(fraction=self._share * progress.fraction))

    def after_member(self, number: int) -> None:
        """Tells that this member is done, with the scores of the fit; nothing if the fit had none."""
        if self._last is not None:
            self._on_progress(self._last._replace(fraction=self._share * (1 + SHARE * (number + 1))))


def bootstrapped(
    energy: TableEnergy,
    codes: Tensor,
    *,
    bins: Sequence[Sequence[int] | None],
    spreads: Sequence[ColumnSpread] | None = None,
    config: TableConfig,
    prior_strength: float,
    seed: int,
    number: int,
) -> TableEnergy:
    """Refits a density to a bootstrap sample of its rows.

    Args:
        energy: of the fit; not changed. If F is the reference, that of the member is its own reference.
        codes: all rows of the fit, shape (N, V), -1 is missing.
        bins: per column, the bin of each code; None if the order of its codes has no meaning.
        spreads: those of the fit.
        config: of the fit.
        prior_strength: of the reference of the fit, in rows per component, which may be weaker than that of `config`: a
            member with another one is pulled elsewhere than the fit, and its spread is not that of the fit.
        seed: of the fit.
        number: of the member, from 0, which decides its sample.

    Raises:
        Diverged: as in the fit.
    """
    place = energy.reference.log_weights.device
    codes, own_seed = codes.to(place), abs(int(row_keys(torch.tensor([[seed, _STREAM, number]]))))
    generator = torch.Generator(place).manual_seed(own_seed)
    rows = codes[(uniform(torch.empty(len(codes), dtype=torch.float64, device=place), generator) * len(codes)).long()]
    of_codes = Bins(bins, energy.num_classes, spreads, device=place)
    reference = _refitted(energy.reference, rows, of_codes, prior_strength)
    if not isinstance(energy.residual, Rebased):
        return TableEnergy(reference, deepcopy(energy.residual))
    base, net = of_codes.marginals(rows), deepcopy(energy.residual.net)
    bins = telling_orders(rows, energy.num_classes, bins)
    unsmooth(net, bins, rows)
    num_iterations = max(1, round(SHARE * planned_iterations(len(rows), len(bins), config)))
    loop = loop_of_table(
        TableEnergy(base, net, energy.network),
        CompletedRows(rows, reference, generator),
        bins=bins,
        config=config,
        num_iterations=num_iterations,
        generator=generator,
    )
    for _ in range(num_iterations):
        loop.step()
    average = loop.average
    assert isinstance(average, Curves)
    return TableEnergy(reference, Rebased(deepcopy(average.residual), base, reference), deepcopy(energy.network))


@torch.no_grad()
def _refitted(mixture: ProductMixture, codes: Tensor, bins: Bins, prior_strength: float) -> ProductMixture:
    """The mixture after expectation maximisation on other rows."""
    rows, mixture = MixedRows(bins.of_codes(codes), mixture.means.new_empty(len(codes), 0)), bins.merged(mixture)
    prior = prior_of(rows, bins.num_bins, prior_strength)
    before = -torch.inf
    for _ in range(NUM_STEPS if len(mixture.log_weights) > 1 else 1):
        mixture, objective = em_step(mixture, rows, prior)
        if objective - before < TOLERANCE * len(codes):
            break
        before = objective
    return bins.expanded(mixture, codes)


@torch.no_grad()
def unsmooth(residual: Residual, bins: Sequence[Sequence[int] | None], codes: Tensor) -> None:
    """Sets the vectors V of `Curves` in place of W, so that training on these codes (N, V) continues at W."""
    along = AlongColumns(residual.offsets, bins, codes)
    residual.embedding.copy_(along.solved(residual.embedding))
