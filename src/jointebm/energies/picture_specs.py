"""Picture energies as plain data, so that model folders can rebuild them; read and listed without torch."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jointebm.storage.config import Config

if TYPE_CHECKING:
    from jointebm.energies.picture import PictureEnergy
    from jointebm.spaces.space import Space

__all__ = ["PictureSpec"]


class PictureSpec(Config):
    """A `PictureEnergy`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> space = Space(image=Continuous((8, 8)), shape=Categorical(3), down=Categorical(4), right=Categorical(4))
        >>> spec = PictureSpec(side=4, rows="down", columns="right", noise_sd=0.5)
        >>> type(spec.build(space)).__name__
        'PictureEnergy'
    """

    kind: Literal["picture"] = "picture"
    side: int = Field(ge=1, le=256, description="rows and columns of a template")
    rows: str = Field(description="block of the position from top to bottom")
    columns: str = Field(description="block of the position from left to right")
    noise_sd: float = Field(gt=0, allow_inf_nan=False, description="standard deviation of the noise of a pixel")

    def build(self, space: "Space") -> "PictureEnergy":
        from jointebm.energies.picture import PictureEnergy

        return PictureEnergy(space, side=self.side, rows=self.rows, columns=self.columns, noise_sd=self.noise_sd)
