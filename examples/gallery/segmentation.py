"""Segmentation: 1,024 correlated binary labels of a noisy image, against a classifier of single pixels.

python examples/gallery/segmentation.py --iterations 600 --test 100 --out docs/figures/gallery/segmentation.png
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from jointebm import predict, recipes
from jointebm.data import segmentation
from jointebm.energies import StructuredSpec
from jointebm.plots import plot_images, save_figure
from jointebm.runs.training_run import train

parser = argparse.ArgumentParser()
parser.add_argument("--iterations", type=int, default=10)
parser.add_argument("--test", type=int, default=20, help="test images")
parser.add_argument("--out", help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)
torch.set_num_threads(1)
data, recipe = segmentation(None), recipes.override(recipes.segmentation(), [f"num_iterations={args.iterations}"])
test = {name: value[: args.test] for name, value in data.test().items()}


def report(name: str, probs: Tensor) -> None:
    """Share of wrong pixels, and intersection over union of the mask where probs > 1/2; mean over test images."""
    true, found = test["mask"] > 0, probs > 0.5
    overlap = (true & found).sum(dim=(1, 2)) / (true | found).sum(dim=(1, 2)).clamp(min=1)
    wrong, error = (true != found).float().mean(), overlap.std() / len(overlap) ** 0.5
    print(f"{name}: wrong pixels {wrong:.4f}, IoU {overlap.mean():.3f} +- {error:.3f}, {time.process_time():.0f} CPU s")


torch.manual_seed(0)
single = StructuredSpec(unary=recipe.energy.unary).build(data.space)  # the same network, without couplings
optimizer = torch.optim.Adam(single.parameters(), 3e-3)
for _ in range(3 * args.iterations):
    rows = data.batch(16, generator=generator)
    optimizer.zero_grad()
    binary_cross_entropy_with_logits(single.encode(rows), rows["mask"].flatten(1)).backward()
    optimizer.step()
alone = single.encode(test).detach().sigmoid().unflatten(1, (32, 32))
report("single pixels", alone)
with tempfile.TemporaryDirectory() as scratch:
    model = train(recipe, Path(scratch) / "run").model
together = predict(model, {"image": test["image"]}, "mask", method="sample", generator=generator).probs["mask"]
report("correlated pixels", together)
print("couplings:", ", ".join(f"{weight:.2f}" for weight in model.energy.interaction.weight.tolist()))
if args.out:
    strips = {"image": (test["image"] + 1.5) / 4, "single pixels": alone > 0.5, "correlated": together > 0.5}
    shown = torch.cat([strip[:8].float() for strip in (*strips.values(), test["mask"])])
    save_figure(plot_images(shown, num_columns=8, rows=[*strips, "truth"]).figure, args.out, dpi=160)
