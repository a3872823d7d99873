"""The front matter of a post, in the many forms that authors write."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.errors import Problem
from postroom.posts import front_matter
from postroom.posts.front_matter import (
    FrontMatter,
    WrittenDate,
    WrittenEnclosure,
    WrittenImage,
    split_post,
)
from postroom.text import slugify

DAY = date(2026, 11, 22)


def parse(text: str) -> FrontMatter:
    """Return the front matter that `text` is; it has no error."""
    read, errors, _ = front_matter.parse_front_matter(text, "posts/a.md")
    assert errors == []
    return read


def printed(problems: list[Problem]) -> list[str]:
    """Return problems as they are printed, from the line on."""
    return [str(problem).removeprefix("posts/a.md:") for problem in problems]


def problems_of(text: str) -> list[str]:
    """Return the problems of the front matter `text`."""
    read, errors, warnings = front_matter.parse_front_matter(text, "posts/a.md")
    assert errors
    assert (read, warnings) == (FrontMatter(), [])
    return printed(errors)


def test_every_key_arrives_typed() -> None:
    """All known keys become one frozen value, and unknown keys are kept beside it."""
    read = parse(
        "title: We  moved\n"
        "date: 2026-11-22\n"
        "updated: 2026-11-23 09:30\n"
        "id: tag:news.example.com,2026:we-moved\n"
        "slug: we-moved\n"
        "summary: |\n  Our office has\n  a new address.\n"
        "topics: [Company news, Events, Company news]\n"
        "authors: Jane Doe\n"
        "lang: en-GB\n"
        "image: {src: door.jpg, alt: The door}\n"
        "enclosure: {url: a.mp3, type: audio/mpeg, length: 12}\n"
        "draft: yes\n"
        "withdrawn: 2026-12-01\n"
        "layout: news\n"
        "weight: 017\n"
        "params: {a: [no, {b: 1.10}]}\n"
    )
    assert read == FrontMatter(
        title="We moved",
        date=WrittenDate(DAY),
        updated=WrittenDate(date(2026, 11, 23), datetime(2026, 11, 23, 9, 30)),  # noqa: DTZ001 - as written
        id="tag:news.example.com,2026:we-moved",
        slug="we-moved",
        summary="Our office has a new address.",
        topics=("Company news", "Events"),
        authors=("Jane Doe",),
        lang="en-GB",
        image=WrittenImage("door.jpg", "The door"),
        enclosure=WrittenEnclosure("a.mp3", "audio/mpeg", 12),
        draft=True,
        withdrawn=WrittenDate(date(2026, 12, 1)),
        extra={"layout": "news", "weight": "017", "params": {"a": ["no", {"b": "1.10"}]}},
        lines={
            "title": 2,
            "date": 3,
            "updated": 4,
            "id": 5,
            "slug": 6,
            "summary": 7,
            "topics": 10,
            "authors": 11,
            "lang": 12,
            "image": 13,
            "enclosure": 14,
            "draft": 15,
            "withdrawn": 16,
        },
    )


@pytest.mark.parametrize("text", ["", "\n", "# later\n", "title:\ndate: ~\nimage: null\n"])
def test_front_matter_may_be_empty(text: str) -> None:
    """Keys without a value count as missing, and front matter without keys is valid."""
    read = parse(text)
    assert (read.title, read.date, read.image) == ("", None, None)


EAST = timezone(timedelta(hours=8))
WEST = timezone(-timedelta(hours=3, minutes=30))
LOCAL, UTC_TIME = datetime(2026, 11, 22, 9, 30), datetime(2026, 11, 22, 9, 30, tzinfo=UTC)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2026-11-22", None),
        ("2026-11-22T09:30", LOCAL),
        ("2026-11-22 09:30", LOCAL),
        ("2026-11-22 9:30", LOCAL),
        ("2026-11-22t09:30", LOCAL),
        ("2026-11-22   09:30", LOCAL),
        ("2026-11-22 09:30:15", LOCAL.replace(second=15)),
        ("2026-11-22 09:30:15.250", LOCAL.replace(second=15)),
        ("2026-11-22T09:30:15Z", UTC_TIME.replace(second=15)),
        ("2026-11-22 09:30z", UTC_TIME),
        ("2026-11-22 09:30 UTC", UTC_TIME),
        ("2026-11-22T09:30:00+08:00", LOCAL.replace(tzinfo=EAST)),
        ("2026-11-22 09:30 +08:00", LOCAL.replace(tzinfo=EAST)),
        ("2026-11-22 09:30:00 +0800", LOCAL.replace(tzinfo=EAST)),
        ("2026-11-22 09:30-03:30", LOCAL.replace(tzinfo=WEST)),
        ("'2026-11-22 09:30:00 -0330'", LOCAL.replace(tzinfo=WEST)),
    ],
)
def test_a_date_may_be_written_in_many_ways(written: str, time: datetime | None) -> None:
    """A date is a day, or a time with optional seconds and offset, as in RFC 3339."""
    assert parse(f"date: {written}\n").date == WrittenDate(DAY, time)


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2026-1-2", date(2026, 1, 2)),
        ("1900-01-01", date(1900, 1, 1)),
        ("2999-12-31", date(2999, 12, 31)),
        ("2024-02-29", date(2024, 2, 29)),
    ],
)
def test_a_day_may_lack_its_zeros(written: str, day: date) -> None:
    """Days of eleven centuries can be written with or without leading zeros."""
    assert parse(f"date: {written}\n").date == WrittenDate(day)


NO_DATE = "write a date such as 2026-11-22 or 2026-11-22 09:30"
NO_DAY = "this day does not exist; write a date such as 2026-11-22"
NO_TIME = "this time does not exist; write one such as 09:30"
ODD_TIME = "write the time as 09:30, 09:30:15 or 09:30 +08:00"
ODD_YEAR = "write a year from 1900 to 2999"


@pytest.mark.parametrize(
    ("written", "repair"),
    [
        ("22.11.2026", NO_DATE),
        ("11/22/2026", NO_DATE),
        ("Nov 22, 2026", NO_DATE),
        ("2026/11/22", NO_DATE),
        ("20261122", NO_DATE),
        ("2026-11", NO_DATE),
        ("26-11-22", NO_DATE),
        ("yesterday", NO_DATE),
        ("٢٠٢٦-١١-٢٢", NO_DATE),  # noqa: RUF001 - other digits
        ("2026-02-30", NO_DAY),
        ("2025-02-29", NO_DAY),
        ("2026-13-01", NO_DAY),
        ("2026-00-10", NO_DAY),
        ("0000-01-01", NO_DAY),
        ("1899-12-31", ODD_YEAR),
        ("3000-01-01", ODD_YEAR),
        ("0001-01-01 00:00 +14:00", ODD_YEAR),
        ("9999-12-31 23:59 -12:00", ODD_YEAR),
        ("2026-11-22 24:00", NO_TIME),
        ("2026-11-22 23:60", NO_TIME),
        ("2026-11-22 23:59:60", NO_TIME),
        ("2026-11-22 09:30 +24:00", NO_TIME),
        ("2026-11-22T", ODD_TIME),
        ("2026-11-22x", ODD_TIME),
        ("2026-11-22 09", ODD_TIME),
        ("2026-11-22 9:30 PM", ODD_TIME),
        ("2026-11-22 09:30 +08:60", ODD_TIME),
        ("2026-11-22 09:30 CET", ODD_TIME),
        ("2026-11-22 09:30 Europe/Berlin", ODD_TIME),
        ("2026-11-22 - 2026-11-24", ODD_TIME),
    ],
)
@pytest.mark.parametrize("key", ["date", "updated", "withdrawn"])
def test_an_invalid_date_is_reported_with_a_valid_one(key: str, written: str, repair: str) -> None:
    """An invalid date is reported with a valid way to write it."""
    assert problems_of(f"title: A\n{key}: {written}\n") == [
        f"3:{len(key) + 3}: {key}: found '{written}'; {repair}"
    ]


@pytest.mark.parametrize("written", ["[2026]", "{year: 2026}"])
def test_a_date_is_no_list_and_no_mapping(written: str) -> None:
    """A value of a wrong type is reported in one line."""
    (fault,) = problems_of(f"date: {written}\n")
    assert fault.endswith("; write one line of text")


SCRIPTS = {
    "latin": "we-moved",
    "accents": "über-uns",
    "hindi": "हिन्दी-समाचार",
    "arabic": "أخبار-الشركة",
    "thai": "ข่าวบริษัท",
    "chinese": "公司新闻",
    "japanese": "ニュース",
    "korean": "회사-소식",
    "greek": "νέα-εταιρείας",
    "tamil": "செய்தி",
    "digits": "2026",
    "hindi digits": "१२",
}


@pytest.mark.parametrize("slug", SCRIPTS.values(), ids=SCRIPTS)
def test_a_slug_may_be_in_any_script(slug: str) -> None:
    """Slugs keep characters, vowel signs, accents and digits of every script."""
    assert parse(f"slug: {slug}\n").slug == slug


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("We moved!", "we-moved"),
        ("  We -- moved  ", "we-moved"),
        ("we_moved", "we-moved"),
        ("../etc/passwd", "etc-passwd"),
        ("STRASSE, Straße", "strasse-straße"),
        ("E\u0301tude", "étude"),
        ("ΝΕΑ ΕΤΑΙΡΕΙΑΣ", "νεα-εταιρειας"),  # noqa: RUF001 - Greek
        ("re\u00adlaunch", "relaunch"),
        ("क्\u200dष", "क्ष"),
        ("\ufeffNews", "news"),
        ("10 % off", "10-off"),
        ("!!!", ""),
        ("😀", ""),
        ("x" * 121, "x" * 120),
        ("新" * 200, "新" * 80),
        ("x" * 119 + " y", "x" * 119),
    ],
)
def test_a_title_makes_a_slug(text: str, slug: str) -> None:
    """A slug has small letters and single hyphens and is short enough for a file name."""
    assert slugify(text) == slug


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=150))
@example("İstanbul ǅ ς ΑΣ \u0345α")  # noqa: RUF001 - characters with special lower-case forms
def test_a_slug_is_a_slug_of_itself(text: str) -> None:
    """The suggested slug is accepted and is a folder name on any file system."""
    slug = slugify(text)
    assert slugify(slug) == slug
    assert len((slug + ".html").encode()) <= 255
    assert "/" not in slug
    assert slug == slug.strip("-.")


@pytest.mark.parametrize(
    ("written", "repair"),
    [
        ("We moved", "write we-moved"),
        ("we_moved", "write we-moved"),
        ("a/b", "write a-b"),
        ("Über", "write über"),
        ("a--b", "write a-b"),
        ("'!!!'", "write letters, digits and hyphens"),
    ],
)
def test_an_invalid_slug_has_a_valid_hint(written: str, repair: str) -> None:
    """The hint is a valid slug, if one can be made."""
    assert problems_of(f"slug: {written}\n") == [
        f"2:7: slug: found '{written.strip(chr(39))}'; {repair}"
    ]


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("a.png", WrittenImage("a.png")),
        ("{src: a.png}", WrittenImage("a.png")),
        ("{src: a.png, alt: A door}", WrittenImage("a.png", "A door")),
        ("{src: a.png, alt: }", WrittenImage("a.png")),
        ("", None),
    ],
)
def test_an_image_has_a_short_and_a_long_form(written: str, image: WrittenImage | None) -> None:
    """An image is a URL alone, or a URL with a description."""
    assert parse(f"image: {written}\n").image == image


@pytest.mark.parametrize(
    ("written", "enclosure"),
    [
        ("a.mp3", WrittenEnclosure("a.mp3")),
        ("{url: a.mp3}", WrittenEnclosure("a.mp3")),
        (
            "{url: https://example.com/a.mp3, type: audio/mpeg, length: 1234567}",
            WrittenEnclosure("https://example.com/a.mp3", "audio/mpeg", 1234567),
        ),
    ],
)
def test_an_enclosure_has_a_short_and_a_long_form(
    written: str, enclosure: WrittenEnclosure
) -> None:
    """An enclosure is a URL alone, or a URL with a type and a length in bytes."""
    assert parse(f"enclosure: {written}\n").enclosure == enclosure


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("image: [a.png]", "2:8: image: found a list; write a mapping: key: value lines"),
        ("image: ''", "2:8: image: found nothing; write some text"),
        ("image: {alt: A door}", "2: image.src: is missing; add src: …"),
        ("image: {src: a, caption: b}", "2:17: image.caption: is not a known key; delete it"),
        (
            "image: {src: a, sorc: b}",
            "2:17: image.sorc: is not a known key; delete it, or did you mean 'src'?",
        ),
        ("enclosure: {type: audio/mpeg}", "2: enclosure.url: is missing; add url: …"),
        (
            "enclosure: {url: a, type: mp3}",
            "2:27: enclosure.type: found 'mp3'; write a media type such as audio/mpeg",
        ),
        (
            "enclosure: {url: a, length: 3 MB}",
            "2:29: enclosure.length: found '3 MB'; write a whole number from 0 to 100000000000",
        ),
        ("draft: maybe", "2:8: draft: found 'maybe'; write true or false"),
        ("lang: en_US", "2:7: lang: found 'en_US'; write en-US"),
        (
            "id: we-moved",
            "2:5: id: found 'we-moved'; write a URI, such as tag:example.com,2026:first-post",
        ),
        ("title: [a]", "2:8: title: found a list; write one line of text"),
        ("topics: {a: b}", "2:9: topics: found a mapping; write a list: [one, two]"),
        ("topics: [a, '']", "2:13: topics.2: found nothing; write some text"),
        ("- title", "2:1: found a list; write 'key: value' lines between the two '---'"),
        ("We moved", "2:1: found 'We moved'; write 'key: value' lines between the two '---'"),
        ("title: A: B", "2:9: front matter: found ': ' inside a value; put the value in quotes"),
        (
            "a: [b",
            "2:4: front matter: a list is not closed, or a comma is missing; write [one, two]",
        ),
    ],
)
def test_an_invalid_value_has_a_hint(line: str, fault: str) -> None:
    """An error has its place, its key, the value that was found and a hint."""
    assert problems_of(line + "\n") == [fault]


def test_all_problems_are_reported_at_once() -> None:
    """All problems of a post's front matter are reported at once."""
    assert problems_of("title: A\nslug: A B\ndate: soon\nimage: {}\ndraft: z\nlang: e\n") == [
        "3:7: slug: found 'A B'; write a-b",
        f"4:7: date: found 'soon'; {NO_DATE}",
        "5: image.src: is missing; add src: …",
        "6:8: draft: found 'z'; write true or false",
        "7:7: lang: found 'e'; write en or en-US",
    ]


