"""One energy-based model of the joint density of mixed continuous and discrete data.

log p(x, y) = f(x, y) - log Z, after Kelly & Grathwohl 2021, "No conditional models for me".
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from jointebm import energies, kernels, recipes, testing
from jointebm.energies import BilinearEnergy, ConcatEnergy, JEMEnergy
from jointebm.inference.model import Model, ModelConfig, load
from jointebm.inference.predict import Prediction, predict
from jointebm.kernels import KernelSpec
from jointebm.sampling.sample import Samples, Trajectory, sample, sample_trajectory
from jointebm.spaces.blocks import Binary, Categorical, Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Space
from jointebm.training import objectives
from jointebm.training.replay_buffer import ReplayBuffer
from jointebm.training.trainer import Metrics, TrainConfig, Trainer

if TYPE_CHECKING:
    from jointebm.estimators import JointEBM as JointEBM
    from jointebm.estimators import JointEBMClassifier as JointEBMClassifier
    from jointebm.estimators import JointEBMImputer as JointEBMImputer
    from jointebm.estimators import JointEBMOutlierDetector as JointEBMOutlierDetector
    from jointebm.estimators import JointEBMRegressor as JointEBMRegressor

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

# The estimators need the extra `tables`. They are imported when they are asked for; `import *` leaves them out.
_ESTIMATORS = ("JointEBM", "JointEBMClassifier", "JointEBMImputer", "JointEBMOutlierDetector", "JointEBMRegressor")


def __getattr__(name: str) -> Any:
    if name not in _ESTIMATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jointebm import estimators

    return getattr(estimators, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ESTIMATORS})
