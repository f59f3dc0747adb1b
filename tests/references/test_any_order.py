"""The masked network: conditionals of every clamped set sum to one and are those of its draws; training sharpens them."""

import itertools

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load, save

from jointebm.randomness.row_streams import RowStream
from jointebm.randomness.waiting import unread_values
from jointebm.references import AnyOrder, Mixture, Reference, ReferenceSpec
from jointebm.references.any_order import fit_masked_network, masked_loss
from jointebm.references.masked_network import MaskedNetwork
from jointebm.references.product_mixture import ProductMixture
from jointebm.references.reference_specs import spec_of
from jointebm.spaces import Binary, Categorical, Continuous, Space
from references.small_spaces import all_codes, generator, outcomes, random_mixture

SPACE = Space(bit=Binary(), group=Categorical((2, 3)))
CODES = all_codes(SPACE)
SETS = list(itertools.product([False, True], repeat=3))
EVIDENCE = [None, torch.tensor([0.0, 1.0]).double(), torch.tensor([-torch.inf, 0.0, 1.0]).double()]


def random_network(seed: int = 0, width: int = 32) -> MaskedNetwork:
    """A network that is far from its mixture."""
    network = MaskedNetwork(random_mixture(SPACE, seed=seed).products, width=width, num_layers=2).double()
    network.initialise(generator(seed))
    with torch.no_grad():
        network.readout.copy_(torch.randn(7, width, generator=generator(seed + 1)))
    return network.requires_grad_(False)


NETWORK = random_network()
REFERENCE = AnyOrder(SPACE, NETWORK)


@pytest.mark.parametrize("evidence", [None, EVIDENCE])
@pytest.mark.parametrize("free", SETS)
def test_conditionals_sum_to_one_and_are_those_of_the_draws(
    free: tuple[bool, ...], evidence: list[torch.Tensor | None] | None
) -> None:
    is_free = torch.tensor([free]).expand(len(CODES), -1)
    log_probs = NETWORK.log_conditional(CODES, is_free, evidence)
    known = CODES.masked_fill(is_free, -1)
    agree = ((known[:, None] < 0) | (known[:, None] == CODES)).all(dim=2)  # (S, S)
    assert ((agree * log_probs.exp()).sum(dim=1) - 1).abs().max() < 1e-12
    found = torch.zeros(len(CODES), len(CODES), dtype=torch.float64)
    for prob, drawn in outcomes(lambda stream: NETWORK.draw(known, stream, evidence=evidence), len(CODES)):
        found += prob[:, None] * (drawn[:, None] == CODES).all(dim=2)
    assert (found - agree * log_probs.exp()).abs().max() < 1e-12


def test_the_log_density_of_complete_rows_and_of_first_columns_is_that_of_one_joint_density() -> None:
    joint = NETWORK.log_prob(CODES)
    assert joint.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert (NETWORK.log_conditional(CODES, torch.ones_like(CODES, dtype=torch.bool)) - joint).abs().max() < 1e-12
    for num in range(3):
        known = CODES.clone()
        known[:, num:] = -1
        agree = (known[:, None, :num] == CODES[:, :num]).all(dim=2)
        assert (NETWORK.log_prob(known).exp() - agree.double() @ joint.exp()).abs().max() < 1e-12


def test_other_marginals_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 lacks column 0 and has column 1"):
        NETWORK.log_prob(torch.tensor([[0, 1, -1], [-1, 1, -1]]))


def test_conditionals_of_different_clamped_sets_need_not_agree() -> None:
    """As documented: the order given the last column first is not the joint density's own conditional."""
    joint = NETWORK.log_prob(CODES).exp()
    free = torch.tensor([[True, True, False]]).expand(len(CODES), -1)
    same_last = (CODES[:, None, 2] == CODES[None, :, 2]).double()
    assert (NETWORK.log_conditional(CODES, free).exp() - joint / (same_last @ joint)).abs().max() > 1e-3


