"""Make a newsroom, and write a new post in one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from attrs import evolve

from postroom import frontmatter, sitepaths
from postroom.errors import ContentError, OutputError, Problem, UseError
from postroom.frontmatter import slugify
from postroom.model import Site
from postroom.yamltext import forbidden_characters

_EMPTY_ID = re.compile(
    r"^id[ \t]*:(?:[ \t]*(?:~|null|Null|NULL|\"\"|''))?(?=[ \t]*(?:#.*)?\r?$)", re.MULTILINE
)
_TOPICS = re.compile(r"^topics[ \t]*:.*(?:\n(?:[ \t-](?!--).*|[ \t\r]*)$)*", re.MULTILINE)
_IGNORING = ".gitignore"
STARTER = Path(__file__).parent / "starter"


def starter_files(folder_name: str, today: date) -> Mapping[str, str]:
    """Return the files of a new newsroom, with its name and the day filled in."""
    shown = "".join(c if c.isprintable() and c not in "-_" else " " for c in folder_name)
    title = " ".join(shown.split()).title() or "Our News"
    values = {"@TITLE@": _quoted(title), "@TODAY@": today.isoformat(), "@YEAR@": f"{today.year:04}"}
    files = {}
    for source in sorted(STARTER.rglob("*")):
        if source.is_file():
            name = _filled(source.relative_to(STARTER).as_posix(), values)
            files[name.replace("dot-", ".")] = _filled(source.read_text("utf-8"), values)
    return files


def _filled(text: str, values: Mapping[str, str]) -> str:
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text


def init(folder: Path, today: date) -> tuple[str, ...]:
    """Make a newsroom in `folder` and return the names of the files that were written.

    A `.gitignore` that is there already gets the lines that it lacks. Raises `UseError`, with
    nothing changed, if another of the files is there.
    """
    files = dict(starter_files(folder.resolve().name, today))
    ignoring = folder / _IGNORING
    extended = ignoring.is_file()
    there = [name for name in files if (folder / name).exists()]
    if extended:
        there.remove(_IGNORING)
        before = ignoring.read_text("utf-8", "replace")
        files[_IGNORING] = _lines_lacking(before, files[_IGNORING])
    if there:
        repair = "choose another folder"
        raise UseError(
            Problem(str(folder / name), what="is there already", repair=repair) for name in there
        )
    written = {name: text for name, text in files.items() if text}
    for name, text in written.items():
        _write(folder / name, text, mode="a")
    return tuple(written)


def _lines_lacking(there: str, wanted: str) -> str:
    """Return what to add to a `.gitignore` so that it has every line that is wanted."""
    known = {line.strip().strip("/") for line in there.splitlines()}
    lacking = [line for line in wanted.splitlines(keepends=True) if line.strip("/\n") not in known]
    if all(line.startswith("#") for line in lacking):
        return ""
    opening = "\n" if there and not there.endswith("\n") else ""
    return opening + "".join(lacking)


def new_post(newsroom: Path, site: Site, title: str, today: date) -> Path:
    """Write a draft with `title`, dated `today`, with an id of its own; return where it lies.

    Raises `UseError` if the title makes no file name, or the file is there already.
    """
    title = " ".join(title.split())
    for _, character in forbidden_characters(title):
        what = f"found the character {character}, which no feed can hold"
        raise UseError([Problem("TITLE", what=what, repair="leave it out")])
    slug = slugify(title)
    if not slug:
        raise UseError([Problem("TITLE", what=f"found '{title}'", repair="use letters or digits")])
    stem = f"{today.isoformat()}-{slug}"
    path = newsroom / site.posts / f"{stem}.md"
    if path.exists():
        what, repair = "is there already", "open it, or choose another title"
        raise UseError([Problem(sitepaths.below(site.posts, path.name), what=what, repair=repair)])
    _write(path, _head(title, today, minted_id(site, stem)))
    return path


def minted_id(site: Site, stem: str) -> str:
    """Return the id for a new post, readable and never made again on another day."""
    return site.id + quote(stem)


def write_id(file: Path, name: str, identity: str) -> None:
    """Write `identity` into the head of the post in `file`, called `name` in messages.

    Every other byte stays as it is. Raises `ContentError`, with the file unchanged, if that cannot
    be done.
    """
    before = file.read_bytes()
    after = with_id(before.decode("utf-8"), identity).encode()
    if _without_id(after) != _without_id(before) or _parted(after)[0].id != identity:
        problem = Problem(name, 1, key="id", what="cannot be written here", repair="add it by hand")
        raise ContentError([problem])
    _replace(file, after)


def _replace(file: Path, after: bytes) -> None:
    target = file.resolve()
    staged = target.with_name(f".{target.name}.tmp")
    try:
        staged.write_bytes(after)
        shutil.copymode(target, staged)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


def with_id(text: str, identity: str) -> str:
    """Return the post `text` with the line `id: "…"` at the end of its front matter.

    A post without front matter gets one; an `id:` without a value gets its value.
    """
    mark, body = (text[:1], text[1:]) if text.startswith("\ufeff") else ("", text)
    end = "\r\n" if "\r\n" in body[: body.find("\n") + 1] else "\n"
    line = f'id: "{identity}"'
    opening = re.match(r"---[ \t]*\r?\n", body)
    if not opening:
        return f"{mark}---{end}{line}{end}---{end}{end}{body}"
    closing = re.compile(r"^---[ \t]*\r?$", re.MULTILINE).search(body, opening.end())
    if not closing:
        return text
    head = body[opening.end() : closing.start()]
    filled, count = _EMPTY_ID.subn(line, head, count=1)
    if not count:
        filled = f"{head}{line}{end}"
    return mark + body[: opening.end()] + filled + body[closing.start() :]


def write_topic(file: Path, written: str, usual: str) -> bool:
    """Write the topic `usual` instead of `written` in the head of the post in `file`.

    Every other byte stays as it is. Returns False, with the file unchanged, if that cannot be done.
    """
    before = file.read_bytes()
    after = with_topic(before.decode("utf-8"), written, usual).encode()
    old, new = _parted(before), _parted(after)
    meant = dict.fromkeys(usual if name == written else name for name in old[0].topics)
    heads = [evolve(head, topics=(), lines={}) for head, _ in (old, new)]
    same = heads[0] == heads[1] and old[1] == new[1]
    if before == after or not same or new[0].topics != tuple(meant):
        return False
    _replace(file, after)
    return True


def with_topic(text: str, written: str, usual: str) -> str:
    """Return the post `text` with `usual` where its `topics:` say `written`."""
    block = _TOPICS.search(text)
    if not block:
        return text
    name = re.compile(rf"(?<![^\s\[,'\"]){re.escape(written)}(?![^\s\],'\"])")
    replaced = name.sub(lambda _: usual, block[0])
    return text[: block.start()] + replaced + text[block.end() :]


def _without_id(data: bytes) -> tuple[frontmatter.Head, str]:
    head, body = _parted(data)
    return evolve(head, id="", lines={}), body.lstrip("\n")


def _parted(data: bytes) -> tuple[frontmatter.Head, str]:
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    parts = frontmatter.split(text)
    if parts is None or parts.head is None:
        return frontmatter.Head(), text
    head, errors, _ = frontmatter.read(parts.head, "")
    return (frontmatter.Head(), "") if errors else (head, parts.body)


def _head(title: str, today: date, identity: str) -> str:
    return (
        f"---\ntitle: {_quoted(title)}\ndate: {today.isoformat()}\nid: {identity}\n"
        "summary: \ntopics: []\ndraft: true\n---\n\n"
    )


def _quoted(text: str) -> str:
    """Return one line of text as YAML 1.2 quotes it (§7.3.1); what may not stand raw is escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x7f-\x9f\ufeff]", lambda c: f"\\u{ord(c[0]):04X}", escaped) + '"'


def _write(path: Path, text: str, mode: Literal["w", "a"] = "w") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise OutputError([Problem(str(path), what=f"cannot be written: {reason}")]) from error
