"""Diagnostics of answers: split R-hat against loops, parts of a question, and one warning per question."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from jointebm.cli.tables.said_warnings import say_warnings
from jointebm.sampling.diagnostics import Answer, ConvergenceWarning, Diagnostics, HalfChains, split_r_hat, warn_if_poor


def r_hat_by_loops(states: Tensor, conditions: list[int]) -> float:
    """Of one quantity, shape (T, N)."""
    length, num = len(states) // 2, states.shape[1]
    halves = [(conditions[chain], states[half * length :][:length, chain]) for chain in range(num) for half in (0, 1)]
    within = sum(float(half.var()) for _, half in halves) / len(halves)
    between, free = 0.0, 0
    for condition in set(conditions):
        means = torch.stack([half.mean() for which, half in halves if which == condition])
        between += float((means - means.mean()).square().sum())
        free += len(means) - 1
    return math.sqrt(((length - 1) / length * within + between / free) / within)


@pytest.mark.parametrize("conditions", [[0, 0, 0, 0, 0], [0, 1, 1, 0, 2]])
@pytest.mark.parametrize("num_states", [4, 9])
def test_split_r_hat_is_that_of_loops(num_states: int, conditions: list[int]) -> None:
    states = torch.randn(num_states, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 100
    states[:, :, 1] += torch.tensor(conditions)
    expected = max(r_hat_by_loops(states[:, :, quantity], conditions) for quantity in range(3))
    assert abs(split_r_hat(states, torch.tensor(conditions)) - expected) < 1e-9


def test_chains_that_never_move_agree_only_if_they_are_equal() -> None:
    assert split_r_hat(torch.ones(6, 3)) == 1.0
    assert split_r_hat(torch.ones(6, 3) * torch.arange(3)) == math.inf
    with pytest.raises(ValueError, match="at least 4 states, got 3"):
        HalfChains(3)


def of_rows(ess: list[float], jumps: list[float] | None = None) -> Diagnostics[Tensor]:
    found = torch.tensor(ess, dtype=torch.float64)
    num_jumps = None if jumps is None else torch.tensor(jumps, dtype=torch.float64)
    rates = {} if jumps is None else {"Jump": jumps[0] / 10}
    return Diagnostics(
        found.isinf(), found, torch.ones(len(ess)), num_jumps, rates, None if jumps is None else jumps[0]
    )


def test_parts_are_joined_and_draws_are_averaged() -> None:
    joined = Diagnostics.joined(
        [of_rows([3.0, math.inf]), of_rows([5.0, math.inf], [4.0, math.nan]), of_rows([7], [1])]
    )
    assert joined.ess.tolist() == [3, math.inf, 5, math.inf, 7] and joined.exact.tolist() == [0, 1, 0, 1, 0]
    assert joined.accept_rate == {"Jump": pytest.approx(0.25)} and joined.r_hat == 4.0
    assert joined.num_jumps is not None and np.isnan(joined.num_jumps.numpy()).tolist() == [1, 1, 0, 1, 0]
    averaged = Diagnostics.joined([of_rows([3.0, 5.0], [1.0, 2.0]), of_rows([5.0, 6.0], [2.0, 4.0])]).of_draws(2)
    assert averaged.ess.tolist() == [4.0, 5.5] and averaged.num_jumps.tolist() == [1.5, 3.0]
    assert isinstance(joined.numpy().ess, np.ndarray) and isinstance(joined.numpy().num_jumps, np.ndarray)
    assert str(joined) == "2 of 5 rows exact; ess of the others 3.0 and more; accepted: Jump 0.25; split R-hat 4.000"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (of_rows([math.inf, 10.0]), None),
        (of_rows([9.0, 8.0, 10.0]), "ask: 2 of 3 rows have fewer than 10 effective draws, the least of them 8.0: "),
        (of_rows([math.nan]), "ask: 1 of 1 rows"),
        (of_rows([1.0, 1.0], [1.0, 4.0]), None),
        (of_rows([1.0, 1.0, math.inf], [1.0, 2.0, math.nan]), "chains accept 1.500 jumps on average"),
        (of_rows([20.0], [0.0]), None),
    ],
)
def test_one_warning_says_which_answers_are_poor_and_names_the_remedy(
    found: Diagnostics[Tensor], message: str | None
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_poor(found, "ask", "more of it", min_jumps=2.0)
        assert Answer(1, found).checked("ask", "more of it", min_jumps=2.0).value == 1
    assert len(caught) == (0 if message is None else 2)
    for each in caught:
        assert each.category is ConvergenceWarning and message is not None
        assert message in str(each.message) and str(each.message).endswith("Remedy: more of it")


def test_a_remedy_is_written_for_python_or_for_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A column that is called like a parameter keeps its name."""
    answers = ConvergenceWarning("column 'num_draws_2024'", {"num_draws": "a larger", "num_sweeps": "a larger"})
    fits = ConvergenceWarning("cut short", {"training": {"num_visits": "twice", "learning_rate": "half"}})
    settings = ConvergenceWarning("nothing", {"training": {"width": 8, "num_visits": 250}})
    plain = ConvergenceWarning("bad", "give more rows")
    told = (
        (answers, "a larger num_draws or a larger num_sweeps", "a larger --num-draws or a larger --num-sweeps"),
        (
            fits,
            "twice training['num_visits'] or half training['learning_rate']",
            "twice num_visits (--set num_visits=...) or half learning_rate (--set learning_rate=...)",
        ),
        (settings, "training={'width': 8, 'num_visits': 250}", "--set width=8 --set num_visits=250"),
        (plain, "give more rows", "give more rows"),
    )
    for warning, in_python, as_options in told:
        assert str(warning) == f"{warning.finding}. Remedy: {in_python}" == str(copy.copy(warning))
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            say_warnings()
            warnings.warn(warning, stacklevel=1)
        assert capsys.readouterr().err == f"jointebm: {warning.finding}. Remedy: {as_options}\n"
