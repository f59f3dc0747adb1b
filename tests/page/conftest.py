"""A server of its own process for each model, and a browser."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jointebm import JointEBM
from support.pet_table import MODELLED, TABLE

MILLISECONDS = 120_000  # that the browser, and the end of a server, may take on a busy machine


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server of a model once, and returns the address of its page."""
    servers: dict[tuple[str, ...], tuple[subprocess.Popen[str], str]] = {}

    def start(*words: str) -> str:
        if words not in servers:
            command = [sys.executable, "-m", "jointebm", "watch", *words, "--port", "0"]
            server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            assert server.stderr is not None
            said = []  # such as that $JOINTEBM_DATA, a folder, holds no rows of a table
            for line in server.stderr:
                said.append(line)
                found = re.search(r"open (http://\S+)", line)
                if found is not None:
                    break
            else:
                raise AssertionError(f"the server ended before it named its address: {''.join(said)}")
            servers[words] = server, found[1]
        return servers[words][1]

    yield start
    for server, _ in servers.values():
        server.terminate()
    for server, _ in servers.values():
        server.communicate(timeout=MILLISECONDS / 1000)  # and closes its pipe
        assert server.returncode == 143


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


def quick_fit(table: pd.DataFrame, folder: Path) -> tuple[str, str]:
    """A quick fit to a table, and a file of its rows."""
    training = {"num_visits": 0, "rows_per_component": 20}
    model = JointEBM(training=training, num_draws=10, num_sweeps=1).fit(table)
    table.to_csv(folder / "pets.csv", index=False)
    return str(model.save(folder / "pets")), str(folder / "pets.csv")


@pytest.fixture(scope="session")
def pets_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return quick_fit(TABLE[MODELLED], tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def wide_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A table whose columns have long names."""
    wide = TABLE[MODELLED].rename(columns=lambda name: f"{name}, as it was told")
    return quick_fit(wide, tmp_path_factory.mktemp("wide"))
