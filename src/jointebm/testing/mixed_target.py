"""A target over any space whose draws and conditionals are exact: data for tests of kernels and samplers.

Legend: N rows, S configurations of the labels, D real entries, K classes.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, choose, normal
from jointebm.spaces.space import Mask, Position, Space
from jointebm.testing.invariance import Statistics, entry

__all__ = ["MixedTarget"]


class MixedTarget:
    """A random density over labels and reals that depend on one another, with exact draws of any part given the rest.

    p(c) for each configuration c of the labels;   x = mean_c + scale_c * v,   v ~ N(0, R),
    f = log p(c) + log N(x; mean_c, scale_c R scale_c) + tilt * y (1 - y)

    R has correlations of 0.6. The last term is zero at every configuration and bends f between the corners of the one-hot
    cube, so that its gradient is a poor guide: moves that use it depend on their Metropolis correction. All tensors are
    float64; positions must be, too.

    All S configurations are held in memory, and every evaluation costs S normal densities: keep the space small.

    Args:
        space: the blocks.
        seed: of the parameters.
        strength: how far probabilities and means lie apart. Far beyond 1, chains need long to cross between modes.

    Example:
        >>> from jointebm import Binary, Continuous, kernels
        >>> from jointebm.testing import conditional_path, rank_test
        >>> target = MixedTarget(Space(x=Continuous(2), bit=Binary()), seed=0)
        >>> path = conditional_path(target, target.space, kernels.GibbsWithGradients(target.space))
        >>> rank_test(path, target, target.space, target.draw, statistics=target.statistics,
        ...           generator=torch.Generator().manual_seed(0)).rejected
        False
    """

    def __init__(self, space: Space, *, seed: int = 0, strength: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        num, width = space.num_configurations, sum(math.prod(space[name].variable_shape) for name in space.continuous)

        def draw(*shape: int) -> Tensor:
            return normal(torch.empty(shape, dtype=torch.float64), generator)

        self.space = space
        self.log_probs = (0.8 * strength * draw(num)).log_softmax(dim=0)  # (S,)
        self.means, self.scales = 0.6 * strength * draw(num, width), (0.4 * draw(num, width)).exp()  # (S, D)
        self.correlation = torch.full((width, width), 0.6, dtype=torch.float64).fill_diagonal_(1.0)
        self.tilt = {name: 2.0 * draw(*space[name].position_shape) for name in space.discrete}
        self.configurations = space.configurations(dtype=torch.float64)

    def __call__(self, position: Position) -> Tensor:
        """f, shape (N,), nats."""
        x = self._reals(position)
        f = self.at(position, self.log_probs + self._log_normal(x, torch.ones_like(x)))
        return f + self._pull({name: position[name] * (1 - position[name]) for name in self.tilt}, f)

    def at(self, position: Position, table: Tensor) -> Tensor:
        """The entry of each row of a table (N, S) that belongs to the row's labels, shape (N,); multilinear in between."""
        for column in self._classes(position):
            table = (table.reshape(len(table), column.shape[1], -1) * column[:, :, None]).sum(dim=1)
        return table[:, 0]

    @property
    def statistics(self) -> Statistics:
        """Functions of a position that wrong kernels are likely to change, for the tests of this folder.

        They are f, the pull of the tilt, the first and last entry of every block, the squares of reals, and the product of
        the first two reals.
        """
        found: dict[str, Callable[[Position], Tensor]] = {"f": self}
        if self.tilt:
            found["pull"] = lambda position: self._pull(position, next(iter(position.values())).new_zeros(()))
        for name, block in self.space.items():
            for place in {0, math.prod(block.position_shape) - 1}:
                found[f"{name}[{place}]"] = partial(entry, name, place, 1)
                if not block.discrete:
                    found[f"{name}[{place}]^2"] = partial(entry, name, place, 2)
        if self.means.shape[1] > 1:
            found["x0 x1"] = lambda position: self._reals(position)[:, :2].prod(dim=1)
        return found

    def draw(self, num: int, generator: Generator) -> dict[str, Tensor]:
        """Exact, independent draws of everything, with leading axis `num`."""
        like = {
            name: torch.zeros(num, *block.position_shape, dtype=torch.float64) for name, block in self.space.items()
        }
        return self.redraw(like, {}, generator)

    def redraw(self, position: Position, free: Mask, generator: Generator) -> dict[str, Tensor]:
        """Exact draws of what is *not* free, given what is: the `Redraw` of `geweke_test`.

        Args:
            position: per block, shape (N, *position_shape), float64.
            free: per block, what is known here, a mask that broadcasts to (N, *variable_shape); a block that it leaves out
                is drawn.
            generator: source of all draws.
        """
        num, nothing = len(next(iter(position.values()))), torch.tensor(False)
        known = {n: free.get(n, nothing).expand(num, *block.variable_shape) for n, block in self.space.items()}
        x, known_x = self._reals(position), self._reals(known).to(torch.float64)
        log_weights = self.log_probs + self._log_normal(x, known_x)  # (N, S)
        for name, every in self.configurations.items():
            differs = (position[name][:, None] != every) & self.space[name].expand(known[name])[:, None]
            log_weights = log_weights.masked_fill(differs.reshape(num, len(every), -1).any(dim=2), -torch.inf)
        c = choose(log_weights, generator)
        v = normal(x, generator) @ torch.linalg.cholesky(self.correlation).T
        # Matheron's rule: a draw of everything, moved by the error that it makes in the known entries.
        error = ((x - self.means[c]) / self.scales[c] - v) * known_x
        v = v + torch.einsum("de,nef,nf->nd", self.correlation, self._precision(known_x) * known_x[:, :, None], error)
        drawn = {name: every[c] for name, every in self.configurations.items()}
        widths = [math.prod(self.space[name].variable_shape) for name in self.space.continuous]
        reals = (self.means[c] + self.scales[c] * v).split(widths, dim=1)
        for name, part in zip(self.space.continuous, reals, strict=True):
            drawn[name] = part.reshape(num, *self.space[name].variable_shape)
        return {n: torch.where(b.expand(known[n]), position[n], drawn[n]) for n, b in self.space.items()}

    def _reals(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Continuous blocks side by side, (N, D)."""
        num = len(next(iter(parts.values())))
        flat = [parts[name].reshape(num, -1) for name in self.space.continuous]
        return torch.cat(flat, dim=1) if flat else torch.zeros(num, 0, dtype=torch.float64)

    def _pull(self, position: Position, like: Tensor) -> Tensor:
        """Sum of tilt * position over the discrete blocks, (N,)."""
        return sum(((self.tilt[n] * position[n]).reshape(len(position[n]), -1).sum(1) for n in self.tilt), 0 * like)

    def _log_normal(self, x: Tensor, known: Tensor) -> Tensor:
        """Log-density, up to a constant, of the known entries of each row, (N, D), in each configuration, (N, S)."""
        v = (x[:, None] - self.means) / self.scales * known[:, None]  # (N, S, D)
        squares = torch.einsum("nsd,nde,nse->ns", v, self._precision(known), v)
        return -0.5 * squares - known @ self.scales.log().T

    def _precision(self, known: Tensor) -> Tensor:
        """Inverse of the correlation of the known entries of each row, (N, D, D); the identity in the others."""
        return (known[:, :, None] * self.correlation * known[:, None] + (1 - known).diag_embed()).inverse()

    def _classes(self, position: Position) -> list[Tensor]:
        """Probabilities of the classes of each discrete variable, (N, K), in the order of `Space.configurations`."""
        columns: list[Tensor] = []
        for name in self.space.discrete:
            flat, counts = position[name].reshape(len(position[name]), -1), self.space.num_classes(name)
            if flat.shape[1] < sum(counts):  # a binary variable is one column
                columns += [torch.stack([1 - bit, bit], dim=1) for bit in flat.T]
            else:
                columns += flat.split(list(counts), dim=1)
        return columns
