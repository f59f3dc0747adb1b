"""Images of stripes, and a model of them."""

import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, KernelSpec, Model, ModelConfig, Noise, Space
from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.spaces.space import Position


class Stripes(nn.Module):
    """Images of 4 x 6 pixels around .1, with the row named by the label around .9."""

    def __init__(self) -> None:
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(2000.0))

    def forward(self, position: Position) -> Tensor:
        means = 0.1 + 0.8 * position["row"].unsqueeze(2)  # (N, 4, 1)
        return -0.5 * self.precision * (position["image"] - means).square().sum(dim=(1, 2)) + 0 * position["sign"]


STRIPES = Space(image=Continuous((4, 6)), row=Categorical(4), sign=Binary())


def stripes(num: int, row: int) -> Tensor:
    images = torch.full((num, 4, 6), 0.1)
    images[:, row] = 0.9
    return images


def stripes_model() -> Model:
    config = ModelConfig(
        name="stripes",
        data="none",
        space=STRIPES.config,
        energy=ConcatSpec(net=MLPSpec(hidden=(1,))),  # not used
        kernel=KernelSpec(continuous="langevin", step_size=0.02),
        num_steps=15,
    )
    noise = dict(Noise.uniform(STRIPES).parameters)
    noise["image"] = torch.stack([torch.zeros(4, 6), torch.ones(4, 6)])
    return Model(config, energy=Stripes(), noise=Noise(STRIPES, noise)).eval()


def real_stripes() -> dict[str, Tensor]:
    """Five rows of each class but the last, of which there are two."""
    row = torch.tensor([0] * 5 + [1] * 5 + [2] * 5 + [3] * 2)
    return {"image": torch.cat([stripes(1, int(r)) for r in row]), "row": row, "sign": torch.arange(17) % 2}
