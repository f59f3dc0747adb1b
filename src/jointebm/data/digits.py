"""The 1,797 handwritten 8x8 digits of UCI, bundled with the package."""

from importlib.resources import files

import numpy as np

from jointebm.data.datasets import ArrayDataset
from jointebm.spaces.blocks import Categorical, Continuous
from jointebm.spaces.space import Space

__all__ = ["digits"]


TEST_RATE = 0.2  # of each class


def digits(*, pixels: bool = False) -> ArrayDataset:
    """Loads the digits, with a fixed random split that is stratified by class.

    Args:
        pixels: whether positions are pixels under normal noise of standard deviation 0.1.

    Returns:
        Blocks `image` (8, 8), grey levels dequantised to [0, 1] with noise of width 1/8 (or under normal noise), and
        `digit`, 10 classes.

    References:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998
        (its test part, as in scikit-learn), CC BY 4.0. `digits.npz` next to this file holds them unchanged.

    Example:
        >>> data = digits()
        >>> len(data.train["digit"]), len(data.held_out["digit"])
        (1438, 359)
    """
    with files("jointebm.data").joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    held_out = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(0)
    # Largest remainders: every class gives its share, and the shares add up to that of the whole.
    shares = np.bincount(labels) * TEST_RATE
    counts = np.floor(shares).astype(int)
    counts[np.argsort(counts - shares, kind="stable")[: round(len(labels) * TEST_RATE) - counts.sum()]] += 1
    for label, count in enumerate(counts):
        held_out[generator.permutation(np.flatnonzero(labels == label))[:count]] = True
    return ArrayDataset(
        name="digits-pixels" if pixels else "digits",
        space=Space(image=Continuous((8, 8)), digit=Categorical(10)),
        train={"image": images[~held_out], "digit": labels[~held_out]},
        held_out={"image": images[held_out], "digit": labels[held_out]},
        white=16,
        noise_width=0.0 if pixels else 1 / 8,
        noise_sd=0.1 if pixels else 0.0,
    )
