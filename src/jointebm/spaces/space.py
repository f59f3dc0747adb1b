"""A space: the ordered, named blocks of a model, and the border between values and positions.

Legend: N rows or chains, S configurations of all discrete variables together.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, require_generator
from jointebm.spaces.blocks import Binary, Block, Categorical, Continuous, block_from_config

__all__ = ["Mask", "Position", "Space", "Values", "image_block"]

Values = Mapping[str, Any]
"""What a user sees, per block: reals with NaN where missing, and labels with -1 where missing.

Example:
    >>> values: Values = {"x": [0.5, float("nan")], "y": [2, -1]}
    >>> Space(x=Continuous(), y=Categorical(3)).encode(values)[1]["y"]  # what is observed
    tensor([ True, False])
"""

Position = Mapping[str, Tensor]
"""What a kernel sees, per block: one float tensor (N, *position_shape), NaN where missing.

Example:
    >>> position: Position = Space(x=Continuous(), y=Categorical(3)).encode({"x": [0.5], "y": [2]})[0]
    >>> position["y"]
    tensor([[0., 0., 1.]])
"""

Mask = Mapping[str, Tensor]
"""What may move, per block: bool tensors that broadcast to (N, *variable_shape); a block that is left out is clamped.

Example:
    >>> free: Mask = {"x": torch.tensor([True]), "y": torch.tensor([[True], [False]])}
    >>> sorted(free)
    ['x', 'y']
