"""Samplers of thrml, NumPyro and blackjax, each as a function that advances all chains by some steps.

Legend: V discrete variables, D reals, T states, N chains.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import HMC, MCMC, NUTS, DiscreteHMCGibbs, MixedHMC
from sampler_targets import Mixed, Pairwise, States, config_labels, full_arrays, log_densities, log_density
from thrml.block_management import Block
from thrml.block_sampling import BlockGibbsSpec, SamplingSchedule, sample_states
from thrml.factor import FactorSamplingProgram
from thrml.models.discrete_ebm import (
    CategoricalEBMFactor,
    CategoricalGibbsConditional,
    SpinEBMFactor,
    SpinGibbsConditional,
)
from thrml.pgm import CategoricalNode, SpinNode

__all__ = ["MIXED", "PAIRWISE"]

Advance = Callable[[], States]

WARM_UP = 500
CHUNK = 64  # states of one call


def thrml_gibbs(target: Pairwise, num_chains: int, seed: int) -> Advance:
    """Block Gibbs with the same colours as ours: spins where all variables are bits, categorical nodes otherwise."""
    spins = set(target.num_classes) == {2}
    nodes = [SpinNode() if spins else CategoricalNode() for _ in target.num_classes]
    groups = [[v for v in range(len(nodes)) if target.colours[v] == c] for c in np.unique(target.colours)]
    if len(set(target.num_classes)) > 1:  # a block of theirs has one number of classes
        groups = [[v for v in g if target.num_classes[v] == k] for g in groups for k in sorted(set(target.num_classes))]
    blocks = [Block([nodes[v] for v in group]) for group in groups if group]
    order = np.concatenate([group for group in groups if group])
    left, right = (Block([nodes[v] for v in column]) for column in target.pairs.T)
    if spins:
        bias, weights = _as_spins(target)
        factors = [
            SpinEBMFactor([Block(nodes)], jnp.asarray(bias)),
            SpinEBMFactor([left, right], jnp.asarray(weights)),
        ]
    else:
        bias = np.where(_absent(target), -1e9, target.unary)
        factors = [
            CategoricalEBMFactor([Block(nodes)], jnp.asarray(bias, jnp.float32)),
            CategoricalEBMFactor([left, right], jnp.asarray(target.weights, jnp.float32)),
        ]
    shape = jax.ShapeDtypeStruct((), jnp.bool_ if spins else jnp.uint8)
    spec = BlockGibbsSpec(blocks, [], {type(nodes[0]): shape})
    conditional = SpinGibbsConditional() if spins else CategoricalGibbsConditional(max(target.num_classes))
    program = FactorSamplingProgram(spec, [conditional for _ in blocks], factors, [])
    schedule = SamplingSchedule(n_warmup=1, n_samples=CHUNK, steps_per_sample=1)
    inverse = np.argsort(order)

    @jax.jit
    def run(key: Any, state: Any) -> Any:
        keys = jax.random.split(key, num_chains)
        return jax.vmap(lambda k, s: sample_states(k, program, schedule, s, [], blocks))(keys, state)

    random = np.random.default_rng(seed)
    start = np.stack([random.integers(0, count, num_chains) for count in target.num_classes], axis=1)
    state = [jnp.asarray(start[:, group], shape.dtype) for group in groups if group]
    key = jax.random.key(seed)

    def advance() -> States:
        nonlocal key, state
        key, own = jax.random.split(key)
        kept = jax.block_until_ready(run(own, state))  # per block (N, T, nodes)
        state = [each[:, -1] for each in kept]
        labels = np.concatenate([np.asarray(each) for each in kept], axis=2)[:, :, inverse]
        return States(labels.swapaxes(0, 1).astype(np.uint8), np.zeros((CHUNK, num_chains, 0), np.float32))

    return advance


def _as_spins(target: Pairwise) -> tuple[np.ndarray, np.ndarray]:
    """Biases and couplings of spins with the same density as the bits."""
    bias = (target.unary[:, 1] - target.unary[:, 0]) / 2
    w = target.weights
    coupling = (w[:, 1, 1] - w[:, 1, 0] - w[:, 0, 1] + w[:, 0, 0]) / 4
    np.add.at(bias, target.pairs[:, 0], (w[:, 1, 1] + w[:, 1, 0] - w[:, 0, 1] - w[:, 0, 0]) / 4)
    np.add.at(bias, target.pairs[:, 1], (w[:, 1, 1] - w[:, 1, 0] + w[:, 0, 1] - w[:, 0, 0]) / 4)
    return bias.astype(np.float32), coupling.astype(np.float32)


def _absent(target: Pairwise) -> np.ndarray:
    return np.arange(max(target.num_classes)) >= np.array(target.num_classes)[:, None]


def _start(target: Mixed, num_chains: int, seed: int) -> tuple[Any, Any]:
    """Reals from a standard normal, labels uniform, (N, V)."""
    random = np.random.default_rng(seed)
    labels = np.stack([random.integers(0, count, num_chains) for count in target.num_classes], axis=1)
    return jnp.asarray(random.normal(size=(num_chains, target.num_reals)), jnp.float32), jnp.asarray(labels)


class _Density:
    """f of one x (D,) and labels (V,), and draws of labels given x."""

    def __init__(self, target: Mixed) -> None:
        self.target = target
        self.arrays = {name: jnp.asarray(value) for name, value in full_arrays(target).items()}
        self.configs = jnp.asarray(config_labels(target.num_classes))

    def joint(self, x: Any, y: Any) -> Any:
        one_hot = [jax.nn.one_hot(y[v], count) for v, count in enumerate(self.target.num_classes)]
        return log_density(self.target, jnp, self.arrays, x, jnp.concatenate(one_hot))

    def marginal(self, x: Any) -> Any:
        return jax.scipy.special.logsumexp(log_densities(self.target, jnp, self.arrays, x[None])[0])

    def draw_all(self, key: Any, x: Any) -> Any:
        """Labels given x, from all configurations."""
        return self.configs[jax.random.categorical(key, log_densities(self.target, jnp, self.arrays, x[None])[0])]

    def sweep(self, key: Any, x: Any, y: Any) -> Any:
        """Systematic Gibbs: one label after the other."""
        for v, count in enumerate(self.target.num_classes):
            key, own = jax.random.split(key)
            f = jax.vmap(lambda k, v=v, y=y: self.joint(x, y.at[v].set(k)))(jnp.arange(count))
            y = y.at[v].set(jax.random.categorical(own, f))
        return y


def _scanned(step: Callable[..., Any], state: Any, look: Callable[..., Any], seed: int) -> Advance:
    """Advances all chains by a step of one chain; `look` gives x and the labels of a state."""
    key = jax.random.key(seed)
    num_chains = len(jax.tree.leaves(state)[0])

    @jax.jit
    def run(key: Any, state: Any) -> Any:
        def body(state: Any, key: Any) -> Any:
            first, second = jax.random.split(key)
            state = jax.vmap(step)(jax.random.split(first, num_chains), state)
            return state, jax.vmap(look)(jax.random.split(second, num_chains), state)

        return jax.lax.scan(body, state, jax.random.split(key, CHUNK))

    def advance() -> States:
        nonlocal key, state
        key, own = jax.random.split(key)
        state, (x, y) = jax.block_until_ready(run(own, state))
        return States(np.asarray(y).astype(np.uint8), np.asarray(x))

    return advance


def blackjax_nuts(target: Mixed, num_chains: int, seed: int) -> Advance:
    """NUTS on x with y summed out; y is drawn given x. Their window adaptation on one chain."""
    density = _Density(target)
    x, _ = _start(target, num_chains, seed)
    warm_up = blackjax.window_adaptation(blackjax.nuts, density.marginal)
    (_, parameters), _ = warm_up.run(jax.random.key(seed), x[0], WARM_UP)
    kernel = blackjax.nuts(density.marginal, **parameters)
    return _scanned(
        lambda key, state: kernel.step(key, state)[0],
        jax.vmap(kernel.init)(x),
        lambda key, state: (state.position, density.draw_all(key, state.position)),
        seed,
    )


def blackjax_gibbs(target: Mixed, num_chains: int, seed: int, num_leapfrog: int) -> Advance:
    """HMC on x given y, then a Gibbs sweep of y, written here since they have none.

    The step size and the diagonal metric are theirs, adapted at one configuration.
    """
    density = _Density(target)
    x, y = _start(target, num_chains, seed)

    def given(y: Any) -> Callable[[Any], Any]:
        return lambda x: density.joint(x, y)

    warm_up = blackjax.window_adaptation(blackjax.hmc, given(y[0]), num_integration_steps=num_leapfrog)
    (_, parameters), _ = warm_up.run(jax.random.key(seed), x[0], WARM_UP)
    build = blackjax.hmc.build_kernel()

    def step(key: Any, state: Any) -> Any:
        x, y = state
        first, second = jax.random.split(key)
        x = build(first, blackjax.hmc.init(x, given(y)), given(y), **parameters)[0].position
        return x, density.sweep(second, x, y)

    return _scanned(step, (x, y), lambda _, state: state, seed)


def numpyro_nuts(target: Mixed, num_chains: int, seed: int) -> Advance:
    """NUTS on x with y summed out; y is drawn given x."""
    density = _Density(target)
    start = _start(target, num_chains, seed)[0]
    kernel = NUTS(potential_fn=lambda x: -density.marginal(x))
    state = _warmed(kernel, num_chains, seed, start)
    return _numpyro(kernel, state, lambda key, state: (state.z, density.draw_all(key, state.z)), seed)


def numpyro_mixed(target: Mixed, num_chains: int, seed: int, kind: str) -> Advance:
    """MixedHMC, or HMC within Gibbs on labels, over the joint density."""
    density = _Density(target)

    def model() -> None:
        x = numpyro.sample("x", dist.ImproperUniform(dist.constraints.real_vector, (), (target.num_reals,)))
        count = target.num_classes[0]
        with numpyro.plate("labels", len(target.num_classes)):
            y = numpyro.sample("y", dist.Categorical(logits=jnp.zeros(count)))
        numpyro.factor("f", density.joint(x, y))

    inner = HMC(model, trajectory_length=1.2)
    kernel = MixedHMC(inner, num_discrete_updates=4) if kind == "mixed" else DiscreteHMCGibbs(inner, modified=True)
    state = _warmed(kernel, num_chains, seed, None)
    return _numpyro(kernel, state, lambda _, state: (state.z["x"], state.z["y"]), seed)


def _warmed(kernel: Any, num_chains: int, seed: int, start: Any) -> Any:
    """The states of all chains after the warm-up of NumPyro's own runner, each chain adapting for itself."""
    mcmc = MCMC(
        kernel, num_warmup=WARM_UP, num_samples=1, num_chains=num_chains, chain_method=jax.vmap, progress_bar=False
    )
    mcmc.run(jax.random.key(seed), init_params=start)
    return mcmc.last_state


def _numpyro(kernel: Any, state: Any, look: Callable[..., Any], seed: int) -> Advance:
    """Transitions of NumPyro in one compiled loop; their runner would compile again at every call."""
    return _scanned(lambda _, state: kernel.sample(state, (), {}), state, look, seed)


PAIRWISE = {"thrml": {"block Gibbs": thrml_gibbs}}
MIXED = {
    "blackjax": {
        "NUTS, y summed out": blackjax_nuts,
        "HMC(5) and Gibbs": partial(blackjax_gibbs, num_leapfrog=5),
        "HMC(15) and Gibbs": partial(blackjax_gibbs, num_leapfrog=15),
    },
    "numpyro": {
        "NUTS, y summed out": numpyro_nuts,
        "MixedHMC": partial(numpyro_mixed, kind="mixed"),
        "HMC within Gibbs": partial(numpyro_mixed, kind="gibbs"),
    },
}
