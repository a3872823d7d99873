"""Make a newsroom, and write a new post in one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from attrs import evolve

from postroom.errors import ContentError, Problem
from postroom.posts import front_matter

_EMPTY_ID = re.compile(
    r"^id[ \t]*:(?:[ \t]*(?:~|null|Null|NULL|\"\"|''))?(?=[ \t]*(?:#.*)?\r?$)", re.MULTILINE
)
_TOPICS = re.compile(r"^topics[ \t]*:.*(?:\n(?:[ \t-](?!--).*|[ \t\r]*)$)*", re.MULTILINE)


def write_id(file: Path, name: str, identity: str) -> None:
    """Write `identity` into the head of the post in `file`, called `name` in messages.

    Every other byte stays as it is. Raises `ContentError`, with the file unchanged, if that cannot
    be done.
    """
    before = file.read_bytes()
    after = with_id(before.decode("utf-8"), identity).encode()
    if _without_id(after) != _without_id(before) or _parted(after)[0].id != identity:
        problem = Problem(
            name, 1, key="id", message="cannot be written here", hint="add it by hand"
        )
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


def _without_id(data: bytes) -> tuple[front_matter.FrontMatter, str]:
    head, body = _parted(data)
    return evolve(head, id="", lines={}), body.lstrip("\n")


def _parted(data: bytes) -> tuple[front_matter.FrontMatter, str]:
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    parts = front_matter.split_post(text)
    if parts is None or parts.head is None:
        return front_matter.FrontMatter(), text
    head, errors, _ = front_matter.parse_front_matter(parts.head, "")
    return (front_matter.FrontMatter(), "") if errors else (head, parts.body)
