"""One call from arrays with missing entries to a trained, normalised model over any mixed space.

Legend: N rows.
"""

import math
import sys

import torch
from torch import nn

from jointebm.data.datasets import Batch
from jointebm.energies.network_specs import MLPSpec
from jointebm.energies.referenced import Referenced, start_at_zero
from jointebm.energies.specs import ConcatSpec, EnergySpec, OwnSpec, ReferencedSpec
from jointebm.inference.fit_report import FitSummary, warn_of_wrong_modes, with_report
from jointebm.inference.fit_scores import NORMALIZER_DRAWS, BestEnergy, normalizer_of
from jointebm.inference.model import Model
from jointebm.inference.model_config import ModelConfig
from jointebm.inference.reports import NormalizerRecord
from jointebm.kernels import Cycle, Gibbs, KernelSpec, evaluate, suggest
from jointebm.randomness.devices import Device, place_of
from jointebm.randomness.draws import shuffled, uniform
from jointebm.randomness.initial_weights import DrawsFrom
from jointebm.references import MarginalsFit, MixtureFit
from jointebm.references.reference_specs import spec_of
from jointebm.sampling.annealing import taken_rows
from jointebm.sampling.diagnostics import ConvergenceWarning, warn_caller
from jointebm.spaces.blocks import Continuous
from jointebm.spaces.space import Position, Space, Values
from jointebm.spaces.transforms import Affine, Identity
from jointebm.training.divergence import Diverged
from jointebm.training.objectives import BlockObjective, MaximumLikelihood, SummedOut
from jointebm.training.train_config import TrainConfig
from jointebm.training.trainer import Trainer

__all__ = ["fit"]

MAX_REALS_OF_MIXTURE = 100  # with more, the reference is a product of marginals
MAX_SUMMED_LABELS = 64  # configurations of the labels that are summed out of the loss
MAX_STOPPING_ROWS = 2_000
NUM_LOOKS = 20  # in the course of training
MAX_LOOKS_WITHOUT_GAIN = 8  # checks without improvement
ACCEPT_RATE = 0.6  # of MALA, that step sizes are tuned to
FEW_STEPS_SHARE = 0.1  # share of effective draws of the reference, from which on chains need few steps
FEW_STEPS, MANY_STEPS = 40, 200  # kernel steps of a sample


