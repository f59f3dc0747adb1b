"""Positions of codes are those that the space encodes."""

import itertools

import torch

from jointebm.references.layout import Layout, MixedRows
from jointebm.spaces import Binary, Categorical, Continuous, Space

SPACE = Space(bit=Binary(), x=Continuous(2), group=Categorical((1, 3)), pair=Categorical(3, (2, 1)))


def test_positions_of_codes_are_those_that_the_space_encodes() -> None:
    """Every configuration, with every subset of labels missing."""
    layout = Layout(SPACE)
    codes = torch.tensor(list(itertools.product(*(range(-1, count) for count in layout.num_classes))))
    reals = torch.randn(len(codes), 2, generator=torch.Generator().manual_seed(0))
    reals[::3, 1] = torch.nan
    values = {"bit": codes[:, 0], "x": reals, "group": codes[:, 1:3], "pair": codes[:, 3:].reshape(-1, 2, 1)}
    expected, _ = SPACE.encode(values)
    found = layout.position(MixedRows(codes, reals))
    for name in SPACE:
        assert found[name].dtype == expected[name].dtype
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0, equal_nan=True)
    back = layout.rows(found)
    assert torch.equal(back.codes, codes) and torch.equal(back.reals.nan_to_num(7), reals.nan_to_num(7))
