"""Judges: are samples what they were asked to be? Answered without the model that drew them."""

from jointebm.judge.classifier import ImageClassifier, image_block
from jointebm.judge.geometry import NearestMode, Placement, SpriteCentre, placement
from jointebm.judge.judgement import Judge, Judgement, Nearest, judge_for, judge_samples
from jointebm.judge.quality import Frechet, frechet_distance, nearest_distances, total_variance

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
    "image_block",
    "judge_for",
    "judge_samples",
    "nearest_distances",
    "placement",
    "total_variance",
]
