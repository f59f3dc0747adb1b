"""Diagnosis of draws: when an answer is not to be trusted."""

__all__ = ["ConvergenceWarning"]


class ConvergenceWarning(UserWarning):
    """Draws are too few, or chains too short, for the answer to be trusted; the message names the remedy."""
