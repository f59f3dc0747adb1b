"""Images and captions from any part of both: an image for a caption, a caption for an image, and the rest of two halves.

python examples/gallery/captions.py --out docs/figures/gallery/captions.png
"""

import argparse
from textwrap import fill

import torch

from jointebm import load
from jointebm.data import CaptionedScenes
from jointebm.data.caption_grammar import caption_of, caption_text
from jointebm.evaluation.caption_truth import true_of_images
from jointebm.plots import plot_images, save_figure, subplots

ASKED = (
    "a small bright square",
    "a large dim triangle at the top",
    "a big ellipse in the middle",
    "a small dim oval at the left",
    "a large bright ellipse above a small dim square",
    "a small triangle to the left of a big square",
    "a dim oval below a bright oval",
    "a big bright triangle and a little dim triangle",
)

parser = argparse.ArgumentParser()
parser.add_argument("--num", type=int, default=4, help="images for each caption")
parser.add_argument("--out", help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)
torch.set_num_threads(1)

model = load("pretrained:captions")  # 24 x 24 images, captions of up to 12 words
captions = torch.tensor([caption_of(text) for text in ASKED]).repeat_interleave(args.num, dim=0)
drawn = model.sample(len(captions), given={"caption": captions}, seed=0)["image"]
print(f"captions true of the images drawn for them: {true_of_images(drawn, captions).mean():.1%} of {len(captions)}")

test = {name: value[: 2 * args.num] for name, value in CaptionedScenes().test().items()}
read = model.predict({"image": test["image"]}, "caption").labels["caption"]
print(f"captions true of test images: {true_of_images(test['image'], read).mean():.1%} of {len(read)}")

left = torch.where(torch.arange(24) < 12, test["image"], torch.nan)  # the right half is missing
words = torch.where(torch.arange(12) % 2 == 0, test["caption"], -1)  # and so is every second word
(whole,) = model.impute({"image": left, "caption": words}, seed=1)

if args.out:
    titles = ["drawn for a caption", "a caption for an image", "half of each is given", "and completed"]
    figure = subplots(1, 4, size=(3.3, 7.4), titles=titles)
    shown = {
        "drawn": (drawn[:: args.num], captions[:: args.num]),
        "read": (test["image"], read),
        "given": (left, words),
        "whole": (whole["image"], whole["caption"]),
    }
    for ax, (images, texts) in zip(figure[0], shown.values(), strict=True):
        said = [fill(caption_text(each.tolist()), 32) for each in texts[:8]]
        plot_images(images[:8], num_columns=2, captions=said, ax=ax)
    save_figure(figure[0, 0].figure, args.out, dpi=80)
