"""Markov transitions: pure steps that move the free part of a chain and leave the rest bit for bit."""

from jointebm.kernels.chain import (
    Chain,
    EncodedLogDensity,
    Info,
    Kernel,
    LogDensity,
    Score,
    evaluate,
    evaluate_candidates,
    scored,
    settle,
)
from jointebm.kernels.cycle import Cycle
from jointebm.kernels.gibbs import Gibbs, log_conditionals
from jointebm.kernels.gibbs_with_gradients import GibbsWithGradients
from jointebm.kernels.langevin import Langevin
from jointebm.kernels.mala import MALA

__all__ = [
    "MALA",
    "Chain",
    "Cycle",
    "EncodedLogDensity",
    "Gibbs",
    "GibbsWithGradients",
    "Info",
    "Kernel",
    "Langevin",
    "LogDensity",
    "Score",
    "evaluate",
    "evaluate_candidates",
    "log_conditionals",
    "scored",
    "settle",
]
