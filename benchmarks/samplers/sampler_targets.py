"""Densities with known answers, as plain numbers: what every sampler gets, and the quantities it is judged by.

Imports numpy alone, since the environments of the peers read it too.

Legend: V discrete variables, K classes (the largest number of any variable), E pairs, D reals, T states, N chains.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

__all__ = [
    "TARGETS",
    "Mixed",
    "Pairwise",
    "States",
    "config_labels",
    "f_of",
    "full_arrays",
    "log_densities",
    "log_density",
    "quantities",
    "shown",
    "toy",
]

MAX_SHOWN = 8  # variables and reals whose means are quantities


@dataclass(frozen=True)
class Pairwise:
    """f(y) = sum_v u_v(y_v) + sum over pairs of w_e(y_v, y_w).

    Args:
        name: of the target.
        shape: "grid", "layers" or "flat"; which energy a library may use.
        num_classes: of each variable.
        unary: u, (V, K), 0 at classes that a variable does not have.
        pairs: (E, 2).
        weights: w, (E, K, K).
        colours: (V,); interacting variables differ.
        sides: rows and columns of a grid, or units of two layers.
        order: in which variables are summed out for the truth; empty where that is too much.
    """

    name: str
    shape: str
    num_classes: tuple[int, ...]
    unary: np.ndarray
    pairs: np.ndarray
    weights: np.ndarray
    colours: np.ndarray
    sides: tuple[int, int] = (0, 0)
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class Mixed:
    """A density of D reals x and of bits or one label y.

    Args:
        name: of the target.
        kind: "gaussians", "conditional" or "toy".
        num_reals: D.
        num_classes: of each variable.
        arrays: the numbers of the formula.
    """

    name: str
    kind: str
    num_reals: int
    num_classes: tuple[int, ...]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class States:
    """States of chains: labels (T, N, V) and reals (T, N, D)."""

    labels: np.ndarray
    reals: np.ndarray


def ising(side: int, coupling: float) -> Pairwise:
    """f = J sum of s_i s_j over neighbours on a torus."""
    spin = np.array([-1.0, 1.0])
    pairs = _torus(side)
    return Pairwise(
        f"Ising {side}x{side}, J={coupling:g}",
        "grid",
        (2,) * side**2,
        np.zeros((side**2, 2)),
        pairs,
        np.broadcast_to(coupling * np.outer(spin, spin), (len(pairs), 2, 2)),
        np.add(*np.divmod(np.arange(side**2), side)) % 2,
        sides=(side, side),
    )


def potts(side: int, num_classes: int, coupling: float) -> Pairwise:
    """f = J times the number of equal neighbours on a torus."""
    pairs = _torus(side)
    return Pairwise(
        f"Potts {side}x{side}x{num_classes}, J={coupling:g}",
        "grid",
        (num_classes,) * side**2,
        np.zeros((side**2, num_classes)),
        pairs,
        np.broadcast_to(coupling * np.eye(num_classes), (len(pairs), num_classes, num_classes)),
        np.add(*np.divmod(np.arange(side**2), side)) % 2,
        sides=(side, side),
    )


def ragged() -> Pairwise:
    """A ring of 24 variables of two to seven classes with random couplings."""
    random = np.random.default_rng(0)
    counts = tuple(2 + v % 6 for v in range(24))
    unary, pairs = np.zeros((24, 7)), np.array([(v, (v + 1) % 24) for v in range(24)])
    weights = np.zeros((24, 7, 7))
    for v, count in enumerate(counts):
        unary[v, :count] = 0.5 * random.normal(size=count)
        after = counts[(v + 1) % 24]
        weights[v, :count, :after] = random.normal(size=(count, after))
    return Pairwise(
        "ragged ring of 24", "flat", counts, unary, pairs, weights, np.arange(24) % 2, order=tuple(range(24))
    )


def boltzmann(num: int, num_hidden: int, scale: float, name: str) -> Pairwise:
    """Bits with dense couplings: among all, or between two layers if there are hidden ones."""
    random = np.random.default_rng(1)
    layered = num_hidden > 0
    total = num + num_hidden
    pairs = [(v, w) for v in range(total) for w in range(v + 1, total) if not layered or v < num <= w]
    unary, weights = np.zeros((total, 2)), np.zeros((len(pairs), 2, 2))
    unary[:, 1] = 0.3 * random.normal(size=total)
    weights[:, 1, 1] = scale * random.normal(size=len(pairs))
    return Pairwise(
        name,
        "layers" if layered else "flat",
        (2,) * total,
        unary,
        np.array(pairs),
        weights,
        (np.arange(total) >= num).astype(int) if layered else np.arange(total),
        sides=(num, num_hidden),
        order=tuple(range(total)),
    )


def potts_in_fields(rows: int, columns: int, num_classes: int) -> Pairwise:
    """A Potts strip in random fields, as in the benchmark DISCS, narrow enough to be summed out."""
    random = np.random.default_rng(2)
    number = np.arange(rows * columns).reshape(rows, columns)
    down, right = (number[:-1], number[1:]), (number[:, :-1], number[:, 1:])
    pairs = np.concatenate([np.stack([one.ravel(), other.ravel()], axis=1) for one, other in (down, right)])
    return Pairwise(
        f"Potts in fields {rows}x{columns}x{num_classes}",
        "flat",
        (num_classes,) * number.size,
        0.5 * random.normal(size=(number.size, num_classes)),
        pairs,
        np.broadcast_to(0.8 * np.eye(num_classes), (len(pairs), num_classes, num_classes)),
        np.add(*np.divmod(np.arange(number.size), columns)) % 2,
        order=tuple(range(number.size)),
    )


def hidden_markov(length: int, num_factors: int) -> Pairwise:
    """The posterior of a factorial hidden Markov model, as in the benchmark DISCS: chains of bits that share outputs.

    Bits stay with log-odds 2; the output of a time is a weighted sum of its bits with noise of standard deviation 1.
    """
    random = np.random.default_rng(3)
    effect = random.normal(size=num_factors)
    hidden = (np.cumsum(random.random((length, num_factors)) < 0.15, axis=0) % 2).astype(float)
    output = hidden @ effect + random.normal(size=length)
    number = np.arange(length * num_factors).reshape(length, num_factors)
    unary, pairs, weights = np.zeros((number.size, 2)), [], []
    for t, k in product(range(length), range(num_factors)):
        unary[number[t, k], 1] = output[t] * effect[k] - 0.5 * effect[k] ** 2
        if t + 1 < length:
            pairs.append((number[t, k], number[t + 1, k]))
            weights.append(2.0 * np.eye(2))
        for other in range(k + 1, num_factors):
            pairs.append((number[t, k], number[t, other]))
            weights.append(np.array([[0.0, 0.0], [0.0, -effect[k] * effect[other]]]))
    times, factors = np.divmod(np.arange(number.size), num_factors)
    return Pairwise(
        f"FHMM {length}x{num_factors}",
        "flat",
        (2,) * number.size,
        unary,
        np.array(pairs),
        np.array(weights),
        2 * factors + times % 2,
        order=tuple(range(number.size)),
    )


def gaussians(name: str, distance: float) -> Mixed:
    """A label of four classes, weights .4 .3 .2 .1, and two reals around a corner of a square of that side."""
    corners = distance * np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return Mixed(name, "gaussians", 2, (4,), {"log_w": np.log([0.4, 0.3, 0.2, 0.1]), "means": corners})


def conditional() -> Mixed:
    """20 correlated reals of scales .1 to 10 around a linear function of 10 coupled bits."""
    random = np.random.default_rng(4)
    scales = np.logspace(-1, 1, 20)
    mixing = np.eye(20) + 0.1 * random.normal(size=(20, 20))
    coupling = np.triu(0.3 * random.normal(size=(10, 10)), 1)
    return Mixed(
        "conditional Gaussian 20 + 10",
        "conditional",
        20,
        (2,) * 10,
        {
            "effect": 0.5 * random.normal(size=(10, 20)) * scales,
            "root": mixing / scales[:, None],  # f has -|(x - y effect) root|^2 / 2
            "bias": 0.3 * random.normal(size=10),
            "coupling": coupling,
        },
    )


def toy(arrays: dict[str, np.ndarray]) -> Mixed:
    """The model `pretrained:toy`, from its weights."""
    return Mixed("pretrained:toy", "toy", 2, (2, 2, 2), arrays)


TARGETS: dict[str, Any] = {
    "ising-10-.2": lambda: ising(10, 0.2),
    "ising-10-.4": lambda: ising(10, 0.4),
    "ising-10-.55": lambda: ising(10, 0.55),
    "ising-30-.44": lambda: ising(30, 0.44),
    "potts-.8": lambda: potts(8, 4, 0.8),
    "potts-1.1": lambda: potts(8, 4, 1.1),
    "ragged": ragged,
    "rbm": lambda: boltzmann(64, 14, 0.3, "RBM 64 x 14"),
    "dense-16": lambda: boltzmann(16, 0, 0.5, "dense Boltzmann machine, 16 bits"),
    "dense-16-strong": lambda: boltzmann(16, 0, 2.0, "the same, couplings times 4"),
    "potts-fields": lambda: potts_in_fields(24, 4, 4),
    "fhmm": lambda: hidden_markov(60, 4),
    "gaussians-overlapping": lambda: gaussians("Gaussians, overlapping", 2.5),
    "gaussians-apart": lambda: gaussians("Gaussians, apart", 12.0),
    "conditional": conditional,
}
"""Everything but `pretrained:toy`, whose weights the command reads."""


def log_densities(target: Mixed, xp: Any, arrays: dict[str, Any], x: Any) -> Any:
    """f(x, y) for x (N, D) and every configuration of y, (N, configurations); `xp` is torch or jax.numpy."""
    return log_density(target, xp, arrays, x[:, None], arrays["one_hot"][None])


def log_density(target: Mixed, xp: Any, arrays: dict[str, Any], x: Any, one_hot: Any) -> Any:
    """f for x (..., D) and one-hot labels (..., sum of classes), whose leading axes broadcast."""
    if target.kind == "gaussians":
        parts = arrays["log_w"] - 0.5 * ((x[..., None, :] - arrays["means"]) ** 2).sum(-1)
        return (parts * one_hot).sum(-1)
    if target.kind == "conditional":
        y = one_hot[..., 1::2]
        residual = (x - y @ arrays["effect"]) @ arrays["root"]
        return -0.5 * (residual**2).sum(-1) + y @ arrays["bias"] + ((y @ arrays["coupling"]) * y).sum(-1)
    first = arrays["net.0.weight"]
    hidden = x @ first[:, :2].T + one_hot @ first[:, 2:].T + arrays["net.0.bias"]
    hidden = _elu(xp, _elu(xp, hidden) @ arrays["net.2.weight"].T + arrays["net.2.bias"])
    net = (hidden @ arrays["net.4.weight"].T + arrays["net.4.bias"])[..., 0]
    scaled = (x[..., None] - arrays["means"]) * xp.exp(-arrays["log_sds"])  # (..., 2, components)
    parts = arrays["log_weights"] + (-0.5 * scaled**2 - arrays["log_sds"] - 0.5 * np.log(2 * np.pi)).sum(-2)
    parts = parts + one_hot @ arrays["log_probs"]  # (..., components)
    return net + xp.log(xp.exp(parts - arrays["shift"]).sum(-1) + 1e-37) + arrays["shift"]


def _elu(xp: Any, value: Any) -> Any:
    return xp.where(value > 0, value, xp.exp(-abs(value)) - 1)


def config_labels(num_classes: tuple[int, ...]) -> np.ndarray:
    """Every configuration of some labels, the last one changing fastest."""
    return np.array(list(product(*(range(count) for count in num_classes))))


def full_arrays(target: Mixed) -> dict[str, np.ndarray]:
    """The arrays in single precision, with the configurations of y."""
    configs = config_labels(target.num_classes)
    one_hot = np.concatenate([np.eye(c)[configs[:, v]] for v, c in enumerate(target.num_classes)], axis=1)
    each = {**target.arrays, "configs": configs, "one_hot": one_hot, "shift": np.array(-8.0)}
    return {name: np.asarray(value, dtype=np.float32) for name, value in each.items()}


def f_of(target: Pairwise, labels: np.ndarray) -> np.ndarray:
    """f of labels (..., V)."""
    total = np.zeros(labels.shape[:-1], dtype=np.float32)
    unary, weights = target.unary.astype(np.float32), target.weights.astype(np.float32)
    for v in range(labels.shape[-1]):
        total += unary[v][labels[..., v]]
    for (v, w), weight in zip(target.pairs, weights, strict=True):
        total += weight[labels[..., v], labels[..., w]]
    return total


def quantities(target: Pairwise | Mixed, states: States) -> dict[str, np.ndarray]:
    """What ESS and errors are about, each (T, N): f of pairwise targets, means of some labels, and of the reals.

    On grids, whose variables are alike, the label is that of the whole grid: the share of the last class.
    """
    found: dict[str, np.ndarray] = {}
    if isinstance(target, Pairwise):
        found["f"] = f_of(target, states.labels)
    if isinstance(target, Pairwise) and target.shape == "grid":
        found["share"] = (states.labels == target.num_classes[0] - 1).mean(axis=2, dtype=np.float32)
    else:
        for v in shown(len(target.num_classes)):
            for k in range(1, min(target.num_classes[v], 4)):
                found[f"y{v}={k}"] = (states.labels[..., v] == k).astype(np.float32)
    if isinstance(target, Mixed):
        for d in shown(target.num_reals):
            found[f"x{d}"] = states.reals[..., d].astype(np.float32)
    return found


def shown(num: int) -> list[int]:
    """Numbers of at most `MAX_SHOWN` variables, spread evenly."""
    return sorted({int(v) for v in np.linspace(0, num - 1, min(num, MAX_SHOWN)).round()})


def _torus(side: int) -> np.ndarray:
    number = np.arange(side**2).reshape(side, side)
    return np.concatenate([np.stack([number, np.roll(number, -1, axis)], axis=-1).reshape(-1, 2) for axis in (0, 1)])
