"""Exact answers of a `PictureEnergy` from any part of a row: sums over all labels, and draws of what is missing.

Legend: N rows, S configurations of all labels.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from jointebm.energies.picture import PictureEnergy
from jointebm.inference.prediction import Prediction
from jointebm.randomness.draws import Generator, choose, normal
from jointebm.spaces.space import Position, Space

__all__ = ["picture_log_density", "picture_prediction", "picture_rows"]

NUMBERS_PER_PIECE = 20_000_000  # of a table


def picture_log_density(energy: PictureEnergy, position: Position) -> Tensor:
    """log p of what is known of each row, shape (N,), nats; NaN is missing."""
    return torch.cat([table.flatten(1).logsumexp(dim=1) for _, table in _tables(energy, position)])


def picture_prediction(
    energy: PictureEnergy, space: Space, position: Position, targets: Sequence[str], *, joint: bool = False
) -> Prediction:
    """Probabilities of labels given whatever is known of each row; known labels keep every bit.

    Args:
        energy: F.
        space: its blocks.
        position: N rows, NaN is missing.
        targets: names of discrete blocks.
        joint: whether `labels` are those of the most probable configuration, instead of the most probable class of each.
    """
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in targets}
    for part, table in _tables(energy, position):
        best = torch.unravel_index(table.flatten(1).argmax(dim=1), table.shape[1:])
        p = table.flatten(1).softmax(dim=1).reshape(table.shape)
        for name in targets:
            axis = 1 + space.discrete.index(name)
            marginal = p.sum(dim=[k for k in range(1, p.ndim) if k != axis])
            probs = torch.where(part[name].isnan(), marginal, part[name])
            found[name].append((best[axis - 1] if joint else probs.argmax(dim=1), probs))
    return Prediction(
        {name: torch.cat([labels for labels, _ in rows]) for name, rows in found.items()},
        {name: torch.cat([probs for _, probs in rows]) for name, rows in found.items()},
    )


@torch.no_grad()
def picture_rows(energy: PictureEnergy, position: Position, generator: Generator) -> dict[str, Tensor]:
    """Exact draws of the missing entries of each row given the others, which keep every bit."""
    drawn: dict[str, list[Tensor]] = {name: [] for name in position}
    for part, table in _tables(energy, position, without_pixels=True):
        if table.ndim > 1:
            index = torch.unravel_index(choose(table.flatten(1).double(), generator), table.shape[1:])
        else:  # no pixel is known: labels are independent
            index = tuple(choose(log_p.expand(len(table), -1).double(), generator) for log_p in _log_priors(energy))
        y = {}
        for name, classes in zip(energy.num_classes, index, strict=True):
            one_hot = torch.nn.functional.one_hot(classes, energy.num_classes[name]).to(part[name])
            y[name] = torch.where(part[name].isnan(), one_hot, part[name])
        mean = energy.picture(y)
        image = torch.where(part[energy.x].isnan(), mean + energy.noise_sd * normal(mean, generator), part[energy.x])
        for name, value in {energy.x: image, **y}.items():
            drawn[name].append(value)
    return {name: torch.cat(pieces) for name, pieces in drawn.items()}


def _log_priors(energy: PictureEnergy) -> list[Tensor]:
    """log p of the classes of each label."""
    return [energy.logits[name].detach().log_softmax(dim=0) for name in energy.num_classes]


def _tables(
    energy: PictureEnergy, position: Position, *, without_pixels: bool = False
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Pieces of rows and F at all labels, minus infinity where known labels disagree.

    With `without_pixels` rows in which no pixel is known are a piece of their own, with zeros (N,) for a table, if all rows
    are such.
    """
    num_rows = len(position[energy.x])
    if without_pixels and bool(position[energy.x].isnan().all()):
        yield dict(position), position[energy.x].new_zeros(num_rows)
        return
    configurations = 1
    for count in energy.num_classes.values():
        configurations *= count
    for rows in torch.arange(num_rows, device=position[energy.x].device).split(
        max(1, NUMBERS_PER_PIECE // configurations)
    ):
        part = {name: value[rows] for name, value in position.items()}
        table = energy.table(part[energy.x])
        for axis, name in enumerate(energy.num_classes, start=1):
            agrees = torch.where(part[name].isnan(), 1.0, part[name]).log()
            table = table + agrees.reshape([len(rows), *[-1 if k == axis else 1 for k in range(1, table.ndim)]])
        yield part, table
