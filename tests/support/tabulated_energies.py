"""An energy with one parameter per state."""

import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Space, Trainer
from jointebm.spaces.space import Position


def state(trainer: Trainer) -> dict[str, Tensor]:
    """Everything that training changes."""
    optimizer = trainer.optimizer.state_dict()["state"]
    return {
        **{f"parameter {name}": value.detach().clone() for name, value in trainer.log_density.state_dict().items()},
        **{f"average {name}": value.detach().clone() for name, value in trainer.average.state_dict().items()},
        **{f"buffer {name}": value.clone() for name, value in trainer.buffer.position.items()},
        **{
            f"adam {i} {name}": torch.as_tensor(value).clone()
            for i, s in optimizer.items()
            for name, value in s.items()
        },
    }


class Table(nn.Module):
    """f(a, b) is one parameter per configuration: any distribution, and the likelihood's maximum is the frequencies."""

    space = Space(a=Binary(), b=Categorical(3))

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(2, 3))

    def forward(self, position: Position) -> Tensor:
        a = torch.stack([1 - position["a"], position["a"]], dim=1)
        return torch.einsum("na,ab,nb->n", a, self.theta, position["b"])
