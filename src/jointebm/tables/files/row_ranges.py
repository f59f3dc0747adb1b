"""Which rows of a part are asked for."""

__all__ = ["overlap"]


def overlap(first: int, num: int, rows: range | None) -> slice:
    """The places of the rows with these numbers among `num` rows from number `first` on; None is all.

    Example:
        >>> overlap(10, 5, range(12, 99))
        slice(2, 5, None)
    """
    if rows is None:
        return slice(0, num)
    return slice(min(max(rows.start - first, 0), num), min(max(rows.stop - first, 0), num))
