"""Values of table columns and their codes."""

__all__: list[str] = []
