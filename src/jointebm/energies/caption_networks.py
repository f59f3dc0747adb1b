"""Networks of a caption energy: a U-Net over a noisy image, and word by word probabilities of a caption given its features.

Legend: N rows, H x W pixels, K numbers that sum a row's noise levels up, P = H/4 x W/4 cells, T places, V words.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, pixel_shuffle, silu

from jointebm.energies.level_networks import INPUTS_PER_REAL, Levelled

__all__ = ["ImageFeatures", "LevelUNet", "WordChain"]

SUMMARISED = 16  # channels of a cell that a summary sees
NUM_HEADS = 4  # of the attention of words to cells


class ImageFeatures(NamedTuple):
    """What an image says.

    Args:
        picture: (N, H, W), to be multiplied with the image.
        value: (N,).
        cells: (N, P, C).
        summary: (N, G).
    """

    picture: Tensor
    value: Tensor
    cells: Tensor
    summary: Tensor


class LevelUNet(nn.Module):
    """Convolutions at half and a quarter of the side and back, every layer shifted by the noise levels.

    Four neighbouring pixels of the picture are read off each place at half the side. The picture and the value are 0 before
    training.

    Args:
        side: pixels per side, a multiple of 4.
        num_levels: K.
        channels: at half and a quarter of the side; the latter is C.
        width: G, of the summary of all cells.

    Example:
        >>> net = LevelUNet(8, 3, (8, 16), 32)
        >>> [tuple(part.shape) for part in net(torch.zeros(5, INPUTS_PER_REAL, 64), torch.zeros(5, 3))]
        [(5, 8, 8), (5,), (5, 4, 16), (5, 32)]
    """

    def __init__(self, side: int, num_levels: int, channels: tuple[int, int], width: int) -> None:
        super().__init__()
        self.side, (half, quarter) = side, channels

        def conv(before: int, after: int, size: int = 3, stride: int = 1) -> Levelled:
            return Levelled(nn.Conv2d(before, after, size, stride=stride, padding=1), num_levels, after)

        self.down = nn.ModuleList((conv(INPUTS_PER_REAL, half, 4, 2), conv(half, half)))
        self.further = nn.ModuleList((conv(half, quarter, 4, 2), conv(quarter, quarter)))
        narrow = SUMMARISED * (side // 4) ** 2
        self.narrow, self.widen = nn.Conv2d(quarter, SUMMARISED, 1), nn.Conv2d(SUMMARISED, quarter, 1)
        self.summarise = Levelled(nn.Linear(narrow, width), num_levels, width)
        self.spread = nn.Linear(width, narrow)  # so that each cell sees all others
        self.mix, self.up = conv(quarter, quarter), nn.Conv2d(quarter, half, 1)
        self.back = nn.ModuleList((conv(half, half), conv(half, half)))
        self.picture, self.value = nn.Conv2d(half, 4, 3, padding=1), nn.Linear(width + half, 1)
        for parameter in (*self.picture.parameters(), *self.value.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor, levels: Tensor) -> ImageFeatures:
        half = inputs.unflatten(2, (self.side, self.side))
        for layer in self.down:
            half = layer(half, levels)
        quarter = half
        for layer in self.further:
            quarter = layer(quarter, levels)
        narrow = silu(self.narrow(quarter))
        summary = self.summarise(narrow.flatten(1), levels)
        others = silu(self.spread(summary)).unflatten(1, narrow.shape[1:])
        cells = self.mix(quarter + self.widen(others), levels)
        half = half + interpolate(self.up(cells), scale_factor=2.0)
        for layer in self.back:
            half = layer(half, levels)
        picture = pixel_shuffle(self.picture(half), 2)[:, 0]
        value = self.value(torch.cat([summary, half.mean(dim=(2, 3))], dim=1))[:, 0] * self.side
        return ImageFeatures(picture, value, cells.flatten(2).transpose(1, 2), summary)


class WordChain(nn.Module):
    """log p(word i | words before it, image), for every place at once.

    A place sees the words before it through a causal convolution over all of them, and cells of the image by attention, in
    two rounds. A missing word is a vector of zeros. All words are equally likely before training.

    Args:
        num_words: V.
        num_places: T, at least 2.
        num_cells: P.
        channels: C, of a cell.
        summary: G.
        width: of the hidden layers, a multiple of 4.

    Example:
        >>> chain = WordChain(5, 3, 4, 16, 32, 8)
        >>> chain(torch.zeros(2, 4, 16), torch.zeros(2, 32), torch.zeros(2, 3, 5)).exp().sum(dim=2).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, num_words: int, num_places: int, num_cells: int, channels: int, summary: int, width: int
    ) -> None:
        super().__init__()
        self.cell_places = nn.Parameter(nn.Linear(channels, num_cells).weight.detach() * 3)
        self.places = nn.Parameter(torch.zeros(num_places, width))
        self.by_summary = nn.Linear(summary, width, bias=False)
        self.rounds = nn.ModuleList(
            (_Round(num_words, num_places - 1, channels, width), _Round(width, num_places, channels, width))
        )
        self.words = nn.Parameter(torch.zeros(num_places, width, num_words))
        self.bias = nn.Parameter(torch.zeros(num_places, num_words))

    def forward(self, cells: Tensor, summary: Tensor, words: Tensor) -> Tensor:
        """log p, (N, T, V), from cells (N, P, C), summary (N, G) and one-hot words (N, T, V)."""
        placed = cells + self.cell_places
        hidden = self.places + self.by_summary(summary)[:, None, :]
        before = pad(words.transpose(1, 2), (words.shape[1] - 1, -1))  # a place does not see its own word
        for each in self.rounds:
            hidden = each(hidden, before, placed)
            before = pad(hidden.transpose(1, 2), (words.shape[1] - 1, 0))
        logits = torch.einsum("nth,thv->ntv", silu(hidden), self.words) + self.bias
        return logits.log_softmax(dim=2)


class _Round(nn.Module):
    """Adds to each place what the places before it say, and then the cells that it asks for."""

    def __init__(self, before: int, reach: int, channels: int, width: int) -> None:
        super().__init__()
        self.earlier = nn.Conv1d(before, width, reach, bias=False)
        self.query, self.key, self.value = (
            nn.Linear(width, width),
            nn.Linear(channels, width, bias=False),
            nn.Linear(channels, width, bias=False),
        )
        self.mix, self.out = nn.Linear(2 * width, width), nn.Linear(width, width)

    def forward(self, hidden: Tensor, before: Tensor, cells: Tensor) -> Tensor:
        hidden = hidden + self.earlier(before).transpose(1, 2)  # (N, T, width)
        active = silu(hidden)
        query, key, value = (
            part.unflatten(2, (NUM_HEADS, -1)).transpose(1, 2)
            for part in (self.query(active), self.key(cells), self.value(cells))
        )
        weights = (query @ key.transpose(2, 3) * query.shape[3] ** -0.5).softmax(dim=3)  # (N, heads, T, P)
        seen = (weights @ value).transpose(1, 2).flatten(2)
        return hidden + self.out(silu(self.mix(torch.cat([active, seen], dim=2))))
