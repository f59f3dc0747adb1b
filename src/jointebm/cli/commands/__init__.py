"""The signature and help text of each command; the work is imported when a command runs, which keeps `--help` fast."""

__all__: list[str] = []
