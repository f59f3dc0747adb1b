"""Evidence about columns of a table as evidence about the columns of its model.

Legend: N rows, L levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jointebm.tables.codes.agreement import agrees
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import Name, TableCodec
from jointebm.tables.codes.column import IgnoredCodec
from jointebm.tables.codes.evidence import Choice, Evidence
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.relations.equality import Equality
from jointebm.tables.relations.relation_system import RelationSystem
from jointebm.tables.relations.work_table import Work

__all__ = ["RelatedEvidence"]


@dataclass(frozen=True, eq=False)
class RelatedEvidence:
    """Evidence about missing entries, in four parts.

    Args:
        asked: all of it, about columns of the table.
        of_roots: about columns of the model that determine others by maps: their levels that agree with all of it.
        of_others: about other columns of the model.
        values: of sums and ends of orders, which are known then.
        rest: sums and ends of orders that have more than one value.
    """

    asked: Mapping[Name, Evidence]
    of_roots: Mapping[Name, Choice]
    of_others: Mapping[Name, Evidence]
    values: Mapping[Name, object]
    rest: tuple[Name, ...]

    @classmethod
    def of(cls, system: RelationSystem, codec: TableCodec, evidence: Mapping[Name, Evidence]) -> "RelatedEvidence":
        """Divides evidence about the columns of a table.

        Raises:
            ValueError: no level of a column of the model agrees with it.
        """
        sources = _sources(system)
        about: dict[
            Name, list[Name]
        ] = {}  # single columns of the model, with the columns that say something about them
        rest: list[Name] = []
        for name in evidence:
            source = sources.get(name, name)
            ancestors = system.ancestors.get(source, (source,))
            if len(ancestors) == 1 and (source == ancestors[0] or _levels(system, ancestors[0]) is not None):
                about.setdefault(ancestors[0], []).append(name)
            else:
                rest.append(name)
        of_roots: dict[Name, Choice] = {}
        of_others: dict[Name, Evidence] = {}
        for root, names in about.items():
            levels = _levels(system, root)
            if levels is None or (names == [root] and root not in system.roots):
                of_others[root] = evidence[names[0]]
                rest += names[1:]
                continue
            image, is_allowed = system.level_table(root, levels), np.ones(len(levels), dtype=bool)
            for name in names:
                is_allowed &= agrees(codec.columns[codec.index(name)], evidence[name], image[name])
                if not is_allowed.any():
                    raise ValueError(
                        f"given column {name!r}: no row of the relations agrees with all that is given; widen it"
                    )
            allowed = Choice(tuple(levels[is_allowed].tolist()))
            (of_roots if root in system.roots else of_others)[root] = allowed
        values = {
            name: known.values[0]
            for name in rest
            if isinstance(known := evidence[name], Choice) and len(known.values) == 1
        }
        return cls(evidence, of_roots, of_others, values, tuple(name for name in rest if name not in values))

    @property
    def of_model(self) -> dict[Name, Evidence]:
        """About columns of the model."""
        return {**self.of_others, **self.of_roots}

    def proposed(self, codec: TableCodec, name: Name, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values of one of `rest` from its marginal given the evidence.

        Args:
            codec: of the columns of the table.
            name: of the column.
            uniforms: on [0, 1), shape (N, 2).

        Returns:
            (values, log_proposed): shape (N,) each; the log-probability of the values, nats.
        """
        number, known = codec.columns[codec.index(name)].codec, self.asked[name]
        assert isinstance(number, NumberCodec)  # sums and ends of orders
        counts = np.array(number.counts, dtype=np.float64)
        shares = (counts * np.exp(number.log_weights(known))).cumsum()
        codes = np.searchsorted(shares, uniforms[:, 0] * shares[-1], "right").clip(max=len(counts) - 1)
        values = number.decode(codes, uniforms[:, 1], evidence=known)
        return values, np.log(counts[codes] / shares[-1]) + number.log_prob(values, codes)

    def disagrees(self, codec: TableCodec, work: Work) -> np.ndarray:
        """Rows of a complete table that contradict the evidence, bool (N,)."""
        wrong = np.zeros(len(next(iter(work.values())).values), dtype=bool)
        for name, known in self.asked.items():
            wrong |= ~agrees(codec.columns[codec.index(name)], known, work[name])
        return wrong

    def refusal(self, system: RelationSystem, num_wrong: int, num: int) -> str:
        """The message where too few draws agree."""
        name = next(iter((*self.rest, *self.values, *self.asked)), None)
        if name is None:
            return f"sample: {num_wrong} of {num} rows break {' and '.join(map(str, system.checked))} in every draw"
        parts = ", ".join(map(repr, system.parents.get(name, (name,))))
        return (
            f"given column {name!r}: {num_wrong} of {num} rows agree in no draw; it is computed from {parts}: give those, "
            "a single value, or a wider interval"
        )


def _levels(system: RelationSystem, name: Name) -> np.ndarray | None:
    """All levels of a column of the model that has finitely many, shape (L,)."""
    codec = system.codec.columns[system.codec.index(name)].codec
    if isinstance(codec, CategoryCodec):
        return codec.values
    if isinstance(codec, IgnoredCodec) or not codec.is_discrete:
        return None
    return codec.decode(np.arange(codec.num_codes), np.zeros(codec.num_codes))


def _sources(system: RelationSystem) -> dict[Name, Name]:
    """The first source of each copied column."""
    sources: dict[Name, Name] = {}
    for each in system.relations:
        if isinstance(each, Equality):
            sources[each.copied] = each.source
    for name in sources:
        while sources[name] in sources:
            sources[name] = sources[sources[name]]
    return sources
