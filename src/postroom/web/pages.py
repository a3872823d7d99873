"""Render the pages of the service, once when it starts.

No page contains an email address or a token. So every visitor gets the same bytes, whether the
token is known or not. An error in a template keeps the service from starting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from attrs import evolve, frozen

from postroom.models import Site
from postroom.publish.pages import PageData
from postroom.theme.environment import Theme, read_logo, theme_colours
from postroom.theme.icon import Icon, draw_icon, find_icon, read_own_icons
from postroom.web.http import SERVICE


@frozen
class ServicePages:
    """The pages as HTML, and the `files` that they load (stylesheet, logo and icon) by path."""

    unsubscribe: bytes
    unsubscribed: bytes
    missing: bytes
    unbuilt: bytes
    busy: bytes
    failed: bytes
    files: Mapping[str, bytes]


def render_service_pages(site: Site, theme: Theme, site_dir: Path) -> ServicePages:
    """Render the pages of the site in `site_dir`, without the logo if its file is missing.

    Raises `TemplateError` if a template fails, and `SettingsError` if the logo or an icon is not an
    image inside the site.
    """
    logo = read_logo(site_dir, site)
    if logo is None:
        site = evolve(site, theme=evolve(site.theme, logo=""))
    icon = find_icon(site_dir, site)
    t, render = theme.translations, _renderer(site, theme, icon)
    return ServicePages(
        unsubscribe=render("unsubscribe", t.unsubscribe_from.format(site.title)),
        unsubscribed=render("unsubscribed", t.unsubscribed),
        missing=render("missing", t.not_found),
        unbuilt=render("unbuilt", t.no_posts),
        busy=render("busy", t.busy),
        failed=render("failed", t.failed),
        files=_files(site, theme, logo) | _icon_file(site_dir, site, icon, theme),
    )


def _renderer(site: Site, theme: Theme, icon: Icon) -> Callable[[str, str], bytes]:
    shared: Mapping[str, object] = {
        "site": site,
        "contact": site.contact,
        "t": theme.translations,
        "direction": theme.translations.direction,
        "icon": icon,
        "feeds": (),
        "discovery": "",
        "topics": (),
        "topic_urls": {},
        "digests": (),
        "years": (),
        "relative_url": lambda url: url_from_service(url, site, icon),
        "relative_html": str,
    }

    def render(kind: str, title: str) -> bytes:
        page = PageData(kind, "", title, lang=site.language)
        return theme.render(f"service/{kind}.html", {**shared, "page": page}).encode()

    return render


def _files(site: Site, theme: Theme, logo: bytes | None) -> dict[str, bytes]:
    """Return the files that the pages load, by path.

    The service sends its own copies, because the built site may be on another host and the content
    security policy of these pages forbids loading anything from another host.
    """
    style = theme.render("style.css", {"site": site, "colours": theme_colours(site.theme)})
    files = {f"{SERVICE}style.css": style.encode()}
    if logo is not None:
        files[logo_path(site)] = logo
    return files


def _icon_file(site_dir: Path, site: Site, icon: Icon, theme: Theme) -> dict[str, bytes]:
    """Return the icon by its path at the service; a logo is sent as such."""
    if icon.is_drawn:
        return {SERVICE + icon.path: draw_icon(site, theme).encode()}
    own = read_own_icons(site_dir, site)
    return {SERVICE + icon.path: own[icon.path]} if icon.path in own else {}


def logo_path(site: Site) -> str:
    """Return the path at which the service sends the logo."""
    return f"{SERVICE}logo{PurePosixPath(site.theme.logo).suffix.lower()}"


def url_from_service(url: str, site: Site, icon: Icon) -> str:
    """Return the URL by which a page of the service links to `url`, a page or file of the site.

    If site and service have the same host, the result is the path alone, so that the pages work
    under any host name. The stylesheet, the logo and the icon are replaced by the service's own
    copies.
    """
    home = urlsplit(site.mail.unsubscribe or site.url)
    copies = {f"{site.url}style.css": f"{SERVICE}style.css", icon.url: SERVICE + icon.path}
    if site.theme.logo:
        copies[site.url + quote(site.theme.logo)] = logo_path(site)
    if url in copies:
        return home.path.rstrip("/") + copies[url]
    origin = f"{home.scheme}://{home.netloc}/"
    return "/" + url.removeprefix(origin) if url.startswith(origin) else url
