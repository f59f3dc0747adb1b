"""Recipes with structured labels: words, masks, sets, and the Ising model of Sec. 2.2 (docs/structured.md)."""

from jointebm.energies import (
    DeepSetSpec,
    GridPairsSpec,
    IsingSpec,
    PerPixelSpec,
    PerPlaceSpec,
    StructuredSpec,
    TransitionsSpec,
)
from jointebm.kernels import KernelSpec
from jointebm.recipes.recipe import Recipe
from jointebm.training.objectives import Conditional, ConditionalTerm, SummedOut
from jointebm.training.train_config import TrainConfig

__all__ = ["ising", "segmentation", "sets", "words"]


def words() -> Recipe:
    """Letters of handwritten words, given their images.

    The data drop other pixels at every visit of a row, so its chain comes from p(y | x) with another x and has `num_steps`
    moves to forget it: the gradient is biased.
    """
    return Recipe(
        name="words",
        summary="handwritten words: letters given their images, with transitions between them",
        data="letters",
        energy=StructuredSpec(unary=PerPlaceSpec(hidden=(256,)), interaction=TransitionsSpec(reach=6)),
        kernel=KernelSpec(step_size=0.1),  # x is always given
        train=TrainConfig(
            num_iterations=800,
            batch_size=64,
            num_steps=10,
            learning_rate=4e-3,
            warmup=50,
            decay="cosine",
            buffer_size=1000,  # one per word, 626 in all
            replacement_rate=0.0,
            objective=Conditional(),
        ),
        num_test_chains=5,
        num_test_steps=100,
    )


def segmentation() -> Recipe:
    """Masks of noisy ellipses, with coupled pixels."""
    return Recipe(
        name="segmentation",
        summary="the mask of a noisy ellipse: 1,024 binary labels with a learned Ising coupling",
        data="dsprites-masks",
        energy=StructuredSpec(unary=PerPixelSpec(channels=16, num_layers=2), interaction=GridPairsSpec(width=5)),
        kernel=KernelSpec(step_size=0.1),  # x is always given
        train=TrainConfig(
            num_iterations=600,
            batch_size=32,
            num_steps=20,
            learning_rate=2e-3,  # a chain is visited every 31 iterations; at larger rates it lags behind f
            warmup=100,
            decay="cosine",
            buffer_size=1000,  # one per image
            replacement_rate=0.0,
            objective=Conditional(),
        ),
        num_test_chains=3,
        num_test_steps=200,
    )


def sets() -> Recipe:
    """Points and the subset that forms one of two clusters: a joint density that does not depend on the order of points."""
    return Recipe(
        name="sets",
        summary="six points and a subset of them, by a deep set: a label that is a set",
        data="sets",
        energy=DeepSetSpec(phi=(64,), num_features=64, rho=(64, 32)),
        kernel=KernelSpec(discrete="gibbs", discrete_moves=6, continuous="mala", step_size=0.25),
        train=TrainConfig(
            num_iterations=6000,  # after 600 it has not learned the number of points of a set
            batch_size=32,
            num_steps=5,
            learning_rate=2e-3,
            warmup=100,
            decay="cosine",
            replacement_rate=0.01,
            buffer_size=2000,
            objective=SummedOut(),
            terms=(ConditionalTerm(weight=1.0),),
        ),
    )


def ising() -> Recipe:
    """Coupling and field of an Ising model, learned from grids of spins."""
    return Recipe(
        name="ising",
        summary="the Ising model of Sec. 2.2: its coupling and field, learned from 4 x 4 grids of spins",
        data="ising",
        energy=IsingSpec(coupling=0.0),
        kernel=KernelSpec(step_size=0.1),  # there is no x
        train=TrainConfig(
            num_iterations=500,
            batch_size=500,
            num_steps=10,
            learning_rate=0.02,
            decay="cosine",
            buffer_size=2000,
            replacement_rate=0.0,
        ),
    )
