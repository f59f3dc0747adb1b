"""The log-density over codes, its reference mixture, and the moves of its chains."""

__all__: list[str] = []
