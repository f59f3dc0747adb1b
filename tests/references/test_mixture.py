"""The mixture as a reference of a space: exact conditionals, evidence, scores, fits, and a round trip through a file."""

import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load, save
from scipy import stats
from sklearn.mixture import GaussianMixture

from jointebm.randomness.row_streams import RowStream
from jointebm.references import Mixture, Reference, ReferenceSpec, choose_mixture
from jointebm.references.layout import Layout, MixedRows
from jointebm.references.reference_specs import spec_of
from jointebm.spaces import Binary, Categorical, Continuous, Space
from references.small_spaces import NODES, SPACE, STEP, all_codes, generator, grid, outcomes, random_mixture

MIXTURE = random_mixture()
LAYOUT = Layout(SPACE)
EVIDENCE = {
    "bit": torch.tensor([0.3, -0.2], dtype=torch.float64),
    "group": torch.tensor([0.0, 0.0, -torch.inf, 0.5, 1.0], dtype=torch.float64),
    "b": torch.tensor([[-0.5], [1.0]], dtype=torch.float64),
}


def position(codes: list[int], a: float, b: float, num: int = 1) -> dict[str, torch.Tensor]:
    reals = torch.tensor([[a, b]], dtype=torch.float64).expand(num, -1)
    return LAYOUT.position(MixedRows(torch.tensor([codes]).expand(num, -1), reals))


def of_evidence(rows: MixedRows) -> torch.Tensor:
    """Factor of all three pieces of evidence, shape (N,)."""
    b = rows.reals[:, 1]
    weights = EVIDENCE["bit"][rows.codes[:, 0]] + EVIDENCE["group"][2:][rows.codes[:, 2]]
    return weights.double().exp() * ((b > -0.5) & (b < 1.0))


def test_the_log_density_is_that_of_loops_over_values() -> None:
    values = {
        "bit": [1, 0, -1],
        "group": [[1, 2], [-1, 0], [-1, -1]],
        "a": [0.5, math.nan, 2.0],
        "b": [[1.0], [3.0], [-1.0]],
    }
    found = MIXTURE.log_prob(SPACE.encode(values, dtype=torch.float64)[0])
    for row in range(3):
        total, p = 0.0, MIXTURE.products
        for m in range(3):
            product = math.exp(p.log_weights[m])
            codes = [values["bit"][row], *values["group"][row]]
            for first, code in zip((0, 2, 4), codes, strict=True):
                product *= math.exp(p.log_probs[first + code, m]) if code >= 0 else 1
            for d, x in enumerate((values["a"][row], values["b"][row][0])):
                product *= 1 if math.isnan(x) else stats.norm.pdf(x, p.means[d, m], math.exp(p.log_sds[d, m]))
            total += product
        assert found[row].item() == pytest.approx(math.log(total), abs=1e-12)


