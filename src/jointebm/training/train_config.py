"""Settings of training, as plain data in a recipe."""

from typing import Literal, Self

from pydantic import Field, model_validator

from jointebm.randomness.device_names import DeviceName
from jointebm.storage.config import Config
from jointebm.training.objectives import BlockObjective, BlockTerm, MaximumLikelihood

__all__ = ["Hiding", "TrainConfig"]

LONG_RUN = 20_000  # kernel steps; the time to compile is that of some thousands of steps of a small network


class Hiding(Config):
    """Which entries of the training rows are hidden; none by default.

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
    """Settings of training: the numbers of Tables 1-3 and our additions.

    Objectives and terms are objects of `jointebm.objectives`; their name alone stands for the object with its defaults.

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
        description="kernel steps that complete a row with missing entries, at each visit; null: 2 for each 5 of num_steps",
    )
    learning_rate: float = Field(gt=0, description="of Adam, after the warm-up")
    warmup: int = Field(0, ge=0, description="iterations over which the learning rate rises linearly from 0")
    decay: Literal["constant", "cosine"] = Field(
        "constant", description="learning rate after the warm-up: constant or cosine to 0"
    )
    beta_1: float = Field(0.9, ge=0, lt=1, description="of Adam: weight of earlier gradients in its mean")
    buffer_size: int = Field(10_000, ge=1, description="slots of the replay buffer")
    replacement_rate: float = Field(0.05, ge=0, le=1, description="probability that a drawn chain starts from noise")
    weighted: bool = Field(
        True,
        description="with a reference, whether chains carry weights; without weights they start at its draws alone, for "
        "spaces of so many reals that a few chains would hold all weight",
    )
    ema_decay: float = Field(0.99, ge=0, lt=1, description="mu of the moving average of the parameters")
    noise_labels: Literal["frequency", "uniform"] = Field(
        "frequency", description="labels of the noise: frequency or uniform"
    )
    noise_reals: Literal["range", "moments"] = Field(
        "range",
        description="reals of the noise: uniform between the minimum and maximum of one batch (range, App. B), or uniform "
        "with its mean and variance (moments)",
    )
    objective: BlockObjective = Field(
        MaximumLikelihood(),
        description="maximum-likelihood: Eq. 2 with sampled y; summed: with y summed out; conditional: of p(y | x) alone, "
        "each row with a chain of y and x clamped; label-groups: of small groups of labels given x and the others; "
        "normalised: of an energy whose log Z is 0",
    )
    terms: tuple[BlockTerm, ...] = Field(
        (), description="added to the loss, by enumeration of y: conditional, information, roughness"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of network evaluations; parameters stay float32"
    )
    device: DeviceName = Field(
        "auto", description="where to train: cuda where there is one, else cpu (auto), or cpu, cuda or mps"
    )
    compile: Literal["auto"] | bool = Field(
        False,
        description="whether steps of chains are compiled, with the same draws: true, false, or auto, which compiles runs "
        "of 20,000 steps or more",
    )
    checkpoint_every: int = Field(1000, ge=0, description="iterations between checkpoints; 0 writes none")
    keep_checkpoints: int = Field(2, ge=1, description="number of newest checkpoints that are kept")
    max_rollbacks: int = Field(
        5,
        ge=0,
        description="returns to an earlier state at half the learning rate; 0 stops at the first sign of divergence",
    )
    snapshot_every: int = Field(100, ge=1, description="iterations between the states that a rollback returns to")
    log_every: int = Field(10, ge=1, description="iterations between lines of metrics.jsonl")
    hide: Hiding = Field(Hiding(), description="entries of the training rows that are hidden")

    @property
    def num_completion_steps(self) -> int:
        """Kernel steps that complete a row with missing entries, at each visit.

        Example:
            >>> TrainConfig(num_iterations=1, batch_size=1, num_steps=40, learning_rate=1e-4).num_completion_steps
            16
        """
        return max(1, 2 * self.num_steps // 5) if self.completion_steps is None else self.completion_steps

    @property
    def compiles(self) -> bool:
        """Whether steps of chains are compiled: a plain rule, so that a resumed run does as it did before.

        Example:
            >>> config = TrainConfig(num_iterations=999, batch_size=1, num_steps=20, learning_rate=1e-4, compile="auto")
            >>> config.compiles, config.model_copy(update={"num_iterations": 1000}).compiles
            (False, True)
        """
        return self.num_iterations * self.num_steps >= LONG_RUN if self.compile == "auto" else self.compile

    @model_validator(mode="after")
    def _batch_fits_buffer(self) -> Self:
        if self.batch_size > self.buffer_size:
            raise ValueError(
                f"batch_size {self.batch_size} is more than buffer_size {self.buffer_size}, but every chain of a batch "
                "needs its own slot; set a larger buffer_size first, or a smaller batch_size"
            )
        return self
