"""Networks of a caption energy: a U-Net over a noisy image, and word by word probabilities of a caption given its features.

Legend: N rows, H x W pixels, K numbers that sum a row's noise levels up, P = H/4 x W/4 cells, T places, V words,
M captions of each row, Q places or captions that look at the cells of a row.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, pixel_shuffle, silu

from jointebm.energies.level_networks import INPUTS_PER_REAL, Levelled

__all__ = ["ImageFeatures", "LevelUNet", "WordChain", "WordSteps"]

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
        hidden = self.start(summary)
        before = pad(words.transpose(1, 2), (words.shape[1] - 1, -1))  # a place does not see its own word
        for each, seen in zip(self.typed_rounds, self.seen(cells), strict=True):
            hidden = each(hidden + each.earlier(before).transpose(1, 2), seen)
            before = pad(hidden.transpose(1, 2), (words.shape[1] - 1, 0))
        logits = torch.einsum("nth,thv->ntv", silu(hidden), self.words) + self.bias
        return logits.log_softmax(dim=2)

    def start(self, summary: Tensor) -> Tensor:
        """What places know of the image as a whole, (N, T, width)."""
        return self.places + self.by_summary(summary)[:, None, :]

    def seen(self, cells: Tensor) -> list["_Seen"]:
        """What each round sees of the cells."""
        placed = cells + self.cell_places
        return [each.look(placed) for each in self.typed_rounds]

    @property
    def typed_rounds(self) -> list["_Round"]:
        """Both rounds."""
        return [each for each in self.rounds if isinstance(each, _Round)]


class WordSteps:
    """The probabilities of a `WordChain` word by word, for M captions of each image that grow by a word at a time.

    A step evaluates one place alone, and the captions of an image share what is seen of it; `WordChain` evaluates every
    place of every caption. Both are equal up to rounding.

    Args:
        chain: the probabilities.
        cells: (N, P, C).
        summary: (N, G).
        num: M.

    Example:
        >>> chain, cells, summary = WordChain(5, 3, 4, 16, 32, 8), torch.zeros(2, 4, 16), torch.zeros(2, 32)
        >>> steps = WordSteps(chain, cells, summary, 7)
        >>> steps.append(torch.eye(5)[torch.zeros(2, 7, dtype=torch.int64)])
        >>> steps.place, steps.log_probs.shape  # of the second word
        (1, torch.Size([2, 7, 5]))
    """

    log_probs: Tensor
    """log p of the next word given the image and the words so far, (N, M, V), nats."""

    def __init__(self, chain: WordChain, cells: Tensor, summary: Tensor, num: int) -> None:
        self._chain, self._seen, self._start = chain, chain.seen(cells), chain.start(summary)
        self._before = [  # what each round knows of the places before, (N, M, place, V or width)
            cells.new_empty(len(cells), num, 0, size) for size in (chain.words.shape[2], self._start.shape[2])
        ]
        self._own = self._evaluated()

    @property
    def place(self) -> int:
        """How many words there are."""
        return self._before[0].shape[2]

    def append(self, word: Tensor) -> None:
        """Adds the next word of each caption, one-hot (N, M, V)."""
        added = zip(self._before, (word, self._own), strict=True)
        self._before = [torch.cat([before, own[:, :, None]], dim=2) for before, own in added]
        if self.place < self._start.shape[1]:
            self._own = self._evaluated()

    def _evaluated(self) -> Tensor:
        """Sets `log_probs` of the next place, and returns what it knows after the first round, (N, M, width)."""
        place, (words, hidden_before) = self.place, self._before
        first, second = self._chain.typed_rounds
        start = self._start[:, place, None, :].expand(-1, words.shape[1], -1)
        own = first(start + _weighted(words, first.earlier), self._seen[0])
        known = torch.cat([hidden_before, own[:, :, None]], dim=2)
        hidden = second(own + _weighted(known, second.earlier), self._seen[1])
        logits = silu(hidden) @ self._chain.words[place] + self._chain.bias[place]
        self.log_probs = logits.log_softmax(dim=2)
        return own


def _weighted(before: Tensor, earlier: nn.Conv1d) -> Tensor:
    """The last output of a convolution over the places so far, (N, M, width)."""
    num = before.shape[2]
    return torch.einsum("nmtc,hct->nmh", before, earlier.weight[:, :, earlier.weight.shape[2] - num :])


class _Seen(NamedTuple):
    """Keys and values of cells, (N, heads, P, width / heads) each."""

    key: Tensor
    value: Tensor


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

    def look(self, cells: Tensor) -> _Seen:
        """What can be asked of cells (N, P, C)."""
        return _Seen(_by_head(self.key(cells)), _by_head(self.value(cells)))

    def forward(self, hidden: Tensor, seen: _Seen) -> Tensor:
        """Adds what is asked for to (N, Q, width), to which `earlier` has been added."""
        active = silu(hidden)
        query = _by_head(self.query(active))
        weights = (query @ seen.key.transpose(2, 3) * query.shape[3] ** -0.5).softmax(dim=3)  # (N, heads, Q, P)
        found = (weights @ seen.value).transpose(1, 2).flatten(2)
        return hidden + self.out(silu(self.mix(torch.cat([active, found], dim=2))))


def _by_head(part: Tensor) -> Tensor:
    """(N, heads, Q, width / heads)."""
    return part.unflatten(2, (NUM_HEADS, -1)).transpose(1, 2)
