"""What processes tell one another about an attempt at an iteration, and what follows for all of them.

Every process checks its own rows and chains. A sign of divergence in any of them is one for all, and the gravest decides:
rows of data that are not finite end training, chains that diverged restart, everything else rolls all processes back.

The loss of all processes is that of the union of their rows and chains. With n_r of the n rows in process r, the mean Z_r of
the weights of its chains, and W_r the part of its loss that is a mean by these weights,

    loss = sum_r n_r / n (loss_r + (Z_r / Z - 1) W_r),   Z = sum_r n_r / n Z_r

so that weights are normalised over all chains, and one backward pass per process is enough.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from jointebm.training.divergence import Diverged, Scales
from jointebm.training.world import World

__all__ = ["Attempt", "Numbers", "account_of", "own_loss", "raise_agreed", "shared_scales"]

RESTARTS = ("chain", "proposal")  # signs about single chains


class Numbers(Protocol):
    """What an attempt found, as JSON data: what other processes are told."""

    @property
    def rows(self) -> int:
        """Rows of data, and as many chains."""
        ...

    @property
    def log_normalizer(self) -> float | None:
        """log of the mean weight of the chains, nats; None if they carry none."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


class Attempt(Protocol):
    """An iteration up to its loss, from which nothing was learned yet."""

    @property
    def loss(self) -> Tensor:
        """A scalar; its gradient is descended."""
        ...

    @property
    def of_chains(self) -> Tensor | None:
        """The part of the loss that is a mean by the weights of the chains; None if they carry none."""
        ...

    @property
    def numbers(self) -> Numbers:
        """What it found."""
        ...


def account_of(attempt: Attempt | None, trouble: Diverged | None, scales: Scales, norm: float) -> dict[str, Any]:
    """What a process tells the others.

    Args:
        attempt: of this process; None after a sign of divergence.
        trouble: the sign that it saw; None if it saw none.
        scales: of this process, after the attempt.
        norm: of the last gradient, which must be that of all processes.
    """
    sign = None
    if trouble is not None:
        num_chains = 0 if trouble.chains is None else int(trouble.chains.sum())
        sign = {"kind": trouble.kind, "finding": trouble.finding, "num_chains": num_chains}
    numbers = None if attempt is None else attempt.numbers._asdict()
    return {"sign": sign, "numbers": numbers, "scales": scales.state(), "norm": norm}


def raise_agreed(accounts: Sequence[Mapping[str, Any]], trouble: Diverged | None, world: World) -> None:
    """Raises in every process if any saw a sign of divergence: of the gravest kind, with its own chains.

    Raises:
        FloatingPointError: the processes have different gradients, so that their parameters have drifted apart.
    """
    if len({account["norm"] for account in accounts}) > 1:
        norms = ", ".join(str(account["norm"]) for account in accounts)
        raise FloatingPointError(
            f"processes: their gradients differ in norm: {norms}; run all of them on machines of one kind with the same "
            "versions, and resume from the newest checkpoint"
        )
    signs = [(rank, account["sign"]) for rank, account in enumerate(accounts) if account["sign"] is not None]
    if not signs:
        return
    if trouble is not None and world.size == 1:
        raise trouble
    rank, gravest = min(signs, key=lambda each: (each[1]["kind"] != "data", each[1]["kind"] in RESTARTS))
    restarts = gravest["kind"] in RESTARTS
    elsewhere = sum(sign["num_chains"] for other, sign in signs if other != world.rank)
    raise Diverged(
        gravest["kind"],
        f"process {rank} of {world.size}: {gravest['finding']}",
        trouble.chains if trouble is not None and restarts else None,
        num_elsewhere=elsewhere if restarts else 0,
    ) from trouble


def shared_scales(accounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over processes of what was usual: running means of means, equal in all of them."""
    first = accounts[0]["scales"]
    if len(accounts) == 1:
        return dict(first)
    num = len(accounts)
    means = {name: sum(account["scales"][name] for account in accounts) / num for name in first}
    return {**means, "num_healthy": first["num_healthy"]}


def own_loss(attempt: Attempt, accounts: Sequence[Mapping[str, Any]], world: World) -> Tensor:
    """What this process adds to the loss of all: the sum of these gradients is that of the union of rows and chains."""
    told = [account["numbers"] for account in accounts]
    total = sum(numbers["rows"] for numbers in told)
    loss, own = attempt.loss, told[world.rank]
    if attempt.of_chains is not None and world.size > 1:
        logs = [numbers["log_normalizer"] + math.log(numbers["rows"] / total) for numbers in told]
        top = max(logs)
        log_normalizer = top + math.log(sum(math.exp(each - top) for each in logs))
        loss = loss + (math.exp(own["log_normalizer"] - log_normalizer) - 1) * attempt.of_chains
    return loss if world.size == 1 else loss * (own["rows"] / total)
