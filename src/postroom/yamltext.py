"""Hostile YAML → values that remember their place, or the place where it went wrong.

Post heads and settings come from people and from pull requests. PyYAML's own loaders crash on
deep nesting, expand aliases, keep the last of two equal keys and turn `no`, `1.10` and `12:30`
into something else; here the parser's events are read one by one, nothing is expanded, and every
scalar stays the text that was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml
from attrs import field, frozen

_DEPTH = 32
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# XML 1.0 §2.2: what no feed may hold; lone surrogates cannot come out of UTF-8.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@frozen
class Scalar:
    """A piece of text as it was written; `quoted` tells `"no"` from `no`."""

    text: str
    line: int
    column: int
    quoted: bool = False

    @property
    def is_null(self) -> bool:
        """Whether the author wrote nothing, or YAML's word for nothing."""
        return not self.quoted and self.text in _NULLS


@frozen
class Items:
    """A list."""

    values: tuple[Node, ...]
    line: int
    column: int


@frozen
class Table:
    """A mapping; its keys keep their places too."""

    pairs: dict[str, tuple[Scalar, Node]]
    line: int
    column: int


Node: TypeAlias = Scalar | Items | Table


@frozen
class UnreadableError(Exception):
    """The text is not YAML that can be taken safely."""

    line: int
    column: int
    what: str
    repair: str


def forbidden_characters(text: str) -> Iterator[tuple[int, str]]:
    """Yield (offset, `U+000B`) for each character that XML, and so a feed, cannot hold."""
    for match in _FORBIDDEN.finditer(text):
        yield match.start(), f"U+{ord(match.group()):04X}"


def parse(text: str, *, first_line: int = 1, limit: int) -> Node:
    """Read one YAML document of at most `limit` bytes into nodes.

    `first_line` is the line of the file on which `text` begins. An empty text is an empty table.
    Raises `UnreadableError`.
    """
    if len(text.encode()) > limit:
        raise UnreadableError(
            first_line, 1, f"longer than {limit // 1024} KiB", "move the text below the head"
        )
    for offset, name in forbidden_characters(text):
        line = text.count("\n", 0, offset)
        column = offset - text.rfind("\n", 0, offset)
        raise UnreadableError(first_line + line, column, f"found the character {name}", "delete it")
    builder = _Builder(first_line)
    try:
        return builder.document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text, first_line) from None
    except yaml.YAMLError as error:
        raise UnreadableError(first_line, 1, f"not YAML: {error}", "correct it") from None


@frozen
class _Builder:
    """Parser events → nodes, refusing on the way what makes YAML dangerous."""

    first_line: int
    _depth: list[int] = field(factory=lambda: [0])

    def document(self, events: Iterator[yaml.Event]) -> Node:
        node: Node = Table({}, self.first_line, 1)
        seen = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and seen:
                raise self._refused(event, "a second document begins", "keep one, without '---'")
            if isinstance(event, yaml.NodeEvent):
                node, seen = self._node(event, events), True
        return Table({}, node.line, 1) if isinstance(node, Scalar) and node.is_null else node

    def _node(self, event: Any, events: Iterator[yaml.Event]) -> Node:  # noqa: ANN401 - untyped
        if isinstance(event, yaml.AliasEvent):
            raise self._refused(event, f"found the alias *{event.anchor}", "write the value out")
        if event.anchor is not None:
            raise self._refused(event, f"found the anchor &{event.anchor}", "write values out")
        if event.tag is not None and event.tag != "!":
            raise self._refused(event, f"found the tag {event.tag}", "write the value without it")
        line, column = self._place(event)
        if isinstance(event, yaml.ScalarEvent):
            for _, name in forbidden_characters(event.value):
                raise self._refused(event, f"the value holds the character {name}", "delete it")
            return Scalar(event.value, line, column, quoted=bool(event.style))
        self._enter(event)
        if isinstance(event, yaml.SequenceStartEvent):
            node: Node = Items(tuple(self._values(events, yaml.SequenceEndEvent)), line, column)
        else:
            node = Table(self._pairs(events), line, column)
        self._depth[0] -= 1
        return node

    def _values(self, events: Iterator[yaml.Event], end: type[yaml.Event]) -> Iterator[Node]:
        while not isinstance(event := next(events), end):
            yield self._node(event, events)

    def _pairs(self, events: Iterator[yaml.Event]) -> dict[str, tuple[Scalar, Node]]:
        pairs: dict[str, tuple[Scalar, Node]] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events)
            if not isinstance(key, Scalar):
                raise self._refused(event, "a key is a list or a mapping", "write a word as key")
            if key.text == "<<":
                raise self._refused(event, "found the merge key <<", "write the values out")
            if key.text in pairs:
                first = pairs[key.text][0].line
                raise self._refused(
                    event, f"the key '{key.text}' stands on line {first} already", "keep one"
                )
            pairs[key.text] = (key, self._node(next(events), events))
        return pairs

    def _enter(self, event: yaml.Event) -> None:
        self._depth[0] += 1
        if self._depth[0] > _DEPTH:
            raise self._refused(event, f"nested more than {_DEPTH} levels deep", "flatten it")

    def _place(self, event: Any) -> tuple[int, int]:  # noqa: ANN401 - untyped
        mark = event.start_mark
        return self.first_line + mark.line, mark.column + 1

    def _refused(self, event: yaml.Event, what: str, repair: str) -> UnreadableError:
        return UnreadableError(*self._place(event), what, repair)


_EXPLANATIONS = (
    ("mapping values are not allowed", "found ': ' inside a value", "put the value in quotes"),
    ("found unexpected end of stream", "a quote is never closed", "close it"),
    ("could not find expected ':'", "found a line without ': '", "write key: value"),
    ("unknown escape character", "found an unknown escape", "use single quotes, or double the \\"),
    ("expected ',' or ']'", "a list is not closed", "close it with ]"),
    ("expected ',' or '}'", "a mapping is not closed", "close it with }"),
)


def _explained(error: yaml.MarkedYAMLError, text: str, first_line: int) -> UnreadableError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    said = ", ".join(part for part in (error.context, error.problem) if part)
    what, repair = _explanation(said, text.split("\n")[line][column:])
    return UnreadableError(first_line + line, column + 1, what, repair)


def _explanation(said: str, rest: str) -> tuple[str, str]:
    if "cannot start any token" in said:
        if rest.startswith("\t"):
            return "found a tab where YAML wants spaces", "indent with spaces"
        return f"a value begins with '{rest[:1]}'", "put the value in quotes"
    for sign, what, repair in _EXPLANATIONS:
        if sign in said:
            return what, repair
    return f"not YAML: {said}", "correct it"
