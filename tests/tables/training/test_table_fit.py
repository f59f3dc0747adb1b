"""The fit: it finds what made the rows, is never worse than its base, resumes bit for bit, and recovers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm.storage import checkpoint
from jointebm.storage.checkpoint import Checkpoint
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.training import table_fit
from jointebm.tables.training.table_config import Progress, TableConfig
from jointebm.tables.training.table_fit import TableFit
from jointebm.training.divergence import Diverged, Intervention
from jointebm.training.objectives import MaximumLikelihood, Phases, PseudoLikelihood
from support.tiny_tables import ALL, CLASSES, energy, enumerated, generator

SMALL = TableConfig(width=32, batch_size=128, num_visits=40, precision="float32")


def fitted(codes: Tensor, config: TableConfig = SMALL, *, seed: int = 0, **others: object) -> TableEnergy:
    return TableModel.fit(codes, CLASSES, config=config, seed=seed, **others).energy  # type: ignore[arg-type]


def rows_of(made: TableEnergy, num: int) -> Tensor:
    return ALL[torch.multinomial(enumerated(made).exp(), num, replacement=True, generator=generator(11))]


def divergence(truth: TableEnergy, model: TableEnergy) -> float:
    """Kullback-Leibler divergence of the model from the truth, by enumeration, nats."""
    log_p, log_q = (enumerated(made).double().log_softmax(dim=0) for made in (truth, model))
    return float((log_p.exp() * (log_p - log_q)).sum())


@pytest.mark.parametrize(
    ("share_missing", "changes"),
    [
        (0.0, {"objective": PseudoLikelihood()}),
        (0.3, {"objective": PseudoLikelihood()}),
        (0.0, {"objective": PseudoLikelihood(num_candidates=2)}),
        (0.3, {}),
        (0.0, {"warm_start": 0.0, "chain_rate": 1.0}),
    ],
)
def test_it_learns_what_made_the_rows(share_missing: float, changes: dict[str, object]) -> None:
    """4,000 rows of 24 states. The best fit is off by about 23 / 8,000 = .003 nats, and the independent base by .2."""
    truth = energy()
    rows = rows_of(truth, 4000)
    codes = rows.masked_fill(torch.rand(4000, 3, generator=generator(7)) < share_missing, -1)
    config = SMALL.model_copy(update={"base": "independent", **changes})
    base = fitted(codes, config.model_copy(update={"num_visits": 0}))
    assert divergence(truth, base) > 0.1
    assert divergence(truth, fitted(codes, config)) < 0.02


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    codes = rows_of(energy(), 500)
    first, again, other = (fitted(codes, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_pure_noise_is_left_to_the_base() -> None:
    """Independent columns: held-out rows veto what the network finds in the noise, so the fit stays as good as the base."""
    codes = torch.stack([torch.randint(count, (400,), generator=generator(count)) for count in CLASSES], dim=1)
    looks: list[Progress] = []
    made = fitted(codes, SMALL.model_copy(update={"learning_rate": 0.02, "num_visits": 200}), on_progress=looks.append)
    assert len(looks) < SMALL.num_looks  # patience ran out
    assert enumerated(made).log_softmax(dim=0).exp().max() < 0.1  # of 1/24 each


@pytest.mark.parametrize("num_rows", [1, 3, 40])
def test_too_few_rows_to_hold_any_out_give_the_base_alone(num_rows: int) -> None:
    made = fitted(ALL[:num_rows])
    assert torch.equal(enumerated(made), made.base(ALL))


def test_chains_that_lose_log_score_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that always push the parameters one way or the other: the warm start stands, unless any loss is allowed."""
    codes = rows_of(energy(), 2000)

    def pushed(sign: int) -> Tensor:
        def loss(self: MaximumLikelihood, residuals: Any, samples: object) -> Phases:  # noqa: ARG001
            total = sign * sum(each.sum() for each in residuals._energy.residual.parameters())
            return Phases(total, total[None], total[None])

        monkeypatch.setattr(MaximumLikelihood, "loss", loss)
        return enumerated(fitted(codes, SMALL.model_copy(update={"chain_rate": 10.0})))

    assert torch.equal(pushed(1), pushed(-1))
    monkeypatch.setattr(table_fit, "MAX_LOSS", 1e9)
    assert not torch.equal(pushed(1), pushed(-1))


