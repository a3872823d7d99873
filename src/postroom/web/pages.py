"""The service's own pages: rendered once, the same bytes for everybody.

No page holds an address or a token. So they can be made before anybody asks, a fault of a template
is met at the start, and an unknown token cannot be told from a known one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from attrs import evolve, frozen

from postroom.models import Site
from postroom.publish.pages import PageData
from postroom.theme.environment import Theme, theme_colours
from postroom.theme.logo import read_logo
from postroom.web.http import SERVICE


@frozen
class ServicePages:
    """The pages as bytes of HTML, and `files`: what they load, by path (stylesheet and logo)."""

    unsubscribe: bytes
    unsubscribed: bytes
    missing: bytes
    unbuilt: bytes
    busy: bytes
    failed: bytes
    files: Mapping[str, bytes]


def render_service_pages(site: Site, theme: Theme, site_dir: Path) -> ServicePages:
    """Return the pages of the site in the folder `site_dir`; they do without a missing logo.

    Raises `TemplateError`, and `SettingsError` for a logo that is no image of the site.
    """
    logo = read_logo(site_dir, site)
    if logo is None:
        site = evolve(site, theme=evolve(site.theme, logo=""))
    words, made = theme.translations, _maker(site, theme)
    return ServicePages(
        unsubscribe=made("unsubscribe", words.unsubscribe_from.format(site.title)),
        unsubscribed=made("unsubscribed", words.unsubscribed),
        missing=made("missing", words.not_found),
        unbuilt=made("unbuilt", words.no_posts),
        busy=made("busy", words.busy),
        failed=made("failed", words.failed),
        files=_files(site, theme, logo),
    )


def _maker(site: Site, theme: Theme) -> Callable[[str, str], bytes]:
    shared: Mapping[str, object] = {
        "site": site,
        "contact": site.contact,
        "t": theme.translations,
        "direction": theme.translations.direction,
        "feeds": (),
        "discovery": "",
        "topics": (),
        "topic_urls": {},
        "digests": (),
        "years": (),
        "relative_url": lambda url: url_from_service(url, site),
        "relative_html": str,
    }

    def made(kind: str, title: str) -> bytes:
        page = PageData(kind, "", title, lang=site.language)
        return theme.render(f"service/{kind}.html", {**shared, "page": page}).encode()

    return made


def _files(site: Site, theme: Theme, logo: bytes | None) -> Mapping[str, bytes]:
    """Return what the pages load.

    The service brings it along: the site may be on another host, of which the strict policy for
    these pages loads nothing.
    """
    style = theme.render("style.css", {"site": site, "colours": theme_colours(site.theme)})
    files = {f"{SERVICE}style.css": style.encode()}
    if logo is not None:
        files[logo_path(site)] = logo
    return files


def logo_path(site: Site) -> str:
    """Return the path at which the service answers with the logo."""
    return f"{SERVICE}logo{PurePosixPath(site.theme.logo).suffix.lower()}"


def url_from_service(url: str, site: Site) -> str:
    """Return the newsroom's address `url` as a page of the service links to it.

    On one host that is the path alone, so that the pages work under any name of this machine, too.
    """
    home = urlsplit(site.mail.unsubscribe or site.url)
    own = {f"{site.url}style.css": f"{SERVICE}style.css"}
    if site.theme.logo:
        own[site.url + site.theme.logo.removeprefix("/")] = logo_path(site)
    if url in own:
        return home.path.rstrip("/") + own[url]
    origin = f"{home.scheme}://{home.netloc}/"
    return "/" + url.removeprefix(origin) if url.startswith(origin) else url
