"""Reading `postroom.yaml` into settings, or reporting every problem at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import SettingsError
from postroom.models import (
    Contact,
    DigestSettings,
    FeedSettings,
    MailSettings,
    PageSettings,
    Site,
    ThemeSettings,
)
from postroom.settings.site import find_site, load_settings, parse_settings
from tests.support.site import SETTINGS, MakeSite

EVERYTHING = """\
title: Example Magnets News
url: https://news.example.com/
id: "tag:news.example.com,2026:"
language: en
timezone: Asia/Shanghai
description: What is new in magnets
posts: content/posts
output: public
topics: [Company news, Standards]
theme:  {accent: "#0B6B62", font: Inter, logo: logo.svg}
checks: {post-title: off, page-title: error}
contact:
  organization: Example Magnets Ltd
  name: Jane Doe
  phone: "+86 180 7235 8327"
  tel: "+86 (574) 8811-2233"
  email: news@example.com
  address: |
    1 Magnet Road
      Ningbo
  message: mailto:news@example.com
feeds:  {entries: 30, content: full, formats: [atom, rss, json], topics: true, languages: no,
         history: on, hub: https://hub.example.com/, license: https://example.com/licence,
         rights: Copyright Example Magnets}
pages:  {enabled: false, permalink: "/news/{year}/{month}/{day}/{slug}.html"}
digest: {every: week, offer: [post, week], send_at: "07:30",
         subject: "{title}: {period}", intro: "Dear reader", welcome: true}
mail:   {from: "Example News <news@example.com>", reply_to: editor@example.com,
         bounces: bounces@example.com, unsubscribe: https://news.example.com, rate: 20,
         connections: 8, per_connection: 100, dkim_selector: s2026}
"""


def problems_of(settings: str | bytes) -> list[str]:
    """Return the printed lines about the settings."""
    data = settings.encode() if isinstance(settings, str) else settings
    with pytest.raises(SettingsError) as caught:
        parse_settings(data)
    assert caught.value.exit_code == 2
    return [str(problem).removeprefix("postroom.yaml:") for problem in caught.value.problems]


def with_line(line: str) -> str:
    """Return valid settings in which `line` replaces the line with its key, or is added."""
    key = line.partition(":")[0]
    others = [each for each in SETTINGS.splitlines() if not each.startswith(f"{key}:")]
    return "\n".join([*others, line]) + "\n"


def test_every_setting_is_typed() -> None:
    """All settings together become one frozen value of plain types."""
    assert parse_settings(EVERYTHING.encode()) == Site(
        title="Example Magnets News",
        url="https://news.example.com/",
        id="tag:news.example.com,2026:",
        language="en",
        timezone=ZoneInfo("Asia/Shanghai"),
        description="What is new in magnets",
        posts="content/posts",
        output="public",
        topics=("Company news", "Standards"),
        theme=ThemeSettings(accent="#0b6b62", font="Inter", logo="logo.svg"),
        checks={"post-title": "off", "page-title": "error"},
        contact=Contact(
            organization="Example Magnets Ltd",
            name="Jane Doe",
            phone="+86 180 7235 8327",
            tel="+86 (574) 8811-2233",
            email="news@example.com",
            address="1 Magnet Road\nNingbo",
            message="mailto:news@example.com",
        ),
        feeds=FeedSettings(
            entries=30,
            content={"atom": "full", "rss": "full", "json": "full"},
            formats=("atom", "rss", "json"),
            topics=True,
            languages=False,
            history=True,
            hub="https://hub.example.com/",
            license="https://example.com/licence",
            rights="Copyright Example Magnets",
        ),
        pages=PageSettings(enabled=False, permalink="/news/{year}/{month}/{day}/{slug}.html"),
        digest=DigestSettings(
            every="week",
            offer=("post", "week"),
            send_at="07:30",
            subject="{title}: {period}",
            intro="Dear reader",
            welcome=True,
        ),
        mail=MailSettings(
            sender="Example News <news@example.com>",
            reply_to="editor@example.com",
            bounces="bounces@example.com",
            unsubscribe="https://news.example.com",
            rate=20,
            connections=8,
            per_connection=100,
            dkim_selector="s2026",
        ),
    )


def test_five_settings_are_enough(site: Site) -> None:
    """A site with the five required settings has the defaults of all others."""
    assert site == Site(
        title="Example News",
        url="https://news.example.com/",
        id="tag:news.example.com,2026:",
        language="en",
        timezone=ZoneInfo("Europe/Berlin"),
    )


def test_a_setting_without_a_value_has_its_default(site: Site) -> None:
    """Settings such as `hub: null` and `feeds:` keep their defaults."""
    unwritten = "description:\nposts: ~\ntopics: null\nfeeds: {hub: null, license: ~, entries: }\n"
    assert parse_settings((SETTINGS + unwritten + "mail:\ntheme: {}\n").encode()) == site


def test_all_problems_are_reported_at_once() -> None:
    """Every problem is reported with its line, column and key."""
    settings = """\
