"""The grammar of `--given` for tables."""

import json
from pathlib import Path

import pandas as pd
import pytest

from jointebm.cli.tables.table_given import parse_table_given
from jointebm.estimators import JointEBM


@pytest.fixture(scope="module")
def model(folder: Path) -> JointEBM:
    return JointEBM.load(folder / "model")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size=30", {"size": 30}),
        (" size = -1.5e1 ", {"size": -15.0}),
        ("income=>50K", {"income": ">50K"}),
        ("income=<=50K,size=3..4.5", {"income": "<=50K", "size": (3, 4.5)}),
        ("size=3..,count=..4", {"size": (3, None), "count": (None, 4)}),
        ("income={<=50K, >50K},code=007", {"income": ["<=50K", ">50K"], "code": "007"}),
        ("indoors=True", {"indoors": True}),
        ("born=2020-02-03..2021-01-01", {"born": ("2020-02-03", "2021-01-01")}),
        ('"income"=">50K"', {"income": ">50K"}),
        ('city="city 3"', {"city": "city 3"}),
    ],
)
def test_given_values_are_parsed(model: JointEBM, text: str, expected: dict[str, object]) -> None:
    assert parse_table_given([text], model) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size", "expected column=value"),
        ("size=", "expected column=value"),
        ("=3", "expected column=value"),
        ("size=tall", "got 'tall', expected a number"),
        ("size=..", "an interval without ends"),
        ("size=3,size=4", "duplicate column 'size'"),
        ('city="city 3', "unclosed double quote"),
        ("weight=3", "unknown column 'weight'; this model has 'name', 'size'"),
    ],
)
def test_malformed_given_values_are_named(model: JointEBM, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="--given") as caught:
        parse_table_given([text], model)
    assert message in str(caught.value)


def test_a_value_with_a_comma_is_told_to_be_quoted_or_braced(model: JointEBM) -> None:
    with pytest.raises(ValueError, match="--given '>50K': expected column=value after the comma") as caught:
        parse_table_given(["size=3,income=<=50K,>50K"], model)
    assert "which ends 'income=<=50K'" in str(caught.value)
    assert "braces, 'income={<=50K,>50K}'" in str(caught.value)
    assert """double quotes, 'income="<=50K,>50K"'""" in str(caught.value)
    assert parse_table_given(["income={<=50K,>50K}"], model) == {"income": ["<=50K", ">50K"]}
    with pytest.raises(ValueError, match="category '<=50K,>50K' was not seen"):
        model.sample(given=parse_table_given(['income="<=50K,>50K"'], model))


ODD = ["a..b", "..", "{x}", "x,y", 'say "z"', "1..3", "=", "plain"]


@pytest.fixture(scope="module")
def odd() -> JointEBM:
    """A model of a column whose categories look like intervals, sets and pairs."""
    quick = {"num_visits": 0, "rows_per_component": 20}
    table = pd.DataFrame({"label": ODD * 20, "part": pd.Categorical([1, 2] * 80)})
    return JointEBM(training=quick, kinds={"part": "categorical"}).fit(table)


@pytest.mark.parametrize("category", ODD)
def test_a_category_is_found_by_its_name_whatever_characters_it_holds(odd: JointEBM, category: str) -> None:
    text = category if category not in ("x,y",) else json.dumps(category)
    for value in (text, json.dumps(category)):
        assert parse_table_given([f"label={value},part=1"], odd) == {"label": category, "part": 1}
    assert parse_table_given([f"label={{plain,{json.dumps(category)}}}"], odd) == {"label": ["plain", category]}
    drawn = odd.sample(3, given=parse_table_given([f"label={json.dumps(category)}"], odd))
    assert drawn["label"].tolist() == [category] * 3


def test_an_unknown_category_with_two_dots_is_not_an_interval(odd: JointEBM) -> None:
    assert parse_table_given(["label=a..c"], odd) == {"label": "a..c"}
    with pytest.raises(ValueError, match=r"'a\.\.c'"):
        odd.sample(1, given=parse_table_given(["label=a..c"], odd))
