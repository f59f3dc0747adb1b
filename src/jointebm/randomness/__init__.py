"""Random draws, from a generator or from streams keyed by row."""

__all__: list[str] = []
