"""The grammar of `--given` for tables."""

from pathlib import Path

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
def test_what_is_given_is_read(model: JointEBM, text: str, expected: dict[str, object]) -> None:
    assert parse_table_given([text], model) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size", "expected column=value"),
        ("size=", "expected column=value"),
        ("=3", "expected column=value"),
        ("size=tall", "got 'tall', expected a number"),
        ("size=..", "an interval without any end"),
        ("size=3,size=4", "column 'size' is given twice"),
        ('city="city 3', "a double quote that is not closed"),
        ("weight=3", "no column 'weight'; this model has 'name', 'size'"),
    ],
)
def test_what_cannot_be_given_is_named(model: JointEBM, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="--given") as caught:
        parse_table_given([text], model)
    assert message in str(caught.value)