def test_a_fresh_network_has_the_conditionals_of_its_mixture() -> None:
    mixture = random_mixture(SPACE)
    network = MaskedNetwork(mixture.products, width=32, num_layers=2).double()
    network.initialise(generator())
    reference = AnyOrder(SPACE, network)
    position = SPACE.configurations(dtype=torch.float64)
    assert (reference.log_prob(position) - mixture.log_prob(position)).abs().max() < 1e-12
    for free in (
        {"bit": torch.tensor(True)},
        {"group": torch.tensor([True, False])},
        {name: torch.tensor(True) for name in SPACE},
    ):
        found, expected = (each.log_conditional(position, free) for each in (reference, mixture))
        assert (found - expected).abs().max() < 1e-12


def test_all_conditionals_at_once_are_those_of_each_column() -> None:
    known = torch.cartesian_prod(*[torch.arange(-1, count) for count in (2, 2, 3)])
    every = NETWORK.conditionals(known)
    for column, first in enumerate((0, 2, 4)):
        missing = known[:, column] < 0
        one = NETWORK.conditional(known[missing], column)
        assert (every[missing, first : first + one.shape[1]] - one).abs().max() < 1e-12


def test_the_loss_is_the_mean_over_orders_and_prefixes() -> None:
    """Every order of the observed columns and every prefix of it: the mean loss is the mean -log q over orders."""
    codes = torch.tensor([[1, 0, 2], [0, -1, 1]])
    for row in codes:
        observed = (row >= 0).nonzero()[:, 0].tolist()
        exact, losses = [], []
        for order in itertools.permutations(observed):
            total = 0.0
            for length in range(len(order)):
                known = torch.full((1, 3), -1)
                known[0, list(order[:length])] = row[list(order[:length])]
                total -= NETWORK.conditional(known, order[length])[0, row[order[length]]].item()
                losses.append(masked_loss(NETWORK, row[None], known >= 0).item())
            exact.append(total)
        assert sum(losses) / len(losses) == pytest.approx(sum(exact) / len(exact), abs=1e-12)


def test_positions_and_codes_agree_and_observed_entries_keep_their_bits() -> None:
    position = SPACE.configurations(dtype=torch.float64)
    assert torch.equal(REFERENCE.log_prob(position), NETWORK.log_prob(CODES))
    free = {"group": torch.tensor([True, False])}
    expected = NETWORK.log_conditional(CODES, torch.tensor([[False, True, False]]).expand(12, -1))
    assert torch.equal(REFERENCE.log_conditional(position, free), expected)
    known = SPACE.encode({"bit": [1, -1], "group": [[-1, 2], [0, -1]]})[0]
    drawn = REFERENCE.complete(known, generator(), {"bit": torch.tensor([-torch.inf, 0.0])})
    assert SPACE.decode(drawn)["bit"].tolist() == [1, 1]
    labels = SPACE.decode(drawn)["group"]
    assert labels[0, 1] == 2 and labels[1, 0] == 0 and bool((labels >= 0).all())


def test_a_row_does_not_depend_on_its_batch() -> None:
    network, num = random_network().float(), 64
    known = torch.stack([torch.randint(-1, count, (num,), generator=generator(count)) for count in (2, 2, 3)], dim=1)
    keys = torch.arange(num)
    drawn = network.draw(known, RowStream(keys, seed=0))
    scores = network.log_conditional(drawn, known < 0)
    for rows in (torch.tensor([5]), torch.randperm(num, generator=generator())[:37]):
        some = network.draw(known[rows], RowStream(keys[rows], seed=0))
        assert torch.equal(some, drawn[rows])
        assert torch.equal(network.log_conditional(some, known[rows] < 0), scores[rows])


def test_without_reading_what_is_missing_draws_and_their_probabilities_have_the_same_bits() -> None:
    known = torch.stack([torch.randint(-1, count, (40,), generator=generator(count)) for count in (2, 2, 3)], dim=1)
    for evidence in (None, EVIDENCE):
        read = NETWORK.drawn(known, generator(), evidence=evidence)
        with unread_values():
            unread = NETWORK.drawn(known, generator(), evidence=evidence)
            score = NETWORK.log_conditional(unread[0], known < 0, evidence)
        assert all(torch.equal(one, other) for one, other in zip(read, unread, strict=True))
        assert torch.equal(NETWORK.log_conditional(read[0], known < 0, evidence), score)


