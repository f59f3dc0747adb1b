"""Sessions of pages: as many as the limit allows, and none is left when a page has gone."""

import contextlib
import gc
import threading
import time
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from jointebm.watch.limits import Limits
from jointebm.watch.opened_models import OpenedModel
from support.watched import HOST, ORIGIN, TOKEN, Page, client_of, page_of

NAMES = ("jointebm-watch", "jointebm-answers")


def threads() -> int:
    """Threads of pages that still run."""
    return sum(thread.name in NAMES for thread in threading.enumerate())


def wait_for_no_thread() -> None:
    deadline = time.monotonic() + 60
    while threads() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threads() == 0


def until_closed(page: Page) -> str:
    """Code and reason with which the server closes a page."""
    while True:
        try:
            page.receive()
        except ConnectionError as closed:
            return str(closed)


def memory() -> float:
    """Resident memory of this process, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def test_a_page_is_described_and_shown_before_its_first_step(toy_client: TestClient) -> None:
    with page_of(toy_client) as page:
        assert [block["name"] for block in page.view["blocks"]] == ["point", "bottom", "left", "diagonal"]
        frame = page.frame()
        assert frame.header["step"] == 0
        assert frame.arrays["value:point"].shape == (16, 2)


def test_a_page_clamps_steps_predicts_and_copies(toy_client: TestClient) -> None:
    with page_of(toy_client) as page:
        page.frame()
        page.tell(do="clamp", given={"left": [1]})
        for _ in range(3):
            page.tell(do="step")
        page.tell(do="copy")
        copied = page.message("copied")
        assert "'left': 1" in copied["python"]
        answer = page.message("answer")
        while answer["probs"]["left"] != [[0.0, 1.0]]:
            answer = page.message("answer")
        assert answer["method"] == "draws of q"


def test_as_many_pages_as_the_limit_are_served_and_all_others_are_told_why(toy: OpenedModel) -> None:
    with client_of(toy, Limits(sessions=3)) as client, contextlib.ExitStack() as stack:
        pages = [stack.enter_context(page_of(client)) for _ in range(3)]
        refused = 0
        for _ in range(197):  # 200 in all
            with client.websocket_connect(f"/{TOKEN}/chains", headers={**ORIGIN, "host": HOST}) as socket:
                message = socket.receive()
                assert (message["type"], message["code"]) == ("websocket.close", 1013)
                assert message["reason"] == "3 pages are open, the limit; close one"
                refused += 1
        assert refused == 197
        assert threads() <= 2 * len(pages)
        for page in pages:
            page.tell(do="step")
            assert page.frame().header["step"] <= 1
    wait_for_no_thread()
    with client_of(toy, Limits(sessions=1)) as client:
        for _ in range(3):  # a place that was left is free
            with page_of(client) as page:
                page.frame()


@pytest.mark.parametrize("text", ["{", '{"do": "fly"}', "[" * 10_000, '{"do": "clamp", "given": 3}'])
def test_a_message_that_is_none_closes_the_page_with_its_reason(toy_client: TestClient, text: str) -> None:
    with page_of(toy_client) as page:
        page.send(text)
        assert until_closed(page).startswith("1007 message")
    wait_for_no_thread()


def test_bytes_close_the_page(toy_client: TestClient) -> None:
    with page_of(toy_client) as page:
        page.send(b"\xff\xfe")
        assert until_closed(page) == "1007 a message is not text"


def test_a_value_that_does_not_fit_is_an_error_of_the_page_not_of_the_server(toy_client: TestClient) -> None:
    with page_of(toy_client) as page:
        for given in ({"left": [7]}, {"nothing": [1]}, {"point": ["x", "y"]}, {"point": {"low": 1}}):
            page.tell(do="clamp", given=given)
            assert page.message("error")["error"]
        page.tell(do="clamp", given={"left": [0]})
        page.tell(do="step")
        frame = page.frame()
        while frame.header["step"] < 1:
            frame = page.frame()
        assert (frame.arrays["value:left"] == 0).all()


def test_a_page_that_is_killed_while_it_plays_leaves_nothing(toy: OpenedModel) -> None:
    with client_of(toy) as client:
        for _ in range(3):
            with page_of(client) as page:
                page.tell(do="play", rate=1000.0)
                page.frame(ack=False)  # goes without a word
                assert threads() > 0
        wait_for_no_thread()
        assert threads() == 0


def test_a_page_that_asks_without_reading_is_closed(toy: OpenedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its replies fill the outbox, since sending never ends."""
    import asyncio

    from starlette.websockets import WebSocket

    async def stuck(self: Any, data: str) -> None:
        if '"copied"' in data:
            await asyncio.Event().wait()
        await self.send({"type": "websocket.send", "text": data})

    monkeypatch.setattr(WebSocket, "send_text", stuck)
    with client_of(toy) as client, page_of(client) as page:
        for _ in range(200):
            page.tell(do="copy")
        assert until_closed(page) == "1008 the page reads too slowly"
    wait_for_no_thread()


@pytest.mark.slow
def test_memory_is_back_to_idle_after_pages_have_gone(toy: OpenedModel) -> None:
    def visit(client: TestClient, num: int) -> None:
        for _ in range(num):
            with page_of(client) as page:
                page.tell(do="clamp", given={"point": [0.5, None]})
                page.tell(do="play", rate=1000.0)
                for _ in range(5):
                    page.frame()

    with client_of(toy) as client:
        visit(client, 5)  # what stays from the first visits: caches and thread pools
        wait_for_no_thread()
        gc.collect()
        before = memory()
        visit(client, 40)
        wait_for_no_thread()
        gc.collect()
        assert memory() - before < 25  # MB; 40 sessions that stay hold far more


def test_every_frame_of_a_page_holds_what_is_clamped(toy_client: TestClient) -> None:
    with page_of(toy_client) as page:
        page.tell(do="clamp", given={"point": [None, -1.25], "diagonal": [1]})
        page.tell(do="play", rate=1000.0)
        frames = [page.frame() for _ in range(60)]
        assert_clamped(page, frames[2:])


def assert_clamped(page: Page, frames: list[Any]) -> None:
    assert page.view["num_chains"] == 16
    for frame in frames:
        assert (frame.arrays["value:point"][:, 1] == np.float32(-1.25)).all()
        assert (frame.arrays["value:diagonal"] == 1).all()
