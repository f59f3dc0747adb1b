"""Times our joint step against a plain textbook one, on the paper's three networks.

The textbook step evaluates values and gradients separately, as the equations are written: 5 forward and 3 backward passes
of the whole network. Ours keeps the chain's f and score: 2 + 2, of the encoder 1 + 1. The bare step is the matrix products
of these 2 + 2 passes and nothing else; a network with an encoder has none here. All run in this process, in turn, on the
same network, batch and threads; compare the ratio of medians.

    python benchmarks/joint_step.py [--batch 100] [--threads 1] [--rounds 30]
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, Space, kernels
from jointebm.energies import ConcatEnergy, ConcatSpec, ConvSpec, MLPSpec

Position = dict[str, Tensor]

NETWORKS = {
    "toy (B.1)": (
        Space(x=Continuous(2), y=Categorical(2, (3,))),
        ConcatSpec(net=MLPSpec(hidden=(256, 256, 256))),
        (0.1, 0.5),
    ),
    "MNIST (B.2)": (
        Space(x=Continuous((28, 28)), y=Categorical(10)),
        ConcatSpec(net=MLPSpec(hidden=(1000, 500, 500, 250, 250, 250))),
        (3e-3, 1.5e-6),
    ),
    "dSprites (B.3)": (
        Space(x=Continuous((32, 32)), y=Categorical(16, (2,))),
        ConcatSpec(net=MLPSpec(hidden=(256, 256), activation="silu"), encoder=ConvSpec(side=32)),
        (3e-3, 4.5e-7),
    ),
}


def textbook_log_density(energy: ConcatEnergy) -> Callable[[Position], Tensor]:
    """The same network in textbook form: net(concat(h(x), y))."""

    def f(position: Position) -> Tensor:
        x, y = position["x"], position["y"].flatten(1)
        h = x.flatten(1) if energy.encoder is None else energy.encoder(x)
        return energy.net(torch.cat([h, y], dim=1)).squeeze(1)

    return f


def gradient(f: Callable[[Position], Tensor], position: Position, block: str) -> Tensor:
    """Gradient of f in one block: one forward and one backward pass."""
    leaf = position[block].detach().requires_grad_()
    return torch.autograd.grad(f({**position, block: leaf}).sum(), leaf)[0].float()


def textbook_step(
    f: Callable[[Position], Tensor],
    position: Position,
    step_size: float,
    temperature: float,
    generator: torch.Generator,
) -> Position:
    """Eqs. 3-5 as written: Gibbs-with-Gradients on y (N, V, K), then Langevin on x."""
    y = position["y"]
    rows, (num_variables, num_classes) = torch.arange(len(y)), y.reshape(len(y), -1, y.shape[-1]).shape[1:]

    def log_q(at: Tensor, grad: Tensor) -> Tensor:
        at, grad = at.reshape(len(y), num_variables, num_classes), grad.reshape(len(y), num_variables, num_classes)
        gains = (grad - (grad * at).sum(-1, keepdim=True)) / 2
        return gains.masked_fill(at > 0.5, -torch.inf).reshape(len(y), -1).log_softmax(1)

    with torch.no_grad():
        f_before = f(position).float()  # forward 1
    forward_log_q = log_q(y, gradient(f, position, "y"))  # forward 2, backward 1
    move = torch.multinomial(forward_log_q.exp(), 1, generator=generator).squeeze(1)
    variable, new_class = move // num_classes, move % num_classes
    proposed = y.reshape(len(y), num_variables, num_classes).clone()
    old_class = proposed[rows, variable].argmax(1)
    proposed[rows, variable] = nn.functional.one_hot(new_class, num_classes).to(y.dtype)
    proposal = {**position, "y": proposed.reshape(y.shape)}
    with torch.no_grad():
        f_after = f(proposal).float()  # forward 3
    reverse_log_q = log_q(proposal["y"], gradient(f, proposal, "y"))  # forward 4, backward 2
    log_ratio = f_after - f_before + reverse_log_q[rows, variable * num_classes + old_class] - forward_log_q[rows, move]
    accepted = torch.rand(len(y), generator=generator).log() < log_ratio
    y = torch.where(accepted.reshape(-1, *[1] * (y.ndim - 1)), proposal["y"], y)
    position = {**position, "y": y}
    x = position["x"]
    drift = step_size**2 / (2 * temperature) * gradient(f, position, "x")  # forward 5, backward 3
    return {**position, "x": x + drift + step_size * torch.randn(x.shape, generator=generator)}


def bare_products(energy: ConcatEnergy, batch: int) -> Callable[[], None] | None:
    """The matrix products of two evaluations with their scores; None if the network has an encoder."""
    if energy.encoder is not None:
        return None
    weights = [layer.weight.detach() for layer in energy.net if isinstance(layer, nn.Linear)]
    rows = torch.randn(batch, weights[0].shape[1])

    def products() -> None:
        for _ in range(2):
            hidden = rows
            for weight in weights:
                hidden = hidden @ weight.T
            for weight in reversed(weights):
                hidden = hidden @ weight

    return products


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=100, help="chains (the paper: 100; toy 1000)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30, help="timed rounds of each step, in turn")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {arguments.threads} threads; medians of {arguments.rounds} rounds, milliseconds")
    heads = ("textbook", "ours", "ratio", "bf16", "ratio", "bare", "ours/bare")
    print(f"{'network':<16}{'batch':>6}" + "".join(f"{head:>10}" for head in heads))
    for name, (space, spec, (step_size, temperature)) in NETWORKS.items():
        batch = 1000 if name.startswith("toy") and arguments.batch == 100 else arguments.batch
        print(row(name, space, spec, step_size, temperature, batch, arguments.rounds), flush=True)


def row(
    name: str, space: Space, spec: ConcatSpec, step_size: float, temperature: float, batch: int, rounds: int
) -> str:
    """One line of the table."""
    energy = spec.build(space)
    plain = textbook_log_density(energy)
    generator = torch.Generator().manual_seed(0)
    position, free = space.clamp(None, num_chains=batch, generator=generator)
    free = kernels.settle(free)
    kernel = kernels.KernelSpec(step_size=step_size, temperature=temperature).build(space)
    chains = {False: kernels.evaluate(energy, position), True: kernels.evaluate(energy, position)}
    state = {"textbook": position}

    def textbook() -> None:
        state["textbook"] = textbook_step(plain, state["textbook"], step_size, temperature, generator)

    def ours(low_precision: bool) -> None:
        context = torch.autocast("cpu", torch.bfloat16) if low_precision else contextlib.nullcontext()
        with context:
            chains[low_precision], _ = kernel.step(energy, chains[low_precision], free=free, generator=generator)

    steps: dict[str, Callable[[], None]] = {
        "textbook": textbook,
        "ours": lambda: ours(False),
        "bf16": lambda: ours(True),
    }
    bare = bare_products(energy, batch)
    ms = medians(steps if bare is None else {**steps, "bare": bare}, rounds)
    line = (
        f"{name:<16}{batch:>6}{ms['textbook']:>10.2f}{ms['ours']:>10.2f}{ms['textbook'] / ms['ours']:>9.2f}x"
        f"{ms['bf16']:>10.2f}{ms['textbook'] / ms['bf16']:>9.2f}x"
    )
    return line if bare is None else f"{line}{ms['bare']:>10.2f}{ms['ours'] / ms['bare']:>9.2f}x"


def medians(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each step, all run in turn; the first five rounds warm up."""
    times: dict[str, list[float]] = {key: [] for key in steps}
    for round_number in range(rounds + 5):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            if round_number >= 5:
                times[key].append(time.perf_counter() - start)
    return {key: 1000 * median(values) for key, values in times.items()}


if __name__ == "__main__":
    main()
