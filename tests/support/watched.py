"""Clients of a watched model for tests: HTTP and the WebSocket of a page, in this process."""

import json
import runpy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from starlette.testclient import TestClient

from jointebm.watch.application import watch_application
from jointebm.watch.limits import Limits
from jointebm.watch.opened_models import OpenedModel
from jointebm.watch.packed_frames import unpack_frame

TOKEN = "a-token-of-the-tests"
HOST = "127.0.0.1:8719"
ORIGIN = {"origin": f"http://{HOST}"}


class Frame(NamedTuple):
    """One frame of a page."""

    header: dict[str, Any]
    arrays: dict[str, np.ndarray]


def run_text(text: str, folder: Path) -> dict[str, Any]:
    """Runs a copied text as a program of its own, and returns its names."""
    file = folder / "view.py"
    file.write_text(text)
    return runpy.run_path(str(file))


@contextmanager
def client_of(opened: OpenedModel, limits: Limits | None = None) -> Iterator[TestClient]:
    """A client on the host of the server, whose addresses lack the token."""
    application = watch_application(opened, hosts=[HOST, "localhost:8719"], token=TOKEN, limits=limits)
    with TestClient(application, base_url=f"http://{HOST}", raise_server_exceptions=True) as client:
        yield client


def ask(client: TestClient, question: str, fields: Mapping[str, Any]) -> Any:
    """Posts a question as JSON, as a page of this server would."""
    return client.post(f"/{TOKEN}/{question}", json=fields, headers=ORIGIN)


class Page:
    """A page: sends commands, and receives frames and messages in their order."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self.said: list[dict[str, Any]] = []
        self.view = self.message("view")["view"]

    def tell(self, **command: Any) -> None:
        self.send(json.dumps(command))

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._socket.send_text(message)
        else:
            self._socket.send_bytes(message)

    def receive(self) -> Frame | dict[str, Any]:
        message = self._socket.receive()
        if message["type"] == "websocket.close":
            raise ConnectionError(f"{message['code']} {message.get('reason', '')}")
        if message.get("bytes") is not None:
            return Frame(*unpack_frame(message["bytes"]))
        return dict(json.loads(message["text"]))

    def frame(self, *, ack: bool = True) -> Frame:
        """The next frame; messages before it are kept in `said`."""
        while not isinstance(received := self.receive(), Frame):
            self.said.append(received)
        if ack:
            self.tell(do="ack")
        return received

    def message(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; frames before it are shown, and other messages kept."""
        for number, said in enumerate(self.said):
            if said["kind"] == kind:
                return self.said.pop(number)
        while True:
            received = self.receive()
            if isinstance(received, Frame):
                self.tell(do="ack")
            elif received["kind"] == kind:
                return received
            else:
                self.said.append(received)


@contextmanager
def page_of(client: TestClient) -> Iterator[Page]:
    """An open page."""
    with client.websocket_connect(f"/{TOKEN}/chains", headers={**ORIGIN, "host": HOST}) as socket:
        yield Page(socket)
