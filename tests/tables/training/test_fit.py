"""The fit: it finds what made the rows, is never worse than its base, and gives the same bits again."""

import pytest
import torch
from torch import Tensor

from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.training.config import Progress, TableConfig
from jointebm.tables.training.fit import fit_energy
from jointebm.training.divergence import Diverged
from support.tiny_tables import ALL, CLASSES, energy, enumerated, generator

SMALL = TableConfig(width=32, batch_size=128, num_visits=40, precision="float32")


def fitted(codes: Tensor, config: TableConfig = SMALL, *, seed: int = 0, **others: object) -> TableEnergy:
    return fit_energy(codes, CLASSES, ordered=(False,) * 3, config=config, seed=seed, **others)  # type: ignore[arg-type]


def rows_of(made: TableEnergy, num: int) -> Tensor:
    return ALL[torch.multinomial(enumerated(made).exp(), num, replacement=True, generator=generator(11))]


def divergence(truth: TableEnergy, model: TableEnergy) -> float:
    """Kullback-Leibler divergence of the model from the truth, by enumeration, nats."""
    log_p, log_q = (enumerated(made).double().log_softmax(dim=0) for made in (truth, model))
    return float((log_p.exp() * (log_p - log_q)).sum())


@pytest.mark.parametrize(
    ("share_missing", "changes"),
    [
        (0.0, {"objective": "pseudo-likelihood"}),
        (0.3, {"objective": "pseudo-likelihood"}),
        (0.0, {"objective": "pseudo-likelihood", "num_candidates": 2}),
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


def test_chains_that_go_astray_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that always push the parameters one way or the other: the warm start stands, unless any loss is allowed."""
    codes = rows_of(energy(), 2000)

    def pushed(sign: int) -> Tensor:
        def loss(model: TableEnergy, *_: Tensor) -> Tensor:
            return sign * sum(each.sum() for each in model.residual.parameters())  # type: ignore[return-value]

        monkeypatch.setattr("jointebm.tables.training.trainer.contrastive", loss)
        return enumerated(fitted(codes, SMALL.model_copy(update={"chain_rate": 10.0})))

    assert torch.equal(pushed(1), pushed(-1))
    monkeypatch.setattr("jointebm.tables.training.fit.MAX_LOSS", 1e9)
    assert not torch.equal(pushed(1), pushed(-1))


@pytest.mark.parametrize("has_holes", [False, True])
def test_patience_ends_a_warm_start_unless_most_rows_have_holes(
    has_holes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look is worse than the one before."""
    scores = iter(range(0, -1000, -1))
    monkeypatch.setattr("jointebm.tables.training.trainer.Validation.score", lambda *_: float(next(scores)))
    codes = rows_of(energy(), 1500)
    codes[:, 0] = codes[:, 0].masked_fill(torch.tensor(has_holes), -1)
    looks: list[Progress] = []
    made = fitted(codes, SMALL.model_copy(update={"num_visits": 8}), on_progress=looks.append)
    warm = [look for look in looks if look.fraction < SMALL.warm_start]
    assert len(warm) == SMALL.patience or (has_holes and len(warm) > 2 * SMALL.patience)
    assert looks[-1].fraction == 1  # chains follow
    assert torch.equal(made(ALL), made.base(ALL))  # and are given up with all else


def test_columns_of_one_class_and_columns_never_seen_are_legal() -> None:
    rows = torch.cat([rows_of(energy(), 300), torch.zeros(300, 1, dtype=torch.int64), torch.full((300, 1), -1)], dim=1)
    made = fit_energy(rows, (*CLASSES, 1, 5), ordered=(False,) * 5, config=SMALL, seed=0)
    everything = torch.cat([ALL, torch.zeros(24, 1, dtype=torch.int64), torch.full((24, 1), 3)], dim=1)
    assert made(everything).isfinite().all()
    only_constant = fit_energy(rows[:, 3:4], (1,), ordered=(False,), config=SMALL, seed=0)
    assert only_constant(torch.zeros(2, 1, dtype=torch.int64)).tolist() == [0, 0]


def test_progress_is_told_with_rising_fractions() -> None:
    looks: list[Progress] = []
    fitted(rows_of(energy(), 500), on_progress=looks.append)
    assert [look.fraction for look in looks] == sorted(look.fraction for look in looks)
    assert all(look.log_score < 0 and look.seconds > 0 for look in looks)


def test_numbers_that_are_not_finite_stop_the_fit() -> None:
    with pytest.raises(Diverged, match=r"loss: .* of fitting a table.*smaller learning_rate"):
        fitted(rows_of(energy(), 500), SMALL.model_copy(update={"learning_rate": 1e30, "warmup": 0.0}))