@pytest.mark.parametrize(
    ("written", "draft"),
    [
        ("true", True),
        ("True", True),
        ("yes", True),
        ("on", True),
        ("'true'", True),
        ("false", False),
        ("No", False),
        ("OFF", False),
        ("", False),
    ],
)
def test_draft_accepts_every_word_for_true(written: str, *, draft: bool) -> None:
    """The words of YAML 1.1 and 1.2 are understood, with and without quotes."""
    assert parse(f"draft: {written}\n").draft is draft


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("titel", "title"),
        ("Title", "title"),
        ("topic", "topics"),
        ("author", "authors"),
        ("summery", "summary"),
        ("dates", "date"),
        ("updatd", "updated"),
    ],
)
def test_a_misspelled_key_is_a_warning(key: str, near: str) -> None:
    """A misspelled key is kept, with a warning that names the intended key."""
    read, errors, warnings = front_matter.parse_front_matter(f"title: A\n{key}: x\n", "posts/a.md")
    assert errors == []
    assert read.extra == {key: "x"}
    assert printed(warnings) == [f"3:1: {key}: is not a key of Postroom; did you mean '{near}'?"]


@pytest.mark.parametrize("key", ["layout", "tags", "categories", "permalink", "weight", "language"])
def test_an_unknown_key_is_no_warning(key: str) -> None:
    """Templates can use unknown keys, and there is no warning."""
    read, errors, warnings = front_matter.parse_front_matter(f"{key}: x\n", "posts/a.md")
    assert (read.extra, errors, warnings) == ({key: "x"}, [], [])


