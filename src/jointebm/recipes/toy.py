"""Eight Gaussians with three binary attributes: the schedule of the paper, and ours."""

from jointebm.energies import AnySubsetSpec, ConcatSpec, LevelMLPSpec, MLPSpec
from jointebm.kernels import KernelSpec
from jointebm.recipes.recipe import Recipe
from jointebm.references import MixtureFit
from jointebm.training.objectives import Denoising, SummedOut
from jointebm.training.train_config import TrainConfig

__all__ = ["toy", "toy_any", "toy_paper"]


def toy_paper() -> Recipe:
    """Table 1 and App. B.1, field by field.

    Example:
        >>> toy_paper().train.num_iterations  # Table 1
        5500
    """
    return Recipe(
        name="toy_paper",
        summary="eight Gaussians with three binary attributes, as in Table 1",
        data="toy",
        energy=ConcatSpec(net=MLPSpec(hidden=(256, 256, 256), activation="elu")),  # App. B.1.1
        kernel=KernelSpec(step_size=0.1, temperature=0.5),  # Table 1
        train=TrainConfig(
            num_iterations=5500,  # Table 1
            batch_size=1000,
            num_steps=20,
            learning_rate=1e-4,
            warmup=1000,
            buffer_size=10_000,
            replacement_rate=0.05,
            ema_decay=0.99,
            noise_labels="frequency",  # App. B, Sampling Noise
            compile="auto",
        ),
        num_test_chains=10,  # Table 1
        num_test_steps=200,
    )


def toy() -> Recipe:
    """Bayes accuracy within a minute: a small network, adjusted moves at temperature 1, y summed out.

    Example:
        >>> toy().kernel.temperature, toy().reference is not None
        (1.0, True)
    """
    return Recipe(
        name="toy",
        summary="eight Gaussians with three binary attributes, within a minute",
        data="toy",
        energy=ConcatSpec(net=MLPSpec(hidden=(128, 128), activation="elu")),
        reference=MixtureFit(num_components=(8,)),
        # Adjusted and at temperature 1, so that x and y share one joint target and the density is learned.
        kernel=KernelSpec(continuous="mala", step_size=0.4, temperature=1.0),
        train=TrainConfig(
            num_iterations=1800,
            batch_size=256,
            num_steps=5,
            learning_rate=3e-3,
            warmup=100,
            decay="cosine",
            replacement_rate=0.01,
            ema_decay=0.995,
            objective=SummedOut(),
        ),
    )


def toy_any() -> Recipe:
    """One function for every subset of the toy data, trained without chains.

    Example:
        >>> toy_any().train.objective.name
        'denoising'
    """
    return Recipe(
        name="toy_any",
        summary="eight Gaussians with three binary attributes: one function for every visible part and noise level",
        data="toy",
        # .05 blurs modes of standard deviation .35 by 1%; at 20 nothing is left of a circle of radius 2.8
        energy=AnySubsetSpec(net=LevelMLPSpec(hidden=(128, 128, 128)), min_noise=0.05, max_noise=20.0),
        kernel=KernelSpec(discrete="gibbs", continuous="mala", step_size=0.4, temperature=1.0),
        train=TrainConfig(
            num_iterations=5000,
            batch_size=256,
            num_steps=1,
            learning_rate=4e-3,
            warmup=100,
            decay="cosine",
            ema_decay=0.998,
            objective=Denoising(),
        ),
        num_test_steps=20,
    )
