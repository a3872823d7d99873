"""The media types of files, by their names.

The table is our own: that of the machine differs from machine to machine.
"""

from __future__ import annotations

_TYPES = {
    "aac": "audio/aac",
    "avif": "image/avif",
    "css": "text/css; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "gif": "image/gif",
    "htm": "text/html; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/vnd.microsoft.icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "m4a": "audio/mp4",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "opml": "text/x-opml; charset=utf-8",
    "opus": "audio/ogg",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
    "woff2": "font/woff2",
    # Feeds, too: under application/atom+xml a browser saves them, under this it shows them.
    "xml": "application/xml; charset=utf-8",
    "zip": "application/zip",
}


def media_type(path: str) -> str:
    """Return the media type of the file at `path`; what nobody knows is bytes."""
    return _TYPES.get(path.rpartition(".")[2].lower(), "application/octet-stream")
