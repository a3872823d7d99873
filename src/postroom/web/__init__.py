"""HTTP ↔ `subscribe`, and the built output as a static host serves it.

`service` has the routes, `gate` is what all requests pass, `fields` has the header fields and
limits, and `listening` the sockets. Nothing here knows a database: `cli` hands in what is needed.
"""

from __future__ import annotations

from pathlib import Path

from starlette.routing import Router
from starlette.types import ASGIApp

from postroom.model import Site
from postroom.web.gate import Gate
from postroom.web.outside import Outside
from postroom.web.pages import Pages
from postroom.web.paths import prefixes
from postroom.web.public import Public
from postroom.web.service import Service


def application(site: Site, public: Path, pages: Pages, outside: Outside) -> ASGIApp:
    """Return what answers requests: the service's pages, and behind them the files of `public`."""
    routes = Service(pages, outside).routes()
    router = Router(routes, redirect_slashes=False, default=Public(public, pages))
    return Gate(router, prefixes(site), pages, outside)
