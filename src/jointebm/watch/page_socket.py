"""The WebSocket of an open page: its messages go to the thread of its chains, and frames come back."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from starlette.websockets import WebSocket, WebSocketDisconnect

from jointebm.watch.commands_of_page import read_command
from jointebm.watch.limits import Limits
from jointebm.watch.stepping import Stepper, Watched

__all__ = ["PageSockets"]

MAX_PENDING = 64  # messages of a page that wait to be obeyed, and messages that wait to be sent to it
SEND_SECONDS = 30.0  # for one message, to a client that has stopped reading
TRY_AGAIN, BAD_MESSAGE, TOO_SLOW = 1013, 1007, 1008  # close codes
LEFT = (WebSocketDisconnect, RuntimeError, OSError)  # what starlette and its servers raise when the page has gone
Reason = tuple[int, str] | None  # code and text of the close; None: the page has left


class PageSockets:
    """The sessions of all open pages.

    Args:
        opened: makes what a page watches.
        limits: of sessions and messages.
    """

    def __init__(self, opened: Callable[[], Watched], limits: Limits) -> None:
        self._opened, self._limits = opened, limits
        self._steppers: set[Stepper] = set()
        self._num_open = 0

    @property
    def num_open(self) -> int:
        """Sessions that are open."""
        return self._num_open

    def close(self) -> None:
        """Ends the threads of all pages."""
        for stepper in list(self._steppers):
            stepper.close()

    async def connected(self, websocket: WebSocket) -> None:
        """Serves one page until it leaves."""
        await websocket.accept()
        if self._num_open >= self._limits.sessions:
            await websocket.close(TRY_AGAIN, f"{self._limits.sessions} pages are open, the limit; close one")
            return
        self._num_open += 1
        try:
            await self._serve(websocket)
        finally:
            self._num_open -= 1

    async def _serve(self, websocket: WebSocket) -> None:
        """Runs the thread of one page, and passes messages both ways, until the page or the server leaves."""
        loop = asyncio.get_running_loop()
        outbox: asyncio.Queue[bytes | dict[str, Any]] = asyncio.Queue(MAX_PENDING)
        overflow = asyncio.Event()

        def put(message: bytes | dict[str, Any]) -> None:
            try:
                outbox.put_nowait(message)
            except asyncio.QueueFull:
                overflow.set()

        def send(message: bytes | dict[str, Any]) -> None:  # from the threads of the page
            if not loop.is_closed():
                loop.call_soon_threadsafe(put, message)

        watched = await anyio.to_thread.run_sync(self._opened)
        stepper = Stepper(watched, send, seconds=self._limits.seconds)
        self._steppers.add(stepper)
        reasons: list[Reason] = []
        try:
            await websocket.send_text(json.dumps({"kind": "view", "view": watched.view()}, allow_nan=False))
            stepper.start()
            async with anyio.create_task_group() as group:

                async def until_left(part: Callable[[], Awaitable[Reason]]) -> None:
                    reasons.append(await part())
                    group.cancel_scope.cancel()

                group.start_soon(until_left, partial(_receive, websocket, stepper))
                group.start_soon(until_left, partial(_send_all, websocket, outbox))
                group.start_soon(until_left, partial(_too_slow, overflow))
            if reasons and reasons[0] is not None:
                await _leave(websocket, *reasons[0])
        except LEFT:
            return
        finally:
            stepper.close()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(stepper.finish)
            self._steppers.discard(stepper)


async def _receive(websocket: WebSocket, stepper: Stepper) -> Reason:
    """Passes messages on, until the page leaves or sends something that is none."""
    while True:
        try:
            stepper.tell(read_command(await websocket.receive_text()))
        except LEFT:
            return None
        except ValueError as error:
            return BAD_MESSAGE, str(error)
        except KeyError:
            return BAD_MESSAGE, "a message is not text"
        while stepper.num_waiting >= MAX_PENDING:  # the page has to wait
            await anyio.sleep(0.02)


async def _send_all(websocket: WebSocket, outbox: "asyncio.Queue[bytes | dict[str, Any]]") -> Reason:
    """Sends what the threads say, until the page stops reading or leaves."""
    while True:
        message = await outbox.get()
        try:
            with anyio.fail_after(SEND_SECONDS):
                if isinstance(message, bytes):
                    await websocket.send_bytes(message)
                else:
                    await websocket.send_text(json.dumps(message, allow_nan=False))
        except TimeoutError:
            return TOO_SLOW, "the page has stopped reading"
        except LEFT:
            return None


async def _too_slow(overflow: asyncio.Event) -> Reason:
    await overflow.wait()
    return TOO_SLOW, "the page reads too slowly"


async def _leave(websocket: WebSocket, code: int, reason: str) -> None:
    with anyio.move_on_after(1.0):
        await websocket.close(code, reason.encode()[:120].decode(errors="ignore"))
