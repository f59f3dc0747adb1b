"""The bundled 8x8 digits with their labels."""

from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.kernels import KernelSpec
from jointebm.recipes.recipe import Recipe
from jointebm.training import TrainConfig

__all__ = ["digits"]


def digits() -> Recipe:
    """Image and label of 1,438 handwritten digits within two minutes."""
    return Recipe(
        name="digits",
        summary="the bundled 8x8 handwritten digits with their labels, within two minutes",
        data="digits",
        energy=ConcatSpec(net=MLPSpec(hidden=(512, 256, 256), activation="elu"), scale={"image": 2.0, "digit": 3.0}),
        kernel=KernelSpec(step_size=0.1, temperature=1.0),
        train=TrainConfig(
            num_iterations=1500,
            batch_size=128,
            num_steps=20,
            learning_rate=4e-4,
            warmup=200,
            decay="cosine",
        ),
    )
