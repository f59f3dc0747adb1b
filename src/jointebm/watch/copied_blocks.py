"""The present view of a block model as Python and as a shell command, which give the same values.

Chains are decided by the model, the seed, their start, and what was clamped for how many steps. The lines hold all of it.
"""

import base64
import json
import math
import shlex
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["BlockHistory", "Clamped", "block_python", "block_shell"]

MAX_WRITTEN = 16  # numbers of an array that are written out; longer arrays are packed

Arrays = Mapping[str, np.ndarray]


class Clamped(NamedTuple):
    """What was clamped, and for how many steps."""

    given: Arrays  # per block, shape (*variable_shape,); NaN or -1 is free
    num_steps: int


class BlockHistory(NamedTuple):
    """What decides the chains of a page.

    Args:
        source: name of the model, as `jointebm.load` takes it.
        num_chains: chains.
        seed: of all draws.
        num_threads: of torch, which decide how sums are rounded.
        start: "own" (that of `chain_starts`), "noise" or "row".
        row: values of one row where chains start at it.
        clamped: in the order of time.
    """

    source: str
    num_chains: int
    seed: int
    num_threads: int
    start: str
    row: Arrays | None
    clamped: Sequence[Clamped]


def block_python(history: BlockHistory) -> str:
    """Python that leaves the values of the view in `values`."""
    changes = [f"    ({_dictionary(each.given)}, {each.num_steps})," for each in history.clamped]
    row = _dictionary({name: value[None] for name, value in (history.row or {}).items()})
    packed = any("array(" in text for text in [*changes, row])
    first = f"chain_starts(model, {history.num_chains}, changes[0][0], generator)"
    starts = {
        "own": [f"state = {first}"],
        "noise": ["state = model.noise"],
        "row": [
            f"row, _ = model.space.encode({row})",
            f"state = {{name: each.expand({history.num_chains}, *each.shape[1:]) for name, each in row.items()}}",
        ],
    }
    unpack = [
        "",
        "",
        "def array(text, *shape):",
        "    return numpy.frombuffer(zlib.decompress(base64.b64decode(text)), 'float64').reshape(shape)",
        "",
        "",
    ]
    lines = [
        *(["import base64", "import zlib", "", "import numpy"] if packed else []),
        "import torch",
        "",
        "import jointebm",
        *(["from jointebm.inference.chain_starts import chain_starts"] if history.start == "own" else []),
        *(unpack if packed else [""]),
        f"torch.set_num_threads({history.num_threads})",
        f"model = jointebm.load({history.source!r})",
        f"generator = torch.Generator().manual_seed({history.seed})",
        "changes = [  # what was clamped, and for how many steps",
        *changes,
        "]",
        *starts[history.start],
        "for given, num_steps in changes:",
        f"    samples = jointebm.sample(model, model.space, model.kernel, num_chains={history.num_chains},",
        "                              num_steps=num_steps, given=given, init=state, generator=generator)",
        "    state = samples.chain.position",
        "values = samples.values",
    ]
    return "\n".join(lines) + "\n"


def block_shell(history: BlockHistory) -> str:
    """A shell command that writes the values of the view to view.npz: `jointebm sample`, or Python where that cannot."""
    names = [name for each in history.clamped for name in each.given]
    plain = all(name.isidentifier() for name in names)
    if history.start != "own" or len(history.clamped) > 1 or not plain:
        script = block_python(history) + "\nimport numpy\n\nnumpy.savez('view.npz', **values)\n"
        return f"python3 - <<'END'\n{script}END\n"
    ((given, num_steps),) = history.clamped
    words = ["jointebm", "sample", history.source, "--num", str(history.num_chains), "--steps", str(num_steps)]
    for name, value in given.items():
        words += ["--given", f"{name}={json.dumps(value.tolist(), separators=(',', ':')).replace('NaN', 'nan')}"]
    words += ["--seed", str(history.seed), "--threads", str(history.num_threads), "--out", "view.npz"]
    return shlex.join(words) + "\n"


def _dictionary(arrays: Arrays) -> str:
    return "{" + ", ".join(f"{name!r}: {_array(value)}" for name, value in arrays.items()) + "}"


def _array(value: np.ndarray) -> str:
    if value.size <= MAX_WRITTEN:
        return _written(value.tolist())
    text = base64.b64encode(zlib.compress(value.astype(np.float64).tobytes(), 9)).decode()
    return f"array({text!r}, {', '.join(map(str, value.shape))})"


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return "float('nan')" if isinstance(value, float) and math.isnan(value) else repr(value)
