"""Four digits whose sum is a multiple of five or ten: a joint model against four classifiers of single digits.

python examples/digit_strips.py --data DIR --multiple 10 --iterations 700 --test 5000 --out docs/figures/digit-strips.png
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from jointebm import KernelSpec, Model, load, predict, recipes
from jointebm.data.digit_strips import blotted, digit_strips
from jointebm.energies import StructuredSpec
from jointebm.plots import panels, plot_strip, save_figure
from jointebm.runs.training_run import train
from jointebm.training.objectives import LabelGroups

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=os.environ.get("JOINTEBM_DATA"), help="folder that holds mnist/")
parser.add_argument("--multiple", type=int, choices=(5, 10), default=5)
parser.add_argument("--iterations", type=int, default=20)
parser.add_argument("--test", type=int, default=100, help="test strips")
parser.add_argument("--runs", type=Path, help="folder where both runs are kept; trained ones are reused")
parser.add_argument("--out", type=Path, help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)
folder, models = args.data and Path(args.data), {}
torch.set_num_threads(1)
recipe = recipes.digit_strips() if args.multiple == 5 else recipes.digit_strips_10()
recipe = recipes.override(recipe, [f"num_iterations={args.iterations}"])
cross_entropy = recipe.train.model_copy(update={"objective": LabelGroups(group_size=1)})  # of every digit
single = {"energy": StructuredSpec(unary=recipe.energy.unary), "train": cross_entropy}  # the same network without h
with tempfile.TemporaryDirectory() as scratch:
    for name, each in {"single digits": recipe.model_copy(update=single), "together": recipe}.items():
        path, started = (args.runs or Path(scratch)) / f"{name} {args.multiple}", time.process_time()
        models[name] = load(path / "model") if path.exists() else train(each, path, data_dir=folder).model
        print(f"{name}: {time.process_time() - started:.0f} CPU seconds, one thread", flush=True)
test = {name: value[: args.test] for name, value in digit_strips(folder, multiple=args.multiple).test().items()}
digits, rows = test["digits"].long(), torch.arange(len(test["digits"]))
covered, number = (rows % 4)[:, None] == torch.arange(4), digits @ torch.tensor([1000, 100, 10, 1])
images = {"whole": test["image"], "blotted": torch.from_numpy(blotted(test["image"].numpy(), covered.numpy()))}
strings = models["together"].space.configurations()["digits"]  # all 10,000


@torch.no_grad()
def answers(model: Model, x: Tensor) -> Tensor:
    """p(digits given the image) of every string, (N, 10000): the image is encoded once, h(y) is the same for all rows."""
    h = 0 if model.energy.interaction is None else model.energy.interaction(strings)
    f = [model.energy.encode({"image": part}) @ strings.flatten(1).T + h for part in x.split(500)]
    return torch.cat(f).softmax(dim=1)


for name, model in models.items():
    probs = {picture: answers(model, x) for picture, x in images.items()}
    right = {k: strings[p.argmax(dim=1)].argmax(dim=2) == digits for k, p in probs.items()}
    log_p = {k: float(p[rows, number].log().mean()) for k, p in probs.items()}
    print(f"{name}: digits {right['whole'].float().mean():.4f}, strings {right['whole'].all(dim=1).float().mean():.4f}")
    print("  log p(string given image) {whole:.3f}, with a blot {blotted:.3f} nats".format(**log_p))
    kept = probs["blotted"] @ (strings.argmax(dim=2).sum(dim=1) % args.multiple == 0).float()
    two = (probs["blotted"].topk(2, dim=1).indices == number[:, None]).any(dim=1).float().mean()
    blot = right["blotted"][covered].float().mean()
    print(f"  blotted digit {blot:.4f}, string one of the two likeliest {two:.4f}, mass on the rule {kept.mean():.4f}")
some = {"image": images["blotted"][:50]}
exact = torch.einsum("ns,stc->ntc", probs["blotted"][:50], strings)
for kind in ("pairs", "gibbs", "gibbs-with-gradients"):
    config = model.config.model_copy(update={"kernel": KernelSpec(discrete=kind, step_size=0.1)})
    changed = Model(config, energy=model.energy, noise=model.noise)
    found, how = predict(changed, some, "digits", method="sample", num_chains=20, generator=generator, diagnostics=True)
    distance = 0.5 * (found.probs["digits"] - exact).abs().sum(dim=2).mean()
    print(f"sampler {kind}: {dict(how.accept_rate)}, R-hat {how.r_hat:.2f}, TV of marginals {distance:.3f}")
if args.out:
    p, best = probs["blotted"][:12].topk(2)
    words = [f"{best[n, 0]:04d} ({p[n, 0]:.2f}) or {best[n, 1]:04d} ({p[n, 1]:.2f})" for n in range(len(p))]
    strips = {f"{words[n]}; true {number[n]:04d}": images["blotted"][n] for n in range(len(p))}
    axes = panels(strips, lambda x, ax: plot_strip(x, ink="dark", ax=ax), num_columns=3, size=(2.5, 0.85))
    save_figure(axes[0, 0].figure, args.out, dpi=150)