@pytest.mark.parametrize("evidence", [None, EVIDENCE])
@pytest.mark.parametrize("free", [("bit",), ("group", "b"), ("a", "b"), ("bit", "a", "group", "b"), ()])
def test_conditionals_sum_to_one_over_what_is_free(
    free: tuple[str, ...], evidence: dict[str, torch.Tensor] | None
) -> None:
    rows, _ = grid()
    rows = MixedRows(rows.codes, rows.reals.clone())
    known = MixedRows(torch.tensor([1, 0, 2]), torch.tensor([0.5, -0.3], dtype=torch.float64))
    columns = {"bit": [0], "group": [1, 2]}, {"a": [0], "b": [1]}
    kept = torch.ones(len(rows.codes), dtype=torch.bool)
    for name, places in columns[0].items():
        kept &= torch.tensor(name in free) | (rows.codes[:, places] == known.codes[places]).all(dim=1)
    for name, places in columns[1].items():
        if name not in free:
            kept &= rows.reals[:, places[0]] == NODES[0]
            rows.reals[:, places] = known.reals[places]
    rows = MixedRows(rows.codes[kept], rows.reals[kept])
    masks = {name: torch.tensor(True) for name in free}
    log_probs = MIXTURE.log_conditional(LAYOUT.position(rows), masks, evidence)
    if evidence is None or "b" not in free:
        cell = STEP ** sum(name in free for name in "ab")
        assert (log_probs.exp().sum() * cell).item() == pytest.approx(1, abs=1e-10)
    else:  # b has a density that stops at its bounds: its own nodes, and those of a where that is free
        x, w = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(40))
        nodes, weights = -0.5 + 1.5 * (x + 1) / 2, 0.75 * w
        at = rows.reals[:, 1] == NODES[0]
        rows = MixedRows(rows.codes[at].repeat_interleave(40, dim=0), rows.reals[at].repeat_interleave(40, dim=0))
        rows.reals[:, 1] = nodes.repeat(len(rows.codes) // 40)
        log_probs = MIXTURE.log_conditional(LAYOUT.position(rows), masks, evidence)
        cell = STEP if "a" in free else 1.0
        total = (log_probs.exp() * weights.repeat(len(rows.codes) // 40)).sum() * cell
        assert total.item() == pytest.approx(1, abs=1e-10)
        outside = MixedRows(rows.codes[:1], torch.tensor([[0.5, 1.1]], dtype=torch.float64))
        assert MIXTURE.log_conditional(LAYOUT.position(outside), masks, evidence).item() == -math.inf


def test_draws_given_evidence_have_the_exact_conditional() -> None:
    """All outcomes of the choices against sums over classes and Gauss-Legendre in the interval."""
    known = position([-1, 1, -1], 0.5, math.nan)
    x, w = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(60))
    nodes, weights = -0.5 + 1.5 * (x + 1) / 2, 0.75 * w
    codes = all_codes(SPACE)
    rows = MixedRows(
        codes.repeat_interleave(60, dim=0), torch.stack([torch.full((720,), 0.5).double(), nodes.repeat(12)], dim=1)
    )
    density = MIXTURE.log_prob(LAYOUT.position(rows)).exp() * of_evidence(rows) * (rows.codes[:, 1] == 1)
    expected = (density * weights.repeat(12)).view(12, 60).sum(dim=1)
    expected = expected / expected.sum()
    probs = torch.zeros(12, dtype=torch.float64)
    for prob, drawn in outcomes(lambda stream: MIXTURE.complete(known, stream, EVIDENCE), 1):
        probs += prob * (codes == LAYOUT.rows(drawn).codes).all(dim=1)
        assert -0.5 <= drawn["b"].item() <= 1.0
        assert drawn["a"].item() == 0.5
    assert (probs - expected).abs().max() < 1e-10


def test_draws_of_reals_given_evidence_follow_their_distribution_function() -> None:
    """30,000 draws by Kolmogorov and Smirnov: p-value of a right sampler below 1e-6 once in a million seeds; fixed seed."""
    num = 30_000
    known = position([1, -1, -1], math.nan, math.nan, num)
    drawn = MIXTURE.complete(known, RowStream(torch.arange(num), seed=0), EVIDENCE)
    x = torch.linspace(-0.5, 1.0, 4001, dtype=torch.float64)
    codes = torch.tensor([[1, first, second] for first in range(2) for second in range(3)])
    rows = MixedRows(
        codes.repeat(4001, 1), torch.stack([torch.full((24006,), torch.nan), x.repeat_interleave(6)], dim=1)
    )
    density = (MIXTURE.log_prob(LAYOUT.position(rows)).exp() * of_evidence(rows)).view(4001, 6)
    density[0], density[-1] = density[1], density[-2]  # the bounds themselves count as outside in `of_evidence`
    total = density.sum(dim=1)
    cumulative = torch.cat([torch.zeros(1).double(), (total[1:] + total[:-1]).cumsum(dim=0)])
    cumulative = cumulative / cumulative[-1]
    cdf = lambda b: np.interp(b, x.numpy(), cumulative.numpy())  # noqa: E731
    assert stats.kstest(drawn["b"][:, 0].numpy(), cdf).pvalue > 1e-6
    shares = torch.stack([(LAYOUT.rows(drawn).codes == code).all(dim=1).double().mean() for code in codes])
    expected = density.sum(dim=0) / density.sum()
    assert ((shares - expected).abs() <= 5.5 * (expected * (1 - expected) / num).sqrt() + 2e-4).all()
    assert bool((shares[[2, 5]] > 0).all()) and bool((drawn["group"][:, 2:3] >= 0).all())


def test_evidence_of_each_row_is_its_own() -> None:
    """Evidence repeated per row gives the bits of shared evidence up to rounding of the weights, and rows keep their own."""
    num = 200
    known = position([-1, -1, -1], math.nan, math.nan, num)
    shared = MIXTURE.complete(known, RowStream(torch.arange(num), seed=0), EVIDENCE)
    repeated = {name: each.expand(num, *each.shape) for name, each in EVIDENCE.items()}
    per_row = MIXTURE.complete(known, RowStream(torch.arange(num), seed=0), repeated)
    for name in SPACE:
        assert (shared[name] - per_row[name]).abs().max() < 1e-12
    masks = {name: torch.tensor(True) for name in SPACE}
    first, second = (MIXTURE.log_conditional(shared, masks, each) for each in (EVIDENCE, repeated))
    assert (first - second).abs().max() < 1e-12
    allowed = torch.arange(num) % 2
    forbidding = torch.zeros(num, 2).index_put_((torch.arange(num), 1 - allowed), torch.tensor(-torch.inf))
    drawn = MIXTURE.complete(known, generator(), {"bit": forbidding, "a": torch.tensor([3.0, 3.5])})
    assert torch.equal(drawn["bit"], allowed.double())
    assert bool(((drawn["a"] >= 3) & (drawn["a"] <= 3.5)).all())


def test_evidence_about_observed_entries_changes_nothing() -> None:
    known = position([1, 0, 2], 0.5, 7.0)
    drawn = MIXTURE.complete(known, generator(), EVIDENCE | {"group": torch.tensor([0.0, 0.0, 0.0, 0.0, -torch.inf])})
    assert all(torch.equal(drawn[name], known[name]) for name in SPACE)
    assert MIXTURE.log_conditional(known, {}, EVIDENCE).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_observed_entries_keep_their_bits(dtype: torch.dtype) -> None:
    """Of either type; the mixture computes in single precision."""
    num, mixture = 500, random_mixture().float()
    whole = {name: part.to(dtype) for name, part in MIXTURE.draw(num, generator()).items()}
    observed = {name: torch.rand(num, *SPACE[name].variable_shape, generator=generator(1)) < 0.5 for name in SPACE}
    known = {name: part.masked_fill(~SPACE[name].expand(observed[name]), torch.nan) for name, part in whole.items()}
    drawn = mixture.complete(known, generator(2))
    for name, part in drawn.items():
        assert part.dtype == dtype
        assert torch.equal(torch.where(known[name].isnan(), torch.nan, part).nan_to_num(99), known[name].nan_to_num(99))
        assert not bool(part.isnan().any())


def test_the_score_is_the_slope_and_the_one_hot_score_is_linear_in_each_component() -> None:
    at = {name: part.clone().requires_grad_() for name, part in position([1, 0, 2], 0.5, -1.0).items()}
    slopes = dict(zip(at, torch.autograd.grad(MIXTURE.log_prob(at).sum(), list(at.values())), strict=True))
    for name in ("a", "b"):
        values = [MIXTURE.log_prob(at | {name: at[name] + step}).item() for step in (1e-5, -1e-5)]
        assert slopes[name].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-7)
    single = random_mixture(num_components=1)
    slopes = dict(zip(at, torch.autograd.grad(single.log_prob(at).sum(), list(at.values())), strict=True))
    for codes in all_codes(SPACE).tolist():
        other = position(codes, 0.5, -1.0)
        change = sum((slopes[name] * (other[name] - at[name])).sum() for name in ("bit", "group"))
        assert change.item() == pytest.approx((single.log_prob(other) - single.log_prob(at)).item(), abs=1e-12)


def test_missing_entries_have_score_zero() -> None:
    at = {name: part.clone().requires_grad_() for name, part in position([1, -1, 2], math.nan, -1.0).items()}
    slopes = torch.autograd.grad(MIXTURE.log_prob(at).sum(), list(at.values()))
    assert all(bool(slope.isfinite().all()) for slope in slopes)
    assert slopes[list(at).index("a")].item() == 0


@pytest.mark.parametrize(
    "space", [Space(x=Continuous((2, 2))), Space(b=Binary((2, 3))), Space(c=Categorical(4)), SPACE]
)
def test_a_fit_survives_a_round_trip_through_a_file(space: Space) -> None:
    whole = random_mixture(space).draw(200, generator())
    whole = {name: part.float() for name, part in whole.items()}
    fitted: Reference = Mixture.fit(space, whole, 3, generator=generator())
    stored, weights = spec_of(fitted).model_dump_json(), save(fitted.state_dict())
    rebuilt = TypeAdapter(ReferenceSpec).validate_json(stored).build(space)
    rebuilt.load_state_dict(load(weights))
    assert torch.equal(rebuilt.log_prob(whole), fitted.log_prob(whole))
    first, second = (each.draw(50, generator(3)) for each in (fitted, rebuilt))
    assert all(torch.equal(first[name], second[name]) for name in space)
    assert not bool(fitted.log_prob(first).isnan().any())


def test_weights_of_groups_that_lie_far_apart_are_found() -> None:
    """.7, .2 and .1 of 3,000 rows, 12 deviations apart, a third of the entries missing: as drawn, for five seeds."""
    group = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 3000, replacement=True, generator=generator())
    centres = torch.tensor([[0.0, 0.0], [12.0, 0.0], [6.0, 10.4]])
    point = centres[group] + torch.randn(3000, 2, generator=generator())
    space = Space(point=Continuous(2), label=Categorical(3))
    values = {"point": point, "label": group.masked_fill(torch.rand(3000, generator=generator(1)) < 0.3, -1)}
    for seed in range(5):
        fitted = Mixture.fit(space, space.encode(values)[0], 3, generator=generator(seed), prior_strength=0.1)
        found, order = fitted.products.log_weights.exp().sort(descending=True)
        assert (found - torch.bincount(group) / 3000).abs().max() < 0.001
        sds = torch.stack([point[group == k].std(dim=0) for k in range(3)], dim=1)
        assert (fitted.products.log_sds.exp()[:, order] - sds).abs().max() < 0.01


