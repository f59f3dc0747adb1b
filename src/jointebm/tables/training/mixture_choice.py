"""The two mixtures of a table's density: the reference q, and the base b that the network is trained over.

Legend: N training rows, V columns, K_j classes of column j.
"""

import math

import torch
from torch import Tensor

from jointebm.references import ProductMixture
from jointebm.references.expectation_maximisation import fit_product_mixture, prior_of, spread_rows
from jointebm.references.layout import MixedRows
from jointebm.tables.training.table_config import TableConfig

__all__ = ["reference_and_base"]

WEAKER = 0.2  # share of the prior's strength, that the reference is fitted with once more
SIZES_IN_VAIN = 2  # sizes of the reference in a row without improvement, after which no larger one is tried
PENALTY = 4.0  # nats per parameter of the base: what a mixture has learned too well, a network no longer learns


def reference_and_base(
    codes: Tensor, held_out: Tensor, num_classes: tuple[int, ...], config: TableConfig, generator: torch.Generator
) -> tuple[ProductMixture, ProductMixture]:
    """Fits mixtures of growing size, and chooses q and b among them.

    q is the one that held-out rows find most likely, or one of its size with a weaker prior; without held-out rows, that of
    the largest size. b is the best after a penalty of `PENALTY` nats for each parameter.

    Args:
        codes: training rows, shape (N, V), -1 is missing.
        held_out: shape (n, V); none if n is 0.
        num_classes: K_j of each column.
        config: largest size, rows per component, strength of the prior.
        generator: of the rows to start from.
    """
    rows = MixedRows(codes, torch.empty(len(codes), 0))
    prior = prior_of(rows, num_classes, config.prior_strength)

    def fitted(num: int, strength: float = config.prior_strength) -> ProductMixture:
        start = spread_rows(rows, prior, num, generator)
        return fit_product_mixture(
            rows, num_classes, num_components=num, generator=generator, start=start, prior_strength=strength
        )

    def score(mixture: ProductMixture) -> float:
        return float(mixture(held_out).mean(dtype=torch.float64))

    most = max(1, min(config.max_components, len(codes) // config.rows_per_component))
    if not len(held_out):
        only = fitted(most)
        return only, only
    penalty = PENALTY * (sum(num_classes) - len(num_classes) + 1) / len(codes)  # of a component, nats per row
    best, base, best_score, base_score, num, since = None, None, -math.inf, -math.inf, 1, 0
    while best is None or (num <= most and since < SIZES_IN_VAIN):
        mixture = fitted(num)
        found, since = score(mixture), since + 1
        if best is None or found > best_score:
            best, best_score, since = mixture, found, 0
        if base is None or found - num * penalty > base_score:
            base, base_score = mixture, found - num * penalty
        num = min(2 * num, most) if num < most else most + 1
    assert base is not None
    weaker = fitted(len(best.log_weights), WEAKER * config.prior_strength)
    return (weaker if score(weaker) > best_score else best), base
