"""The three kinds of block: `Continuous`, `Binary` and `Categorical`, each with its own encoding.

A block has two shapes: that of its *variables*, which users count and masks cover, and that of its *position*, the float
tensor that kernels move. They differ only for categorical blocks, which are one-hot.

Missing entries are NaN in every position, so an incomplete row cannot be scored by accident.

Legend: N rows, V variables of a block, K classes of a variable, M = sum of K over a ragged group.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from jointebm.randomness.draws import Generator, choose, uniform
from jointebm.spaces.transforms import TRANSFORMS, Identity, Transform

__all__ = ["Binary", "Block", "Categorical", "Continuous"]

Shape = tuple[int, ...]


def _as_shape(kind: str, shape: int | Shape) -> Shape:
    try:
        entries = tuple(shape) if isinstance(shape, Iterable) else (shape,)
        sizes = tuple(operator.index(entry) for entry in entries)  # whole numbers of NumPy too
    except TypeError:
        entries, sizes = (), (0,)
    if any(isinstance(entry, bool) for entry in entries) or min(sizes, default=1) < 1:
        raise ValueError(f"{kind}: a shape is made of whole numbers >= 1, got {shape!r}")
    return sizes


def _first_bad(bad: Tensor, values: Tensor) -> tuple[float, int]:
    """The first offending value and its row, for an error message."""
    index = tuple(bad.nonzero()[0].tolist())
    return values[index].item(), index[0]


def _encode_labels(name: str, kind: str, labels: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """Checks labels (N, *variables) against one number of classes per variable; -1 or NaN is missing."""
    if labels.is_floating_point():
        labels = torch.where(labels.isnan(), -1, labels)
        fractional = ~(labels - labels.floor() == 0)  # infinity counts as fractional
        if fractional.any():
            value, row = _first_bad(fractional, labels)
            raise ValueError(
                f"block {name!r} ({kind}): got {value} in row {row}; labels are whole numbers, and -1 or NaN is missing. "
                "Declare the block Continuous, or map the label before encoding."
            )
    else:
        labels = labels.to(torch.int64)
    wrong = (labels < -1) | (labels >= limits)
    if wrong.any():
        value, row = _first_bad(wrong, labels)
        limit = int(limits.expand_as(labels)[wrong][0])
        raise ValueError(
            f"block {name!r} ({kind}): got label {int(value)} in row {row}; labels run from 0 to {limit - 1}, and -1 is "
            "missing. Declare more classes, or map the label before encoding."
        )
    return labels.to(torch.int64), labels >= 0


class _Shaped:
    """A part of every kind: a shape, and a position of one entry per variable unless a kind says otherwise."""

    shape: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _as_shape(type(self).__name__, self.shape))

    @property
    def variable_shape(self) -> Shape:
        return self.shape

    @property
    def position_shape(self) -> Shape:
        return self.variable_shape

    @property
    def num_variables(self) -> int:
        return math.prod(self.variable_shape)

    def expand(self, mask: Tensor) -> Tensor:
        """Widens a mask over variables to one over the entries of the position."""
        return mask


class _Discrete(_Shaped, ABC):
    """A part of the discrete kinds: noise by class frequency."""

    discrete: ClassVar[bool] = True

    @abstractmethod
    def uniform_noise(self) -> Tensor: ...

    def fit_noise(self, position: Tensor, how: str) -> Tensor:
        """Probability of each class (of the value 1 of a bit): its "frequency" in a batch, or "uniform"."""
        return self.uniform_noise().to(position) if how == "uniform" else position.mean(dim=0)


@dataclass(frozen=True)
class Continuous(_Shaped):
    """A block of real variables.

    Args:
        shape: shape of one row, such as `()`, `2` or `(28, 28)`.
        transform: bijection from values to positions. Values are in the user's units, positions in the kernel's.

    Example:
        >>> Continuous((28, 28)).num_variables
        784
    """

    shape: int | Shape = ()
    transform: Transform = Identity()

    discrete: ClassVar[bool] = False
    kind: ClassVar[str] = "Continuous"

    @property
    def config(self) -> dict[str, Any]:
        numbers = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self.transform).items()}
        transform = {"name": self.transform.name, **numbers}
        return {"kind": "continuous", "shape": list(self.variable_shape), "transform": transform}

    def encode(self, name: str, values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Maps values (N, *shape) to a position of the same shape; NaN is missing, infinity an error.

        Values outside the transform's domain are errors too, except those that `decode` can return.
        """
        (low, high), slack = self.transform.domain, self.transform.slack
        wrong = values.to(dtype).isinf() | (values < low - slack) | (values > high + slack)
        if wrong.any():
            value, row = _first_bad(wrong, values)
            domain = f"finite in {str(dtype)[6:]}" if math.isinf(low) else f"in [{low:g}, {high:g}]"
            raise ValueError(
                f"block {name!r} ({self.kind}): got {value} in row {row}; values must be {domain}, and NaN is missing"
            )
        values = values.to(dtype)
        return self.transform.forward(values), ~values.isnan()

    def decode(self, position: Tensor) -> Tensor:
        """Maps positions back to values (N, *shape); NaN is missing."""
        return self.transform.inverse(position)

    def uniform_noise(self) -> Tensor:
        """Bounds [-1, 1] of every variable, stacked (2, *shape), for use before any data are seen."""
        return torch.stack([-torch.ones(self.variable_shape), torch.ones(self.variable_shape)])

    def fit_noise(self, position: Tensor, how: str) -> Tensor:
        """Bounds of uniform noise for every variable, stacked (2, *shape), from the entries of a batch that are not NaN.

        They are the minimum and maximum ("range"), or those with the batch's mean and variance ("moments"). A variable
        without any entry gets the least and the largest bound of the others.
        """
        missing = position.isnan()
        if how == "moments":
            mean = position.nanmean(dim=0)
            half_width = (3 * (position - mean).square().nanmean(dim=0)).sqrt()  # of a uniform density
            low, high = mean - half_width, mean + half_width
        else:
            low = position.masked_fill(missing, torch.inf).amin(dim=0)
            high = position.masked_fill(missing, -torch.inf).amax(dim=0)
        unknown = missing.all(dim=0)
        low = low.masked_fill(unknown, low[~unknown].min())
        return torch.stack([low, high.masked_fill(unknown, high[~unknown].max())])

    def draw(self, noise: Tensor, num: int, generator: Generator) -> Tensor:
        """Draws positions (num, *shape) uniformly between the bounds in `noise`."""
        low, high = noise
        return low + (high - low) * uniform(low.expand(num, *low.shape), generator)


