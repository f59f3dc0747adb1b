"""Training by persistent chains."""

from jointebm.training.metrics import Metrics
from jointebm.training.replay_buffer import ReplayBuffer
from jointebm.training.train_config import TrainConfig
from jointebm.training.trainer import Trainer

__all__ = ["Metrics", "ReplayBuffer", "TrainConfig", "Trainer"]
