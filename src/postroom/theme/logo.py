"""Reading of the logo that the setting `theme.logo` names."""

from __future__ import annotations

from pathlib import Path

from postroom.errors import Problem, SettingsError
from postroom.models import Site
from postroom.settings import paths
from postroom.settings.site import FILE_NAME, IMAGE_HINT, path_problem


def read_logo(site_dir: Path, site: Site) -> bytes | None:
    """Return the bytes of the logo, None without the setting or the file.

    Raises `SettingsError` if the path is not an image inside the site, for a link may lead to a
    secret.
    """
    path = site.theme.logo
    if not path:
        return None
    message = paths.image_fault(site_dir, path)
    try:
        if not message:
            return (site_dir / path).resolve().read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"cannot be read: {(error.strerror or 'unknown error').lower()}"
    raise SettingsError([logo_problem(site_dir, site, message, IMAGE_HINT)])


def logo_problem(site_dir: Path, site: Site, message: str, hint: str) -> Problem:
    """Return a problem with the setting `theme.logo`, on its line."""
    data = (site_dir / FILE_NAME).read_bytes()
    return path_problem(data, "theme.logo", site.theme.logo, message, hint)