@pytest.mark.parametrize("is_incomplete", [False, True])
def test_patience_ends_a_warm_start_unless_most_rows_are_incomplete(
    is_incomplete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look is worse than the one before."""
    scores = iter(range(0, -1000, -1))
    monkeypatch.setattr("jointebm.tables.training.table_fit.Validation.score", lambda *_: float(next(scores)))
    codes = rows_of(energy(), 1500)
    codes[:, 0] = codes[:, 0].masked_fill(torch.tensor(is_incomplete), -1)
    looks: list[Progress] = []
    made = fitted(codes, SMALL.model_copy(update={"num_visits": 8}), on_progress=looks.append)
    warm = [look for look in looks if look.fraction < SMALL.warm_start]
    assert len(warm) == SMALL.patience or (is_incomplete and len(warm) > 2 * SMALL.patience)
    assert looks[-1].fraction == 1  # chains follow
    assert torch.equal(made(ALL), made.base(ALL))  # and are given up with all else


def test_columns_of_one_class_and_columns_never_seen_are_legal() -> None:
    rows = torch.cat([rows_of(energy(), 300), torch.zeros(300, 1, dtype=torch.int64), torch.full((300, 1), -1)], dim=1)
    made = TableModel.fit(rows, (*CLASSES, 1, 5), config=SMALL, seed=0).energy
    everything = torch.cat([ALL, torch.zeros(24, 1, dtype=torch.int64), torch.full((24, 1), 3)], dim=1)
    assert made(everything).isfinite().all()
    only_constant = TableModel.fit(rows[:, 3:4], (1,), config=SMALL, seed=0).energy
    assert only_constant(torch.zeros(2, 1, dtype=torch.int64)).tolist() == [0, 0]


def test_progress_is_told_with_rising_fractions() -> None:
    looks: list[Progress] = []
    fitted(rows_of(energy(), 500), on_progress=looks.append)
    assert [look.fraction for look in looks] == sorted(look.fraction for look in looks)
    assert all(look.log_score < 0 and look.seconds > 0 for look in looks)


def test_a_table_without_a_warm_start_may_have_hardly_a_complete_row() -> None:
    codes = rows_of(energy(), 1500)
    codes[:, 0] = -1
    made = fitted(codes, SMALL.model_copy(update={"warm_start": 0.0, "num_visits": 1}))
    assert made(ALL).isfinite().all()


# Held-out rows.


def test_nothing_is_learned_from_held_out_rows() -> None:
    """Base, reference, completions and network are those of a fit in which the held-out rows are others, bit for bit."""
    codes = rows_of(energy(), 1500)
    codes = codes.masked_fill(torch.rand(codes.shape, generator=generator(4)) < 0.2, -1)
    config = SMALL.model_copy(update={"num_looks": 1})
    fits = [TableFit(codes, CLASSES, ordered=(True,) * 3, config=config, seed=0)]
    others = codes.clone()
    others[fits[0].held_out] = torch.tensor([1, 2, 3])
    fits.append(TableFit(others, CLASSES, ordered=(True,) * 3, config=config, seed=0))
    assert len(fits[0].held_out) == 150 and torch.equal(fits[0].held_out, fits[1].held_out)
    for each in fits:
        for _ in range(20):
            each.step()
    mixtures = [
        {name: tensor for name, tensor in each.energy.state_dict().items() if not name.startswith("residual")}
        for each in fits
    ]
    learned = [
        {name: t for name, t in each.state().tensors.items() if name.startswith(("parameters", "average", "completed"))}
        for each in fits
    ]
    for one, other in (mixtures, learned):
        assert len(one) >= 4 and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    scores = [next(m.log_score for m in each.run() if m.log_score is not None) for each in fits]
    assert scores[0] != scores[1]  # they are looked at, though


# The moving average.


def test_the_network_that_is_scored_averages_the_last_part_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of 1, 1/2, 1/3 ... of each new network, down to 50 over the number of iterations."""
    monkeypatch.setattr(table_fit, "AVERAGED", 10)
    fit = TableFit(rows_of(energy(), 700), CLASSES, ordered=(False,) * 3, config=SMALL, seed=0)
    assert fit.num_iterations > 100
    expected = None
    for number in range(30):
        fit.step()
        tensors = fit.state().tensors
        now = tensors["parameters.residual.readout"].double()
        weight = max(1 / (number + 1), 10 / fit.num_iterations)
        expected = now if expected is None else expected + weight * (now - expected)
        assert (tensors["average.module.residual.readout"] - expected).abs().max() < 1e-6
    assert (now - expected).abs().max() > 1e-4


# Interrupted fits.

HARD = SMALL.model_copy(update={"width": 8, "num_visits": 4, "num_looks": 6, "patience": 1})
OBJECTIVES = pytest.mark.parametrize("objective", [PseudoLikelihood(), MaximumLikelihood()], ids=lambda each: each.name)


def incomplete_rows(num: int = 1500) -> Tensor:
    return rows_of(energy(), num).masked_fill(torch.rand(num, 3, generator=generator(5)) < 0.3, -1)


def plain_of(state: Checkpoint) -> dict[str, Any]:
    """All but the seconds."""
    plain = json.loads(json.dumps(state.plain))
    plain.pop("fit_seconds")
    plain.get("loop", {}).pop("seconds", None)
    return plain  # type: ignore[no-any-return]


def easily_alarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients that are usual are taken for a divergence now and then, so that fits roll back."""
    monkeypatch.setattr("jointebm.training.divergence.SETTLED", 5)
    monkeypatch.setattr("jointebm.training.divergence.MAX_GRADIENT_GROWTH", 1.5)
    monkeypatch.setattr(table_fit, "SNAPSHOT_EVERY", 3)
    monkeypatch.setattr(table_fit, "MAX_ROLLBACKS", 1000)


@OBJECTIVES
@pytest.mark.parametrize("rolls_back", [False, True])
def test_a_fit_interrupted_after_any_step_comes_to_the_same_end(
    objective: Any, rolls_back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rolls_back:
        easily_alarmed(monkeypatch)
    config = HARD.model_copy(update={"objective": objective})

    def fresh() -> TableFit:
        return TableFit(incomplete_rows(), CLASSES, ordered=(True, False, True), config=config, seed=3)

    straight, states = fresh(), []
    told: list[Intervention] = []
    straight.on_intervention = told.append
    for _ in straight.run():
        state = straight.state()
        states.append(state._replace(tensors={name: t.clone() for name, t in state.tensors.items()}))
    assert any(each.action == "rolled back" for each in told) == rolls_back
    stages = {state.plain["stage"] for state in states}
    assert stages == ({0, 1, 2} if objective.needs_chains else {0, 1})
    changes = [i for i in range(1, len(states)) if states[i].plain["stage"] != states[i - 1].plain["stage"]]
    for index in sorted({0, len(states) // 3, len(states) - 2, *changes}):
        checkpoint.write(tmp_path / "checkpoints", states[index], keep=1)
        loaded = checkpoint.newest(tmp_path / "checkpoints").checkpoint
        assert loaded is not None
        resumed = fresh()
        resumed.restore(loaded)
        torch.rand(3)  # the global generator decides nothing
        assert resumed.iteration == states[index].iteration
        assert len(list(resumed.run())) == len(states) - index - 1
        end = resumed.state()
        assert end.tensors.keys() == states[-1].tensors.keys() and plain_of(end) == plain_of(states[-1])
        assert all(torch.equal(tensor, states[-1].tensors[name]) for name, tensor in end.tensors.items())
        for (name, one), other in zip(
            resumed.energy.state_dict().items(), straight.energy.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), name


@OBJECTIVES
def test_a_fit_called_again_with_its_folder_resumes_and_leaves_the_same_files(
    objective: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointebm.tables.training.fit_record.CHECKPOINT_EVERY", 7)
    codes, config = incomplete_rows(), HARD.model_copy(update={"objective": objective})
    straight = fitted(codes, config, run=tmp_path / "straight")
    plain = fitted(codes, config)

    def lines(folder: str) -> list[dict[str, Any]]:
        text = (tmp_path / folder / "metrics.jsonl").read_text()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text.splitlines()]

    for stop in (1, 3):
        looks = iter(range(stop))

        def stops(_: Progress, looks: Any = looks, stop: int = stop) -> None:
            if next(looks) == stop - 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fitted(codes, config, run=tmp_path / f"{stop}", on_progress=stops)
        resumed = fitted(codes, config, run=tmp_path / f"{stop}")
        for name, tensor in straight.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[name]) and torch.equal(tensor, plain.state_dict()[name])
        assert lines(f"{stop}") == lines("straight")
    assert {"iteration", "objective", "loss", "grad_norm", "learning_rate", "log_score"} == set(lines("straight")[0])


def test_checkpoints_of_another_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jointebm.tables.training.fit_record.CHECKPOINT_EVERY", 7)
    codes = incomplete_rows()
    fitted(codes, HARD, run=tmp_path / "run")
    changed = codes.clone()
    changed[0, 0] = 1 - changed[0, 0].clamp(min=0)
    with pytest.raises(ValueError, match="is of a fit with other rows; put that back, or fit into another folder"):
        fitted(changed, HARD, run=tmp_path / "run")
    with pytest.raises(ValueError, match="another seed"):
        fitted(codes, HARD, run=tmp_path / "run", seed=1)
    with pytest.raises(ValueError, match="another config"):
        fitted(codes, HARD.model_copy(update={"learning_rate": 0.1}), run=tmp_path / "run")


# Divergence.


def test_a_divergence_rolls_back_at_half_the_learning_rate_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, calls = PseudoLikelihood.loss, iter(range(10**6))

    def breaks_once(self: PseudoLikelihood, density: Any, samples: Any) -> Phases:
        phases = loss(self, density, samples)
        return phases._replace(loss=phases.loss * torch.nan) if next(calls) == 12 else phases

    monkeypatch.setattr(table_fit, "SNAPSHOT_EVERY", 5)
    monkeypatch.setattr("jointebm.tables.training.fit_record.LOG_EVERY", 1)
    whole = fitted(rows_of(energy(), 500), run=tmp_path / "whole")
    monkeypatch.setattr(PseudoLikelihood, "loss", breaks_once)
    made = fitted(rows_of(energy(), 500), run=tmp_path / "run")
    assert made(ALL).isfinite().all() and not torch.equal(made(ALL), whole(ALL))
    lines, others = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("run", "whole")
    )
    assert (lines[12]["event"], lines[12]["back_to"], lines[12]["kind"]) == ("rolled back", 5, "loss")
    assert lines[13]["iteration"] == 6 and lines[13]["learning_rate"] == others[5]["learning_rate"] / 2


def test_numbers_that_stay_not_finite_end_the_fit() -> None:
    with pytest.raises(Diverged, match=r"5 rollbacks.*did not help.*smaller learning_rate"):
        fitted(rows_of(energy(), 500), SMALL.model_copy(update={"learning_rate": 1e30, "warmup_share": 0.0}))
