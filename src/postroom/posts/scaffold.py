"""Create a site and new posts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from urllib.parse import quote

from postroom.errors import OutputError, Problem, UseError
from postroom.files import create_file, link_fault, replace_file
from postroom.models import Site
from postroom.posts.front_matter import FENCE
from postroom.settings import paths
from postroom.settings.yaml_reader import forbidden_characters
from postroom.text import slugify

_IGNORING = ".gitignore"
STARTER = Path(__file__).parents[1] / "starter"


def render_starter_files(folder_name: str, today: date) -> Mapping[str, str]:
    """Return the files of a new site, with its name and `today` filled in."""
    shown = "".join(c if c.isprintable() and c not in "-_" else " " for c in folder_name)
    title = " ".join(shown.split()).title() or "Our News"
    values = {"@TITLE@": _quote(title), "@TODAY@": today.isoformat(), "@YEAR@": f"{today.year:04}"}
    files = {}
    for source in sorted(STARTER.rglob("*")):
        if source.is_file():
            name = _fill_in(source.relative_to(STARTER).as_posix(), values)
            files[name.replace("dot-", ".")] = _fill_in(source.read_text("utf-8"), values)
    return files


def _fill_in(text: str, values: Mapping[str, str]) -> str:
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text


def create_site(folder: Path, today: date) -> tuple[str, ...]:
    """Create a site in `folder` and return the names of the files that were written.

    An existing `.gitignore` gets the lines that it is missing. Raises `UseError` and changes
    nothing if any other file of the new site exists already, or if a symbolic link is in its place.
    """
    files = dict(render_starter_files(folder.resolve().name, today))
    problems = [problem for name in files if (problem := _in_the_way(folder, name))]
    if problems:
        raise UseError(problems)
    ignoring = folder / _IGNORING
    before = ignoring.read_bytes() if ignoring.is_file() else b""
    files[_IGNORING] = _missing_lines(before.decode("utf-8", "replace"), files[_IGNORING])
    written = {name: text for name, text in files.items() if text}
    for name, text in written.items():
        _write(folder / name, (before if name == _IGNORING else b"") + text.encode())
    return tuple(written)


def _in_the_way(folder: Path, name: str) -> Problem | None:
    """Return the problem with what is already in the place of the new file `name`, or None."""
    path = folder / name
    if fault := link_fault(folder, path):
        hint = "replace the link, or choose another folder"
        return Problem(str(path), message=fault, hint=hint)
    if path.exists() and not (name == _IGNORING and path.is_file()):
        return Problem(str(path), message="exists already", hint="choose another folder")
    return None


def _missing_lines(there: str, wanted: str) -> str:
    """Return the lines of `wanted` that are missing in `there`, the text of a `.gitignore`."""
    known = {line.strip().strip("/") for line in there.splitlines()}
    missing = [line for line in wanted.splitlines(keepends=True) if line.strip("/\n") not in known]
    if all(line.startswith("#") for line in missing):
        return ""
    opening = "\n" if there and not there.endswith("\n") else ""
    return opening + "".join(missing)


def create_post(site_dir: Path, site: Site, title: str, today: date) -> Path:
    """Write a draft with `title`, dated `today`, with a new id; return its path.

    Raises `UseError` if the title makes no file name or the file exists already.
    """
    title = " ".join(title.split())
    for _, character in forbidden_characters(title):
        message = f"found the character {character}, which no feed can hold"
        raise UseError([Problem("TITLE", message=message, hint="remove it")])
    slug = slugify(title)
    if not slug:
        raise UseError([Problem("TITLE", message=f"found '{title}'", hint="use letters or digits")])
    stem = f"{today.isoformat()}-{slug}"
    path = site_dir / site.posts / f"{stem}.md"
    if os.path.lexists(path):
        message, hint = "exists already", "open it, or choose another title"
        raise UseError([Problem(paths.below(site.posts, path.name), message=message, hint=hint)])
    _write(path, _front_matter(title, today, make_post_id(site, stem)).encode())
    return path


def make_post_id(site: Site, stem: str) -> str:
    """Return the id of a new post: the id of the site, followed by the file name with its date."""
    return site.id + quote(stem)


def _front_matter(title: str, today: date, identity: str) -> str:
    return (
        f"{FENCE}\ntitle: {_quote(title)}\ndate: {today.isoformat()}\nid: {identity}\n"
        f"summary: \ntopics: []\ndraft: true\n{FENCE}\n\n"
    )


def _quote(text: str) -> str:
    """Return one line of text as a double-quoted scalar of YAML 1.2 (§7.3.1)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x7f-\x9f\ufeff]", lambda c: f"\\u{ord(c[0]):04X}", escaped) + '"'


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write = replace_file if path.name == _IGNORING else create_file
        write(path, data)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise OutputError([Problem(str(path), message=f"cannot be written: {reason}")]) from error