def test_the_size_of_front_matter_is_limited() -> None:
    """Front matter of 16 KiB is read; one byte more is refused."""
    room = 16 * 1024 - len("summary: ")
    assert len(parse("summary: " + "x" * room).summary) == room
    assert problems_of("summary: " + "x" * (room + 1)) == [
        "2:1: front matter: longer than 16 KiB; shorten it"
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("---\na: b\n---\nBody\n", ("a: b\n", "Body\n", 4)),
        ("---\na: b\n---", ("a: b\n", "", 4)),
        ("--- \na: b\n---\t\n\nBody", ("a: b\n", "\nBody", 4)),
        ("---\n---\nBody", ("", "Body", 3)),
        ("---\na: |\n  ---\n  b\n---\nBody", ("a: |\n  ---\n  b\n", "Body", 6)),
        ("---\na: b\n---\nBody\n---\nMore", ("a: b\n", "Body\n---\nMore", 4)),
        ("Body\n---\na: b\n---\n", (None, "Body\n---\na: b\n---\n", 1)),
        ("----\nBody", (None, "----\nBody", 1)),
        ("---", (None, "---", 1)),
        ("", (None, "", 1)),
        ("---\na: b\n", None),
        ("---\na: b\n...\n", None),
        ("---\na: b\n --- \n", None),
    ],
)
def test_front_matter_stands_between_two_fences(
    text: str, parts: tuple[str | None, str, int] | None
) -> None:
    """Lines of three hyphens enclose the front matter from the first line; the rest is the body."""
    found = split_post(text)
    assert (found and (found.head, found.body, found.body_line)) == parts
    assert found is None or text[found.start : found.end] == (found.head or "")


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet="ab:-[]{}#'\" \n0", max_size=60))
def test_any_front_matter_is_read_or_reported(text: str) -> None:
    """Any front matter is read or has problems of one line each."""
    read, errors, warnings = front_matter.parse_front_matter(text, "posts/a.md")
    assert not (errors and read != FrontMatter())
    assert all(str(problem).startswith("posts/a.md:") for problem in errors + warnings)
    assert not any("\n" in str(problem) for problem in errors + warnings)
