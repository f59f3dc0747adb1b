"""Compares a model of any subset of the eight Gaussians with the truth, at several noise levels, by quadrature.

Prints the total variation of p(x), log Z by quadrature, by paths over noise levels and by annealed importance sampling, the
same for one real alone, and how samples spread over the modes.

    python benchmarks/any_subset.py RUN
"""

import argparse
import math

import torch
from torch import Tensor

from jointebm import Model, load
from jointebm.data import Toy
from jointebm.data.toy import STANDARD_DEVIATION, attributes_of, centers, nearest_mode
from jointebm.energies import AnySubsetEnergy
from jointebm.references import MixtureFit
from jointebm.sampling import log_normalizer

GRID = torch.arange(-8, 8.001, 0.04)
CELL = 0.04


def true_density(points: Tensor, level: float) -> Tensor:
    """p(x) of the eight Gaussians under noise, for points with one or both reals, (N, 1 or 2)."""
    variance = STANDARD_DEVIATION**2 + level**2
    squares = (points[:, None] - centers()[None, :, : points.shape[1]]).square().sum(dim=2)
    return (-squares / (2 * variance)).exp().sum(dim=1) / 8 / (2 * math.pi * variance) ** (points.shape[1] / 2)


def compared(energy: AnySubsetEnergy, level: float, *, alone: bool) -> tuple[float, float]:
    """log Z of f and total variation of its normalised density from the truth, of both reals or of the first alone."""
    points = GRID[:, None] if alone else torch.cartesian_prod(GRID, GRID)
    reals, noise = torch.zeros(len(points), 2), torch.full((len(points), 2), torch.inf)
    reals[:, : points.shape[1]], noise[:, : points.shape[1]] = points, level
    with torch.no_grad():
        f = energy.table(reals, noise).logsumexp(dim=1)
    log_z = float(f.logsumexp(dim=0)) + points.shape[1] * math.log(CELL)
    gaps = (f - log_z).exp() - true_density(points, level)
    return log_z, 0.5 * float(gaps.abs().sum()) * CELL ** points.shape[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run of toy_any, or pretrained:toy_any")
    model = load(parser.parse_args().run)
    assert isinstance(model, Model) and isinstance(model.energy, AnySubsetEnergy)
    for level in (model.energy.min_noise, 0.2, 0.5, 1.0):
        log_z, distance = compared(model.energy, level, alone=False)
        print(f"noise {level:.2f}: log Z by quadrature {log_z:+.4f}, TV of p(x) {distance:.4f}")
    log_z, distance = compared(model.energy, model.energy.min_noise, alone=True)
    print(f"first real alone: log Z {log_z:+.4f}, TV {distance:.4f}")
    print(f"log Z by paths over noise levels: {model.log_normalizer}")
    generator = torch.Generator().manual_seed(0)
    rows, held_out = (Toy().batch(num, generator=generator) for num in (5000, 1000))
    wide = MixtureFit(num_components=(1,)).fit(model.space, rows, held_out, generator)  # one normal density
    found = log_normalizer(model, wide, num_draws=1000, generator=generator)
    print(f"log Z by annealed importance sampling: {found.value:+.4f} +- {found.standard_error:.4f}")
    drawn = model.sample(4000)
    shares = torch.bincount(nearest_mode(drawn["point"]), minlength=8) / 4000
    right = [float((drawn[name] == of).float().mean()) for name, of in labels_of(drawn["point"]).items()]
    print(f"4,000 samples: weights of modes {', '.join(f'{share:.3f}' for share in shares)}")
    print(f"labels of samples equal to those of the nearest mode: {min(right):.4f} and more")
    print(f"samples more than 4 standard deviations from every mode: {far_share(drawn['point']):.4f}")


def labels_of(points: Tensor) -> dict[str, Tensor]:
    """Labels of the nearest mode."""
    return attributes_of(nearest_mode(points))


def far_share(points: Tensor) -> float:
    """Share of points far from all modes; the truth has exp(-8) of them."""
    distance = torch.cdist(points, centers()).amin(dim=1)
    return float((distance > 4 * STANDARD_DEVIATION).float().mean())


if __name__ == "__main__":
    main()
