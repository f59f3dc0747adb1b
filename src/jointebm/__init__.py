"""One energy-based model of the joint density of mixed continuous and discrete data.

log p(x, y) = f(x, y) - log Z, after Kelly & Grathwohl 2021, "No conditional models for me".
"""

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
    from jointebm.inference import Model, ModelConfig, Prediction, load, predict
    from jointebm.kernels import KernelSpec
    from jointebm.sampling import Samples, Trajectory, sample, sample_trajectory
    from jointebm.spaces import Binary, Categorical, Continuous, Noise, Space
    from jointebm.training import Metrics, ReplayBuffer, TrainConfig, Trainer, objectives

__version__ = version("jointebm")

__all__ = [
    "BilinearEnergy",
    "Binary",
    "Categorical",
    "ConcatEnergy",
    "Continuous",
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
    "kernels",
    "load",
    "objectives",
    "predict",
    "recipes",
    "sample",
    "sample_trajectory",
    "testing",
]

if not TYPE_CHECKING:
    # The estimators need the extra `tables`, so `import *` leaves them out.
    _ESTIMATORS = ("JointEBM", "JointEBMClassifier", "JointEBMImputer", "JointEBMOutlierDetector", "JointEBMRegressor")
    _PACKAGES = ("spaces", "kernels", "energies", "sampling", "training", "inference", "estimators")
    __getattr__, __dir__ = lazy_members(
        __name__, (*__all__, *_ESTIMATORS), [f"{__name__}.{package}" for package in _PACKAGES]
    )
