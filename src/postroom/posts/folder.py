"""`posts/` on disk → its texts and the files beside them."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import imagesize
from attrs import Factory, evolve, frozen

from postroom import sitepaths
from postroom.errors import Problem

_SUFFIXES = (".md", ".markdown")
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".avif", ".tif", ".tiff")


@frozen
class Folder:
    """What lies under `posts/`: paths from there, with forward slashes."""

    texts: Mapping[str, bytes]
    sizes: Mapping[str, int] = Factory(dict)
    problems: tuple[Problem, ...] = ()
    root: Path = Path()

    def pixels(self, path: str) -> tuple[int, int]:
        """Return width and height of the picture at `path`, zeros if it is none."""
        if not path.lower().endswith(_PICTURES):
            return 0, 0
        try:
            width, height = imagesize.get(self.root / path)
        except (OSError, ValueError):
            return 0, 0
        return max(0, int(width)), max(0, int(height))


def scan(newsroom: Path, posts: str, output: str = "") -> Folder:
    """Read what lies under the folder `posts`, but not under `output`.

    Links that lead out of the site or to what is hidden are problems.
    """
    texts: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    problems: list[Problem] = []
    root = newsroom / posts
    if not root.is_dir():
        repair = "make it, or write where the posts are as posts: in postroom.yaml"
        return Folder({}, problems=(Problem(posts, what="is not a folder", repair=repair),))
    for path in sorted(_files(root, _left_out(newsroom, root, output), problems)):
        try:
            if why := _unfit(root / path, newsroom):
                problems.append(_unreadable(path, why))
            elif path.lower().endswith(_SUFFIXES):
                texts[path] = (root / path).read_bytes()
            else:
                sizes[path] = (root / path).stat().st_size
        except OSError as error:
            problems.append(_unreadable(path, _reason(error)))
    named = (evolve(one, path=sitepaths.below(posts, one.path)) for one in problems)
    return Folder(texts, sizes, tuple(named), root)


def _left_out(newsroom: Path, root: Path, output: str) -> frozenset[str]:
    """Return the output folder as it may be met under `root`: a link, and where that leads."""
    if not output:
        return frozenset()
    home, real = os.path.realpath(newsroom), os.path.realpath(root)
    places = (posixpath.join(home, output), os.path.realpath(newsroom / output))
    return frozenset(posixpath.relpath(place, real) for place in places)


def _files(root: Path, left_out: Collection[str], problems: list[Problem]) -> Iterator[str]:
    """Yield the path of each file under `root`; what cannot be listed goes to `problems`."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            problems.append(_unreadable(folder, _reason(error)))
            continue
        for entry in entries:
            path = posixpath.join(folder, entry.name)
            if entry.name.startswith((".", "_")) or path in left_out:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            else:
                yield path


def _unfit(path: Path, newsroom: Path) -> str:
    """Tell why the file at `path` is not read; nothing if it may be."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    # What is hidden is nobody's news: the database, and git's own files.
    if path.is_symlink() and (fault := sitepaths.astray(newsroom, path)):
        return fault
    return "" if stat.S_ISREG(path.stat().st_mode) else "is no file"


def _reason(error: OSError) -> str:
    return f"cannot be read: {(error.strerror or 'unknown error').lower()}"


def _unreadable(path: str, what: str) -> Problem:
    return Problem(path, what=what, repair="replace it with a file that can be read")
