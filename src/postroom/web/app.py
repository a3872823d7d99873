"""The ASGI application: the routes for subscribers; any other path is a file of the built site."""

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
from postroom.web.http import AppDeps, url_prefixes
from postroom.web.middleware import Middleware
from postroom.web.pages import ServicePages
from postroom.web.static import SiteFiles

# At most this many requests wait for a locked database; files of the site never wait behind them.
_MAX_WRITERS = 8


@frozen
class SubscriptionService:
    """The routes on which subscribers act, such as unsubscribing, and the files of their pages."""

    pages: ServicePages
    deps: AppDeps
    _limiter: CapacityLimiter = Factory(lambda: CapacityLimiter(_MAX_WRITERS))

    def routes(self) -> list[Route]:
        """Return a route for each path of the service and each method that the path accepts."""
        return [
            # RFC 8058 §3.2: only the POST unsubscribes; RFC 9110 §9.2.1: a GET changes nothing.
            Route(f"/{UNSUBSCRIBE_PATH}{{token}}", self.show_unsubscribe_page, methods=["GET"]),
            Route(f"/{UNSUBSCRIBE_PATH}{{token}}", self.unsubscribe, methods=["POST"]),
            *(Route(path, self.send_file, methods=["GET"]) for path in self.pages.files),
        ]

    async def show_unsubscribe_page(self, _request: Request) -> Response:
        """Show the page with the unsubscribe button, which is the same for every token."""
        return HTMLResponse(self.pages.unsubscribe)

    async def unsubscribe(self, request: Request) -> Response:
        """Unsubscribe the owner of the token, by the button of the page or by one click (RFC 8058).

        The response is the same for every token.
        """
        method = _unsubscribe_method(await request.body())
        token, at = request.path_params["token"], self.deps.clock()
        await self._write(partial(unsubscribe.unsubscribe, self.deps.store, token, at, method))
        return HTMLResponse(self.pages.unsubscribed)

    async def send_file(self, request: Request) -> Response:
        """Send a file that the pages load, such as the stylesheet."""
        path = request.scope["path"]
        headers = {"Cache-Control": "max-age=300"}
        return Response(self.pages.files[path], media_type=content_type(path), headers=headers)

    async def _write(self, change: Callable[[], bool]) -> None:
        """Call `change`, which writes to the database, in a thread outside the event loop.

        After a `DatabaseError`, `change` is called a second time, because every old connection
        fails once after a restart of the database server. It must therefore be safe to repeat.
        """
        try:
            await anyio.to_thread.run_sync(change, limiter=self._limiter)
        except DatabaseError:
            await anyio.to_thread.run_sync(change, limiter=self._limiter)


def _unsubscribe_method(body: bytes) -> UnsubscribeMethod:
    """Return how someone unsubscribed: by one click (RFC 8058 §3.1) or by the button of the page.

    One click is recognised by the words `List-Unsubscribe` and `One-Click` anywhere in the body,
    urlencoded or multipart. The body is not parsed, so that a malformed one unsubscribes too.
    """
    one_click = b"List-Unsubscribe" in body and b"One-Click" in body
    return "one click" if one_click else "page"


def make_app(site: Site, public: Path, pages: ServicePages, deps: AppDeps) -> ASGIApp:
    """Return the application that serves the subscribers' pages and the files below `public`."""
    routes = SubscriptionService(pages, deps).routes()
    router = Router(routes, redirect_slashes=False, default=SiteFiles(public, pages))
    return Middleware(router, url_prefixes(site), pages, deps)
