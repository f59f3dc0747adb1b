"""Evidence about columns of a table as evidence about the columns of its model.

Legend: N rows, L levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.evidence import Choice, Evidence
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.relations.equality import Equality
from jointebm.tables.relations.relation_system import RelationSystem
from jointebm.tables.relations.work_table import RelatedColumn

__all__ = ["RelatedEvidence", "agrees"]


@dataclass(frozen=True, eq=False)
class RelatedEvidence:
    """Evidence in three parts.

    Args:
        of_model: about columns of the model.
        values: single values of columns that are not in `rest`.
        rest: sums and ends of orders.
    """

    of_model: Mapping[Name, Evidence]
    values: Mapping[Name, object]
    rest: tuple[Name, ...]

    @classmethod
    def of(cls, system: RelationSystem, codec: TableCodec, evidence: Mapping[Name, Evidence]) -> "RelatedEvidence":
        """Divides evidence about the columns of a table.

        Raises:
            ValueError: no level of a column of the model agrees with it.
        """
        sources = _sources(system)
        of_model: dict[Name, Evidence] = {}
        allowed: dict[Name, np.ndarray] = {}
        rest = []
        for name, known in evidence.items():
            coded = codec.columns[codec.index(name)]
            source = sources.get(name, name)
            ancestors = system.ancestors.get(source, (source,))
            root = ancestors[0] if len(ancestors) == 1 else None
            levels = None if root is None else _levels(system, root)
            if root is not None and levels is not None and (root != name or root in allowed or root in system.roots):
                image = system.level_table(root, levels)[name]
                allowed[root] = allowed.get(root, np.ones(len(levels), dtype=bool)) & agrees(coded, known, image)
                if not allowed[root].any():
                    raise ValueError(
                        f"given column {name!r}: no row of the relations agrees with all that is given; widen it"
                    )
            elif source in system.codec.names and source not in of_model:
                of_model[source] = known
            else:
                rest.append(name)
        for root, mask in allowed.items():
            levels = _levels(system, root)
            assert levels is not None
            of_model[root] = Choice(tuple(levels[mask].tolist()))
        single = {
            name: known.values[0]
            for name, known in evidence.items()
            if isinstance(known, Choice) and len(known.values) == 1 and name not in rest
        }
        return cls(of_model, single, tuple(rest))

    def proposed(
        self, codec: TableCodec, evidence: Mapping[Name, Evidence], uniforms: np.ndarray
    ) -> tuple[dict[Name, Column], np.ndarray]:
        """Rows that hold the single values, and values of sums from their marginals given the evidence.

        Args:
            codec: of the columns of the table.
            evidence: about them.
            uniforms: on [0, 1), two for each of `rest`, shape (N, 2 * number of them).

        Returns:
            (table, log_proposed): the rows, and the log-density of the proposed values, up to a constant, shape (N,).
        """
        num_rows = len(uniforms)
        values: dict[Name, np.ndarray | object] = dict(self.values)
        log_proposed = np.zeros(num_rows)
        for place, name in enumerate(self.rest):
            number = codec.columns[codec.index(name)].codec
            assert isinstance(number, NumberCodec)  # sums and ends of orders
            counts = np.array(number.counts, dtype=np.float64)
            shares = (counts * np.exp(number.log_weights(evidence[name]))).cumsum()
            codes = np.searchsorted(shares, uniforms[:, 2 * place] * shares[-1], "right").clip(max=len(counts) - 1)
            drawn = number.decode(codes, uniforms[:, 2 * place + 1], evidence=evidence[name])
            log_proposed += np.log(counts[codes]) + number.log_prob(drawn, codes)
            values[name] = drawn
        table = {}
        for name, value in values.items():
            coded = codec.columns[codec.index(name)]
            column = RelatedColumn(name=name, role=coded.role, unit=coded.unit).absent(num_rows)
            column.values[:] = value
            table[name] = column._replace(is_missing=np.zeros(num_rows, dtype=bool))
        return table, log_proposed

    def refusal(self, system: RelationSystem, num_wrong: int, num: int) -> str:
        """The message where too few draws agree."""
        name = self.rest[0] if self.rest else next(iter(self.of_model), None)
        if name is None:
            return f"sample: {num_wrong} of {num} rows break {' and '.join(map(str, system.checked))} in every draw"
        parts = ", ".join(map(repr, system.parents.get(name, (name,))))
        return (
            f"given column {name!r}: {num_wrong} of {num} rows agree in no draw; it is computed from {parts}: give those, "
            "a single value, or a wider interval"
        )


def agrees(coded: CodedColumn, known: Evidence, column: Column) -> np.ndarray:
    """Whether each entry of a column agrees with the evidence, bool (N,)."""
    if isinstance(known, Choice):
        if column.values.dtype == object:
            chosen = set(known.values)
            return np.array([each in chosen for each in column.values.tolist()], dtype=bool)
        return np.isin(column.values, np.array(known.values).astype(column.values.dtype))
    if isinstance(coded.codec, NumberCodec):
        low, high = (-np.inf if known.low is None else known.low), (np.inf if known.high is None else known.high)
        return (column.values >= low) & (column.values <= high)
    codes = coded.codec.encode(column.values)
    return np.isfinite(coded.codec.log_weights(known))[codes] & (codes >= 0)


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
