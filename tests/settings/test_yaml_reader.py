"""Reading untrusted YAML: values keep their text and place, and dangerous features are refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.settings.yaml_reader import (
    ListNode,
    MapNode,
    Node,
    ScalarNode,
    YamlError,
    forbidden_characters,
    line_and_column,
    parse,
)

LIMIT = 64 * 1024


def refusal(text: str, *, limit: int = LIMIT) -> str:
    """Return the place, the message and the hint of the error in `text`."""
    with pytest.raises(YamlError) as caught:
        parse(text, limit=limit)
    fault = caught.value
    return f"{fault.line}:{fault.column}: {fault.message}; {fault.hint}"


def parse_or_error(text: str) -> Node | YamlError:
    """Return the node of `text`, or the error."""
    try:
        return parse(text, limit=LIMIT)
    except YamlError as fault:
        return fault


def pairs_of(text: str) -> dict[str, tuple[ScalarNode, Node]]:
    """Return the pairs of the mapping in `text`."""
    node = parse(text, limit=LIMIT)
    assert isinstance(node, MapNode)
    return node.pairs


@pytest.mark.parametrize("written", ["no", "1.10", "12:30", "017", "0x1F", "1e3", "2026-11-22"])
def test_plain_values_are_not_converted(written: str) -> None:
    """Values that YAML 1.1 converts to booleans, numbers and dates stay text."""
    assert pairs_of(f"key: {written}\n")["key"][1] == ScalarNode(written, 1, 6)


def test_every_node_has_its_place() -> None:
    """Keys, values, lists and mappings have their line and column, counted from 1."""
    text = "title: We moved\nimage:\n  src: a.png\ntopics:\n  - One\n  - [two]\n"
    assert parse(text, first_line=2, limit=LIMIT) == MapNode(
        {
            "title": (ScalarNode("title", 2, 1), ScalarNode("We moved", 2, 8)),
            "image": (
                ScalarNode("image", 3, 1),
                MapNode({"src": (ScalarNode("src", 4, 3), ScalarNode("a.png", 4, 8))}, 4, 3),
            ),
            "topics": (
                ScalarNode("topics", 5, 1),
                ListNode(
                    (ScalarNode("One", 6, 5), ListNode((ScalarNode("two", 7, 6),), 7, 5)), 6, 3
                ),
            ),
        },
        2,
        1,
    )


@pytest.mark.parametrize(
    ("written", "text", "is_null"),
    [
        ("", "", True),
        ("~", "~", True),
        ("null", "null", True),
        ("''", "", False),
        ('"null"', "null", False),
        ("'~'", "~", False),
        ("|\n  null", "null", False),
    ],
)
def test_a_quoted_null_is_text(written: str, text: str, is_null: bool) -> None:  # noqa: FBT001
    """A value is null only if it is missing or an unquoted null of YAML."""
    value = pairs_of(f"key: {written}")["key"][1]
    assert isinstance(value, ScalarNode)
    assert (value.text, value.is_null) == (text, is_null)


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment\n", "~", "---\n", "---\nnull\n"])
def test_an_empty_text_is_an_empty_mapping(text: str) -> None:
    """A text of blank lines, comments or null is a mapping without keys."""
    node = parse(text, limit=LIMIT)
    assert isinstance(node, MapNode)
    assert node.pairs == {}


def test_a_block_keeps_its_lines() -> None:
    """A block of text keeps its line breaks and its inner blanks."""
    assert pairs_of("a: |\n  one\n   two\nb: 1\n")["a"][1] == ScalarNode(
        "one\n two\n", 1, 4, quoted=True
    )


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
def test_every_kind_of_line_break_counts_the_same(line_break: str) -> None:
    """The kind of line break changes neither values nor places."""
    text = line_break.join(["a: 1", "b: 2", "c: 3"])
    assert pairs_of(text)["c"] == (ScalarNode("c", 3, 1), ScalarNode("3", 3, 4))


@pytest.mark.parametrize("character", "\x85\u2028\u2029", ids=["nel", "ls", "ps"])
def test_invisible_line_breaks_are_blanks(character: str) -> None:
    """The separators that YAML 1.1 treats as line breaks are blanks, as in editors."""
    pairs = pairs_of(f"title: We{character}moved\ndate: 1\n")
    assert pairs["title"][1] == ScalarNode("We moved", 1, 8)
    assert pairs["date"][1] == ScalarNode("1", 2, 7)


REFUSED = {
    "tab as indent": (
        "a:\n\tb: 1\n",
        "2:1: found a tab where YAML wants spaces; indent with spaces",
    ),
    "tab after a value": (
        "a: x\n\tb: 2\n",
        "2:1: found a tab where YAML wants spaces; indent with spaces",
    ),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", "3:1: the key 'a' is already on line 1; keep one"),
    "duplicate key, quoted": (
        "a: 1\n'a': 2\n",
        "2:1: the key 'a' is already on line 1; keep one",
    ),
    "duplicate key, nested": (
        "a:\n  b: 1\n  b: 2\n",
        "3:3: the key 'b' is already on line 2; keep one",
    ),
    "duplicate key, in a list": (
        "- {a: 1, a: 2}",
        "1:10: the key 'a' is already on line 1; keep one",
    ),
    "anchor": (
        "a: &x 1\n",
        "1:4: found the anchor &x; write the value out, or put the value in quotes",
    ),
    "alias": (
        "a: *Breaking news\n",
        "1:4: found the alias *Breaking; write the value out, or put the value in quotes",
    ),
    "star": ("a: *bold*\n", "1:4: a value begins with '*'; put the value in quotes"),
    "ampersand": ("a: & more\n", "1:4: a value begins with '&'; put the value in quotes"),
    "merge key": (
        "a:\n  <<: {b: 1}\n",
        "2:3: found the merge key <<; write the keys out",
    ),
    "python tag": (
        "a: !!python/object/apply:os.system [true]\n",
        "1:4: found the tag !!python/object/apply:os.system; delete it, or quote the value",
    ),
    "tag": ("a: !important x\n", "1:4: found the tag !important; delete it, or quote the value"),
    "unknown tag handle": ("a: !e!x 1\n", "1:4: a value begins with '!'; put the value in quotes"),
    "second document": (
        "a: 1\n---\nb: 2\n",
        "2:1: a second document begins; keep one, without '---'",
    ),
    "text after the end": (
        "a: 1\n...\nb: 2\n",
        "3:1: this begins left of the first key; begin all keys in one column",
    ),
    "directive": ("%FOO x\n---\na: 1\n", "1:5: a line begins with '%'; delete it"),
    "NUL": ("ab: x\0\n", "1:6: found the character U+0000; delete it"),
    "vertical tab": ("a: 1\nb: \v\n", "2:4: found the character U+000B; delete it"),
    "U+FFFE": ("a: \ufffe\n", "1:4: found the character U+FFFE; delete it"),
    "DEL": ("a: \x7f\n", "1:4: found the character U+007F; delete it"),
    "C1": ("a: \x80\n", "1:4: found the character U+0080; delete it"),
    "half a surrogate pair": ("a: \ud800\n", "1:4: found the character U+D800; delete it"),
    "escaped NUL": ('a: "x\\x00"\n', "1:4: the value holds the character U+0000; delete it"),
    "escaped vertical tab": ('a: "\\v"\n', "1:4: the value holds the character U+000B; delete it"),
    "escaped in a key": ('"\\e": 1\n', "1:1: the value holds the character U+001B; delete it"),
    "escaped surrogate": (
        'a: "\\ud800"\n',
        "1:7: found an unknown escape; use single quotes, or double the \\",
    ),
    "Windows path": (
        'a: "C:\\win"\n',
        "1:7: found an unknown escape; use single quotes, or double the \\",
    ),
    "unclosed double quote": ('a: "We moved\nb: 1\n', "1:4: a quote is never closed; close it"),
    "unclosed single quote": ("a: 'We moved\nb: 1\n", "1:4: a quote is never closed; close it"),
    "text after a quote": (
        'a: "We" moved\n',
        "1:9: text follows a closing quote; use the other kind of quotes around the value",
    ),
    "apostrophe": (
        "a: 'it's'\n",
        "1:8: text follows a closing quote; use the other kind of quotes around the value",
    ),
    "unclosed list": (
        "a: [b, c\nd: 1\n",
        "1:4: a list is not closed, or a comma is missing; write [one, two]",
    ),
    "unclosed mapping": (
        "a: {b: c\nd: 1\n",
        "1:4: a mapping is not closed, or a comma is missing; write {a: b, c: d}",
    ),
    "list just begun": (
        "a: [\n",
        "2:1: a list or a mapping is not closed; close it with ] or }",
    ),
    "comma too many": ("a: [b,,c]\n", "1:7: a value is missing; write one, or ''"),
    "colour without quotes": (
        "theme: {accent: #0b6b62}\n",
        "1:17: '#' begins a comment; put the value in quotes",
    ),
    "colour without quotes, more below": (
        "theme: {accent: #0b6b62}\ntopics: []\n",
        "1:17: '#' begins a comment; put the value in quotes",
    ),
    "colon in a value": (
        "title: We moved: again\n",
        "1:16: found ': ' inside a value; put the value in quotes",
    ),
    "key too far right": (
        "a: x\n  b: y\n",
        "2:4: this continues the value above; begin all keys in one column, each with ': '",
    ),
    "key too far left": (
        "  a: x\nb: y\n",
        "2:1: this begins left of the first key; begin all keys in one column",
    ),
    "no key": ("a: x\nfoo\nb: y\n", "3:1: found a line without ': '; write key: value"),
    "list below a value": (
        "a: x\n- y\n",
        "2:1: this is not a key; write key: value, in the column of the other keys",
    ),
    "key below a list": (
        "- a\nb: c\n",
        "2:1: a list continues without '- '; write - value, or indent it",
    ),
    "list inside a line": (
        "a: - b\n",
        "1:4: a list begins inside a line; begin it below, or put the value in quotes",
    ),
    "text behind a block sign": (
        "a: > b\n",
        "1:6: text follows '|' or '>'; begin it below, or put the value in quotes",
    ),
    "question mark": ("a: ? b\n", "1:4: a value begins with '?'; put the value in quotes"),
    "at sign": ("title: @home\n", "1:8: a value begins with '@'; put the value in quotes"),
    "percent sign": ("title: %5 more\n", "1:8: a value begins with '%'; put the value in quotes"),
    "backtick": ("title: `x`\n", "1:8: a value begins with '`'; put the value in quotes"),
    "template": (
        "title: {{ x }}\n",
        "1:9: found a list or mapping as a key; write a word as key, or put the value in quotes",
    ),
    "list as key": (
        "[a]: b\n",
        "1:1: found a list or mapping as a key; write a word as key, or put the value in quotes",
    ),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_an_error_has_its_place_and_a_hint(text: str, expected: str) -> None:
    """Each error has its line and column, the text that was found and a hint."""
    assert refusal(text) == expected


def test_a_column_counts_characters() -> None:
    """Characters beyond ASCII, and beyond U+FFFF, are one column each."""
    assert refusal("ü😀: a: b\n") == "1:6: found ': ' inside a value; put the value in quotes"


def test_places_count_from_the_first_line_of_the_file() -> None:
    """Errors in a text that begins on line 2 of a file have the lines of the file."""
    with pytest.raises(YamlError) as caught:
        parse("a: 1\na: 2\n", first_line=2, limit=LIMIT)
    assert (caught.value.line, caught.value.message) == (3, "the key 'a' is already on line 2")


DEEP = "nested more than 32 levels deep; flatten it"


def test_lists_can_have_thirty_two_levels() -> None:
    """Lists can be nested 32 levels deep, and no deeper."""
    parse("[" * 32 + "]" * 32, limit=LIMIT)
    parse("- [[a]]\n" * 100, limit=LIMIT)
    assert refusal("[" * 33 + "]" * 33) == f"1:33: {DEEP}"


@pytest.mark.parametrize(
    ("text", "place"),
    [("[", "1:33"), ("- ", "1:65"), ("{a: ", "1:129"), ("? ", "1:65")],
    ids=["list", "block list", "mapping", "key"],
)
@pytest.mark.parametrize("count", [8_000, 100_000])
def test_deep_nesting_is_refused_at_once(text: str, place: str, count: int) -> None:
    """A text of a hundred thousand levels is refused at once, with any size limit."""
    started = time.monotonic()
    assert refusal(text * count, limit=10**7) == f"{place}: {DEEP}"
    assert time.monotonic() - started < 1


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor() -> None:
    """Ten lines that would expand to a thousand million values are never expanded."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert refusal("\n".join(lines)) == (
        "1:5: found the anchor &a0; write the value out, or put the value in quotes"
    )


