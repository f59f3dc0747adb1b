"""Checks of what a function that draws rows returned."""

from collections.abc import Mapping

from jointebm.spaces.space import Position, Space

__all__ = ["require_positions", "require_whole"]


def require_positions(space: Space, position: Position) -> None:
    """Raises unless a batch holds every block as positions."""
    if not isinstance(position, Mapping):
        raise TypeError(
            f"batch: drew a {type(position).__name__}, expected a position (a mapping from block to tensor) or a Batch"
        )
    space.require(position)
    for name, block in space.items():
        if name not in position:
            held = ", ".join(map(repr, position)) or "none"
            raise ValueError(f"batch: lacks block {name!r}; it holds {held}")
        found = position[name]
        if not found.is_floating_point() or found.shape[1:] != block.position_shape:
            raise ValueError(
                f"batch: block {name!r}: got {found.dtype} of shape {tuple(found.shape)}, expected floats of shape "
                f"{('N', *block.position_shape)}; space.encode(values)[0] makes positions of values".replace("'N'", "N")
            )


def require_whole(position: Position) -> None:
    """Raises if an entry is missing."""
    for name, value in position.items():
        if bool(value.isnan().any()):
            raise ValueError(
                f"batch: block {name!r} has missing entries, but its rows have no numbers, by which completions are kept; "
                "draw a Batch(position, numbers)"
            )
