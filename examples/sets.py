"""A set as label: which of eight points belong together, in any order, against a classifier of single points.

python examples/sets.py --iterations 600 --out docs/figures/sets.png

Eight points are two clusters of four, and the label is one of the two, each as often as the other. Whatever a classifier
of single points knows of the others, it can only say 1/2 of each; a density over sets can name one cluster whole.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from jointebm import Binary, Continuous, Space
from jointebm.energies import MLP, DeepSetEnergy, PerItem, StructuredEnergy
from jointebm.exact import evaluate_configurations
from jointebm.objectives import conditional_likelihood

parser = argparse.ArgumentParser()
parser.add_argument("--iterations", type=int, default=30)
parser.add_argument("--out", type=Path, help="where to draw the figure")
args, generator = parser.parse_args(), torch.manual_seed(0)
space = Space(points=Continuous((8, 2)), members=Binary(8))


def draw(num: int) -> dict[str, Tensor]:
    """Clusters of standard deviation 1/2, three apart in a random direction, around a random point; in random order."""
    angle = 2 * torch.pi * torch.rand(num, generator=generator)
    apart = 1.5 * torch.stack([angle.cos(), angle.sin()], dim=1)[:, None]  # (num, 1, 2)
    middle, members = torch.randn(num, 1, 2, generator=generator), torch.tensor([1.0] * 4 + [0.0] * 4).expand(num, 8)
    points = middle + (2 * members[..., None] - 1) * apart + 0.5 * torch.randn(num, 8, 2, generator=generator)
    order = torch.rand(num, 8, generator=generator).argsort(dim=1)
    return {"points": points.gather(1, order[..., None].expand(-1, -1, 2)), "members": members.gather(1, order)}


def fit(energy: nn.Module) -> Tensor:
    """Maximises log p(members | points), whose 256 sets are enumerated; returns p(set | points) of the test rows."""
    optimizer = torch.optim.Adam(energy.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, args.iterations)
    for _ in range(args.iterations):
        optimizer.zero_grad()
        conditional_likelihood(energy, space, draw(32)).backward()
        optimizer.step()
        schedule.step()
    return evaluate_configurations(energy, test, sets).detach().softmax(dim=1)


test, sets = draw(500), space.configurations()
labelled = (sets["members"] == test["members"][:, None]).all(dim=2)  # (500, 256)
either = labelled | (sets["members"] != test["members"][:, None]).all(dim=2)  # the other cluster is as good
single = StructuredEnergy(space, PerItem(MLP(2, (32,), 32), MLP(34, (32,))))
together = DeepSetEnergy(space, MLP(3, (64,), 32), MLP(32, (64, 32)))
probs = {}
for name, energy in {"single points": single, "sets": together}.items():
    started = time.process_time()
    probs[name] = fit(energy)
    log_loss = -float(probs[name][labelled].log().mean())
    print(f"{name}: log loss {log_loss:.2f} nats (truth 0.69), {time.process_time() - started:.0f} s of this thread")
    for num_given in (0, 1):
        fits = (sets["members"] == test["members"][:, None])[..., :num_given].all(dim=2)
        posterior = probs[name] * fits / (probs[name] * fits).sum(dim=1, keepdim=True)
        shares = ((posterior * right).sum(dim=1).mean() for right in (either, labelled))
        print(
            "  {} of 8 given: {:.3f} of the mass on the two clusters, {:.3f} on the labelled one".format(
                num_given, *shares
            )
        )
if args.out:
    from jointebm.plots.structured import points_figure

    panels, marked = {}, {}
    for name, each in probs.items():
        draws = sets["members"][torch.multinomial(each[0], 5, replacement=True, generator=generator)]
        panels |= {f"{name}, draw {k + 1}": test["points"][0] for k in range(5)}
        marked |= {f"{name}, draw {k + 1}": draws[k] for k in range(5)}
    points_figure(panels, marked=marked, num_columns=5, size=20).savefig(args.out, dpi=150)
