"""The border to data frames."""

__all__: list[str] = []
