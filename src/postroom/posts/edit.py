"""Write an id or a topic into a post without changing anything else."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import evolve

from postroom.errors import ContentError, Problem
from postroom.files import link_fault, replace_file
from postroom.posts.front_matter import FENCE, FrontMatter, parse_front_matter, split_post

_EMPTY_ID = re.compile(
    r"^id[ \t]*:(?:[ \t]*(?:~|null|Null|NULL|\"\"|''))?(?=[ \t]*(?:#.*)?\r?$)", re.MULTILINE
)
_TOPICS = re.compile(r"^topics[ \t]*:.*(?:\n(?:[ \t-](?!--).*|[ \t\r]*)$)*", re.MULTILINE)
_BYTE_ORDER_MARK = "\ufeff"


def write_id(file: Path, name: str, post_id: str) -> None:
    """Write `post_id` into the front matter of the post in `file`, called `name` in messages.

    Raises `ContentError` and leaves the file unchanged if the edit would alter anything else, or if
    the file is a symbolic link.
    """
    if fault := link_fault(file.parent, file):
        hint = f'add id: "{post_id}" to the file that it leads to'
        raise ContentError([Problem(name, key="id", message=fault, hint=hint)])
    before = file.read_bytes()
    after = with_id(before.decode("utf-8"), post_id).encode()
    old, new = _parse(before), _parse(after)
    if _without_id(old) != _without_id(new) or new[0].id != post_id:
        message, hint = "cannot be written here", "add it by hand"
        raise ContentError([Problem(name, 1, key="id", message=message, hint=hint)])
    replace_file(file, after)


def with_id(text: str, post_id: str) -> str:
    """Return the post `text` with the line `id: "…"` at the end of its front matter.

    Front matter is added if there is none. An `id:` without a value is completed instead.
    """
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
    written = text.removeprefix(mark)
    newline = "\r\n" if "\r\n" in written[: written.find("\n") + 1] else "\n"
    line = f'id: "{post_id}"'
    parts = split_post(written)
    if parts is None:
        return text
    if parts.head is None:
        block = newline.join((FENCE, line, FENCE, "", ""))
        return mark + block + written
    head, count = _EMPTY_ID.subn(lambda _: line, parts.head, count=1)
    if not count:
        head = f"{parts.head}{line}{newline}"
    return mark + written[: parts.start] + head + written[parts.end :]


def write_topic(file: Path, written: str, usual: str) -> bool:
    """Replace the topic `written` with `usual` in the front matter of the post in `file`.

    Return False and leave the file unchanged if the edit would alter anything else, or if the file
    is a symbolic link.
    """
    if link_fault(file.parent, file):
        return False
    before = file.read_bytes()
    after = with_topic(before.decode("utf-8"), written, usual).encode()
    old, new = _parse(before), _parse(after)
    expected = dict.fromkeys(usual if name == written else name for name in old[0].topics)
    heads = [evolve(head, topics=(), lines={}) for head, _ in (old, new)]
    same = heads[0] == heads[1] and old[1] == new[1]
    if before == after or not same or new[0].topics != tuple(expected):
        return False
    replace_file(file, after)
    return True


def with_topic(text: str, written: str, usual: str) -> str:
    """Return the post `text` with the topic `written` replaced by `usual` in its `topics:`."""
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
    parts = split_post(text.removeprefix(mark))
    if parts is None or parts.head is None:
        return text
    name = re.compile(rf"(?<![^\s\[,'\"]){re.escape(written)}(?![^\s\],'\"])")
    head = _TOPICS.sub(lambda block: name.sub(lambda _: usual, block[0]), parts.head, count=1)
    start, end = len(mark) + parts.start, len(mark) + parts.end
    return text[:start] + head + text[end:]


def _without_id(post: tuple[FrontMatter, str]) -> tuple[FrontMatter, str]:
    head, body = post
    return evolve(head, id="", lines={}), body.lstrip("\n")


def _parse(data: bytes) -> tuple[FrontMatter, str]:
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    parts = split_post(text)
    if parts is None or parts.head is None:
        return FrontMatter(), text
    head, errors, _ = parse_front_matter(parts.head, "")
    return (FrontMatter(), "") if errors else (head, parts.body)
