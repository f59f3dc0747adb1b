"""Labels that are sets: which of six points belong together, against a classifier of single points.

python examples/sets.py --iterations 6000 --out docs/figures/sets.png

Six points form two clusters of three, and the label is one of them with probability 1/2. A classifier of single points can
only answer 1/2 for each point, even given the others; a density over points and sets can name one whole cluster.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from jointebm import recipes, sample
from jointebm.data import Sets
from jointebm.energies import MLP, PerItem, StructuredEnergy
from jointebm.runs.training_run import train
from jointebm.sampling.enumeration import evaluate_configurations
from jointebm.training.objectives import conditional_likelihood

parser = argparse.ArgumentParser()
parser.add_argument("--iterations", type=int, default=5)
parser.add_argument("--out", type=Path, help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)
torch.set_num_threads(1)
data = Sets()
test, sets = data.space.encode(data.test())[0], data.space.configurations()
labelled = (sets["members"] == test["members"][:, None]).all(dim=2)  # (500, 64)
either = labelled | (sets["members"] != test["members"][:, None]).all(dim=2)  # the other cluster is equally good


def report(name: str, energy: nn.Module, started: float) -> Tensor:
    """Scores p(set | points) of the test rows by enumeration, and returns it."""
    probs = evaluate_configurations(energy, test, sets).detach().softmax(dim=1)
    log_loss, seconds = -float(probs[labelled].log().mean()), time.process_time() - started
    print(f"{name}: log loss {log_loss:.2f} nats (truth 0.69), {seconds:.0f} CPU seconds, one thread")
    for num_given in (0, 1):
        fits = (sets["members"] == test["members"][:, None])[..., :num_given].all(dim=2)
        posterior = probs * fits / (probs * fits).sum(dim=1, keepdim=True)
        shares = [float((posterior * right).sum(dim=1).mean()) for right in (either, labelled)]
        print("  {} of 6 given: {:.3f} on the two clusters, {:.3f} on the labelled one".format(num_given, *shares))
    return probs


started = time.process_time()
torch.manual_seed(0)
single = StructuredEnergy(data.space, PerItem(MLP(2, (32,), 32), MLP(34, (32,))))
optimizer = torch.optim.Adam(single.parameters(), 3e-3)
for _ in range(args.iterations):
    optimizer.zero_grad()
    conditional_likelihood(single, data.space, data.batch(32, generator=generator)).backward()
    optimizer.step()
probs = {"single points": report("single points", single, started)}

started = time.process_time()
with tempfile.TemporaryDirectory() as scratch:
    recipe = recipes.override(recipes.sets(), [f"num_iterations={args.iterations}"])
    model = train(recipe, Path(scratch) / "run").model
probs["sets"] = report("sets", model.energy, started)
ask = {"given": {"members": [1, 1, 1, 0, 0, 0]}, "num_steps": 200, "init": model.noise, "generator": generator}
drawn = sample(model, data.space, model.kernel, num_chains=5, **ask).values  # the points of a given set
if args.out:
    from jointebm.plots import panels, plot_points, save_figure

    shown = {}
    for name, each in probs.items():
        draws = sets["members"][torch.multinomial(each[0], 5, replacement=True, generator=generator)]
        shown |= {f"{name}, draw {k + 1}": (test["points"][0], draws[k]) for k in range(5)}
    shown |= {f"points of a set, {k + 1}": (drawn["points"][k], drawn["members"][k]) for k in range(5)}
    ask = {"like": torch.cat([points for points, _ in shown.values()]), "size": 20}
    axes = panels(shown, lambda x, ax: plot_points(x[0], marked=x[1], **ask, ax=ax), num_columns=5, size=(1.6, 1.75))
    save_figure(axes[0, 0].figure, args.out, dpi=150)
