"""The proposal of a table: a masked network over codes, trained where held-out rows are there to stop it.

It draws whole rows, and missing entries given the observed ones, in one pass per column. So it starts chains, proposes
moves and estimates log Z; it is no part of F. It starts from the marginals of the columns: over a mixture of many components
it overfits.

Legend: N rows, V columns, F classes of all columns, H hidden units.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from jointebm.references import ProductMixture
from jointebm.references.any_order import fit_masked_network
from jointebm.references.masked_network import WIDTH_STEP, MaskedNetwork
from jointebm.tables.training.bins import ColumnBins
from jointebm.tables.training.smoothing import AlongColumns
from jointebm.tables.training.table_config import TableConfig

__all__ = ["fit_proposal"]

PROPOSAL_WIDTH, PROPOSAL_LAYERS = 256, 3
PROPOSAL_BATCH = 512
MOST_STEPS = 3000
SHARE_OF_VISITS = 0.6  # of those that the fit makes of a row at most
FEW_PASSES = 4 / 3  # a table of fewer batches is visited more often


def fit_proposal(
    codes: Tensor,
    held_out: Tensor,
    marginals: ProductMixture,
    *,
    bins: Sequence[ColumnBins],
    config: TableConfig,
    generator: torch.Generator,
) -> MaskedNetwork | None:
    """Trains a masked network over the marginals; None if held-out rows do not show that it helps.

    Args:
        codes: training rows, shape (N, V), -1 is missing.
        held_out: rows that decide when it is best, shape (n, V).
        marginals: of the columns; copied.
        bins: per column, the bin of each code; None if the order of its codes has no meaning.
        config: of the fit; its width and visits bound those of the proposal.
        generator: source of all draws.
    """
    width = min(PROPOSAL_WIDTH, -(-config.width // WIDTH_STEP) * WIDTH_STEP)
    network = MaskedNetwork(deepcopy(marginals), width=width, num_layers=PROPOSAL_LAYERS).to(codes.device)
    network.initialise(generator)
    along = AlongColumns(marginals.offsets, bins, codes)
    network.embedding.data.copy_(along.fresh(network.embedding))
    for name in ("embedding", "readout"):
        parametrize.register_parametrization(network, name, along)
    num_passes = max(len(codes) / PROPOSAL_BATCH, FEW_PASSES)
    num_steps = min(MOST_STEPS, max(1, int(SHARE_OF_VISITS * config.num_visits * num_passes)))
    network = fit_masked_network(
        network,
        codes,
        generator=generator,
        held_out=held_out,
        num_steps=num_steps,
        batch_size=PROPOSAL_BATCH,
        weight_prior=config.weight_prior,
    )
    if not bool(network.readout.any()):
        return None
    for name in ("embedding", "readout"):
        parametrize.remove_parametrizations(network, name)
    return network.requires_grad_(False)
