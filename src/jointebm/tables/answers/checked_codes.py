"""Checks of codes that questions are asked about.

Legend: N rows, V columns. Codes are integers in 0..K_j-1; -1 is missing.
"""

import torch
from torch import Tensor

__all__ = ["checked_codes", "complete_codes"]


def checked_codes(codes: Tensor, num_classes: tuple[int, ...], column: int = 0) -> Tensor:
    """The codes as int64; raises unless the codes fit the columns and `column` is one of them."""
    if not 0 <= column < max(1, len(num_classes)):
        raise ValueError(f"column: got {column}; the columns are numbered from 0 to {len(num_classes) - 1}")
    if codes.dim() != 2 or codes.shape[1] != len(num_classes) or codes.is_floating_point():
        raise ValueError(
            f"codes: got {codes.dtype} of shape {tuple(codes.shape)}, expected whole numbers of shape "
            f"(rows, {len(num_classes)})"
        )
    codes = codes.to(torch.int64)
    wrong = (codes < -1) | (codes >= codes.new_tensor(num_classes))
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"codes: got {int(codes[row, column])} in row {row}, column {column}; codes there run from 0 to "
            f"{num_classes[column] - 1}, and -1 is missing"
        )
    return codes


def complete_codes(codes: Tensor) -> Tensor:
    """The codes; raises ValueError if an entry is missing."""
    if bool((codes < 0).any()):
        row, column = (codes < 0).nonzero()[0].tolist()
        raise ValueError(f"codes: row {row}, column {column} is missing; draw missing entries with `complete` first")
    return codes
