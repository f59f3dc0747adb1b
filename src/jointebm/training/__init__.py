"""Training by persistent chains."""

from typing import TYPE_CHECKING

from jointebm.importing import lazy_members
from jointebm.training.train_config import TrainConfig

if TYPE_CHECKING:
    from jointebm.training import objectives
    from jointebm.training.metrics import Metrics
    from jointebm.training.replay_buffer import ReplayBuffer
    from jointebm.training.trainer import Trainer

__all__ = ["Metrics", "ReplayBuffer", "TrainConfig", "Trainer", "objectives"]

if not TYPE_CHECKING:  # these import torch
    __getattr__, __dir__ = lazy_members(__name__, __all__)
