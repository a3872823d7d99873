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
# YAML 1.1 §5.1: what its parsers refuse besides.
_UNPRINTABLE = re.compile(rf"{_FORBIDDEN.pattern}|[\x7f-\x84\x86-\x9f]")
# YAML 1.1 §5.4: it ends a line at these as well, which no editor shows and no author means.
_BLANKS = str.maketrans("\x85\u2028\u2029", "   ")


_QUOTE_IT = "put the value in quotes"
_WRITE_OUT = f"write the value out, or {_QUOTE_IT}"
_WORD = f"write a word as key, or {_QUOTE_IT}"


@frozen
class ScalarNode:
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
class ListNode:
    """A list."""

    values: tuple[Node, ...]
    line: int
    column: int


@frozen
class MapNode:
    """A mapping; its keys keep their places too."""

    pairs: dict[str, tuple[ScalarNode, Node]]
    line: int
    column: int


Node: TypeAlias = ScalarNode | ListNode | MapNode


@frozen
class YamlError(Exception):
    """The text is not YAML that can be taken safely."""

    line: int
    column: int
    message: str
    hint: str


def forbidden_characters(
    text: str, among: re.Pattern[str] = _FORBIDDEN
) -> Iterator[tuple[int, str]]:
    """Yield (offset, `U+000B`) for each character that XML, and so a feed, cannot hold."""
    for match in among.finditer(text):
        yield match.start(), f"U+{ord(match.group()):04X}"


