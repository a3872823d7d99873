"""Decide which paths a site may name: inside its folder, never hidden, links resolved.

A proposed branch may bring settings, posts and symbolic links. None of them may publish what is
hidden or lies elsewhere, or write there. Each function returns what is wrong, for a sentence that
begins with the path, or nothing. Paths are judged twice: as they are written, and as they resolve.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".avif", ".ico")
"""The endings of images that browsers show."""
NO_IMAGE = "is not called as an image is"


def below(folder: str, path: str) -> str:
    """Return `path`, which counts from `folder` of the site, as it counts from the site."""
    return path if folder == "." else f"{folder}/{path}"


def hidden_step(path: str) -> str:
    """Return the first step of `path` that begins with a dot, or nothing; `.` is no step."""
    return next((step for step in PurePosixPath(path).parts if step.startswith(".")), "")


def hidden(path: str) -> str:
    """Tell that `path` has a hidden step."""
    step = hidden_step(path)
    return f"leads to the hidden '{step}'" if step else ""


def hidden_in_public(path: str) -> str:
    """Tell that `path`, which counts from the output folder, has a step that no host serves."""
    # RFC 8615 §3: one hidden name is public.
    return hidden(path.removeprefix("/").removeprefix(".well-known/"))


def astray(site: Path, path: Path) -> str:
    """Tell whether `path` resolves to what is hidden or lies outside of the folder `site`."""
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(site))
    if not real.is_relative_to(home):
        return "leads out of the site"
    return hidden(real.relative_to(home).as_posix())


def image_fault(site: Path, path: str) -> str:
    """Tell why the image at `path` may not be published; one that is not there may be."""
    if fault := astray(site, site / path):
        return fault
    real = Path(os.path.realpath(site / path))
    if os.path.lexists(real) and not real.is_file():  # a loop of links resolves to a link
        return "is no file"
    return "" if real.name.lower().endswith(IMAGES) else f"is a link to a file that {NO_IMAGE}"


def output_fault(site: Path, folder: Path, sources: Iterable[str]) -> str:
    """Tell why output may not go into `folder`.

    `sources` are folders of the site that output may not lie in. A folder outside of the site is
    fine unless a link of the site leads there.
    """
    real, home = Path(os.path.realpath(folder)), Path(os.path.realpath(site))
    if home.is_relative_to(real):
        return "holds the site itself"
    inside = _is_inside(site, folder) or real.is_relative_to(home)
    if inside and (fault := astray(site, folder)):
        return fault
    for name in sources:
        if real.is_relative_to(os.path.realpath(home / name)):
            return f"lies in {name}/, among the sources"
    # Git takes settings from such a directory, and runs the programs that they name.
    if (real / ".git").is_dir() or any(map(_is_git_directory, (real, *real.parents))):
        return "is, holds or lies in a git directory"
    return ""


def _is_inside(site: Path, folder: Path) -> bool:
    """Tell whether `folder` is written as a path of the site; links count for nothing here."""
    return Path(os.path.abspath(folder)).is_relative_to(os.path.abspath(site))  # noqa: PTH100 - a Path does not take `..` away


def _is_git_directory(folder: Path) -> bool:
    """Tell whether git would take `folder` for a repository (gitrepository-layout(5))."""
    if not os.path.lexists(folder / "HEAD"):
        return False
    whole = (folder / "objects").is_dir() and (folder / "refs").is_dir()
    return whole or (folder / "commondir").is_file()
