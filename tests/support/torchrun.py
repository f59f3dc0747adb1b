"""Starts commands with `torchrun` on this machine."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]),
    "GLOO_SOCKET_IFNAME": "lo",
    "OMP_NUM_THREADS": "1",
}


def torchrun(*words: object, num_processes: int = 2, max_restarts: int = 0) -> subprocess.Popen[str]:
    """Starts `torchrun ... -m jointebm WORDS`, which meets on a free port of its own."""
    launcher = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)),
        *("--max-restarts", str(max_restarts), "--monitor-interval", "0.1"),
    ]
    command = [*launcher, "-m", "jointebm", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    )


def workers_of(launcher: subprocess.Popen[str]) -> list[int]:
    """Processes that it has started and that live."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return [int(child) for child in children if b"jointebm" in Path(f"/proc/{child}/cmdline").read_bytes()]
