"""Small models of blocks."""

import math
from typing import Any

import torch
from torch import nn

from jointebm import KernelSpec, Model, ModelConfig, Space
from jointebm.energies import MLP, ConcatEnergy, ConcatSpec, MLPSpec
from jointebm.energies.referenced import Referenced
from jointebm.inference.reports import NormalizerRecord
from jointebm.references import Mixture


def small_config(space: Space, **fields: Any) -> ModelConfig:
    """Of a network of four hidden units, and exact Gibbs moves of labels."""
    defaults = {"name": "small", "data": "none", "kernel": KernelSpec(discrete="gibbs", step_size=0.1)}
    energy = ConcatSpec(net=MLPSpec(hidden=(4,)))
    return ModelConfig(**{**defaults, "energy": energy, "space": space.config, **fields})


def model_of(space: Space, seed: int = 0) -> Model:
    """F = log q + a random residual of about a nat, with log Z taken for 0.5."""
    generator = torch.Generator().manual_seed(seed)
    mixture = Mixture(space, 2).double()
    for buffer in mixture.buffers():
        buffer.add_(0.5 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
    products = mixture.products
    products.log_weights.copy_(products.log_weights.log_softmax(dim=0))
    first = 0
    for count in products.num_classes:
        part = products.log_probs[first : first + count]
        part.copy_(part.log_softmax(dim=0))
        first += count
    width = sum(math.prod(space[name].position_shape) for name in space)
    residual: nn.Module = ConcatEnergy(space, MLP(width, (8,))).double()
    with torch.no_grad():
        for parameter in residual.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    record = NormalizerRecord(value=0.5, standard_error=0.0, ess=1.0, method="made up")
    return Model(small_config(space, log_normalizer=record), energy=Referenced(mixture, residual)).eval()
