"""The service's own pages: rendered once, the same bytes for everybody.

No page holds an address or a token. So they can be made before anybody asks, a fault of a template
is met at the start, and an unknown token cannot be told from a known one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from attrs import frozen

from postroom.model import Site
from postroom.pages import Page
from postroom.theme import Theme, colours
from postroom.web.paths import SERVICE


@frozen
class Pages:
    """The pages as bytes of HTML, and `files`: what they load, by path (stylesheet and logo)."""

    leave: bytes
    left: bytes
    missing: bytes
    unbuilt: bytes
    busy: bytes
    failed: bytes
    files: Mapping[str, bytes]


def render(site: Site, theme: Theme, newsroom: Path) -> Pages:
    """Return the pages of the newsroom in the folder `newsroom`. Raises `TemplateError`."""
    words, made = theme.words, _maker(site, theme)
    return Pages(
        leave=made("leave", words.leave.format(site.title)),
        left=made("left", words.left),
        missing=made("missing", words.not_found),
        unbuilt=made("unbuilt", words.no_posts),
        busy=made("busy", words.busy),
        failed=made("failed", words.failed),
        files=_files(site, theme, newsroom),
    )


def _maker(site: Site, theme: Theme) -> Callable[[str, str], bytes]:
    shared: Mapping[str, object] = {
        "site": site,
        "contact": site.contact,
        "words": theme.words,
        "direction": theme.words.direction,
        "feeds": (),
        "discovery": "",
        "topics": (),
        "places": {},
        "digests": (),
        "years": (),
        "here": lambda url: seen_from_service(url, site),
        "here_html": str,
    }

    def made(kind: str, title: str) -> bytes:
        page = Page(kind, "", title, lang=site.language)
        return theme.render(f"service/{kind}.html", {**shared, "page": page}).encode()

    return made


def _files(site: Site, theme: Theme, newsroom: Path) -> Mapping[str, bytes]:
    """Return what the pages load.

    The service brings it along: the site may be on another host, of which the strict policy for
    these pages loads nothing.
    """
    style = theme.render("style.css", {"site": site, "colours": colours(site.theme)})
    files = {f"{SERVICE}style.css": style.encode()}
    logo = newsroom / site.theme.logo
    if site.theme.logo and logo.is_file():
        files[_logo(site)] = logo.read_bytes()
    return files


def _logo(site: Site) -> str:
    return f"{SERVICE}logo{PurePosixPath(site.theme.logo).suffix.lower()}"


def seen_from_service(url: str, site: Site) -> str:
    """Return the newsroom's address `url` as a page of the service links to it.

    On one host that is the path alone, so that the pages work under any name of this machine, too.
    """
    home = urlsplit(site.mail.unsubscribe or site.url)
    own = {f"{site.url}style.css": f"{SERVICE}style.css"}
    if site.theme.logo:
        own[site.url + site.theme.logo.removeprefix("/")] = _logo(site)
    if url in own:
        return home.path.rstrip("/") + own[url]
    origin = f"{home.scheme}://{home.netloc}/"
    return "/" + url.removeprefix(origin) if url.startswith(origin) else url
