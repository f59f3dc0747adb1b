"""Metrics of one iteration of training."""

from typing import Literal, NamedTuple

__all__ = ["Metrics"]


class Metrics(NamedTuple):
    """Metrics of one iteration.

    Args:
        iteration: number of updates done.
        energy_gap: mean f of the data minus mean f of the chains, nats. None if the objective needs no chains, and so
            `f_negative`, `chain_low` and `chain_high`.
        f_positive: mean f of the data, completed; of the observed entries if the objective sums missing labels out, nats.
        f_negative: mean f of the chains, nats.
        accept_rate: mean accept_prob of each kernel of the cycle, over steps and chains; chains that a `kernels.Lazy`
            skips count as 0.
        grad_norm: Euclidean norm of the gradient of the parameters.
        chain_low: smallest continuous entry of the chains, position units.
        chain_high: largest continuous entry of the chains.
        learning_rate: used for this update.
        seconds: spent in iterations so far, over all sessions of the run.
        negatives: with a reference, what the trainer chose for the negative phase: "draws", fresh weighted draws of the
            reference, while their ess is at least half of them, and from then on "chains". None without a reference, and
            so the next three.
        ess: effective number of chains, (sum w)^2 / sum w^2, before resampling.
        log_normalizer: log Z estimated by the chains of this batch, nats.
        log_likelihood: mean f of the data minus `log_normalizer`, nats per row; of completed rows if entries are missing
            and not summed out.
        terms: the terms of the loss by name, without weights; None if it has one.

    Example:
        >>> import torch
        >>> from jointebm import Continuous, Space, TrainConfig, Trainer, kernels
        >>> from jointebm.energies import MLP, ConcatEnergy
        >>> space = Space(x=Continuous())
        >>> trainer = Trainer(
        ...     ConcatEnergy(space, MLP(1, (8,))), space, lambda num, generator: {"x": torch.zeros(num)},
        ...     kernel=kernels.MALA(block="x", step_size=1.0), seed=0,
        ...     config=TrainConfig(num_iterations=2, batch_size=8, num_steps=1, learning_rate=1e-3, buffer_size=16),
        ... )
        >>> [metrics.iteration for metrics in trainer.run()]
        [1, 2]
    """

    iteration: int
    energy_gap: float | None
    f_positive: float
    f_negative: float | None
    accept_rate: tuple[float, ...]
    grad_norm: float
    chain_low: float | None
    chain_high: float | None
    learning_rate: float
    seconds: float
    negatives: Literal["draws", "chains"] | None = None
    ess: float | None = None
    log_normalizer: float | None = None
    log_likelihood: float | None = None
    terms: dict[str, float] | None = None
