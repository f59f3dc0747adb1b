"""Conditions on labels, and samples given many conditions in one batch."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.inference.chain_starts import chain_starts
from jointebm.inference.model import Model
from jointebm.randomness.draws import Generator
from jointebm.sampling.sample import sample
from jointebm.spaces.space import Space

__all__ = ["Condition", "configurations", "sample_each", "single_values", "variable_names"]

MAX_CHAINS = 4096  # in one batch; bounds memory


class Condition(NamedTuple):
    """Labels to clamp."""

    text: str  # for titles, such as "digit = 3"
    given: dict[str, Tensor]  # per discrete block, labels of its variable shape; -1 or an absent block is free

    def holds(self, values: Mapping[str, Tensor]) -> Tensor:
        """Marks the rows of `values` (N, *variable_shape per block) that meet the condition, shape (N,), bool."""
        first = next(iter(values.values()))
        holds = torch.ones(len(first), dtype=torch.bool, device=first.device)
        for name, labels in self.given.items():
            holds &= ((values[name] == labels) | (labels < 0)).reshape(len(first), -1).all(dim=1)
        return holds


def variable_names(space: Space, name: str) -> list[str]:
    """One name per variable of a block: the block's, with an index if it has several.

    Example:
        >>> from jointebm import Binary
        >>> space = Space(bit=Binary(), bits=Binary(2))
        >>> variable_names(space, "bit"), variable_names(space, "bits")
        (['bit'], ['bits[0]', 'bits[1]'])
    """
    block = space[name]
    return [name] if block.variable_shape == () else [f"{name}[{v}]" for v in range(block.num_variables)]


def single_values(space: Space) -> list[Condition]:
    """One condition per value of every discrete variable, all else free.

    Example:
        >>> from jointebm import Binary, Categorical
        >>> [condition.text for condition in single_values(Space(digit=Categorical(3), bits=Binary(2)))]
        ['digit = 0', 'digit = 1', 'digit = 2', 'bits[0] = 0', 'bits[0] = 1', 'bits[1] = 0', 'bits[1] = 1']
    """
    conditions = []
    for name in space.discrete:
        for v, (variable, count) in enumerate(zip(variable_names(space, name), space.num_classes(name), strict=True)):
            for label in range(count):
                labels = torch.full(space[name].variable_shape, -1)
                labels.view(-1)[v] = label
                conditions.append(Condition(f"{variable} = {label}", {name: labels}))
    return conditions


def configurations(space: Space) -> list[Condition]:
    """One condition per configuration of all discrete variables, the last varying fastest.

    Example:
        >>> from jointebm import Binary
        >>> [condition.text for condition in configurations(Space(a=Binary(), b=Binary()))]
        ['a = 0, b = 0', 'a = 0, b = 1', 'a = 1, b = 0', 'a = 1, b = 1']
    """
    names = [variable for name in space.discrete for variable in variable_names(space, name)]
    labels = space.decode(space.configurations())
    conditions = []
    for index in range(space.num_configurations):
        given = {name: labels[name][index] for name in space.discrete}
        flat = torch.cat([given[name].flatten() for name in given]).tolist()
        text = ", ".join(f"{name} = {label}" for name, label in zip(names, flat, strict=True))
        conditions.append(Condition(text, given))
    return conditions


def sample_each(
    model: Model,
    conditions: Sequence[Condition],
    num: int,
    *,
    num_steps: int | None = None,
    generator: Generator,
) -> list[dict[str, Tensor]]:
    """Samples given each of several conditions, by chains from the reference or noise, in shared batches.

    Finite chains: samples are approximate, as those of `sample`. An empty condition asks for unconditional samples. Returns,
    per condition, values of `num` rows.

    Example:
        >>> from jointebm import load
        >>> model = load("pretrained:toy")
        >>> parts = sample_each(model, single_values(model.space), 3, num_steps=2, generator=torch.Generator())
        >>> parts[0]["bottom"].tolist(), parts[1]["bottom"].tolist()
        ([0, 0, 0], [1, 1, 1])
    """
    if num < 1:
        raise ValueError(f"sample_each: num, the samples per condition, is a whole number >= 1, got {num}")
    for condition in conditions:
        model.space.require(condition.given, discrete=True)
    if num > MAX_CHAINS:
        sizes = [min(MAX_CHAINS, num - start) for start in range(0, num, MAX_CHAINS)]
        pieces = [sample_each(model, conditions, size, num_steps=num_steps, generator=generator) for size in sizes]
        return [
            {name: torch.cat([part[name] for part in of_condition]) for name in model.space}
            for of_condition in zip(*pieces, strict=True)
        ]
    at_once = MAX_CHAINS // num
    parts: list[dict[str, Tensor]] = []
    for start in range(0, len(conditions), at_once):
        batch = conditions[start : start + at_once]
        given = {}  # num rows for each condition
        for name in model.space.discrete:
            free = torch.full(model.space[name].variable_shape, -1)
            labels = torch.stack([condition.given.get(name, free) for condition in batch])
            given[name] = labels.repeat_interleave(num, dim=0)
        samples = sample(
            model,
            model.space,
            model.kernel,
            num_chains=len(batch) * num,
            num_steps=model.config.num_steps if num_steps is None else num_steps,
            given=given,
            init=chain_starts(model, len(batch) * num, given, generator),
            generator=generator,
        )
        split = {name: value.split(num) for name, value in samples.values.items()}
        parts += [{name: pieces[index] for name, pieces in split.items()} for index in range(len(batch))]
    return parts