"""


class Space(Mapping[str, Block]):
    """Named blocks of continuous and discrete variables, in order.

    Users see *values*: reals (NaN is missing) and integer labels (-1 or NaN is missing). Kernels see *positions*: one
    float tensor per block, discrete ones 0/1 or one-hot. Only `encode` and `decode` convert between them. A space is
    immutable and hashable.

    Args:
        **blocks: `Continuous`, `Binary` or `Categorical`, by name.

    Example:
        >>> space = Space(point=Continuous(2), group=Categorical((2, 3, 7)), bits=Binary((5,)))
        >>> position, observed = space.encode({"point": [[0.5, 1.0]], "group": [[1, -1, 6]], "bits": [[0, 1, 0, 1, -1]]})
        >>> position["group"].shape, observed["group"].tolist()
        (torch.Size([1, 12]), [[True, False, True]])
        >>> space.decode(position)["group"]
        tensor([[ 1, -1,  6]])
        >>> space.num_configurations
        1344
    """

    def __init__(self, **blocks: Block) -> None:
        if not blocks:
            raise ValueError("Space: needs at least one block, such as Space(point=Continuous(2))")
        for name, block in blocks.items():
            if not isinstance(block, Continuous | Binary | Categorical):
                raise TypeError(
                    f"Space: block {name!r} must be Continuous, Binary or Categorical, got {type(block).__name__}"
                )
        self._blocks = dict(blocks)

    def __getitem__(self, name: str) -> Block:
        return self._blocks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __hash__(self) -> int:
        return hash(tuple(self._blocks.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and tuple(self.items()) == tuple(other.items())

    def __repr__(self) -> str:
        return f"Space({', '.join(f'{name}={block!r}' for name, block in self.items())})"

    @property
    def continuous(self) -> tuple[str, ...]:
        """Names of the continuous blocks, in order."""
        return tuple(name for name, block in self.items() if not block.discrete)

    @property
    def discrete(self) -> tuple[str, ...]:
        """Names of the binary and categorical blocks, in order."""
        return tuple(name for name, block in self.items() if block.discrete)

    @property
    def config(self) -> dict[str, Any]:
        """The space as plain data, for `config.json`."""
        return {name: block.config for name, block in self.items()}

    @staticmethod
    def from_config(config: Mapping[str, dict[str, Any]]) -> "Space":
        """Rebuilds a space from its `config`."""
        return Space(**{name: block_from_config(block) for name, block in config.items()})

    def num_classes(self, name: str) -> tuple[int, ...]:
        """Number of classes of every variable of a discrete block, in the order of its flattened labels.

        Example:
            >>> Space(bits=Binary(2), group=Categorical((2, 3))).num_classes("group")
            (2, 3)
        """
        self.require(name, discrete=True)
        block = self[name]
        assert not isinstance(block, Continuous)
        return block.num_classes_per_variable

    def require(self, names: Iterable[str], *, discrete: bool | None = None) -> None:
        """Raises ValueError if a name is not a block of this space, or not of the kind; a string is one name."""
        wanted = {None: tuple(self), True: self.discrete, False: self.continuous}[discrete]
        for name in (names,) if isinstance(names, str) else names:
            if name not in wanted:
                kind = {None: "block", True: "discrete block", False: "continuous block"}[discrete]
                raise ValueError(f"no {kind} {name!r}; this space has {', '.join(map(repr, wanted)) or 'none'}")

    def encode(
        self, values: Values, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Maps values to positions, and tells which variables are observed.

        A missing entry, and every entry of a block that `values` does not name, is NaN in the position: complete it with
        `clamp` or a kernel before evaluating a log-density.

        Args:
            values: per block, arrays of shape (N, *variable_shape). NaN, and -1 in labels, is missing.
            dtype: of the positions; None is torch's default dtype.
            device: of the positions; None leaves each tensor where it is.

        Returns:
            (position, observed): per block, a float tensor (N, *position_shape) and a bool tensor (N, *variable_shape).

        Raises:
            ValueError: no block, an unknown block, a shape that does not fit, a label out of range, an infinite real.
        """
        self.require(values)
        if not values:
            raise ValueError(f"encode: values name no block; give at least one of {', '.join(map(repr, self))}")
        tensors = {name: self._as_tensor(name, array, device) for name, array in values.items()}
        sizes = {name: tensor.shape[0] if tensor.ndim else 0 for name, tensor in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"encode: every block needs the same number of rows, got {sizes}")
        num_rows = next(iter(sizes.values()))
        position, observed = {}, {}
        for name, block in self.items():
            expected = (num_rows, *block.variable_shape)
            tensor = tensors.get(name)
            if tensor is None:
                tensor = torch.full(expected, -1 if block.discrete else torch.nan, device=device)
            if tensor.shape != expected:
                raise ValueError(
                    f"block {name!r} ({block.kind}): got values of shape {tuple(tensor.shape)}, "
                    f"expected (rows, {', '.join(map(str, block.variable_shape))})".replace(", )", ",)")
                )
            position[name], observed[name] = block.encode(name, tensor, dtype or torch.get_default_dtype())
        return position, observed

    def decode(self, position: Position) -> dict[str, Tensor]:
        """Maps positions back to values, reals (NaN is missing) and int64 labels (-1 is missing), of the same blocks."""
        self.require(position)
        return {name: self[name].decode(position[name]) for name in self if name in position}

    def clamp(
        self,
        given: Values | None,
        *,
        num_chains: int,
        generator: Generator,
        init: Position | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Positions for chains to start from, with the given values in place, and masks of what may move.

        Args:
            given: per block, values that broadcast to (num_chains, *variable_shape); NaN, -1 or an absent block is free.
            num_chains: number of chains N.
            generator: source of the draws.
            init: positions for the free entries to start from, leading axis N (as `Noise.draw` gives); None draws
                reals uniformly on [-1, 1) and labels uniformly over their classes.
            dtype: of the positions; None is that of `init`, or torch's default dtype if nothing is given.
            device: of the positions; None is that of `init`, or the CPU.

        Returns:
            (position, free): per block, a float tensor (N, *position_shape) and a bool tensor (N, *variable_shape).

        Raises:
            ValueError: no chains, an unknown block, or given or initial entries that do not fit.
            TypeError: `generator` is no generator.
        """
        if num_chains < 1:
            raise ValueError(f"clamp: num_chains is a whole number >= 1, got {num_chains}")
        require_generator(generator)
        if init is None:
            dtype = dtype or torch.get_default_dtype()
            init = {
                name: block.draw(block.uniform_noise().to(device=device, dtype=dtype), num_chains, generator)
                for name, block in self.items()
            }
        for name, block in self.items():
            shape = tuple(init[name].shape) if name in init else "none"
            if shape != (num_chains, *block.position_shape):
                raise ValueError(
                    f"block {name!r} ({block.kind}): got initial positions of shape {shape}, expected "
                    f"{(num_chains, *block.position_shape)} (chains, then entries)"
                )
            if not init[name].is_floating_point():
                raise ValueError(
                    f"block {name!r} ({block.kind}): got initial positions of {init[name].dtype}; positions are floats, "
                    "such as `encode` and `Noise.draw` give"
                )
        init = {name: init[name].to(device=device, dtype=dtype) for name in self}
        like = next(iter(init.values()))
        values = {}
        self.require(given or {})
        for name, array in (given or {}).items():
            tensor = self._as_tensor(name, array, like.device)
            shape = (num_chains, *self[name].variable_shape)
            try:
                values[name] = tensor.broadcast_to(shape)
            except RuntimeError:
                raise ValueError(
                    f"block {name!r} ({self[name].kind}): given values of shape {tuple(tensor.shape)} do not broadcast "
                    f"to {shape} (chains, then variables)"
                ) from None
        free = {
            n: torch.ones(num_chains, *b.variable_shape, dtype=torch.bool, device=like.device) for n, b in self.items()
        }
        if not values:
            return dict(init), free
        encoded, observed = self.encode(values, dtype=like.dtype, device=like.device)
        position = {
            name: torch.where(block.expand(observed[name]), encoded[name], init[name]) for name, block in self.items()
        }
        return position, {name: ~mask for name, mask in observed.items()}

    @property
    def num_configurations(self) -> int:
        """Number of joint configurations of all discrete variables (1 without any)."""
        return math.prod(count for name in self.discrete for count in self.num_classes(name))

    def configurations(
        self,
        *,
        start: int = 0,
        stop: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Encodes the configurations number `start` to `stop - 1`, the last variable counting fastest; None is all.

        Raises ValueError if `start` and `stop` are not a range of configurations.

        Example:
            >>> Space(a=Binary(), b=Categorical(3)).configurations(start=2, stop=4)["a"]
            tensor([0., 1.])
        """
        stop = self.num_configurations if stop is None else stop
        if not 0 <= start <= stop <= self.num_configurations:
            raise ValueError(
                f"configurations: got start {start} and stop {stop}, but this space has {self.num_configurations}"
            )
        index = torch.arange(start, stop, device=device)
        labels = {}
        for name in reversed(self.discrete):
            columns: list[Tensor] = []
            for count in reversed(self.num_classes(name)):
                columns.insert(0, index % count)
                index = index // count
            labels[name] = torch.stack(columns, dim=1).reshape(-1, *self[name].variable_shape)
        dtype = dtype or torch.get_default_dtype()
        return {name: self[name].encode(name, labels[name], dtype)[0] for name in self.discrete}

    def configuration_index(self, position: Position) -> Tensor:
        """Number of the configuration of each row without missing labels, (N,), int64; the inverse of `configurations`."""
        if not self.discrete:
            raise ValueError("configuration_index: this space has no discrete block")
        like = position[self.discrete[0]]
        index = torch.zeros(len(like), dtype=torch.int64, device=like.device)
        for name in self.discrete:
            labels = self[name].decode(position[name])
            for column, count in zip(labels.reshape(len(labels), -1).T, self.num_classes(name), strict=True):
                index = index * count + column
        return index

    def _as_tensor(self, name: str, array: Any, device: torch.device | str | None) -> Tensor:
        try:
            # torch reads neither read-only arrays nor negative strides; `np.require` copies those.
            readable = array if isinstance(array, Tensor) else np.require(array, requirements=["C", "W"])
            tensor = torch.as_tensor(readable, device=device)
        except (TypeError, ValueError) as error:
            raise ValueError(f"block {name!r} ({self[name].kind}): cannot be read as numbers: {error}") from None
        if tensor.is_complex():
            raise ValueError(f"block {name!r} ({self[name].kind}): got complex numbers; values are real")
        return tensor


def image_block(space: Space) -> str | None:
    """The first continuous block of shape (height, width); None if the space has no such block.

    Example:
        >>> from jointebm import Continuous
        >>> image_block(Space(point=Continuous(2), image=Continuous((8, 8))))
        'image'
    """
    return next((name for name in space.continuous if len(space[name].variable_shape) == 2), None)
