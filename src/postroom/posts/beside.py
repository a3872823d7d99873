"""Addresses as one post writes them → absolute ones, and the files that they name."""

from __future__ import annotations

import hashlib
import mimetypes
import posixpath
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urljoin, urlsplit

from attrs import field, frozen

from postroom import sitepaths
from postroom.model import Attachment, Site
from postroom.posts.draft import Draft
from postroom.posts.folder import Folder
from postroom.schema import encoded, is_web_address

# The types that Python itself knows: those of the machine would make builds differ.
_TYPES = mimetypes.MimeTypes(())


@frozen
class Beside:
    """Addresses as one post writes them → absolute ones; remembers the files it meets."""

    post: Draft
    urls: Mapping[str, str]
    folder: Folder
    site: Site
    met: dict[str, Attachment] = field(factory=dict)

    def resolve(self, address: str) -> str:
        """Return the absolute form of `address`.

        A file beside the post becomes an attachment of it, another post's file that post's page.
        """
        try:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
                return urljoin(self.post.url, address)
        except ValueError:
            return self.post.url
        path = posixpath.normpath(
            posixpath.join(posixpath.dirname(self.post.path), unquote(parts.path))
        )
        tail = f"#{parts.fragment}" if parts.fragment else ""
        if path in self.urls:
            return self.urls[path] + tail
        if path in self.folder.sizes:
            return self._attached(path) + tail
        return urljoin(self.post.url, address)

    def fetchable(self, address: str) -> str:
        """Return the absolute form of `address` if http or https can fetch it, else nothing.

        What is relative must be a file beside the post.
        Characters beyond ASCII are escaped (RFC 3987 §3.1).
        """
        absolute = encoded(self.resolve(address))
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|/", address) and not self._paths(absolute):
            return ""
        return absolute if is_web_address(absolute) else ""

    def _attached(self, path: str) -> str:
        if path not in self.met:
            below = posixpath.relpath(path, posixpath.dirname(self.post.path) or ".")
            if below.startswith(".."):
                mark = hashlib.sha256(path.encode()).hexdigest()[:8]
                below = f"{mark}-{posixpath.basename(path)}"
            place = self.post.url.removeprefix(self.site.url).removesuffix(".html").rstrip("/")
            output = f"{unquote(place)}/{below}"
            self.met[path] = Attachment(sitepaths.below(self.site.posts, path), output)
        return self._url(self.met[path])

    def size(self, address: str) -> int:
        """Return the bytes of the attachment at the absolute `address`, 0 if there is none."""
        return next((self.folder.sizes[path] for path in self._paths(address)), 0)

    def pixels(self, address: str) -> tuple[int, int]:
        """Return width and height of the attached picture at `address`, zeros if not known."""
        return next((self.folder.pixels(path) for path in self._paths(address)), (0, 0))

    def pictures(self) -> dict[str, tuple[int, int]]:
        """Return the sizes of all attached pictures, by their absolute addresses."""
        found = {self._url(one): self.folder.pixels(path) for path, one in self.met.items()}
        return {url: size for url, size in found.items() if all(size)}

    def _url(self, attachment: Attachment) -> str:
        return urljoin(self.site.url, quote(attachment.output))

    def _paths(self, address: str) -> list[str]:
        return [path for path, one in self.met.items() if self._url(one) == address]


def media_type(url: str) -> str:
    """Return the media type that the name in `url` tells, or nothing."""
    return _TYPES.guess_type(urlsplit(url).path)[0] or ""
