"""Four rows of labels of every kind."""

import torch

from jointebm import Binary, Categorical, Space

SPACE = Space(digit=Categorical(3), bits=Binary(2), group=Categorical((2, 3)))
TRUE = {
    "digit": torch.tensor([0, 1, 2, 2]),
    "bits": torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]]),
    "group": torch.tensor([[0, 0], [1, 2], [1, 1], [0, 2]]),
}
