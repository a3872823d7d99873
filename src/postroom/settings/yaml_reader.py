"""Read untrusted YAML as nodes that keep their line and column.

Front matter and settings come from people and from pull requests. PyYAML's own loaders crash on
deep nesting, expand aliases, keep the last of two equal keys and convert `no`, `1.10` and `12:30`.
This module reads the events of PyYAML's parser instead. It expands nothing, and every scalar stays
the text that was written.
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
# XML 1.0 §2.2: characters that no feed can hold; UTF-8 has no lone surrogates.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# YAML 1.1 §5.1: characters that its parsers refuse in addition.
_UNPRINTABLE = re.compile(rf"{_FORBIDDEN.pattern}|[\x7f-\x84\x86-\x9f]")
# YAML 1.1 §5.4: these end a line, too, although editors do not show them.
_LINE_ENDS = str.maketrans("\x85\u2028\u2029", "   ")


_QUOTE_IT = "put the value in quotes"
_WRITE_OUT = f"write the value out, or {_QUOTE_IT}"
_WORD = f"write a word as key, or {_QUOTE_IT}"


@frozen
class ScalarNode:
    """A text as it was written; `quoted` distinguishes `"no"` from `no`."""

    text: str
    line: int
    column: int
    quoted: bool = False

    @property
    def is_null(self) -> bool:
        """Whether the value is empty or YAML's null."""
        return not self.quoted and self.text in _NULLS


@frozen
class ListNode:
    """A list."""

    values: tuple[Node, ...]
    line: int
    column: int


@frozen
class MapNode:
    """A mapping; its keys have a line and a column, too."""

    pairs: dict[str, tuple[ScalarNode, Node]]
    line: int
    column: int


Node: TypeAlias = ScalarNode | ListNode | MapNode


@frozen
class YamlError(Exception):
    """The text is not YAML, or uses a feature of YAML that is refused, such as aliases."""

    line: int
    column: int
    message: str
    hint: str


def forbidden_characters(
    text: str, among: re.Pattern[str] = _FORBIDDEN
) -> Iterator[tuple[int, str]]:
    """Yield the offset and the name, such as `U+000B`, of each forbidden character in `text`.

    By default these are the characters that no feed can hold.
    """
    for match in among.finditer(text):
        yield match.start(), f"U+{ord(match.group()):04X}"