def fit(
    space: Space,
    values: Values,
    *,
    energy: nn.Module | EnergySpec | None = None,
    seed: int = 0,
    device: Device = "auto",
    verbose: bool = False,
) -> Model:
    """Fits one normalised density to rows of any mixed space: F = log q + residual.

    The library chooses everything: a reference q on a held-out tenth of the rows (a mixture, or independent marginals where
    there are more than 100 reals), a residual network, weighted chains moved by jumps, Gibbs and Langevin steps of adapted
    size, labels summed out where they have at most 64 configurations, and when to stop. Of all states of training the one
    with the best held-out log-likelihood is kept. The reference itself is one of them, so the model is never worse than it
    on these rows. The choice looks at the held-out rows, so their log-likelihood is slightly optimistic.

    Reals without a transform are standardised: the space of the model has an `Affine` transform there, values are the same.

    Args:
        space: the blocks.
        values: per block, shape (N, *variable_shape), N >= 20; NaN, -1 and absent blocks are missing.
        energy: the residual, as a spec or a module over positions of `space`, which is trained in place; None is an MLP.
            With one, reals are not standardised. A model with a module of your own cannot be saved.
        seed: of all draws.
        device: where to fit, and where the model is: "cuda" where there is one, else "cpu" (auto), or "cpu" or "cuda".
        verbose: prints a line per check to stderr.

    Returns:
        `Model`, with `log_normalizer`, `diagnostics` and `report`.

    Raises:
        ValueError: fewer than 20 rows, values that do not fit the space, or a device that this machine does not have.

    Warns:
        ConvergenceWarning: training diverged, and the best state before is kept; or a group of rows has a weight under F
            that is not that of the data.

    Example:
        >>> from jointebm.spaces import Continuous
        >>> x = torch.randn(200, generator=torch.Generator().manual_seed(0))
        >>> model = fit(Space(x=Continuous()), {"x": 5 + x})
        >>> bool((model.log_density({"x": [5.0]}) + 0.92).abs() < 0.2)  # N(5, 1): -log sqrt(2 pi)
        True
    """
    place = place_of(device)
    if energy is None:
        space = standardised(space, values)
    encoded, _ = space.encode(values, device=place)
    num_rows = len(next(iter(encoded.values())))
    if num_rows < 20:
        raise ValueError(f"fit: got {num_rows} rows; give at least 20, of which a tenth is held out")
    generator = torch.Generator(place).manual_seed(seed)
    order = shuffled(num_rows, torch.Generator().manual_seed(seed)).to(place)
    num_held_out = min(MAX_STOPPING_ROWS, max(2, num_rows // 10))
    rows, held_out = taken_rows(encoded, order[num_held_out:]), taken_rows(encoded, order[:num_held_out])
    reference = _reference(space, rows, held_out, generator)
    spec, residual = _residual(space, energy, num_rows, seed)
    referenced = Referenced(reference, residual).to(place)
    kernel = _kernel_spec(space, referenced, generator)
    trainer = _trainer(referenced, space, rows, kernel, seed)
    best = BestEnergy(referenced, held_out, generator, say=_say if verbose else None)
    _train(trainer, best)
    found = best.energy
    normalizer = normalizer_of(found, trainer, rows, generator)
    kept = best.score(found, normalizer.value)
    if best.iteration and kept.value <= best.of_reference.value:
        best.iteration, found = 0, best.at_start
        normalizer = NormalizerRecord(
            value=0.0, standard_error=0.0, ess=float(NORMALIZER_DRAWS), method="the reference itself"
        )
        kept = best.of_reference
    kernel = _tuned(kernel, space, found, generator)
    config = ModelConfig(
        name="fit",
        data="values",
        space=space.config,
        energy=ReferencedSpec(reference=spec_of(reference), residual=spec),  # type: ignore[arg-type]
        kernel=kernel,
        num_steps=MANY_STEPS,
        log_normalizer=normalizer,
    )
    model = Model(config, energy=found, noise=trainer.noise).eval()
    summary = FitSummary(
        held_out=kept,
        held_out_reference=best.of_reference,
        iterations=trainer.iteration,
        best_iteration=best.iteration,
        negatives=(trainer.metrics.negatives if trainer.metrics else None) or "draws",
    )
    model = with_report(model, rows, held_out, summary, generator)
    diagnostics = model.diagnostics
    if diagnostics is not None and diagnostics.ess > FEW_STEPS_SHARE * diagnostics.num_draws:
        model.config = model.config.model_copy(update={"num_steps": FEW_STEPS})
    if verbose:
        _say(str(model.report))
    warn_of_wrong_modes(model)
    return model


def standardised(space: Space, values: Values) -> Space:
    """The space with reals that have no transform shifted and scaled by the mean and deviation of their observed values."""
    blocks = {}
    for name, block in space.items():
        blocks[name] = block
        if name in values and isinstance(block, Continuous) and block.transform == Identity():
            _, observed = Space(**{name: block}).encode({name: values[name]})
            rows = torch.as_tensor(values[name], device="cpu").double().reshape(len(observed[name]), -1)
            rows = torch.where(rows.isfinite(), rows, torch.nan)
            shift = rows.nanmean(dim=0).nan_to_num()
            variance = (rows - shift).square().nanmean(dim=0).nan_to_num()
            scale = torch.where(variance > 0, variance.sqrt(), 1.0)
            transform = Affine(tuple(shift.tolist()), tuple(scale.tolist()))
            blocks[name] = Continuous(block.shape, transform)
    return Space(**blocks)


def _reference(space: Space, rows: Position, held_out: Position, generator: torch.Generator) -> nn.Module:
    """A mixture chosen on held-out rows, or marginals where there are many reals."""
    num_reals = sum(space[name].num_variables for name in space.continuous)
    how = MarginalsFit() if num_reals > MAX_REALS_OF_MIXTURE else MixtureFit()
    return how.fit(space, rows, held_out, generator)


def _residual(
    space: Space, energy: nn.Module | EnergySpec | None, num_rows: int, seed: int
) -> tuple[EnergySpec | OwnSpec, nn.Module]:
    """The residual as plain data and as a module that is zero."""
    if isinstance(energy, nn.Module):
        known = hasattr(energy, "output_layers")
        return OwnSpec(module=type(energy).__name__), start_at_zero(energy) if known else energy
    if isinstance(energy, ReferencedSpec):
        raise ValueError("fit: energy is the residual, without a reference of its own; give its residual spec")
    if energy is None:
        width = 128 if num_rows < 20_000 else 256
        energy = ConcatSpec(net=MLPSpec(hidden=(width, width), activation="silu"))
    with DrawsFrom(torch.Generator().manual_seed(seed)):
        return energy, start_at_zero(energy.build(space))


def _objective(space: Space) -> BlockObjective:
    """Labels summed out where these are few and there are reals."""
    few = space.discrete and space.continuous and space.num_configurations <= MAX_SUMMED_LABELS
    return SummedOut() if few else MaximumLikelihood()


def _kernel_spec(space: Space, energy: Referenced, generator: torch.Generator) -> KernelSpec:
    """What `kernels.suggest` says of labels, and MALA with a step size tuned at the reference."""
    suggested = suggest(space, energy, energy.reference, trains=True).kernel
    num_labels = sum(space[name].num_variables for name in space.discrete)
    spec = KernelSpec(
        discrete="gibbs" if any(isinstance(part, Gibbs) for part in suggested.kernels) else "gibbs-with-gradients",
        discrete_moves=min(4, max(1, num_labels)),
        continuous="mala",
        step_size=0.5,
    )
    return _tuned(spec, space, energy, generator)


@torch.no_grad()
def _tuned(spec: KernelSpec, space: Space, energy: Referenced, generator: torch.Generator) -> KernelSpec:
    """The spec with the step size at which chains from the reference accept `ACCEPT_RATE` of their moves."""
    if not space.continuous:
        return spec
    chain = evaluate(energy, energy.reference.draw(256, generator))
    free = {name: torch.ones((), dtype=torch.bool, device=chain.f.device) for name in space}
    size = spec.step_size
    sizes = []
    for step in range(60):
        moves = spec.model_copy(update={"step_size": size}).build_continuous(space)
        chain, infos = Cycle(moves).step(energy, chain, free=free, generator=generator)
        rate = min(float(info.accept_prob.mean()) for info in infos)  # type: ignore[union-attr]
        size = min(10.0, max(1e-3, size * math.exp(rate - ACCEPT_RATE)))
        sizes += [math.log(size)] if step >= 30 else []
    return spec.model_copy(update={"step_size": round(math.exp(sum(sizes) / len(sizes)), 4)})


def _trainer(energy: Referenced, space: Space, rows: Position, kernel: KernelSpec, seed: int) -> Trainer:
    num_rows = len(next(iter(rows.values())))
    batch_size = min(256, num_rows)
    config = TrainConfig(
        num_iterations=2000 if num_rows >= 1000 else 1000,
        batch_size=batch_size,
        num_steps=2,
        completion_steps=2,
        learning_rate=2e-3,
        warmup=50,
        decay="cosine",
        buffer_size=max(2048, batch_size),
        replacement_rate=0.0,
        ema_decay=0.99,
        objective=_objective(space),
    )

    def batch(num: int, generator: torch.Generator) -> Batch:
        numbers = (uniform(torch.empty(num, dtype=torch.float64), generator) * num_rows).long()
        return Batch(taken_rows(rows, numbers), numbers)

    place = next(iter(rows.values())).device
    return Trainer(energy, space, batch, kernel=kernel.build(space), config=config, seed=seed, device=place)


def _train(trainer: Trainer, best: BestEnergy) -> None:
    """Trains to the end, or to the last of several checks without improvement; a divergence ends it with a warning."""
    every = max(1, trainer.config.num_iterations // NUM_LOOKS)
    try:
        for metrics in trainer.run():
            if metrics.iteration % every == 0 and best.look(trainer) >= MAX_LOOKS_WITHOUT_GAIN:
                return
    except Diverged as error:
        kept = (
            f"fit: training diverged after {trainer.iteration} iterations, and the best state before is kept: {error}"
        )
        warn_caller(ConvergenceWarning(kept))


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
