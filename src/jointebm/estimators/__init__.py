"""Estimators over tables in the manner of scikit-learn; they need the extra `tables`."""

from jointebm.estimators.classifier import JointEBMClassifier
from jointebm.estimators.imputer import JointEBMImputer
from jointebm.estimators.joint import JointEBM
from jointebm.estimators.outliers import JointEBMOutlierDetector
from jointebm.estimators.regressor import JointEBMRegressor

__all__ = ["JointEBM", "JointEBMClassifier", "JointEBMImputer", "JointEBMOutlierDetector", "JointEBMRegressor"]
