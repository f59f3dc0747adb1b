"""An energy of every subset in closed form: a normal density per label, plus features whose weights are the parameters.

Legend: N rows, D reals, K labels.
"""

import numpy as np
import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, Space
from jointebm.energies import AnySubsetEnergy

CLASSES = 3


class ClosedForm(AnySubsetEnergy):
    """f(x, y; noise) = log of the share of y and the normal density of the visible reals, plus weights times features."""

    def __init__(self, means: Tensor, covariances: Tensor) -> None:
        """Normal densities with means (K, D) and covariances (K, D, D), of shares .5, .3 and .2."""
        space = Space(x=Continuous(means.shape[1]), y=Categorical(CLASSES))
        super().__init__(space, nn.Identity(), min_noise=0.1, max_noise=10.0)
        self.means, self.covariances = means, covariances
        self.log_shares = torch.tensor([0.5, 0.3, 0.2], dtype=means.dtype).log()
        self.weights = nn.Parameter(torch.zeros(NUM_FEATURES, dtype=means.dtype))

    def table(self, reals: Tensor, noise: Tensor) -> Tensor:
        visible = noise[0].isfinite()  # the rows of a test miss the same reals
        x, s = reals[:, visible], noise[:, visible]
        columns = []
        for mean, covariance, log_share in zip(self.means, self.covariances, self.log_shares, strict=True):
            total = covariance[visible][:, visible] + torch.diag_embed(s.square())
            normal = torch.distributions.MultivariateNormal(mean[visible], total)
            columns.append(normal.log_prob(x) + log_share)
        return torch.stack(columns, dim=1) + features(x, s) @ self.weights[:, None] * torch.tensor([1.0, -1.0, 0.5])


NUM_FEATURES = 4


def features(x: Tensor, s: Tensor) -> Tensor:
    """Directions in which f may be wrong, (N, `NUM_FEATURES`): level, tilt, width, and the constant of a noise level."""
    return torch.stack([torch.ones_like(x[:, 0]), x[:, 0], x.square().sum(dim=1), s.log().sum(dim=1)], dim=1)


def grid(num_nodes: int, num_axes: int) -> tuple[Tensor, Tensor]:
    """Nodes (M, axes) and weights (M,) of Gauss-Hermite quadrature under a standard normal density."""
    points, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(num_nodes))
    weights = weights / weights.sum()
    nodes = torch.cartesian_prod(*[points] * num_axes).reshape(-1, num_axes)
    return nodes, torch.cartesian_prod(*[weights] * num_axes).reshape(-1, num_axes).prod(dim=1)


class FixedDraws:
    """A stream whose normals are given, and whose uniforms are all one number."""

    def __init__(self, normals: Tensor, uniform: float) -> None:
        self.normals, self.number = normals, uniform

    def normal(self, like: Tensor) -> Tensor:
        assert like.shape == self.normals.shape
        return self.normals

    def uniform(self, like: Tensor) -> Tensor:
        return torch.full_like(like, self.number)

    def choose(self, log_weights: Tensor) -> Tensor:  # noqa: ARG002
        raise AssertionError("nothing is chosen")

    def accept(self, log_ratio: Tensor) -> Tensor:  # noqa: ARG002
        raise AssertionError("nothing is accepted")
