"""Random draws, from a generator or from streams keyed by row."""

from jointebm.randomness.draws import Generator, Stream, accept, choose, normal, uniform
from jointebm.randomness.row_streams import RowStream, row_keys

__all__ = ["Generator", "RowStream", "Stream", "accept", "choose", "normal", "row_keys", "uniform"]
