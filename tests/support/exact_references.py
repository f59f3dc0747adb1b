"""References whose every conditional is a sum over few components, written the slow way.

Legend: N rows, J components.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm import Space
from jointebm.randomness.draws import Generator, choose, normal
from jointebm.spaces.space import Mask, Position


@dataclass(frozen=True, eq=False)
class Components:
    """A mixture in which component j has one configuration of the discrete blocks and a Gaussian over the continuous ones.

    With one component per configuration it can be any density over a discrete space.

    Args:
        space: the blocks.
        log_weights: of the components, normalised, shape (J,).
        centres: positions of the components, per block (J, *position_shape).
        scale: standard deviation of every continuous entry.
    """

    space: Space
    log_weights: Tensor
    centres: dict[str, Tensor]
    scale: float = 1.0

    def log_prob(self, position: Position) -> Tensor:
        log_weights, match = self._of_components(position)
        peak = log_weights.detach().amax(dim=1, keepdim=True)
        # Linear in the one-hot position, so that a score exists.
        return ((log_weights - peak).exp() * match).sum(dim=1).log() + peak[:, 0]

    def complete(self, position: Position, generator: Generator) -> dict[str, Tensor]:
        log_weights, match = self._of_components(position)
        return self._filled(position, choose((log_weights + match.log()).detach(), generator), generator)

    def draw(self, num: int, generator: Generator) -> dict[str, Tensor]:
        missing = {name: centre.new_full((num, *centre.shape[1:]), torch.nan) for name, centre in self.centres.items()}
        return self.complete(missing, generator)

    def log_conditional(self, position: Position, free: Mask) -> Tensor:
        missing = {
            name: torch.where(self.space[name].expand(free[name].expand(len(value), *self.space[name].variable_shape)),
                              torch.nan, value) if name in free else value
            for name, value in position.items()
        }  # fmt: skip
        return self.log_prob(position) - self.log_prob(missing)

    def _of_components(self, position: Position) -> tuple[Tensor, Tensor]:
        """Log-density of each component and the known reals, and whether the known labels are its own, each (N, J)."""
        total = self.log_weights.expand(len(next(iter(position.values()))), -1)
        match = torch.ones_like(total)
        for name, centre in self.centres.items():
            value = position[name].flatten(1)[:, None] if position[name].ndim > 1 else position[name][:, None, None]
            place = centre.flatten(1) if centre.ndim > 1 else centre[:, None]
            known = ~value.isnan()
            if self.space[name].discrete:
                match = match * torch.where(known, value * place + (1 - value) * (1 - place), 1).prod(dim=2)
            else:
                squares = -0.5 * ((torch.where(known, value, place) - place) / self.scale).square()
                of_entry = squares - math.log(self.scale) - 0.5 * math.log(2 * math.pi)
                total = total + torch.where(known, of_entry, 0).sum(dim=2)
        return total, match

    def _filled(self, position: Position, component: Tensor, generator: Generator) -> dict[str, Tensor]:
        filled = {}
        for name, value in position.items():
            drawn = self.centres[name][component]
            if not self.space[name].discrete and bool(value.isnan().any()):
                drawn = drawn + self.scale * normal(drawn, generator)
            filled[name] = torch.where(value.isnan(), drawn, value)
        return filled


@dataclass(frozen=True, eq=False)
class TwoTables:
    """A reference whose conditionals are not those of its joint density, as a masked network's are.

    Whole rows are drawn from one density; what is missing in part, from the conditional of another.
    """

    whole: Components
    part: Components

    @property
    def space(self) -> Space:
        return self.whole.space

    def log_prob(self, position: Position) -> Tensor:
        return self.whole.log_prob(position)

    def complete(self, position: Position, generator: Generator) -> dict[str, Tensor]:
        whole = all(bool(value.isnan().all()) for value in position.values())
        return (self.whole if whole else self.part).complete(position, generator)

    def draw(self, num: int, generator: Generator) -> dict[str, Tensor]:
        return self.whole.draw(num, generator)

    def log_conditional(self, position: Position, free: Mask) -> Tensor:
        whole = all(name in free and bool(free[name].all()) for name in self.space)
        return self.whole.log_prob(position) if whole else self.part.log_conditional(position, free)


def random_reference(space: Space, seed: int, *, spread: float = 1.0) -> Components:
    """A random table over the configurations of a small space, each with a Gaussian of its own over the reals."""
    generator = torch.Generator().manual_seed(seed)
    total = space.num_configurations
    centres = dict(space.configurations(dtype=torch.float64)) if space.discrete else {}
    for name in space.continuous:
        shape = (total, *space[name].position_shape)
        centres[name] = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    log_weights = torch.randn(total, generator=generator, dtype=torch.float64).log_softmax(dim=0)
    return Components(space, log_weights, {name: centres[name] for name in space})


def gaussians(space: Space, weights: list[float], means: list[list[float]], scale: float) -> Components:
    """A mixture of Gaussians over the only block of a space."""
    (name,) = space
    centres = torch.tensor(means, dtype=torch.float64).reshape(-1, *space[name].position_shape)
    return Components(space, torch.tensor(weights, dtype=torch.float64).log(), {name: centres}, scale)
