"""Settings of a table fit, as plain data."""

from typing import Literal, NamedTuple

from pydantic import Field

from jointebm.storage.config import Config

__all__ = ["Progress", "TableConfig"]


class TableConfig(Config):
    """How to train on a table.

    Example:
        >>> TableConfig(objective="pcd").base
        'independent'
    """

    objective: Literal["pcd", "pseudo-likelihood"] = Field(
        "pcd",
        description="exact conditionals of each column, then persistent chains (Eq. 2) if rows are many; or the first alone",
    )
    base: Literal["independent", "mixture"] = Field(
        "independent",
        description="what the energy starts at: the columns' marginals, or the mixture that guides samplers",
    )
    max_components: int = Field(64, ge=1, description="components of the mixture, at most")
    rows_per_component: int = Field(100, ge=1, description="training rows for each component, at least")
    prior_strength: float = Field(5.0, gt=0, description="rows, distributed like the marginals, in every component")
    width: int = Field(384, ge=1, description="units of each hidden layer")
    num_layers: int = Field(2, ge=1, description="hidden layers")
    batch_size: int = Field(
        480,
        ge=1,
        description="rows per iteration, and as many chains, at most; a small table takes a twentieth of its rows",
    )
    num_candidates: int = Field(
        8, ge=2, description="classes that a code is told from in an iteration; with no more than these, from all"
    )
    learning_rate: float = Field(2e-3, gt=0, description="of AdamW; rises over warmup, then falls as a cosine to 0")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the iterations over which the learning rate rises")
    num_visits: int = Field(
        35, ge=0, description="times each row is in a batch, or more in a small table; 0 leaves the base as it is"
    )
    max_iterations: int = Field(5000, ge=1, description="parameter updates, at most")
    warm_start: float = Field(
        6 / 7, ge=0, lt=1, description="share of the iterations of pcd that are pseudo-likelihood's, to begin with"
    )
    chain_rate: float = Field(
        0.15, gt=0, description="learning rate of the iterations with chains, as a share of that of the others"
    )
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="share of the rows held out for early stopping")
    max_validation: int = Field(1000, ge=1, description="rows held out, at most")
    num_looks: int = Field(20, ge=1, description="times the held-out rows are looked at")
    patience: int = Field(5, ge=1, description="looks without improvement after which training stops")
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="of hidden layers in training")


class Progress(NamedTuple):
    """How far a fit is.

    Args:
        fraction: of the iterations, in [0, 1]; training may stop earlier.
        log_score: mean conditional log score of held-out rows, nats per observed entry.
        seconds: since the start.
    """

    fraction: float
    log_score: float
    seconds: float
