"""Several right answers about one sprite, half of a sprite, and sprites of any given attributes.

python examples/sprite_answers.py RUN --test 500 --chains 8 --steps 30 --out docs/figures/all-sprites.png
RUN is the folder of `jointebm train dsprites_full`.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from jointebm import KernelSpec, Model, load, predict, recipes
from jointebm.data import AllSprites
from jointebm.data.sprite_shapes import SHAPES, draw_sprites
from jointebm.plots import panels, plot_strip, save_figure
from jointebm.runs.training_run import initial_model

parser = argparse.ArgumentParser()
parser.add_argument("run", type=Path, nargs="?", help="without it, the model is untrained")
parser.add_argument("--test", type=int, default=8)
parser.add_argument("--chains", type=int, default=2, help="for each of three images")
parser.add_argument("--steps", type=int, default=5, help="of the chains")
parser.add_argument("--out", type=Path, help="where to draw the figure")
args, generator, _ = parser.parse_args(), torch.Generator().manual_seed(0), torch.set_num_threads(1)
data = AllSprites()
model = load(args.run / "model") if args.run else initial_model(recipes.dsprites_full(), data, seed=0)
energy, names = model.energy, list(model.space.discrete)
sizes = [model.space.num_classes(name)[0] for name in names]
test = {name: value[: args.test] for name, value in data.test().items()}
labels = torch.stack([test[name] for name in names], dim=1)


def position(y: Tensor) -> dict[str, Tensor]:
    """One-hot labels from classes (N, 5)."""
    return {name: one_hot(y[:, k], sizes[k]).float() for k, name in enumerate(names)}


def orientations(pictures: Tensor) -> Tensor:
    """p(orientation given image, shape, scale and place) from noise-free pictures in all orientations."""
    pictures = pictures.detach().unflatten(0, (-1, 40))
    return (-(test["image"][:, None] - pictures).square().sum(dim=(2, 3)) / (2 * data.noise_sd**2)).softmax(dim=1)


turned = labels.repeat_interleave(40, dim=0)
turned[:, 2] = torch.arange(40).repeat(len(labels))
latents = torch.cat([torch.zeros(len(turned), 1, dtype=torch.int64), turned], dim=1).numpy()
truth = orientations(torch.from_numpy(draw_sprites(latents)) / 4)
learned = orientations(torch.cat([energy.picture(position(y)) for y in turned.split(2000)]))
for number, shape in enumerate(SHAPES):
    some = test["shape"] == number
    answers = [float(p[some].square().sum(dim=1).reciprocal().mean()) for p in (truth, learned)]
    distance = 0.5 * (truth - learned)[some].abs().sum(dim=1).mean()
    print(f"{shape}: effective number of orientations {answers[0]:.2f}, learned {answers[1]:.2f}, TV {distance:.3f}")
three = {"image": test["image"][:3]}
exact = model.predict(three, names).probs
for kind in ("pairs", "gibbs", "gibbs-with-gradients"):
    kernel = {"kernel": KernelSpec(discrete=kind, step_size=0.1)}
    changed = Model(model.config.model_copy(update=kernel), energy=energy, noise=model.noise)
    chains = {"num_chains": args.chains, "num_steps": args.steps}
    found, how = predict(changed, three, names, method="sample", generator=generator, diagnostics=True, **chains)
    apart = [float((found.probs[name] - exact[name]).abs().sum(dim=1).mean()) / 2 for name in names]
    print(f"sampler {kind}: {dict(how.accept_rate)}, R-hat {how.r_hat:.2f}, TV of marginals {sum(apart) / 5:.3f}")
if args.out:
    strips = {}
    for n, image in enumerate(test["image"][:6]):
        best = learned[n].topk(4)
        turned = labels[[n] * 4].index_copy(1, torch.tensor([2]), best.indices[:, None])
        half = torch.where(torch.arange(32)[:, None] < 16, image, torch.nan)
        drawn = [torch.cat([each[name] for name in names]) for each in model.impute({"image": half[None]}, num=4)]
        text = f"{n}: orientations " + ", ".join(f"{p:.2f}" for p in best.values.tolist())
        strips[text] = torch.cat([image[None], energy.picture(position(turned)).detach()])
        pictures = energy.picture(position(torch.stack(drawn))).detach()
        strips[f"{n}: given its upper half"] = torch.cat([half.nan_to_num(0.5)[None], pictures])
    for text, given in {"hearts": {"shape": 2}, "large": {"scale": 5}, "left": {"horizontal": 2}}.items():
        strips[f"draws given: {text}"] = model.sample(5, given=given)["image"]
    axes = panels(strips, lambda images, ax: plot_strip(images, ax=ax), num_columns=3, size=(2.5, 0.85))
    save_figure(axes[0, 0].figure, args.out, dpi=150)
