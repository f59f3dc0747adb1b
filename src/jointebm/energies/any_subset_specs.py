"""Energies for every subset as plain data; `build` imports the networks, and draws fresh weights."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from jointebm.energies.network_specs import Width
from jointebm.storage.config import MAX_COUNT, Config

if TYPE_CHECKING:
    from torch import nn

    from jointebm.energies.any_subset import AnySubsetEnergy
    from jointebm.spaces.space import Space

__all__ = ["AnySubsetSpec", "LevelConvSpec", "LevelMLPSpec"]

MAX_OUTPUTS = 4096  # of labels; the last layer has an output for each


class LevelMLPSpec(Config):
    """A `LevelMLP`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> type(LevelMLPSpec(hidden=(8,)).build(Space(x=Continuous(2), y=Categorical(3)))).__name__
        'LevelMLP'
    """

    kind: Literal["level-mlp"] = "level-mlp"
    hidden: tuple[Width, ...] = Field(min_length=1, description="widths of the hidden layers")

    def build(self, space: "Space") -> "nn.Module":
        from jointebm.energies.level_energy import NUM_LEVELS
        from jointebm.energies.level_networks import LevelMLP

        num_reals = sum(space[name].num_variables for name in space.continuous)
        return LevelMLP(num_reals, NUM_LEVELS, self.hidden, space.num_configurations)


class LevelConvSpec(Config):
    """A `LevelConv` over the one block of square images.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> spec = LevelConvSpec(channels=(4,), hidden=(8,))
        >>> type(spec.build(Space(image=Continuous((8, 8)), digit=Categorical(10)))).__name__
        'LevelConv'
    """

    kind: Literal["level-conv"] = "level-conv"
    channels: tuple[Width, ...] = Field(min_length=1, description="channels after each convolution")
    hidden: tuple[Width, ...] = Field(min_length=1, description="widths of the linear layers")

    def build(self, space: "Space") -> "nn.Module":
        from jointebm.energies.level_energy import NUM_LEVELS
        from jointebm.energies.level_networks import LevelConv

        shapes = [space[name].variable_shape for name in space.continuous]
        if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] != shapes[0][1]:
            raise ValueError(f"level-conv: needs one continuous block of square images, got {space}")
        return LevelConv(shapes[0][0], NUM_LEVELS, self.channels, self.hidden, space.num_configurations)


class AnySubsetSpec(Config):
    """An `AnySubsetEnergy`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> spec = AnySubsetSpec(net=LevelMLPSpec(hidden=(16,)), min_noise=0.1, max_noise=10.0)
        >>> type(spec.build(Space(x=Continuous(2), y=Categorical(3)))).__name__
        'AnySubsetEnergy'
    """

    kind: Literal["any-subset"] = "any-subset"
    net: Annotated[LevelMLPSpec | LevelConvSpec, Field(discriminator="kind")] = Field(
        description="network over noisy reals and their noise levels"
    )
    min_noise: float = Field(gt=0, description="noise of the data themselves, standard deviation in position units")
    max_noise: float = Field(gt=0, description="the largest finite noise level, under which the data look normal")
    num_levels: int = Field(200, ge=1, le=MAX_COUNT, description="steps of a path from the highest level to the lowest")

    def build(self, space: "Space") -> "AnySubsetEnergy":
        from jointebm.energies.any_subset import AnySubsetEnergy

        if space.num_configurations > MAX_OUTPUTS:
            raise ValueError(
                f"any-subset: has an output for each configuration of the labels, at most {MAX_OUTPUTS}, but this "
                f"space has {space.num_configurations}; use another energy"
            )
        net = self.net.build(space)
        return AnySubsetEnergy(
            space, net, min_noise=self.min_noise, max_noise=self.max_noise, num_levels=self.num_levels
        )
