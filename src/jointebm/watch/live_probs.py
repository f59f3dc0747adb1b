"""Live probabilities of classes: p(class | everything else of a chain), averaged over the chains.

Legend: N chains, V variables of a block, K classes of a variable.
"""

import torch
from torch import Tensor

from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.inference.model import Model
from jointebm.inference.subset_answers import subset_prediction
from jointebm.kernels import Chain, evaluate_candidates
from jointebm.spaces.blocks import Continuous

__all__ = ["live_probs"]


@torch.no_grad()
def live_probs(model: Model, chain: Chain, name: str) -> list[list[float]]:
    """p(class | rest) of each variable of a discrete block, V lists of K probabilities, averaged over the chains.

    p(y_j = k | rest) = exp f(y_j = k, rest) / sum_l exp f(y_j = l, rest)

    Args:
        model: f.
        chain: N chains.
        name: of a discrete block; what it has now decides nothing about its own variable.

    Example:
        >>> from jointebm import load
        >>> from jointebm.kernels import evaluate
        >>> model = load("pretrained:toy")
        >>> position, _ = model.space.encode({"point": [[3.0, 0.0]], "bottom": [0], "left": [1], "diagonal": [0]})
        >>> live_probs(model, evaluate(model, position, with_score=False), "left")[0][0] > 0.99
        True
    """
    block = model.space[name]
    assert not isinstance(block, Continuous)
    labels = block.decode(chain.position[name]).flatten(1) if block.variable_shape else None
    found = []
    for variable, num_classes in enumerate(block.num_classes_per_variable):
        values = torch.arange(num_classes).repeat(len(chain.f), 1)  # (N, K)
        if labels is not None:
            values = labels[:, None, :].repeat(1, num_classes, 1)
            values[:, :, variable] = torch.arange(num_classes)
        rows = values.reshape(-1, *block.variable_shape)
        encoded = block.encode(name, rows, chain.position[name].dtype)[0]
        candidates = encoded.reshape(len(chain.f), num_classes, *block.position_shape)
        found.append(_conditional(model, chain, name, candidates).mean(dim=0).tolist())
    return found


def _conditional(model: Model, chain: Chain, name: str, candidates: Tensor) -> Tensor:
    """Probabilities of K candidates of a block given all else, (N, K)."""
    if isinstance(model.energy, AnySubsetEnergy) and model.space[name].variable_shape == ():
        missing = {**chain.position, name: torch.full_like(chain.position[name], torch.nan)}
        probs = subset_prediction(model.energy, model.space, missing, [name]).probs[name]  # one pass for all classes
        return probs if probs.ndim == 2 else torch.stack([1 - probs, probs], dim=1)
    features = chain.encoding.features if chain.encoding is not None else None
    return evaluate_candidates(model, chain.position, {name: candidates}, features=features).softmax(dim=1)
