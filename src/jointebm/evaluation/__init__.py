"""Evaluation: accuracy, calibration, out-of-distribution detection, and judges of samples."""

from jointebm.evaluation.distances import Frechet, frechet_distance, nearest_distances, total_variance
from jointebm.evaluation.geometry_judges import NearestMode, Placement, SpriteCentre, placement
from jointebm.evaluation.image_judge import ImageClassifier
from jointebm.evaluation.judgement import Judgement, Nearest, judge_samples
from jointebm.evaluation.judges import Judge, judge_for

__all__ = [
    "Frechet",
    "ImageClassifier",
    "Judge",
    "Judgement",
    "Nearest",
    "NearestMode",
    "Placement",
    "SpriteCentre",
    "frechet_distance",
    "judge_for",
    "judge_samples",
    "nearest_distances",
    "placement",
    "total_variance",
]
