"""What a run of kernels returns: the last states of its chains, how far to trust them, and the states that were kept.

Legend: N chains, T kept states.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from jointebm.kernels import Chain
from jointebm.sampling.diagnostics import Diagnostics
from jointebm.sampling.rank_diagnostics import Convergence, convergence_of

__all__ = ["Samples", "Trajectory"]


class Samples(NamedTuple):
    """The last states of N chains.

    Args:
        values: per block, shape (N, *variable_shape), in the user's units, on the CPU.
        chain: the last positions with f and score, on the device of the log-density.
        accept_rate: mean accept_prob of each kernel of the cycle over steps and chains, in order; empty without steps.
        num_steps: steps done.
        diagnostics: how far to trust them. Chains have an ess of 1, since each has one start that no weight has chosen, and
            infinite if they have nothing to move. Jumps are means over all chains. Split R-hat is that of f, all reals and
            all labels in the second half of the steps; None below 7 steps and in runs of `SamplingState`.

    Example:
        >>> from jointebm import Binary, Continuous, Space, kernels, sample
        >>> space = Space(y=Binary())
        >>> f, gibbs, generator = lambda position: 9 * position["y"], kernels.Gibbs(space), torch.Generator().manual_seed(0)
        >>> drawn = sample(f, space, gibbs, num_chains=3, num_steps=5, generator=generator)
        >>> drawn.values["y"], drawn.accept_rate, drawn.num_steps
        (tensor([1, 1, 1]), (1.0,), 5)
        >>> apart, mala = Space(x=Continuous()), kernels.MALA("x", 1.0)  # no chain crosses between -9 and 9
        >>> def two_modes(position): return -0.5 * (position["x"].abs() - 9).square()
        >>> drawn = sample(two_modes, apart, mala, num_chains=9, num_steps=99, generator=generator)
        >>> drawn.diagnostics.r_hat > 5, drawn.diagnostics.accept_rate["MALA"] > 0.8
        (True, True)
    """

    values: dict[str, Tensor]
    chain: Chain
    accept_rate: tuple[float, ...]
    num_steps: int
    diagnostics: Diagnostics[Tensor]


class Trajectory(NamedTuple):
    """Kept states of N chains.

    Args:
        values: per block, shape (T, N, *variable_shape), in the user's units, on the CPU.
        f: log-density of the kept states, shape (T, N), nats, on the CPU.
        samples: the last states.

    Example:
        >>> from jointebm import Binary, Space, kernels, sample_trajectory
        >>> space = Space(y=Binary())
        >>> f, gibbs, generator = lambda position: 9 * position["y"], kernels.Gibbs(space), torch.Generator().manual_seed(0)
        >>> kept = sample_trajectory(f, space, gibbs, num_chains=3, num_steps=8, generator=generator)
        >>> kept.values["y"].shape, kept.f.shape
        (torch.Size([8, 3]), torch.Size([8, 3]))
    """

    values: dict[str, Tensor]
    f: Tensor
    samples: Samples

    def convergence(self) -> dict[str, Convergence]:
        """Diagnoses f, every real and, for labels of more than two classes, every class: "x[2]", "y[0]=3", "f".

        Labels of two classes are diagnosed as numbers. See `convergence_of`; raises ValueError below eight states.

        Example:
            >>> from jointebm import Categorical, Space, kernels, sample_trajectory
            >>> space = Space(y=Categorical(3))
            >>> trajectory = sample_trajectory(
            ...     lambda position: position["y"][:, 0], space, kernels.Gibbs(space), num_chains=4, num_steps=100,
            ...     generator=torch.Generator().manual_seed(0),
            ... )
            >>> found = trajectory.convergence()
            >>> list(found), found["y=0"].r_hat < 1.05
            (['f', 'y=0', 'y=1', 'y=2'], True)
        """
        found = {"f": convergence_of(self.f)}
        for name, values in self.values.items():
            flat = values.reshape(*values.shape[:2], -1)
            for number, states in enumerate(flat.unbind(dim=2)):
                label = name if values.ndim == 2 else f"{name}[{number}]"
                top = 0 if states.is_floating_point() else int(states.max())
                classes = {f"{label}={k}": states == k for k in range(top + 1)} if top > 1 else {label: states}
                found |= {key: convergence_of(each.to(torch.float64)) for key, each in classes.items()}
        return found

    def to_arviz(self) -> Any:
        """The kept states for ArviZ: values as variables of the posterior, f as "lp" of the sample statistics.

        Dimensions are (chain, draw, *variable_shape). Needs the package `arviz-base`.

        Returns:
            An `xarray.DataTree`, which `arviz_stats.summary` and `arviz_plots.plot_trace` take.

        Raises:
            ModuleNotFoundError: `arviz-base` is not installed.
        """
        try:
            from arviz_base import from_dict
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("Trajectory.to_arviz: needs arviz-base; run: pip install arviz-base") from error
        posterior = {name: values.movedim(0, 1).numpy() for name, values in self.values.items()}
        return from_dict({"posterior": posterior, "sample_stats": {"lp": self.f.T.numpy()}})
