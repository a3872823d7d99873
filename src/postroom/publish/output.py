"""Finished files → the output folder, so that nobody ever meets half a file or loses one of theirs.

The folder may hold files of other programs. What is ours stands in a manifest beside them, names
and hashes; all else is left alone. New contents are written to a staging folder first, then each
file takes its place in one step. The manifest is written before and after: a run that is stopped
between two files leaves both the old and the new content known as ours.
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
from postroom.settings import paths

MANIFEST = ".postroom.json"
_STAGING = ".postroom.tmp"
Contents: TypeAlias = bytes | Path
"""A file's bytes, or the file that is copied."""
Owned: TypeAlias = dict[str, tuple[str, ...]]
"""Path below the output → the hashes (SHA-256) of the contents that are ours."""


@frozen
class OutputSummary:
    """How many files a run wrote, found unchanged and removed; what it left alone, and why."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    warnings: tuple[Problem, ...] = Factory(tuple)


@frozen
class _Change:
    """A file that is not yet as it should be."""

    path: str
    data: bytes
    hash: str


def replace_output(folder: Path, files: Mapping[str, Contents]) -> OutputSummary:
    """Make our part of `folder` hold exactly `files`, keyed by their paths below it.

    Raises `OutputError`, with nothing changed, where a file of somebody else is in the way, a path
    leads out of the folder, or another run is writing there.
    """
    problems = [problem for path in files if (problem := _misplaced(path))]
    if problems:
        raise OutputError(problems)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            return _replaced(folder, files)
    except OSError as error:
        name = error.filename or str(folder)
        reason = (error.strerror or "unknown error").lower()
        raise OutputError([Problem(str(name), message=f"cannot be written: {reason}")]) from error


def find_foreign_files(folder: Path) -> Callable[[str], bool]:
    """Return what tells of a path below `folder` whether somebody else's file lies there.

    Raises `OutputError` if what stands for ours cannot be read.
    """
    owned = _read_manifest(folder)

    def lies_there(path: str) -> bool:
        try:
            return path not in owned and ".." not in path.split("/") and (folder / path).is_file()
        except OSError:  # the name is too long for any file
            return False

    return lies_there


def _misplaced(path: str) -> Problem | None:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or not parts or "\0" in path or "\\" in path:
        return Problem(path, message="would lie outside the output folder", hint="rename the post")
    if parts[0] in {MANIFEST, _STAGING}:
        return Problem(path, message="is a name that Postroom keeps for itself", hint="use another")
    # In a folder called .git, git runs what its settings name.
    if paths.hidden_in_public(path):
        repair = "use names that do not begin with '.'"
        return Problem(path, message="is hidden, so no host would serve it", hint=repair)
    return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
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
        what, repair = "another build is writing here", "wait until it has finished"
        raise OutputError([Problem(folder.name, message=what, hint=repair)]) from None


def _replaced(folder: Path, files: Mapping[str, Contents]) -> OutputSummary:
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
        # Also after a failure: a full disk would stay full.
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
        repair = "delete it; files that differ from what is built will then be named"
        problem = Problem(f"{folder.name}/{MANIFEST}", message="is damaged", hint=repair)
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
        what = f"cannot be read: {(error.strerror or 'unknown error').lower()}"
        repair = "replace it with a file that can be read"
        raise OutputError([Problem(path.name, message=what, hint=repair)]) from None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _foreign(folder: Path, path: str, *, changed: bool) -> Problem:
    what = "was changed since Postroom made it" if changed else "was not made by Postroom"
    repair = "move it away, delete it, or build elsewhere"
    return Problem(f"{folder.name}/{path}", message=what, hint=repair)


def _in_the_way(folder: Path, path: str) -> Problem | None:
    """Return what keeps us from `path`: a link, or a file where a folder should be."""
    place = folder
    parts = PurePosixPath(path).parts
    for number, part in enumerate(parts, 1):
        place = place / part
        if place.is_symlink():
            what = "is a symbolic link, and nothing is written through one"
        elif number < len(parts) and place.exists() and not place.is_dir():
            what = "is a file where a folder is needed"
        elif number == len(parts) and place.is_dir():
            what = "is a folder where a file is needed"
        else:
            continue
        name = f"{folder.name}/{place.relative_to(folder).as_posix()}"
        return Problem(name, message=what, hint="move it away, delete it, or build elsewhere")
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
            what = "is no longer made, and was changed by somebody"
            warnings.append(Problem(f"{folder.name}/{path}", message=what, hint="it is left alone"))
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
