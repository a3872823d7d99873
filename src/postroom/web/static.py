"""The newsroom's built output, served as a static host would, and as it is at this moment.

A file is reached from the output folder one step at a time, and no step may be a symbolic link: so
nothing outside is ever served, not even while somebody changes the folder. The folder itself may be
a link, to be turned to a new release.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import anyio.to_thread
from attrs import frozen
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from postroom.media_types import media_type
from postroom.web.http import DRAWING
from postroom.web.pages import ServicePages

READINGS = "postroom.readings"
"""Where a scope holds the paths that the requested one may mean, likeliest first."""
_CHUNK = 64 * 1024
# O_NONBLOCK: to open a pipe would wait for its other end.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
# How the theme marks the page of a withdrawn post, in its head.
_WITHDRAWN = b'<meta name="postroom-status" content="410">'


@frozen
class _File:
    """An open file; whoever has it closes `data`."""

    path: str
    data: BinaryIO
    size: int
    changed: int
    """Nanoseconds since 1970."""

    @property
    def etag(self) -> str:
        """RFC 9110 §8.8.3; an unchanged file is not touched by a build, so this stays."""
        return f'"{self.changed:x}-{self.size:x}"'

    @property
    def second(self) -> datetime:
        """The second in which it changed last: HTTP knows nothing shorter."""
        return datetime.fromtimestamp(self.changed // 10**9, UTC)


@frozen
class StaticFiles:
    """Answers with the files below `folder`, or with one of `pages` where there is none."""

    folder: Path
    pages: ServicePages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await anyio.to_thread.run_sync(self.answer, Request(scope))
        await response(scope, receive, send)

    def answer(self, request: Request) -> Response:
        """Return the answer to `request`."""
        if request.method not in {"GET", "HEAD"}:
            return not_allowed("GET, HEAD")
        readings: Sequence[str] = request.scope[READINGS]
        for path in readings:
            if found := _found(self.folder, path):
                return _given(found, request)
        for path in readings:
            if path != "/" and (found := _found(self.folder, f"{path}/")):
                found.data.close()
                # Relative (RFC 9110 §10.2.2): a proxy may have taken a prefix away.
                address = f"./{quote(path.rpartition('/')[2])}/"
                return Response(status_code=301, headers={"Location": address})
        return self._missing()

    def _missing(self) -> Response:
        if not self.folder.is_dir():
            return HTMLResponse(self.pages.unbuilt, 404)
        found = _found(self.folder, "/404.html")
        return HTMLResponse(_read(found) if found else self.pages.missing, 404)


def not_allowed(methods: str) -> Response:
    """Return the answer to a method that is none of `methods` (RFC 9110 §15.5.6)."""
    return PlainTextResponse(f"This answers to {methods}.\n", 405, {"Allow": methods})


def _found(folder: Path, path: str) -> _File | None:
    """Return the file that `path` names, opened."""
    steps = (path.removeprefix("/") + "index.html" * path.endswith("/")).split("/")
    # What is hidden, our manifest too, is nobody's to read; one name is public (RFC 8615 §3).
    if any(step.startswith(".") for step in steps[steps[0] == ".well-known" :]):
        return None
    try:
        descriptor = _descriptor(folder, steps)
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        raise
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        return None
    return _File(steps[-1], os.fdopen(descriptor, "rb"), about.st_size, about.st_mtime_ns)


def _descriptor(folder: Path, steps: Sequence[str]) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for step in steps:
        try:
            inner = os.open(step, _FLAGS, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


def _given(found: _File, request: Request) -> Response:
    kind = media_type(found.path)
    fields = {"ETag": found.etag, "Last-Modified": format_datetime(found.second, usegmt=True)}
    is_page = kind.startswith("text/html")
    page = _read(found) if is_page else b""
    if _WITHDRAWN in page.partition(b"</head>")[0]:
        return HTMLResponse(page, 410)  # RFC 9110 §15.5.11
    if _is_known(found, request.headers):
        found.data.close()
        return Response(status_code=304, headers=fields)
    if is_page:
        return Response(page, headers=fields, media_type=kind)
    if kind == "image/svg+xml":
        fields["Content-Security-Policy"] = DRAWING
    fields["Content-Length"] = str(found.size)
    return _Streamed(found, request.method, fields, kind)


class _Streamed(StreamingResponse):
    """A file that is read while it is sent, and closed however that ends."""

    def __init__(self, found: _File, method: str, headers: dict[str, str], kind: str) -> None:
        chunks = iter(partial(found.data.read, _CHUNK), b"") if method == "GET" else ()
        super().__init__(chunks, headers=headers, media_type=kind)
        self._data = found.data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._data:
            await super().__call__(scope, receive, send)


def _is_known(found: _File, headers: Headers) -> bool:
    """Tell whether the asker has this file already (RFC 9110 §13.2.2)."""
    if tags := headers.get("If-None-Match"):
        # Weak comparison (§13.1.2): a proxy that compresses makes our tags weak.
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return bool(known & {found.etag, "*"})
    try:
        return found.second <= parsedate_to_datetime(headers.get("If-Modified-Since", ""))
    except (TypeError, ValueError):
        return False  # no date, or one without a zone


def _read(found: _File) -> bytes:
    with found.data as data:
        return data.read()
