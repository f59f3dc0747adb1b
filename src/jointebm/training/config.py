"""How to train, as plain data: what a recipe says of training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from jointebm.storage.config import Config

__all__ = ["Hiding", "TrainConfig"]


class Hiding(Config):
    """What training may see of its rows; by default everything.

    Example:
        >>> Hiding(labels_per_class=5).hides, Hiding().hides
        (True, False)
    """

    labels_per_class: int | None = Field(
        None, ge=1, description="rows of each class whose label training sees, drawn at random; null: all rows"
    )
    observe_labels: float = Field(
        1.0, ge=0, le=1, description="probability that training sees a label of a row, each by itself"
    )
    observe_reals: float = Field(
        1.0, ge=0, le=1, description="probability that training sees a real (a pixel), each by itself"
    )
    hiding_seed: int = Field(0, ge=0, description="of what is hidden")

    @property
    def hides(self) -> bool:
        """Whether anything is hidden."""
        return self.labels_per_class is not None or self.observe_labels < 1 or self.observe_reals < 1


class TrainConfig(Config):
    """How to train: the numbers of Tables 1-3, and what we add to them.

    Example:
        >>> TrainConfig(num_iterations=5500, batch_size=1000, num_steps=20, learning_rate=1e-4, warmup=1000).buffer_size
        10000
    """

    num_iterations: int = Field(ge=1, description="parameter updates")
    batch_size: int = Field(ge=1, description="data rows per iteration, and as many chains")
    num_steps: int = Field(ge=1, description="kernel steps per iteration")
    completion_steps: int | None = Field(
        None,
        ge=1,
        description="kernel steps by which a row with missing entries is completed; null: 2 for each 5 of num_steps",
    )
    learning_rate: float = Field(gt=0, description="of Adam, after the warm-up")
    warmup: int = Field(0, ge=0, description="iterations over which the learning rate rises linearly from 0")
    decay: Literal["constant", "cosine"] = Field(
        "constant", description="learning rate after the warm-up: constant or cosine to 0"
    )
    beta_1: float = Field(0.9, ge=0, lt=1, description="of Adam: how much of the last gradients it keeps")
    buffer_size: int = Field(10_000, ge=1, description="slots of the replay buffer")
    replacement_rate: float = Field(0.05, ge=0, le=1, description="probability that a drawn chain starts from noise")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="mu of the moving average of the parameters")
    noise_labels: Literal["frequency", "uniform"] = Field(
        "frequency", description="labels of the noise: frequency or uniform"
    )
    noise_reals: Literal["range", "moments"] = Field(
        "range",
        description="reals of the noise: uniform between the minimum and maximum of one batch (range, App. B), or uniform "
        "with its mean and variance (moments)",
    )
    objective: Literal["maximum-likelihood", "summed", "conditional"] = Field(
        "maximum-likelihood",
        description="Eq. 2 with sampled y (maximum-likelihood), with y summed out (summed), or of p(y | x) alone: each "
        "row has a chain of y of its own, and x is clamped to the row's (conditional)",
    )
    sampled_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="of a summed negative phase: weight of the chains' own labels; 0 sums them out alone",
    )
    conditional_weight: float = Field(
        0.0, ge=0, description="weight of an added mean -log p(y | x), by enumeration of y; 0 leaves it out"
    )
    labelled_batch_size: int = Field(
        0, ge=0, description="rows with labels per iteration for that term, drawn apart; 0 takes those of the batch"
    )
    information_weight: float = Field(
        0.0,
        ge=0,
        description="weight of an added mutual information of x and each label over the batch, by enumeration of y: for "
        "few labels in clear classes; 0 leaves it out",
    )
    roughness_weight: float = Field(
        0.0,
        ge=0,
        description="weight of an added change of p(y | x) where x moves by roughness_radius in the worst direction, by "
        "enumeration of y: for few labels in clear classes; 0 leaves it out",
    )
    roughness_radius: float = Field(1.0, gt=0, description="of that move of all reals of a row, in units of positions")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of network evaluations; the state is float32"
    )
    checkpoint_every: int = Field(1000, ge=0, description="iterations between checkpoints; 0 writes none")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that are kept")
    max_rollbacks: int = Field(
        5, ge=0, description="returns to an earlier state at half the learning rate; 0 stops at the first trouble"
    )
    snapshot_every: int = Field(100, ge=1, description="iterations between the states that a rollback returns to")
    log_every: int = Field(10, ge=1, description="iterations between lines of metrics.jsonl")
    hide: Hiding = Field(Hiding(), description="what training may see of its rows")

    @property
    def num_completion_steps(self) -> int:
        """Kernel steps by which a row with missing entries is completed, at each visit.

        Example:
            >>> TrainConfig(num_iterations=1, batch_size=1, num_steps=40, learning_rate=1e-4).num_completion_steps
            16
        """
        return max(1, 2 * self.num_steps // 5) if self.completion_steps is None else self.completion_steps

    @model_validator(mode="after")
    def _labelled_rows_have_a_term(self) -> Self:
        if self.labelled_batch_size and not self.conditional_weight:
            raise ValueError(
                f"labelled_batch_size {self.labelled_batch_size} draws rows for the term that conditional_weight weighs, "
                "but that is 0; set it first"
            )
        return self

    @model_validator(mode="after")
    def _only_a_summed_phase_is_shared(self) -> Self:
        if self.sampled_share and self.objective != "summed":
            raise ValueError(
                f"sampled_share {self.sampled_share:g} is of a summed negative phase, but objective is {self.objective}, "
                "which takes the chains' own labels anyway; set objective=summed first, or sampled_share=0"
            )
        return self

    @model_validator(mode="after")
    def _batch_fits_buffer(self) -> Self:
        if self.batch_size > self.buffer_size:
            raise ValueError(
                f"batch_size {self.batch_size} is more than buffer_size {self.buffer_size}, and every chain of a batch "
                "needs a slot of its own; set a larger buffer_size first, or a smaller batch_size"
            )
        return self