def test_the_limit_counts_bytes() -> None:
    """A text of as many bytes as the limit is read; a longer one is refused."""
    assert pairs_of("a: " + "x" * 1021).keys() == {"a"}
    parse("a: " + "x" * 1021, limit=1024)
    assert refusal("a: " + "x" * 1022, limit=1024) == "1:1: longer than 1 KiB; shorten it"
    assert refusal("a: " + "ü" * 511, limit=1024) == "1:1: longer than 1 KiB; shorten it"


@settings(deadline=None, max_examples=60)
@given(
    st.text(alphabet=st.characters(exclude_categories=()), max_size=60)
    | st.text(alphabet=" \n\t-:?[]{},#&*!|>'\"%@`\\\0\x85\u2028\r=<~.axé0", max_size=60)
)
def test_any_text_gives_a_node_or_an_error(text: str) -> None:
    """Any text gives a node, or an error whose place is inside the text."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    match parse_or_error(text):
        case YamlError(line, column, what, repair):
            assert 1 <= line <= len(lines)
            assert 1 <= column <= len(lines[line - 1]) + 1
            assert what
            assert repair
        case node:
            assert isinstance(node, ScalarNode | ListNode | MapNode)


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(min_codepoint=32, exclude_categories=("Cc", "Cs", "Cn")), max_size=30))
def test_a_quoted_value_is_unchanged(text: str) -> None:
    """Any text in single quotes is unchanged, except for blanks that no editor shows."""
    value = pairs_of("key: '" + text.replace("'", "''") + "'\n")["key"][1]
    assert isinstance(value, ScalarNode)
    assert value.text == text.replace("\u2028", " ").replace("\u2029", " ")


def test_forbidden_characters_are_found_in_order() -> None:
    """Characters that XML forbids are found with their offsets, allowed ones never."""
    assert list(forbidden_characters("a\tb\n\r\x0b\x1f\ufffe\U0010ffff")) == [
        (5, "U+000B"),
        (6, "U+001F"),
        (7, "U+FFFE"),
    ]


@pytest.mark.parametrize(("offset", "place"), [(0, (1, 1)), (1, (1, 2)), (2, (2, 1)), (3, (2, 2))])
def test_an_offset_has_a_line_and_a_column(offset: int, place: tuple[int, int]) -> None:
    """Lines and columns count from 1."""
    assert line_and_column(offset, "a\nbc") == place
