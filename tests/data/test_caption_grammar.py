"""Specification of the grammar: exactly the captions that hold of a scene, each with the probability that it is said."""

from collections import Counter
from itertools import product

import pytest
import torch

from jointebm.data.caption_grammar import (
    MAX_WORDS,
    SHAPES_SAID,
    WORDS,
    SceneObject,
    caption_of,
    caption_text,
    say_caption,
    true_captions,
)
from jointebm.data.scenes import draw_scenes, scene_objects

SQUARE = SceneObject(0, large=False, bright=True, x=5.0, y=4.0)
OVAL = SceneObject(1, large=True, bright=False, x=18.0, y=20.0)
BESIDE = SQUARE._replace(x=15.0, y=6.0)
RELATIONS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
SIZES = {"small": False, "little": False, "large": True, "big": True}
SHADES = {"dim": False, "bright": True}
SHAPES = {noun: number for number, nouns in enumerate(SHAPES_SAID) for noun in nouns}


def described(words: list[str], thing: SceneObject) -> bool:
    """Whether a noun phrase is well formed and holds of an object: an oracle that shares no code with the grammar."""
    article, *adjectives, noun = words
    kinds = [0 if word in SIZES else 1 for word in adjectives]
    well_formed = kinds == sorted(set(kinds)) and all(word in SIZES or word in SHADES for word in adjectives)
    vowel = words[1] in ("ellipse", "oval")
    holds = all(SIZES.get(word, thing.large) == thing.large for word in adjectives)
    holds &= all(SHADES.get(word, thing.bright) == thing.bright for word in adjectives)
    return well_formed and holds and article == ("an" if vowel else "a") and SHAPES.get(noun) == thing.shape


def related(words: list[str], first: SceneObject, second: SceneObject) -> bool:
    if words == ["and"]:
        return True
    word = words[-2] if words[-1] == "of" else words[-1]
    right, down = RELATIONS[word]
    clear = right * (first.x - second.x) + down * (first.y - second.y) >= 4
    return clear and words in ([word, "of"], ["to", "the", word, "of"]) if right else clear and words == [word]


def placed(words: list[str], thing: SceneObject) -> bool:
    third = {"left": thing.x < 8, "right": thing.x >= 16, "top": thing.y < 8, "bottom": thing.y >= 16}
    if not words:
        return True
    if words == ["in", "the", "middle"]:
        return not any(third.values())
    return words[:2] == ["at", "the"] and third[words[2]]


def holds(text: str, objects: list[SceneObject]) -> bool:
    words = text.split()
    nouns = [place for place, word in enumerate(words) if word in SHAPES]
    if len(nouns) != len(objects):
        return False
    if len(nouns) == 1:
        return described(words[: nouns[0] + 1], objects[0]) and placed(words[nouns[0] + 1 :], objects[0])
    start = max(place for place, word in enumerate(words) if word in ("a", "an"))
    return any(
        described(words[: nouns[0] + 1], first)
        and related(words[nouns[0] + 1 : start], first, second)
        and described(words[start:], second)
        for first, second in (objects, objects[::-1])
    )


def test_every_caption_of_many_scenes_holds_of_it_by_an_oracle() -> None:
    for objects in scene_objects(draw_scenes(40, generator=torch.Generator().manual_seed(0))):
        found = true_captions(objects)
        assert abs(sum(found.values()) - 1) < 1e-12
        assert all(len(words) == MAX_WORDS and holds(caption_text(words), objects) for words in found)


def test_no_true_caption_is_left_out() -> None:
    """3 x 2 phrases for the square, twice as many for the oval, which is both right of it (two forms) and below it."""
    assert len(true_captions([SQUARE, OVAL])) == 2 * 6 * 12 * 4
    assert len(true_captions([SQUARE, BESIDE])) == 2 * 6 * 6 * 3 - 36  # "X and Y" of alike objects is one caption
    assert len(true_captions([SQUARE])) == 6 * 3


def test_a_caption_of_another_scene_is_not_true() -> None:
    for other in (
        SQUARE._replace(large=True),
        SQUARE._replace(bright=False),
        SQUARE._replace(shape=2),
        SQUARE._replace(x=19.0),
    ):
        text = "a small bright square to the left of a big dim oval"
        assert caption_of(text) in true_captions([SQUARE, OVAL])
        assert caption_of(text) not in true_captions([other, OVAL])


@pytest.mark.parametrize(
    ("right", "down", "relations"),
    [(4.0, 0.0, {"left", "right"}), (3.9, 4.0, {"above", "below"}), (-4.0, 3.9, {"left", "right"}), (3.9, 3.9, set())],
)
def test_a_relation_is_true_from_four_pixels_on(right: float, down: float, relations: set[str]) -> None:
    found = true_captions([SQUARE, SQUARE._replace(x=SQUARE.x + right, y=SQUARE.y + down)])
    said = {WORDS[word] for words in found for word in words}
    assert said & set(RELATIONS) == relations
    assert "and" in said


@pytest.mark.parametrize(("objects", "grid"), [([OVAL], (1, 64, 1, 8)), ([SQUARE, BESIDE], (2, 32, 32, 32))])
def test_captions_are_said_with_their_probabilities(objects: list[SceneObject], grid: tuple[int, ...]) -> None:
    """All probabilities are multiples of one over the grid, so that its midpoints give them exactly."""
    chances = product(*[[(k + 0.5) / num for k in range(num)] for num in grid])
    counts = Counter(say_caption(objects, chance) for chance in chances)
    total, expected = sum(counts.values()), true_captions(objects)
    assert set(counts) == set(expected)
    assert max(abs(counts[words] / total - p) for words, p in expected.items()) < 1e-12


def test_texts_and_numbers_are_inverse() -> None:
    for words in true_captions([SQUARE, OVAL]):
        assert caption_of(caption_text(words)) == words
    assert caption_text(caption_of("a _ square")) == "a _ square"


@pytest.mark.parametrize("text", ["a red square", " ".join(["a"] * 13)])
def test_texts_beyond_the_vocabulary_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"caption .*: got (unknown word 'red'|13 words); expected at most 12"):
        caption_of(text)
