"""Write the output folder: each file atomically, and only files that Postroom made.

The folder may hold files of other programs. A manifest lists the paths and hashes of Postroom's
own files; other files are never changed. New files are written to a staging folder first and then
renamed. The manifest is written twice: before the files are renamed, with the old and the new
hashes, and afterwards with the new ones. So it is right even if a run is stopped between two files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from attrs import Factory, frozen

from postroom.errors import OutputError, Problem
from postroom.files import NOT_FOLLOWED
from postroom.settings import paths

MANIFEST = ".postroom.json"
_STAGING = ".postroom.tmp"
_MOVE_IT = "move it away, delete it, or build elsewhere"
Contents: TypeAlias = bytes | Path
"""A file's bytes, or the file that is copied."""
Owned: TypeAlias = dict[str, tuple[str, ...]]
"""The SHA-256 hashes of each file of Postroom's own, by its path below the output folder."""


@frozen
class OutputSummary:
    """The counts of files that a build wrote, left unchanged and removed, and its warnings."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    warnings: tuple[Problem, ...] = Factory(tuple)


@frozen
class _Change:
    """A file of the output that is new or has changed."""

    path: str
    data: bytes
    hash: str


def replace_output(folder: Path, files: Mapping[str, Contents]) -> OutputSummary:
    """Write `files`, keyed by their paths below `folder`, and remove Postroom's other files.

    Raises `OutputError`, with nothing changed, if a file of another program is in the way, a path
    leads out of the folder, or another run is writing there.
    """
    problems = [problem for path in files if (problem := _misplaced(path))]
    if problems:
        raise OutputError(problems)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            return _replace(folder, files)
    except OSError as error:
        name = error.filename or str(folder)
        reason = (error.strerror or "unknown error").lower()
        raise OutputError([Problem(str(name), message=f"cannot be written: {reason}")]) from error


def find_foreign_files(folder: Path) -> Callable[[str], bool]:
    """Return a function that tells whether a path below `folder` is a file of another program.

    Raises `OutputError` if the manifest cannot be read.
    """
    owned = _read_manifest(folder)

    def is_foreign(path: str) -> bool:
        try:
            return path not in owned and ".." not in path.split("/") and (folder / path).is_file()
        except OSError:  # the name is too long for any file
            return False

    return is_foreign


def _misplaced(path: str) -> Problem | None:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or not parts or "\0" in path or "\\" in path:
        return Problem(path, message="would lie outside the output folder", hint="rename the post")
    if parts[0] in {MANIFEST, _STAGING}:
        return Problem(path, message="is a name that Postroom reserves", hint="use another")
    # Git runs the programs that the settings in a folder called .git name.
    if paths.hidden_in_public(path):
        hint = "use names that do not begin with '.'"
        return Problem(path, message="is hidden, so no host would serve it", hint=hint)
    return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message, hint = "another build is writing here", "wait until it has finished"
        raise OutputError([Problem(folder.name, message=message, hint=hint)]) from None


def _replace(folder: Path, files: Mapping[str, Contents]) -> OutputSummary:
    for own in (MANIFEST, f"{_STAGING}/manifest"):
        if problem := _in_the_way(folder, own):
            raise OutputError([problem])
    owned = _read_manifest(folder)
    changes, wanted, problems = _compare(folder, files, owned)
    if problems:
        raise OutputError(problems)
    gone, warnings = _no_longer_made(folder, wanted, owned)
    try:
        if changes or gone:
            _stage(folder, changes)
            _write_manifest(folder, _merged(owned, wanted))
            for number, change in enumerate(changes):
                target = folder / change.path
                target.parent.mkdir(parents=True, exist_ok=True)
                (folder / _STAGING / str(number)).replace(target)
            for path in gone:
                _remove(folder, path)
        _write_manifest(folder, {path: (hash_,) for path, hash_ in wanted.items()})
    finally:
        # Also after a failure, so that a full disk does not stay full.
        shutil.rmtree(folder / _STAGING, ignore_errors=True)
    unchanged = len(files) - len(changes)
    return OutputSummary(len(changes), unchanged, len(gone), tuple(warnings))


def _read_manifest(folder: Path) -> Owned:
    try:
        read = json.loads((folder / MANIFEST).read_bytes())
        return {str(path): tuple(map(str, hashes)) for path, hashes in read["files"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        hint = "delete it; the next build will name the files that differ"
        problem = Problem(f"{folder.name}/{MANIFEST}", message="is damaged", hint=hint)
        raise OutputError([problem]) from None


def _write_manifest(folder: Path, owned: Owned) -> None:
    lines = {path: list(hashes) for path, hashes in sorted(owned.items())}
    data = (json.dumps({"files": lines}, indent=0, ensure_ascii=False) + "\n").encode()
    target = folder / MANIFEST
    if target.is_file() and target.read_bytes() == data:
        return
    staged = folder / _STAGING / "manifest"
    staged.parent.mkdir(exist_ok=True)
    staged.write_bytes(data)
    staged.replace(target)


def _merged(owned: Owned, wanted: Mapping[str, str]) -> Owned:
    merged = dict(owned)
    for path, hash_ in wanted.items():
        merged[path] = tuple(dict.fromkeys((*owned.get(path, ()), hash_)))
    return merged


def _compare(
    folder: Path, files: Mapping[str, Contents], owned: Owned
) -> tuple[list[_Change], dict[str, str], list[Problem]]:
    changes: list[_Change] = []
    wanted: dict[str, str] = {}
    problems: list[Problem] = []
    for path, contents in files.items():
        data = contents if isinstance(contents, bytes) else _source(contents)
        wanted[path] = _hash(data)
        if problem := _in_the_way(folder, path):
            problems.append(problem)
            continue
        target = folder / path
        there = target.read_bytes() if target.is_file() else None
        if there is None:
            changes.append(_Change(path, data, wanted[path]))
        elif there != data:
            if _hash(there) in owned.get(path, ()):
                changes.append(_Change(path, data, wanted[path]))
            else:
                problems.append(_foreign(folder, path, changed=path in owned))
    return changes, wanted, problems


def _source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"cannot be read: {(error.strerror or 'unknown error').lower()}"
        hint = "replace it with a file that can be read"
        raise OutputError([Problem(path.name, message=message, hint=hint)]) from None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _foreign(folder: Path, path: str, *, changed: bool) -> Problem:
    message = "was changed since Postroom made it" if changed else "was not made by Postroom"
    return Problem(f"{folder.name}/{path}", message=message, hint=_MOVE_IT)


def _in_the_way(folder: Path, path: str) -> Problem | None:
    """Return the problem that prevents writing `path`, such as a symbolic link, or None."""
    place = folder
    parts = PurePosixPath(path).parts
    for number, part in enumerate(parts, 1):
        place = place / part
        if place.is_symlink():
            message = f"is a symbolic link, {NOT_FOLLOWED}"
        elif number < len(parts) and place.exists() and not place.is_dir():
            message = "is a file where a folder is needed"
        elif number == len(parts) and place.is_dir():
            message = "is a folder where a file is needed"
        else:
            continue
        name = f"{folder.name}/{place.relative_to(folder).as_posix()}"
        return Problem(name, message=message, hint=_MOVE_IT)
    return None


def _no_longer_made(
    folder: Path, wanted: Mapping[str, str], owned: Owned
) -> tuple[list[str], list[Problem]]:
    gone, warnings = [], []
    for path, hashes in owned.items():
        target = folder / path
        if path in wanted or _misplaced(path) or _in_the_way(folder, path) or not target.is_file():
            continue
        if _hash(target.read_bytes()) in hashes:
            gone.append(path)
        else:
            message = "was changed and is no longer made"
            hint = "delete it if nobody needs it"
            warnings.append(Problem(f"{folder.name}/{path}", message=message, hint=hint))
    return gone, warnings


def _stage(folder: Path, changes: list[_Change]) -> None:
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    for number, change in enumerate(changes):
        (staging / str(number)).write_bytes(change.data)


def _remove(folder: Path, path: str) -> None:
    target = folder / path
    target.unlink(missing_ok=True)
    for parent in target.parents:
        if parent == folder or any(parent.iterdir()):
            return
        parent.rmdir()
