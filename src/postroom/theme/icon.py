"""Find the icon of a site, which browsers and feed readers show beside its name.

A site may bring a file of its own. Otherwise its logo is the icon, and without a logo the theme
draws one that shows the initial of the site's title.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urljoin

from attrs import frozen

from postroom.errors import Problem, SettingsError
from postroom.media_types import media_type
from postroom.models import Site
from postroom.settings import paths
from postroom.text import first_grapheme
from postroom.theme.environment import Theme, theme_colours

OWN_ICONS = ("favicon.svg", "favicon.ico")
"""The files beside postroom.yaml that are copied to the output; the first one is linked."""
DRAWN = "favicon.svg"
"""The template of the icon that the theme draws."""
_HINT = "replace it by the image itself, or remove it"


@frozen
class Icon:
    """The icon of a site: its `path` in the output, its URL and its media type.

    `is_drawn` is true if the theme draws it, and false for a file of the site.
    """

    path: str
    url: str
    type: str
    is_drawn: bool = False


def find_icon(site_dir: Path, site: Site) -> Icon:
    """Return the icon of the site in the folder `site_dir`."""
    own = (name for name in OWN_ICONS if (site_dir / name).is_file())
    path = next(own, site.theme.logo)
    if path:
        return Icon(path, urljoin(site.url, quote(path)), media_type(path))
    return Icon(DRAWN, urljoin(site.url, DRAWN), media_type(DRAWN), is_drawn=True)


def read_own_icons(site_dir: Path, site: Site) -> dict[str, bytes]:
    """Return the bytes of the site's own icons by path, without the logo.

    Raises `SettingsError` if one does not lead to an image inside the site: a symbolic link may
    lead to a secret.
    """
    found, problems = {}, []
    for name in OWN_ICONS:
        if name == site.theme.logo or not (site_dir / name).is_file():
            continue
        if fault := paths.image_fault(site_dir, name):
            problems.append(Problem(name, message=fault, hint=_HINT))
            continue
        try:
            found[name] = (site_dir / name).resolve().read_bytes()
        except OSError as error:
            message = f"cannot be read: {(error.strerror or 'unknown error').lower()}"
            problems.append(Problem(name, message=message, hint=_HINT))
    if problems:
        raise SettingsError(problems)
    return found


def draw_icon(site: Site, theme: Theme) -> str:
    """Return the SVG of an icon with the initial of the site's title.

    Raises `TemplateError`.
    """
    values = {"colours": theme_colours(site.theme), "initial": find_initial(site.title)}
    return theme.render(DRAWN, {**values, "site": site})


def find_initial(title: str) -> str:
    """Return the first letter or digit of `title` as a capital, with its combining marks.

    A title without letters and digits has its first character as its initial.
    """
    start = next((at for at, char in enumerate(title) if char.isalnum()), 0)
    initial = first_grapheme(title[start:])
    # Some letters have no capital of one letter: "ß" becomes "SS".
    capital = initial.upper()
    return capital if len(capital) == len(initial) else initial
