"""The pseudo-likelihood of a table: exact conditionals of its columns, without any sampling of the model.

    log p(c_j | others) = F(c) - log sum_k exp F(c_j = k, others)

A sum of such terms is a composite likelihood: its maximum is that of the likelihood if the model holds the truth, and no
log Z is needed. F stays one joint energy: all conditionals are its own. In a column with many classes, the code is ranked
against some candidates only, drawn from the conditional of the proposal: a fraction of the cost, with the same maximum.

Legend: N rows, V columns, K_j classes of column j, C candidates of a row, H hidden units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.tables.density.energy import TableEnergy

__all__ = ["pseudo_likelihood"]


def pseudo_likelihood(
    energy: TableEnergy,
    parts: Sequence[tuple[int, Tensor]],
    *,
    num_candidates: int | None = None,
    generator: Generator | None = None,
    precision: torch.dtype | None = None,
) -> Tensor:
    """Sum of -log p(c_j | others) over rows, each with one column of its own.

    With candidates, a column of more classes is ranked instead: c_j (number 0) against k_1 .. k_{C-1} ~ r(. | others),

        -log p(number 0 is the true one) = -h(c_j) + log(exp h(c_j) + sum_i exp h(k_i)),   h = F - log r

    by Bayes' rule if the data are exp F. All classes or candidates of all parts go through the network in one batch.

    Args:
        energy: F, with its proposal r; the reference takes no part in the gradient.
        parts: pairs of a column j and the complete rows it is asked of, shape (N_j, V).
        num_candidates: C, the true code included; None is all classes of every column.
        generator: draws the candidates.
        precision: dtype of the hidden layers; None is that of the parameters.

    Returns:
        A scalar, nats.

    References:
        Besag 1975; Lindsay 1988 (composite likelihood). Ma & Collins 2018 (ranking).

    Example:
        >>> from jointebm.tables.density.energy import Residual
        >>> from jointebm.references import ProductMixture
        >>> energy = TableEnergy(ProductMixture((2, 4)), Residual((2, 4), width=4, num_layers=1))
        >>> rows = torch.zeros(3, 2, dtype=torch.int64)
        >>> pseudo_likelihood(energy, [(0, rows), (1, rows)]).exp()  # 2^3 * 4^3
        tensor(512., grad_fn=<ExpBackward0>)
    """
    precision = precision or energy.reference.log_weights.dtype
    counts = [len(rows) for _, rows in parts]
    others = torch.cat([_without(rows, column) for column, rows in parts])
    summed = energy.residual.summed(others).split(counts)
    with torch.no_grad():
        components = energy.reference.components(others).split(counts)
        of_reference = [
            energy.reference.of_classes(seen, column) for seen, (column, _) in zip(components, parts, strict=True)
        ]
    known, hidden, truth = [], [], []
    for log_probs, seen, sums, (column, rows) in zip(of_reference, components, summed, parts, strict=True):
        vectors, codes = energy.residual.of_column(column), rows[:, column]
        if num_candidates is None or num_candidates >= len(vectors):
            known.append(log_probs)
            hidden.append((sums[:, None] + vectors).flatten(0, 1).to(precision))  # (N_j * K_j, H)
            truth.append(codes)
        else:
            with torch.no_grad():
                proposed = energy.proposed_classes(rows, seen, column)
            candidates = torch.cat([codes[:, None], _drawn(proposed, num_candidates - 1, generator)], dim=1)
            known.append((log_probs - proposed).gather(1, candidates))
            hidden.append((sums[:, None] + embedding(candidates, vectors)).flatten(0, 1).to(precision))  # (N_j * C, H)
            truth.append(torch.zeros_like(codes))
    residual = energy.residual.head(torch.cat(hidden)).split([part.numel() for part in known])
    losses = [
        cross_entropy(part + new.view_as(part), number, reduction="sum")
        for part, new, number in zip(known, residual, truth, strict=True)
    ]
    return torch.stack(losses).sum()


def _without(rows: Tensor, column: int) -> Tensor:
    rows = rows.clone()
    rows[:, column] = -1
    return rows


def _drawn(log_weights: Tensor, num: int, generator: Generator | None) -> Tensor:
    """Independent draws from each row of (N, K), shape (N, num)."""
    if generator is None:
        raise ValueError("pseudo_likelihood: num_candidates needs a generator that draws them")
    repeated = log_weights.repeat_interleave(num, dim=0)
    return draws.choose(repeated, generator).reshape(-1, num)
