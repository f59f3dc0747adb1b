"""Recipes with structured labels: words, masks, sets, strips, captions and the Ising model (docs/structured.md)."""

from jointebm.energies import (
    CaptionSpec,
    ConvSpec,
    DeepSetSpec,
    GridPairsSpec,
    IsingSpec,
    LabelProductsSpec,
    PerPixelSpec,
    PerPlaceSpec,
    StructuredSpec,
    TransitionsSpec,
)
from jointebm.kernels import KernelSpec
from jointebm.recipes.recipe import Recipe
from jointebm.training.objectives import Conditional, ConditionalTerm, Denoising, LabelGroups, SummedOut
from jointebm.training.train_config import TrainConfig

__all__ = ["captions", "digit_strips", "digit_strips_10", "ising", "segmentation", "sets", "words"]


def words() -> Recipe:
    """Letters of handwritten words, given their images.

    The data drop other pixels at every visit of a row, so its chain comes from p(y | x) with another x and has `num_steps`
    moves to forget it: the gradient is biased.

    Example:
        >>> words().train.objective.keeps_row_chains
        True
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
    """Masks of noisy ellipses, with coupled pixels.

    Example:
        >>> segmentation().energy.interaction
        GridPairsSpec(kind='grid-pairs', width=5)
    """
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
    """Points and the subset that forms one of two clusters: a joint density that does not depend on the order of points.

    Example:
        >>> sets().energy.kind
        'deep-set'
    """
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


def digit_strips() -> Recipe:
    """Four digits whose sum is a multiple of five, given their image of 28 x 112 pixels: 10,000 strings.

    Example:
        >>> digit_strips().train.objective
        LabelGroups(group_size=2)
    """
    return Recipe(
        name="digit_strips",
        summary="strips of four MNIST digits whose sum is a multiple of five: the digits given their image",
        data="digit-strips",
        energy=StructuredSpec(
            unary=PerPlaceSpec(hidden=(64,), encoder=ConvSpec(side=28, channels=(8, 16), halves_first=True)),
            interaction=LabelProductsSpec(num_terms=64),
        ),
        kernel=KernelSpec(discrete="pairs", step_size=0.1),  # x is always given; one digit alone can hardly move
        train=TrainConfig(
            num_iterations=700,
            batch_size=64,
            num_steps=1,
            learning_rate=1e-2,
            warmup=50,
            decay="cosine",
            objective=LabelGroups(group_size=2),
        ),
        num_test_chains=5,
        num_test_steps=100,
    )


def digit_strips_10() -> Recipe:
    """`digit_strips` whose sum is a multiple of ten, so that three digits tell the fourth.

    Example:
        >>> digit_strips_10().data
        'digit-strips-10'
    """
    return digit_strips().model_copy(
        update={
            "name": "digit_strips_10",
            "summary": "strips of four MNIST digits whose sum is a multiple of ten: the digits given their image",
            "data": "digit-strips-10",
        }
    )


def captions() -> Recipe:
    """Images of one or two objects and their captions, up to 12 of 25 words: one function of any part of both.

    Example:
        >>> captions().energy.kind, captions().train.objective.needs_chains
        ('caption', False)
    """
    return Recipe(
        name="captions",
        summary="images of one or two objects with captions of up to 12 words: any part of both from the rest",
        data="captions",
        energy=CaptionSpec(channels=(32, 64), width=96, min_noise=0.05, max_noise=10.0),  # the noise of the data
        kernel=KernelSpec(discrete="gibbs", continuous="mala", step_size=0.02),
        train=TrainConfig(
            num_iterations=6_000,
            batch_size=32,
            num_steps=1,
            learning_rate=2e-3,
            warmup=200,
            decay="cosine",
            ema_decay=0.999,
            # A row has 576 terms of scores and up to 12 words; weights bring both to the same size.
            objective=Denoising(
                score_weight=0.05,
                level_weight=0.05,
                lowest_share=0.2,
                score_share=0.7,
                hidden_share=0.4,
                whole_share=0.4,
            ),
        ),
        num_test_steps=20,
    )


def ising() -> Recipe:
    """Coupling and field of an Ising model, learned from grids of spins.

    Example:
        >>> ising().energy
        IsingSpec(kind='ising', coupling=0.0, field=0.0)
    """
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
