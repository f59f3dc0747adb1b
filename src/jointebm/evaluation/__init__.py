"""Evaluation: accuracy, calibration, out-of-distribution detection, and judges of samples."""

from jointebm.evaluation.geometry_judges import NearestMode, SpriteCentre, placement
from jointebm.evaluation.image_judge import ImageClassifier
from jointebm.evaluation.judgement import Judgement, judge_samples
from jointebm.evaluation.judges import judge_for

__all__ = ["ImageClassifier", "Judgement", "NearestMode", "SpriteCentre", "judge_for", "judge_samples", "placement"]
