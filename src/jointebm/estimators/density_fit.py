"""The density of coded rows, and those of its members.

Legend: N rows, V columns.
"""

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.estimators.coded_rows import CodedRows
from jointebm.randomness.devices import Device
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.training.bootstrap import SharedProgress, bootstrapped
from jointebm.tables.training.row_weights import resampled_rows
from jointebm.tables.training.table_config import Progress
from jointebm.training.training_state import prefixed, without_prefix
from jointebm.training.world import Parcel, World

__all__ = ["FittedDensity", "fit_density"]


class FittedDensity(NamedTuple):
    """A density and its members."""

    model: TableModel
    members: tuple[TableModel, ...]


def fit_density(
    coded: CodedRows,
    parameters: Parameters,
    *,
    weights: Tensor | None,
    on_progress: Callable[[Progress], object],
    run: str | os.PathLike[str] | None,
    device: Device,
    world: World,
) -> FittedDensity:
    """Fits a density to coded rows, and its members to bootstrap samples of them.

    Args:
        coded: the rows.
        parameters: of the fit.
        weights: of the rows, positive, shape (N,); None weighs all alike.
        on_progress: called whenever the held-out rows are scored, and after each member.
        run: folder for checkpoints and metrics.jsonl; None writes nothing.
        device: where to fit, and where the density is; see `place_of`.
        world: the processes that fit together; each fits some of the members.
    """
    of_model, codes = coded.of_model, coded.codes
    progress = SharedProgress(on_progress, parameters.num_members)
    model = TableModel.fit(
        codes,
        of_model.num_codes,
        bins=of_model.bins,
        spreads=of_model.spreads,
        config=parameters.training,
        seed=parameters.seed,
        on_progress=progress.of_fit,
        run=run,
        weights=weights,
        inside=coded.inside,
        device=device,
        world=world,
    )
    of_members = codes.to(torch.int64)
    if weights is not None:
        of_members = of_members[resampled_rows(weights, of_members)]

    def own_members() -> dict[int, TableModel]:
        own = {}
        for number in range(world.rank, parameters.num_members, world.size):
            energy = bootstrapped(
                model.energy,
                of_members,
                bins=of_model.bins,
                spreads=of_model.spreads,
                config=parameters.training,
                prior_strength=model.prior_strength,
                seed=parameters.seed,
                number=number,
            )
            own[number] = TableModel(energy).eval()
            progress.after_member(number)
        return own

    return FittedDensity(model, _of_all(world.patiently(own_members), world))


def _of_all(own: Mapping[int, TableModel], world: World) -> tuple[TableModel, ...]:
    """The members of all processes, by their numbers."""
    tensors: dict[str, Tensor] = {}
    for number, member in own.items():
        tensors |= prefixed(str(number), member.state_dict())
    members = dict(own)
    for parcel in world.gathered(Parcel([[number, member.spec()] for number, member in own.items()], tensors)):
        for number, spec in parcel.plain:
            if number not in members:
                members[number] = TableModel.from_spec(spec)
                members[number].load_state_dict(without_prefix(str(number), parcel.tensors))
    return tuple(members[number] for number in sorted(members))
