"""The bundled 8x8 digits with their labels."""

from jointebm.energies import AnySubsetSpec, ConcatSpec, LevelConvSpec, MLPSpec
from jointebm.kernels import KernelSpec
from jointebm.recipes.recipe import Recipe
from jointebm.training.objectives import Denoising, SummedOut
from jointebm.training.train_config import TrainConfig

__all__ = ["digits", "digits_any"]


def digits() -> Recipe:
    """Image and label of 1,438 handwritten digits, trained within two minutes."""
    return Recipe(
        name="digits",
        summary="the bundled 8x8 handwritten digits with their labels, within two minutes",
        data="digits",
        # Every block reaches the network with a spread of at least about one; unscaled labels have too little effect.
        energy=ConcatSpec(net=MLPSpec(hidden=(256, 256), activation="elu"), scale={"image": 3.0, "digit": 20.0}),
        # The noise of the data has standard deviation 1/8/sqrt(12) = 0.036; a larger step would blur it, and the energy
        # would grow ever steeper without effect.
        kernel=KernelSpec(discrete="gibbs", continuous="mala", step_size=0.035, temperature=0.02),
        train=TrainConfig(
            num_iterations=2300,
            batch_size=128,
            num_steps=5,
            learning_rate=3e-3,
            warmup=200,
            decay="cosine",
            replacement_rate=0.02,
            ema_decay=0.998,
            objective=SummedOut(),
        ),
    )


def digits_any() -> Recipe:
    """One function for every visible part of the bundled digits, at any noise level; trained without chains."""
    return Recipe(
        name="digits_any",
        summary="the bundled 8x8 digits with their labels: one function for every visible part and noise level",
        data="digits-pixels",
        energy=AnySubsetSpec(net=LevelConvSpec(channels=(32, 64), hidden=(256,)), min_noise=0.1, max_noise=10.0),
        kernel=KernelSpec(discrete="gibbs", continuous="mala", step_size=0.06, temperature=1.0),
        train=TrainConfig(
            num_iterations=3000,
            batch_size=96,
            num_steps=1,
            learning_rate=2e-3,
            warmup=200,
            decay="cosine",
            ema_decay=0.998,
            objective=Denoising(score_weight=0.1, level_weight=0.1, lowest_share=0.5, score_share=0.5),
        ),
        num_test_steps=20,
    )
