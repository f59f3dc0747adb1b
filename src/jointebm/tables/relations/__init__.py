"""Relations between the columns of a table that every row keeps."""

__all__: list[str] = []
