"""Terms of p(y | x) over rows without labels, for data with few labels.

Both are by enumeration of y and leave f a joint energy. Legend: N rows, S configurations of the discrete blocks.
"""

import torch
from torch import Tensor

from jointebm.kernels import LogDensity
from jointebm.randomness.draws import Generator, normal
from jointebm.sampling.enumeration import evaluate_all_configurations
from jointebm.spaces.space import Position, Space

__all__ = ["label_information", "label_roughness"]


def label_information(log_density: LogDensity, space: Space, position: Position) -> Tensor:
    """Mutual information of x and each label over these rows, under the model.

    sum_v H(mean_n p(y_v | x_n)) - mean_n H(p(y_v | x_n))

    It is large where the model is confident of the labels of every row and all labels are in use. Maximised next to a
    likelihood, it moves the borders between labels to where there are few rows; no label need be known. The first entropy is
    that of a mean over N rows: with few rows per class it is too small. It favours labels that are about equally frequent,
    and does not tell which label is which.

    Args:
        log_density: f with parameters, shape (N,).
        space: the blocks; all configurations of its discrete blocks are evaluated.
        position: N rows; their labels do not matter.

    Returns:
        A scalar, nats, between 0 and the sum over labels of log num_classes.

    References:
        Krause, Perona & Gomes 2010 (regularized information maximization). Bridle, Heading & MacKay 1991.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> space = Space(x=Continuous(), y=Binary())
        >>> rows = {"x": torch.tensor([-50.0, 50.0]), "y": torch.zeros(2)}
        >>> label_information(lambda position: position["x"] * position["y"], space, rows).exp()  # two clear classes
        tensor(2.)
    """
    f, configurations = evaluate_all_configurations(log_density, space, position)
    probs = f.softmax(dim=1)  # (N, S)
    information = probs.new_zeros(())
    for name in space.discrete:
        labels_of = space[name].decode(configurations[name])
        for labels in labels_of.reshape(len(labels_of), -1).T:  # (S,), of one variable
            of_class = torch.nn.functional.one_hot(labels.long()).to(probs.dtype)  # (S, K)
            marginals = probs @ of_class  # (N, K)
            information = information + _entropy(marginals.mean(dim=0)) - _entropy(marginals).mean()
    return information


def label_roughness(
    log_density: LogDensity, space: Space, position: Position, *, radius: float, generator: Generator
) -> Tensor:
    """Change of p(y | x) when x moves by `radius` in the worst direction: virtual adversarial training.

    mean_n KL(p(y | x_n) || p(y | x_n + r_n)),    r_n = radius g_n / |g_n|,    g_n = grad_x KL at x_n + radius u_n

    with u_n a random direction: one step of gradient ascent on the sphere, not the worst place on it. p(y | x_n) is held
    fixed. Minimised next to a likelihood, it keeps borders between labels at least `radius` away from rows.

    Args:
        log_density: f with parameters, shape (N,); differentiable in x.
        space: the blocks; all configurations of its discrete blocks are evaluated.
        position: N rows; their labels do not matter.
        radius: length of a move of all continuous blocks together, in units of the position, > 0.
        generator: source of the random directions.

    Returns:
        A scalar, nats, >= 0.

    References:
        Miyato, Maeda, Koyama & Ishii 2018 (virtual adversarial training), Eqs. 5-8.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> space = Space(x=Continuous(2), y=Binary())
        >>> rows = {"x": torch.zeros(1, 2), "y": torch.zeros(1)}
        >>> rough = label_roughness(lambda position: 3 * position["x"][:, 0] * position["y"], space, rows, radius=1.0,
        ...                         generator=torch.Generator().manual_seed(0))
        >>> bool(abs(rough - torch.tensor(1.5).cosh().log()) < 1e-6)  # at worst x moves along the first axis
        True
    """
    with torch.no_grad():
        log_probs = _log_probs(log_density, space, position)  # (N, S)
    x = {name: position[name].detach() for name in space.continuous}
    start = _of_length(radius, {name: normal(value, generator) for name, value in x.items()})
    places = {name: (x[name] + start[name]).requires_grad_() for name in x}
    with torch.enable_grad():
        divergence = _divergence(log_probs, _log_probs(log_density, space, {**position, **places}))
        gradients = torch.autograd.grad(divergence.sum(), list(places.values()))
    moves = _of_length(radius, dict(zip(places, gradients, strict=True)))
    moved = {name: x[name] + moves[name] for name in x}
    return _divergence(log_probs, _log_probs(log_density, space, {**position, **moved})).mean()


def _log_probs(log_density: LogDensity, space: Space, position: Position) -> Tensor:
    """log p(y | x), shape (N, S)."""
    f, _ = evaluate_all_configurations(log_density, space, position)
    return f.log_softmax(dim=1)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) per row, shape (N,)."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def _of_length(length: float, directions: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same directions with their length over all blocks, per row, changed; one of length 0 stays."""
    flat = torch.cat([value.reshape(len(value), -1) for value in directions.values()], dim=1)
    norms = flat.square().sum(dim=1).sqrt().clamp_min(torch.finfo(flat.dtype).tiny)
    return {name: length * value / norms.reshape(-1, *[1] * (value.dim() - 1)) for name, value in directions.items()}


def _entropy(probs: Tensor) -> Tensor:
    """Of distributions over the last axis, nats; its gradient is finite where a probability is 0."""
    return -(probs * probs.clamp_min(torch.finfo(probs.dtype).tiny).log()).sum(dim=-1)
