"""The energy of an image and its caption as plain data; `build` imports the networks, and draws fresh weights."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jointebm.energies.network_specs import Width
from jointebm.storage.config import MAX_COUNT, Config

if TYPE_CHECKING:
    from jointebm.energies.caption import CaptionEnergy
    from jointebm.spaces.space import Space

__all__ = ["LEVEL_KINDS", "CaptionSpec"]

LEVEL_KINDS = ("any-subset", "caption")  # kinds of energy that take noise levels


class CaptionSpec(Config):
    """A `CaptionEnergy`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> space = Space(image=Continuous((8, 8)), caption=Categorical(5, (3,)))
        >>> spec = CaptionSpec(channels=(8, 8), width=16, min_noise=0.1, max_noise=10.0)
        >>> type(spec.build(space)).__name__
        'CaptionEnergy'
    """

    kind: Literal["caption"] = "caption"
    channels: tuple[Width, Width] = Field(description="of the U-Net, at half and a quarter of the side")
    width: Width = Field(multiple_of=4, description="of the layers that all cells and words share")
    min_noise: float = Field(gt=0, description="noise of the data themselves, standard deviation in position units")
    max_noise: float = Field(gt=0, description="the largest finite noise level, under which the data look normal")
    num_levels: int = Field(100, ge=1, le=MAX_COUNT, description="steps of a path from the highest level to the lowest")

    def build(self, space: "Space") -> "CaptionEnergy":
        from jointebm.energies.caption import CaptionEnergy

        return CaptionEnergy(
            space,
            channels=self.channels,
            width=self.width,
            min_noise=self.min_noise,
            max_noise=self.max_noise,
            num_levels=self.num_levels,
        )
