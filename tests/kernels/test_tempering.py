"""Specification of the path between a reference and a log-density: its values, its score, and its ends."""

import pytest
import torch

from jointebm import Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy, ConvEncoder
from jointebm.kernels import evaluate
from jointebm.kernels.tempering import RUNG, Tempered, check_rungs, evaluate_endpoints
from jointebm.references import Mixture
from support.exact_references import random_reference
from support.oracles import Counted, Passes, RandomLogDensity

SPACE = Space(x=Continuous(2), y=Categorical(3))


def test_is_the_weighted_sum_of_both_ends_with_its_score() -> None:
    f, q = RandomLogDensity(SPACE, 0), random_reference(SPACE, 1)
    position = q.draw(20, torch.Generator().manual_seed(0))
    rung = torch.linspace(0, 1, 20, dtype=torch.float64)
    chain = evaluate(Tempered(f, q), {**position, RUNG: rung})
    torch.testing.assert_close(chain.f, (1 - rung) * q.log_prob(position) + rung * f(position))
    ends = [evaluate(g, position).score for g in (q.log_prob, f)]
    assert chain.score is not None and ends[0] is not None and ends[1] is not None
    for name in SPACE:
        torch.testing.assert_close(
            chain.score[name], (1 - rung)[:, None] * ends[0][name] + rung[:, None] * ends[1][name]
        )


def test_chains_made_from_the_ends_are_those_evaluated_there() -> None:
    """At every rung, for the price of one evaluation; also of rows taken in another order."""
    f, q = Counted(RandomLogDensity(SPACE, 0), Passes()), random_reference(SPACE, 1)
    position = q.draw(20, torch.Generator().manual_seed(0))
    ends = evaluate_endpoints(f, q, position, with_score=True)
    assert f.passes.take() == (1, 1)
    rows, rung = torch.arange(19, -1, -2), torch.linspace(0, 1, 10, dtype=torch.float64)
    chain = ends.take(rows).chain(rung)
    assert f.passes.take() == (0, 0)
    right = evaluate(Tempered(f, q), {**{name: value[rows] for name, value in position.items()}, RUNG: rung})
    torch.testing.assert_close(chain.f, right.f)
    assert chain.score is not None and right.score is not None
    for name in (*SPACE, RUNG):
        assert torch.equal(chain.position[name], right.position[name])
        torch.testing.assert_close(chain.score[name], right.score[name])


def test_an_infinite_end_of_weight_zero_does_no_harm() -> None:
    q = random_reference(SPACE, 0)
    position = q.draw(3, torch.Generator())
    rung = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    f = Tempered(lambda p: p["x"][:, 0] * 0 - torch.inf, q)({**position, RUNG: rung})
    assert float(f[0]) == float(q.log_prob(position)[0]) and f[1:].tolist() == [-torch.inf] * 2


def test_the_score_of_an_encoded_block() -> None:
    torch.manual_seed(0)
    space = Space(image=Continuous((8, 8)), digit=Categorical(3))
    energy = ConcatEnergy(space, MLP(8 + 3, (16,)), encoder=ConvEncoder((2, 2, 2), 2))
    q, rung = Mixture(space), torch.tensor([0.2, 0.9])
    position = q.draw(2, torch.Generator().manual_seed(0))
    chain = evaluate_endpoints(energy, q, position, with_score=True).chain(rung)
    right = evaluate(Tempered(energy, q), {**position, RUNG: rung})
    assert chain.score is not None and right.score is not None
    for name in space:
        torch.testing.assert_close(chain.score[name], right.score[name])


def test_names_rungs_that_do_not_reach_from_end_to_end() -> None:
    assert check_rungs("X", (0, 0.5, 1)) == (0.0, 0.5, 1.0)
    with pytest.raises(ValueError, match=r"X: rungs must strictly increase from 0 to 1, .* got \(0.0, 0.5\)"):
        check_rungs("X", (0, 0.5))
