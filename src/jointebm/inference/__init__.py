"""A trained model and the questions it answers."""

from jointebm.inference.model import Model, ModelConfig, load
from jointebm.inference.predict import Prediction, predict

__all__ = ["Model", "ModelConfig", "Prediction", "load", "predict"]
