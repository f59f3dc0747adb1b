"""The answer of a prediction.

Legend: N rows.
"""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Prediction"]


class Prediction(NamedTuple):
    """Predicted labels and class probabilities.

    Args:
        labels: per target block, shape (N, *variable_shape), int64.
        probs: per target block, shape (N, *position_shape): the marginal probability of each class (of the value 1 for
            a binary variable). For method "sample" these are shares of votes.

    Example:
        >>> import jointebm
        >>> answer = jointebm.load("pretrained:toy").predict({"point": [[3.0, 0.0]]}, ["bottom", "left"])
        >>> answer.labels["left"].shape, answer.probs["bottom"].shape
        (torch.Size([1]), torch.Size([1, 2]))
    """

    labels: dict[str, Tensor]
    probs: dict[str, Tensor]
