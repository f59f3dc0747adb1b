"""Recipes: functions that return a frozen description of a run.

A new recipe is a function in a file here, named in `catalogue.RECIPES`; a variant replaces fields of another.

Example:
    >>> from jointebm import recipes
    >>> recipes.toy().train.num_iterations == recipes.find("toy").train.num_iterations
    True
"""

from jointebm.recipes.catalogue import RECIPES, find
from jointebm.recipes.digits import digits, digits_any
from jointebm.recipes.dsprites import dsprites, dsprites_full, dsprites_paper
from jointebm.recipes.mnist import mnist, mnist_any, mnist_composite, mnist_jem, mnist_joint, mnist_paper
from jointebm.recipes.recipe import Recipe, RecipeField, override, recipe_fields
from jointebm.recipes.structured_labels import captions, digit_strips, digit_strips_10, ising, segmentation, sets, words
from jointebm.recipes.toy import toy, toy_any, toy_paper

__all__ = [
    "RECIPES",
    "Recipe",
    "RecipeField",
    "captions",
    "digit_strips",
    "digit_strips_10",
    "digits",
    "digits_any",
    "dsprites",
    "dsprites_full",
    "dsprites_paper",
    "find",
    "ising",
    "mnist",
    "mnist_any",
    "mnist_composite",
    "mnist_jem",
    "mnist_joint",
    "mnist_paper",
    "override",
    "recipe_fields",
    "segmentation",
    "sets",
    "toy",
    "toy_any",
    "toy_paper",
    "words",
]
