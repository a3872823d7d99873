"""Find the media type of a file by the suffix of its name.

The table is Postroom's own, so that a build is the same with every version of Python and on every
machine. The types are those that IANA registers, or else those that browsers use.
"""

from __future__ import annotations

import re
from posixpath import splitext
from typing import Any

_TYPES = {
    "7z": "application/x-7z-compressed",
    "aac": "audio/aac",
    "atom": "application/atom+xml",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "css": "text/css",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "epub": "application/epub+zip",
    "flac": "audio/flac",
    "gif": "image/gif",
    "gz": "application/gzip",
    "heic": "image/heic",
    "htm": "text/html",
    "html": "text/html",
    "ico": "image/vnd.microsoft.icon",
    "ics": "text/calendar",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "m4v": "video/mp4",
    "map": "application/json",
    "markdown": "text/markdown",
    "md": "text/markdown",
    "mjs": "text/javascript",
    "mkv": "video/matroska",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odt": "application/vnd.oasis.opendocument.text",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "ogv": "video/ogg",
    "opml": "text/x-opml",
    "opus": "audio/ogg",  # RFC 7845 §9: Opus in Ogg
    "otf": "font/otf",
    "pdf": "application/pdf",
    "png": "image/png",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "ps": "application/postscript",
    "rss": "application/rss+xml",
    "rtf": "application/rtf",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "torrent": "application/x-bittorrent",
    "ttf": "font/ttf",
    "txt": "text/plain",
    "vcf": "text/vcard",
    "vtt": "text/vtt",
    "wasm": "application/wasm",
    "wav": "audio/wav",
    "weba": "audio/webm",
    "webm": "video/webm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "xls": "application/vnd.ms-excel",
    "xht": "application/xhtml+xml",
    "xhtml": "application/xhtml+xml",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    # Feeds, too: a browser shows application/xml and saves application/atom+xml.
    "xml": "application/xml",
    "xz": "application/x-xz",
    "zip": "application/zip",
}


def media_type(path: str) -> str:
    """Return the media type of the file at `path`, or an empty string if it is not known."""
    return _TYPES.get(splitext(path)[1][1:].lower(), "")


def content_type(path: str) -> str:
    """Return the value of the `Content-Type` header for the file at `path`.

    Text has the charset UTF-8; a file of an unknown type is `application/octet-stream`.
    """
    kind = media_type(path) or "application/octet-stream"
    is_text = kind.startswith("text/") or kind == "application/xml"
    return f"{kind}; charset=utf-8" if is_text else kind


def may_run_scripts(path: str, data: bytes) -> bool:
    """Tell whether a browser that opens the file at `path` may run a script of the file.

    HTML and JavaScript count always, SVG and other XML only with a script in `data`, or if they
    cannot be parsed.
    """
    kind = media_type(path)
    if kind in {"text/html", "application/xhtml+xml", "text/javascript"}:
        return True
    return kind.endswith(("+xml", "/xml")) and _has_script(data)


def _has_script(data: bytes) -> bool:
    # Imported here because most commands never need it.
    from lxml import etree  # noqa: PLC0415

    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        return True
    return any(map(_is_active, [*root.iter(), *root.itersiblings(preceding=True)]))


def _is_active(node: Any) -> bool:  # noqa: ANN401 - a node of lxml
    if not isinstance(node.tag, str):
        # A stylesheet may be XSLT, and an entity may stand for anything; comments are harmless.
        is_css = re.search(r"type=[\"']text/css", getattr(node, "text", "") or "")
        return not is_css and not str(node).startswith("<!--")
    name = node.tag.rpartition("}")[2].lower()
    if name in {"script", "handler", "foreignobject", "iframe", "embed", "object"}:
        return True
    return any(
        key.rpartition("}")[2].lower().startswith("on")
        # Browsers ignore white space and control characters in a scheme.
        or "javascript:" in re.sub(r"[\s\x00-\x20]", "", value).lower()
        for key, value in node.attrib.items()
    )
