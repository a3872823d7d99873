"""Checking YAML nodes: valid values, or all problems at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.settings import validation
from postroom.settings.validation import ValidationError, Validator
from postroom.settings.yaml_reader import parse


def node_of(written: str) -> Any:
    """Return the node of `written`, a YAML value."""
    return parse(written, limit=64 * 1024)


def problems_of(reader: Validator[Any], written: str) -> list[str]:
    """Return the problems that `reader` finds in `written`."""
    with pytest.raises(ValidationError) as caught:
        reader(node_of(written))
    return [f"{f.line}:{f.column}: {f.key}: {f.message}; {f.hint}" for f in caught.value.faults]


@pytest.mark.parametrize(
    ("reader", "written", "value"),
    [
        (validation.text, "  We   moved ", "We moved"),
        (validation.text, "|\n  We\n  moved\n", "We moved"),
        (validation.text, "''", ""),
        (validation.text, "1.10", "1.10"),
        (validation.non_empty, "no", "no"),
        (validation.matching("[a-z]+", "write letters"), "abc", "abc"),
        (validation.boolean, "true", True),
        (validation.boolean, "Yes", True),
        (validation.boolean, "ON", True),
        (validation.boolean, "FALSE", False),
        (validation.boolean, "no", False),
        (validation.boolean, "'off'", False),
        (validation.number(0, 20), "0", 0),
        (validation.number(0, 20), "020", 20),
        (validation.one_of("day", "week"), "week", "week"),
        (validation.list_of(validation.text), "[b, a, b]", ("b", "a")),
        (validation.list_of(validation.text), "alone", ("alone",)),
        (validation.list_of(validation.text), "[]", ()),
        (validation.mapping(validation.boolean), "{a: yes, b: no}", {"a": True, "b": False}),
        (validation.uri, "tag:example.com,2026:a", "tag:example.com,2026:a"),
        (validation.web_address, "https://example.com", "https://example.com"),
        (validation.language, "zh-Hans-CN", "zh-Hans-CN"),
        (validation.colour, "'#0B6B62'", "#0b6b62"),
    ],
)
def test_a_valid_value_is_converted(reader: Validator[Any], written: str, value: object) -> None:
    """A valid value is converted to the type that the program uses."""
    read = reader(node_of(written))
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("reader", "written", "expected"),
    [
        (validation.text, "[a]", "1:1: : found a list; write one line of text"),
        (validation.text, "{a: b}", "1:1: : found a mapping; write one line of text"),
        (validation.non_empty, "''", "1:1: : found nothing; write some text"),
        (validation.non_empty, "'  '", "1:1: : found nothing; write some text"),
        (
            validation.matching("[a-z]+", "write letters"),
            "ab1",
            "1:1: : found 'ab1'; write letters",
        ),
        (validation.matching("a|b", "x"), "ab", "1:1: : found 'ab'; x"),
        (validation.boolean, "1", "1:1: : found '1'; write true or false"),
        (validation.boolean, "maybe", "1:1: : found 'maybe'; write true or false"),
        (validation.number(1, 20), "0", "1:1: : found '0'; write a whole number from 1 to 20"),
        (validation.number(1, 20), "21", "1:1: : found '21'; write a whole number from 1 to 20"),
        (validation.number(1, 20), "1.5", "1:1: : found '1.5'; write a whole number from 1 to 20"),
        (validation.number(1, 20), "٣", "1:1: : found '٣'; write a whole number from 1 to 20"),
        (
            validation.number(1, 20),
            "9" * 5000,
            f"1:1: : found '{'9' * 59}…'; write a whole number from 1 to 20",
        ),
        (validation.one_of("a"), "b", "1:1: : found 'b'; write a"),
        (
            validation.one_of("day", "week", "month"),
            "weeks",
            "1:1: : found 'weeks'; write day, week or month, or did you mean 'week'?",
        ),
        (
            validation.list_of(validation.text),
            "{a: b}",
            "1:1: : found a mapping; write a list: [one, two]",
        ),
        (
            validation.list_of(validation.number(1, 2)),
            "3",
            "1:1: : found '3'; write a whole number from 1 to 2",
        ),
        (
            validation.mapping(validation.text),
            "[a]",
            "1:1: : found a list; write a mapping: key: value lines",
        ),
    ],
)
def test_a_problem_shows_the_value_and_a_hint(
    reader: Validator[Any], written: str, expected: str
) -> None:
    """A problem contains the value that was found and what to write instead."""
    assert problems_of(reader, written) == [expected]


def test_a_value_of_several_lines_is_shown_on_one_line() -> None:
    """A message is one line, even if the value has several."""
    assert problems_of(validation.boolean, "|\n  one\n  two\n") == [
        "1:1: : found 'one two'; write true or false"
    ]


def test_all_problems_of_a_list_are_reported_by_number() -> None:
    """The second and the fourth item of a list are `2` and `4`."""
    assert problems_of(validation.list_of(validation.boolean), "[yes, a, no, [b]]") == [
        "1:7: 2: found 'a'; write true or false",
        "1:14: 4: found a list; write one line of text",
    ]


PICTURE: Validator[Any] = validation.struct(
    dict, {"src": validation.non_empty, "width": validation.number(1, 9)}, ("src",)
)
PAGE: Validator[Any] = validation.struct(
    dict, {"title": validation.non_empty, "image": PICTURE}, ("title", "image")
)


def test_a_mapping_gives_keyword_arguments() -> None:
    """The keys of a mapping become keyword arguments, except for keys without a value."""
    assert PAGE(node_of("title: A\nimage: {src: a.png, width: }\n")) == {
        "title": "A",
        "image": {"src": "a.png"},
    }


def test_all_problems_of_a_mapping_are_reported_by_key() -> None:
    """Invalid values, unknown keys and missing keys are reported together by full key."""
    assert problems_of(PAGE, "titel: A\nimage:\n  width: x\n  colour: y\n") == [
        "1:1: titel: is not a known key; delete it, or did you mean 'title'?",
        "3:10: image.width: found 'x'; write a whole number from 1 to 9",
        "4:3: image.colour: is not a known key; delete it",
        "3:0: image.src: is missing; add src: …",
        "1:0: title: is missing; add title: …",
    ]


@pytest.mark.parametrize("written", ["title: ''", "title: [a]"])
def test_an_invalid_value_is_not_reported_as_missing(written: str) -> None:
    """A mistake is reported once."""
    assert (
        len(
            problems_of(
                validation.struct(dict, {"title": validation.non_empty}, ("title",)), written
            )
        )
        == 1
    )


@pytest.mark.parametrize(
    ("word", "near"),
    [("titel", "title"), ("TITLE", "title"), ("utc", "UTC"), ("colour", ""), ("", "")],
)
def test_a_typing_error_finds_the_intended_word(word: str, near: str) -> None:
    """Characters in a wrong order or case are a typing error; another word is not."""
    assert validation.near_match(word, ["title", "topics", "UTC"]) == near


def test_templates_get_plain_values() -> None:
    """Unknown keys reach templates as strings, lists and dictionaries without conversion."""
    assert validation.to_plain(node_of("{a: [no, {b: 1.10}], c: ~}")) == {
        "a": ["no", {"b": "1.10"}],
        "c": "~",
    }


@pytest.mark.parametrize(
    "value",
    [
        "https://example.com/news/1",
        "http://example.com",
        "https://example.com:8080/?a=b#c",
        "https://[2001:db8::1]/",
        "tag:example.com,2026:a",
        "tag:example.com,2026-11-22:a/b%20c",
        "tag:editor@example.com,2026-11:",
        "urn:uuid:1225c695-cfb8-4ebb-aaaa-80da344efa6a",
        "URN:isbn:123",
        "mid:a@example.com",
    ],
)
def test_any_uri_is_a_valid_id(value: str) -> None:
    """URLs, tags, URNs and URIs of any other scheme are valid ids."""
    assert validation.is_uri(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "we-moved",
        "/we-moved",
        "12:30",
        "a:",
        "https:example.com",
        "https:///x",
        "https://exa mple.com/",
        "https://example.com/ü",
        "https://example.com/%",
        "https://example.com/%G1",
        "https://example.com/#a#b",
        "https://me:secret@example.com/",
        "https://example.com:99999/",
        "https://[::1/",
        "tag:example.com:a",
        "tag:example.com,26:a",
        "tag:,2026:a",
        "urn:uuid:",
        "urn:x:y",
        'tag:example.com,2026:"',
    ],
)
def test_an_id_must_be_a_uri(value: str) -> None:
    """An id must be a URI, because feed readers compare ids as URIs (RFC 4287 §4.2.6)."""
    assert not validation.is_uri(value)
    assert len(problems_of(validation.uri, f"'{value}'")) == 1


@pytest.mark.parametrize(
    ("written", "repair"),
    [
        ("example.com/news", "write https://example.com/news"),
        ("//example.com", "write the whole URL, such as https://example.com/news"),
        ("mailto:a@example.com", "write the whole URL, such as https://example.com/news"),
        ("ftp://example.com", "write the whole URL, such as https://example.com/news"),
        ("https://", "write the whole URL, such as https://example.com/news"),
        ("https://me@example.com", "write it without user and password"),
        (
            "https://müller.example/",
            "percent-encode 'ü', or in a host name write it as punycode",
        ),
    ],
)
def test_the_hint_completes_a_partial_url(written: str, repair: str) -> None:
    """The hint for a URL is the whole URL, if it can be guessed."""
    assert problems_of(validation.web_address, written) == [f"1:1: : found '{written}'; {repair}"]


@pytest.mark.parametrize(
    "tag", ["en", "en-US", "zh-Hans-CN", "es-419", "de-1996", "sl-rozaj", "de-CH-1901", "haw", "no"]
)
def test_a_language_is_a_tag(tag: str) -> None:
    """Language, script, region and variants are in the order of RFC 5646."""
    assert validation.language(node_of(tag)) == tag


@pytest.mark.parametrize(
    ("written", "repair"),
    [
        ("en_US", "write en-US"),
        ("de_DE.UTF-8", "write de-DE"),
        ("ca_ES@euro", "write ca-ES"),
        ("english", "write en or en-US"),
        ("e", "write en or en-US"),
        ("en-", "write en or en-US"),
        ("en-US-", "write en or en-US"),
        ("C.UTF-8", "write en or en-US"),
        ("x-private", "write en or en-US"),
    ],
)
def test_the_hint_turns_a_locale_into_a_language_tag(written: str, repair: str) -> None:
    """The hint for a POSIX locale is its language tag; other values get an example."""
    assert problems_of(validation.language, written) == [f"1:1: : found '{written}'; {repair}"]


@pytest.mark.parametrize("written", ["teal", "0b6b62", "#0b6", "#0b6b6g", "#0b6b62ff", ""])
def test_a_colour_has_six_digits(written: str) -> None:
    """Names, three digits and transparency are refused, with an example in quotes."""
    repair = "write a colour as '#' and six digits, in quotes, such as \"#0b6b62\""
    found = f"'{written}'" if written else "nothing"
    assert problems_of(validation.colour, f"'{written}'") == [f"1:1: : found {found}; {repair}"]


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet="ahtps:/#?@[]%1.,-~ü&'", max_size=20))
def test_a_valid_url_is_always_a_valid_id(tail: str) -> None:
    """No accepted URL is refused as an id."""
    for value in (tail, f"https://{tail}", f"https://a.example/{tail}"):
        assert validation.is_uri(value) or not validation.is_web_address(value)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://a.example/größe?q=ä#ü", "https://a.example/gr%C3%B6%C3%9Fe?q=%C3%A4#%C3%BC"),
        ("https://a.example/a[1]|^`{}", "https://a.example/a%5B1%5D%7C%5E%60%7B%7D"),
        ("https://a.example/100%?a=%zz", "https://a.example/100%25?a=%25zz"),
        ("https://a.example/#a#b", "https://a.example/#a%23b"),
        ("https://a.example/%C3%A4%2F", "https://a.example/%C3%A4%2F"),
        ("https://bücher.example:8080/", "https://xn--bcher-kva.example:8080/"),
        ("https://b%C3%BCcher.example", "https://xn--bcher-kva.example"),
        ("//пример.example/", "//xn--e1afmkfd.example/"),
        ("https://[2001:db8::1]:80/[x]", "https://[2001:db8::1]:80/%5Bx%5D"),
        (
            "mailto:news@bücher.example?subject=ä",
            "mailto:news@xn--bcher-kva.example?subject=%C3%A4",
        ),
        ("mailto:a@b.example,c@ü.example", "mailto:a@b.example,c@xn--tda.example"),
        ("tel:+49301234567", "tel:+49301234567"),
        # No domain name has a snowman in IDNA 2008.
        ("https://☃.example/", "https://%E2%98%83.example/"),
        ("/ä", "/%C3%A4"),
        ("", ""),
    ],
)
def test_a_url_has_one_form(written: str, url: str) -> None:
    """RFC 3987 §3.1, RFC 5891: paths are percent-encoded, hosts in ASCII."""
    assert validation.normalize_url(written) == url


URLS = st.tuples(
    st.sampled_from(["https://", "http://u@", "//", "mailto:a@", "mailto:", "/", "", "tel:"]),
    st.sampled_from(["a.example", "bücher.example", "[::1]", "b%C3%BCcher.example", "☃", ""]),
    st.sampled_from(["", ":80", ":x"]),
    st.text(alphabet="aä/?#[]|^`{}%25C3 &=@:+~'\"\\", max_size=12),
).map("".join)


@given(URLS | st.text())
def test_the_form_of_a_url_is_final(url: str) -> None:
    """A URL in its one form stays as it is, is ASCII, and has one `#` at most."""
    found = validation.normalize_url(url)
    assert validation.normalize_url(found) == found
    assert found.isascii()
    assert found.count("#") <= 1
    assert not set(found) & set(' "<>|^`{}\\')
