"""The codec that the content of a column suggests."""

import numpy as np

from jointebm.tables.codes.binning import fit_numbers
from jointebm.tables.codes.categories import CategoryCodec, fit_categories, rare_share
from jointebm.tables.codes.column import ColumnCodec, IgnoredCodec, Kind
from jointebm.tables.codes.column_summary import ColumnSummary

__all__ = ["fit_column"]

MIN_IDS = 20  # rows; fewer that all differ may do so by chance
ID_RATE = 0.95  # distinct texts per row


def fit_column(summary: ColumnSummary, *, kind: Kind | None, max_bins: int | None, max_levels: int) -> ColumnCodec:
    """Chooses the codec of a column by its role, its training values and the requested kind; None follows the content.

    Raises:
        ValueError: numbers are wanted of texts, or there are more levels than are counted.
    """
    if kind == "id":
        return IgnoredCodec(reason="id")
    if not summary.num_present:
        return IgnoredCodec(reason="all missing")
    if kind == "numeric" and summary.role == "label":
        raise ValueError("kind is 'numeric', but the column holds text; convert it to numbers first")
    if summary.role == "boolean" and kind != "numeric":  # both levels, even if one does not occur
        rows = np.array([summary.levels.get(level, 0) for level in (False, True)])
        share = rare_share(rows, np.arange(2))
        return CategoryCodec(levels=(False, True), code=(0, 1), weight=(1.0, 1.0), ordered=False, rare_share=share)
    if summary.role == "label" or kind == "categorical":
        # Texts that nearly all differ are ids of rows.
        levels = summary.levels
        num, num_distinct = sum(levels.values()), len(levels)
        if kind is None and summary.declared is None and num >= MIN_IDS and num_distinct >= ID_RATE * num:
            return IgnoredCodec(reason="id")
        if not summary.is_exact:
            raise ValueError(
                f"has too many levels to count in {summary.num_present} rows; call it an id (kinds={{...: 'id'}}, or --kind "
                "NAME=id), or give its rare levels one name"
            )
        return fit_categories(levels, max_codes=max_levels, declared=summary.declared, ordered=summary.ordered)
    assert summary.numbers is not None
    values, rows = summary.numbers
    whole = summary.role != "real"
    return fit_numbers(values.astype(np.int64 if whole else np.float64), rows, grid=summary.grid, max_codes=max_bins)
