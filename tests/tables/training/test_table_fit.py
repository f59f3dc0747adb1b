"""The fit: it finds what made the rows, is never worse than its reference, resumes bit for bit, and recovers."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm.storage import checkpoint
from jointebm.storage.checkpoint import Checkpoint
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.training import table_schedule
from jointebm.tables.training.table_config import Progress, TableConfig
from jointebm.tables.training.table_fit import TableFit
from jointebm.tables.training.table_numbers import TableMetrics
from jointebm.tables.training.validation import HeldOut, Validation
from jointebm.training.divergence import Diverged, Intervention
from jointebm.training.objectives import MaximumLikelihood, Phases, PseudoLikelihood
from support.tiny_tables import ALL, CLASSES, energy, enumerated, generator

OWN_BINS = tuple(tuple(range(count)) for count in CLASSES)
SMALL = TableConfig(width=32, batch_size=128, num_visits=40, precision="float32")


def fitted(codes: Tensor, config: TableConfig = SMALL, *, seed: int = 0, **others: object) -> TableEnergy:
    return TableModel.fit(codes, CLASSES, config=config, seed=seed, **others).energy  # type: ignore[arg-type]


def rows_of(made: TableEnergy, num: int) -> Tensor:
    return ALL[torch.multinomial(enumerated(made).exp(), num, replacement=True, generator=generator(11))]


def divergence(truth: TableEnergy, model: TableEnergy) -> float:
    """Kullback-Leibler divergence of the model from the truth, by enumeration, nats."""
    log_p, log_q = (enumerated(made).double().log_softmax(dim=0) for made in (truth, model))
    return float((log_p.exp() * (log_p - log_q)).sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share_missing", "changes", "uses_chains"),
    [
        (0.0, {"objective": PseudoLikelihood()}, False),  # it has no negative phase
        (0.3, {"objective": PseudoLikelihood()}, False),
        (0.0, {"objective": PseudoLikelihood(num_candidates=2)}, False),
        *[
            (share_missing, changes, uses_chains)
            for share_missing, changes in ((0.3, {}), (0.0, {}), (0.0, {"pseudo_weight": 0.0}))
            for uses_chains in (False, True)
        ],
    ],
)
def test_it_learns_what_made_the_rows(
    share_missing: float, changes: dict[str, object], uses_chains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 rows of 24 states. The best fit is off by about 23 / 4,000 = .006 nats, and an independent reference by .2."""
    if uses_chains:
        monkeypatch.setattr("jointebm.tables.training.table_problem.ENOUGH_SHARE", 2.0)
    truth = energy()
    rows = rows_of(truth, 2000)
    codes = rows.masked_fill(torch.rand(2000, 3, generator=generator(7)) < share_missing, -1)
    config = SMALL.model_copy(update={"max_components": 1, **changes})
    assert divergence(truth, fitted(codes, config.model_copy(update={"num_visits": 0}))) > 0.1
    model = TableModel.fit(codes, CLASSES, config=config, seed=0)
    assert divergence(truth, model.energy) < 0.02
    assert model.report is not None and model.report.log_normalizer_error is not None
    log_normalizer = float(enumerated(model.energy).double().logsumexp(dim=0))
    assert abs(model.log_normalizer - log_normalizer) < 4 * model.report.log_normalizer_error


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    codes = rows_of(energy(), 500)
    first, again, other = (fitted(codes, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_pure_noise_is_left_to_the_reference() -> None:
    """Independent columns: held-out rows veto what the network finds in the noise."""
    codes = torch.stack([torch.randint(count, (400,), generator=generator(count)) for count in CLASSES], dim=1)
    looks: list[Progress] = []
    config = SMALL.model_copy(update={"learning_rate": 0.02, "num_visits": 200, "max_components": 1})
    made = fitted(codes, config, on_progress=looks.append)
    assert len(looks) < SMALL.num_looks  # patience ran out
    assert enumerated(made).log_softmax(dim=0).exp().max() < 0.1  # of 1/24 each


@pytest.mark.parametrize("num_rows", [1, 3, 40])
def test_too_few_rows_to_hold_any_out_give_the_reference_alone(num_rows: int) -> None:
    made = fitted(ALL[:num_rows])
    assert torch.equal(enumerated(made), made.reference(ALL))


def test_a_network_that_held_out_rows_do_not_like_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look is the best and worse than the reference: patience runs out, and the reference stands."""
    first = HeldOut(
        of_model=-3.0,
        of_reference=-2.0,
        gain_error=0.1,
        normalizer_error=0.1,
        of_model_error=0.1,
        of_reference_error=0.1,
    )
    looks: list[Progress] = []
    worse = first._replace(of_model=-4.0)
    found = lambda *_: worse if looks else first  # noqa: E731
    monkeypatch.setattr("jointebm.tables.training.table_fit.Validation.log_likelihood", found)
    made = fitted(rows_of(energy(), 1500), on_progress=looks.append)
    assert len(looks) == 1 + SMALL.patience
    assert torch.equal(enumerated(made), made.reference(ALL))
    assert sum(part.numel() for part in made.residual.parameters()) < 2 * sum(CLASSES)  # answers evaluate no wide one


@pytest.mark.parametrize(
    ("gains", "errors", "kept"),
    [
        ((1.0, 1.5, 1.3, 9.0), (0.01, 0.3, 0.01, math.inf), [1, 3]),  # .5 may be an error of log Z; the last is unknown
        ((1.0, 1.5, 0.5, 0.4), (0.01, 0.3, 0.01, 0.01), [1]),
        (
            (1.0, 1.5, 1.495, 1.4),
            (0.01, 0.01, 0.01, 0.01),
            [1, 2, 3],
        ),  # the third is as good but for the error of log Z
        ((1.0, 1.5, 1.3, 9.0), (0.01, 0.3, 0.01, 0.01), [1, 3, 4]),
    ],
)
def test_a_network_whose_log_z_is_hardly_known_is_not_kept_for_luck(
    gains: tuple[float, ...], errors: tuple[float, ...], kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks at which the network is kept."""
    looks = iter(zip(gains, errors, strict=True))

    def scripted(*_: object) -> HeldOut:
        gain, error = next(looks)
        return HeldOut(gain - 2, -2.0, error, error, error, 0.1)

    config = SMALL.model_copy(update={"num_looks": 4, "max_iterations": 40})
    fit = TableFit(rows_of(energy(), 1500), CLASSES, bins=(None,) * 3, config=config, seed=0)
    monkeypatch.setattr("jointebm.tables.training.table_fit.Validation.log_likelihood", scripted)
    networks = [fit.best.readout.clone()]
    for metrics in fit.run():
        if metrics.log_likelihood is not None:
            networks.append(fit.best.readout.clone())
    assert len(networks) == 5
    assert [look for look, (old, new) in enumerate(pairwise(networks), start=1) if not torch.equal(old, new)] == kept


def test_a_fit_that_is_the_reference_knows_that_log_z_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proposal of the training would weigh exact draws of q unevenly: log Z, and so all scores, would have an error."""
    config = SMALL.model_copy(update={"max_iterations": 20})
    fit = TableFit(rows_of(energy(), 1500), CLASSES, bins=(None,) * 3, config=config, seed=0)
    assert fit.network is not None and len(list(fit.run())) == 20
    scored = Validation.log_likelihood
    monkeypatch.setattr(Validation, "log_likelihood", lambda *args: scored(*args)._replace(gain_error=-1e9))
    report = fit.finish()  # the network is given up, whatever its gain
    assert report.log_normalizer == report.log_normalizer_error == report.log_normalizer_upper == 0
    assert report.gain == 0 and report.ess == pytest.approx(2048)
    assert any("F is the reference" in line for line in report.lines())


def test_the_reference_has_as_many_components_as_held_out_rows_ask_for() -> None:
    """Two groups of rows, one of them rare: random starts miss it."""
    rare = torch.rand(4000, generator=generator()) < 0.02
    codes = torch.where(rare[:, None], torch.tensor([1, 2, 3]), torch.tensor([0, 0, 0]))
    config = SMALL.model_copy(update={"num_visits": 0})
    fit = TableFit(codes, CLASSES, bins=(None,) * 3, config=config, seed=0)
    assert len(fit.held_out) == 0 and len(fit.energy.reference.log_weights) == 40  # nothing to choose by
    fit = TableFit(codes, CLASSES, bins=(None,) * 3, config=SMALL, seed=0)
    assert 2 <= len(fit.energy.reference.log_weights) <= 4
    assert fit.energy.reference(torch.tensor([[1, 2, 3]])).exp().item() == pytest.approx(0.02, abs=0.005)


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
    assert all(look.log_score < 0 and look.log_likelihood < 0 and look.seconds > 0 for look in looks)


def test_a_table_may_have_no_complete_row() -> None:
    codes = rows_of(energy(), 600)
    codes[:, 0] = -1
    model = TableModel.fit(codes, CLASSES, config=SMALL.model_copy(update={"num_visits": 1}), seed=0)
    assert model.energy(ALL).isfinite().all() and model.report is not None


# Held-out rows.


@pytest.mark.slow
def test_nothing_is_learned_from_held_out_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference, completions and network are those of a fit in which the held-out rows are others, bit for bit.

    They choose the size of the reference, and when the proposal is best, which is left out here.
    """
    monkeypatch.setattr("jointebm.tables.training.table_start.fit_proposal", lambda *_, **__: None)
    codes = rows_of(energy(), 1500)
    codes = codes.masked_fill(torch.rand(codes.shape, generator=generator(4)) < 0.2, -1)
    config = SMALL.model_copy(update={"num_looks": 1})
    fits = [TableFit(codes, CLASSES, bins=OWN_BINS, config=config, seed=0)]
    others = codes.clone()
    others[fits[0].held_out] = codes[fits[0].held_out].flip(0)  # they choose the size of the reference alone
    fits.append(TableFit(others, CLASSES, bins=OWN_BINS, config=config, seed=0))
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
    monkeypatch.setattr(table_schedule, "AVERAGED", 10)
    fit = TableFit(rows_of(energy(), 700), CLASSES, bins=(None,) * 3, config=SMALL, seed=0)
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

HARD = SMALL.model_copy(update={"width": 8, "num_visits": 4, "num_looks": 6, "patience": 3})
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
    monkeypatch.setattr(table_schedule, "SNAPSHOT_EVERY", 3)
    monkeypatch.setattr(table_schedule, "MAX_ROLLBACKS", 1000)


@pytest.mark.slow
@OBJECTIVES
@pytest.mark.parametrize("rolls_back", [False, True])
def test_a_fit_interrupted_after_any_step_comes_to_the_same_end(
    objective: Any, rolls_back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rolls_back:
        easily_alarmed(monkeypatch)
    monkeypatch.setattr("jointebm.tables.training.table_problem.ENOUGH_SHARE", 0.97)  # draws at first, then chains
    config = HARD.model_copy(update={"objective": objective})

    def fresh() -> TableFit:
        return TableFit(incomplete_rows(), CLASSES, bins=(OWN_BINS[0], None, OWN_BINS[2]), config=config, seed=3)

    straight, states = fresh(), []
    told: list[Intervention] = []
    straight.on_intervention = told.append
    for _ in straight.run():
        state = straight.state()
        states.append(state._replace(tensors={name: t.clone() for name, t in state.tensors.items()}))
    assert any(each.action == "rolled back" for each in told) == rolls_back
    report = straight.finish()
    for index in sorted({0, len(states) // 3, len(states) - 2, len(states) - 1}):
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
        for name, tensor in end.tensors.items():
            assert torch.equal(tensor, states[-1].tensors[name]), name
        assert resumed.finish() == report
        for (name, one), other in zip(
            resumed.energy.state_dict().items(), straight.energy.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), name


@pytest.mark.slow
@OBJECTIVES
def test_a_fit_called_again_with_its_folder_resumes_and_leaves_the_same_files(
    objective: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointebm.tables.training.fit_record.CHECKPOINT_EVERY", 7)
    monkeypatch.setattr("jointebm.tables.training.table_problem.ENOUGH_SHARE", 2.0)  # chains from the start
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
    assert set(lines("straight")[0]) == set(TableMetrics._fields) - {"seconds"}
    sources = {line["negatives"] for line in lines("straight")}
    assert sources == ({"chains"} if objective.needs_chains else {None})


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

    monkeypatch.setattr(table_schedule, "SNAPSHOT_EVERY", 5)
    monkeypatch.setattr("jointebm.tables.training.fit_record.LOG_EVERY", 1)
    fitted(rows_of(energy(), 500), run=tmp_path / "whole")
    monkeypatch.setattr(PseudoLikelihood, "loss", breaks_once)
    made = fitted(rows_of(energy(), 500), run=tmp_path / "run")
    assert made(ALL).isfinite().all()
    lines, others = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("run", "whole")
    )
    assert (lines[12]["event"], lines[12]["back_to"], lines[12]["kind"]) == ("rolled back", 5, "loss")
    assert lines[13]["iteration"] == 6 and lines[13]["learning_rate"] == others[5]["learning_rate"] / 2
    assert lines[-1]["loss"] != others[-1]["loss"]


def test_numbers_that_stay_not_finite_end_the_fit() -> None:
    with pytest.raises(Diverged, match=r"5 rollbacks.*did not help.*smaller learning_rate"):
        fitted(rows_of(energy(), 500), SMALL.model_copy(update={"learning_rate": 1e30, "warmup_share": 0.0}))


def test_the_network_is_trained_over_the_marginals_of_the_training_rows() -> None:
    codes = rows_of(energy(num_components=8, seed=3), 1000)
    fit = TableFit(codes, CLASSES, bins=(None,) * 3, config=SMALL, seed=0)
    kept = torch.ones(1000, dtype=torch.bool)
    kept[fit.held_out] = False
    for column, count in enumerate(CLASSES):
        counts = torch.bincount(codes[kept, column], minlength=count) + 0.5
        assert torch.allclose(fit.base.of_column(column)[:, 0].exp(), counts / counts.sum())
