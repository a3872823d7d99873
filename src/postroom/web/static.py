"""Serve the built site as a static host would.

The path of a file is opened one segment at a time, starting at the output folder, and no segment
may be a symbolic link. So nothing outside the folder is ever served, even if somebody changes the
folder meanwhile. The output folder itself may be a symbolic link, so that an operator can switch it
to each new release.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import anyio.to_thread
from attrs import frozen
from starlette.datastructures import Headers
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Message, Receive, Scope, Send

from postroom.media_types import content_type, may_run_scripts, media_type
from postroom.web.http import PATH_VARIANTS, SVG_POLICY
from postroom.web.pages import ServicePages

# O_NONBLOCK: opening a named pipe would wait for its other end.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_FOUND = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENXIO,
}
# The theme writes this into the head of a withdrawn post's page.
_WITHDRAWN = b'<meta name="postroom-status" content="410">'
_RANGE = "(?:[0-9]{1,15}-[0-9]{0,15}|-[0-9]{1,15})"
# RFC 9110 §14.1.1; the unit is case-insensitive.
_RANGES = re.compile(rf"bytes={_RANGE}(?:[ \t]*,[ \t]*{_RANGE})*", re.IGNORECASE)


class SiteFiles(StaticFiles):
    """An ASGI application that serves the files below `folder`.

    If there is no such file, it sends `404.html` of the site or one of `pages`.
    """

    def __init__(self, folder: Path, pages: ServicePages) -> None:
        super().__init__(directory=folder, html=True, check_dir=False)
        self._folder = folder
        self._pages = pages

    async def check_config(self) -> None:
        """Accept a folder that does not exist yet: the first build makes it."""

    async def get_response(self, path: str, scope: Scope) -> Response:  # noqa: ARG002 - see scope
        """Return the response for the first of the `path_variants` that names a file."""
        if scope["method"] not in {"GET", "HEAD"}:
            return not_allowed("GET, HEAD")
        return await anyio.to_thread.run_sync(self._respond, scope)

    def _respond(self, scope: Scope) -> Response:
        variants: Sequence[str] = scope[PATH_VARIANTS]
        for path in variants:
            if file := _open_file(self._folder, path):
                return self._file_response(file, scope)
        for path in variants:
            if path != "/" and (file := _open_file(self._folder, f"{path}/")):
                file.data.close()
                # A relative reference (RFC 9110 §10.2.2): a proxy may have removed a prefix.
                url = f"./{quote(path.rpartition('/')[2])}/"
                return Response(status_code=301, headers={"Location": url})
        return self._not_found()

    def _file_response(self, file: _File, scope: Scope) -> Response:
        if file.is_withdrawn():
            return HTMLResponse(_read(file), 410)  # RFC 9110 §15.5.11
        response = _OpenFileResponse(file)
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            file.data.close()
            return NotModifiedResponse(response.headers)
        return response

    def is_not_modified(self, response_headers: Headers, request_headers: Headers) -> bool:
        """Tell whether the client already has this version of the file.

        A malformed date in If-Modified-Since is ignored (RFC 9110 §13.1.3).
        """
        if "If-None-Match" not in request_headers:
            date = request_headers.get("If-Modified-Since", "")
            return _is_http_date(date) and super().is_not_modified(
                response_headers, request_headers
            )
        return super().is_not_modified(response_headers, request_headers)

    def _not_found(self) -> Response:
        if not self._folder.is_dir():
            return HTMLResponse(self._pages.unbuilt, 404)
        file = _open_file(self._folder, "/404.html")
        return HTMLResponse(_read(file) if file else self._pages.missing, 404)


class FileShrankError(Exception):
    """Raised if a file becomes shorter while it is being sent."""


def not_allowed(methods: str) -> Response:
    """Return the response 405, which says that only `methods` are allowed (RFC 9110 §15.5.6)."""
    message = f"This URL does not allow the method; use {methods}.\n"
    return PlainTextResponse(message, 405, {"Allow": methods})


@frozen
class _File:
    """An open file, with the size and time that it had when it was opened.

    The code that opened the file must close `data`.
    """

    name: str
    data: BinaryIO
    size: int
    modified: int
    """Nanoseconds since 1970."""

    def headers(self) -> dict[str, str]:
        """Return Content-Length and the validators ETag and Last-Modified (RFC 9110 §8.8).

        An SVG image also gets a content security policy. A build does not touch a file whose
        content is unchanged, so the file keeps its ETag.
        """
        modified = datetime.fromtimestamp(self.modified // 10**9, UTC)
        headers = {
            "Content-Length": str(self.size),
            "ETag": f'"{self.modified:x}-{self.size:x}"',
            "Last-Modified": format_datetime(modified, usegmt=True),
        }
        if content_type(self.name) == "image/svg+xml":
            headers["Content-Security-Policy"] = SVG_POLICY
        if self._is_active():
            headers["Content-Disposition"] = "attachment"  # RFC 6266 §4.2
        return headers

    def _is_active(self) -> bool:
        """Tell whether this is JavaScript, XHTML or an SVG image with a script.

        HTML and XML do not count, because pages and feeds are such files. The content security
        policy forbids their scripts.
        """
        kind = media_type(self.name)
        if kind in {"text/html", "application/xml"}:
            return False
        is_image = kind == "image/svg+xml"
        data = os.pread(self.data.fileno(), self.size, 0) if is_image else b""
        return may_run_scripts(self.name, data)

    def is_withdrawn(self) -> bool:
        """Tell whether this is the page of a withdrawn post."""
        if not content_type(self.name).startswith("text/html"):
            return False
        page = os.pread(self.data.fileno(), self.size, 0)
        return _WITHDRAWN in page.partition(b"</head>")[0]


class _OpenFileResponse(FileResponse):
    """A response that sends an open file and closes it, even if sending fails."""

    def __init__(self, file: _File) -> None:
        # By its descriptor: the path may lead to another file by now.
        path = f"/dev/fd/{file.data.fileno()}"
        kind, about = content_type(file.name), os.fstat(file.data.fileno())
        super().__init__(path, headers=file.headers(), media_type=kind, stat_result=about)
        self._data = file.data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._data:
            if scope["method"] == "GET":
                send = _limit_body(send)
            await super().__call__(_without_bad_range(scope), receive, send)


def _without_bad_range(scope: Scope) -> Scope:
    """Return `scope` without a Range that must be ignored (RFC 9110 §14.2).

    A Range is ignored if the method is not GET, the unit is not bytes, or the value is malformed.
    """
    if scope["method"] == "GET" and _is_range(Headers(scope=scope).get("Range", "")):
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
    return {**scope, "headers": headers}


def _is_range(value: str) -> bool:
    if not _RANGES.fullmatch(value):
        return False
    pairs = (part.strip().split("-") for part in value.partition("=")[2].split(","))
    return all(int(first) <= int(last) for first, last in pairs if first and last)


def _limit_body(send: Send) -> Send:
    """Wrap `send` so that the body has exactly the length in Content-Length.

    If the file grows while it is sent, the rest is not sent. If it becomes shorter, the returned
    function raises `FileShrankError`.
    """
    remaining, has_ended = 0, False

    async def limited(message: Message) -> None:
        nonlocal remaining, has_ended
        if message["type"] == "http.response.start":
            remaining = int(Headers(raw=message["headers"]).get("Content-Length", "0"))
        elif has_ended:
            return
        else:
            body = message["body"][:remaining]
            remaining -= len(body)
            more_body = message.get("more_body", False) and remaining > 0
            has_ended = not more_body
            if has_ended and remaining:
                # The server ends the connection, so that the client does not wait for the rest.
                raise FileShrankError
            message = {**message, "body": body, "more_body": more_body}
        await send(message)

    return limited


def _open_file(folder: Path, path: str) -> _File | None:
    """Open the regular file at `path` below `folder`; return None if there is no such file."""
    segments = (path.removeprefix("/") + "index.html" * path.endswith("/")).split("/")
    # Hidden files, such as our manifest, are private, but for one name (RFC 8615 §3).
    public = segments[1:] if segments[0] == ".well-known" else segments
    if any(segment.startswith(".") for segment in public):
        return None
    try:
        descriptor = _open_segments(folder, segments)
    except OSError as error:
        if error.errno in _NOT_FOUND:
            return None
        raise
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        return None
    return _File(segments[-1], os.fdopen(descriptor, "rb"), about.st_size, about.st_mtime_ns)


def _open_segments(folder: Path, segments: Sequence[str]) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for segment in segments:
        try:
            inner = os.open(segment, _FLAGS, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


def _is_http_date(text: str) -> bool:
    """Tell whether `text` is an HTTP date, which is always in GMT (RFC 9110 §5.6.7)."""
    try:
        return text.endswith(" GMT") and parsedate_to_datetime(text) is not None
    except (TypeError, ValueError, OverflowError):
        return False


def _read(file: _File) -> bytes:
    with file.data as data:
        return data.read()
