"""Files on disk: whole, verified, never executed."""

__all__: list[str] = []
