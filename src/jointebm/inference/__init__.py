"""Models and the questions they answer: densities, samples, prediction, conditions, in-painting."""

from jointebm.inference.fit import fit
from jointebm.inference.model import Model, ModelConfig, load_model
from jointebm.inference.predict import Prediction, predict

__all__ = ["Model", "ModelConfig", "Prediction", "fit", "load_model", "predict"]
