"""dSprites with five attributes, 737,280 combinations: a joint density against classifiers of single attributes.

python examples/all_sprites.py --iterations 2000 --classifier 1500 --test 500 --truth --runs RUNS
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jointebm import load, recipes
from jointebm.data import all_sprites
from jointebm.energies import ConvSpec, JEMSpec, MLPSpec
from jointebm.runs.training_run import train
from jointebm.training.objectives import LabelGroups

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=os.environ.get("JOINTEBM_DATA"), help="folder of the official file")
parser.add_argument("--iterations", type=int, default=20, help="of the joint density")
parser.add_argument("--classifier", type=int, default=20, help="iterations of the classifiers")
parser.add_argument("--test", type=int, default=20, help="test images")
parser.add_argument("--truth", action="store_true", help="ask the true density too, which takes minutes")
parser.add_argument("--runs", type=Path, help="folder where both runs are kept; trained ones are reused")
args = parser.parse_args()
folder, models = args.data and Path(args.data), {}
torch.set_num_threads(1)
joint = recipes.override(recipes.dsprites_full(), [f"num_iterations={args.iterations}"])
encoder = ConvSpec(side=32, channels=(32, 64, 128), out_channels=32, halves_first=True)
changes = {"objective": LabelGroups(group_size=1), "batch_size": 64, "learning_rate": 2e-3}
classifier = {  # one softmax for each attribute: groups of one label are its cross-entropy
    "energy": JEMSpec(net=MLPSpec(hidden=(512, 512), activation="silu"), encoder=encoder),
    "train": joint.train.model_copy(update={**changes, "num_iterations": args.classifier}),
}
with tempfile.TemporaryDirectory() as scratch:
    for name, recipe in {"together": joint, "single attributes": joint.model_copy(update=classifier)}.items():
        path, started = (args.runs or Path(scratch)) / name, time.process_time()
        models[name] = load(path / "model") if path.exists() else train(recipe, path, data_dir=folder).model
        count = sum(parameter.numel() for parameter in models[name].energy.parameters())
        print(f"{name}: {count} numbers, {time.process_time() - started:.0f} CPU seconds, one thread", flush=True)
energy, space = models["together"].energy, models["together"].space
data = all_sprites(folder)
test = {name: value[: args.test] for name, value in data.test().items()}
labels = torch.stack([test[name] for name in space.discrete], dim=1)
halves = torch.where(torch.arange(32)[:, None] < 16, test["image"], torch.nan)  # the lower half is missing


def marginals(p: Tensor) -> list[Tensor]:
    """p of each attribute, from p of all, (N, 3, 6, 40, 32, 32)."""
    return [p.sum(dim=[k for k in range(1, 6) if k != 1 + each]) for each in range(5)]


def report(title: str, each: list[Tensor], log_p: Tensor) -> None:
    right = [float((p.argmax(dim=1) == y).float().mean()) for p, y in zip(each, labels.T, strict=True)]
    apart = sum(p.gather(1, y[:, None]).log().mean() for p, y in zip(each, labels.T, strict=True))
    print(f"{title}: " + ", ".join(f"{name} {share:.3f}" for name, share in zip(space.discrete, right, strict=True)))
    print(f"  mean {np.mean(right):.3f}; log p of all {log_p.mean():.3f}, as a product of marginals {apart:.3f} nats")


sizes, tables = [space.num_classes(name)[0] for name in space.discrete], {"together": energy.table}
if args.truth:
    tables["renderer"] = data.with_all_images().table  # of the true density: the best possible answers
for title, images in {"whole images": test["image"], "upper halves": halves}.items():
    for name, table in tables.items():
        parts, log_p = [], []
        for x, y in zip(images.split(25), labels.split(25), strict=True):
            all_p = table(x).flatten(1).log_softmax(dim=1).reshape(-1, *sizes)  # of all 737,280 combinations
            parts.append(marginals(all_p.exp()))
            log_p.append(all_p[torch.arange(len(y)), *y.T])
        report(f"{name}, {title}", [torch.cat(part) for part in zip(*parts, strict=True)], torch.cat(log_p))
logits = models["single attributes"].encode({"image": test["image"]}).detach()
each = [part.softmax(dim=1) for part in logits.split(sizes, dim=1)]
product = sum(p.gather(1, y[:, None])[:, 0].log() for p, y in zip(each, labels.T, strict=True))
report("single attributes, whole images", each, product)
