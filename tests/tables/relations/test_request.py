"""Texts of relations."""

import pytest

from jointebm.tables.relations.request import parse_relation

NAMES = ["start", "end", "net", "gross", "tax", "sales tax", "a + b", "p", "q", "zip", "city", "1", 7]


@pytest.mark.parametrize(
    ("text", "kind", "names", "signs", "constant"),
    [
        ("start <= end", "ordering", ("start", "end"), (), 0),
        ("end > start", "ordering", ("start", "end"), (), 0),
        ("zip -> city", "functional", ("zip", "city"), (), 0),
        ("zip <-> city", "functional", ("zip", "city"), (), 0),
        ("zip & city & p", "combination", ("zip", "city", "p"), (), 0),
        ("start = end", "equality", ("start", "end"), (), 0),
        ("gross = net + sales tax", "balance", ("gross", "net", "sales tax"), (-1, 1, 1), 0),
        ("net = gross - tax", "balance", ("net", "gross", "tax"), (1, -1, 1), 0),
        ("p + q = 100", "balance", ("p", "q"), (1, 1), 100),
        ("100 = p + q", "balance", ("p", "q"), (1, 1), 100),
        ("p - q = -2.5", "balance", ("p", "q"), (1, -1), -2.5),
        ('"a + b" <= p', "ordering", ("a + b", "p"), (), 0),
        ("7 <= p", "ordering", (7, "p"), (), 0),
        ("p + q = 1", "balance", ("p", "q", "1"), (1, 1, -1), 0),
    ],
)
def test_a_text_gives_the_relation(text: str, kind: str, names: tuple, signs: tuple, constant: float) -> None:
    found = parse_relation(text, NAMES)
    assert (found.kind, found.names, found.constant) == (kind, names, constant)
    assert found.signs in (signs, tuple(-sign for sign in signs)) and (constant == 0 or found.signs == signs)


def test_strict_orders_are_told_from_others() -> None:
    assert parse_relation("start < end", NAMES).strict and not parse_relation("start <= end", NAMES).strict


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("start <= ende", "unknown column 'ende'; columns: 'start'"),
        ("start", "expected a text such as 'a = b'"),
        ("start <= end <= p", "expected a text such as"),
        ("start <= ", "expected a text such as"),
        ("p = q +", "expected a text such as"),
        ("p = 3", "expected a text such as"),
        ("p <= p", "column 'p' occurs twice"),
        ('p <= "q', "expected a text such as"),
    ],
)
def test_a_malformed_text_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^relations: ") as error:
        parse_relation(text, NAMES)
    assert reason in str(error.value)
