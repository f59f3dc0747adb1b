"""Models and the questions they answer: densities, samples, prediction, conditions, in-painting."""

from jointebm.inference.fit import fit
from jointebm.inference.model import Model
from jointebm.inference.model_config import ModelConfig
from jointebm.inference.model_loading import load_model
from jointebm.inference.predict import predict
from jointebm.inference.prediction import Prediction

__all__ = ["Model", "ModelConfig", "Prediction", "fit", "load_model", "predict"]
