"""Decide which paths a site may use: those inside its folder that are not hidden.

A pull request may contain settings, posts and symbolic links. They must neither publish nor
overwrite files that are hidden or outside the site. The functions that check a path return what is
wrong with it, as the rest of a sentence that begins with the path, or an empty string. Paths are
checked twice: as written, and with symbolic links resolved.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".avif", ".ico")
"""The file name suffixes of images that browsers can show."""
NO_IMAGE = "has no ending of an image"


def below(folder: str, path: str) -> str:
    """Return `path`, which is relative to `folder`, as a path relative to the site."""
    return path if folder == "." else f"{folder}/{path}"


def hidden_segment(path: str) -> str:
    """Return the first segment of `path` that begins with a dot, or an empty string.

    The segment `.` is not hidden.
    """
    return next((part for part in PurePosixPath(path).parts if part.startswith(".")), "")


def hidden(path: str) -> str:
    """Return what is wrong with `path` if it has a hidden segment."""
    segment = hidden_segment(path)
    return f"leads to the hidden '{segment}'" if segment else ""


def hidden_in_public(path: str) -> str:
    """Return what is wrong with `path`, a file of the output, if no web host would serve it."""
    # RFC 8615 §3: this hidden folder is public.
    return hidden(path.removeprefix("/").removeprefix(".well-known/"))


def astray(site: Path, path: Path) -> str:
    """Return what is wrong with `path` if it resolves to a hidden file or leads out of `site`."""
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(site))
    if not real.is_relative_to(home):
        return "leads out of the site"
    return hidden(real.relative_to(home).as_posix())


def image_fault(site: Path, path: str) -> str:
    """Return why the image at `path` must not be published, or an empty string.

    A missing file is not a fault.
    """
    if fault := astray(site, site / path):
        return fault
    real = Path(os.path.realpath(site / path))
    if os.path.lexists(real) and not real.is_file():  # links in a circle resolve to a link
        return "is not a file"
    return "" if real.name.lower().endswith(IMAGES) else f"is a link to a file that {NO_IMAGE}"


def output_fault(site: Path, folder: Path, sources: Iterable[str]) -> str:
    """Return why output must not be written into `folder`, or an empty string.

    `sources` are folders of the site that must not contain `folder`. A folder outside the site is
    allowed unless a symbolic link inside the site leads there.
    """
    real, home = Path(os.path.realpath(folder)), Path(os.path.realpath(site))
    if home.is_relative_to(real):
        return "contains the site itself"
    inside = _is_inside(site, folder) or real.is_relative_to(home)
    if inside and (fault := astray(site, folder)):
        return fault
    for name in sources:
        if real.is_relative_to(os.path.realpath(home / name)):
            return f"is inside {name}/, a folder of sources"
    # Git reads settings from such a directory and runs the programs that they name.
    if (real / ".git").is_dir() or any(map(_is_git_directory, (real, *real.parents))):
        return "is, contains or is inside a git directory"
    return ""


def _is_inside(site: Path, folder: Path) -> bool:
    """Tell whether `folder`, as written, is inside the site; symbolic links are not resolved."""
    return Path(os.path.abspath(folder)).is_relative_to(os.path.abspath(site))  # noqa: PTH100 - a Path does not remove `..`


def _is_git_directory(folder: Path) -> bool:
    """Tell whether git would use `folder` as a repository (gitrepository-layout(5))."""
    if not os.path.lexists(folder / "HEAD"):
        return False
    is_complete = (folder / "objects").is_dir() and (folder / "refs").is_dir()
    return is_complete or (folder / "commondir").is_file()
