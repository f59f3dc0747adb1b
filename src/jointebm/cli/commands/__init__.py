"""The signature of each command."""

__all__: list[str] = []
