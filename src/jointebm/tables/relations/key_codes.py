"""Codes of a key with many levels: rare levels share a code only with those that determine the same values.

Legend: L levels, K codes.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from jointebm.tables.codes.categories import CategoryCodec

__all__ = ["with_groups"]


def with_groups(codec: CategoryCodec, groups: Sequence[Hashable]) -> CategoryCodec:
    """The codec with its last code, that of the rare levels, divided by group.

    Args:
        codec: of the key.
        groups: of each level, shape (L,).

    Example:
        >>> codec = CategoryCodec(levels=(1, 2, 3, 4), code=(0, 1, 1, 1), weight=(1.0, 0.5, 0.25, 0.25), ordered=False)
        >>> with_groups(codec, ["x", "y", "x", "y"]).code
        (0, 1, 1, 2)
    """
    code = np.array(codec.code)
    frequent, rare = np.flatnonzero(code < code[-1]), np.flatnonzero(code == code[-1])
    places: dict[Hashable, int] = {}
    group = np.array([places.setdefault(groups[level], len(places)) for level in rare.tolist()])
    rare, group = rare[np.argsort(group, kind="stable")], np.sort(group)
    order = np.concatenate([frequent, rare])
    codes = np.concatenate([code[frequent], code[-1] + group])
    weight = np.array(codec.weight)[order]
    weight = weight / np.bincount(codes, weight)[codes]
    return CategoryCodec(
        levels=tuple(codec.levels[level] for level in order),
        code=tuple(codes.tolist()),
        weight=tuple(weight.tolist()),
        ordered=codec.ordered,
        rare_share=codec.rare_share,
    )
