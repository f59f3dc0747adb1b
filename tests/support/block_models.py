"""The configuration of a small model of blocks."""

from typing import Any

from jointebm import KernelSpec, ModelConfig, Space
from jointebm.energies import ConcatSpec, MLPSpec


def small_config(space: Space, **fields: Any) -> ModelConfig:
    """Of a network of four hidden units, and exact Gibbs moves of labels."""
    defaults = {"name": "small", "data": "none", "kernel": KernelSpec(discrete="gibbs", step_size=0.1)}
    energy = ConcatSpec(net=MLPSpec(hidden=(4,)))
    return ModelConfig(**{**defaults, "energy": energy, "space": space.config, **fields})
