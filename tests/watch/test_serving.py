"""The command `jointebm watch`: it serves until it is ended, and refuses what is wrong in one line."""

import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from jointebm.watch.limits import Limits
from jointebm.watch.opened_models import OpenedModel
from jointebm.watch.serving import serve_watched
from support.command_line import run


@pytest.mark.slow
def test_the_command_serves_on_this_machine_alone_until_it_is_ended() -> None:
    command = [sys.executable, "-m", "jointebm", "watch", "pretrained:toy", "--port", "0", "--max-rows", "7"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        found = re.search(r"open (http://127\.0\.0\.1:(\d+)/([\w-]{32})/)", server.stderr.readline())
        assert found is not None
        address, port = found[1], int(found[2])
        assert "<title>jointebm watch" in httpx2.get(address).text
        assert "server" not in httpx2.get(address).headers
        assert len(httpx2.post(f"{address}sample", json={"num": 7, "num_steps": 1}).json()["values"]["left"]) == 7
        assert httpx2.post(f"{address}sample", json={"num": 8}).status_code == 422
        assert httpx2.get(address, headers={"host": f"evil.example:{port}"}).status_code == 421
        own = socket.gethostbyname(socket.gethostname())
        if not own.startswith("127."):
            with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
                socket.create_connection((own, port), timeout=5).close()
        with socket.create_connection(("127.0.0.1", port)) as slow:  # a request that never ends does not keep it
            slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
            server.terminate()
            assert server.wait(60) == 143


def test_an_address_can_be_opened_as_soon_as_it_is_told(toy: OpenedModel) -> None:
    class Connected(Exception):  # noqa: N818  # ends the server
        pass

    def connect(address: str) -> None:
        with socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=60):
            raise Connected

    with pytest.raises(Connected):
        serve_watched(toy, host="127.0.0.1", port=0, token=None, names=[], limits=Limits(), ready=connect)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["pretrained:nothing"], "unknown pretrained model"),
        (["nowhere"], "no such folder"),
        (["pretrained:toy", "--host", "0.0.0.0"], "set --token"),
        (["pretrained:toy", "--host", "0.0.0.0", "--token", "a-token-of-the-tests"], "add --name"),
        (["pretrained:toy", "--token", "short"], "--token: got 5 characters, expected 16 or more"),
        (["pretrained:toy", "--port", "70000"], "0 to 65535"),
        (["pretrained:mnist", "--data", "."], "no such file"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("watch", *words)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result.err
    assert reason in result.err


def test_a_port_that_is_in_use_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = run("watch", "pretrained:toy", "--port", other.getsockname()[1])
    assert result.code == 2
    assert "in use" in result.err
    assert threading.active_count() < 20
