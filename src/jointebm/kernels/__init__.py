"""Kernels: Markov transitions that move the free part of a chain and keep every bit of the rest.

Example:
    >>> from jointebm import Binary, Continuous, Space, kernels
    >>> space = Space(x=Continuous(), y=Binary())
    >>> alternating = kernels.Cycle((kernels.Gibbs(space), kernels.MALA("x", step_size=0.1)))
    >>> alternating.adjusted
    True
"""

from typing import TYPE_CHECKING

from jointebm.importing import lazy_members
from jointebm.kernels.spec import KernelSpec

if TYPE_CHECKING:
    from jointebm.kernels.adaptation import Adapted, adapt
    from jointebm.kernels.chain import (
        Chain,
        EncodedLogDensity,
        LogDensity,
        Score,
        evaluate,
        evaluate_candidates,
        scored,
    )
    from jointebm.kernels.chromatic_gibbs import ChromaticGibbs
    from jointebm.kernels.cycle import Cycle
    from jointebm.kernels.dmala import DMALA
    from jointebm.kernels.gibbs import Gibbs
    from jointebm.kernels.gibbs_with_gradients import GibbsWithGradients
    from jointebm.kernels.hamming_ball import HammingBall
    from jointebm.kernels.hmc import HMC
    from jointebm.kernels.jump import Jump
    from jointebm.kernels.kernel import (
        Info,
        Kernel,
        flat_infos,
        metropolis,
        parts_of,
        settle,
        with_parts,
        without_laziness,
    )
    from jointebm.kernels.langevin import Langevin
    from jointebm.kernels.lazy import Lazy
    from jointebm.kernels.mala import MALA
    from jointebm.kernels.mixed_hmc import MixedHMC
    from jointebm.kernels.replica_exchange import ReplicaExchange
    from jointebm.kernels.shifted_gibbs import ShiftedGibbs
    from jointebm.kernels.suggestions import Suggestion, suggest
    from jointebm.kernels.swendsen_wang import SwendsenWang

__all__ = [
    "DMALA",
    "HMC",
    "MALA",
    "Adapted",
    "Chain",
    "ChromaticGibbs",
    "Cycle",
    "EncodedLogDensity",
    "Gibbs",
    "GibbsWithGradients",
    "HammingBall",
    "Info",
    "Jump",
    "Kernel",
    "KernelSpec",
    "Langevin",
    "Lazy",
    "LogDensity",
    "MixedHMC",
    "ReplicaExchange",
    "Score",
    "ShiftedGibbs",
    "Suggestion",
    "SwendsenWang",
    "adapt",
    "evaluate",
    "evaluate_candidates",
    "flat_infos",
    "metropolis",
    "parts_of",
    "scored",
    "settle",
    "suggest",
    "with_parts",
    "without_laziness",
]

if not TYPE_CHECKING:  # these import torch
    __getattr__, __dir__ = lazy_members(__name__, __all__)
