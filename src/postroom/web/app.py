"""What the web is given of the world: rows, the time, and a place for its journal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio.to_thread
from anyio import CapacityLimiter
from attrs import Factory, frozen
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from postroom.errors import DatabaseError
from postroom.mail import unsubscribe
from postroom.mail.unsubscribe import UNSUBSCRIBE_PATH, UnsubscribeMethod
from postroom.media_types import content_type
from postroom.models import Site
from postroom.web.http import AppDeps, prefixes
from postroom.web.middleware import Middleware
from postroom.web.pages import ServicePages
from postroom.web.static import SiteFiles

# So many wait for a locked database at once; the site's own files never wait behind them.
_AT_ONCE = 8


@frozen
class SubscriptionService:
    """Answers the pages of the service."""

    pages: ServicePages
    outside: AppDeps
    _turn: CapacityLimiter = Factory(lambda: CapacityLimiter(_AT_ONCE))

    def routes(self) -> list[Route]:
        """Return every page of the service, with the methods it knows."""
        return [
            # RFC 8058 §3.2: the POST alone leaves; RFC 9110 §9.2.1: a GET changes nothing.
            Route(f"/{UNSUBSCRIBE_PATH}{{token}}", self.unsubscribe_page, methods=["GET"]),
            Route(f"/{UNSUBSCRIBE_PATH}{{token}}", self.leave, methods=["POST"]),
            *(Route(path, self.file, methods=["GET"]) for path in self.pages.files),
        ]

    async def unsubscribe_page(self, _request: Request) -> Response:
        """Show the button; the same for every token."""
        return HTMLResponse(self.pages.unsubscribe)

    async def leave(self, request: Request) -> Response:
        """Let somebody leave, by the button or by one click; the same answer for every token."""
        way = _way(await request.body())
        token, at = request.path_params["token"], self.outside.clock()
        await self._changed(partial(unsubscribe.unsubscribe, self.outside.book, token, at, way))
        return HTMLResponse(self.pages.unsubscribed)

    async def file(self, request: Request) -> Response:
        """Give what the pages load."""
        path = request.scope["path"]
        headers = {"Cache-Control": "max-age=300"}
        return Response(self.pages.files[path], media_type=content_type(path), headers=headers)

    async def _changed(self, change: Callable[[], bool]) -> None:
        """Do what writes to the database, away from the event loop.

        It is tried twice, and so must be something that may be done twice: of a database that was
        started anew, every old connection fails once.
        """
        try:
            await anyio.to_thread.run_sync(change, limiter=self._turn)
        except DatabaseError:
            await anyio.to_thread.run_sync(change, limiter=self._turn)


def _way(body: bytes) -> UnsubscribeMethod:
    """Return how somebody leaves.

    RFC 8058 §3.1 has the words, urlencoded or multipart. They are looked for and not parsed: a body
    that no parser takes lets its sender leave all the same.
    """
    one_click = b"List-Unsubscribe" in body and b"One-Click" in body
    return "one click" if one_click else "page"


def make_app(site: Site, public: Path, pages: ServicePages, outside: AppDeps) -> ASGIApp:
    """Return what answers requests: the service's pages, and behind them the files of `public`."""
    routes = SubscriptionService(pages, outside).routes()
    router = Router(routes, redirect_slashes=False, default=SiteFiles(public, pages))
    return Middleware(router, prefixes(site), pages, outside)
