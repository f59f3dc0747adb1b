"""Settings of a table fit, as plain data."""

from typing import Literal, NamedTuple

from pydantic import Field

from jointebm.references.network_prior import WEIGHT_PRIOR
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
        description="maximum-likelihood: weighted chains, or weighted draws of the proposal where these are enough, plus "
        "some of the pseudo-likelihood; pseudo-likelihood: exact conditionals of each column alone, which learns little "
        "about how often each kind of row occurs",
    )
    max_components: int = Field(64, ge=1, description="components of the reference, at most")
    rows_per_component: int = Field(100, ge=1, description="training rows for each component, at least")
    prior_strength: float = Field(5.0, gt=0, description="rows, distributed like the marginals, in every component")
    width: int = Field(384, ge=1, description="units of each hidden layer")
    weight_prior: float = Field(
        WEIGHT_PRIOR,
        ge=0,
        description="strength of the normal prior of the networks' weights: 1 is that of Bayes' rule, 0 is no prior",
    )
    batch_size: int = Field(
        480,
        ge=1,
        description="rows per iteration, and as many chains, at most; fewer in small tables and with few visits",
    )
    learning_rate: float = Field(
        2e-3,
        gt=0,
        description="of Adam, at its peak; with V > 10 columns and 500 training rows it is this times (10 / V)^(3/2)",
    )
    warmup_share: float = Field(
        0.05, ge=0, le=1, description="share of the iterations over which the learning rate rises; then it falls to 0"
    )
    num_visits: int = Field(
        250, ge=0, description="times each row is in a batch, at most; 0 leaves the density at the reference"
    )
    max_iterations: int = Field(
        3000,
        ge=1,
        description="parameter updates, at most; with V > 10 columns this times 10 / V, below 500 rows (10 / V)^2",
    )
    pseudo_weight: float = Field(
        1.0, ge=0, description="weight of the pseudo-likelihood in the loss of maximum-likelihood"
    )
    num_looks: int = Field(20, ge=1, description="times the held-out rows are scored")
    patience: int = Field(
        8, ge=1, description="scores below the best by more than its error of log Z, after which training stops"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="of hidden layers in the pseudo-likelihood"
    )


class Progress(NamedTuple):
    """Progress of a fit.

    Args:
        fraction: of the iterations, in [0, 1]; training may stop earlier.
        log_likelihood: mean log p of held-out rows (of their observed codes), nats per row.
        log_score: mean conditional log score of held-out rows, nats per observed entry.
        seconds: since the start.
    """

    fraction: float
    log_likelihood: float
    log_score: float
    seconds: float
