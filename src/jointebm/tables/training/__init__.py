"""Training of the energy of a table."""

__all__: list[str] = []
