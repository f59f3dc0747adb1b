"""A grammar of captions: which captions are true of one or two objects, and how likely each is said.

Legend: T = 12 places of a caption, V = 26 words, one of which is the padding after the last word.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

__all__ = [
    "MAX_WORDS",
    "SHAPES_SAID",
    "WORDS",
    "SceneObject",
    "caption_of",
    "caption_text",
    "say_caption",
    "true_captions",
]

MAX_WORDS = 12  # T
WORDS = (
    *("", "a", "an", "and", "small", "little", "large", "big", "bright", "dim"),
    *("square", "ellipse", "oval", "triangle"),
    *("left", "right", "above", "below", "of", "to", "the", "at", "in", "top", "bottom", "middle"),
)
"""The vocabulary; the empty word is the padding.

Example:
    >>> len(WORDS), WORDS[4]
    (26, 'small')
"""

SHAPES_SAID = (("square",), ("ellipse", "oval"), ("triangle",))  # nouns of each shape
SIZES_SAID = (("small", "little"), ("large", "big"))
SHADES_SAID = (("dim",), ("bright",))
SAID = 0.75  # probability that an adjective, or the place of a single object, is said
LINKED = 0.125  # probability that two objects are linked by "and" alone
CLEAR_DISTANCE = 4.0  # pixels between centres along an axis, from which on a relation is true
SCENE_SIDE = 24  # pixels of an image; its thirds are top, middle and bottom

Phrases = dict[tuple[str, ...], float]  # probabilities of phrases


class SceneObject(NamedTuple):
    """What captions speak of.

    Args:
        shape: 0 square, 1 ellipse, 2 triangle.
        large: size.
        bright: shade.
        x: of the centre of mass, pixels from the left edge of the image.
        y: pixels from the top edge.
    """

    shape: int
    large: bool
    bright: bool
    x: float
    y: float


def true_captions(objects: Sequence[SceneObject]) -> dict[tuple[int, ...], float]:
    """Every caption that is true of a scene, T numbers of words each, with the probability that it is said.

    Adjectives and the place of a single object are said with probability 3/4, synonyms are equally likely. Two objects come
    in either order, linked by "and" with probability 1/8, else by one of the relations that are true. A relation is true
    from 4 pixels between the centres on. A single object is at the top if its centre lies in the upper third of the image,
    and so on; in the middle, if it is in the middle third both ways.

    Args:
        objects: one or two, at distinct places: if no relation is true, they are linked by "and".

    Example:
        >>> found = true_captions([SceneObject(0, False, True, 12.0, 2.0)])
        >>> round(sum(found.values()), 9), len(found), caption_text(max(found, key=found.get))
        (1.0, 12, 'a small bright square at the top')
    """
    if len(objects) == 1:
        (single,) = objects
        return {_padded(words): p for words, p in _joined(_noun_phrase(single), _places(single)).items()}
    found: dict[tuple[int, ...], float] = {}
    for first, second in (objects, objects[::-1]):
        for words, p in _joined(_noun_phrase(first), _links(first, second), _noun_phrase(second)).items():
            found[_padded(words)] = found.get(_padded(words), 0.0) + p / 2
    return found


def say_caption(objects: Sequence[SceneObject], chance: Sequence[float]) -> tuple[int, ...]:
    """Draws one of `true_captions` with its probability.

    Args:
        objects: one or two.
        chance: four independent numbers on [0, 1): for the order, both objects, and how they are linked or placed.

    Example:
        >>> caption_text(say_caption([SceneObject(1, True, False, 12.0, 12.0)], (0.5, 0.0, 0.5, 0.9)))
        'an ellipse in the middle'
    """
    if len(objects) == 1:
        return _padded(_pick(_noun_phrase(objects[0]), chance[1]) + _pick(_places(objects[0]), chance[3]))
    first, second = objects if chance[0] < 0.5 else objects[::-1]
    link = _pick(_links(first, second), chance[3])
    return _padded(_pick(_noun_phrase(first), chance[1]) + link + _pick(_noun_phrase(second), chance[2]))


def caption_text(words: Sequence[int]) -> str:
    """The words of a caption, numbers up to T; "_" stands for one that is missing, -1.

    Example:
        >>> caption_text([1, 4, -1, 0])
        'a small _'
    """
    return " ".join("_" if word < 0 else WORDS[word] for word in words if word)


def caption_of(text: str) -> tuple[int, ...]:
    """T numbers of words from a text; "_" is a missing word, -1.

    Raises:
        ValueError: a word is unknown, or there are too many.

    Example:
        >>> caption_of("a _ square")
        (1, -1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    """
    said = text.split()
    unknown = [word for word in said if word != "_" and word not in WORDS]
    if unknown or len(said) > MAX_WORDS:
        problem = f"unknown word {unknown[0]!r}" if unknown else f"{len(said)} words"
        raise ValueError(
            f"caption {text!r}: got {problem}; expected at most {MAX_WORDS} of the words {', '.join(WORDS[1:])}, or _ for a "
            "missing word"
        )
    numbers = [-1 if word == "_" else WORDS.index(word) for word in said]
    return tuple(numbers + [0] * (MAX_WORDS - len(numbers)))


def _padded(words: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(WORDS.index(word) for word in words) + (0,) * (MAX_WORDS - len(words))


def _noun_phrase(described: SceneObject) -> Phrases:
    return _noun_phrases(described.shape, described.large, described.bright)


@cache
def _noun_phrases(shape: int, large: bool, bright: bool) -> Phrases:
    nouns, sizes, shades = SHAPES_SAID[shape], SIZES_SAID[large], SHADES_SAID[bright]
    phrases = _joined(_perhaps(sizes), _perhaps(shades), {(noun,): 1 / len(nouns) for noun in nouns})
    return {("an" if words[0][0] in "eo" else "a", *words): p for words, p in phrases.items()}


def _perhaps(synonyms: Sequence[str]) -> Phrases:
    """One of the synonyms, or nothing."""
    return {(): 1 - SAID} | {(word,): SAID / len(synonyms) for word in synonyms}


def _places(single: SceneObject) -> Phrases:
    by_columns, by_rows = (int(min(max(3 * place // SCENE_SIDE, 0), 2)) for place in (single.x, single.y))
    words = [word for word in (("left", "", "right")[by_columns], ("top", "", "bottom")[by_rows]) if word]
    said = [("at", "the", word) for word in words] or [("in", "the", "middle")]
    return {(): 1 - SAID} | {phrase: SAID / len(said) for phrase in said}


def _links(first: SceneObject, second: SceneObject) -> Phrases:
    """How the first object is linked to the second."""
    right, down = first.x - second.x, first.y - second.y
    true: list[list[tuple[str, ...]]] = []
    if abs(right) >= CLEAR_DISTANCE:
        word = "right" if right > 0 else "left"
        true.append([(word, "of"), ("to", "the", word, "of")])
    if abs(down) >= CLEAR_DISTANCE:
        true.append([("below",) if down > 0 else ("above",)])
    if not true:
        return {("and",): 1.0}
    forms = {form: (1 - LINKED) / (len(true) * len(relation)) for relation in true for form in relation}
    return {("and",): LINKED} | forms


def _joined(*parts: Phrases) -> Phrases:
    """Independent phrases one after the other."""
    found: Phrases = {(): 1.0}
    for part in parts:
        found = {before + words: p * q for before, p in found.items() for words, q in part.items()}
    return found


def _pick(phrases: Phrases, chance: float) -> tuple[str, ...]:
    """The phrase at this place of the cumulative probabilities."""
    total = 0.0
    for words, p in phrases.items():
        total += p
        if chance < total:
            return words
    return words
