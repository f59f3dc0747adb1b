"""Models and the questions they answer: prediction, conditional samples, in-painting."""

from jointebm.inference.model import Model, ModelConfig, load_model
from jointebm.inference.predict import Prediction, predict

__all__ = ["Model", "ModelConfig", "Prediction", "load_model", "predict"]