def sums(num: int, seed: int = 0) -> torch.Tensor:
    """Two triples of bits of even sum: pairs of columns are independent, and a mixture needs sixteen components."""
    bits = torch.randint(2, (num, 6), generator=generator(seed))
    bits[:, 2], bits[:, 5] = bits[:, :2].sum(dim=1) % 2, bits[:, 3:5].sum(dim=1) % 2
    return bits


@pytest.fixture(scope="module")
def trained() -> tuple[Space, AnyOrder]:
    space = Space(bits=Binary(6))
    codes = sums(2000)
    codes[torch.rand(2000, 6, generator=generator(1)) < 0.05] = -1
    position, _ = space.encode({"bits": codes})
    mixture = Mixture.fit(space, position, 2, generator=generator())
    fitted = AnyOrder.fit(position, mixture, generator=generator(2), width=64, num_layers=2, num_steps=400)
    return space, fitted


def test_training_learns_what_a_mixture_cannot(trained: tuple[Space, AnyOrder]) -> None:
    """-4 log 2 = -2.77 nats is the truth, -6 log 2 = -4.16 that of independent bits."""
    space, fitted = trained
    position, _ = space.encode({"bits": sums(500, seed=5)})
    assert fitted.log_prob(position).mean().item() > -2.95
    free = {"bits": torch.tensor([True, False, True, False, False, False])}
    assert (
        fitted.log_conditional(position, free).mean().item() > -0.8
    )  # -log 2 is the truth, -2 log 2 that of the mixture
    drawn = fitted.draw(2000, generator())["bits"]
    assert (drawn.sum(dim=1) % 2 == 0).double().mean() > 0.95


def test_a_fit_survives_a_round_trip_through_a_file(trained: tuple[Space, AnyOrder]) -> None:
    space, fitted = trained
    reference: Reference = fitted
    rebuilt = TypeAdapter(ReferenceSpec).validate_json(spec_of(fitted).model_dump_json()).build(space)
    rebuilt.load_state_dict(load(save(fitted.state_dict())))
    drawn = reference.draw(50, generator(3))
    assert torch.equal(rebuilt.draw(50, generator(3))["bits"], drawn["bits"])
    assert torch.equal(rebuilt.log_prob(drawn), fitted.log_prob(drawn))


def test_held_out_rows_keep_the_untrained_network_where_training_only_memorises() -> None:
    """Thirty rows of independent bits: the best network on fresh rows is the one that starts at the mixture."""
    rows, fresh = (torch.randint(2, (num, 8), generator=generator(num)) for num in (30, 2000))
    network = MaskedNetwork(ProductMixture((2,) * 8), width=64, num_layers=2)
    network.initialise(generator())
    fitted = fit_masked_network(network, rows, generator=generator(), held_out=fresh, num_steps=300, learning_rate=1e-2)
    visible = torch.arange(8).expand(2000, -1) < 6
    memorised = float(masked_loss(network, fresh, visible).detach().mean())
    assert torch.equal(fitted.readout, torch.zeros_like(fitted.readout))
    assert memorised > 8 * 0.6931 + 0.2


def test_what_does_not_fit_is_named() -> None:
    mixed = Space(a=Continuous(), bit=Binary())
    with pytest.raises(ValueError, match="block 'a' is continuous"):
        AnyOrder(mixed, NETWORK)
    with pytest.raises(ValueError, match="width is a multiple of 32, got 8"):
        random_network(width=8)
    position = SPACE.configurations()
    with pytest.raises(ValueError, match="got no rows"):
        AnyOrder.fit({n: p[:0] for n, p in position.items()}, Mixture(SPACE), generator=generator())
