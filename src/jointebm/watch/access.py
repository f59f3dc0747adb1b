"""Access to the page and the service: exact Host and Origin, a token, and headers that keep a browser to this server.

A page of another site can make a browser send requests to 127.0.0.1, under a name that it makes resolve there (DNS
rebinding). Host and Origin are therefore compared with the exact addresses that this server is reached by. Other users of
this machine can open any local port, so every address begins with a token.
"""

import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import quote

__all__ = ["HEADERS", "Access", "require_token"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MIN_TOKEN = 16
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def require_token(token: str) -> str:
    """The token, if it is long enough and can stand in an address.

    Raises:
        ValueError: it is shorter than 16 characters, or one of them needs an escape in an address.
    """
    remedy = "leave --token (and JOINTEBM_TOKEN) out to get a random one"
    if len(token) < MIN_TOKEN:
        raise ValueError(
            f"--token: got {len(token)} characters, expected {MIN_TOKEN} or more, for who guesses it opens the page; make "
            f"it longer, or {remedy}"
        )
    if wrong := [each for each in token if quote(each, safe="") != each]:
        raise ValueError(
            f"--token: got {wrong[0]!r} in it, expected letters of ASCII, digits, '-', '_', '.' and '~' alone, which "
            f"stand in an address as they are; replace it, or {remedy}"
        )
    return token


class Access:
    """Passes on requests that name this server and its token, and refuses all others with one line.

    The token is the first part of the path, /TOKEN/..., or comes in the header `Authorization: Bearer TOKEN`.

    Args:
        application: what is protected.
        hosts: the exact values of Host, such as "127.0.0.1:8719".
        token: of at least 16 characters.
    """

    def __init__(self, application: Application, *, hosts: Iterable[str], token: str) -> None:
        self._application, self._token = application, require_token(token).encode()
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None and scope["path"] == f"/{self._token.decode()}":  # addresses on the page are relative
            location = (b"location", f"{scope['path']}/".encode())
            await _with_headers(send)({"type": "http.response.start", "status": 308, "headers": [location]})
            await send({"type": "http.response.body", "body": b""})
        elif refusal is None:
            await self._application(self._inside(scope), receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})  # before accept: HTTP 403
        else:
            status, text = refusal
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text + "\n"))]
            await _with_headers(send)({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": f"{text}\n".encode()})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason; None if the request may pass."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 421, "this server is not reached by this Host"
        expected = f"http://{hosts[0].lower()}"
        if any(origin.lower() != expected for origin in origins) or len(origins) > 1:
            return 403, "requests of pages of another origin are refused"
        if scope["type"] == "websocket" and not origins:
            return 403, "a WebSocket needs the Origin of this page"
        if not self._has_token(scope):
            return 401, "the address lacks the token that 'jointebm watch' printed"
        return None

    def _has_token(self, scope: Scope) -> bool:
        scheme, _, given = next(iter(_values(scope, b"authorization")), "").partition(" ")
        in_path = scope["path"].removeprefix("/").partition("/")[0]  # no slash at all in `OPTIONS *`
        bearer = given.strip() if scheme.lower() == "bearer" else ""
        right_path, right_header = (hmac.compare_digest(each.encode(), self._token) for each in (in_path, bearer))
        return right_path or right_header

    def _inside(self, scope: Scope) -> Scope:
        """The request with the token taken from its path."""
        prefix = f"/{self._token.decode()}"
        path = scope["path"]
        if path.startswith(f"{prefix}/"):
            return {**scope, "path": path[len(prefix) :], "raw_path": b"", "root_path": ""}
        return scope


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending
