"""dSprites: ellipses with their positions by the schedule of the paper and ours, and all sprites with all attributes."""

from jointebm.energies import ConcatSpec, ConvSpec, MLPSpec, PictureSpec
from jointebm.kernels import KernelSpec
from jointebm.recipes.recipe import Recipe
from jointebm.training.objectives import Normalised, SummedOut
from jointebm.training.train_config import TrainConfig

__all__ = ["dsprites", "dsprites_full", "dsprites_paper"]


def dsprites_paper() -> Recipe:
    """Table 3 and App. B.3, field by field; the data are `dsprites-random`.

    Example:
        >>> dsprites_paper().kernel.temperature  # Table 3
        4.5e-07
    """
    return Recipe(
        name="dsprites_paper",
        summary="dSprites with two 16-way positions, as in Table 3",
        data="dsprites-random",
        energy=ConcatSpec(
            net=MLPSpec(hidden=(256, 256), activation="silu"),
            encoder=ConvSpec(side=32, channels=(16, 32, 64, 128), out_channels=16, activation="silu"),
        ),  # App. B.3.2
        kernel=KernelSpec(step_size=3e-3, temperature=4.5e-7),  # Table 3
        train=TrainConfig(
            num_iterations=180_000,  # Table 3
            batch_size=100,
            num_steps=40,
            learning_rate=1e-5,
            warmup=10_000,
            buffer_size=10_000,
            replacement_rate=0.05,
            ema_decay=0.99,
            noise_labels="frequency",
        ),
        num_test_chains=10,  # Table 3
        num_test_steps=200,
    )


def dsprites() -> Recipe:
    """Image and position of dSprites, trained within half an hour on two cores.

    Example:
        >>> dsprites().train.num_iterations
        4000
    """
    return Recipe(
        name="dsprites",
        summary="dSprites with two 16-way positions, in pixel space, within half an hour on two cores",
        data="dsprites-pixels",
        energy=ConcatSpec(
            net=MLPSpec(hidden=(256, 128), activation="silu"),
            encoder=ConvSpec(side=32, channels=(16, 32, 64), out_channels=16, halves_first=True),
            scale={"image": 3.0, "horizontal": 5.0, "vertical": 5.0},
            # Neighbouring positions differ in few pixels. Chains of x use f / temperature, chains of y use f: scaling both
            # keeps the chains of x and makes p(y | x) as sharp as the images are.
            output_scale=8.0,
        ),
        kernel=KernelSpec(
            discrete="gibbs",
            discrete_moves=2,
            discrete_rate=0.02,  # an image that forms from noise keeps its position
            continuous="langevin",
            step_size=0.02,
            temperature=8e-3,
        ),
        train=TrainConfig(
            num_iterations=4_000,
            batch_size=64,
            num_steps=10,
            learning_rate=4.5e-4,
            warmup=200,
            decay="cosine",
            buffer_size=2_000,  # a chain is visited every 31 iterations, often enough to follow f
            replacement_rate=0.05,
            ema_decay=0.995,
            noise_labels="uniform",
            noise_reals="moments",  # bright noise would hide the requested position
            objective=SummedOut(sampled_share=0.25),  # penalises sprites that form at another position
            precision="bfloat16",
        ),
        calibration_rows=2_000,
    )


def dsprites_full() -> Recipe:
    """Images and all five attributes of dSprites, 737,280 combinations: one normalised density.

    Example:
        >>> dsprites_full().train.objective.name
        'normalised'
    """
    return Recipe(
        name="dsprites_full",
        summary="dSprites with all five attributes, 737,280 combinations, in one normalised density of image and labels",
        data="dsprites-full",
        energy=PictureSpec(side=32, rows="vertical", columns="horizontal", noise_sd=0.5),  # the noise of the data
        kernel=KernelSpec(
            discrete="pairs", continuous="mala", step_size=0.5
        ),  # a sprite moves by both positions at once
        train=TrainConfig(
            num_iterations=2_000,
            batch_size=256,
            num_steps=1,
            learning_rate=2e-2,
            warmup=100,
            decay="cosine",
            objective=Normalised(),
        ),
        num_test_chains=10,
        num_test_steps=40,
    )