@dataclass(frozen=True)
class Binary(_Discrete):
    """A block of variables in {0, 1}, one float per variable.

    Args:
        shape: shape of one row.

    Example:
        >>> Binary((5,)).num_classes_per_variable
        (2, 2, 2, 2, 2)
    """

    shape: int | Shape = ()

    kind: ClassVar[str] = "Binary"

    @property
    def num_classes_per_variable(self) -> tuple[int, ...]:
        return (2,) * self.num_variables

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "binary", "shape": list(self.variable_shape)}

    def encode(self, name: str, values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Maps labels (N, *shape) in {0, 1} to floats; -1 or NaN is missing."""
        labels, observed = _encode_labels(name, self.kind, values, values.new_tensor(2, dtype=torch.int64))
        return torch.where(observed, labels.to(dtype), torch.nan), observed

    def decode(self, position: Tensor) -> Tensor:
        """Maps positions back to int64 labels (N, *shape); -1 is missing."""
        return torch.where(position.isnan(), -1, (position > 0.5).to(torch.int64))

    def uniform_noise(self) -> Tensor:
        """Probability 1/2 of the value 1 for every variable."""
        return torch.full(self.variable_shape, 0.5)

    def draw(self, noise: Tensor, num: int, generator: Generator) -> Tensor:
        """Draws positions (num, *shape) with the probabilities in `noise`."""
        return (uniform(noise.expand(num, *noise.shape), generator) < noise).to(noise.dtype)


@dataclass(frozen=True)
class Categorical(_Discrete):
    """A block of one-hot variables, all with the same number of classes or each with its own.

    `Categorical(10)` is one variable, `Categorical(4, (2, 3))` six of four classes, and `Categorical((2, 3, 7))` a
    ragged group of three, stored as one concatenated one-hot row of 12 floats.

    Args:
        num_classes: number of classes (>= 1) of every variable, or one number per variable of a ragged group.
        shape: shape of one row; a ragged group has none, its variables are counted by `num_classes`.

    Example:
        >>> Categorical((2, 3, 7)).position_shape, Categorical((2, 3, 7)).variable_shape
        ((12,), (3,))
        >>> Categorical(4, (2, 3)).position_shape
        (2, 3, 4)
    """

    num_classes: int | tuple[int, ...]
    shape: int | Shape = ()

    def __post_init__(self) -> None:
        counts = _as_shape("Categorical num_classes", self.num_classes)
        object.__setattr__(self, "num_classes", counts if isinstance(self.num_classes, Iterable) else counts[0])
        super().__post_init__()
        if not isinstance(self.num_classes, int) and (self.shape != () or not counts):
            raise ValueError(
                f"Categorical: a ragged group {self.num_classes!r} names at least one variable and takes no shape, "
                f"got shape {self.shape!r}"
            )

    @property
    def ragged(self) -> bool:
        """Whether each variable has a number of classes of its own."""
        return not isinstance(self.num_classes, int)

    @property
    def variable_shape(self) -> Shape:
        """Shape of the variables of one row; (V,) for a ragged group of V."""
        return super().variable_shape if isinstance(self.num_classes, int) else (len(self.num_classes),)

    @property
    def position_shape(self) -> Shape:
        """Shape of the position of one row: (*shape, K), or (M,) for a ragged group."""
        if isinstance(self.num_classes, int):
            return (*self.variable_shape, self.num_classes)
        return (sum(self.num_classes),)

    @property
    def num_classes_per_variable(self) -> tuple[int, ...]:
        counts = self.num_classes
        return (counts,) * self.num_variables if isinstance(counts, int) else counts

    @property
    def kind(self) -> str:
        """The kind and its numbers of classes, for messages."""
        counts = self.num_classes if self.ragged else (self.num_classes,)
        return f"Categorical, {'/'.join(map(str, counts))} classes"  # type: ignore[arg-type]

    @property
    def config(self) -> dict[str, Any]:
        counts = self.num_classes if isinstance(self.num_classes, int) else list(self.num_classes)
        return {"kind": "categorical", "num_classes": counts, "shape": list(self.shape)}  # type: ignore[arg-type]

    def encode(self, name: str, values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Maps labels (N, *variables) to one-hot (N, *position_shape); -1 or NaN is missing."""
        limits = torch.tensor(self.num_classes_per_variable, device=values.device).reshape(self.variable_shape)
        labels, observed = _encode_labels(name, self.kind, values, limits)
        classes = torch.arange(int(limits.max()), device=values.device)
        position = (labels.unsqueeze(-1) == classes).to(dtype)  # (N, *variables, max K)
        position = torch.where(observed.unsqueeze(-1), position, torch.nan)
        if self.ragged:
            position = position[:, classes < limits.unsqueeze(-1)]  # (N, M)
        return position, observed

    def decode(self, position: Tensor) -> Tensor:
        """Maps one-hot positions back to int64 labels (N, *variable_shape); -1 is missing."""
        if self.ragged:
            parts = position.split(list(self.num_classes_per_variable), dim=1)
            return torch.stack([_decode_one_hot(part) for part in parts], dim=1)
        return _decode_one_hot(position)

    def uniform_noise(self) -> Tensor:
        """Probability 1/K of every class, shaped like one row of the position."""
        counts = torch.tensor(self.num_classes_per_variable)
        num_columns = math.prod(self.position_shape)  # given, so that the shape is known without numbers
        return (1 / counts).repeat_interleave(counts, output_size=num_columns).reshape(self.position_shape)

    def draw(self, noise: Tensor, num: int, generator: Generator) -> Tensor:
        """Draws one-hot positions (num, *position_shape) with the class probabilities in `noise`."""
        parts = noise.flatten().split(list(self.num_classes_per_variable))
        drawn = [one_hot(choose(part.log().expand(num, -1), generator), len(part)).to(noise.dtype) for part in parts]
        return torch.cat(drawn, dim=1).reshape(num, *self.position_shape)

    def expand(self, mask: Tensor) -> Tensor:
        if self.ragged:
            counts = torch.tensor(self.num_classes_per_variable, device=mask.device)
            return mask.repeat_interleave(counts, dim=1, output_size=sum(self.num_classes_per_variable))
        return mask.unsqueeze(-1)


def _decode_one_hot(position: Tensor) -> Tensor:
    return torch.where(position.isnan().any(dim=-1), -1, position.nan_to_num().argmax(dim=-1))


Block = Continuous | Binary | Categorical
"""Any kind of block.

Example:
    >>> isinstance(Categorical(3), Block)
    True
"""


def block_from_config(config: dict[str, Any]) -> Block:
    """Rebuilds a block from its `config`."""
    kind = config.get("kind")
    if kind == "continuous":
        transform = dict(config["transform"])
        return Continuous(tuple(config["shape"]), TRANSFORMS[transform.pop("name")](**transform))
    if kind == "binary":
        return Binary(tuple(config["shape"]))
    if kind == "categorical":
        counts = config["num_classes"]
        return Categorical(counts if isinstance(counts, int) else tuple(counts), tuple(config["shape"]))
    raise ValueError(f"block of kind {kind!r}: expected 'continuous', 'binary' or 'categorical'")
