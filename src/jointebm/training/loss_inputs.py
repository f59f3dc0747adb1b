"""What losses are given: data and chains of one iteration."""

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BeforeValidator, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from jointebm.randomness.draws import Generator
    from jointebm.spaces.space import Mask, Position, Space

__all__ = ["PLAIN", "LossInputs", "by_default_names", "space_of"]

PLAIN = ConfigDict(extra="forbid", allow_inf_nan=False)  # of objectives and terms


class LossInputs(NamedTuple):
    """Data and chains of one iteration.

    Args:
        positive: N rows of data, completed; a table's rows are one block "codes", shape (N, V), int64.
        negative: chains of the model; empty if the objective needs none.
        space: the blocks; None for a table.
        missing: per block, which entries of `positive` were not observed, (N, *variable_shape), bool; None: all were.
        generator: source of what a loss draws itself; None if it draws nothing.
        log_weights: of the chains, (N,), nats, up to a constant; None: equal weights.

    Example:
        >>> import torch
        >>> inputs = LossInputs(positive={"x": torch.ones(2)}, negative={"x": torch.zeros(3)})
        >>> inputs.missing is None  # all entries of the data were observed
        True
    """

    positive: "Position"
    negative: "Position"
    space: "Space | None" = None
    missing: "Mask | None" = None
    generator: "Generator | None" = None
    log_weights: "Tensor | None" = None


def space_of(inputs: LossInputs) -> "Space":
    """The space of the inputs of a loss that sums over labels."""
    if inputs.space is None:
        raise ValueError("objective: this one sums over labels, so its inputs need the space of the blocks")
    return inputs.space


def by_default_names(*kinds: type) -> BeforeValidator:
    """Lets a name stand for the object with its defaults."""

    def by_name(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        known = {kind().name: kind for kind in kinds}
        if value not in known:
            raise ValueError(f"unknown name {value!r}; known: {', '.join(known)}")
        return known[value]()

    return BeforeValidator(by_name)
