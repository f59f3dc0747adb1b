"""Composition on images: "left AND large" sprites from two models that never saw a large sprite on the left.

python examples/composition_images.py --iterations 1000 --num 400 --steps 200 --out docs/figures/composition-dsprites.png

One model learns small sprites anywhere, with their side; the other sprites of both sizes on the right, with their size.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from jointebm import Categorical, ConcatEnergy, Continuous, Noise, Space, Trainer, recipes, sample
from jointebm.data import ArrayDataset
from jointebm.data.dsprites import chosen_latents, sprites
from jointebm.energies import MLP, ConditionalEnergy, ConvEncoder, WeightedSum
from jointebm.plots import panels, plot_strip, save_figure
from jointebm.spaces.transforms import Identity

parser = argparse.ArgumentParser()
parser.add_argument("--iterations", type=int, default=2)
parser.add_argument("--num", type=int, default=10, help="samples of each density")
parser.add_argument("--steps", type=int, default=3, help="steps of each chain, from noise")
parser.add_argument("--out", type=Path, help="where to draw the figure")
args, generator, _ = parser.parse_args(), torch.Generator().manual_seed(0), torch.set_num_threads(1)
latents, levels = chosen_latents(), sprites(None)
right, small, large = latents[:, 4] >= 16, latents[:, 2] <= 1, latents[:, 2] >= 4  # and no sizes in between
recipe = recipes.override(recipes.dsprites(), [f"num_iterations={args.iterations}"])
alone = Space(image=Continuous((32, 32), Identity()))


class Anywhere(nn.Sequential):
    """Features without position: convolutions, averaged over places (N, 32, 32) -> (N, 64)."""

    def forward(self, images: Tensor) -> Tensor:
        return 4 * super().forward(images.unsqueeze(1)).mean(dim=(2, 3))


def learn(label: str, truth: Tensor, shown: Tensor, encoder: nn.Module, width: int) -> tuple[Trainer, Space]:
    """A joint energy of one label and the sprites shown, with the settings of the recipe `dsprites`."""
    space = Space(image=alone["image"], **{label: Categorical(2)})
    rows = {"image": levels[shown], label: truth[shown].astype("uint8")}
    data = ArrayDataset("shown", space, train=rows, held_out=rows, white=4, noise_width=0.0, noise_sd=0.1)
    net, scale = MLP(width + 2, (256, 128), activation="silu"), {"image": 3.0, label: 5.0}
    energy = ConcatEnergy(space, net, encoder=encoder, scale=scale, output_scale=8.0)
    trainer = Trainer(energy, space, data.batch, kernel=recipe.kernel.build(space), config=recipe.train, seed=0)
    list(trainer.run())
    return trainer, space


torch.manual_seed(0)
layers = [nn.Conv2d(1, 16, 4, 2, 1), nn.Conv2d(16, 32, 4, 2, 1), nn.Conv2d(32, 64, 3, 1, 1), nn.Conv2d(64, 64, 1)]
anywhere = Anywhere(*(part for layer in layers for part in (layer, nn.SiLU())))
side, side_space = learn("right", right, small, ConvEncoder((16, 32, 64), 16, halves_first=True), 256)
size, size_space = learn("large", large, right & (small | large), anywhere, 64)
print(f"trained two models, {time.process_time():.0f} CPU seconds, one thread")
left = ConditionalEnergy(side.average, side_space, {"right": 0})
big = ConditionalEnergy(size.average, size_space, {"large": 1})
everything = ConditionalEnergy(side.average, side_space, summed_out=("right",))
densities = {"left": left, "large": big, "left x large": WeightedSum((left, big))}
for name, power in {"left x large / all": 1.0, "(left / all)^4 x large": 4.0}.items():
    densities[name] = WeightedSum((left, big, everything), (power, 1.0, -power))
unseen = torch.from_numpy(levels[~right & large]) / 4
strips = {"never shown to either": unseen[:: len(unseen) // 11]}
init, kernel = Noise(alone, side.noise.parameters), recipe.kernel.build(alone)
chains = {"num_chains": args.num, "num_steps": args.steps, "init": init, "generator": generator}
for name, energy in densities.items():
    images = strips[name] = sample(energy, alone, kernel, **chains).values["image"]
    bright = (images - 0.5).clamp(0, 0.5)
    is_left = bright.sum(dim=1) @ torch.arange(32.0) < 15.5 * bright.sum(dim=(1, 2))  # the centre
    is_large = (images > 0.5).sum(dim=(1, 2)) > 40  # pixels; small sprites have 13 to 28, large ones 48 to 72
    nearest = torch.cdist(images.flatten(1), unseen.flatten(1)).amin(dim=1).median()
    shares = [each.float().mean() for each in (is_left, is_large, is_left & is_large)]
    print("{}: left {:.3f}, large {:.3f}, both {:.3f}".format(name, *shares), f"; {nearest:.2f} from those never shown")
if args.out:
    axes = panels(strips, lambda x, ax: plot_strip(x[:12].clamp(0, 1), ax=ax), size=(7.5, 0.85))
    save_figure(axes[0, 0].figure, args.out, dpi=150)
