"""Geweke's test: alternating exact draws of one part with a transition of the other leaves the joint invariant.

Legend: N draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from jointebm.kernels import Chain, Info, Kernel, LogDensity, evaluate
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Position, Space
from jointebm.testing.conditional import Redraw, Transition, check_held, tile
from jointebm.testing.invariance import Statistics, invariance_test
from jointebm.testing.sequential import Verdict, sequential_test

__all__ = ["geweke_test"]


def geweke_test(
    transition: Transition,
    log_density: LogDensity,
    space: Space,
    draw: Callable[[int, Generator], Position],
    redraw: Redraw,
    *,
    patterns: Sequence[Mask] | None = None,
    num_sweeps: int = 5,
    statistics: Statistics | None = None,
    num_draws: int = 2000,
    alpha: float = 1e-5,
    num_stages: int = 7,
    growth: int = 4,
    generator: Generator,
) -> Verdict:
    """Tests a conditional transition by alternating it with exact draws of the part it conditions on.

    Geweke's marginal-conditional simulator is `draw`. His successive-conditional simulator is, per sweep,

    free part ~ transition(. | clamped part),   clamped part ~ redraw(. | free part).

    Instead of one long chain of each, half of N exact draws make `num_sweeps` sweeps and are compared with the other half,
    by `invariance_test`: independent replicates, so its p-value is exact at every N and no autocorrelation has to be
    estimated. `sequential_test` repeats it where the answer is not clear. An error of the transition adds up over the
    sweeps and spreads to every variable. Reversibility is not needed. Mixing is not tested: a transition that never moves
    passes.

    Args:
        transition: as for `rank_test`, like all arguments that are not listed.
        redraw: draws what is clamped from its exact conditional, given what is free; draws and redraws are compared with
            the transition, not with f. It has nothing to do where `patterns` is None, which frees everything.
        num_sweeps: >= 1.
        num_draws: exact draws N of the first stage.

    Raises:
        AssertionError: the transition moved a clamped entry.
        ValueError: an option out of its range, or so few draws that the test could never reject.
        FloatingPointError: a statistic is not a number.

    References:
        Geweke 2004, "Getting it right", JASA 99. Gandy & Scott 2020 (independent replicates).

    Example:
        >>> from jointebm import Continuous, kernels
        >>> from jointebm.randomness.draws import normal
        >>> from jointebm.testing import conditional_path
        >>> space = Space(x=Continuous(), y=Continuous())
        >>> def log_density(position): return -0.5 * (position["x"].square() + (position["y"] - position["x"]).square())
        >>> def draw(num, generator):
        ...     x = normal(torch.zeros(num), generator)
        ...     return {"x": x, "y": x + normal(x, generator)}
        >>> def redraw(position, free, generator):
        ...     return {**position, "y": position["x"] + normal(position["x"], generator)}
        >>> def rejected(kernel):
        ...     path = conditional_path(log_density, space, kernel)
        ...     return geweke_test(path, log_density, space, draw, redraw, patterns=[{"x": torch.tensor(True)}],
        ...                        generator=torch.Generator().manual_seed(0)).rejected
        >>> rejected(kernels.MALA(block="x", step_size=1.0)), rejected(kernels.Langevin(block="x", step_size=1.0))
        (False, True)
    """
    sweep = _Sweep(space, transition, redraw)

    def stage(num: int) -> tuple[float, str]:
        result = invariance_test(
            sweep,
            log_density,
            space,
            draw(num, generator),
            num_steps=num_sweeps,
            statistics=statistics,
            generator=generator,
            alpha=alpha / num_stages,  # what the first and strictest stage must be able to reach
            free=tile(space, patterns, num),
        )
        return result.p_value, result.worst

    return sequential_test(stage, num_draws=num_draws, alpha=alpha, num_stages=num_stages, growth=growth)


@dataclass(frozen=True)
class _Sweep(Kernel):
    """One turn of the successive-conditional simulator, as a kernel."""

    space: Space
    transition: Transition
    redraw: Redraw

    uses_score = False
    adjusted = False

    def step(
        self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator
    ) -> tuple[Chain, Info | tuple[Info, ...]]:
        moved = self.transition(chain.position, free, generator)
        check_held(self.space, chain.position, moved, free)
        swept = evaluate(log_density, self.redraw(moved, free, generator), with_score=False)
        return swept, Info(torch.ones_like(swept.f), torch.ones_like(swept.f, dtype=torch.bool))
