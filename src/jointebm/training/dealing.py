"""The state of several processes as one checkpoint, and its way back to as many processes or to others.

Parameters, averages, optimizer and noise are the same in all processes. Chains, completions and generators are each
process's own: those of process r are `parts[r]` of a checkpoint. Item i of all items (a slot of the buffer, a row of data)
belongs to process i modulo their number, as `share_of` has it.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.world import Parcel, World

__all__ = ["checkpoint_of", "dealt", "gathered", "parcel_of"]

SHARED = ("parameters.", "average.", "adam.", "noise.", "best.", "validation", "looking")  # equal in all processes
GENERATORS = ("generator", "data_generator")
_OF_SNAPSHOT = re.compile(r"snapshot-[0-9]+\.")


def gathered(state: Checkpoint, world: World) -> Checkpoint:
    """The state of all processes, from that of each: in every process; a single one's is whole."""
    if world.size == 1:
        return state
    own = {name: tensor for name, tensor in state.tensors.items() if not _is_shared(name)}
    shared = {name: tensor for name, tensor in state.tensors.items() if _is_shared(name)}
    parts = tuple(dict(parcel.tensors) for parcel in world.gathered(Parcel(None, own)))
    return state._replace(tensors=shared, parts=parts)


def dealt(checkpoint: Checkpoint, world: World, *, like: Mapping[str, Tensor]) -> Checkpoint:
    """The state of this process, from that of all of as many or of others.

    With as many processes each gets its own back. Else chains, their weights and completions are dealt again; passes over
    rows start over, and a process without a predecessor draws from the hash of another's generator.

    Args:
        checkpoint: of `gathered`, or of a single process.
        world: the processes.
        like: tensors of a fresh state of this process, whose shapes it gets.
    """
    parts = checkpoint.parts
    if not parts and world.size == 1:
        return checkpoint
    if not parts:
        parts = ({name: tensor for name, tensor in checkpoint.tensors.items() if not _is_shared(name)},)
    shared = {name: tensor for name, tensor in checkpoint.tensors.items() if _is_shared(name)}
    own = parts[world.rank] if len(parts) == world.size else _dealt_again(parts, world, like)
    return Checkpoint(checkpoint.iteration, {**shared, **own}, checkpoint.plain)


def parcel_of(checkpoint: Checkpoint | None) -> Parcel:
    """A checkpoint to be sent, or nothing in place of a missing one."""
    if checkpoint is None:
        return Parcel()
    tensors = {f"all/{name}": tensor for name, tensor in checkpoint.tensors.items()}
    for number, part in enumerate(checkpoint.parts):
        tensors |= {f"{number}/{name}": tensor for name, tensor in part.items()}
    return Parcel([checkpoint.iteration, checkpoint.plain, len(checkpoint.parts)], tensors)


def checkpoint_of(parcel: Parcel) -> Checkpoint | None:
    """The checkpoint that `parcel_of` packed."""
    if parcel.plain is None:
        return None
    iteration, plain, num_parts = parcel.plain
    found: dict[str, dict[str, Tensor]] = {"all": {}, **{str(number): {} for number in range(num_parts)}}
    for name, tensor in parcel.tensors.items():
        owner, _, own_name = name.partition("/")
        found[owner][own_name] = tensor
    return Checkpoint(iteration, found["all"], plain, tuple(found[str(number)] for number in range(num_parts)))


def _is_shared(name: str) -> bool:
    return _OF_SNAPSHOT.sub("", name).startswith(SHARED)


def _dealt_again(parts: Sequence[Mapping[str, Tensor]], world: World, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own: dict[str, Tensor] = {}
    for name in sorted(set().union(*parts)):
        plain = _OF_SNAPSHOT.sub("", name)
        if plain.startswith("completions."):
            own |= _completions(parts, name, world)
        elif plain in GENERATORS:
            own[name] = _generator_state([part[name] for part in parts if name in part], world.rank)
        elif plain == "order":
            own[name] = torch.arange(len(like[plain]))
        elif plain == "num_drawn":
            own[name] = torch.tensor(len(like["order"]))  # the next batch begins a pass
        else:
            own[name] = _items([part[name] for part in parts], world, like[plain])
    return own


def _items(parts: Sequence[Tensor], world: World, like: Tensor) -> Tensor:
    """This process's items of those of all; what is no list of items, or a slot that nothing uses, is the first's."""
    if like.ndim == 0 or len(like) == 1:
        return parts[0]
    whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
    for number, part in enumerate(parts):
        whole[number :: len(parts)] = part
    return whole[world.rank :: world.size].clone()


def _completions(parts: Sequence[Mapping[str, Tensor]], name: str, world: World) -> dict[str, Tensor]:
    """This process's completions of one block, whose rows have numbers of their own in every process."""
    start, _, kind = name.rpartition("rows.") if ".rows." in name else name.rpartition("position.")
    of_rows, of_positions = f"{start}rows.{kind}", f"{start}position.{kind}"
    holding = [(number, part) for number, part in enumerate(parts) if of_rows in part]
    rows = torch.cat([part[of_rows] * len(parts) + number for number, part in holding])
    positions = torch.cat([part[of_positions] for _, part in holding])
    mine = rows % world.size == world.rank
    return {of_rows: rows[mine] // world.size, of_positions: positions[mine]}


def _generator_state(states: Sequence[Tensor], rank: int) -> Tensor:
    """That of the process's predecessor; a hash of the first's where it has none."""
    if rank < len(states):
        return states[rank]
    digest = hashlib.sha256(states[0].cpu().numpy().tobytes() + rank.to_bytes(4, "big")).digest()
    fresh = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")).get_state()
    if fresh.shape == states[0].shape:
        return fresh
    return torch.frombuffer(bytearray(digest), dtype=torch.uint8)  # of another device: its hash becomes the seed
