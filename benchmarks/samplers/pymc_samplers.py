"""Metropolis within Gibbs of PyMC, as a function that advances its chains by some sweeps; chains run one after another.

Legend: V bits, T states, N chains.
"""

from collections.abc import Callable

import numpy as np
import pymc
from sampler_targets import Pairwise, States, f_of

__all__ = ["MIXED", "PAIRWISE"]

MAX_CHAINS = 4
CHUNK = 16


def metropolis(target: Pairwise, num_chains: int, seed: int) -> Callable[[], States]:
    """BinaryGibbsMetropolis: one state per sweep over all bits."""
    num, chains = len(target.num_classes), min(num_chains, MAX_CHAINS)
    none = f_of(target, np.zeros(num, int))
    alone = np.array([f_of(target, each) - none for each in np.eye(num, dtype=int)], dtype=float)
    matrix = np.zeros((num, num))
    for (v, w), table in zip(target.pairs, target.weights, strict=True):
        matrix[v, w] += table[1, 1] - table[1, 0] - table[0, 1] + table[0, 0]
    random = np.random.default_rng(seed)
    with pymc.Model():
        y = pymc.Bernoulli("y", 0.5, shape=num)
        pymc.Potential("f", ((y @ matrix) * y).sum() + (y * alone).sum())
        step = pymc.BinaryGibbsMetropolis([y], rng=random)
    points = [{"y": each} for each in random.integers(0, 2, (chains, num))]

    def advance() -> States:
        kept = np.zeros((CHUNK, chains, num), np.uint8)
        for t in range(CHUNK):
            for c in range(chains):
                points[c], _ = step.step(points[c])
                kept[t, c] = points[c]["y"]
        return States(kept, np.zeros((CHUNK, chains, 0), np.float32))

    return advance


PAIRWISE = {"pymc": {"BinaryGibbsMetropolis": metropolis}}
MIXED: dict[str, dict[str, Callable[..., Callable[[], States]]]] = {"pymc": {}}
