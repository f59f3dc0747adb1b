"""An image and its caption as one log-density at every noise level: an energy of the image, and words one after another.

Legend: N rows, D pixels, T places of a caption, V words, M candidates.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.energies.caption_networks import LevelUNet, WordChain, WordSteps
from jointebm.energies.level_energy import NUM_LEVELS, LevelEnergy, SubsetDensity
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.blocks import Categorical
from jointebm.spaces.space import Position, Space

__all__ = ["CaptionDraws", "CaptionEnergy"]

CAPTION_CANDIDATES = 64  # M, captions that missing words are chosen from, where later words are known


class CaptionDraws(NamedTuple):
    """M candidates for the caption of each of N images.

    Args:
        words: position of the captions, (N, M, T, V).
        log_weights: that make them draws of the chain of words, (N, M), nats.
        log_probs: log p(caption | image), (N, M), nats.
    """

    words: Tensor
    log_weights: Tensor
    log_probs: Tensor


class CaptionEnergy(LevelEnergy):
    """f(x, y; noise) = a(x; s) + sum over known i of log p(y_i | known y_j before i, x; s).

    a(x; s) = sum over visible i of log N(x_i; m_i, v_i + s_i^2) + <x / s, U(x, s)> + V(x, s) is the log-density of the
    visible part of the image, with U a picture by a U-Net and V its value, so that its score is nearly a denoised image.
    Words are normalised given the image, whatever the parameters are: no sum over the V^T captions is ever taken, and
    exp f summed over captions is exp a. Where words are missing, f is the log-density of the others, and each known word
    depends on the known ones before it.

    F, the density of the model, is f with the whole image at `min_noise` and all words.

    Exact under F: the captions of an image, word by word (`draw_labels`), one missing word, and any missing words at the
    end. Missing words before known ones are chosen from 64 captions by their weight, so that they are draws of F only in
    the limit of many candidates.

    Not guaranteed: nothing forces f of some words to be F summed over the missing ones, or exp a to be normalised; training
    on `Denoising` brings both about as far as the network allows.

    Args:
        space: one block of square images, and one block of T variables with V classes each.
        channels: of the U-Net, at half and a quarter of the side.
        width: of the layers that all cells and words share, a multiple of 4.
        min_noise: s of the data themselves, position units, > 0.
        max_noise: the largest finite s.
        num_levels: steps of a path from the highest level to the lowest, when sampling.

    Raises:
        ValueError: the space has other blocks, a side is no multiple of 4, or the levels are not in order.

    References:
        Kelly & Grathwohl 2021, Sec. 1 (images with captions). Salimans & Ho 2021 (energies whose score is a denoiser).

    Example:
        >>> from jointebm import Continuous
        >>> space = Space(image=Continuous((8, 8)), caption=Categorical(5, (3,)))
        >>> energy = CaptionEnergy(space, channels=(8, 8), width=16, min_noise=0.1, max_noise=10.0)
        >>> image = torch.zeros(1, 8, 8)
        >>> captions = [{"image": image, "caption": torch.eye(5)[torch.tensor([[2, k, 0]])]} for k in range(5)]
        >>> shares = torch.stack([energy(each) for each in captions]).softmax(dim=0)
        >>> bool((shares - 0.2).abs().max() < 1e-4)  # before training all words are equally likely
        True
    """

    def __init__(
        self,
        space: Space,
        *,
        channels: tuple[int, int],
        width: int,
        min_noise: float,
        max_noise: float,
        num_levels: int = 100,
    ) -> None:
        super().__init__(space, min_noise=min_noise, max_noise=max_noise, num_levels=num_levels)
        shapes = [space[name].variable_shape for name in space.continuous]
        words = [space[name] for name in space.discrete]
        if (
            len(shapes) != 1
            or len(shapes[0]) != 2
            or shapes[0][0] != shapes[0][1]
            or shapes[0][0] % 4
            or len(words) != 1
            or not isinstance(words[0], Categorical)
            or len(words[0].variable_shape) != 1
            or words[0].num_variables < 2
            or len(set(words[0].num_classes_per_variable)) != 1
        ):
            raise ValueError(
                f"CaptionEnergy: needs one block of square images whose side is a multiple of 4, and one caption, got "
                f"{space}; write for example Space(image=Continuous((24, 24)), caption=Categorical(26, (12,)))"
            )
        self.image, self.caption = space.continuous[0], space.discrete[0]
        (self.num_places,), self.num_words = words[0].variable_shape, words[0].num_classes_per_variable[0]
        side, cells = shapes[0][0], (shapes[0][0] // 4) ** 2
        self._sizes = (1, cells * channels[1], width)
        self.net = LevelUNet(side, NUM_LEVELS, channels, width)
        self.chain = WordChain(self.num_words, self.num_places, cells, channels[1], width, width)

    def fit_base(self, position: Position) -> None:
        """Sets the mean and the variance of the pixels from rows of data, in place; NaN is missing."""
        self.fit_moments(position)

    def features(self, reals: Tensor, noise: Tensor) -> Tensor:
        """a, cells and summary of N images side by side, (N, 1 + P C + G); the arguments are those of `density`."""
        base, inputs, levels = self.network_inputs(reals, noise)
        nothing = torch.zeros_like(inputs[:1]), torch.zeros_like(levels[:1])
        found = self.net(torch.cat([inputs, nothing[0]]), torch.cat([levels, nothing[1]]))
        over_noise = self.variance.mean().sqrt() / torch.where(noise.isfinite(), noise, 1.0)
        product = (inputs[:, 0] * over_noise * found.picture[:-1].flatten(1)).sum(dim=1)  # 0 where missing
        a = base + product + found.value[:-1] - found.value[-1]  # so that f of no pixel and no word is 0
        return torch.cat([a[:, None], found.cells[:-1].flatten(1), found.summary[:-1]], dim=1)

    def word_log_probs(self, features: Tensor, caption: Tensor) -> Tensor:
        """log p(word i | known words before it, image), (N, T, V), nats.

        Args:
            features: of the images.
            caption: one-hot position of the words (N, T, V); NaN is missing.
        """
        _, cells, summary = features.split(self._sizes, dim=1)
        return self.chain(cells.unflatten(1, self.chain.cell_places.shape), summary, caption.nan_to_num())

    def density(self, reals: Tensor, noise: Tensor, labels: Position) -> SubsetDensity:
        """f of the visible part of N rows; see `LevelEnergy`."""
        features = self.features(reals, noise)
        return SubsetDensity(self.head(features, labels), features[:, 0])

    def encode(self, position: Position) -> Tensor:
        """Features of images at the lowest level, (N, 1 + P C + G)."""
        reals = self.reals(position)
        return self.features(reals, torch.full_like(reals, self.min_noise))

    def head(self, features: Tensor, position: Position) -> Tensor:
        """f of images and their known words, shape (N,), nats."""
        log_p = self.word_log_probs(features, position[self.caption])
        return features[:, 0] + (log_p * position[self.caption].nan_to_num()).sum(dim=(1, 2))

    def forward(self, position: Position) -> Tensor:
        """F at each row of a position, shape (N,), nats."""
        return self.head(self.encode(position), position)

    @torch.no_grad()
    def draw_labels(self, position: Position, generator: Generator) -> dict[str, Tensor]:
        """Draws the missing words of whole images; see `draw_captions`."""
        caption = position[self.caption]
        missing = caption[:, :, 0].isnan()
        in_order = bool((missing.cummax(dim=1).values == missing).all())
        num = 1 if in_order else CAPTION_CANDIDATES
        drawn = self.draw_captions(self.encode(position), caption, num, generator)
        index = choose(drawn.log_weights, generator)
        return {**position, self.caption: drawn.words[torch.arange(len(index)), index]}

    @torch.no_grad()
    def draw_captions(self, features: Tensor, caption: Tensor, num: int, generator: Generator) -> CaptionDraws:
        """M candidates for the captions of N images, with the weights that make them draws of the chain of words.

        Missing words are drawn from left to right, each given the words before it, known or drawn; a weight is the
        probability of the known words on the way (likelihood weighting). One candidate is enough, and exact, where no known
        word follows a missing one. If a single word is missing, the candidates are all V words, which is exact too.

        Args:
            features: of the images, (N, 1 + P C + G).
            caption: one-hot position of the words (N, T, V); NaN is missing.
            num: M.
            generator: source of the draws.
        """
        missing = caption[:, :, 0].isnan()
        if bool((missing.sum(dim=1) == 1).all()):
            return self._each_word(features, caption, missing)
        steps, drawn, of_known, of_all = self._steps(features, num), [], [], []
        for place in range(self.num_places):
            log_p = steps.log_probs
            word = torch.eye(self.num_words).to(log_p)[choose(log_p.flatten(0, 1), generator)].unflatten(0, (-1, num))
            word = torch.where(missing[:, place, None, None], word, caption[:, None, place])
            steps.append(word)
            drawn.append(word)
            of_all.append((log_p * word).sum(dim=2))
            of_known.append(torch.where(missing[:, place, None], 0.0, of_all[-1]))
        return CaptionDraws(torch.stack(drawn, dim=2), torch.stack(of_known).sum(dim=0), torch.stack(of_all).sum(dim=0))

    def _each_word(self, features: Tensor, caption: Tensor, missing: Tensor) -> CaptionDraws:
        """Every completion of captions that lack one word each, weighted by their probability."""
        candidates = torch.eye(self.num_words).to(caption)[None, :, None, :]
        words = torch.where(missing[:, None, :, None], candidates, caption[:, None])  # (N, V, T, V)
        steps, log_probs = self._steps(features, self.num_words), features.new_zeros(words.shape[:2])
        for word in words.unbind(dim=2):
            log_probs = log_probs + (steps.log_probs * word).sum(dim=2)
            steps.append(word)
        return CaptionDraws(words, log_probs, log_probs)

    def _steps(self, features: Tensor, num: int) -> WordSteps:
        """Probabilities of the words of M captions of each image, word by word."""
        _, cells, summary = features.split(self._sizes, dim=1)
        return WordSteps(self.chain, cells.unflatten(1, self.chain.cell_places.shape), summary, num)
