"""Random draws: the only module that draws, and streams keyed by row."""

__all__: list[str] = []
