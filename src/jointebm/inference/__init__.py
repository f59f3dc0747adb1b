"""A trained model and the questions it answers."""

from jointebm.inference.model import Model, ModelConfig, load_model
from jointebm.inference.predict import Prediction, predict

__all__ = ["Model", "ModelConfig", "Prediction", "load_model", "predict"]
