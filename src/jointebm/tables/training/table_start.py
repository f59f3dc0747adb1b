"""The start of a table's fit: held-out rows, the reference, the base, the proposal, and the network before training.

Of several processes the first makes it, and the others get it as a parcel.

Legend: N training rows, V columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import shuffled
from jointebm.references import ProductMixture
from jointebm.references.masked_network import MaskedNetwork
from jointebm.tables.density.energy import Residual
from jointebm.tables.training.bins import Bins, ColumnBins
from jointebm.tables.training.held_out_rows import held_out_split
from jointebm.tables.training.mixture_choice import fitted_reference
from jointebm.tables.training.pair_tables import pair_tables
from jointebm.tables.training.proposal_fit import fit_proposal
from jointebm.tables.training.row_weights import resampled_rows
from jointebm.tables.training.smoothing import AlongColumns
from jointebm.tables.training.table_config import TableConfig
from jointebm.tables.training.telling_orders import telling_orders
from jointebm.training.training_state import prefixed, without_prefix
from jointebm.training.world import Parcel

__all__ = ["TableStart", "start_of"]

HELD_OUT = 0.1  # share of the rows, but no more than
MAX_HELD_OUT = 1000
MIN_HELD_OUT = 5  # rows; with fewer nothing shows whether the network helps, and the reference stands alone
NUM_LAYERS = 2


class TableStart(NamedTuple):
    """What a fit starts from.

    Args:
        held_out: numbers of the rows that nothing is learned from; none if nothing is trained.
        training: numbers of the training rows, shape (N,).
        of_report: numbers of the rows that the report is of.
        reference: q.
        prior_strength: of the reference, in rows per component, as held-out rows chose it.
        base: the marginals, that the network of F is trained over.
        network: the proposal in training; None: the reference.
        residual: the network of F, with weights that were drawn; None if nothing is trained.
        bins: per column, the bin of each code, where neighbouring codes are learned together; None where they are not.
    """

    held_out: Tensor
    training: Tensor
    of_report: Tensor
    reference: ProductMixture
    prior_strength: float
    base: ProductMixture
    network: MaskedNetwork | None
    residual: Residual | None
    bins: tuple[ColumnBins, ...]

    def parcel(self) -> Parcel:
        """Everything, to be sent."""
        modules = {"reference": self.reference, "base": self.base, "network": self.network, "residual": self.residual}
        sizes = {
            "prior_strength": self.prior_strength,
            "num_classes": list(self.base.num_classes),
            "bins": [of_column if of_column is None else list(of_column) for of_column in self.bins],
            "reference": len(self.reference.log_weights),
            "base": len(self.base.log_weights),
            "network": self.network
            and [len(self.network.mixture.log_weights), len(self.network.bias), len(self.network.weights) + 1],
            "residual": self.residual and [len(self.residual.bias), self.residual.num_table_rows],
        }
        tensors = {"held_out": self.held_out, "training": self.training, "of_report": self.of_report}
        for name, module in modules.items():
            tensors |= prefixed(name, {} if module is None else module.state_dict())
        return Parcel(sizes, tensors)

    @classmethod
    def of_parcel(cls, parcel: Parcel, place: torch.device) -> "TableStart":
        """The start that was sent, on this device."""
        sizes, tensors = parcel
        num_classes = tuple(sizes["num_classes"])
        network, residual = None, None
        if sizes["network"] is not None:
            num_components, width, num_layers = sizes["network"]
            mixture = ProductMixture(num_classes, num_components)
            network = MaskedNetwork(mixture, width=width, num_layers=num_layers).requires_grad_(False)
        if sizes["residual"] is not None:
            width, num_table_rows = sizes["residual"]
            residual = Residual(num_classes, width=width, num_layers=NUM_LAYERS, num_table_rows=num_table_rows)
        reference, base = (ProductMixture(num_classes, sizes[name]) for name in ("reference", "base"))
        modules = {"reference": reference, "base": base, "network": network, "residual": residual}
        for name, module in modules.items():
            if module is not None:
                module.load_state_dict(without_prefix(name, tensors), assign=True)
                module.to(place)
        held_out, training, of_report = (tensors[name].to(place) for name in ("held_out", "training", "of_report"))
        strength = sizes["prior_strength"]
        bins = tuple(sizes["bins"])
        return cls(held_out, training, of_report, reference, strength, base, network, residual, bins)


def start_of(
    codes: Tensor,
    num_classes: tuple[int, ...],
    of_codes: Bins,
    *,
    bins: Sequence[ColumnBins],
    config: TableConfig,
    weights: Tensor | None,
    generator: torch.Generator,
) -> TableStart:
    """Splits the rows, fits the reference and the proposal, and draws the network of F.

    Args:
        codes: all rows, shape (rows, V), -1 is missing.
        num_classes: K_j of each column.
        of_codes: bins, with their spreads.
        bins: per column, the bin of each code; None if the order of its codes has no meaning.
        config: how to train.
        weights: of the rows, positive: held-out and training rows are repeated accordingly; None is alike.
        generator: source of all draws.
    """
    order = shuffled(len(codes), generator)
    num_held_out = min(int(HELD_OUT * len(codes)), MAX_HELD_OUT)
    held_out, training = held_out_split(codes, order, num_held_out, bins)
    trains = len(held_out) >= MIN_HELD_OUT and config.num_visits > 0 and max(num_classes) > 1
    if not trains:
        held_out, training = order[:0], order
    of_report = torch.arange(len(codes), device=codes.device)
    if weights is not None:  # after the split, so that no row is on both sides
        held_out, training = (
            rows[resampled_rows(weights.to(codes.device)[rows], codes[rows])] for rows in (held_out, training)
        )
        of_report = torch.cat([held_out, training])
    reference, prior_strength = fitted_reference(codes[training], codes[held_out], of_codes, config, generator)
    base = of_codes.marginals(codes[training])
    network, residual = None, None
    if trains:
        bins = telling_orders(codes[training], num_classes, bins)
        network = fit_proposal(codes[training], codes[held_out], base, bins=bins, config=config, generator=generator)
        residual = Residual(num_classes, width=config.width, num_layers=NUM_LAYERS).to(codes.device)
        residual.initialise(generator)
        along = AlongColumns(residual.offsets, bins, codes[training])
        residual.embedding.data.copy_(along.fresh(residual.embedding))
        reference_gain = float((reference(codes[held_out]) - base(codes[held_out])).mean())
        residual.tables = pair_tables(codes[training], num_classes, codes[held_out], reference_gain)
    return TableStart(held_out, training, of_report, reference, prior_strength, base, network, residual, tuple(bins))
