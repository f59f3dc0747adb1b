"""The activations of networks, by the names that recipes and model folders use."""

from typing import Literal

__all__ = ["Activation"]

Activation = Literal["elu", "silu"]
