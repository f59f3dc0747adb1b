"""Gibbs sampling of a label that takes the continuous blocks along: from the place of one class to that of another.

Legend: N chains, V variables of the discrete block, K classes (the largest number of any variable), C classes of all
variables together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity
from jointebm.kernels.columns import Columns, columns_of, require_same
from jointebm.kernels.gibbs import choose_variable, draw_candidate, with_each_class
from jointebm.kernels.kernel import Info, Kernel, anything_free, nothing_moved
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["ShiftedGibbs"]


@dataclass(frozen=True, eq=False)
class ShiftedGibbs(Kernel):
    """Draws a label y_v from its exact conditional while x - m(y_v) stays the same.

    (x, y_v) -> (x - m(y_v) + m(k), k),    k ~ softmax over k of f(x - m(y_v) + m(k), y_v = k, everything else)

    Adjusted by construction, and reversible: the K places form a set that is the same seen from each of them, and the map
    between two of them has Jacobian 1, so any m leaves exp(f) of the free entries, given the clamped ones, exactly
    invariant. Only free entries of x are shifted. A good m is the place of each class, such as the mean of x given y_v;
    where labels do not decide places, this is no better than `Gibbs` and costs an encoder pass per class.

    Args:
        space: the blocks.
        block: name of the discrete block. One of its free variables moves per chain and step, drawn uniformly per chain.
        shift: m, per continuous block that moves along: shape (C, *shape), one row per class of each variable, in order
            (two rows per variable of a binary block), in position units. A single tensor is for the only continuous block.

    Example:
        >>> from jointebm import Continuous, Categorical, kernels
        >>> space, generator = Space(x=Continuous(), y=Categorical(2)), torch.Generator().manual_seed(0)
        >>> def log_density(position):  # y has weights .25 and .75, and x lies 20 standard deviations apart
        ...     centre = 20 * position["y"][:, 1]
        ...     return -0.5 * (position["x"] - centre).square() + 1.0986 * position["y"][:, 1]
        >>> kernel = ShiftedGibbs(space, "y", torch.tensor([0.0, 20.0]))
        >>> chain = kernels.evaluate(log_density, {"x": torch.zeros(1000), "y": torch.eye(2)[[0] * 1000]})
        >>> free = {"x": torch.tensor(True), "y": torch.tensor(True)}
        >>> chain, info = kernel.step(log_density, chain, free=free, generator=generator)
        >>> bool(abs((chain.position["x"] == 20).float().mean() - 0.75) < 0.05)
        True
    """

    space: Space
    block: str
    shift: Mapping[str, Tensor] | Tensor

    uses_score = False
    adjusted = True

    def __post_init__(self) -> None:
        self.space.require(self.block, discrete=True)
        shift, continuous = self.shift, self.space.continuous
        if isinstance(shift, Tensor):
            if len(continuous) != 1:
                raise ValueError(
                    f"ShiftedGibbs: got one shift for {len(continuous)} continuous blocks; pass a mapping such as "
                    "{'x': tensor}"
                )
            shift = {continuous[0]: shift}
        self.space.require(shift, discrete=False)
        total = sum(self.space.num_classes(self.block))
        for name, tensor in shift.items():
            expected = (total, *self.space[name].position_shape)
            if tensor.shape != expected or not bool(tensor.isfinite().all()):
                raise ValueError(
                    f"ShiftedGibbs: shift of block {name!r} must be finite and of shape {expected}, one row per class of "
                    f"block {self.block!r}; got shape {tuple(tensor.shape)}"
                )
        object.__setattr__(self, "shift", {name: tensor.detach() for name, tensor in shift.items()})

    @staticmethod
    def from_data(space: Space, position: Position, block: str) -> "ShiftedGibbs":
        """Estimates m from rows: the mean of each entry of x over the rows that have it and are of the class.

        A class without such a row gets the mean over all rows, and an entry that no row has gets 0: any m is exact.

        Args:
            space: the blocks.
            position: rows, per block (N, *position_shape); NaN is missing.
            block: name of the discrete block.

        Example:
            >>> from jointebm import Binary, Continuous
            >>> space = Space(x=Continuous(), y=Binary())
            >>> rows = {"x": torch.tensor([1.0, 3.0, torch.nan, 8.0]), "y": torch.tensor([0.0, 0.0, 1.0, 1.0])}
            >>> ShiftedGibbs.from_data(space, rows, "y").shift["x"]
            tensor([2., 8.])
        """
        space.require(block, discrete=True)
        labels = space[block].decode(position[block]).reshape(len(position[block]), -1)  # (N, V), -1 is missing
        counts = space.num_classes(block)
        member = torch.cat(
            [
                column[:, None] == torch.arange(k, device=labels.device)
                for column, k in zip(labels.T, counts, strict=True)
            ],
            dim=1,
        )  # (N, C)
        shift = {}
        for name in space.continuous:
            x = position[name].reshape(len(labels), -1)  # (N, D)
            known = (~x.isnan()).to(x.dtype)
            overall = (x.nan_to_num().sum(dim=0) / known.sum(dim=0).clamp(min=1)).expand(member.shape[1], -1)  # (C, D)
            num = member.to(x.dtype).T @ known
            mean = (member.to(x.dtype).T @ x.nan_to_num()) / num.clamp(min=1)
            shift[name] = torch.where(num > 0, mean, overall).reshape(-1, *space[name].position_shape)
        return ShiftedGibbs(space, block, shift)

    def learned(self, position: Position, score: Position | None = None) -> "ShiftedGibbs":  # noqa: ARG002
        """This kernel with shifts estimated from rows, as `from_data` does, for the blocks that it moves along."""
        learned = ShiftedGibbs.from_data(self.space, position, self.block)
        return ShiftedGibbs(self.space, self.block, {name: learned.shift[name] for name in self.shift})  # type: ignore[index]

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has the label and the blocks that move along, as the kernel was made for."""
        require_same(self, self.space, (self.block, *self.shift), space)

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Draws one variable per chain; costs K evaluations per chain in one batch, without any backward pass."""
        if not anything_free(chain, free, self.block):
            return chain, nothing_moved(chain)
        columns = columns_of(self.space, (self.block,), chain.f.device)
        free_variables = columns.join_free(free, len(chain.f))  # (N, V)
        variable, movable = choose_variable(free_variables, generator, like=chain.f)
        candidates = self._candidates(columns, chain, variable, free)
        drawn, probs = draw_candidate(columns, log_density, chain, variable, movable, candidates, generator)
        undefined = movable & probs.isnan().any(dim=1)
        return drawn, Info(torch.where(undefined, torch.nan, movable.to(chain.f.dtype)), movable)

    def _candidates(self, columns: Columns, chain: Chain, variable: Tensor, free: Mask) -> dict[str, Tensor]:
        """Each class of the variable, with x where that class puts it, per block that moves (N, K, *position_shape)."""
        position, classes = chain.position, torch.arange(columns.max_classes, device=variable.device)
        candidates = with_each_class(columns, position, variable)
        first = columns.num_classes.cumsum(0) - columns.num_classes  # row of the first class of each variable
        label = columns.label_of(columns.join(position), variable)
        last = columns.num_classes[variable][:, None] - 1
        old, new = first[variable] + label, first[variable][:, None] + classes.minimum(last)  # (N,), (N, K)
        for name, places in self.shift.items():  # type: ignore[union-attr]  # __post_init__ made it a mapping
            if not anything_free(chain, free, name):
                continue  # so that an encoding of it stays valid
            x, shift = position[name], places.to(position[name])
            shifted = x[:, None] + (shift[new] - shift[old][:, None])  # (N, K, *shape); no change at the present class
            mask = free[name].expand(x.shape)[:, None]
            candidates[name] = torch.where(mask, shifted, x[:, None])
        return candidates
