"""Couplings of pairs of labels that can be tied into clusters: those that only ask whether two labels are equal.

Legend: V variables, E pairs, K classes (the largest number of any variable), M columns.
"""

import torch
from torch import Tensor

from jointebm.kernels.class_table import ClassTable
from jointebm.kernels.columns import Columns

__all__ = ["bond_strengths", "require_bonds"]

TABLE_ROUNDING = 1024  # times the spacing of numbers next to the largest coupling, within which tables count as equal


def bond_strengths(columns: Columns, matrix: Tensor) -> Tensor:
    """What f gains if two labels are equal, from its second derivatives in the columns.

    table_vw(k, l) = J_vw [k = l] + a_v(k) + b_w(l), where a and b belong to the fields

    Args:
        columns: of the discrete blocks, on the CPU.
        matrix: constant second derivatives, (M, M), symmetric, nats.

    Returns:
        J, (V, V), symmetric, with zeros on the diagonal.

    Raises:
        ValueError: f is not linear in a variable, or a table does not have this form.

    Example:
        >>> from jointebm import Categorical, Space
        >>> from jointebm.kernels.columns import columns_of
        >>> columns = columns_of(Space(y=Categorical(3, (2,))), ("y",), torch.device("cpu"))
        >>> matrix = torch.zeros(6, 6)
        >>> matrix[:3, 3:] = matrix[3:, :3] = 0.7 * torch.eye(3) + torch.tensor([1.0, 2.0, 3.0])[:, None]
        >>> bond_strengths(columns, matrix + matrix.T)[0, 1] - 1.4 < 1e-6
        tensor(True)
    """
    matrix, variable, counts = matrix.detach().cpu(), columns.variable, columns.num_classes
    num = columns.num_variables
    coupled = torch.zeros(num, len(variable)).index_add_(0, variable, (matrix != 0).float())
    coupled = torch.zeros(num, num).index_add_(1, variable, coupled) > 0
    if bool(coupled.diagonal().any()):
        number = int(coupled.diagonal().nonzero()[0])
        raise ValueError(f"SwendsenWang: f is not linear in {_named(columns, number)}; use Gibbs or ChromaticGibbs")
    one, other = coupled.triu(1).nonzero().T
    table = ClassTable.of(columns, torch.ones(num, dtype=torch.bool))
    source = table.source.T  # (V, K)
    padded = torch.nn.functional.pad(matrix, (0, 2, 0, 2))
    tables = padded[source[one][:, :, None], source[other][:, None, :]]  # (E, K, K)
    present = source <= len(variable)
    centred, size = tables, counts[one].to(matrix.dtype)[:, None, None]
    for axis, mask in ((1, present[one][:, :, None]), (2, present[other][:, None, :])):
        centred = (centred - centred.sum(dim=axis, keepdim=True) / size) * mask
    found = centred.diagonal(dim1=1, dim2=2).sum(dim=1) / (counts[one] - 1).clamp(min=1)
    both = present[one][:, :, None] & present[other][:, None, :]
    ideal = torch.where(both, found[:, None, None] * (torch.eye(source.shape[1]).to(matrix.dtype) - 1 / size), 0)
    allowed = TABLE_ROUNDING * torch.finfo(matrix.dtype).eps * matrix.abs().max()
    wrong = (counts[one] != counts[other]) | ((centred - ideal).abs().amax(dim=(1, 2)) > allowed)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise ValueError(
            f"SwendsenWang: the coupling of {_named(columns, int(one[first]))} and {_named(columns, int(other[first]))} "
            "does not ask only whether they are equal, so that no tie gives it; use SwendsenWang(space, couplings), which "
            "corrects, or ChromaticGibbs"
        )
    strengths = torch.zeros(num, num, dtype=matrix.dtype)
    strengths[one, other] = strengths[other, one] = torch.where(found.abs() > allowed, found, 0)
    return strengths


def require_bonds(columns: Columns, couplings: Tensor) -> None:
    """Raises ValueError unless couplings (V, V) are those of pairs that can be tied."""
    num = columns.num_variables
    if couplings.shape != (num, num) or not couplings.is_floating_point():
        raise ValueError(
            f"SwendsenWang: got couplings of shape {tuple(couplings.shape)} and {couplings.dtype}, expected floats of shape "
            f"({num}, {num}), a row for each variable of {', '.join(map(repr, columns.blocks))}"
        )
    values = couplings.detach().cpu()
    if not bool(values.isfinite().all()) or not torch.equal(values, values.T) or bool(values.diagonal().any()):
        raise ValueError(
            "SwendsenWang: couplings must be finite and symmetric, with zeros on the diagonal; pass (J + J.T) / 2 without "
            "its diagonal"
        )
    counts = columns.num_classes
    unequal = ((values != 0) & (counts[:, None] != counts)) | ((values < 0) & (counts[:, None] > 2))
    if bool(unequal.any()):
        one, other = unequal.nonzero()[0].tolist()
        raise ValueError(
            f"SwendsenWang: coupling {float(values[one, other]):.4g} ties {_named(columns, one)} with {int(counts[one])} "
            f"classes to {_named(columns, other)} with {int(counts[other])}; expected equal numbers, and two classes where "
            "a coupling is negative. Set it to 0, or use ChromaticGibbs"
        )


def _named(columns: Columns, number: int) -> str:
    """A variable by its block and its place in it."""
    for name in columns.blocks:
        if number < (count := columns.space[name].num_variables):
            return f"variable {number} of block {name!r}"
        number -= count
    raise AssertionError("a number of a variable")
