"""The application: the page, its WebSocket and the service, behind `Access`."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from jointebm.inference.model import Model
from jointebm.watch.access import Access
from jointebm.watch.answered import Service
from jointebm.watch.block_service import BlockService
from jointebm.watch.limits import Limits
from jointebm.watch.opened_models import OpenedModel
from jointebm.watch.page_files import page_files
from jointebm.watch.page_socket import PageSockets
from jointebm.watch.service_routes import ServiceRoutes

__all__ = ["watch_application"]


def watch_application(opened: OpenedModel, *, hosts: Iterable[str], token: str, limits: Limits | None = None) -> Access:
    """The page and the service of one model as an ASGI application.

    Args:
        opened: the model.
        hosts: the exact values of Host under which it is reached, such as "127.0.0.1:8719".
        token: of at least 16 characters; every address begins with it.
        limits: of requests; None: the defaults.

    Raises:
        ValueError: the token is too short.
    """
    limits = limits or Limits()
    sockets = PageSockets(lambda: opened.watched(limits), limits)
    service = ServiceRoutes(_service(opened.model, limits), limits)

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        application.state.sockets = sockets
        yield
        sockets.close()
        service.close()

    pages = [Route(path, _page, methods=["GET"]) for path in page_files()]
    routes = [*pages, *service.routes, WebSocketRoute("/chains", sockets.connected)]
    return Access(Starlette(routes=routes, lifespan=lifespan), hosts=hosts, token=token)


async def _page(request: Request) -> Response:
    content, media = page_files()[request.scope["path"]]
    return Response(content, media_type=media)


def _service(model: Any, limits: Limits) -> Service:
    if isinstance(model, Model):
        return BlockService(model, limits)
    from jointebm.watch.table_service import TableService

    return TableService(model, limits)
