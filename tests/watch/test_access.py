"""Access: only requests that name this server and its token pass, whatever page a browser was led to."""

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from jointebm.watch.access import HEADERS, require_token
from jointebm.watch.serving import allowed_hosts, serve_watched
from support.watched import HOST, ORIGIN, TOKEN, ask, page_of

SAMPLE = {"num": 1, "num_steps": 0}


def test_the_page_opens_with_its_token(toy_client: TestClient) -> None:
    page = toy_client.get(f"/{TOKEN}/").text
    assert "<title>jointebm watch</title>" in page
    assert ">Connecting to the chains.</p>" in page


def test_an_address_without_the_last_slash_leads_to_the_page(toy_client: TestClient) -> None:
    answer = toy_client.get(f"/{TOKEN}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, f"/{TOKEN}/")


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example:8719", "evil.example", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8719.evil.example"),
        *("127.0.0.1:87190", "localhost", "[::1]:8719", "0.0.0.0:8719", "", " 127.0.0.1:8719", "127.0.0.1:8719@evil"),
    ],
)
def test_a_rebound_host_is_refused_even_with_the_token(toy_client: TestClient, host: str) -> None:
    assert toy_client.get(f"/{TOKEN}/", headers={"host": host}).status_code == 421
    posted = toy_client.post(f"/{TOKEN}/sample", json=SAMPLE, headers={"host": host, "origin": f"http://{host}"})
    assert posted.status_code == 421


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example", "null", "https://127.0.0.1:8719", "http://127.0.0.1:8720", "http://127.0.0.1"),
        *("http://localhost:8719", "http://127.0.0.1:8719.evil.example", "file://", ""),
    ],
)
def test_a_page_of_another_origin_can_neither_post_nor_connect(toy_client: TestClient, origin: str) -> None:
    headers = {"origin": origin}
    assert toy_client.post(f"/{TOKEN}/sample", json=SAMPLE, headers=headers).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        toy_client.websocket_connect(f"/{TOKEN}/chains", headers={**headers, "host": HOST}),
    ):
        pass


def test_a_request_without_a_path_is_refused(toy_client: TestClient) -> None:
    """`OPTIONS *` asks about the server itself."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "*", "headers": [(b"host", HOST.encode())]}
    asyncio.run(toy_client.app(scope, send, send))  # type: ignore[call-arg, arg-type, func-returns-value]
    assert sent[0]["status"] == 401


def test_each_name_of_the_server_is_its_own_origin(toy_client: TestClient) -> None:
    headers = {"host": "localhost:8719", "origin": "http://localhost:8719"}
    assert toy_client.post(f"/{TOKEN}/sample", json=SAMPLE, headers=headers).status_code == 200


def test_a_socket_needs_an_origin(toy_client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        toy_client.websocket_connect(f"/{TOKEN}/chains", headers={"host": HOST}),
    ):
        pass
    with page_of(toy_client) as page:  # the same with it
        assert page.view["kind"] == "blocks"


@pytest.mark.parametrize(
    "path", ["/", "/openapi.json", "/main.js", "/wrong-token-of-tests/", f"/{TOKEN}x/", f"/x{TOKEN}/"]
)
def test_without_the_token_nothing_is_served(toy_client: TestClient, path: str) -> None:
    answer = toy_client.get(path)
    assert answer.status_code == 401
    assert TOKEN not in answer.text


def test_the_token_may_come_as_a_header(toy_client: TestClient) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert toy_client.post("/sample", json=SAMPLE, headers=bearer).status_code == 200
    assert toy_client.post("/sample", json=SAMPLE, headers={"authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert toy_client.post("/sample", json=SAMPLE, headers={"authorization": f"Basic {TOKEN}"}).status_code == 401


def test_every_answer_keeps_the_browser_to_this_server(toy_client: TestClient) -> None:
    answers = [
        toy_client.get(f"/{TOKEN}/"),
        toy_client.get(f"/{TOKEN}/missing"),
        toy_client.get("/"),
        ask(toy_client, "sample", SAMPLE),
        ask(toy_client, "sample", {"num": "x"}),
    ]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "access-control-allow-origin" not in answer.headers
    directives = dict(part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";"))
    assert set(directives.values()) == {"'self'", "'none'"}


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "got 0 characters, expected 16 or more"),
        ("fifteen-letters", "got 15 characters, expected 16 or more"),
        ("with a space in it", "got ' ' in it"),
        ("with/slash/in/it/", "got '/' in it"),
        ("ümlaut-ümlaut-ümlaut", "got 'ü' in it"),
    ],
)
def test_a_token_is_long_and_fits_an_address(token: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^--token: {reason}, .* leave --token .* out to get a random one$"):
        require_token(token)
    assert require_token("sixteen-letters.") == "sixteen-letters."


def test_another_host_needs_a_token_and_every_address_a_name(toy: object) -> None:
    from jointebm.watch.limits import Limits

    with pytest.raises(ValueError, match="set --token"):
        serve_watched(toy, host="0.0.0.0", port=0, token=None, names=[], limits=Limits(), ready=print)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="--name"):
        allowed_hosts("0.0.0.0", 80, [])
    assert allowed_hosts("0.0.0.0", 81, ["box", "box.lan:8080"]) == ["box:81", "box.lan:8080"]
    assert allowed_hosts("::1", 80, []) == ["[::1]:80", "[::1]"]


def test_origin_and_host_are_compared_in_any_case(toy_client: TestClient) -> None:
    headers = {"host": "LOCALHOST:8719", "origin": "http://LocalHost:8719"}
    assert toy_client.post(f"/{TOKEN}/sample", json=SAMPLE, headers=headers).status_code == 200
    assert ORIGIN["origin"] == f"http://{HOST}"
