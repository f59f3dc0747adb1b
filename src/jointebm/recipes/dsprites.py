"""dSprites ellipses with their positions: the paper's schedule, and ours."""

from jointebm.energies import ConcatSpec, ConvSpec, MLPSpec
from jointebm.kernels import KernelSpec
from jointebm.recipes.recipe import Recipe
from jointebm.training import TrainConfig

__all__ = ["dsprites", "dsprites_paper"]


def dsprites_paper() -> Recipe:
    """Table 3 and App. B.3 to the letter, but for the test set, which is `dsprites-random`."""
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
    """Image and position of dSprites ellipses within half an hour on two cores."""
    return Recipe(
        name="dsprites",
        summary="dSprites with two 16-way positions, in pixel space, within half an hour on two cores",
        data="dsprites-pixels",
        energy=ConcatSpec(
            net=MLPSpec(hidden=(256, 128), activation="silu"),
            encoder=ConvSpec(side=32, channels=(16, 32, 64), out_channels=16, halves_first=True),
            scale={"image": 3.0, "horizontal": 5.0, "vertical": 5.0},
        ),
        # All images share most of their pixels, so f steepens in the direction of those together long before it knows
        # where anything is. A step of a fifth of the data's noise leaves the chains room for that.
        kernel=KernelSpec(discrete="gibbs", discrete_moves=2, continuous="langevin", step_size=0.02, temperature=0.001),
        train=TrainConfig(
            num_iterations=4_500,
            batch_size=64,
            num_steps=10,
            learning_rate=5e-4,
            warmup=200,
            decay="cosine",
            beta_1=0.0,  # with .9, f went on steepening after the chains had stopped following, and training diverged
            replacement_rate=0.03,
            ema_decay=0.998,
            noise_labels="uniform",
            objective="summed",
            precision="bfloat16",
            snapshot_every=250,
        ),
    )
