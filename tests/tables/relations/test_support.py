"""The chances of relations are those of all permutations."""

from itertools import permutations

import numpy as np
import pytest

from jointebm.tables.relations.support import log_chance_of_columns, log_chance_of_function, log_chance_of_order

VALUES = np.array([1, 1, 2, 3, 3, 3])


def test_the_chance_of_a_column_is_that_of_all_permutations() -> None:
    same = [each == tuple(VALUES) for each in permutations(VALUES.tolist())]
    assert np.exp(log_chance_of_columns(VALUES)) == pytest.approx(np.mean(same))


@pytest.mark.parametrize("low", [[0, 1, 1, 2, 2, 3], [1, 1, 1, 1, 1, 3], [0, 0, 0, 0, 1, 1]])
def test_the_chance_of_an_order_is_that_of_all_permutations(low: list[int]) -> None:
    kept = [all(a <= b for a, b in zip(low, each, strict=True)) for each in permutations(VALUES.tolist())]
    assert np.exp(log_chance_of_order(np.array(low), VALUES)) == pytest.approx(np.mean(kept))


def test_the_chance_of_a_function_is_at_least_that_of_all_permutations() -> None:
    keys = [0, 0, 1, 1, 1, 1]
    functional = []
    for each in permutations(VALUES.tolist()):
        images = [{value for key, value in zip(keys, each, strict=True) if key == level} for level in (0, 1)]
        functional.append(all(len(image) == 1 for image in images))
    assert np.mean(functional) <= np.exp(log_chance_of_function(2, VALUES))
    assert log_chance_of_function(2, VALUES) - log_chance_of_columns(VALUES) == pytest.approx(2 * np.log(3))
