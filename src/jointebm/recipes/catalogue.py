"""Recipes by name."""

from collections.abc import Callable

from jointebm.recipes.digits import digits, digits_any
from jointebm.recipes.dsprites import dsprites, dsprites_full, dsprites_paper
from jointebm.recipes.mnist import mnist, mnist_any, mnist_composite, mnist_jem, mnist_joint, mnist_paper
from jointebm.recipes.recipe import Recipe
from jointebm.recipes.structured_labels import captions, digit_strips, digit_strips_10, ising, segmentation, sets, words
from jointebm.recipes.toy import toy, toy_any, toy_paper

__all__ = ["RECIPES", "find"]


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        *(toy, digits, mnist, mnist_joint, dsprites),  # ours
        *(toy_any, digits_any, mnist_any),  # one function for every subset
        *(
            words,
            segmentation,
            sets,
            digit_strips,
            digit_strips_10,
            dsprites_full,
            captions,
            ising,
        ),  # structured labels
        *(mnist_composite, mnist_jem),  # variants for comparison
        *(toy_paper, mnist_paper, dsprites_paper),  # Tables 1-3
    )
}
"""The functions that make recipes, by the name that `jointebm train` takes.

Example:
    >>> list(RECIPES)[:3], RECIPES["toy"]().data
    (['toy', 'digits', 'mnist'], 'toy')
"""


def find(name: str) -> Recipe:
    """Makes a recipe by name.

    Raises:
        ValueError: the name is unknown.

    Example:
        >>> find("toy_paper").train.num_iterations
        5500
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; available: {', '.join(RECIPES)}")
    return RECIPES[name]()
