"""Chooses kernels for a log-density by looking at its blocks, its score and its couplings."""

from typing import NamedTuple

import torch
from torch import nn

from jointebm.kernels.chain import LogDensity, evaluate
from jointebm.kernels.chromatic_gibbs import ChromaticGibbs
from jointebm.kernels.cycle import Cycle
from jointebm.kernels.gibbs import Gibbs
from jointebm.kernels.gibbs_with_gradients import GibbsWithGradients
from jointebm.kernels.jump import Jump
from jointebm.kernels.kernel import Kernel
from jointebm.kernels.mala import MALA
from jointebm.references.reference import Reference
from jointebm.spaces.space import Space

__all__ = ["Suggestion", "suggest"]

MAX_COLOURED = 1000  # variables whose couplings are looked for, by one backward pass each
MAX_CLASSES = 32  # classes of all labels together up to which all are evaluated
FIRST_STEP = 0.1
NUM_ROWS = 4


class Suggestion(NamedTuple):
    """A kernel, and why it was chosen.

    Args:
        kernel: the parts in turn.
        reasons: one sentence per part, in order.
    """

    kernel: Cycle
    reasons: tuple[str, ...]


def suggest(
    space: Space, log_density: LogDensity, reference: Reference | None = None, *, trains: bool = False
) -> Suggestion:
    """Suggests a kernel for a log-density, with a reason for each part.

    `Jump` if there is a reference; for labels `ChromaticGibbs` if few colours keep interacting ones apart, `Gibbs` if they
    have few classes or no score, and `GibbsWithGradients` otherwise; `MALA` for each block of reals. The rules look at f at
    four random positions, always the same. They say nothing about modes. Step sizes are a first guess: run `adapt`.

    Args:
        space: the blocks.
        log_density: f.
        reference: q, if there is one.
        trains: whether f will change, as before a training run; colours, which hold for the present f alone, are not looked
            for then.

    Raises:
        ValueError: f has no gradient with respect to a block of reals, and there is no reference to jump from.

    Example:
        >>> from jointebm import Binary, Continuous
        >>> from jointebm.energies import IsingEnergy
        >>> space = Space(spins=Binary((6, 6)))
        >>> suggestion = suggest(space, IsingEnergy(space, coupling=0.3))
        >>> type(suggestion.kernel.kernels[0]).__name__, suggestion.reasons
        ('ChromaticGibbs', ('36 labels interact in pairs, and 2 colours keep them apart: a sweep costs 2 evaluations',))
    """
    tensors = [*log_density.parameters(), *log_density.buffers()] if isinstance(log_density, nn.Module) else []
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
    generator = torch.Generator(like.device).manual_seed(0)
    position, _ = space.clamp(None, num_chains=NUM_ROWS, generator=generator, dtype=like.dtype, device=like.device)
    chain = evaluate(log_density, position)
    assert chain.score is not None
    constant = chain.score.constant
    parts: list[tuple[Kernel, str]] = []
    if reference is not None:
        parts.append((Jump(reference), "proposals from the reference cross between modes where they are accepted"))
    if space.discrete:
        no_score = constant >= set(space.discrete)
        found = None if trains or no_score else _coloured(space, log_density, position, generator)
        parts.append(found or _uncoloured(space, no_score))
    for name in space.continuous:
        if name not in constant:
            parts.append(
                (MALA(name, FIRST_STEP), f"block {name!r} has a score; find its step sizes with kernels.adapt")
            )
        elif reference is None:
            raise ValueError(
                f"suggest: f has no gradient with respect to block {name!r}, so that only jumps move it; pass a reference "
                "such as references.Mixture.fit(space, rows, ...)"
            )
    kernels, reasons = zip(*parts, strict=True)
    return Suggestion(Cycle(kernels), reasons)


def _coloured(
    space: Space, log_density: LogDensity, position: dict[str, torch.Tensor], generator: torch.Generator
) -> tuple[Kernel, str] | None:
    """The verified chromatic kernel if colours are few; None also if f is not linear in each label, or not smooth."""
    num_labels = sum(space[name].num_variables for name in space.discrete)
    if not 2 < num_labels <= MAX_COLOURED:
        return None
    try:
        kernel = ChromaticGibbs.verified(space, log_density, position, generator=generator)
    except (ValueError, RuntimeError):  # torch cannot differentiate it twice, or it is not linear in each label
        return None
    num = len(torch.cat([kernel.colours[name].flatten() for name in kernel.blocks]).unique())
    reason = (
        f"{num_labels} labels interact in pairs, and {num} colours keep them apart: a sweep costs {num} evaluations"
    )
    return (kernel, reason) if 2 * num <= num_labels else None


def _uncoloured(space: Space, no_score: bool) -> tuple[Kernel, str]:
    num_classes = sum(sum(space.num_classes(name)) for name in space.discrete)
    if no_score:
        return Gibbs(space), "f has no gradient with respect to labels; all classes of one are evaluated"
    if num_classes <= MAX_CLASSES:
        reason = f"{num_classes} classes in all are few: exact conditionals cost one batch and are never rejected"
        return Gibbs(space), reason
    return GibbsWithGradients(space), f"{num_classes} classes in all are many: the score finds which label to change"
