"""One energy-based model of the joint density of mixed continuous and discrete data.

log p(x, y) = f(x, y) - log Z, after Kelly & Grathwohl 2021, "No conditional models for me".
"""

import os
from importlib.metadata import version
from typing import TYPE_CHECKING

from jointebm.importing import lazy_members

if TYPE_CHECKING:
    from jointebm import energies, kernels, recipes, testing
    from jointebm.energies import BilinearEnergy, ConcatEnergy, JEMEnergy
    from jointebm.estimators import JointEBM as JointEBM
    from jointebm.estimators import JointEBMClassifier as JointEBMClassifier
    from jointebm.estimators import JointEBMImputer as JointEBMImputer
    from jointebm.estimators import JointEBMOutlierDetector as JointEBMOutlierDetector
    from jointebm.estimators import JointEBMRegressor as JointEBMRegressor
    from jointebm.inference import Model, ModelConfig, Prediction, fit, predict
    from jointebm.kernels import KernelSpec
    from jointebm.randomness.devices import Device
    from jointebm.sampling import (
        ConvergenceWarning,
        ExtrapolationWarning,
        Samples,
        Trajectory,
        log_normalizer,
        sample,
        sample_trajectory,
    )
    from jointebm.spaces import Binary, Categorical, Continuous, Noise, Space
    from jointebm.tables.answers.pooling import pool
    from jointebm.training import Metrics, ReplayBuffer, TrainConfig, Trainer, objectives

__version__ = version("jointebm")
"""The version of this library.

Example:
    >>> import jointebm
    >>> jointebm.__version__.count(".")
    2
"""

__all__ = [
    "BilinearEnergy",
    "Binary",
    "Categorical",
    "ConcatEnergy",
    "Continuous",
    "ConvergenceWarning",
    "ExtrapolationWarning",
    "JEMEnergy",
    "KernelSpec",
    "Metrics",
    "Model",
    "ModelConfig",
    "Noise",
    "Prediction",
    "ReplayBuffer",
    "Samples",
    "Space",
    "TrainConfig",
    "Trainer",
    "Trajectory",
    "__version__",
    "energies",
    "fit",
    "kernels",
    "load",
    "log_normalizer",
    "objectives",
    "pool",
    "predict",
    "recipes",
    "sample",
    "sample_trajectory",
    "testing",
]


def load(
    name: str | os.PathLike[str], *, device: "Device | None" = None, revision: str | None = None
) -> "Model | JointEBM":
    """Loads any model that this library wrote; nothing in its folder is executed.

    Args:
        name: a model folder, a run folder (its `model/` is taken), pretrained:NAME, or owner/name: a model on the Hugging
            Face Hub, if no such folder exists (extra `hub`). Its files are checked as any others.
        device: where the model is: "cpu", "cuda" or "mps"; "auto" is "cuda" where there is one, else "cpu". None is "auto"
            for a table model, whose questions take no tensors, and "cpu" for a `Model`, a function of positions that would
            have to be there as well. Answers are on the CPU.
        revision: branch, tag or commit of a model on the Hub; None is the main branch.

    Returns:
        A `Model`, or a `JointEBM` if the folder holds a table model.

    Raises:
        FileNotFoundError: no such model, or a file of it is missing; lists the pretrained ones.
        ImportError: the folder holds a table model, and the extra `tables` is not installed.
        OSError: the Hub refuses or cannot be reached, and no copy is cached.
        TypeError: `name` is neither text nor a path.
        ValueError: a file does not hold what it should, with its name and the reason; or this machine has no such device.

    Example:
        >>> load("pretrained:toy").space.discrete
        ('bottom', 'left', 'diagonal')
    """
    from jointebm.inference.model_loading import load_model
    from jointebm.inference.pretrained import find_model
    from jointebm.storage.model_folder import TABLE_MODEL, folder_kind

    path = find_model(name, revision)
    if folder_kind(path) == TABLE_MODEL:
        from jointebm.estimators import JointEBM

        return JointEBM.load(path, device=device or "auto")
    return load_model(path, device=device or "cpu")


if not TYPE_CHECKING:
    # The estimators need the extra `tables`, so `import *` leaves them out.
    _ESTIMATORS = ("JointEBM", "JointEBMClassifier", "JointEBMImputer", "JointEBMOutlierDetector", "JointEBMRegressor")
    _PACKAGES = (
        "spaces",
        "kernels",
        "energies",
        "sampling",
        "training",
        "inference",
        "tables.answers.pooling",
        "estimators",
    )
    __getattr__, __dir__ = lazy_members(
        __name__, (*__all__, *_ESTIMATORS), [f"{__name__}.{package}" for package in _PACKAGES]
    )
