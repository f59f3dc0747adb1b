"""Evaluates a model of images with captions, and prints whether its answers are true."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from jointebm.cli.blocks.parts import first_rows, percent
from jointebm.cli.console import print_table
from jointebm.data import CaptionedScenes, Dataset
from jointebm.evaluation.caption_truth import caption_report
from jointebm.inference.model import Model

__all__ = ["of_captions", "print_captions"]

LINES = {
    "exact": "image -> caption: true",
    "words": "  its words right",
    "drawn": "  one draw of it: true",
    "missing": "image and all words but one -> word: caption true",
}
DRAWN = {
    "judged": "test captions true by the judge",
    "images": "caption -> image: caption true by the judge",
    "halves": "left half and half of the words -> rest: true by the judge",
}


def of_captions(
    model: Model, dataset: Dataset, *, num_rows: int | None, num_images: int | None, generator: torch.Generator
) -> dict[str, Any]:
    """The part of a report that only a model of captions has.

    Raises:
        ValueError: the data are no scenes whose true captions are known.
    """
    if not isinstance(dataset, CaptionedScenes):
        raise ValueError(f"evaluate: data {dataset.name!r} do not say which captions are true; expected 'captions'")
    values, objects = first_rows(dataset, num_rows), dataset.test_objects()
    found = caption_report(
        model,
        values,
        objects[: len(values["caption"])],
        num_images=num_images or 0,
        generator=generator,
    )
    return asdict(found)


def print_captions(report: Mapping[str, Any]) -> None:
    """Prints which answers are true, by the number of objects."""
    captions = report["captions"]
    kinds = list(captions["num"])
    lines = {**LINES, **(DRAWN if captions["num_images"] else {})}
    rows = [[text, *(percent(captions[key][kind]) for kind in kinds)] for key, text in lines.items()]
    rows += [
        [text, *(f"{captions[key][kind]:.3f}" for kind in kinds)]
        for key, text in (("log_p", "log p(caption given image), nats"), ("log_p_true", "  by the grammar"))
    ]
    accepted = ", ".join(f"{name} {rate:.2f}" for name, rate in captions["accept_rate"].items())
    counts = " and ".join(f"{captions['num'][kind]} rows with {kind}" for kind in kinds)
    drawn = f"; {captions['num_images']} draws of images, acceptance: {accepted}" if captions["num_images"] else ""
    print_table(f"{report['model']}: captions and images", ["", *kinds], rows, caption=counts + drawn)
