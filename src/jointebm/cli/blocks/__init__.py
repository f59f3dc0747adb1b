"""Commands for models of blocks."""

__all__: list[str] = []
