"""Estimators over tables in the manner of scikit-learn; they need the extra `tables`."""

from jointebm.estimators.classifier import JointEBMClassifier
from jointebm.estimators.imputer import JointEBMImputer
from jointebm.estimators.joint_ebm import JointEBM
from jointebm.estimators.outlier_detector import JointEBMOutlierDetector
from jointebm.estimators.regressor import JointEBMRegressor

__all__ = ["JointEBM", "JointEBMClassifier", "JointEBMImputer", "JointEBMOutlierDetector", "JointEBMRegressor"]
