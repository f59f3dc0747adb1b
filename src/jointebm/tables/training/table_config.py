"""Settings of a table fit, as plain data."""

from typing import Literal, NamedTuple

from pydantic import Field

from jointebm.storage.config import Config
from jointebm.training.objectives import MaximumLikelihood, TableObjective

__all__ = ["Progress", "TableConfig"]


class TableConfig(Config):
    """Settings of a table fit.

    Example:
        >>> TableConfig(objective="pseudo-likelihood").objective.num_candidates
        8
    """

    objective: TableObjective = Field(
        MaximumLikelihood(),
        description="maximum-likelihood: a warm start by the pseudo-likelihood, then persistent chains (Eq. 2) if there are "
        "1,000 rows or more; pseudo-likelihood: exact conditionals of each column alone",
    )
    base: Literal["independent", "mixture"] = Field(
        "independent",
        description="start of the energy: the columns' marginals, or the reference, a mixture",
    )
    max_components: int = Field(64, ge=1, description="components of the mixture, at most")
    rows_per_component: int = Field(100, ge=1, description="training rows for each component, at least")
    prior_strength: float = Field(5.0, gt=0, description="rows, distributed like the marginals, in every component")
    width: int = Field(384, ge=1, description="units of each hidden layer")
    batch_size: int = Field(
        480,
        ge=1,
        description="rows per iteration, and as many chains, at most; a small table takes a twentieth of its rows",
    )
    learning_rate: float = Field(2e-3, gt=0, description="of Adam, at its peak")
    warmup_share: float = Field(
        0.05, ge=0, le=1, description="share of the iterations over which the learning rate rises; then it falls to 0"
    )
    num_visits: int = Field(
        35, ge=0, description="times each row is in a batch, or more in a small table; 0 leaves the base as it is"
    )
    max_iterations: int = Field(5000, ge=1, description="parameter updates, at most")
    warm_start: float = Field(
        6 / 7, ge=0, lt=1, description="share of the iterations of maximum-likelihood that its warm start takes"
    )
    chain_rate: float = Field(
        0.15, gt=0, description="learning rate of the iterations with chains, as a share of that of the warm start"
    )
    num_looks: int = Field(20, ge=1, description="times the held-out rows are scored")
    patience: int = Field(5, ge=1, description="scores without improvement after which a warm start stops")
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="of hidden layers in training")


class Progress(NamedTuple):
    """Progress of a fit.

    Args:
        fraction: of the iterations, in [0, 1]; training may stop earlier.
        log_score: mean conditional log score of held-out rows, nats per observed entry.
        seconds: since the start.
    """

    fraction: float
    log_score: float
    seconds: float
