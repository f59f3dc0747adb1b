"""Captions from any part of an image and any of their words, by draws of a `CaptionEnergy`.

Legend: N rows, M captions of each, T places of a caption, V words.
"""

import torch

from jointebm.energies.caption import CaptionEnergy
from jointebm.inference.prediction import Prediction
from jointebm.spaces.space import Position, Space

__all__ = ["caption_prediction"]

CAPTION_DRAWS = 24  # M
CAPTIONED_AT_ONCE = 50
SEED = 0  # of the draws of a prediction, so that equal rows have equal answers


@torch.no_grad()
def caption_prediction(energy: CaptionEnergy, space: Space, position: Position) -> Prediction:
    """The most probable of 24 captions drawn for each row, and the shares of words among them.

    One missing word is answered exactly, by the probabilities of all V words. Others are draws of the chain of words,
    weighted by the probability of known words that follow; a missing part of the image is left out.

    Args:
        energy: f.
        space: its blocks.
        position: N rows, NaN is missing; known words keep every bit.
    """
    generator, labels, probs = torch.Generator(energy.mean.device).manual_seed(SEED), [], []
    reals, caption = energy.reals(position), position[energy.caption]
    for x, words in zip(reals.split(CAPTIONED_AT_ONCE), caption.split(CAPTIONED_AT_ONCE), strict=True):
        features = energy.features(x.nan_to_num(), energy.known_noise(x))
        drawn = energy.draw_captions(features, words, CAPTION_DRAWS, generator)
        labels.append(drawn.words[torch.arange(len(words)), drawn.log_probs.argmax(dim=1)])
        shares = torch.einsum("nm,nmtv->ntv", drawn.log_weights.softmax(dim=1), drawn.words)
        probs.append(torch.where(words.isnan(), shares, words))
    name = energy.caption
    return Prediction({name: space[name].decode(torch.cat(labels))}, {name: torch.cat(probs)})