def line_and_column(offset: int, text: str) -> tuple[int, int]:
    """Return the line and the column, counted from 1, at which `offset` stands in `text`."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def parse(text: str, *, first_line: int = 1, limit: int) -> Node:
    """Read one YAML document of at most `limit` bytes into nodes.

    `first_line` is the line of the file on which `text` begins. An empty text is an empty table.
    Raises `UnreadableError`.
    """
    if len(text.encode(errors="surrogatepass")) > limit:
        raise YamlError(first_line, 1, f"longer than {limit // 1024} KiB", "shorten it")
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_BLANKS)
    for offset, name in forbidden_characters(text, _UNPRINTABLE):
        line, column = line_and_column(offset, text)
        raise YamlError(first_line + line - 1, column, f"found the character {name}", "delete it")
    builder = _Builder(first_line)
    try:
        return builder.document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text, first_line) from None
    except yaml.YAMLError as error:
        raise YamlError(first_line, 1, f"not YAML: {error}", "correct it") from None


@frozen
class _Builder:
    """Parser events → nodes, refusing on the way what makes YAML dangerous."""

    first_line: int
    _depth: list[int] = field(factory=lambda: [0])

    def document(self, events: Iterator[yaml.Event]) -> Node:
        node: Node = MapNode({}, self.first_line, 1)
        seen = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and seen:
                raise self._refused(event, "a second document begins", "keep one, without '---'")
            if isinstance(event, yaml.NodeEvent):
                node, seen = self._node(event, events), True
        return MapNode({}, node.line, 1) if isinstance(node, ScalarNode) and node.is_null else node

    def _node(self, event: Any, events: Iterator[yaml.Event]) -> Node:  # noqa: ANN401 - untyped
        if isinstance(event, yaml.AliasEvent):
            raise self._refused(event, f"found the alias *{event.anchor}", _WRITE_OUT)
        if event.anchor is not None:
            raise self._refused(event, f"found the anchor &{event.anchor}", _WRITE_OUT)
        if event.tag is not None and event.tag != "!":
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._refused(event, f"found the tag {tag}", "delete it, or quote the value")
        line, column = self._place(event)
        if isinstance(event, yaml.ScalarEvent):
            for _, name in forbidden_characters(event.value):
                raise self._refused(event, f"the value holds the character {name}", "delete it")
            return ScalarNode(event.value, line, column, quoted=bool(event.style))
        self._enter(event)
        if isinstance(event, yaml.SequenceStartEvent):
            node: Node = ListNode(tuple(self._values(events, yaml.SequenceEndEvent)), line, column)
        else:
            node = MapNode(self._pairs(events), line, column)
        self._depth[0] -= 1
        return node

    def _values(self, events: Iterator[yaml.Event], end: type[yaml.Event]) -> Iterator[Node]:
        while not isinstance(event := next(events), end):
            yield self._node(event, events)

    def _pairs(self, events: Iterator[yaml.Event]) -> dict[str, tuple[ScalarNode, Node]]:
        pairs: dict[str, tuple[ScalarNode, Node]] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events)
            if not isinstance(key, ScalarNode):
                raise self._refused(event, "a key is a list or a mapping", _WORD)
            if key.text == "<<":
                raise self._refused(event, "found the merge key <<", "write the keys out")
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

    def _refused(self, event: yaml.Event, what: str, repair: str) -> YamlError:
        return YamlError(*self._place(event), what, repair)


_EXPLANATIONS = (
    ("tab character", "found a tab where YAML wants spaces", "indent with spaces"),
    ("mapping values are not allowed", "found ': ' inside a value", _QUOTE_IT),
    ("could not find expected ':'", "found a line without ': '", "write key: value"),
    ("escape", "found an unknown escape", "use single quotes, or double the \\"),
    ("hexdecimal number", "found an unknown escape", "use single quotes, or double the \\"),
    ("scanning a block scalar", "text follows '|' or '>'", f"begin it below, or {_QUOTE_IT}"),
    ("node content", "a value is missing", "write one, or ''"),
    ("sequence entries", "a list begins inside a line", f"begin it below, or {_QUOTE_IT}"),
    ("mapping keys", "a value begins with '?'", _QUOTE_IT),
    ("tag handle", "a value begins with '!'", _QUOTE_IT),
    ("expected '-' indicator", "a list goes on without '- '", "write - value, or indent it"),
    ("expected key", "this is no key", "write key: value, in the column of the other keys"),
    ("document start", "this is left of the first key", "begin all keys in one column"),
    ("directive", "a line begins with '%'", "delete it"),
)
# What is wrong at its beginning, though the parser met the trouble later.
_OPENINGS = (
    ("scanning a quoted scalar", "a quote is never closed", "close it"),
    ("expected ',' or ']'", "a list is not closed, or a comma is missing", "write [one, two]"),
    ("expected ',' or '}'", "a mapping is not closed, or a comma is missing", "write {a: b, c: d}"),
    ("scanning an alias", "a value begins with '*'", _QUOTE_IT),
    ("scanning an anchor", "a value begins with '&'", _QUOTE_IT),
    ("ing a tag", "a value begins with '!'", _QUOTE_IT),
)


def _explained(error: yaml.MarkedYAMLError, text: str, first_line: int) -> YamlError:
    said = ", ".join(part for part in (error.context, error.problem) if part)
    opening = next((rest for sign, *rest in _OPENINGS if sign in said), None)
    mark = error.context_mark if opening else error.problem_mark or error.context_mark
    offset = mark.index if mark else 0
    line, column = line_and_column(offset, text)
    what, repair = opening or _explanation(said, text[offset - column + 1 : offset], text[offset:])
    if "node content" in said or "expected ','" in said:
        hidden = _comment_near(offset, text)
        if hidden is not None:
            line, column = line_and_column(hidden, text)
            what, repair = "'#' begins a comment", _QUOTE_IT
    return YamlError(first_line + line - 1, column, what, repair)


def _comment_near(offset: int, text: str) -> int | None:
    """Return where a comment begins on the line of `offset`, or on the last one before it."""
    rest = text[offset:].partition("\n")[0]
    last = text[:offset] + rest if rest.strip() else text[:offset].rstrip()
    found = last.rfind(" #", last.rfind("\n") + 1)
    return found + 1 if found >= 0 else None


def _explanation(said: str, before: str, rest: str) -> tuple[str, str]:
    if "cannot start any token" in said and not rest.startswith("\t"):
        return f"a value begins with '{rest[:1]}'", _QUOTE_IT
    if "mapping values" in said and ": " not in before:
        return "this goes on with the value above", "begin all keys in one column, each with ': '"
    if "expected key" in said and before.rstrip().endswith(("'", '"')):
        return "text follows a closing quote", "use the other kind of quotes around the value"
    if "node content" in said and not rest.strip():
        return "a list or a mapping is not closed", "close it with ] or }"
    for sign, what, repair in _EXPLANATIONS:
        if sign in said or ("cannot start any token" in said and sign == "tab character"):
            return what, repair
    return f"not YAML: {said}", "correct it"
