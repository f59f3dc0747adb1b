"""Specification of `Trajectory.to_arviz`, and agreement of our diagnostics with those of arviz-stats."""

import sys

import pytest
import torch

from jointebm import Binary, Categorical, Continuous, Space, Trajectory, kernels, sample_trajectory
from jointebm.sampling import convergence_of
from jointebm.spaces.space import Position

SPACE = Space(x=Continuous((2,)), y=Categorical(3), bits=Binary((2, 2)))
NOT_INSTALLED = "arviz-base and arviz-stats are not installed"


def log_density(position: Position) -> torch.Tensor:
    return -0.5 * (position["x"] - position["y"][:, :2]).square().sum(dim=1) + position["bits"].sum(dim=(1, 2))


def trajectory() -> Trajectory:
    kernel = kernels.Cycle((kernels.Gibbs(SPACE), kernels.MALA("x", 0.7)))
    generator = torch.Generator().manual_seed(0)
    return sample_trajectory(log_density, SPACE, kernel, num_chains=4, num_steps=150, generator=generator)


def test_without_arviz_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(ModuleNotFoundError, match="pip install arviz-base"):
        trajectory().to_arviz()


def test_states_become_chains_and_draws() -> None:
    pytest.importorskip("arviz_base", reason=NOT_INSTALLED)
    drawn = trajectory()
    tree = drawn.to_arviz()
    posterior = tree["posterior"]
    assert posterior["x"].dims[:2] == ("chain", "draw") and posterior["bits"].shape == (4, 150, 2, 2)
    for name, values in drawn.values.items():
        assert (posterior[name].values[3, 7] == values[7, 3].numpy()).all()
    assert (tree["sample_stats"]["lp"].values == drawn.f.T.numpy()).all()


@pytest.mark.parametrize("name", ["slow", "heavy", "short", "apart", "discrete", "bits", "rare zeros"])
def test_diagnostics_agree_with_arviz_stats(name: str) -> None:
    """Two implementations of one reference, to rounding."""
    pytest.importorskip("arviz_stats", reason=NOT_INSTALLED)
    from arviz_stats.base import array_stats

    generator = torch.Generator().manual_seed(1)
    states = torch.randn(301, 3, generator=generator, dtype=torch.float64)
    if name == "slow":
        states = states.cumsum(dim=0)
    elif name == "heavy":
        states = states / torch.randn(301, 3, generator=generator, dtype=torch.float64)
    elif name == "short":
        states = states[:12]
    elif name == "apart":
        states = states + torch.arange(3)
    elif name == "discrete":
        states = states.round()
    elif name in ("bits", "rare zeros"):  # one tail holds all values, or both do
        states = (states > (0 if name == "bits" else -2)).double()
    ours, arrays = convergence_of(states), states.T.numpy()
    theirs = {
        "mean": arrays.mean(),
        "standard_error": array_stats.mcse(arrays, chain_axis=0, draw_axis=1, method="mean"),
        "r_hat": array_stats.rhat(arrays, chain_axis=0, draw_axis=1, method="rank"),
        "ess_bulk": array_stats.ess(arrays, chain_axis=0, draw_axis=1, method="bulk"),
        "ess_tail": array_stats.ess(arrays, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95)),
    }
    assert ours._asdict() == pytest.approx({key: float(value) for key, value in theirs.items()}, rel=1e-6)
