"""A classifier of images, trained on data rows only.

Legend: N rows, K classes of a variable, M columns of all discrete variables, D features.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from jointebm.data import Dataset
from jointebm.randomness.initial_weights import DrawsFrom
from jointebm.spaces.space import Space, image_block

__all__ = ["ImageClassifier"]

CLASSIFIED_AT_ONCE = 1024
NUM_FEATURES = 64
BATCH_SIZE, LEARNING_RATE = 64, 3e-3


class ImageClassifier:
    """A small convolutional network with one head per discrete variable, trained on data rows only.

    References:
        Kingma & Ba 2015 (Adam). Smith & Topin 2018 (one cycle of the learning rate).

    Example:
        >>> from jointebm.data import digits
        >>> judge = ImageClassifier.train(digits(), seed=0, num_iterations=20)
        >>> judge.label({"image": digits().test()["image"][:5]})["digit"].shape
        torch.Size([5])
    """

    name = "image classifier"
    num_positions = None

    def __init__(self, space: Space) -> None:
        image = image_block(space)
        if image is None or space.continuous != (image,) or not space.discrete:
            raise ValueError(
                f"ImageClassifier: got {space}; expected one image block, (height, width), and discrete blocks"
            )
        self.space, self.image = space, image
        height, width = space[image].variable_shape
        self._widths = {name: list(space.num_classes(name)) for name in space.discrete}
        self._encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(16, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(64 * -(-height // 4) * -(-width // 4), NUM_FEATURES),
            nn.ReLU(),
        )
        self._network = nn.Sequential(self._encoder, nn.Linear(NUM_FEATURES, sum(map(sum, self._widths.values()))))

    @classmethod
    def train(cls, dataset: Dataset, *, seed: int, num_iterations: int = 1000) -> "ImageClassifier":
        """Trains on the training rows by Adam, with one cycle of the learning rate."""
        generator, of_network = (torch.Generator().manual_seed(seed) for _ in range(2))
        with DrawsFrom(of_network):
            judge = cls(dataset.space)
        optimizer = torch.optim.Adam(judge._network.parameters(), lr=LEARNING_RATE)
        schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=num_iterations)
        for _ in range(num_iterations):
            values = dataset.space.decode(dataset.batch(BATCH_SIZE, generator=generator))
            optimizer.zero_grad()
            with DrawsFrom(of_network):  # dropout
                loss = judge._loss(values)
            loss.backward()
            optimizer.step()
            schedule.step()
        judge._network.eval()
        return judge

    @torch.no_grad()
    def label(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The most probable class of every discrete variable."""
        pieces = [self._logits({self.image: rows}) for rows in values[self.image].split(CLASSIFIED_AT_ONCE)]
        labels = {}
        for name in self._widths:
            rows = [torch.stack([logits.argmax(dim=1) for logits in piece[name]], dim=1) for piece in pieces]  # (N, V)
            labels[name] = torch.cat(rows).reshape(-1, *self.space[name].variable_shape)
        return labels

    @torch.no_grad()
    def features(self, values: Mapping[str, Tensor]) -> Tensor:
        """Inputs of the last layer, (N, D)."""
        return torch.cat([self._encoder(rows.unsqueeze(1)) for rows in values[self.image].split(CLASSIFIED_AT_ONCE)])

    def _logits(self, values: Mapping[str, Tensor]) -> dict[str, Sequence[Tensor]]:
        """Per block, one (N, K) per variable."""
        joined = self._network(values[self.image].unsqueeze(1))  # (N, M)
        blocks = joined.split([sum(widths) for widths in self._widths.values()], dim=1)
        return {name: part.split(self._widths[name], dim=1) for name, part in zip(self._widths, blocks, strict=True)}

    def _loss(self, values: Mapping[str, Tensor]) -> Tensor:
        terms = [
            cross_entropy(logits, labels)
            for name, parts in self._logits(values).items()
            for logits, labels in zip(parts, values[name].reshape(len(values[name]), -1).T, strict=True)
        ]
        return torch.stack(terms).sum()
