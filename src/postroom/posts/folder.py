"""`posts/` on disk → its texts and the files beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import imagesize
from attrs import Factory, frozen

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


def scan(newsroom: Path, posts: str) -> Folder:
    """Read what lies under the folder `posts`; links that lead out of the newsroom are problems."""
    texts: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    problems: list[Problem] = []
    root = newsroom / posts
    if not root.is_dir():
        problems.append(Problem(posts, what="is not a folder", repair="make it, or set posts:"))
    for entry in _files(root):
        path = Path(entry.path).relative_to(root).as_posix()
        try:
            if entry.is_symlink() and not _inside(Path(entry.path), newsroom):
                problems.append(_unreadable(posts, path, "is a link out of the newsroom"))
            elif path.endswith(_SUFFIXES):
                texts[path] = Path(entry.path).read_bytes()
            else:
                sizes[path] = entry.stat().st_size
        except OSError as error:
            reason = (error.strerror or "unknown error").lower()
            problems.append(_unreadable(posts, path, f"cannot be read: {reason}"))
    return Folder(texts, sizes, tuple(problems), root)


def _unreadable(posts: str, path: str, what: str) -> Problem:
    return Problem(f"{posts}/{path}", what=what, repair="replace it with a file that can be read")


def _inside(path: Path, newsroom: Path) -> bool:
    return path.resolve().is_relative_to(newsroom.resolve())


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_symlink() or entry.is_file():
            yield entry
