"""One sampler on one target in a process of its own: waits for a line "SECONDS FILE", samples, writes quantities.

Started by `compare.py`. CPU time is that of the whole process while it samples; quantities are computed outside of it.
"""

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
from sampler_targets import TARGETS, Pairwise, quantities, toy

MODULES = {
    "jointebm": "our_samplers",
    "thrml": "jax_samplers",
    "numpyro": "jax_samplers",
    "blackjax": "jax_samplers",
    "ebmkit": "torch_samplers",
    "torchebm": "torch_samplers",
    "pymc": "pymc_samplers",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=MODULES)
    parser.add_argument("target")
    parser.add_argument("sampler")
    parser.add_argument("--weights", type=Path, help="of pretrained:toy")
    parser.add_argument("--chains", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    module = import_module(MODULES[arguments.library])
    target = toy(dict(np.load(arguments.weights))) if arguments.target == "toy" else TARGETS[arguments.target]()
    samplers = module.PAIRWISE if isinstance(target, Pairwise) else module.MIXED
    samplers = samplers if arguments.library == "jointebm" else samplers[arguments.library]
    advance = samplers[arguments.sampler](target, arguments.chains, arguments.seed)
    advance()
    print(json.dumps({"ready": time.process_time()}), flush=True)
    for line in sys.stdin:
        seconds, file = line.split()
        spent, found = 0.0, []
        while spent < float(seconds) or sum(len(each["n"]) for each in found) < 64:
            started = time.process_time()
            states = advance()
            spent += time.process_time() - started
            found.append(quantities(target, states) | {"n": np.zeros((len(states.labels), 1), np.float32)})
        joined = {name: np.concatenate([each[name] for each in found]) for name in found[0] if name != "n"}
        np.savez(file, **joined)
        print(json.dumps({"cpu": spent, "states": len(next(iter(joined.values())))}), flush=True)


if __name__ == "__main__":
    main()
