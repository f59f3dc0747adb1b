"""Persistent contrastive divergence for a table: the likelihood's gradient from chains (Eqs. 2 and 8).

Legend: N rows of data, C chains, V columns.
"""

import torch
from torch import Tensor

from jointebm.tables.energy import TableEnergy

__all__ = ["contrastive"]


def contrastive(energy: TableEnergy, completed: Tensor, chains: Tensor) -> Tensor:
    """Mean f of the chains less mean f of the data: its gradient is an estimate of that of -log p(observed) per row.

        -d log p(observed) = E[df] - E[df | observed]

    Exact if chains are draws of exp f, and completions are draws of exp f given what is observed (Eq. 8). The value itself
    is no loss: it goes to zero as the model comes to be like the data.

    Args:
        energy: f; its base takes no part, as it is not trained.
        completed: rows of data with their missing entries filled, shape (N, V).
        chains: rows of the model, shape (C, V).

    Example:
        >>> from jointebm.tables.energy import Residual
        >>> from jointebm.tables.mixture import Mixture
        >>> energy = TableEnergy(Mixture((2, 2)), Residual((2, 2), width=4, num_layers=1))
        >>> contrastive(energy, torch.tensor([[0, 0]]), torch.tensor([[0, 1], [1, 0]]))
        tensor(0., grad_fn=<SubBackward0>)
    """
    residual = energy.residual(torch.cat([completed, chains]))
    return residual[len(completed) :].mean() - residual[: len(completed)].mean()
