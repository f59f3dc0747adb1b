"""The prediction of labels that suits a block model: exact where it can be, else by draws, else by chains.

Legend: N rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from jointebm.energies.picture import PictureEnergy
from jointebm.inference.model import Model
from jointebm.inference.predict import predict
from jointebm.inference.prediction import Prediction
from jointebm.inference.subset_answers import PART_ENERGIES
from jointebm.sampling.diagnostics import Diagnostics
from jointebm.spaces.blocks import Binary, Continuous
from jointebm.spaces.space import Values
from jointebm.watch.packed_frames import finite_or_none

__all__ = ["BlockQuestion", "Predicted", "predicted_labels"]

MOST_CONFIGURATIONS = 4096  # configurations


class Predicted(NamedTuple):
    """A prediction and the way it was made."""

    prediction: Prediction
    method: str
    diagnostics: Diagnostics[torch.Tensor]


def predicted_labels(model: Model, values: Values, targets: Sequence[str], seed: int) -> Predicted:
    """Probabilities of labels given whatever is known of each row.

    A `PictureEnergy` sums over all labels, a model of any subset answers by one pass, and one with a reference by its draws
    with exact conditionals (`Model.predict`). Any other enumerates the labels where all reals are known, and runs chains of
    Gibbs sweeps where they are not, which are approximate (`jointebm.predict`).

    Args:
        model: the model.
        values: per block, shape (N, *variable_shape); NaN, -1 or an absent block is missing.
        targets: names of discrete blocks.
        seed: of all draws.
    """
    if isinstance(model.energy, PART_ENERGIES) or model.reference is not None:
        found = model.predict(values, targets, seed=seed, diagnostics=True)
        method = "exact sum" if isinstance(model.energy, PictureEnergy) else "one pass"
        method = method if model.reference is None else "draws of q"
        return Predicted(found.value, method, found.diagnostics)
    _, observed = model.space.encode(values)
    known = all(bool(observed[name].all()) for name in model.space.continuous)
    few = model.space.num_configurations <= MOST_CONFIGURATIONS
    generator = torch.Generator().manual_seed(seed)
    if known and few:
        summed = predict(model, values, targets, method="exact", diagnostics=True)
        return Predicted(summed.value, "exact sum", summed.diagnostics)
    found = predict(model, values, targets, method="gibbs", generator=generator, diagnostics=True)
    return Predicted(found.value, "Gibbs chains", found.diagnostics)


class BlockQuestion(NamedTuple):
    """A question of the page: the labels given what is clamped.

    Args:
        model: the model.
        given: per block, values of shape (*variable_shape,); NaN or -1 is free.
        targets: discrete blocks.
        seed: of all draws.
    """

    model: Model
    given: Mapping[str, np.ndarray]
    targets: Sequence[str]
    seed: int

    def answer(self) -> dict[str, Any]:
        """Probabilities of each class of each variable, by block, and how they were found."""
        values = {name: value[None] for name, value in self.given.items()}
        for name in set(self.targets) - values.keys():
            values[name] = np.full((1, *self.model.space[name].variable_shape), -1)
        found = predicted_labels(self.model, values, self.targets, self.seed)
        exact = bool(found.diagnostics.exact.all())
        return {
            "probs": {name: self._classes(name, probs) for name, probs in found.prediction.probs.items()},
            "method": found.method,
            "ess": None if exact else finite_or_none(float(found.diagnostics.ess.min())),
        }

    def _classes(self, name: str, probs: torch.Tensor) -> list[list[float]]:
        block, flat = self.model.space[name], probs[0].double().flatten()
        assert not isinstance(block, Continuous)
        if isinstance(block, Binary):
            return [[1 - one, one] for one in flat.tolist()]
        return [part.tolist() for part in flat.split(list(block.num_classes_per_variable))]
