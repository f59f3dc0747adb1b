"""Answers about rows of codes: conditionals, draws, scores."""

__all__: list[str] = []
