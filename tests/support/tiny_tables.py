"""A table small enough to enumerate, and a density over it with a random reference and network."""

import torch
from torch import Tensor

from jointebm.references import ProductMixture
from jointebm.references.masked_network import MaskedNetwork
from jointebm.tables.density.energy import Rebased, Residual, TableEnergy

CLASSES = (2, 3, 4)
ALL = torch.cartesian_prod(*[torch.arange(count) for count in CLASSES])  # (24, 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(num_components: int = 3, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> ProductMixture:
    """A mixture with random weights and tables."""
    drawn, made = generator(seed), ProductMixture(CLASSES, num_components).to(dtype)
    made.log_weights.copy_(torch.randn(num_components, generator=drawn, dtype=torch.float64).log_softmax(dim=0))
    tables = [
        torch.randn(count, num_components, generator=drawn, dtype=torch.float64).log_softmax(dim=0) for count in CLASSES
    ]
    made.log_probs.copy_(torch.cat(tables))
    return made


def tables_of(table: Tensor) -> Tensor:
    """`Residual.tables` for one table of the first and the last column, shape (2, 4)."""
    tables = torch.zeros(sum(CLASSES), 4)
    tables[:2, :2], tables[5:, 2:] = torch.eye(2), table.T
    return tables


def energy(*, num_components: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> TableEnergy:
    """An energy with a random reference and a random network that differs from it by nats."""
    residual = Residual(CLASSES, width=8, num_layers=2)
    residual.initialise(generator(seed))
    with torch.no_grad():
        residual.readout.copy_(torch.randn(8, generator=generator(seed + 1)))
    return TableEnergy(mixture(num_components, seed=seed, dtype=dtype), residual.to(dtype))


def energy_with_table(*, seed: int = 0, dtype: torch.dtype = torch.float64) -> TableEnergy:
    """The same with a random table of two columns."""
    made = energy(seed=seed, dtype=dtype)
    made.residual.tables = tables_of(torch.randn(2, 4, generator=generator(seed + 4))).to(dtype)
    return made


def rebased_energy(*, seed: int = 0, dtype: torch.dtype = torch.float64) -> TableEnergy:
    """That density, as the residual of another mixture."""
    trained = energy_with_table(seed=seed, dtype=dtype)
    assert isinstance(trained.residual, Residual)
    sharp = mixture(2, seed=seed + 10, dtype=dtype)
    return TableEnergy(sharp, Rebased(trained.residual, trained.reference, sharp))


def energy_with_network(*, seed: int = 0, dtype: torch.dtype = torch.float64) -> TableEnergy:
    """The same density, with a masked network that is far from it as its proposal."""
    network = MaskedNetwork(mixture(2, seed=seed + 20, dtype=dtype), width=32, num_layers=2).to(dtype)
    network.initialise(generator(seed + 2))
    with torch.no_grad():
        network.readout.copy_(torch.randn(sum(CLASSES), 32, generator=generator(seed + 3)) / 4)
    made = energy(seed=seed, dtype=dtype)
    return TableEnergy(made.reference, made.residual, network.requires_grad_(False))


def enumerated(made: TableEnergy) -> Tensor:
    """F of all configurations, in the order of `ALL`, shape (24,)."""
    with torch.no_grad():
        return made(ALL)


def mixture_by_loops(made: ProductMixture, row: list[int]) -> float:
    """Probability of the observed entries of one row: a sum over components of a product over columns."""
    total = 0.0
    for component, log_weight in enumerate(made.log_weights.tolist()):
        product = torch.tensor(log_weight, dtype=torch.float64).exp().item()
        first = 0
        for count, code in zip(CLASSES, row, strict=True):
            if code >= 0:
                product *= made.log_probs[first + code, component].exp().item()
            first += count
        total += product
    return total


def matches(codes: Tensor) -> Tensor:
    """Which configurations agree with the observed entries of each row, bool (N, 24)."""
    return ((codes[:, None] == ALL) | (codes[:, None] < 0)).all(dim=2)
