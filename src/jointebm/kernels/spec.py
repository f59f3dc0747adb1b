"""The joint sampler of a model as plain data, which is read and listed without torch: `build` imports the kernels."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jointebm.storage.config import Config

if TYPE_CHECKING:
    from jointebm.kernels.cycle import Cycle
    from jointebm.kernels.kernel import Kernel
    from jointebm.spaces.space import Space

__all__ = ["KernelSpec"]


class KernelSpec(Config):
    """Algorithm 1: some moves of the discrete blocks, then one move of each continuous block.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> kernel = KernelSpec(step_size=0.1, temperature=0.5).build(Space(x=Continuous(), y=Binary()))
        >>> [type(part).__name__ for part in kernel.kernels]
        ['GibbsWithGradients', 'Langevin']
    """

    discrete: Literal["gibbs-with-gradients", "gibbs", "pairs"] = Field(
        "gibbs-with-gradients",
        description="what moves y: gibbs-with-gradients, gibbs (random scan), or pairs (two labels at once)",
    )
    discrete_moves: int = Field(1, ge=1, le=1000, description="moves of y per joint step")
    discrete_rate: float = Field(
        1.0, gt=0, le=1, description="probability of each move of y; prediction of y always makes them"
    )
    continuous: Literal["langevin", "mala"] = Field("langevin", description="what moves x: langevin or mala")
    step_size: float = Field(gt=0, description="eps of Eq. 3, in position units of the continuous blocks")
    temperature: float = Field(1.0, gt=0, description="lambda of Eq. 3, for x only; y moves at temperature 1")

    def build(self, space: "Space") -> "Cycle":
        """Makes the kernel for a space; kinds of block that the space lacks are left out."""
        from jointebm.kernels.cycle import Cycle
        from jointebm.kernels.lazy import Lazy

        discrete = self.build_discrete(space)
        if self.discrete_rate < 1:
            discrete = tuple(Lazy(kernel, self.discrete_rate) for kernel in discrete)
        return Cycle((*discrete, *self.build_continuous(space)))

    def build_discrete(self, space: "Space") -> "tuple[Kernel, ...]":
        """The kernels that move y, one entry per move, without laziness."""
        from jointebm.kernels.gibbs import Gibbs
        from jointebm.kernels.gibbs_with_gradients import GibbsWithGradients
        from jointebm.kernels.hamming_ball import HammingBall

        if not space.discrete:
            return ()
        if self.discrete == "pairs":
            return (HammingBall(space, radius=2, num_variables=2),) * self.discrete_moves
        kind = GibbsWithGradients if self.discrete == "gibbs-with-gradients" else Gibbs
        return (kind(space),) * self.discrete_moves

    def build_continuous(self, space: "Space") -> "tuple[Kernel, ...]":
        """The kernels that move x, one per continuous block."""
        from jointebm.kernels.langevin import Langevin
        from jointebm.kernels.mala import MALA

        kind = Langevin if self.continuous == "langevin" else MALA
        return tuple(kind(name, self.step_size, self.temperature) for name in space.continuous)
