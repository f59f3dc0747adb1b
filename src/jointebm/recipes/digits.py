"""The bundled 8x8 digits with their labels."""

from jointebm.energies import AnySubsetSpec, ConcatSpec, JEMSpec, LevelConvSpec, MLPSpec
from jointebm.kernels import KernelSpec
from jointebm.recipes.recipe import Recipe
from jointebm.references import MixtureFit
from jointebm.training.objectives import Denoising, SummedOut
from jointebm.training.train_config import TrainConfig

__all__ = ["digits", "digits_any"]


def digits() -> Recipe:
    """One density of image and label of 1,438 handwritten digits at temperature 1, trained within two minutes.

    F = log q(x) + c(x) + log p(y | x): q is a mixture with five components for each digit, c and p(y | x) are networks of
    their own, as in `mnist_joint`. Unlike its 784 reals, 64 are few enough for weighted chains, which jump between modes:
    held-out rows are more likely than under q, and log Z is known to tenths of a nat. Choices were made on held-out rows.

    Example:
        >>> digits().reference.num_components, digits().kernel.temperature
        ((50,), 1.0)
    """
    return Recipe(
        name="digits",
        summary="the bundled 8x8 handwritten digits with their labels as one density at temperature 1, within two minutes",
        data="digits",
        energy=JEMSpec(
            net=MLPSpec(hidden=(256, 256), activation="silu"),
            scale={"image": 3.0},
            logit_scale=5.0,
            # Of 1,294 rows, a wider network or a larger scale learns modes that are not in the data.
            shared=ConcatSpec(net=MLPSpec(hidden=(64, 64), activation="silu"), scale={"image": 3.0}, output_scale=3.0),
        ),
        reference=MixtureFit(num_components=(50,), label="digit"),
        # With log q(y | x) in F, labels of held-out rows are worse, and too sure.
        reference_labels=False,
        # The noise of the data has standard deviation 1/8/sqrt(12) = 0.036. A label is redrawn rarely: an image that moves
        # from q to F keeps the one it was asked for.
        kernel=KernelSpec(discrete="gibbs", discrete_rate=0.05, continuous="mala", step_size=0.03),
        train=TrainConfig(
            num_iterations=1500,  # longer makes x a little more likely, and p(y | x) far too sure
            batch_size=128,
            num_steps=5,
            learning_rate=1e-3,
            warmup=200,
            decay="cosine",
            beta_1=0.0,
            buffer_size=8192,  # weights are uneven, so that many chains are needed
            replacement_rate=0.0,  # chains have weights and jump to draws of q, so that none needs to restart
            ema_decay=0.998,
            objective=SummedOut(),
        ),
        num_test_steps=60,
    )


def digits_any() -> Recipe:
    """One function for every visible part of the bundled digits, at any noise level; trained without chains.

    Example:
        >>> digits_any().energy.kind
        'any-subset'
    """
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
