"""Specification of both phases with missing entries: Eq. 8, by enumeration, and the code that completes rows, exactly.

An expectation over completions is a finite sum in a small space, so nothing here is statistical.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Noise, Space, TrainConfig, Trainer, testing
from jointebm.data.datasets import Batch
from jointebm.energies import MLP, ConcatEnergy
from jointebm.kernels import (
    MALA,
    Chain,
    Cycle,
    Gibbs,
    GibbsWithGradients,
    Info,
    Kernel,
    Langevin,
    Lazy,
    LogDensity,
    evaluate,
)
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Position
from jointebm.training.divergence import Diverged, Scales
from jointebm.training.objectives import (
    ConditionalTerm,
    LossInputs,
    MaximumLikelihood,
    Objective,
    Phases,
    SummedOut,
    conditional_likelihood,
    maximum_likelihood,
    summed_maximum_likelihood,
)
from jointebm.training.phases import Completer
from jointebm.training.row_completions import Completions, missing_entries
from jointebm.training.watch import Moved, Watch
from support.resumed_runs import CONFIG, KERNELS, NUM, SPACE, Diverging, Sound, assert_same, stepwise, through_disk
from support.tabulated_energies import Table
from support.tabulated_energies import state as training_state
from support.tiny_models import IMAGES, LABELS, MIXED, PICTURES, Case, gradient, make, probs

GRID = torch.cartesian_prod(*[torch.tensor([-0.7, 0.2, 1.1], dtype=torch.float64)] * 2)
CASES = [
    make("labels only", LABELS, ConcatEnergy(LABELS, MLP(9, (6, 5)))),
    make("mixed", MIXED, ConcatEnergy(MIXED, MLP(6, (6, 5)), scale={"x": 1.5, "y": 2.0}), {"x": GRID}),
    make("encoder", IMAGES, ConcatEnergy(IMAGES, MLP(16 + 3, (6,)), scale={"image": 0.5}), {"image": PICTURES}),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class Observed(NamedTuple):
    """The data of a case with gaps: what is missing, and which outcomes agree with the rest, (rows, outcomes)."""

    missing: dict[str, Tensor]
    agrees: Tensor


def observed(case: Case, *, seed: int = 0) -> Observed:
    """Any pattern per row: the first row keeps everything, the last nothing, the others half of their variables."""
    generator = torch.Generator().manual_seed(seed)
    num_rows = len(next(iter(case.data.values())))
    missing = {}
    for name, block in case.space.items():
        mask = torch.rand(num_rows, *block.variable_shape, generator=generator) < 0.5
        if name == "image":  # pictures have no pixel in common, so a part would name the whole
            mask = mask.flatten(1)[:, :1, None].expand(mask.shape).clone()
        mask[0], mask[-1] = False, True
        missing[name] = mask
    agrees = torch.ones(num_rows, len(probs(case)), dtype=torch.bool)
    for name, block in case.space.items():
        same = case.data[name][:, None] == case.outcomes[name][None]
        allowed = same | block.expand(missing[name])[:, None].broadcast_to(same.shape)
        agrees &= allowed.flatten(2).all(dim=2) if allowed.ndim > 2 else allowed
    assert bool(agrees[0].sum() == 1) and bool(agrees[-1].all())
    return Observed(missing, agrees)


def marginal_gradient(case: Case, agrees: Tensor) -> Tensor:
    """Gradient of minus the mean log-likelihood of what is observed, by autograd of sums over all outcomes."""
    f = case.model(case.outcomes)
    sums = f.expand(agrees.shape).masked_fill(~agrees, -torch.inf).logsumexp(dim=1)
    return gradient(f.logsumexp(dim=0) - sums.mean(), case)


Loss = Callable[[Case, Position, Position, Mask], Phases]


def plain(case: Case, positive: Position, negative: Position, missing: Mask) -> Phases:  # noqa: ARG001
    return maximum_likelihood(case.model, positive, negative)


def summed(case: Case, positive: Position, negative: Position, missing: Mask) -> Phases:
    return summed_maximum_likelihood(case.model, case.space, positive, negative, missing=missing)


def exact(case: Case, agrees: Tensor) -> Tensor:
    """Probability of every completion of every row given what is observed of it, (rows, outcomes)."""
    return probs(case).log().expand(agrees.shape).masked_fill(~agrees, -torch.inf).softmax(dim=1)


def eq8_gradient(case: Case, data: Observed, objective: Loss, weights: Tensor) -> Tensor:
    """The expected gradient of an objective, each row completed with the given probabilities, negatives exact."""
    p = probs(case)
    rows = [{name: value[[s]] for name, value in case.outcomes.items()} for s in range(len(p))]
    total = torch.zeros_like(marginal_gradient(case, data.agrees))
    for number, weight in enumerate(weights):
        missing = {name: mask[[number]] for name, mask in data.missing.items()}
        for s in weight.nonzero().flatten().tolist():
            total += weight[s] * gradient(objective(case, rows[s], rows[0], missing).loss, case)
    total /= len(weights)
    missing = {name: torch.zeros_like(mask[[0]]) for name, mask in data.missing.items()}
    negative = torch.stack([gradient(objective(case, rows[0], row, missing).loss, case) for row in rows])
    return total + p @ negative - negative[0]


@every_case
@pytest.mark.parametrize("objective", [plain, summed])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_of_eq_8_is_that_of_the_likelihood_of_what_is_observed(
    case: Case, objective: Loss, seed: int
) -> None:
    data = observed(case, seed=seed)
    expected = marginal_gradient(case, data.agrees)
    assert float(expected.abs().max()) > 1e-2
    difference = eq8_gradient(case, data, objective, exact(case, data.agrees)) - expected
    assert float(difference.abs().max()) < 1e-10


@every_case
def test_missing_labels_are_summed_out_whatever_they_were_filled_with(case: Case) -> None:
    """Where only labels are missing, one evaluation has no noise left: its gradient is the exact one, not one on average."""
    data = observed(case)
    missing = {n: m & torch.tensor(case.space[n].discrete) for n, m in data.missing.items()}
    labels = Space(**{name: case.space[name] for name in case.space.discrete})
    filler = Noise.uniform(labels).draw(7, generator=torch.Generator().manual_seed(1))
    filled = {
        name: torch.where(case.space[name].expand(missing[name]), filler[name].double(), value)
        if name in filler
        else value
        for name, value in case.data.items()
    }
    one, other = (summed(case, rows, case.outcomes, missing) for rows in (case.data, filled))
    torch.testing.assert_close(one.positive, other.positive, rtol=0, atol=1e-12)
    agrees = torch.stack(
        [
            ((case.data[n][:, None] == case.outcomes[n][None]) | case.space[n].expand(missing[n])[:, None])
            .reshape(7, len(probs(case)), -1)
            .all(dim=2)
            for n in case.space
        ]
    ).all(dim=0)
    expected = case.model(case.outcomes).expand(agrees.shape).masked_fill(~agrees, -torch.inf).logsumexp(dim=1)
    torch.testing.assert_close(one.positive, expected, rtol=0, atol=1e-12)


@every_case
def test_with_nothing_missing_a_mask_changes_no_number(case: Case) -> None:
    nothing = {name: torch.zeros(7, *block.variable_shape, dtype=torch.bool) for name, block in case.space.items()}
    negative = {name: value[:4] for name, value in case.outcomes.items()}
    one = summed_maximum_likelihood(case.model, case.space, case.data, negative)
    other = summed(case, case.data, negative, nothing)
    assert torch.equal(one.positive, other.positive) and torch.equal(one.loss, other.loss)
    torch.testing.assert_close(
        conditional_likelihood(case.model, case.space, case.data, missing=nothing),
        conditional_likelihood(case.model, case.space, case.data),
        rtol=0,
        atol=1e-12,
    )


@every_case
def test_the_conditional_term_is_of_observed_labels_given_complete_reals(case: Case) -> None:
    data = observed(case)
    f = case.model(case.outcomes)
    total = torch.zeros((), dtype=torch.float64)
    for row in range(7):
        labels = torch.cat([data.missing[name][row].flatten() for name in case.space.discrete])
        if any(bool(data.missing[name][row].any()) for name in case.space.continuous) or bool(labels.all()):
            continue
        same_x = torch.stack(
            [torch.ones(len(f), dtype=torch.bool)]
            + [(case.outcomes[n] == case.data[n][row]).reshape(len(f), -1).all(dim=1) for n in case.space.continuous]
        ).all(dim=0)
        total = total + f[same_x].logsumexp(dim=0) - f[data.agrees[row]].logsumexp(dim=0)
    assert float(total.detach()) > 0
    spoiled = {  # what is missing may be anything that is not read
        name: value.masked_fill(case.space[name].expand(data.missing[name]), torch.nan)
        for name, value in case.data.items()
    }
    loss = conditional_likelihood(case.model, case.space, spoiled, missing=data.missing)
    torch.testing.assert_close(loss, total / 7, rtol=0, atol=1e-12)
    nothing_known = {name: torch.ones_like(mask) for name, mask in data.missing.items()}
    assert float(conditional_likelihood(case.model, case.space, spoiled, missing=nothing_known)) == 0.0


# Planted bugs.


def uniform_completions(case: Case, data: Observed) -> Tensor:  # noqa: ARG001
    return data.agrees / data.agrees.sum(dim=1, keepdim=True)


def observed_entries_not_clamped(case: Case, data: Observed) -> Tensor:
    return probs(case).expand(data.agrees.shape)


def most_probable_completion(case: Case, data: Observed) -> Tensor:
    weights = exact(case, data.agrees)
    return (weights == weights.amax(dim=1, keepdim=True)).double()


@every_case
@pytest.mark.parametrize(
    "fault",
    [uniform_completions, observed_entries_not_clamped, most_probable_completion],
)
def test_the_check_finds_wrong_completions(case: Case, fault: Callable[[Case, Observed], Tensor]) -> None:
    data = observed(case)
    difference = eq8_gradient(case, data, plain, fault(case, data)) - marginal_gradient(case, data.agrees)
    assert float(difference.abs().max()) > 1e-3


def observed_labels_summed_out_too(case: Case, positive: Position, negative: Position, missing: Mask) -> Phases:
    return summed(case, positive, negative, {name: torch.ones_like(mask) for name, mask in missing.items()})


def labels_of_the_wrong_variable(case: Case, positive: Position, negative: Position, missing: Mask) -> Phases:
    return summed(case, positive, negative, {name: ~mask for name, mask in missing.items()})


@every_case
@pytest.mark.parametrize("fault", [observed_labels_summed_out_too, labels_of_the_wrong_variable])
def test_the_check_finds_wrong_sums(case: Case, fault: Loss) -> None:
    data = observed(case)
    difference = eq8_gradient(case, data, fault, exact(case, data.agrees)) - marginal_gradient(case, data.agrees)
    assert float(difference.abs().max()) > 1e-3


# The code that completes rows.

DISCRETE = Space(a=Binary(), b=Categorical(3))


def table(position: Position) -> Tensor:
    a = torch.stack([1 - position["a"], position["a"]], dim=1)
    theta = position["a"].new_tensor([[0.3, -1.0, 0.9], [1.2, 0.1, -0.4]])
    return torch.einsum("na,ab,nb->n", a, theta, position["b"])


class Blind(Watch):
    """Does not check completions: on a path of outcomes that is impossible in a row, anything may be there."""

    def check_completions(self, moved: Moved, batch: Position, where: str) -> None:
        pass


@dataclass(frozen=True)
class Completing(Kernel):
    """A visit of rows in the chain's place, as a kernel: what is free is missing, and was left where the chain is."""

    kernel: Kernel
    forgets: bool = False

    uses_score = False
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        masks = {name: free[name].expand(len(chain.f)) for name in DISCRETE}
        position = {
            name: value.masked_fill(DISCRETE[name].expand(masks[name]), torch.nan)
            for name, value in chain.position.items()
        }
        completions, numbers = Completions(DISCRETE), torch.arange(len(chain.f))
        if not self.forgets:
            completions.write(numbers, chain.position, masks)
        noise, watch = Noise.uniform(DISCRETE), Blind(DISCRETE, self.kernel, Scales())
        completer = Completer(DISCRETE, self.kernel, num_steps=1, noise=noise, watch=watch)
        batch = Batch(position, numbers)
        positive = completer.complete(batch, completions, log_density=log_density, generator=generator, where="a test")
        positive.keep(completions)
        kept = completions.draw(numbers, position, noise=noise, generator=torch.Generator())
        assert all(torch.equal(kept[name], positive.position[name]) for name in DISCRETE)
        ones = torch.ones_like(chain.f)
        return evaluate(log_density, positive.position, with_score=False), Info(ones, ones.bool())


