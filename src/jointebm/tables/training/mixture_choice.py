"""The reference of a table's density: the mixture that held-out rows find most likely.

Legend: N training rows, V columns, K_j classes of column j.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.references import ProductMixture
from jointebm.references.expectation_maximisation import fit_product_mixture, prior_of, spread_rows
from jointebm.references.layout import MixedRows
from jointebm.tables.training.bins import Bins
from jointebm.tables.training.table_config import TableConfig

__all__ = ["ChosenReference", "fitted_reference"]

WEAKER = 0.2  # share of the prior's strength, that the reference is fitted with once more
SIZES_IN_VAIN = 2  # sizes of the reference in a row without improvement, after which no larger one is tried


class ChosenReference(NamedTuple):
    """The reference of a fit, and the strength of the prior that it was fitted with, in rows per component."""

    mixture: ProductMixture
    prior_strength: float


def fitted_reference(
    codes: Tensor, held_out: Tensor, bins: Bins, config: TableConfig, generator: torch.Generator
) -> ChosenReference:
    """Fits mixtures of growing size, and chooses one.

    It is the one that held-out rows find most likely, or one of its size with a weaker prior; without held-out rows, that of
    the largest size.

    Args:
        codes: training rows, shape (N, V), -1 is missing.
        held_out: shape (n, V); none if n is 0.
        bins: of the codes.
        config: largest size, rows per component, strength of the prior.
        generator: of the rows to start from.
    """
    rows = MixedRows(bins.of_codes(codes), torch.empty(len(codes), 0, device=codes.device))
    prior = prior_of(rows, bins.num_bins, config.prior_strength)

    def fitted(num: int, strength: float = config.prior_strength) -> ProductMixture:
        start = spread_rows(rows, prior, num, generator)
        mixture = fit_product_mixture(rows, bins.num_bins, start=start, prior_strength=strength)
        return bins.expanded(mixture, codes)

    def score(mixture: ProductMixture) -> float:
        return float(mixture(held_out).mean(dtype=torch.float64))

    most = max(1, min(config.max_components, len(codes) // config.rows_per_component))
    if not len(held_out):
        return ChosenReference(fitted(most), config.prior_strength)
    best, best_score, num, since = None, -math.inf, 1, 0
    while best is None or (num <= most and since < SIZES_IN_VAIN):
        mixture = fitted(num)
        found, since = score(mixture), since + 1
        if best is None or found > best_score:
            best, best_score, since = mixture, found, 0
        num = min(2 * num, most) if num < most else most + 1
    weaker = ChosenReference(
        fitted(len(best.log_weights), WEAKER * config.prior_strength), WEAKER * config.prior_strength
    )
    return weaker if score(weaker.mixture) > best_score else ChosenReference(best, config.prior_strength)
