"""Connected components of many graphs at once, by a fixed number of tensor operations.

Legend: N chains, V variables, E pairs.
"""

import torch
from torch import Tensor

from jointebm.randomness.waiting import may_read

__all__ = ["components"]


def components(pairs: Tensor, bonds: Tensor, num: int) -> Tensor:
    """Finds the component of each variable in N graphs whose edges are some of the same pairs.

    Every tree hooks onto the neighbouring tree with the smallest root; two that choose each other keep the smaller root.
    Choices cannot make a longer circle, since on a circle the tree chosen by the smallest root chooses it back. So a round
    leaves at most half of the trees that have a neighbour, and floor(log2 V) rounds find all components. In round t, from
    0, at most V / 2^t trees hook in a row, and ceil(log2(V / 2^t - 1)) doublings of pointers flatten them. The number of
    operations depends on V alone, and no value is read from the device; on a CPU, where reading does not wait, rounds that
    would change nothing are left out.

    Args:
        pairs: the two variables of each pair, (2, E), int64.
        bonds: which pairs are edges, (N, E), bool.
        num: V.

    Returns:
        The number of one variable of the component, the same for all its variables, (N, V), int64.

    References:
        Hirschberg, Chandra & Sarwate 1979, Computing connected components on parallel computers.

    Example:
        >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> components(path, torch.tensor([[True, False, True], [True, True, True]]), 4).tolist()
        [[0, 0, 2, 2], [0, 0, 0, 0]]
    """
    one, other = pairs
    own = torch.arange(num, device=bonds.device).expand(len(bonds), num)
    both = torch.cat([bonds, bonds], dim=1)
    root = own
    for number in range(num.bit_length() - 1):
        ends = root[:, one], root[:, other]
        here, there = torch.cat(ends, dim=1), torch.cat(ends[::-1], dim=1)  # (N, 2E), every pair from both sides
        apart = both & (here != there)
        if may_read(bonds) and not bool(apart.any()):
            break  # nothing is left to do for the other rounds
        seen = torch.where(apart, there, num)
        smallest = torch.full_like(root, num).scatter_reduce(1, here, seen, "amin")  # of the trees around a root
        hooked = torch.where(smallest == num, own, smallest)
        mutual = hooked.gather(1, hooked) == own
        hooked = torch.where(mutual & (own < hooked), own, hooked)
        longest = (num >> number) - 1  # hooks in a row
        for _ in range((longest - 1).bit_length() if longest > 1 else 0):
            hooked = hooked.gather(1, hooked)
        root = hooked.gather(1, root)
    return root
