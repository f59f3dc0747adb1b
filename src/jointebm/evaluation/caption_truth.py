"""Whether captions, images, missing words and halves of a caption model are true, by the grammar and a judge of images.

Legend: N rows, T places of a caption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.data.caption_grammar import SceneObject, true_captions
from jointebm.energies.caption import CaptionEnergy
from jointebm.evaluation.scene_judge import read_scenes
from jointebm.inference.model import Model
from jointebm.inference.subset_answers import anneal_given
from jointebm.randomness.draws import Generator, uniform

__all__ = ["CaptionReport", "are_true", "caption_report", "true_of_images", "words_right"]

SCENE_KINDS = {"one object": 1, "two objects": 2}

Shares = dict[str, float]  # by kind of scene: one object, two objects
Truths = Sequence[Mapping[tuple[int, ...], float]]  # true captions of each row, with their probabilities


@dataclass(frozen=True)
class CaptionReport:
    """Answers about test rows, each by kind of scene.

    Args:
        num: rows.
        exact: share of images whose most probable caption is true.
        words: share of the words of these captions that agree with the nearest true caption.
        drawn: share of images of which one draw of the caption is true.
        missing: share of captions of which one word, at random, is filled in so that the caption is true of the image.
        log_p: mean of log p(caption | image) over test captions, nats.
        log_p_true: the same by the grammar, which no model can beat on average.
        num_images: draws of images, and as many completions of halves.
        judged: share of test captions that are true of the scene that the judge reads off the test image.
        images: share of draws given a caption of which it is true, by the judge.
        halves: share of rows whose left half of the image and half of whose words were known, and whose caption is true of
            its image after completion, by the judge.
        accept_rate: of the Metropolis steps of these draws of images.
    """

    num: dict[str, int]
    exact: Shares
    words: Shares
    drawn: Shares
    missing: Shares
    log_p: Shares
    log_p_true: Shares
    num_images: int
    judged: Shares
    images: Shares
    halves: Shares
    accept_rate: dict[str, float]


def caption_report(
    model: Model,
    values: Mapping[str, Tensor],
    objects: Sequence[Sequence[SceneObject]],
    *,
    num_images: int,
    generator: Generator,
) -> CaptionReport:
    """Asks a model about test rows.

    Args:
        model: with a `CaptionEnergy`.
        values: test rows.
        objects: what there is to say of each.
        num_images: how many captions to draw an image of, and rows to complete from halves, at most; 0 is none.
        generator: source of all draws.

    Raises:
        ValueError: the energy is no `CaptionEnergy`, or a kind of scene has no rows.
    """
    energy = model.energy
    if not isinstance(energy, CaptionEnergy):
        raise ValueError(f"caption_report: needs a model with a CaptionEnergy, got {type(energy).__name__}")
    rows = {kind: [n for n, each in enumerate(objects) if len(each) == count] for kind, count in SCENE_KINDS.items()}
    if not all(rows.values()):
        raise ValueError(f"caption_report: needs rows with one and with two objects, got {_sizes(rows)}; ask for more")
    truths = [true_captions(each) for each in objects]
    image, caption = values[energy.image], values[energy.caption]
    given = {energy.image: image}
    best = model.predict(given, energy.caption).labels[energy.caption]
    drawn = model.space.decode(anneal_given(energy, len(image), given, generator).position)[energy.caption]
    log_p = model.log_density({**given, energy.caption: caption}) - model.log_density(given)
    log_p_true = torch.tensor(
        [truth[tuple(words)] for truth, words in zip(truths, caption.tolist(), strict=True)]
    ).log()
    filled = _filled(model, energy, values, generator)
    found = {
        "exact": are_true(best, truths),
        "words": words_right(best, truths),
        "drawn": are_true(drawn, truths),
        "missing": are_true(filled, truths),
        "log_p": log_p,
        "log_p_true": log_p_true,
        "judged": true_of_images(image, caption),
    }
    by_kind = {name: {kind: float(of[n].double().mean()) for kind, n in rows.items()} for name, of in found.items()}
    some = {kind: torch.tensor(n[: (num_images + 1) // 2]) for kind, n in rows.items()} if num_images else {}
    images: Shares = {}
    halves: Shares = {}
    accept_rate: dict[str, float] = {}
    for kind, n in some.items():
        asked = model.sample(len(n), {energy.caption: caption[n]}, seed=_seed(generator), diagnostics=True)
        images[kind] = float(true_of_images(asked.value[energy.image], caption[n]).mean())
        accept_rate |= asked.diagnostics.accept_rate
        (whole,) = model.impute(_half(energy, image[n], caption[n], generator), seed=_seed(generator))
        halves[kind] = float(true_of_images(whole[energy.image], whole[energy.caption]).mean())
    return CaptionReport(
        _sizes(rows),
        **by_kind,
        num_images=sum(map(len, some.values())),
        images=images,
        halves=halves,
        accept_rate=accept_rate,
    )


def _sizes(rows: Mapping[str, Sequence[int]]) -> dict[str, int]:
    return {kind: len(numbers) for kind, numbers in rows.items()}


def are_true(captions: Tensor, truths: Truths) -> Tensor:
    """Which captions (N, T) are among the true ones of their row, (N,): 1 or 0.

    Example:
        >>> are_true(torch.tensor([[1, 2], [2, 1]]), [{(1, 2): 1.0}] * 2)
        tensor([1., 0.])
    """
    return torch.tensor([float(tuple(words) in truth) for words, truth in zip(captions.tolist(), truths, strict=True)])


def true_of_images(images: Tensor, captions: Tensor) -> Tensor:
    """Which captions (N, T) are true of what the judge reads off images, (N,): 1 or 0; false if it reads nothing.

    Example:
        >>> true_of_images(torch.zeros(1, 24, 24), torch.zeros(1, 12, dtype=torch.int64))
        tensor([0.])
    """
    scenes = read_scenes(images)
    return are_true(captions, [{} if scene is None else true_captions(scene) for scene in scenes])


def words_right(captions: Tensor, truths: Truths) -> Tensor:
    """Share of places of captions (N, T) that agree with the nearest true caption, (N,).

    Places after the end of both captions do not count.

    Example:
        >>> words_right(torch.tensor([[1, 2, 0]]), [{(1, 3, 0): 0.5, (3, 3, 2): 0.5}])
        tensor([0.5000])
    """
    shares = []
    for words, truth in zip(captions, truths, strict=True):
        true = torch.tensor(list(truth))
        said = (true != 0) | (words != 0)
        shares.append((((true == words) & said).sum(dim=1) / said.sum(dim=1)).max())
    return torch.stack(shares)


def _filled(model: Model, energy: CaptionEnergy, values: Mapping[str, Tensor], generator: Generator) -> Tensor:
    """Captions of which one word, at random among those said, was left out and predicted from the image and the others."""
    caption = values[energy.caption]
    scores = uniform(torch.empty(caption.shape), generator) * (caption != 0)
    blank = torch.zeros_like(caption, dtype=torch.bool).scatter(1, scores.argmax(dim=1, keepdim=True), value=True)
    given = {energy.image: values[energy.image], energy.caption: torch.where(blank, -1, caption)}
    return model.predict(given, energy.caption).labels[energy.caption]


def _half(energy: CaptionEnergy, image: Tensor, caption: Tensor, generator: Generator) -> dict[str, Tensor]:
    """The left half of images, and each word of their captions with probability 1/2."""
    left = torch.arange(image.shape[2]) < image.shape[2] // 2
    kept = uniform(torch.empty(caption.shape), generator) < 0.5
    return {energy.image: torch.where(left, image, torch.nan), energy.caption: torch.where(kept, caption, -1)}


def _seed(generator: Generator) -> int:
    return int(uniform(torch.empty(1, dtype=torch.float64), generator) * 2**31)