titel: Example News
url: news.example.com
id: news
language: en_US
timezone: Asia/Shanghi
output: ../public
theme: {accent: teal}
contact:
  phone: 180 7235 8327
  email: Jane Doe
  message: //evil.example.com/
feeds:
  entries: many
  content: {atom: ful, rss: [summary]}
  formats: [atom, rrs]
pages: {permalink: "/{slugg}/"}
digest: {every: weekly, send_at: 9:30}
mail: {rate: 0}
checks: {post-titel: off, post-title: ignore}
"""
    assert problems_of(settings) == [
        "1: title: is missing; add title: …",
        "1:1: titel: is not a known key; delete it, or did you mean 'title'?",
        "2:6: url: found 'news.example.com'; write https://news.example.com",
        "3:5: id: found 'news'; write a URI, such as tag:example.com,2026:first-post",
        "4:11: language: found 'en_US'; write en-US",
        (
            "5:11: timezone: found 'Asia/Shanghi'; write an IANA name such as Europe/Berlin,"
            " or did you mean 'Asia/Shanghai'?"
        ),
        "6:9: output: found '../public'; write a folder inside the site, such as public",
        (
            "7:17: theme.accent: found 'teal'; write a colour as '#' and six digits, in quotes,"
            ' such as "#0b6b62"'
        ),
        (
            "9:10: contact.phone: found '180 7235 8327'; write it with + and the country code,"
            " such as +86 180 7235 8327"
        ),
        "10:10: contact.email: found 'Jane Doe'; write an email address such as news@example.com",
        (
            "11:12: contact.message: found '//evil.example.com/'; write mailto:news@example.com,"
            " an https:// URL or /list/message"
        ),
        "13:12: feeds.entries: found 'many'; write a whole number from 1 to 200",
        ("14:19: feeds.content.atom: found 'ful'; write full or summary, or did you mean 'full'?"),
        "14:29: feeds.content.rss: found a list; write one line of text",
        "15:19: feeds.formats.2: found 'rrs'; write atom, rss or json",
        "16:20: pages.permalink: found {slugg}; use {year}, {month}, {day}, {slug}, {path}",
        "17:17: digest.every: found 'weekly'; write day, week or month, or did you mean 'week'?",
        "17:34: digest.send_at: found '9:30'; write a time such as \"09:00\"",
        "18:14: mail.rate: found '0'; write a whole number from 1 to 100000",
        "19:10: checks.post-titel: is not a known key; delete it, or did you mean 'post-title'?",
        "19:39: checks.post-title: found 'ignore'; write off, warning or error",
    ]


MISSING = [
    f"1: {key}: is missing; add {key}: …" for key in ("id", "language", "timezone", "title", "url")
]


@pytest.mark.parametrize(
    "settings",
    ["", "\n\n", "# nothing yet\n", "title:\nurl:\nid: ~\nlanguage: null\ntimezone:\n"],
    ids=["empty", "blank lines", "a comment", "keys alone"],
)
def test_empty_settings_report_the_required_settings(settings: str) -> None:
    """An empty file is reported with the five required settings."""
    assert problems_of(settings) == MISSING


INSIDE = "write a folder inside the site, such as public"
ZONE = "write an IANA name such as Europe/Berlin"
DIGITS = "write 7 to 15 digits, with + and the country code"
ADDRESS = "write an email address such as news@example.com"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("- title", "6:1: this is not a key; write key: value, in the column of the other keys"),
        (
            "posts: /srv/news",
            "6:8: posts: found '/srv/news'; write a folder inside the site, such as posts",
        ),
        ("output: .", f"6:9: output: found '.'; {INSIDE}"),
        (
            "output: a/../b",
            f"6:9: output: found 'a/../b'; {INSIDE}",
        ),
        (
            "output: ~/public",
            f"6:9: output: found '~/public'; {INSIDE}",
        ),
        (
            "output: a\\b",
            f"6:9: output: found 'a\\b'; {INSIDE}",
        ),
        (
            "url: https://example.com/?a=b",
            "5:6: url: found 'https://example.com/?a=b'; write it without '?' and '#'",
        ),
        (
            "url: https://me:pw@example.com/",
            "5:6: url: found 'https://me:pw@example.com/'; write it without user and password",
        ),
        ("id: tag:example.com,2026:", "5:25: found ': ' inside a value; put the value in quotes"),
        ("title: ''", "5:8: title: found nothing; write some text"),
        ("title: [a]", "5:8: title: found a list; write one line of text"),
        (
            "timezone: localtime",
            f"5:11: timezone: found 'localtime'; {ZONE}",
        ),
        (
            "timezone: ../../etc/passwd",
            f"5:11: timezone: found '../../etc/passwd'; {ZONE}",
        ),
        (
            "timezone: berlin",
            f"5:11: timezone: found 'berlin'; {ZONE}, or did you mean 'Europe/Berlin'?",
        ),
        (
            "timezone: New York",
            f"5:11: timezone: found 'New York'; {ZONE}, or did you mean 'America/New_York'?",
        ),
        ("feeds: 3", "6:8: feeds: found '3'; write a mapping: key: value lines"),
        (
            "feeds: {content: {atom: full, jsn: full}}",
            "6:31: feeds.content.jsn: is not a known key; delete it, or did you mean 'json'?",
        ),
        (
            "feeds: {hub: hub.example.com}",
            "6:14: feeds.hub: found 'hub.example.com'; write https://hub.example.com",
        ),
        ("theme: {accent: #0b6b62}", "6:17: '#' begins a comment; put the value in quotes"),
        (
            "contact: {phone: '+49 1234'}",
            f"6:18: contact.phone: found '+49 1234'; {DIGITS}",
        ),
        (
            "contact: {tel: '+49 1234 5678 9012 3456'}",
            f"6:16: contact.tel: found '+49 1234 5678 9012 3456'; {DIGITS}",
        ),
        (
            "contact: {address: [a]}",
            "6:20: contact.address: found a list; write the postal address as text",
        ),
        (
            "mail: {from: Jane}",
            "6:14: mail.from: found 'Jane'; write Example News <news@example.com>",
        ),
        (
            "mail: {bounces: 'Jane <a@example.com>'}",
            f"6:17: mail.bounces: found 'Jane <a@example.com>'; {ADDRESS}",
        ),
        (
            "mail: {dkim_selector: 'a b'}",
            "6:23: mail.dkim_selector: found 'a b'; write the selector's name",
        ),
        (
            "digest: {offer: [post, hour]}",
            "6:24: digest.offer.2: found 'hour'; write post, day, week or month",
        ),
        (
            "digest: {send_at: '24:00'}",
            "6:19: digest.send_at: found '24:00'; write a time such as \"09:00\"",
        ),
        ("topics: ['']", "6:10: topics.1: found nothing; write some text"),
        ("a\u200bb: c", "6:1: a\u200bb: is not a known key; delete it"),
        ('"a\\nb": c', "6:1: a\\x0ab: is not a known key; delete it"),
    ],
)
def test_an_invalid_setting_is_reported_with_a_hint(line: str, expected: str) -> None:
    """A problem has its place, its key, the value that was found and a hint."""
    assert problems_of(with_line(line)) == [expected]


@pytest.mark.parametrize(
    ("permalink", "expected"),
    [
        ("{slug}/", "found '{slug}/'; begin it with / and end it with / or .html"),
        ("/{slug}", "found '/{slug}'; begin it with / and end it with / or .html"),
        ("/news/", "found '/news/'; add {slug} or {path}, so that each post has its own URL"),
        (
            "/{slug.__class__}/",
            "found {slug.__class__}; use {year}, {month}, {day}, {slug}, {path}",
        ),
        ("/{}/{slug}/", "found {}; use {year}, {month}, {day}, {slug}, {path}"),
        ("/{slug!r}/", "found {slug!r}; use {year}, {month}, {day}, {slug}, {path}"),
        ("/{{slug}}/", "found '/{{slug}}/'; use letters, digits, '-', '_', '/' and the fields"),
        ("/{slug}/}/", "found '/{slug}/}/'; use letters, digits, '-', '_', '/' and the fields"),
        ("/a b/{slug}/", "found '/a b/{slug}/'; use letters, digits, '-', '_', '/' and the fields"),
        ("/../{slug}/", "found '/../{slug}/'; write it without '//', '/./' and '/../'"),
        ("/./{slug}/", "found '/./{slug}/'; write it without '//', '/./' and '/../'"),
        ("//{slug}/", "found '//{slug}/'; write it without '//', '/./' and '/../'"),
    ],
)
def test_a_bad_permalink_is_refused(permalink: str, expected: str) -> None:
    """A permalink that gives two posts the same URL or leaves the site is refused."""
    assert problems_of(with_line(f'pages: {{permalink: "{permalink}"}}')) == [
        f"6:20: pages.permalink: {expected}"
    ]


@pytest.mark.parametrize(
    "permalink",
    ["/{path}/", "/{path}.html", "/{year}/{slug}/", "/.well-known/{slug}/", "/a..b/{slug}/"],
)
def test_a_permalink_can_have_all_fields(permalink: str) -> None:
    """A permalink consists of ASCII characters, dots, slashes and the five fields."""
    settings = with_line(f'pages: {{permalink: "{permalink}"}}')
    assert parse_settings(settings.encode()).pages.permalink == permalink


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://example.com", "https://example.com/"),
        ("https://example.com/news", "https://example.com/news/"),
        ("https://example.com/news/", "https://example.com/news/"),
        ("HTTPS://example.com/", "https://example.com/"),
        ("https://example.com/a/../news/./", "https://example.com/news/"),
        ("http://localhost:8000/", "http://localhost:8000/"),
    ],
)
def test_the_url_of_the_site_ends_with_a_slash(written: str, url: str) -> None:
    """The URL of the site is stored in the form to which paths are added."""
    assert parse_settings(with_line(f"url: {written}").encode()).url == url


@pytest.mark.parametrize(
    "message",
    [
        "mailto:news@example.com",
        "mailto:news@example.com?subject=Hello%20there",
        "https://example.com/contact",
        "/list/message",
    ],
)
def test_the_contact_message_is_an_address_or_a_page(message: str) -> None:
    """`contact.message` is an email address, a URL or a page of the service."""
    settings = with_line(f'contact: {{message: "{message}"}}')
    assert parse_settings(settings.encode()).contact.message == message


@pytest.mark.parametrize(
    "message",
    [
        "news@example.com",
        "mailto:",
        "mailto:news@example.com?subject=Hello there",
        "javascript:alert(1)",
        "list/message",
        "/a b",
        "//example.com/",
        "ftp://example.com/",
    ],
)
def test_other_contact_messages_are_refused(message: str) -> None:
    """A value to which no page can link safely is refused with the three valid forms."""
    repair = "write mailto:news@example.com, an https:// URL or /list/message"
    assert problems_of(with_line(f'contact: {{message: "{message}"}}')) == [
        f"6:20: contact.message: found '{message}'; {repair}"
    ]


@pytest.mark.parametrize(
    ("content", "means"),
    [
        ("summary", {"atom": "summary", "rss": "summary", "json": "summary"}),
        ("{atom: full, rss: summary}", {"atom": "full", "rss": "summary"}),
        ("{}", {}),
    ],
)
def test_content_has_one_value_or_one_for_each_format(content: str, means: dict[str, str]) -> None:
    """A single `full` or `summary` applies to all formats."""
    assert (
        parse_settings(with_line(f"feeds: {{content: {content}}}").encode()).feeds.content == means
    )


def test_a_single_value_is_a_list(site: Site) -> None:
    """`formats: atom` means `formats: [atom]`, and a repeated format counts once."""
    read = parse_settings(with_line("feeds: {formats: atom}\ntopics: [A, B, A]").encode())
    assert (read.feeds.formats, read.topics) == (("atom",), ("A", "B"))
    assert site.topics == ()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"title: M\xfcller\n", ["1: is not UTF-8 text; save it as UTF-8"]),
        (b"title: a\nurl: \xff\n", ["2: is not UTF-8 text; save it as UTF-8"]),
        ("title: a\n".encode("utf-16"), ["1: is not UTF-8 text; save it as UTF-8"]),
        (SETTINGS.encode() + b"#" * 64 * 1024, ["1:1: longer than 64 KiB; shorten it"]),
        (b"title: a\0b\n", ["1:9: found the character U+0000; delete it"]),
        (b"- a\n", ["1:1: found a list; write a mapping: key: value lines"]),
        (b"news\n", ["1:1: found 'news'; write a mapping: key: value lines"]),
        (
            SETTINGS.encode() + b"---\ntitle: b\n",
            ["6:1: a second document begins; keep one, without '---'"],
        ),
    ],
    ids=["latin 1", "broken", "utf 16", "too long", "NUL", "a list", "a word", "two documents"],
)
def test_a_malformed_file_is_refused(data: bytes, expected: list[str]) -> None:
    """A file that is not UTF-8, too long or not a mapping is reported as such."""
    assert problems_of(data) == expected


def test_a_byte_order_mark_is_ignored(site: Site) -> None:
    """Files of some Windows editors begin with U+FEFF."""
    assert parse_settings(b"\xef\xbb\xbf" + SETTINGS.replace("\n", "\r\n").encode()) == site


def test_the_site_is_found_from_any_of_its_folders(make_site: MakeSite) -> None:
    """The nearest parent folder with a `postroom.yaml` is the site."""
    folder = make_site({"posts/2026/a.md": ""})
    assert find_site(folder / "posts" / "2026") == folder
    assert find_site(folder) == folder


def error_of(call: Callable[[Path], object], folder: Path) -> str:
    """Return the error of `call` in `folder`."""
    with pytest.raises(SettingsError) as caught:
        call(folder)
    return str(caught.value)


def test_outside_a_site_the_error_names_init(tmp_path: Path) -> None:
    """The error of a missing site names the command that creates a site."""
    assert error_of(find_site, tmp_path) == (
        "postroom.yaml: is neither in this folder nor in one above it;"
        " change to the folder of a site, or create one with: postroom init my-news"
    )


def test_unreadable_settings_are_an_error(tmp_path: Path) -> None:
    """A missing file, or a folder in its place, gives an error without a traceback."""
    hint = "replace it with a file that can be read"
    missing = f"postroom.yaml: cannot be read: no such file or directory; {hint}"
    assert error_of(load_settings, tmp_path) == missing
    (tmp_path / "postroom.yaml").mkdir()
    assert error_of(load_settings, tmp_path) == (
        f"postroom.yaml: cannot be read: is a directory; {hint}"
    )


def test_settings_are_loaded_from_the_site(make_site: MakeSite, site: Site) -> None:
    """The settings of a site are those of its `postroom.yaml`."""
    assert load_settings(make_site()) == site


@pytest.mark.parametrize(
    "value",
    ["a@" + "." * 60_000 + "@", "<" * 60_000, "a <a@" + "b." * 25_000 + ">", "a@a" * 20_000],
    ids=["dots", "brackets", "labels", "ats"],
)
def test_a_huge_address_is_checked_quickly(value: str) -> None:
    """Checking an email address takes linear time."""
    expected = problems_of(f'mail: {{from: "{value}"}}\n')
    assert expected[-1].startswith("1:14: mail.from: found '")


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=80)
    | st.text(alphabet=" \n:-[]{}#'\"titleurd.…", max_size=80).map(str.encode)
)
def test_any_bytes_are_settings_or_problems(data: bytes) -> None:
    """Any bytes give settings, or problems of one line each."""
    for line in problems_of(data):
        assert "\n" not in line
        assert line[0].isdigit()
