"""Opens the model that is watched, once for all pages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jointebm.data.registry import DATASETS, open_dataset
from jointebm.inference.model import Model
from jointebm.inference.model_loading import load_model
from jointebm.inference.pretrained import PRETRAINED, find_model
from jointebm.storage.model_folder import TABLE_MODEL, folder_kind
from jointebm.watch.deadlines import heed_deadlines
from jointebm.watch.limits import Limits
from jointebm.watch.stepping import Watched

__all__ = ["OpenedModel", "open_watched"]


class OpenedModel(NamedTuple):
    """A model that pages watch and the service answers for.

    Args:
        model: a `Model` or a `JointEBM`.
        source: its name, as `jointebm.load` takes it from any folder.
        rows: rows of data for the page: per block values, or columns of a table; None without data.
    """

    model: Any
    source: str
    rows: Mapping[Any, Any] | None

    def watched(self, limits: Limits) -> Watched:
        """Chains, or rows, for one page."""
        if isinstance(self.model, Model):
            from jointebm.watch.block_chains import BlockChains

            return BlockChains(self.model, source=self.source, rows=self.rows, changes=limits.changes)
        from jointebm.watch.table_chains import TableChains

        return TableChains(self.model, source=self.source, rows=self.rows)


def open_watched(name: str, *, data: Path | None = None, table: Mapping[Any, Any] | None = None) -> OpenedModel:
    """Opens a model, and the data that its page may show.

    Args:
        name: a model folder, a run folder, or pretrained:NAME.
        data: folder of the data files of a block model; embedded data need none.
        table: columns of a table, for a table model.

    Raises:
        FileNotFoundError: no such model, or a data file is missing.
        ImportError: a table model without the extra `tables`.
        ValueError: a file does not hold what it should.
    """
    path = find_model(name)
    source = name if name.startswith(PRETRAINED) else str(path.absolute())
    if folder_kind(path) == TABLE_MODEL:
        from jointebm.estimators import JointEBM

        estimator = JointEBM.load(path)
        for each in (estimator.model_, *estimator.members_):
            heed_deadlines(each)
        return OpenedModel(estimator, source, table)
    model = load_model(path)
    heed_deadlines(model)
    return OpenedModel(model, source, _test_rows(model, data))


def _test_rows(model: Model, data: Path | None) -> dict[str, Tensor] | None:
    """Complete test rows of the data that a model was trained on; None if they are not available."""
    if model.config.data not in DATASETS:
        return None
    try:
        dataset = open_dataset(model.config.data, data)
    except FileNotFoundError:
        if data is not None:
            raise
        return None
    if dataset.space != model.space:
        return None
    rows = dataset.test()
    observed = model.space.encode(rows)[1]
    complete = torch.stack([mask.reshape(len(mask), -1).all(dim=1) for mask in observed.values()]).all(dim=0)
    return {name: value[complete] for name, value in rows.items()} if bool(complete.any()) else None