PATTERNS = [{"a": True, "b": True}, {"a": False, "b": True}, {"a": True, "b": False}]


@pytest.mark.parametrize("kernel", [Gibbs(DISCRETE), GibbsWithGradients(DISCRETE), Lazy(Gibbs(DISCRETE), 0.3)], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_visit_leaves_the_conditional_of_what_is_missing_invariant_and_clamps_the_rest(
    kernel: Kernel, pattern: dict[str, bool]
) -> None:
    """The transition matrix of the code that completes rows, along every outcome of its draws."""
    free = {name: torch.tensor(value) for name, value in pattern.items()}
    matrix, position = testing.transition_matrix(Completing(kernel), table, DISCRETE, free=free)
    target = testing.target_probs(table, position)
    assert testing.stationarity_residual(matrix, target) < 1e-12
    moved = (matrix.diagonal() < 1 - 1e-9).all()
    assert bool(moved)  # clamped entries were checked on arrival


def test_the_check_finds_rows_that_start_from_noise_at_every_visit() -> None:
    free = {"a": torch.tensor(False), "b": torch.tensor(True)}
    kernel = GibbsWithGradients(DISCRETE)
    matrix, position = testing.transition_matrix(Completing(kernel, forgets=True), table, DISCRETE, free=free)
    assert testing.stationarity_residual(matrix, testing.target_probs(table, position)) > 1e-3


# Training.


def numbered(num: int, *, generator: torch.Generator) -> Batch:
    """A row is its number: nothing else decides what it holds, or which of its entries are missing."""
    numbers = torch.randint(12, (num,), generator=generator)
    labels = numbers % 3
    x = torch.stack([labels + 0.1 * numbers, labels - 0.05 * numbers], dim=1)
    x[numbers % 4 == 1, 0] = torch.nan
    x[numbers % 6 == 2] = torch.nan
    y = torch.where((numbers % 5 < 2)[:, None], torch.nan, torch.eye(3)[labels])
    return Batch({"x": x, "y": y}, numbers)


def whole(num: int, *, generator: torch.Generator) -> Batch:
    batch = numbered(num, generator=generator)
    labels = batch.numbers % 3  # type: ignore[operator]
    return Batch({"x": batch.position["x"].nan_to_num(0.5), "y": torch.eye(3)[labels]}, batch.numbers)


def trainer_of(
    batch: Callable[..., Any], *, network: type[Sound] = Sound, kernel: str = "gibbs + mala", **fields: Any
) -> Trainer:
    log_density = network()
    config = CONFIG.model_copy(update=fields)
    trainer = Trainer(log_density, SPACE, batch, kernel=KERNELS[kernel], config=config, seed=7, labelled=batch)
    if isinstance(log_density, Diverging):
        object.__setattr__(log_density, "trainer", trainer)
    return trainer


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("objective", [MaximumLikelihood(), SummedOut()])
def test_masking_nothing_equals_full_training_bit_for_bit(objective: Objective, weight: float) -> None:
    fields = {
        "objective": objective,
        "terms": (ConditionalTerm(weight=weight),) if weight else (),
        "num_iterations": 20,
    }
    one = trainer_of(whole, **fields)
    other = trainer_of(lambda num, generator: whole(num, generator=generator).position, **fields)
    metrics = [[each._replace(seconds=0) for each in trainer.run()] for trainer in (one, other)]
    states = [training_state(trainer) for trainer in (one, other)]
    assert metrics[0] == metrics[1] and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert one.state().tensors.keys() == other.state().tensors.keys()
    assert set(one.completions.num_rows.values()) == {0}


OBJECTIVES = pytest.mark.parametrize("objective", [MaximumLikelihood(), SummedOut()])


@OBJECTIVES
def test_only_rows_that_a_kernel_completes_are_stored(objective: Objective) -> None:
    trainer = trainer_of(numbered, objective=objective, num_iterations=40)
    list(trainer.run())
    gaps_of_x = {n for n in range(12) if n % 4 == 1 or n % 6 == 2}
    gaps_of_y = {n for n in range(12) if n % 5 < 2}
    stored = {name: set(trainer.completions.state()[f"rows.{name}"].tolist()) for name in SPACE}
    assert stored["x"] == gaps_of_x
    assert stored["y"] == (gaps_of_y if not objective.sums_labels_out else gaps_of_y & gaps_of_x)


def test_a_completion_moves_only_what_is_missing_and_goes_on_between_visits() -> None:
    trainer = trainer_of(numbered, num_iterations=60)
    list(trainer.run())
    before = {name: tensor.clone() for name, tensor in trainer.completions.state().items()}
    row_1 = (before["rows.x"] == 1).nonzero().item()
    label, number = 1, 1
    assert before["position.x"][row_1, 1] == torch.tensor(label - 0.05 * number)  # observed: bit for bit
    assert before["position.x"][row_1, 0] != 0
    trainer.step()
    after = trainer.completions.state()["position.x"]
    steps = (after - before["position.x"]).abs().amax(dim=1)
    assert 0 < float(steps.max()) < 2  # one visit of steps of size 0.3, not a start from noise


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@OBJECTIVES
def test_a_run_with_gaps_that_is_interrupted_after_any_step_comes_to_the_same_end(
    kernel: str, objective: Objective, tmp_path: Any
) -> None:
    """Restarted chains and a rollback in its midst, which takes the completions back too."""
    fields = {"objective": objective, "terms": (ConditionalTerm(0.2, labelled_batch_size=4),)}
    states = stepwise(trainer_of(numbered, network=Diverging, kernel=kernel, **fields))
    assert states[-1].plain["interventions"][-1]["action"] == "rolled back"
    rows = [len(state.tensors.get("completions.rows.x", ())) for state in states]
    assert rows[0] < rows[-1] == 5
    for state in states[::25]:
        resumed = trainer_of(numbered, network=Diverging, kernel=kernel, **fields)
        resumed.restore(through_disk(state, tmp_path / "checkpoints"))
        list(resumed.run())
        assert_same(resumed.state(), states[-1])
    assert len(states) > NUM


def test_a_rollback_puts_the_completions_back() -> None:
    trainer = trainer_of(numbered, network=Diverging)
    kept: dict[int, dict[str, Tensor]] = {}
    trainer.on_intervention = lambda intervention: kept.update(
        {intervention.back_to: copy.deepcopy(trainer.completions.state())}
    )
    at: dict[int, dict[str, Tensor]] = {}
    for metrics in trainer.run():
        at.setdefault(metrics.iteration, copy.deepcopy(trainer.completions.state()))
    back_to = max(i.back_to for i in trainer.interventions if i.action == "rolled back")
    assert back_to > 0
    assert all(torch.equal(kept[back_to][name], tensor) for name, tensor in at[back_to].items())


class Observations:
    """Rows of a table of two labels, one of them missing in some: a batch is all of them."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        index = torch.multinomial(
            torch.tensor([5.0, 1.0, 2.0, 1.0, 3.0, 4.0]), 300, replacement=True, generator=generator
        )
        missing = torch.rand(300, 2, generator=generator) < 0.3
        a = (index // 3).float().masked_fill(missing[:, 0], torch.nan)
        b = torch.eye(3)[index % 3].masked_fill(missing[:, 1:], torch.nan)
        self.position, self.numbers = {"a": a, "b": b}, torch.arange(300)

    def __call__(self, num: int, *, generator: torch.Generator) -> Batch:  # noqa: ARG002
        return Batch(self.position, self.numbers)

    def maximum(self) -> Tensor:
        """Log-probabilities at the maximum of the likelihood of what is observed, by EM to convergence."""
        outcomes = Table.space.configurations()
        agrees = torch.stack(
            [
                ((self.position["a"][:, None] == outcomes["a"]) | self.position["a"].isnan()[:, None]),
                ((self.position["b"][:, None] == outcomes["b"]) | self.position["b"].isnan()[:, None]).all(dim=2),
            ]
        ).all(dim=0)
        p = torch.full((6,), 1 / 6, dtype=torch.float64)
        for _ in range(2000):
            weights = agrees * p
            p = (weights / weights.sum(dim=1, keepdim=True)).mean(dim=0)
        return p.log()


def fitted(data: Observations, kernel: Kernel, **fields: Any) -> tuple[Tensor, Trainer]:
    """Log-probabilities of the six outcomes after training, and the trainer."""
    common = {"num_iterations": 600, "batch_size": 300, "buffer_size": 300, "decay": "cosine"}
    trainer = Trainer(Table(), Table.space, data, kernel=kernel, config=TrainConfig(**(common | fields)), seed=0)
    list(trainer.run())
    return trainer.average.theta.detach().flatten().double().log_softmax(dim=0), trainer


@pytest.mark.slow
def test_with_labels_summed_out_training_comes_to_the_maximum_of_the_likelihood_of_what_is_observed() -> None:
    """No noise is left, so it is gradient descent on the enumerated marginal likelihood; EM goes another way to its end."""
    data = Observations()
    fields = {"num_steps": 1, "learning_rate": 0.1, "objective": SummedOut(), "ema_decay": 0.0}
    log_probs, _ = fitted(data, Gibbs(Table.space), **fields)
    torch.testing.assert_close(log_probs, data.maximum(), rtol=0, atol=1e-4)
    complete_rows = ~(data.position["a"].isnan() | data.position["b"].isnan().any(dim=1))
    counts = torch.zeros(6).index_add_(
        0,
        Table.space.configuration_index({n: v[complete_rows] for n, v in data.position.items()}),
        torch.ones(int(complete_rows.sum())),
    )
    assert float((log_probs.exp() - counts / counts.sum()).abs().max()) > 0.005  # leaving rows out gives another answer


@pytest.mark.slow
def test_with_kernels_too_within_the_noise_of_persistent_chains() -> None:
    """The noise that is left was at most 0.04 with each of three seeds; the seed here is fixed."""
    data, kernel = Observations(), Gibbs(Table.space, scan="systematic")
    fields = {"num_steps": 4, "learning_rate": 0.02, "replacement_rate": 0.0, "ema_decay": 0.99}
    log_probs, trainer = fitted(data, kernel, **fields)
    assert float((log_probs - data.maximum()).abs().max()) < 0.12
    assert trainer.completions.num_rows == {
        "a": int(data.position["a"].isnan().sum()),
        "b": int(data.position["b"][:, 0].isnan().sum()),
    }


# What is refused.


def test_gaps_in_rows_without_numbers_stop_the_run() -> None:
    calls: Iterator[int] = iter(range(100))

    def batch(num: int, *, generator: torch.Generator) -> Position:
        return (whole if next(calls) == 0 else numbered)(num, generator=generator).position

    with pytest.raises(Diverged, match="give missing entries as NaN with the numbers of the rows"):
        trainer_of(batch).step()


def test_an_infinite_entry_is_no_gap() -> None:
    def batch(num: int, *, generator: torch.Generator) -> Batch:
        drawn = numbered(num, generator=generator)
        x = drawn.position["x"].clone()
        x[0, 1] = torch.inf if trainers else 0.0
        return Batch({**drawn.position, "x": x}, drawn.numbers)

    trainers: list[Trainer] = []
    trainers.append(trainer_of(batch, max_rollbacks=0))
    with pytest.raises(Diverged, match="block 'x': not finite in row 0 in the positive phase"):
        trainers[0].step()


class Cliff(Sound):
    """A network that is not finite where x is completed too far out."""

    def forward(self, position: Position) -> Tensor:
        return self.network(position) + 1e6 * position["x"].square().sum(dim=1)


def test_completions_that_run_away_are_noticed_and_nothing_is_learned_from_them() -> None:
    trainer = trainer_of(numbered, network=Cliff, kernel="gradients + langevin", max_rollbacks=0, completion_steps=5)
    with pytest.raises(Diverged, match="in the completion of data of iteration 1"):
        trainer.step()


def test_rows_with_labels_are_drawn_for_the_conditional_term_only_if_they_are_asked_for() -> None:
    drawn: list[int] = []

    def labelled(num: int, *, generator: torch.Generator) -> Batch:
        drawn.append(num)
        return numbered(num, generator=generator)

    config = CONFIG.model_copy(update={"terms": (ConditionalTerm(labelled_batch_size=3),), "num_iterations": 2})
    trainer = Trainer(
        Sound(), SPACE, numbered, kernel=KERNELS["gibbs + mala"], config=config, seed=0, labelled=labelled
    )
    list(trainer.run())
    assert drawn == [3, 3]
    with pytest.raises(ValueError, match="labelled_batch_size 3, but nothing draws such rows; pass labelled"):
        Trainer(Sound(), SPACE, numbered, kernel=KERNELS["gibbs + mala"], config=config, seed=0)


def test_the_share_of_the_chains_labels_comes_from_the_objective() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = Noise.uniform(SPACE)
    samples = LossInputs(noise.draw(6, generator=generator), noise.draw(5, generator=generator), SPACE)
    network = Sound()

    def loss(share: float) -> float:
        return float(SummedOut(sampled_share=share).loss(network, samples).loss.detach())

    assert abs(loss(1.0) - loss(0.0)) > 1e-3
    assert loss(0.5) == pytest.approx((loss(0.0) + loss(1.0)) / 2, abs=1e-6)


def test_a_label_given_alone_completes_the_reals_by_the_kernel_of_the_model() -> None:
    """Everything observed of a row may be its label; its x is then drawn from p(x | y)."""

    def batch(num: int, *, generator: torch.Generator) -> Batch:
        drawn = whole(num, generator=generator)
        x = drawn.position["x"].clone()
        assert drawn.numbers is not None
        x[drawn.numbers % 2 == 0] = torch.nan
        return Batch({**drawn.position, "x": x}, drawn.numbers)

    trainer = trainer_of(batch, num_iterations=30)
    list(trainer.run())
    assert trainer.completions.num_rows["x"] == 6 and trainer.completions.num_rows["y"] == 0
    assert missing_entries(SPACE, {"x": trainer.completions.state()["position.x"], "y": torch.eye(3)[[0] * 6]}) is None
    assert isinstance(trainer.kernel, Cycle) and isinstance(trainer.kernel.kernels[1], MALA | Langevin)


# What the loss is of.


def term_gradient(trainer: Trainer, network: Sound) -> Tensor:
    trainer.step()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def test_rows_with_labels_are_what_their_term_is_of() -> None:
    """All else is the same with and without the term: the difference of gradients is that of the labelled rows alone."""
    labels = torch.arange(6) % 3
    rows = {"x": torch.linspace(-1, 1, 12).reshape(6, 2), "y": torch.eye(3)[labels]}
    rows["y"][4:] = torch.nan  # two of them have no label
    found = []
    for terms in ((), (ConditionalTerm(0.7, labelled_batch_size=6),)):
        network = Sound()
        config = CONFIG.model_copy(update={"terms": terms})
        trainer = Trainer(
            network,
            SPACE,
            lambda num, generator: whole(num, generator=generator).position,
            kernel=KERNELS["gibbs + mala"],
            config=config,
            seed=3,
            labelled=lambda num, generator: rows,  # noqa: ARG005
        )
        found.append(term_gradient(trainer, network))
    network = Sound()
    conditional_likelihood(network, SPACE, rows, missing=missing_entries(SPACE, rows)).backward()
    expected = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    assert float(expected.norm()) > 0.05
    torch.testing.assert_close(found[1] - found[0], 0.7 * expected, rtol=0, atol=1e-5)


@dataclass(frozen=True)
class Counts(Kernel):
    """A kernel that does not move, and records at how many entries each call lets it move anything."""

    calls: list[int]

    uses_score = False
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:  # noqa: ARG002
        masks = [mask.expand(len(chain.f), *SPACE[name].variable_shape) for name, mask in free.items()]
        self.calls.append(int(sum(mask.sum() for mask in masks)))
        return chain, Info(torch.ones_like(chain.f), torch.ones_like(chain.f, dtype=torch.bool))


@pytest.mark.parametrize(("fields", "num_steps"), [({"completion_steps": 7}, 7), ({"num_steps": 10}, 4)])
def test_completions_take_their_own_number_of_steps_and_lazy_parts_never_skip(
    fields: dict[str, int], num_steps: int
) -> None:
    """At a rate of one in a million the chains never move; missing entries of rows may, at every step of a visit."""
    counts = Counts([])
    config = CONFIG.model_copy(update={"num_steps": 1, "replacement_rate": 0.0, **fields})
    trainer = Trainer(Sound(), SPACE, numbered, kernel=Cycle((Lazy(counts, rate=1e-6),)), config=config, seed=0)
    drawn = numbered(config.batch_size, generator=copy_of(trainer.generator))
    missing = missing_entries(SPACE, drawn.position)
    assert missing is not None
    num_missing = sum(int(mask.sum()) for mask in missing.values())
    trainer.step()
    of_rows, of_chains = counts.calls[:num_steps], counts.calls[num_steps:]
    assert of_rows == [num_missing] * num_steps
    assert of_chains == [0] * config.num_steps


def copy_of(generator: torch.Generator) -> torch.Generator:
    return torch.Generator().set_state(generator.get_state())
