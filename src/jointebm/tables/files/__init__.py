"""CSV and Parquet files, read and written in parts."""

__all__: list[str] = []
