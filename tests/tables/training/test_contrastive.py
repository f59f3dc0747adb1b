"""The contrastive objective: where its expectations are exact, its gradient is that of the likelihood."""

import pytest
import torch
from torch import Tensor

from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.mixture import Mixture
from jointebm.tables.training.objectives import contrastive
from support.tiny_tables import ALL, CLASSES, energy, enumerated, matches

COUNTS = torch.arange(24) % 5 + 1  # how many of 70 rows each configuration has


def rational() -> TableEnergy:
    """An energy with a random network whose probabilities are COUNTS / 70: the base makes up for the network.

    So a finite set of rows can hold every configuration exactly as often as the model expects it.
    """
    made = energy()
    base = Mixture(CLASSES, 24).to(torch.float64)  # one component for each configuration
    with torch.no_grad():
        base.log_weights.copy_((COUNTS.double().log() - made.residual(ALL)).log_softmax(dim=0))
    base.log_probs.fill_(-torch.inf)
    first = torch.tensor([0, 2, 5])
    base.log_probs[ALL + first, torch.arange(24)[:, None]] = 0.0
    return TableEnergy(base, made.residual)


def gradients(value: Tensor, made: TableEnergy) -> Tensor:
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(made.residual.parameters()))])


def nll(made: TableEnergy, codes: Tensor) -> Tensor:
    """-log p(observed) per row, by enumeration."""
    everything = made(ALL)
    seen = everything.expand(len(codes), 24).masked_fill(~matches(codes), -torch.inf)
    return (everything.logsumexp(dim=0) - seen.logsumexp(dim=1)).mean()


def test_the_energy_of_this_test_has_the_probabilities_it_says() -> None:
    assert (enumerated(rational()).softmax(dim=0) - COUNTS.double() / 70).abs().max() < 1e-12


def test_its_gradient_is_that_of_the_likelihood_of_complete_rows() -> None:
    made = rational()
    chains, data = ALL.repeat_interleave(COUNTS, dim=0), ALL[[0, 3, 3, 17, 23]]
    expected = gradients(nll(made, data), made)
    assert (gradients(contrastive(made, data, chains), made) - expected).abs().max() < 1e-12
    assert expected.abs().max() > 0.1
    assert (gradients(contrastive(made, chains, data), made) + expected).abs().max() < 1e-12  # of the wrong sign


@pytest.mark.parametrize("row", [[-1, 2, 1], [1, -1, -1], [-1, -1, 0], [-1, -1, -1]])
def test_with_gaps_it_is_that_of_the_observed_entries(row: list[int]) -> None:
    """Eq. 8: completions stand for their conditional distribution."""
    made, codes = rational(), torch.tensor([row])
    chains = ALL.repeat_interleave(COUNTS, dim=0)
    agree = matches(codes)[0]
    completed = ALL[agree].repeat_interleave(COUNTS[agree], dim=0)
    expected = gradients(nll(made, codes), made)
    assert (gradients(contrastive(made, completed, chains), made) - expected).abs().max() < 1e-12
