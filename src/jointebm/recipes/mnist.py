"""MNIST with its labels: the schedule of the paper, ours, two variants, and one density of image and label."""

from jointebm.energies import AnySubsetSpec, ConcatSpec, ConvSpec, JEMSpec, LevelConvSpec, MLPSpec
from jointebm.kernels import KernelSpec
from jointebm.recipes.recipe import Recipe
from jointebm.references import MixtureFit
from jointebm.training.objectives import ConditionalTerm, Denoising, SummedOut
from jointebm.training.train_config import TrainConfig

__all__ = ["mnist", "mnist_any", "mnist_composite", "mnist_jem", "mnist_joint", "mnist_paper"]


def mnist_paper() -> Recipe:
    """Table 2 and App. B.2, field by field.

    Example:
        >>> mnist_paper().kernel.temperature  # Table 2
        1.5e-06
    """
    return Recipe(
        name="mnist_paper",
        summary="MNIST with its labels, as in Table 2",
        data="mnist",
        energy=ConcatSpec(net=MLPSpec(hidden=(1000, 500, 500, 250, 250, 250), activation="elu")),  # App. B.2.2
        kernel=KernelSpec(step_size=3e-3, temperature=1.5e-6),  # Table 2
        train=TrainConfig(
            num_iterations=110_000,  # Table 2
            batch_size=100,
            num_steps=40,
            learning_rate=1e-4,
            warmup=10_000,
            buffer_size=10_000,
            replacement_rate=0.05,
            ema_decay=0.99,
            noise_labels="frequency",  # App. B, Sampling Noise
            compile="auto",
        ),
        num_test_chains=10,  # Table 2
        num_test_steps=200,
    )


def mnist() -> Recipe:
    """Image and label of MNIST, trained within half an hour on two cores.

    Example:
        >>> mnist().kernel.temperature
        0.01
    """
    return Recipe(
        name="mnist",
        summary="MNIST with its labels, in pixel space, within half an hour on two cores",
        data="mnist-pixels",
        energy=ConcatSpec(
            net=MLPSpec(hidden=(256, 256), activation="silu"),
            encoder=ConvSpec(side=28, channels=(32, 64), out_channels=32, halves_first=True),
            scale={"image": 3.0, "digit": 5.0},
        ),
        # The step is half the standard deviation of the noise of the data: the energy can undo the noise of the sampler.
        kernel=KernelSpec(
            discrete="gibbs",
            discrete_rate=0.01,  # an image that forms from noise keeps its label
            continuous="langevin",
            step_size=0.05,
            temperature=0.01,
        ),
        train=TrainConfig(
            num_iterations=5_000,
            batch_size=128,
            num_steps=10,
            learning_rate=2e-3,
            warmup=200,
            decay="cosine",
            beta_1=0.0,
            replacement_rate=0.03,
            ema_decay=0.998,
            noise_labels="uniform",
            noise_reals="moments",
            objective=SummedOut(sampled_share=0.15),  # penalises images that become another digit
            precision="bfloat16",
        ),
    )


def _summed_out(recipe: Recipe, *, terms: tuple[ConditionalTerm, ...] = ()) -> TrainConfig:
    """The schedule of a recipe with y summed out alone and the paper's noise, as the variants were compared."""
    return recipe.train.model_copy(update={"objective": SummedOut(), "noise_reals": "range", "terms": terms})


def mnist_composite() -> Recipe:
    """`mnist` with the enumerated classifier term -log p(y | x) added to the joint likelihood.

    y is summed out alone, and the noise is the paper's.

    Example:
        >>> mnist_composite().train.terms
        (ConditionalTerm(weight=1.0, labelled_batch_size=0),)
    """
    recipe = mnist()
    return recipe.model_copy(
        update={
            "name": "mnist_composite",
            "summary": "MNIST as in mnist, with the classifier's loss added to the joint likelihood",
            "train": _summed_out(recipe, terms=(ConditionalTerm(weight=1.0),)),
        }
    )


def mnist_jem() -> Recipe:
    """The baseline that the paper contrasts (App. A.2): `mnist` with a classifier's logits as the energy.

    JEM maximises log p(y | x) + log p(x). With one categorical y that is `SummedOut`: its loss is
    log sum_y exp f(x', y) - f(x, y), and f(x, y) = log p(y | x) + log sum_y exp f(x, y). The noise is the paper's.

    Example:
        >>> mnist_jem().energy.kind
        'jem'
    """
    recipe = mnist()
    assert isinstance(recipe.energy, ConcatSpec)
    return recipe.model_copy(
        update={
            "name": "mnist_jem",
            "summary": "MNIST as in mnist, with a classifier read as an energy (JEM)",
            "energy": JEMSpec(
                net=MLPSpec(hidden=(256, 256), activation="silu"), encoder=recipe.energy.encoder, scale={"image": 3.0}
            ),
            "train": _summed_out(recipe),
        }
    )


def mnist_joint() -> Recipe:
    """One density of image and digit at temperature 1: a mixture with ten components for each digit, and a residual.

    Chains are unweighted: over 784 reals a few of them would hold all weight. One network is of the image alone,
    another is p(y | x), so that neither follows the other.

    Example:
        >>> mnist_joint().kernel.temperature, mnist_joint().train.weighted
        (1.0, False)
    """
    encoder = ConvSpec(side=28, channels=(16, 32), out_channels=16, halves_first=True)
    return Recipe(
        name="mnist_joint",
        summary="MNIST with its labels as one density at temperature 1, in pixel space",
        data="mnist-pixels",
        energy=JEMSpec(
            net=MLPSpec(hidden=(128, 128), activation="silu"),
            encoder=encoder,
            scale={"image": 3.0},
            logit_scale=5.0,
            shared=ConcatSpec(
                net=MLPSpec(hidden=(256, 256), activation="silu"),
                encoder=encoder,
                scale={"image": 3.0},
                output_scale=100.0,
            ),
        ),
        reference=MixtureFit(num_components=(100,), label="digit"),
        reference_labels=False,
        kernel=KernelSpec(discrete="gibbs", discrete_rate=0.05, continuous="mala", step_size=0.05),
        train=TrainConfig(
            num_iterations=6_000,
            batch_size=64,
            num_steps=3,
            learning_rate=1e-3,
            warmup=300,
            decay="cosine",
            beta_1=0.0,
            buffer_size=2_000,
            replacement_rate=0.05,
            weighted=False,
            ema_decay=0.998,
            objective=SummedOut(),
            precision="bfloat16",
        ),
        num_test_steps=60,
    )


def mnist_any() -> Recipe:
    """One function for every visible part of an MNIST image, at any noise level, with its label; trained without chains.

    Example:
        >>> mnist_any().train.objective.needs_chains
        False
    """
    return Recipe(
        name="mnist_any",
        summary="MNIST with its labels: one function for every visible part and noise level",
        data="mnist-pixels",
        energy=AnySubsetSpec(
            net=LevelConvSpec(channels=(32, 64, 128), hidden=(256, 256)), min_noise=0.1, max_noise=10.0
        ),
        kernel=KernelSpec(discrete="gibbs", continuous="mala", step_size=0.04, temperature=1.0),
        train=TrainConfig(
            num_iterations=30_000,
            batch_size=112,
            num_steps=1,
            learning_rate=2e-3,
            warmup=300,
            decay="cosine",
            ema_decay=0.999,
            # A row has 784 terms of scores and one label; weights bring both to the same size.
            objective=Denoising(score_weight=0.03, level_weight=0.05, lowest_share=0.5, score_share=0.4),
        ),
        num_test_steps=20,
    )
