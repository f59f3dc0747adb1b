"""Accuracy of the label from a part of the image, by one joint model that was never trained for it.

    python benchmarks/half_image.py pretrained:mnist --data DIR [--rows 1000] [--chains 4] [--steps 200] [--figures NEW_DIR]

From the whole image labels are predicted by enumeration; from a part by chains that draw the missing part and the label
together (the Rao-Blackwellised decoder). With several labels, each is predicted with the others given and without. With
--figures, in-painting is drawn too, as `jointebm figures` does.

Beside each answer stands, in brackets, that of the training images themselves: the row is one of them under the data's own
noise, p(y | part) ~ sum over training rows with label y of N(part; row's part, noise_sd^2). Where every image that there is
was trained on, as nearly for dSprites, nothing can do better.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from jointebm.cli.blocks.models import open_data_of, open_model
from jointebm.data import ArrayDataset
from jointebm.evaluation import image_block
from jointebm.inference.inpainting import HALVES, NOTHING, WHOLE, Part, accuracy_given
from jointebm.plots import inpainting_figures, save_figures
from jointebm.storage.atomic import check_new


def accuracy_of_training_images(
    data: ArrayDataset, values: dict[str, Tensor], image: str, part: Part, name: str, *, others: bool
) -> float:
    """How often the label of one block is predicted right by the mixture of all training images under their noise."""
    given = part.mask(data.space[image].variable_shape)
    rows = {block: torch.from_numpy(array) for block, array in data.train.items()}
    distance = torch.cdist(values[image][:, given], rows[image][:, given] / data.white)  # (test rows, training rows)
    log_weights = -distance.square() / (2 * data.noise_sd**2)
    for other in data.space.discrete if others else ():
        if other != name:
            differs = values[other][:, None] != rows[other]
            log_weights = log_weights.masked_fill(differs, -torch.inf)
    probs = log_weights.softmax(dim=1) @ one_hot(rows[name].long()).to(log_weights.dtype)
    return float((probs.argmax(dim=1) == values[name]).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a model folder, a run folder, or pretrained:NAME")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--rows", type=int, default=1000, help="so many test rows, the first ones")
    parser.add_argument("--every", type=int, default=1, help="one row in so many; those of dSprites are sorted by size")
    parser.add_argument("--chains", type=int, default=4, help="per row")
    parser.add_argument("--steps", type=int, default=None, help="sweeps; default is the model's number of steps")
    parser.add_argument("--parts", nargs="*", default=None, help="such as 'top half'; default is all")
    parser.add_argument("--figures", type=Path, default=None, help="new folder for figures of in-painting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    _, model = open_model(arguments.model)
    image = image_block(model.space)
    if image is None:
        parser.error(f"{arguments.model}: has no image: {model.space}")
    data = open_data_of(model, arguments.data)
    test = data.test()
    values = {name: value[:: arguments.every][: arguments.rows] for name, value in test.items()}
    names, generator = model.space.discrete, torch.Generator().manual_seed(arguments.seed)
    if arguments.figures is not None:
        check_new(arguments.figures)
        drawn = inpainting_figures(model, test, image, torch.Generator().manual_seed(arguments.seed))
        print(*save_figures(drawn, arguments.figures), sep="\n")
    print(f"{arguments.model}: labels predicted right, % of {len(values[image])} test rows")
    print(f"{'given':<28}" + "".join(f"{name:>20}" for name in names) + f"{'seconds':>10}")
    for part in (NOTHING, *HALVES, WHOLE):
        for others in (False, True) if len(names) > 1 else (False,):
            if (arguments.parts is not None and part.text not in arguments.parts) or (part == NOTHING and not others):
                continue
            started = time.perf_counter()
            found = accuracy_given(
                model,
                values,
                image,
                part,
                others=others,
                num_chains=arguments.chains,
                num_steps=arguments.steps,
                generator=generator,
            )
            text = part.text + ", other labels" * others
            seconds, cells = time.perf_counter() - started, ""
            for name in names:
                best = ""
                if isinstance(data, ArrayDataset) and data.noise_sd:
                    best = f"({100 * accuracy_of_training_images(data, values, image, part, name, others=others):.2f})"
                cells += f"{100 * found[name]:>12.2f}{best:>8}"
            print(f"{text:<28}{cells}{seconds:>10.1f}", flush=True)


if __name__ == "__main__":
    main()
