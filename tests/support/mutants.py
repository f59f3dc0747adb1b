"""Wrong kernels: the proof that tests of kernels can fail.

A mutant is a kernel of this library whose own source has one thing changed before it is compiled.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jointebm.kernels import (
    HMC,
    MALA,
    Chain,
    ChromaticGibbs,
    Gibbs,
    GibbsWithGradients,
    Kernel,
    Langevin,
    LogDensity,
    scored,
)
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask

_NO_OTHER_CLASS = """
    same = [(new == chain.position[n][:, None]).reshape(*new.shape[:2], -1).all(2) for n, new in with_each_class(
        columns, chain.position, variable).items()]
    several = (columns.num_classes[variable] > 1)[:, None]
    f = _without_absent(columns, variable, f).masked_fill(torch.stack(same).all(dim=0) & several, -torch.inf)"""
_LABELS = (
    "torch.zeros(len(chain.f), columns.num_variables).double().index_add(1, columns.variable, "
    "columns.join(chain.position) * columns.class_of_column)"
)
_BY_LABELS = f"torch.where(free_variables | ~free_variables.any(dim=1, keepdim=True), {_LABELS}, -torch.inf)"
_LAST = "(columns.class_of_column == columns.num_classes[columns.variable] - 1)"
_GWG_RATIO = "proposal.f - chain.f + pick(log_q_reverse, reverse_move) - pick(log_q, move)"
_GWG_MOVED = "return proposal.where(info.accepted, chain)"
_MALA_RATIO = (
    "(proposal.f - chain.f) / self.temperature + self._log_q(x, proposal, mask) - self._log_q(moved, chain, mask)"
)
_LANGEVIN_RATE = "self.eps(x) ** 2 / (2 * self.temperature)"
_COLOUR_GAIN = "pick(log_q_reverse, before) - pick(log_q, after)"

# Per kernel and fault, pieces of its source and what stands in their place.
FAULTS: dict[type[Kernel], dict[str, dict[str, str]]] = {
    GibbsWithGradients: {
        "reverse proposal missing": {_GWG_RATIO: "proposal.f - chain.f - pick(log_q, move)"},
        "proposal ratio missing": {_GWG_RATIO: "proposal.f - chain.f"},
        "proposal ratio inverted": {
            _GWG_RATIO: "proposal.f - chain.f - pick(log_q_reverse, reverse_move) + pick(log_q, move)"
        },
        "f ratio sign flipped": {_GWG_RATIO: _GWG_RATIO.replace("proposal.f - chain.f", "chain.f - proposal.f")},
        "f ratio missing": {_GWG_RATIO: _GWG_RATIO.replace("proposal.f - chain.f + ", "")},
        "temperature applied twice": {
            _GWG_RATIO: _GWG_RATIO.replace("proposal.f - chain.f", "(proposal.f - chain.f) / 2")
        },
        "accepts with the f of another row": {_GWG_RATIO: _GWG_RATIO.replace("proposal.f", "proposal.f.roll(1)")},
        "current class masked only in the reverse": {
            "clamped: Tensor | None) ->": "clamped: Tensor | None, own: bool = False) ->",
            "current = y > columns.own_class ": "current = (y > columns.own_class) & (not own) ",
            "columns.join(chain.score), clamped)": "columns.join(chain.score), clamped, True)",
        },
        "last class never proposed": {
            "clamped: Tensor | None) ->": "clamped: Tensor | None, forth: bool = False) ->",
            "current = y > columns.own_class ": "current = (y > columns.own_class) | "
            f"(forth & {_LAST} & ~columns.is_binary) ",
            "columns.join(chain.score), clamped)": "columns.join(chain.score), clamped, True)",
        },
        "stale score in the reverse": {"columns.join(proposal.score)": "columns.join(chain.score)"},
        "gradient halved only in the forward": {"columns.join(proposal.score)": "2 * columns.join(proposal.score)"},
        "binary gain has the wrong sign in the reverse": {
            "columns.join(proposal.score)": "torch.where(columns.is_binary, -1, 1) * columns.join(proposal.score)"
        },
        "clamp ignored": {"~columns.widen(free_variables)": "torch.zeros_like(y, dtype=torch.bool)"},
        "clamp ignored in the reverse": {
            "columns.join(proposal.score), clamped)": "columns.join(proposal.score), torch.zeros_like(clamped))"
        },
        "stale f": {_GWG_MOVED: f"{_GWG_MOVED}._replace(f=chain.f)"},
        "stale score": {_GWG_MOVED: f"{_GWG_MOVED}._replace(score=chain.score)"},
    },
    Gibbs: {
        "current class excluded": {"\n    f = _without_absent(columns, variable, f)": _NO_OTHER_CLASS},
        "softmax at temperature 2": {"choose(f, generator)": "choose(f / 2, generator)"},
        "last class never drawn": {
            "columns.num_classes[variable][:, None]": "(columns.num_classes - (columns.num_classes > 1).long())"
            "[variable][:, None]"
        },
        "scan depends on the state": {
            "choose_variable(free_variables, generator, like=chain.f)": "free_variables.any(dim=1), "
            f"choose({_BY_LABELS}.to(chain.f.dtype), generator)",
            "variable, movable = ": "movable, variable = ",
        },
        "clamp ignored": {
            "columns.join_free(free, len(chain.f))": "torch.ones(len(chain.f), columns.num_variables, dtype=torch.bool)"
        },
        "stale f": {"moved}, f_moved,": "moved}, chain.f,"},
        "stale score": {"f_moved, None,": "f_moved, chain.score,", "uses_score = False": "uses_score = True"},
    },
    ChromaticGibbs: {
        "clamp ignored": {"table.movable(free_variables)": "torch.ones_like(table.movable(free_variables))"},
        "stale score in the reverse": {"columns.join(proposal.score)": "columns.join(chain.score)"},
        "clamped variables in the proposal ratio": {f"torch.where(movable, {_COLOUR_GAIN}, 0)": f"({_COLOUR_GAIN})"},
        "reverse proposal missing": {_COLOUR_GAIN: "-pick(log_q, after)"},
        "proposal ratio missing": {_COLOUR_GAIN: "0 * pick(log_q, after)"},
        "proposal ratio inverted": {_COLOUR_GAIN: f"-({_COLOUR_GAIN})"},
        "f ratio missing": {"proposal.f - chain.f + gained": "gained"},
        "score has the wrong sign": {"table.spread(score)": "table.spread(-score)"},
    },
    MALA: {
        "proposal ratio missing": {_MALA_RATIO: "(proposal.f - chain.f) / self.temperature"},
        "drift doubled": {"moved = self.mean(chain) +": "moved = 2 * self.mean(chain) - x +"},
        "stale score in the reverse": {
            "_log_q(x, proposal, mask)": "_log_q(x, proposal._replace(score=chain.score), mask)"
        },
        "f ratio sign flipped": {"(proposal.f - chain.f) /": "(chain.f - proposal.f) /"},
        "temperature applied twice": {"/ self.temperature + self._log_q(x": "/ self.temperature**2 + self._log_q(x"},
        "temperature ignored in the f ratio": {"(proposal.f - chain.f) / self.temperature": "(proposal.f - chain.f)"},
        "clamped entries in the proposal ratio": {"torch.where(mask, squares, 0)": "squares"},
        "clamp ignored": {"torch.where(mask, moved, x)": "moved"},
    },
    HMC: {
        "momentum not in the ratio": {"+ kinetic_energy(start) - kinetic_energy(end)": ""},
        "momentum ratio inverted": {
            "kinetic_energy(start) - kinetic_energy(end)": "kinetic_energy(end) - kinetic_energy(start)"
        },
        "f ratio sign flipped": {"(proposal.f - chain.f)": "(chain.f - proposal.f)"},
        "temperature ignored in the f ratio": {"(proposal.f - chain.f) / self.temperature": "(proposal.f - chain.f)"},
        "momentum too wide": {"torch.where(mask, normal(": "torch.where(mask, 1.3 * normal("},
        "clamp ignored": {
            "torch.where(mask, x + self.eps(x) * momentum, x)": "x + self.eps(x) * momentum + 0.1 * ~mask"
        },
        "only the end is kicked after the first step": {
            "            momentum = self._kicked(chain, momentum, mask)\n            x =": "            x ="
        },
        "steps of a size that depends on the state": {
            "x + self.eps(x) * momentum": "x + self.eps(x) * (1 + 0.5 * x.tanh()) * momentum"
        },
    },
    Langevin: {
        "drift not halved": {_LANGEVIN_RATE: "self.eps(x) ** 2 / self.temperature"},
        "temperature ignored": {_LANGEVIN_RATE: "self.eps(x) ** 2 / 2"},
        "temperature applied twice": {_LANGEVIN_RATE: "self.eps(x) ** 2 / (2 * self.temperature**2)"},
        "step size not squared": {_LANGEVIN_RATE: "self.eps(x) / (2 * self.temperature)"},
        "noise scaled by the square": {"self.eps(x) * normal": "self.eps(x) ** 2 * normal"},
        "clamp ignored": {"torch.where(free[self.block], moved, x)": "moved"},
    },
}


def altered(kind: Any, changes: Mapping[str, str]) -> Any:
    """A class or function, compiled from the source of its module with some pieces changed, each of which occurs once."""
    module = sys.modules[kind.__module__]
    source = Path(str(module.__file__)).read_text()
    for right, wrong in changes.items():
        assert source.count(right) == 1, f"{kind.__name__}: expected one {right!r}, found {source.count(right)}"
        source = source.replace(right, wrong)
    namespace: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(source, f"{module.__file__}, altered", "exec"), namespace)  # noqa: S102
    return namespace[kind.__name__]


def mutant(kernel: type[Kernel], fault: str) -> Any:
    """The class of a kernel with a fault in it."""
    return altered(kernel, FAULTS[kernel][fault])


@dataclass(frozen=True)
class StateDependentCycle(Kernel):
    """Applies the first kernel where f is large and the second elsewhere: each is right, their mixture is not."""

    first: Kernel
    second: Kernel
    threshold: float = 0.0

    uses_score = True
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        one, info = self.first.step(log_density, chain, free=free, generator=generator)
        two, _ = self.second.step(log_density, chain, free=free, generator=generator)
        return scored(log_density, one, self).where(chain.f > self.threshold, scored(log_density, two, self)), info
