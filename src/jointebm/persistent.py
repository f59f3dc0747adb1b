"""Training p(y | x) alone, by chains of labels that stay with their row.

Legend: R rows, N of them in a batch.
"""

from collections.abc import Iterator

import torch
from torch.optim import Optimizer

from jointebm.draws import Generator, uniform
from jointebm.kernels import Kernel, LogDensity, evaluate
from jointebm.objectives import Phases, maximum_likelihood
from jointebm.sampling import run_chain
from jointebm.spaces import Mask, Position

__all__ = ["fit_conditional"]


def fit_conditional(
    log_density: LogDensity,
    rows: Position,
    start: Position,
    *,
    free: Mask,
    kernel: Kernel,
    optimizer: Optimizer,
    num_iterations: int,
    batch_size: int,
    num_steps: int,
    generator: Generator,
) -> Iterator[Phases]:
    """Maximises the mean of log p(y | x) over rows whose x is always known: Eq. 2 with x clamped in the negative phase.

    grad log p(y | x) = grad f(x, y) - E_{p(y' | x)}[grad f(x, y')]

    The expectation is that of chains, one to each row, which go on where they were when the row comes again (persistent
    contrastive divergence). Here f is no joint density: p(x) is not learned. It is what remains where x is large and
    always given, as in segmentation, and y has too many configurations for `objectives.conditional_likelihood`.

    Args:
        log_density: f with parameters, shape (N,).
        rows: data, per block (R, *position_shape), completed: no missing entries.
        start: per free block, where its chains start, (R, *position_shape). Exact draws are best: from the classifier, if
            the interaction of a `StructuredEnergy` starts at 0.
        free: per block that moves, the entries that may, a mask that broadcasts to (R, *variable_shape); what it leaves
            out stays as it is in `rows`.
        kernel: what moves the chains.
        optimizer: holds the parameters; step a learning-rate schedule of it between iterations.
        num_iterations: parameter updates.
        batch_size: rows per iteration N, drawn without replacement.
        num_steps: kernel steps per iteration.
        generator: source of all draws.

    Yields:
        `Phases` of every iteration.

    Raises:
        ValueError: there are fewer rows than a batch takes, or a block that is free has no start.
        FloatingPointError: the loss is not finite; nothing was learned from it.

    References:
        Kelly & Grathwohl 2021, Eq. 2. Tieleman 2008. Younes 1999.

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> space = Space(y=Binary())
        >>> bias = torch.nn.Parameter(torch.zeros(()))
        >>> rows = {"y": torch.tensor([1.0, 1.0, 1.0, 0.0] * 50)}
        >>> for phases in fit_conditional(
        ...     lambda position: bias * position["y"], rows, {"y": torch.zeros(200)}, free={"y": torch.tensor(True)},
        ...     kernel=kernels.Gibbs(space), optimizer=torch.optim.SGD([bias], lr=0.5), num_iterations=200,
        ...     batch_size=100, num_steps=1, generator=torch.Generator().manual_seed(0),
        ... ):
        ...     pass
        >>> bool((bias - torch.tensor(3.0).log()).abs() < 0.3)  # three of four are 1
        True
    """
    num_rows = len(next(iter(rows.values())))
    if not 1 <= batch_size <= num_rows:
        raise ValueError(
            f"fit_conditional: batch_size must lie in 1 .. {num_rows}, the number of rows, got {batch_size}"
        )
    if free.keys() - start.keys():
        raise ValueError(f"fit_conditional: block {min(free.keys() - start.keys())!r} is free; give its chains a start")
    masks = {name: mask.expand(num_rows, *mask.shape[1:]) for name, mask in free.items()}  # (R, ...)
    chains = {name: start[name].clone() for name in free}  # (R, *position_shape)
    order = torch.empty(num_rows)
    for iteration in range(1, num_iterations + 1):
        batch = uniform(order, generator).argsort()[:batch_size]
        data = {name: value[batch] for name, value in rows.items()}
        chain = evaluate(
            log_density,
            {**data, **{name: value[batch] for name, value in chains.items()}},
            with_score=kernel.uses_score,
        )
        steps = run_chain(
            log_density, kernel, chain, free={name: mask[batch] for name, mask in masks.items()}, generator=generator
        )
        for _, (chain, _) in zip(range(num_steps), steps, strict=False):
            pass
        phases = maximum_likelihood(log_density, data, chain.position)
        if not bool(phases.loss.isfinite()):
            raise FloatingPointError(
                f"fit_conditional: the loss is {float(phases.loss.detach())} in iteration {iteration}; try a smaller "
                "learning rate"
            )
        optimizer.zero_grad()
        phases.loss.backward()
        optimizer.step()
        for name, value in chains.items():
            value[batch] = chain.position[name]
        yield phases
