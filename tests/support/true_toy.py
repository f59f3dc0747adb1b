"""Models of the toy data without training: the true density, and densities that are wrong in a known way."""

import torch
from torch import Tensor, nn

from jointebm import KernelSpec, Model, ModelConfig, Noise
from jointebm.data import Toy
from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.spaces.space import Position


class TrueEnergy(nn.Module):
    """inverse_temperature * log p(x, y), or * log p(x) if y is not looked at."""

    def __init__(self, inverse_temperature: float = 1.0, *, ignores_labels: bool = False) -> None:
        super().__init__()
        self.inverse_temperature = nn.Parameter(torch.tensor(inverse_temperature))
        self.ignores_labels = ignores_labels

    def forward(self, position: Position) -> Tensor:
        toy = Toy()
        if not self.ignores_labels:
            return self.inverse_temperature * toy.log_density(position)
        labels = toy.space.configurations()
        num = len(position["point"])
        rows = {name: value.repeat(num, *[1] * (value.ndim - 1)) for name, value in labels.items()}
        f = toy.log_density({"point": position["point"].repeat_interleave(8, dim=0), **rows})
        # Depends on y only for the gradient to exist.
        return self.inverse_temperature * f.reshape(num, 8).logsumexp(dim=1) + 0 * position["bottom"].sum(dim=1)


def toy_model(energy: nn.Module, *, num_steps: int = 200, step_size: float = 0.5) -> Model:
    toy = Toy()
    config = ModelConfig(
        name="true",
        data="toy",
        space=toy.space.config,
        energy=ConcatSpec(net=MLPSpec(hidden=(1,))),  # not used
        kernel=KernelSpec(discrete="gibbs", continuous="mala", step_size=step_size),
        num_steps=num_steps,
    )
    batch = toy.batch(1000, generator=torch.Generator().manual_seed(0))
    noise = Noise.from_batch(toy.space, batch, labels="frequency")
    return Model(config, energy=energy, noise=noise).eval()
