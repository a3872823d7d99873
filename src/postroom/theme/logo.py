"""Read the image that `theme.logo` names, for the output and for the pages of the service."""

from __future__ import annotations

from pathlib import Path

from postroom.errors import Problem, SettingsError
from postroom.models import Site
from postroom.settings import paths
from postroom.settings.site import FILE_NAME, IMAGE_HINT, path_problem


def read_logo(site_dir: Path, site: Site) -> bytes | None:
    """Return the bytes of the logo, None if the settings name none or it is not there.

    Raises `SettingsError` if it is no image of the site: a link may lead to any secret.
    """
    path = site.theme.logo
    if not path:
        return None
    what = paths.image_fault(site_dir, path)
    try:
        if not what:
            return (site_dir / path).resolve().read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"cannot be read: {(error.strerror or 'unknown error').lower()}"
    raise SettingsError([logo_problem(site_dir, site, what, IMAGE_HINT)])


def logo_problem(site_dir: Path, site: Site, what: str, repair: str) -> Problem:
    """Return a problem of `theme.logo` on its line."""
    data = (site_dir / FILE_NAME).read_bytes()
    return path_problem(data, "theme.logo", site.theme.logo, what, repair)
