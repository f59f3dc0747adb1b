"""Missing labels of few configurations are drawn from their exact conditional, without a chain."""

import itertools

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.inference import importance
from jointebm.inference.given_values import Restricted
from jointebm.inference.importance import drawn_labels
from jointebm.kernels import LogDensity
from jointebm.spaces.space import Position
from references.small_spaces import outcomes
from support.block_models import model_of

SPACE = Space(x=Continuous(), a=Categorical((2, 3)), b=Binary())
MODEL = model_of(SPACE)
EVERY = torch.tensor(list(itertools.product(range(2), range(3), range(2))))  # of a, a, b
PATTERNS = [each for each in itertools.product([False, True], repeat=3) if any(each)]
GENERATOR = torch.Generator().manual_seed(0)
X = torch.tensor([-1.5, 0.3, 0.3, 2.0, 0.3], dtype=torch.float64)
LABELS = torch.tensor([[0, 2, 1], [1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 0]])  # the second row twice


def encoded(x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return SPACE.encode({"x": x, "a": labels[:, :2], "b": labels[:, 2]}, dtype=torch.float64)[0]


def exact(f: LogDensity, missing: tuple[bool, ...]) -> Tensor:
    """Of each row, the probability of every configuration of all labels given those that are known, (N, 12)."""
    rows = []
    for x, labels in zip(X, LABELS, strict=True):
        possible = ((labels == EVERY) | torch.tensor(missing)).all(dim=1)
        with torch.no_grad():
            values = f(encoded(x.expand(len(EVERY)), EVERY))
        rows.append(values.masked_fill(~possible, -torch.inf).softmax(dim=0))
    return torch.stack(rows)


def drawn(f: LogDensity, missing: tuple[bool, ...]) -> Tensor:
    """The same over all outcomes of the draw."""
    known, found = encoded(X, LABELS.masked_fill(torch.tensor(missing), -1)), torch.zeros(len(X), len(EVERY)).double()
    for prob, (position, rows) in outcomes(lambda stream: drawn_labels(f, SPACE, known, stream), len(X)):
        assert bool(rows.all()) and torch.equal(position["x"], X)
        labels = SPACE.decode(position)
        whole = torch.cat([labels["a"], labels["b"][:, None]], dim=1)
        found += prob[:, None] * (whole[:, None] == EVERY).all(dim=2)
    return found


@pytest.mark.parametrize("missing", PATTERNS)
def test_draws_have_the_exact_conditional(missing: tuple[bool, ...]) -> None:
    assert (drawn(MODEL, missing) - exact(MODEL, missing)).abs().max() < 1e-12


def test_draws_stay_inside_evidence() -> None:
    evidence = {"a": torch.tensor([0.0, 0.0, 0.0, -torch.inf, 0.0]).double()}
    f = Restricted(MODEL, SPACE, evidence)
    expected = exact(f, (False, True, True))[[0, 3]]  # rows of others begin outside, and are moved inside
    assert (drawn(f, (False, True, True))[[0, 3]] - expected).abs().max() < 1e-12
    assert float(drawn(f, (True, True, True))[:, EVERY[:, 1] == 1].abs().max()) == 0


def test_other_rows_stay_as_they_are_and_pieces_draw_what_the_whole_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With F a thousand times as steep a draw is the most probable one."""

    def steep(position: Position) -> Tensor:
        return 1000 * MODEL(position)

    masks = torch.tensor([[True, True, True], [False, True, False], [False] * 3, [True, False, True], [True] * 3])
    x, labels = X.clone(), LABELS.masked_fill(masks, -1)
    x[4] = torch.nan
    known = encoded(x, labels)
    best = torch.stack([exact(steep, tuple(mask.tolist()))[row] for row, mask in enumerate(masks)]).argmax(dim=1)
    for size in (1 << 17, 12):
        monkeypatch.setattr(importance, "MAX_EVALUATIONS", size)
        position, rows = drawn_labels(steep, SPACE, known, GENERATOR)
        assert rows.tolist() == [True, True, False, True, False]
        found = torch.cat([SPACE.decode(position)["a"], SPACE.decode(position)["b"][:, None]], dim=1)
        assert torch.equal(found[:4], EVERY[best[:4]]) and found[4].tolist() == [-1, -1, -1]
    monkeypatch.setattr(importance, "MAX_EXACT", 3)
    assert drawn_labels(steep, SPACE, known, GENERATOR)[1].tolist() == [False, True, False, False, False]


def test_a_row_without_a_finite_configuration_is_named() -> None:
    def f(position: Position) -> Tensor:
        return torch.where(position["x"] > 1, -torch.inf, 0.0)

    with pytest.raises(FloatingPointError, match="missing labels of row 3"):
        drawn_labels(f, SPACE, encoded(X, LABELS.masked_fill(torch.tensor([False, True, False]), -1)), GENERATOR)


def test_questions_draw_labels_exactly_and_move_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 rows of one condition: each share within five standard errors, a false alarm in 10^5."""
    values, found = MODEL.sample(20_000, {"x": 0.25, "b": 1}, diagnostics=True)
    assert bool(found.exact.all()) and found.accept_rate == {} and found.r_hat is None
    position = encoded(torch.full((12,), 0.25).double(), EVERY)
    with torch.no_grad():
        probs = MODEL(position).masked_fill(EVERY[:, 2] == 0, -torch.inf).softmax(dim=0)
    shares = (values["a"][:, None] == EVERY[:, :2]).all(dim=2) & (EVERY[:, 2] == 1)
    assert ((shares.double().mean(dim=0) - probs).abs() <= 5 * (probs / 20_000).sqrt()).all()
    assert bool((values["b"] == 1).all()) and bool((values["x"] == 0.25).all())
    some, found = MODEL.sample(200, {"x": 0.25, "a": [-1, {0, 2}]}, diagnostics=True)
    assert bool(found.exact.all()) and set(some["a"][:, 1].tolist()) == {0, 2}
    both = {"x": torch.tensor([0.3, torch.nan, 1.0]), "a": torch.tensor([[1, -1], [1, -1], [0, 2]]), "b": [-1, 0, 1]}
    (one,), found = MODEL.impute(both, num_steps=8, diagnostics=True)
    assert found.exact.tolist() == [True, False, True] and set(found.accept_rate) == {"Jump", "Gibbs", "Langevin"}
    assert found.num_jumps is not None and found.num_jumps.isnan().tolist() == [True, False, True]
    assert one["a"][:, 0].tolist() == [1, 1, 0] and one["a"][2, 1] == 2 and bool(one["x"].isfinite().all())
    monkeypatch.setattr(importance, "MAX_EXACT", 1)
    _, found = MODEL.impute(both, num_steps=8, diagnostics=True)
    assert found.exact.tolist() == [False, False, True]
