"""Serves a watched model on a port of this machine until interrupted."""

import secrets
import socket
from collections.abc import Callable, Sequence

import uvicorn

from jointebm.watch.access import require_token
from jointebm.watch.application import watch_application
from jointebm.watch.limits import Limits
from jointebm.watch.opened_models import OpenedModel

__all__ = ["LOCAL", "allowed_hosts", "serve_watched"]

LOCAL = "127.0.0.1"
EVERY = ("0.0.0.0", "::", "")  # addresses that are no name


def allowed_hosts(host: str, port: int, names: Sequence[str]) -> list[str]:
    """The exact values of Host under which a server is reached.

    Args:
        host: address that it is bound to.
        port: its port.
        names: further names, such as that of the machine, with or without a port.

    Raises:
        ValueError: it is bound to every address, and no name says how it is reached.

    Example:
        >>> allowed_hosts("127.0.0.1", 8719, [])
        ['127.0.0.1:8719', 'localhost:8719']
    """
    if host in EVERY and not names:
        raise ValueError(f"--host {host or repr(host)}: is every address; add --name NAME, as it stands in the browser")
    own = [LOCAL, "localhost"] if host == LOCAL else [f"[{host}]" if ":" in host else host]
    written = [name if name.rpartition(":")[2].isdigit() and ":" in name else f"{name}:{port}" for name in names]
    found = [f"{each}:{port}" for each in own if host not in EVERY] + written
    return found + [each.removesuffix(":80") for each in found if each.endswith(":80")]  # browsers leave out port 80


def serve_watched(
    opened: OpenedModel,
    *,
    host: str,
    port: int,
    token: str | None,
    names: Sequence[str],
    limits: Limits,
    ready: Callable[[str], object],
) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
        opened: the model.
        host: address to bind; another than 127.0.0.1 needs a token.
        port: 0 takes a free one.
        token: None makes one.
        names: further names under which browsers reach the server.
        limits: of requests.
        ready: called with the address of the page when it can be opened.

    Raises:
        OSError: the port is in use.
        ValueError: another host without a token, or a token that is too short.
    """
    if host != LOCAL and token is None:
        raise ValueError(
            f"--host {host}: opens this model to other machines; set --token TEXT of 16 or more characters"
        )
    token = secrets.token_urlsafe(24) if token is None else require_token(token)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()  # whoever opens the address before uvicorn accepts has to wait, and is not refused
        port = listening.getsockname()[1]
        hosts = allowed_hosts(host, port, names)
        config = uvicorn.Config(
            watch_application(opened, hosts=hosts, token=token, limits=limits),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws_max_size=limits.body,
            ws_per_message_deflate=False,
            limit_concurrency=8 * limits.sessions + limits.waiting + 64,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=3,
        )
        ready(f"http://{hosts[0]}/{token}/")
        uvicorn.Server(config).run(sockets=[listening])
