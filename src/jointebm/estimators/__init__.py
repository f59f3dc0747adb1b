"""scikit-learn estimators over one joint density of a table; they need the extra `tables`."""

try:
    import narwhals as _narwhals  # noqa: F401
    import pandas as _pandas  # noqa: F401
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError("JointEBM needs scikit-learn, narwhals and pandas: pip install 'jointebm[tables]'") from error

from jointebm.estimators.classifier import JointEBMClassifier
from jointebm.estimators.imputer import JointEBMImputer
from jointebm.estimators.joint_ebm import JointEBM
from jointebm.estimators.outlier_detector import JointEBMOutlierDetector
from jointebm.estimators.regressor import JointEBMRegressor

__all__ = ["JointEBM", "JointEBMClassifier", "JointEBMImputer", "JointEBMOutlierDetector", "JointEBMRegressor"]
