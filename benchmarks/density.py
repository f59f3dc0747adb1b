"""Compares fitted densities of blocks with the truth, on groups of rows that lie far apart.

Three Gaussians 12 standard deviations apart with weights .7, .2 and .1, a label that is wrong in 10% of the rows and a bit;
and the eight Gaussians of the paper with equal and unequal weights. Everything is fitted by `jointebm.fit` to 10,000 rows,
and compared by quadrature.

    python benchmarks/density.py [--seeds 3] [--threads 1]
"""

import argparse
import math
import time
import warnings

import torch
from torch import Tensor

import jointebm
from jointebm import Binary, Categorical, Continuous, Model, Space
from jointebm.data.toy import STANDARD_DEVIATION, attributes_of, centers, modes_of

NUM_ROWS = 10_000
WEIGHTS = torch.tensor([0.7, 0.2, 0.1])
APART = 12.0
WRONG = 0.1  # share of rows with another label
BITS = torch.tensor([0.2, 0.5, 0.9])  # probability of a 1 in each group
STEP = 0.05  # of the grid of the eight Gaussians
UNEQUAL = torch.tensor([8.0, 1, 4, 1, 2, 1, 6, 1])

GROUPS = Space(x=Continuous(), label=Categorical(3), bit=Binary())
PLANE = Space(point=Continuous(2), bottom=Categorical(2), left=Categorical(2), diagonal=Categorical(2))


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(1000 + seed)


def draw_groups(num: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Rows of three groups."""
    group = torch.multinomial(WEIGHTS, num, replacement=True, generator=generator)
    other = (group + torch.randint(1, 3, (num,), generator=generator)) % 3
    label = torch.where(torch.rand(num, generator=generator) < WRONG, other, group)
    bit = (torch.rand(num, generator=generator) < BITS[group]).long()
    return {"x": APART * group + torch.randn(num, generator=generator), "label": label, "bit": bit}


def true_groups(grid: Tensor) -> Tensor:
    """p(x, label, bit) on a grid of x, shape (points, 3, 2)."""
    of_label = torch.full((3, 3), WRONG / 2) + (1 - 1.5 * WRONG) * torch.eye(3)  # (group, label)
    of_bit = torch.stack([1 - BITS, BITS], dim=1)  # (group, bit)
    of_x = (-0.5 * (grid[:, None] - APART * torch.arange(3)).square()).exp() / math.sqrt(2 * math.pi)
    return torch.einsum("g,ng,gl,gb->nlb", WEIGHTS, of_x, of_label, of_bit)


def groups(seed: int) -> dict[str, float]:
    """Three Gaussians far apart."""
    started = time.perf_counter()
    model = jointebm.fit(GROUPS, draw_groups(NUM_ROWS, generator_of(seed)), seed=seed)
    seconds = time.perf_counter() - started
    grid = torch.arange(-8, 2 * APART + 8, 0.02)
    table = torch.stack(
        [
            torch.stack([density_of(model, {"x": grid, "label": y, "bit": b}) for b in range(2)], dim=1)
            for y in range(3)
        ],
        dim=1,
    )  # (points, 3, 2), normalised by the model's own log Z
    total = table.sum() * 0.02
    nearest = (grid / APART).round().clamp(0, 2).long()
    mass = torch.zeros(3).index_add_(0, nearest, table.sum(dim=(1, 2))) * 0.02 / total
    samples = model.sample(20_000, seed=seed, num_steps=200)["x"]
    shares = torch.bincount((samples / APART).round().clamp(0, 2).long(), minlength=3) / len(samples)
    ours, theirs = table.sum(dim=2), true_groups(grid).sum(dim=2)  # (points, 3)
    ours, theirs = ours / ours.sum(dim=0), theirs / theirs.sum(dim=0)
    return {
        "weight error of exp F": float((mass - WEIGHTS).abs().max()),
        "weight error of sample": float((shares - WEIGHTS).abs().max()),
        "TV of x given a label": float((ours - theirs).abs().sum(dim=0).max() / 2),
        "log Z error": abs(float(total.log())),
        "seconds": seconds,
    }


def density_of(model: Model, values: dict[str, Tensor | int]) -> Tensor:
    """p of rows of which some blocks are one label."""
    num = max(len(value) for value in values.values() if isinstance(value, Tensor))
    rows = {n: v if isinstance(v, Tensor) else torch.full((num,), v) for n, v in values.items()}
    return model.log_density(rows).exp()


def circle(seed: int, weights: Tensor) -> dict[str, float]:
    """Eight Gaussians on a circle."""
    generator = generator_of(seed)
    weights = weights / weights.sum()

    def draw(num: int) -> dict[str, Tensor]:
        modes = torch.multinomial(weights, num, replacement=True, generator=generator)
        noise = STANDARD_DEVIATION * torch.randn(num, 2, generator=generator)
        return {"point": centers()[modes] + noise, **attributes_of(modes)}

    started = time.perf_counter()
    model = jointebm.fit(PLANE, draw(NUM_ROWS), seed=seed)
    seconds = time.perf_counter() - started
    axis = torch.arange(-5, 5 + STEP / 2, STEP)
    grid = torch.cartesian_prod(axis, axis)
    ours = model.log_density({"point": grid}).exp()
    squares = (grid[:, None] - centers()).square().sum(dim=2)
    variance = STANDARD_DEVIATION**2
    of_modes = weights * (-squares / (2 * variance)).exp() / (2 * math.pi * variance)  # (points, 8)
    total = ours.sum() * STEP**2
    test = draw(10_000)
    probs = model.predict({"point": test["point"]}, ("bottom", "left", "diagonal")).labels
    of_test = -(test["point"][:, None] - centers()).square().sum(dim=2) / (2 * variance) + weights.log()
    bayes = float((of_test.argmax(dim=1) == modes_of(test)).float().mean())
    ours_right = float((modes_of(probs) == modes_of(test)).float().mean())
    return {
        "TV of p(x)": float((ours / total - of_modes.sum(dim=1)).abs().sum() * STEP**2 / 2),
        "log Z error": abs(float(total.log())),
        "accuracy below Bayes": bayes - ours_right,
        "seconds": seconds,
    }


CASES = {
    "three Gaussians 12 sd apart, .7/.2/.1": groups,
    "eight Gaussians, equal weights": lambda seed: circle(seed, torch.ones(8)),
    "eight Gaussians, 8:1:4:1:2:1:6:1": lambda seed: circle(seed, UNEQUAL),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("always")
    for name, case in CASES.items():
        found = [case(seed) for seed in range(arguments.seeds)]
        for what in found[0]:
            values = [each[what] for each in found]
            print(
                f"{name}: {what}: {', '.join(f'{value:.4g}' for value in values)} (worst {max(values):.4g})", flush=True
            )


if __name__ == "__main__":
    main()
