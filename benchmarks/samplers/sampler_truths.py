"""Exact means of the quantities that samplers are judged by."""

import numpy as np
import torch
from sampler_targets import Mixed, Pairwise, config_labels, full_arrays, log_densities, shown
from torch import Tensor

from jointebm.testing import ising_interaction

__all__ = ["truth_of"]


def truth_of(target: Pairwise | Mixed) -> dict[str, float]:
    """The exact mean of each quantity; quantities without a closed form are left out."""
    return _pairwise(target) if isinstance(target, Pairwise) else _mixed(target)


def _pairwise(target: Pairwise) -> dict[str, float]:
    if target.shape == "grid":
        num = target.num_classes[0]
        f = {}
        if num == 2:
            coupling = float(target.weights[0, 1, 1])
            f = {"f": coupling * len(target.num_classes) * ising_interaction(coupling, *target.sides)}
        return {**f, "share": 1 / num}
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    unary = torch.tensor(target.unary, requires_grad=True)
    log_z = log_partition(target, unary, scale)
    of_unary, of_scale = torch.autograd.grad(log_z, [unary, scale])
    found = {"f": float(of_scale)}
    for v in shown(len(target.num_classes)):
        found |= {f"y{v}={k}": float(of_unary[v, k]) for k in range(1, min(target.num_classes[v], 4))}
    return found


def log_partition(target: Pairwise, unary: Tensor, scale: Tensor) -> Tensor:
    """log of the sum of exp(scale f) over all configurations, by summing out one variable after the other."""
    factors = [((v,), scale * unary[v, :count]) for v, count in enumerate(target.num_classes)]
    for (v, w), weight in zip(target.pairs.tolist(), target.weights, strict=True):
        table = scale * torch.tensor(weight[: target.num_classes[v], : target.num_classes[w]])
        factors.append(((v, w), table))
    for variable in target.order:
        met = [factor for factor in factors if variable in factor[0]]
        factors = [factor for factor in factors if variable not in factor[0]]
        names = [*sorted({name for factor in met for name in factor[0]} - {variable}), variable]
        total = sum((_aligned(factor, names) for factor in met), torch.zeros((), dtype=torch.float64))
        factors.append((tuple(names[:-1]), total.logsumexp(dim=-1)))
    return sum((table for _, table in factors), torch.zeros((), dtype=torch.float64))


def _aligned(factor: tuple[tuple[int, ...], Tensor], names: list[int]) -> Tensor:
    """The table of a factor with an axis for each of the names."""
    own, table = factor
    order = sorted(range(len(own)), key=lambda place: names.index(own[place]))
    table = table.permute(order)
    return table[tuple(slice(None) if name in own else None for name in names)]


def _mixed(target: Mixed) -> dict[str, float]:
    configs = config_labels(target.num_classes)
    arrays = {name: torch.tensor(value, dtype=torch.float64) for name, value in full_arrays(target).items()}
    if target.kind == "conditional":  # x integrates to the same constant for every y
        y = arrays["configs"]
        weight = (y @ arrays["bias"] + ((y @ arrays["coupling"]) * y).sum(dim=1)).softmax(dim=0)
        mean_x = weight @ y @ arrays["effect"]
    elif target.kind == "gaussians":
        weight = arrays["log_w"].exp()
        mean_x = weight @ arrays["means"]
    else:
        axis = torch.arange(-6, 6, 0.02, dtype=torch.float64)
        x = torch.cartesian_prod(axis, axis)
        log_p = torch.cat([log_densities(target, torch, arrays, part) for part in x.split(20000)])
        p = (log_p - log_p.max()).exp()
        p = p / p.sum()
        weight, mean_x = p.sum(dim=0), p.sum(dim=1) @ x
    found = {}
    for v in shown(len(target.num_classes)):
        for k in range(1, min(target.num_classes[v], 4)):
            found[f"y{v}={k}"] = float(weight[torch.as_tensor(np.equal(configs[:, v], k))].sum())
    return {**found, **{f"x{d}": float(mean_x[d]) for d in shown(target.num_reals)}}