def line_and_column(offset: int, text: str) -> tuple[int, int]:
    """Return the line and the column of `offset` in `text`, counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def parse(text: str, *, first_line: int = 1, limit: int) -> Node:
    """Parse one YAML document of at most `limit` bytes.

    `first_line` is the line of the file on which `text` begins. An empty text is an empty mapping.
    Raises `YamlError` if the text is not YAML or is refused.
    """
    if len(text.encode(errors="surrogatepass")) > limit:
        raise YamlError(first_line, 1, f"longer than {limit // 1024} KiB", "shorten it")
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_LINE_ENDS)
    for offset, name in forbidden_characters(text, _UNPRINTABLE):
        line, column = line_and_column(offset, text)
        raise YamlError(first_line + line - 1, column, f"found the character {name}", "delete it")
    builder = _Builder(first_line)
    try:
        return builder.document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise _explain(error, text, first_line) from None
    except yaml.YAMLError as error:
        raise YamlError(first_line, 1, f"not YAML: {error}", "correct it") from None


@frozen
class _Builder:
    """Builds nodes from parser events and refuses aliases, tags, merge keys and deep nesting."""

    first_line: int
    _depth: list[int] = field(factory=lambda: [0])

    def document(self, events: Iterator[yaml.Event]) -> Node:
        node: Node = MapNode({}, self.first_line, 1)
        seen = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and seen:
                raise self._error(event, "a second document begins", "keep one, without '---'")
            if isinstance(event, yaml.NodeEvent):
                node, seen = self._node(event, events), True
        return MapNode({}, node.line, 1) if isinstance(node, ScalarNode) and node.is_null else node

    def _node(self, event: Any, events: Iterator[yaml.Event]) -> Node:  # noqa: ANN401 - untyped
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, f"found the alias *{event.anchor}", _WRITE_OUT)
        if event.anchor is not None:
            raise self._error(event, f"found the anchor &{event.anchor}", _WRITE_OUT)
        if event.tag is not None and event.tag != "!":
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(event, f"found the tag {tag}", "delete it, or quote the value")
        line, column = self._place(event)
        if isinstance(event, yaml.ScalarEvent):
            for _, name in forbidden_characters(event.value):
                raise self._error(event, f"the value holds the character {name}", "delete it")
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
                raise self._error(event, "found a list or mapping as a key", _WORD)
            if key.text == "<<":
                raise self._error(event, "found the merge key <<", "write the keys out")
            if key.text in pairs:
                first = pairs[key.text][0].line
                raise self._error(
                    event, f"the key '{key.text}' is already on line {first}", "keep one"
                )
            pairs[key.text] = (key, self._node(next(events), events))
        return pairs

    def _enter(self, event: yaml.Event) -> None:
        self._depth[0] += 1
        if self._depth[0] > _DEPTH:
            raise self._error(event, f"nested more than {_DEPTH} levels deep", "flatten it")

    def _place(self, event: Any) -> tuple[int, int]:  # noqa: ANN401 - untyped
        mark = event.start_mark
        return self.first_line + mark.line, mark.column + 1

    def _error(self, event: yaml.Event, message: str, hint: str) -> YamlError:
        return YamlError(*self._place(event), message, hint)


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
    ("expected '-' indicator", "a list continues without '- '", "write - value, or indent it"),
    ("expected key", "this is not a key", "write key: value, in the column of the other keys"),
    ("document start", "this begins left of the first key", "begin all keys in one column"),
    ("directive", "a line begins with '%'", "delete it"),
)
# The error is at the beginning of these, although the parser finds it later.
_OPENINGS = (
    ("scanning a quoted scalar", "a quote is never closed", "close it"),
    ("expected ',' or ']'", "a list is not closed, or a comma is missing", "write [one, two]"),
    ("expected ',' or '}'", "a mapping is not closed, or a comma is missing", "write {a: b, c: d}"),
    ("scanning an alias", "a value begins with '*'", _QUOTE_IT),
    ("scanning an anchor", "a value begins with '&'", _QUOTE_IT),
    ("ing a tag", "a value begins with '!'", _QUOTE_IT),
)


def _explain(error: yaml.MarkedYAMLError, text: str, first_line: int) -> YamlError:
    said = ", ".join(part for part in (error.context, error.problem) if part)
    opening = next((rest for sign, *rest in _OPENINGS if sign in said), None)
    mark = error.context_mark if opening else error.problem_mark or error.context_mark
    offset = mark.index if mark else 0
    line, column = line_and_column(offset, text)
    message, hint = opening or _explanation(said, text[offset - column + 1 : offset], text[offset:])
    if "node content" in said or "expected ','" in said:
        hidden = _comment_near(offset, text)
        if hidden is not None:
            line, column = line_and_column(hidden, text)
            message, hint = "'#' begins a comment", _QUOTE_IT
    return YamlError(first_line + line - 1, column, message, hint)


def _comment_near(offset: int, text: str) -> int | None:
    """Return the offset of the comment on the line of `offset`, or of the last one before it."""
    rest = text[offset:].partition("\n")[0]
    last = text[:offset] + rest if rest.strip() else text[:offset].rstrip()
    found = last.rfind(" #", last.rfind("\n") + 1)
    return found + 1 if found >= 0 else None


def _explanation(said: str, before: str, rest: str) -> tuple[str, str]:
    if "cannot start any token" in said and not rest.startswith("\t"):
        return f"a value begins with '{rest[:1]}'", _QUOTE_IT
    if "mapping values" in said and ": " not in before:
        return "this continues the value above", "begin all keys in one column, each with ': '"
    if "expected key" in said and before.rstrip().endswith(("'", '"')):
        return "text follows a closing quote", "use the other kind of quotes around the value"
    if "node content" in said and not rest.strip():
        return "a list or a mapping is not closed", "close it with ] or }"
    for sign, message, hint in _EXPLANATIONS:
        if sign in said or ("cannot start any token" in said and sign == "tab character"):
            return message, hint
    return f"not YAML: {said}", "correct it"
