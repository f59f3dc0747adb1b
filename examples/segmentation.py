"""Segmentation: a noisy image in, 1,024 correlated binary labels out, against the classifier of single pixels.

python examples/segmentation.py                                                    # a short try
python examples/segmentation.py --iterations 600 --test 400 --out docs/figures/segmentation.png
"""

import argparse
import os
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from jointebm import kernels, sample_trajectory
from jointebm.data import segmentation
from jointebm.energies import GridPairs, PerPixel, StructuredEnergy
from jointebm.persistent import fit_conditional

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=os.environ.get("JOINTEBM_DATA"), help="may hold the official dSprites")
parser.add_argument("--noise", type=float, default=0.6, help="standard deviation; the ellipse is 1, the background 0")
parser.add_argument("--layers", type=int, default=2, help="3 x 3 convolutions of the encoder")
parser.add_argument("--iterations", type=int, default=20)
parser.add_argument("--test", type=int, default=20, help="test images")
parser.add_argument("--out", type=Path, help="where to draw the figure")
args = parser.parse_args()
generator = torch.manual_seed(0)

data = segmentation(args.data and Path(args.data), noise_sd=args.noise)
rows = data.batch(1000, generator=generator)
test = data.space.encode({name: value[: args.test] for name, value in data.test().items()})[0]


def report(name: str, probs: Tensor, started: float) -> None:
    """Share of wrong pixels, and intersection over union of the mask where probs > 1/2; mean over test images."""
    true, found = test["mask"] > 0.5, probs > 0.5
    union = (true | found).sum(dim=(1, 2)).clamp(min=1)
    iou, wrong = ((true & found).sum(dim=(1, 2)) / union).mean(), (true != found).float().mean()
    print(f"{name}: wrong pixels {wrong:.4f}, IoU {iou:.3f}, {time.process_time() - started:.0f} s")


started = time.process_time()  # seconds of this thread
pixels = PerPixel(16, num_layers=args.layers)
optimizer = torch.optim.Adam(pixels.parameters(), 3e-3)
for _ in range(10 * args.iterations):
    batch = torch.randint(1000, (16,), generator=generator)
    loss = binary_cross_entropy_with_logits(pixels(rows["image"][batch]), rows["mask"][batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    alone, noisy = pixels(test["image"]).sigmoid(), pixels(rows["image"]).sigmoid()
report("single pixels", alone, started)

started = time.process_time()
energy = StructuredEnergy(data.space, pixels, GridPairs(width=5))
parts = [{"params": pixels.parameters(), "lr": 1e-3}, {"params": energy.interaction.parameters()}]
optimizer = torch.optim.Adam(parts, 2e-2)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, args.iterations)
kernel = kernels.GibbsWithGradients(data.space)
start = {"mask": (torch.rand(noisy.shape, generator=generator) < noisy).float()}  # exact draws while h is 0
free = {"mask": torch.ones(1, 32, 32, dtype=torch.bool)}
run = {"num_iterations": args.iterations, "batch_size": 32, "num_steps": 20, "generator": generator}
for _ in fit_conditional(energy, rows, start, free=free, kernel=kernel, optimizer=optimizer, **run):
    schedule.step()
init = {"image": test["image"], "mask": (alone > 0.5).float()}
run = {"num_chains": len(alone), "num_steps": 3 * args.iterations, "thin": 10, "generator": generator}
trajectory = sample_trajectory(energy, data.space, kernel, given={"image": test["image"]}, init=init, **run)
masks = trajectory.values["mask"][len(trajectory.f) // 4 :].float()  # (kept, test, 32, 32)
report("correlated pixels", masks.mean(dim=0), started)

if args.out:
    from jointebm.plots.structured import strips_figure

    strips = {"image": test["image"], "single pixels": alone > 0.5, "correlated pixels": masks.mean(dim=0) > 0.5}
    strips |= {"one sample of the mask": masks[-1], "truth": test["mask"]}
    strips_figure({name: images[:10] for name, images in strips.items()}).savefig(args.out, dpi=150)
