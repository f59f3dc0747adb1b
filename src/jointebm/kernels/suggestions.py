"""Chooses kernels for a log-density by looking at its blocks, its score and its couplings."""

from typing import NamedTuple

import torch
from torch import nn

from jointebm.kernels.chain import LogDensity, evaluate
from jointebm.kernels.chromatic_gibbs import ChromaticGibbs
from jointebm.kernels.components import components
from jointebm.kernels.cycle import Cycle
from jointebm.kernels.gibbs import Gibbs
from jointebm.kernels.gibbs_with_gradients import GibbsWithGradients
from jointebm.kernels.jump import Jump
from jointebm.kernels.kernel import Kernel
from jointebm.kernels.mala import MALA
from jointebm.kernels.swendsen_wang import SwendsenWang
from jointebm.references.reference import Reference
from jointebm.spaces.space import Space

__all__ = ["Suggestion", "suggest"]

MAX_COLOURED = 1000  # variables whose couplings are looked for, by one backward pass each
MIN_PASSED = 1.0  # of a change, by the neighbours of a label but one, from which on clusters move too
MAX_CLASSES = 32  # classes of all labels together up to which all are evaluated, and swept
FIRST_STEP = 0.1
NUM_ROWS = 4


class Suggestion(NamedTuple):
    """A kernel, and why it was chosen.

    Args:
        kernel: the parts in turn.
        reasons: one sentence per part, in order.

    Example:
        >>> from jointebm import Continuous
        >>> suggest(Space(x=Continuous()), lambda position: -0.5 * position["x"].square()).reasons
        ("block 'x' has a score; find its step sizes with kernels.adapt",)
    """

    kernel: Cycle
    reasons: tuple[str, ...]


def suggest(
    space: Space, log_density: LogDensity, reference: Reference | None = None, *, trains: bool = False
) -> Suggestion:
    """Suggests a kernel for a log-density, with a reason for each part.

    `Jump` if there is a reference; for labels `ChromaticGibbs` if few colours keep interacting ones apart, and then
    `SwendsenWang` too if couplings are strong; `Gibbs` if they have few classes or no score, and `GibbsWithGradients`
    otherwise; `MALA` for each block of reals. Next to reals `Gibbs` sweeps over all V labels in V batches, if they have 32
    classes in all or fewer, unless f `trains`: that was measured on one fixed f, 20 reals with 10 bits (docs/kernels.md).
    The rules look at f at four random positions, always the same. They say nothing about modes. Step sizes are a first
    guess: run `adapt`.

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
        ('ChromaticGibbs', ('36 labels interact in pairs, and 2 colours keep them apart: a sweep evaluates nothing',))
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
        parts.append(found or _uncoloured(space, no_score, sweeps=bool(space.continuous) and not trains))
        parts += [] if found is None else _clusters(space, log_density, position, generator)
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
    cost = f"costs {num} evaluations" if kernel.sums is None else "evaluates nothing"
    reason = f"{num_labels} labels interact in pairs, and {num} colours keep them apart: a sweep {cost}"
    return (kernel, reason) if 2 * num <= num_labels else None


def _clusters(
    space: Space, log_density: LogDensity, position: dict[str, torch.Tensor], generator: torch.Generator
) -> list[tuple[Kernel, str]]:
    """Cluster moves if f has couplings that ties give, none contradicts others along a circle, and they are strong.

    A pair passes on (exp |J| - 1) / (exp |J| + K - 1) of a change of one label to the other, tanh(|J| / 2) for bits. On a
    graph without circles, changes reach far once the neighbours of a label, but the one the change came from, pass on 1
    together; below it, single labels mix fast on any graph of bits (Mossel & Sly 2013). Fields are not counted.
    """
    if sum(space[name].num_variables * max(space.num_classes(name)) for name in space.discrete) > MAX_COLOURED:
        return []
    try:
        kernel = SwendsenWang.verified(space, log_density, position, generator=generator)
    except (ValueError, RuntimeError):  # as for colours, or pairs do more than ask whether labels are equal
        return []
    couplings = kernel.couplings.detach().cpu()
    counts = torch.tensor([count for name in kernel.blocks or () for count in space.num_classes(name)])
    gain = couplings.abs().exp()
    each = (gain - 1) / (gain + counts - 1)
    passed = float((each.sum(dim=1) - each.amax(dim=1)).max())
    if passed < MIN_PASSED or _contradict(couplings):
        return []
    reason = (
        f"couplings are strong: the neighbours of a label but one pass on {passed:.2f} of its changes, and from "
        f"{MIN_PASSED:g} on domains can form; clusters turn them over"
    )
    return [(kernel, reason)]


def _contradict(couplings: torch.Tensor) -> bool:
    """Whether no labels satisfy all couplings (V, V): some circle has an odd number of negative ones.

    Every variable stands twice, as it is and turned over; a circle like that joins the two.
    """
    num = len(couplings)
    one, other = couplings.triu(1).nonzero().T
    turned = (couplings[one, other] < 0) * num
    pairs = torch.stack([torch.cat([one, one + num]), torch.cat([other + turned, other + num - turned])])
    (root,) = components(pairs, torch.ones(1, pairs.shape[1], dtype=torch.bool), 2 * num)
    return bool((root[:num] == root[num:]).any())


def _uncoloured(space: Space, no_score: bool, *, sweeps: bool) -> tuple[Kernel, str]:
    """A kernel that evaluates all classes of a label, or finds labels by the score.

    Args:
        space: the blocks.
        no_score: whether f has no gradient with respect to any label.
        sweeps: whether exact conditionals of all labels are drawn in one step where they have few classes.
    """
    num_labels = sum(space[name].num_variables for name in space.discrete)
    num_classes = sum(sum(space.num_classes(name)) for name in space.discrete)
    kernel, cost = Gibbs(space), "a step moves one label, in one batch"
    if sweeps and num_labels > 1 and num_classes <= MAX_CLASSES:
        kernel = Gibbs(space, scan="systematic")
        cost = f"a sweep moves all {num_labels} between two steps of reals, in {num_labels} batches"
    if no_score:
        return kernel, f"f has no gradient with respect to labels; all classes of one are evaluated; {cost}"
    if num_classes <= MAX_CLASSES:
        return kernel, f"{num_classes} classes in all are few: exact conditionals are never rejected; {cost}"
    return GibbsWithGradients(space), f"{num_classes} classes in all are many: the score finds which label to change"