def test_the_number_of_components_is_chosen_on_held_out_rows() -> None:
    values = torch.randn(900, generator=generator()) + 9 * (torch.arange(900) % 3)
    space, parts = Space(point=Continuous()), values.split([600, 300])
    chosen = choose_mixture(
        space, {"point": parts[0]}, {"point": parts[1]}, generator=generator(), candidates=[8, 1, 3, 4, 6, 2]
    )
    assert chosen.mixture.num_components in (3, 4)
    assert chosen.scores[chosen.mixture.num_components] == max(chosen.scores.values())
    assert list(chosen.scores) == sorted(chosen.scores)


def test_what_does_not_fit_is_named() -> None:
    known, one = position([1, 0, 2], 0.5, 1.0), Space(a=Continuous())
    wrong = [
        (lambda: MIXTURE.log_prob({"a": known["a"]}), "position lacks block 'bit'"),
        (
            lambda: MIXTURE.log_prob(known | {"b": known["a"]}),
            r"block 'b' \(Continuous\): got positions of shape \(1,\)",
        ),
        (lambda: MIXTURE.complete(known, generator(), {"z": known["a"]}), "no block 'z'"),
        (
            lambda: MIXTURE.complete(known, generator(), {"bit": torch.zeros(3)}),
            r"evidence of shape \(3,\), expected \(2,\)",
        ),
        (lambda: MIXTURE.complete(known, generator(), {"bit": torch.tensor([0, torch.nan])}), "evidence holds NaN"),
        (lambda: MIXTURE.complete(known, generator(), {"bit": torch.full((2,), -torch.inf)}), "forbids every class"),
        (lambda: MIXTURE.complete(known, generator(), {"a": torch.tensor([1.0, 1.0])}), "empty interval"),
        (lambda: MIXTURE.log_conditional(known, {"z": torch.tensor(True)}), "no block 'z'"),
        (lambda: Mixture.fit(SPACE, known, 0, generator=generator()), "num_components is a whole number >= 1, got 0"),
        (lambda: Mixture.fit(SPACE, known, 1, generator=generator(), prior_strength=0.0), "positive, got 0.0"),
        (lambda: Mixture.fit(one, {"a": torch.empty(0)}, 1, generator=generator()), "got no rows"),
        (lambda: choose_mixture(one, known, known, generator=generator(), candidates=[]), "got no candidates"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()


def test_whole_rows_have_the_log_density_of_rows_completed_one_by_one_far_from_zero() -> None:
    mixture = random_mixture()
    mixture.products.means.add_(1e4)  # squares of reals in single precision would be off by nats
    rows = torch.tensor([[1e4 + 0.5, 1e4 - 1.0], [1e4, 1e4 + 2.0]], dtype=torch.float64)
    missing = torch.cat([rows, torch.full((1, 2), torch.nan, dtype=torch.float64)])  # sums over single reals
    of_loops = mixture.products.of_reals(missing)[:2]
    assert torch.allclose(mixture.products.of_reals(rows), of_loops, rtol=0, atol=1e-6)
    single = mixture.float().products
    assert torch.allclose(single.of_reals(rows.float()).double(), of_loops, rtol=0, atol=0.02)


def test_components_of_each_class_are_fitted_to_its_rows_alone() -> None:
    space = Space(bit=Binary(), x=Continuous(), group=Categorical(3))
    groups = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    x = groups * 1.0 + 0.01 * torch.randn(
        100, generator=generator()
    )  # close together: shared components would mix them
    rows, _ = space.encode({"bit": torch.arange(100) % 2, "x": x, "group": groups})
    mixture = Mixture.fit_classes(space, rows, 6, label="group", generator=generator(1), prior_strength=0.1)
    known = {"group": torch.eye(3), "bit": torch.full((3,), torch.nan), "x": torch.full((3,), torch.nan)}
    assert torch.allclose(mixture.log_prob(known).exp(), torch.tensor([0.6, 0.3, 0.1]), atol=0.01)
    many = {name: value.repeat_interleave(200, dim=0) for name, value in known.items()}
    drawn = mixture.complete(many, generator(2))["x"].reshape(3, 200)
    asked = (drawn - torch.arange(3)[:, None]).abs() < 0.5
    assert bool((asked.double().mean(dim=1) > 0.9).all())  # the rarest class is met by other components in 6% of draws
    at_first = {"group": torch.eye(3), "bit": torch.zeros(3), "x": torch.zeros(3)}
    log_odds = mixture.log_prob(at_first)
    assert float(log_odds[0] - log_odds[2]) == pytest.approx(math.log((0.99 + 0.01 / 3) / (0.01 / 3)), abs=0.01)


def test_what_does_not_fit_a_mixture_of_classes_is_named() -> None:
    space = Space(x=Continuous(), pair=Categorical((2, 2)), group=Categorical(3))
    rows, _ = space.encode({"x": torch.zeros(4), "pair": torch.zeros(4, 2).long(), "group": [0, 0, 1, 1]})
    for label, num, words in (("pair", 4, "one variable"), ("group", 4, "multiple"), ("group", 3, "class 2 of label")):
        with pytest.raises(ValueError, match=words):
            Mixture.fit_classes(space, rows, num, label=label, generator=generator())


def test_em_of_each_class_is_that_of_scikit_learn_from_the_same_start() -> None:
    """Diagonal Gaussians of one class, from the fitted ones: with a vanishing prior both are at the same maximum."""
    space = Space(x=Continuous(2), group=Categorical(2))
    groups = torch.arange(400) % 2
    centre = torch.where(
        (torch.arange(400) // 2 % 2 == 0)[:, None], torch.tensor([3.0, 0.0]), torch.tensor([-3.0, 1.0])
    )
    x = centre + 50 * groups[:, None] + torch.randn(400, 2, generator=generator(), dtype=torch.float64)
    rows, _ = space.encode({"x": x, "group": groups}, dtype=torch.float64)
    mixture = Mixture.fit_classes(space, rows, 4, label="group", generator=generator(1), prior_strength=1e-6)
    for label in (0, 1):
        mine = slice(2 * label, 2 * label + 2)
        start = mixture.products.means[:, mine].T.numpy()
        theirs = GaussianMixture(2, covariance_type="diag", means_init=start, reg_covar=0, tol=1e-10, max_iter=1000)
        theirs.fit(x[groups == label].numpy())
        ours = mixture.log_prob({"x": x, "group": torch.eye(2, dtype=torch.float64)[groups]})[groups == label]
        log_share = math.log(0.5 * (1 - 0.01 + 0.01 / 2))
        expected = theirs.score(x[groups == label].numpy()) + log_share
        assert float(ours.mean()) == pytest.approx(expected, abs=2e-3)  # EM stops within 1e-3 nats per row
