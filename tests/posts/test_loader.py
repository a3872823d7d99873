"""Posts are loaded with dates, names and ids, or all their errors are reported."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import ContentError
from postroom.models import Attachment, Enclosure, Post, Site
from postroom.posts import loader
from postroom.posts.front_matter import take_instant
from postroom.posts.loader import LoadedPosts
from postroom.posts.source import SourceFolder
from postroom.settings.site import parse_settings
from tests.support.site import AT, SETTINGS, MakeSite

DATED = "2026-11-20-"
TAG = "tag:news.example.com,2026:"

ABSENT = (
    "'{}' is neither a file beside the post nor an https:// URL; put it there, or correct the name"
)


def site_of(more: str = "", zone: str = "Europe/Berlin") -> Site:
    """Return the settings of the tests with `more` settings, in another time zone if given."""
    return parse_settings((SETTINGS.replace("Europe/Berlin", zone) + more).encode())


def load(
    texts: Mapping[str, str],
    at: datetime = AT,
    site: Site | None = None,
    sizes: Mapping[str, int] | None = None,
    *,
    drafts: bool = False,
) -> LoadedPosts:
    """Return the posts of the texts, keyed by their paths under `posts/`, at the instant `at`."""
    folder = SourceFolder({path: text.encode() for path, text in texts.items()}, sizes or {})
    return loader.read_posts(folder, site or site_of(), at, drafts=drafts)


def load_post(
    text: str,
    path: str = f"{DATED}we-moved.md",
    site: Site | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Post:
    """Return the only post that `text` makes."""
    (post,) = load({path: text}, site=site, sizes=sizes).posts
    return post


def problems_of(
    texts: Mapping[str, str | bytes],
    site: Site | None = None,
    sizes: Mapping[str, int] | None = None,
) -> list[str]:
    """Return the problems of the texts as they are printed."""
    folder = SourceFolder(
        {path: text.encode() if isinstance(text, str) else text for path, text in texts.items()},
        sizes or {},
    )
    with pytest.raises(ContentError) as caught:
        loader.read_posts(folder, site or site_of(), AT)
    assert caught.value.exit_code == 1
    return [str(problem) for problem in caught.value.problems]


def first_hour(identity: str) -> timedelta:
    """Return the place within its first hour of a post with a day alone."""
    digest = hashlib.sha256(identity.encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:4], "big") % 3600)


# --- Parts of a post ---


@pytest.mark.parametrize(
    "text",
    ["# We *moved*\n\nHello.\n", "\n \n# We *moved* #\nHello.", "We *moved*\n===\n\nHello."],
    ids=["heading", "blank lines before", "underlined"],
)
def test_a_dated_file_with_a_heading_is_a_post(text: str) -> None:
    """The file name gives day and slug, and the first heading the title."""
    post = load_post(text)
    assert (post.title, post.slug, post.day) == ("We moved", "we-moved", date(2026, 11, 20))
    assert post.url == "https://news.example.com/posts/we-moved/"
    assert post.id == TAG + "2026-11-20-we-moved.md"
    assert post.path == "posts/2026-11-20-we-moved.md"
    assert (post.html.strip(), post.text, post.summary) == ("<p>Hello.</p>", "Hello.", "Hello.")


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("# 2026. A *good* year", "2026. A good year"),
        ("# - minus", "- minus"),
        ("# `code` & <b>more</b>", "code & more"),
        ("# [link](https://example.com/)", "link"),
        ("# One <script>alert(1)</script>two", "One two"),
        ("# A" + " " * 50_000 + "B", "A B"),
    ],
)
def test_a_heading_becomes_a_plain_title(heading: str, title: str) -> None:
    """Mark-up is removed from a title; words and numbers stay."""
    assert load_post(f"{heading}\n\nHello.\n").title == title


def test_front_matter_goes_before_name_and_heading() -> None:
    """Front matter has priority; the heading then stays in the text, one level lower."""
    post = load_post(
        "---\ntitle: New office\ndate: 2026-11-19\nslug: office\n---\n# We moved\n\nHello.\n"
    )
    assert (post.title, post.slug, post.day) == ("New office", "office", date(2026, 11, 19))
    assert post.html == '<h2 id="we-moved">We moved</h2>\n<p>Hello.</p>\n'


def test_a_heading_that_repeats_the_title_is_not_printed_twice() -> None:
    """A heading equal to the title is removed, because the page shows the title."""
    assert (
        load_post("---\ntitle: We moved\n---\n# We moved\n\nHello.\n").html.strip()
        == "<p>Hello.</p>"
    )


@pytest.mark.parametrize(
    ("path", "slug"),
    [
        ("2026-11-20-we-moved.md", "we-moved"),
        ("2026-11-20_we_moved.markdown", "we-moved"),
        ("2026-11-20 We moved.MD", "we-moved"),
        ("2026-11-20.md", "2026-11-20"),
        ("news/2026-11-20-we-moved.md", "we-moved"),
        ("2026-11-20-हिन्दी.md", "हिन्दी"),
    ],
)
def test_a_file_name_gives_day_and_slug(path: str, slug: str) -> None:
    """The day in front of a file name is part of the slug only if nothing else is."""
    post = load_post("# A\n", path)
    assert (post.slug, post.day) == (slug, date(2026, 11, 20))


@pytest.mark.parametrize("line_break", ["\r\n", "\r"], ids=["windows", "old mac"])
def test_a_file_of_another_system_is_read_like_any_other(line_break: str) -> None:
    """A byte order mark and other line endings change nothing."""
    text = "---\ntitle: We moved\ndate: 2026-11-20\nid: urn:x-a:b\n---\n\nHello\nyou.\n"
    plain = load({"a.md": text}).posts
    folder = SourceFolder({"a.md": b"\xef\xbb\xbf" + text.replace("\n", line_break).encode()})
    assert loader.read_posts(folder, site_of(), AT).posts == plain


def test_unknown_keys_reach_templates() -> None:
    """Unknown keys are kept unchanged."""
    assert load_post("---\nlayout: wide\nn: 017\n---\n# A\n").extra == {
        "layout": "wide",
        "n": "017",
    }


def test_a_summary_is_the_first_paragraph_unless_one_is_written() -> None:
    """A summary contains no headings and images."""
    text = "# A\n\n![Door](door.png)\n\n## Why\n\nWe *moved* to a\nnew office.\n\nMore.\n"
    assert load_post(text).summary == "We moved to a new office."
    assert load_post("---\nsummary: In short\n---\n" + text).summary == "In short"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (
            "2026-11-20-a.md",
            "Hello.\n",
            [":1: title: is missing; add title: …, or begin the text with '# Title'"],
        ),
        (
            "2026-11-20-a.md",
            "## Two\n",
            [":1: title: is missing; add title: …, or begin the text with '# Title'"],
        ),
        (
            "we-moved.md",
            "# A\n",
            [":1: date: is missing; add date: …, or name the file 2026-11-22-we-moved.md"],
        ),
        (
            "2026-11-20-!!!.md",
            "# A\n",
            [":1: slug: is missing; add slug: …, in letters, digits and hyphens"],
        ),
        (
            "!!!.md",
            "",
            [
                ":1: date: is missing; add date: …, or name the file 2026-11-22-!!!.md",
                ":1: slug: is missing; add slug: …, in letters, digits and hyphens",
                ":1: title: is missing; add title: …, or begin the text with '# Title'",
            ],
        ),
        (
            "2026-02-30-a.md",
            "# A\n",
            [": date: found 2026-02-30 in the file's name; use a real date, from 1900 to 2999"],
        ),
        (
            "0001-01-01-a.md",
            "# A\n",
            [": date: found 0001-01-01 in the file's name; use a real date, from 1900 to 2999"],
        ),
        (
            "a.md",
            "---\ntitle: A\n",
            [":1: front matter: is never closed; end it with ---"],
        ),
        (
            "a.md",
            "---\ntitle: A\ndate: 2026-11-20\n---\n\n&#8212; fine\n\nnot &#x0b; fine\n",
            [":8:5: a character reference makes U+000B, which no feed can hold; delete it"],
        ),
        (
            "2026-11-20-a.md",
            "# A\n\n`&#11;` is code, &#11; is not.\n",
            [":3:2: a character reference makes U+000B, which no feed can hold; delete it"],
        ),
        (
            "2026-11-20-a.md",
            "# A&#1;B\n\nHello.\n",
            [":1: a character reference makes U+0001, which no feed can hold; delete it"],
        ),
    ],
)
def test_an_invalid_post_is_reported(path: str, text: str, expected: list[str]) -> None:
    """An error has its file, its line and a hint."""
    assert problems_of({path: text}) == [f"posts/{path}{line}" for line in expected]


def test_bytes_that_are_not_utf_8_are_reported() -> None:
    """The error names the invalid byte and its line."""
    assert problems_of({"a.md": b"# A\n\nM\xfcller\n", "b.md": "# B\n".encode("utf-16")}) == [
        "posts/a.md:3: byte 0xFC is not UTF-8; save the file as UTF-8",
        "posts/b.md:1: byte 0xFF is not UTF-8; save the file as UTF-8",
    ]


def test_all_problems_of_all_posts_are_reported_at_once() -> None:
    """A run reports all problems in the order of files and lines."""
    texts = {
        "b.md": "---\ntitle: B\ndate: soon\nslug: B B\n---\n",
        "a.md": "Hello.\n",
        "c.md": "---\ntitle: C\ndate: 2026-11-20\nenclosure: gone.mp3\n---\n",
    }
    assert problems_of(texts) == [
        "posts/a.md:1: date: is missing; add date: …, or name the file 2026-11-22-a.md",
        "posts/a.md:1: title: is missing; add title: …, or begin the text with '# Title'",
        ("posts/b.md:3:7: date: found 'soon'; write a date such as 2026-11-22 or 2026-11-22 09:30"),
        "posts/b.md:4:7: slug: found 'B B'; write b-b",
        f"posts/c.md:4: enclosure: {ABSENT.format('gone.mp3')}",
    ]


# --- Dates ---


def post_with(*lines: str) -> str:
    """Return a post whose front matter holds `lines` besides a title."""
    return "\n".join(["---", "title: A", *lines, "---", "Hello.", ""])


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-11-20 09:30", "2026-11-20T08:30:00+00:00"),
        ("2026-07-01 09:30:15", "2026-07-01T07:30:15+00:00"),
        ("2026-11-20 09:30 +08:00", "2026-11-20T01:30:00+00:00"),
        ("2026-11-20 09:30Z", "2026-11-20T09:30:00+00:00"),
    ],
)
def test_a_time_without_an_offset_is_in_the_sites_time_zone(written: str, instant: str) -> None:
    """A time is in the site's time zone, in summer and in winter, unless it has an offset."""
    post = load_post(post_with(f"date: {written}"))
    assert post.published.astimezone(UTC).isoformat() == instant
    assert post.published.utcoffset() == post.published.astimezone(site_of().timezone).utcoffset()


def test_the_day_of_a_post_is_in_the_sites_time_zone() -> None:
    """An evening elsewhere may be the next day in the site's time zone."""
    assert load_post(post_with("date: 2026-11-19 20:00 -05:00")).day == date(2026, 11, 20)


def test_a_day_alone_is_spread_over_its_first_hour() -> None:
    """The second is a hash of the id, the same on every machine and different for each post."""
    post = load_post(post_with("date: 2026-11-20", f"id: {TAG}a"))
    midnight = datetime(2026, 11, 19, 23, 0, tzinfo=UTC)
    assert post.published == midnight + first_hour(f"{TAG}a")
    assert post.published.isoformat() == "2026-11-20T00:57:10+01:00"


@pytest.mark.parametrize(
    ("zone", "midnight"),
    [
        ("Europe/Berlin", "2026-11-21T23:00:00+00:00"),
        ("Asia/Shanghai", "2026-11-21T16:00:00+00:00"),
        ("America/New_York", "2026-11-22T05:00:00+00:00"),
    ],
)
def test_a_day_alone_is_due_at_local_midnight(zone: str, midnight: str) -> None:
    """A post with a day alone waits until local midnight, and then no longer."""
    at = datetime.fromisoformat(midnight)
    text = post_with("date: 2026-11-22")
    before = load({"a.md": text}, at - timedelta(seconds=1), site_of(zone=zone))
    after = load({"a.md": text}, at, site_of(zone=zone))
    assert (before.posts, before.waiting) == ((), ("posts/a.md",))
    assert ([post.path for post in after.posts], after.waiting) == (["posts/a.md"], ())


def test_a_time_is_due_to_the_second() -> None:
    """A post with a time waits for that second."""
    text = post_with("date: 2026-11-22 13:00")
    at = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert load({"a.md": text}, at - timedelta(seconds=1)).waiting == ("posts/a.md",)
    assert load({"a.md": text}, at).waiting == ()


@pytest.mark.parametrize(
    ("zone", "midnight"),
    [
        # That day has no midnight: 1:00 follows 23:59.
        ("America/Sao_Paulo", "2018-11-04T03:00:00+00:00"),
        # That day has two midnights: the first counts.
        ("America/Havana", "2026-11-01T04:00:00+00:00"),
    ],
)
def test_a_day_without_exactly_one_midnight_begins(zone: str, midnight: str) -> None:
    """Days on which daylight saving time changes at midnight have a beginning and an order."""
    at = datetime.fromisoformat(midnight)
    site = site_of(zone=zone)
    text = post_with(f"date: {at.astimezone(site.timezone).date()}", "id: urn:x-a:b")
    (post,) = load({"a.md": text}, at, site).posts
    assert post.published == at + first_hour("urn:x-a:b")


def test_a_draft_is_never_published() -> None:
    """A draft is counted, and shown only with `--drafts`."""
    texts = {"a.md": post_with("date: 2026-11-20", "draft: true"), "2026-11-19-b.md": "# B\n"}
    assert [post.title for post in load(texts).posts] == ["B"]
    assert load(texts).drafts == ("posts/a.md",)
    assert [post.title for post in load(texts, drafts=True).posts] == ["A", "B"]


def test_posts_come_newest_first() -> None:
    """Posts are ordered by the instants of their dates, not by file name."""
    dates = ["2026-11-18", "2026-11-20 08:00", "2026-11-19", "2026-11-20 09:00"]
    texts = {f"{n}.md": post_with(f"date: {day}") for n, day in enumerate(dates)}
    assert [post.path for post in load(texts).posts] == [
        "posts/3.md",
        "posts/1.md",
        "posts/2.md",
        "posts/0.md",
    ]


def test_equal_instants_are_spread_in_the_order_of_their_ids() -> None:
    """Posts of one minute get different seconds, in an order independent of file names."""
    texts = {
        f"{path}.md": post_with("date: 2026-11-20 09:00", f"id: {TAG}{name}")
        for path, name in (("x", "c"), ("y", "a"), ("z", "b"))
    }
    texts["w.md"] = post_with("date: 2026-11-20 09:00:01", f"id: {TAG}0")
    seconds = {post.id[-1]: post.published.second for post in load(texts).posts}
    assert seconds == {"a": 0, "b": 1, "c": 2, "0": 3}


def test_updated_is_by_default_the_date() -> None:
    """The time of the last change does not depend on the file or the build."""
    plain = load_post(post_with("date: 2026-11-18"))
    assert (plain.updated, plain.updated_day) == (plain.published, date(2026, 11, 18))
    told = load_post(post_with("date: 2026-11-18", "updated: 2026-11-20 09:00"))
    assert told.updated.isoformat() == "2026-11-20T09:00:00+01:00"
    assert (told.updated_day, told.day) == (date(2026, 11, 20), date(2026, 11, 18))


def test_an_update_on_the_day_of_the_post_is_later_than_the_post() -> None:
    """An update on the day of the post has the next second."""
    post = load_post(post_with("date: 2026-11-18", "updated: 2026-11-18"))
    assert post.updated == post.published + timedelta(seconds=1)


@pytest.mark.parametrize("key", ["updated", "withdrawn"])
def test_a_future_update_or_withdrawal_has_no_effect(key: str) -> None:
    """An update or a withdrawal counts from its day on."""
    text = post_with("date: 2026-11-18", f"{key}: 2026-11-23")
    midnight = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
    (before,) = load({"a.md": text}, midnight - timedelta(seconds=1)).posts
    (after,) = load({"a.md": text}, midnight).posts
    assert (before.updated, before.withdrawn) == (before.published, None)
    assert after.updated == midnight + first_hour(f"{TAG}a.md")
    assert after.withdrawn == (date(2026, 11, 23) if key == "withdrawn" else None)


def test_a_withdrawal_goes_before_an_update() -> None:
    """The day of a withdrawal is the day of the last change."""
    post = load_post(post_with("date: 2026-11-18", "updated: 2026-11-21", "withdrawn: 2026-11-20"))
    assert (post.withdrawn, post.updated_day) == (date(2026, 11, 20), date(2026, 11, 20))


MOMENTS = st.sampled_from(
    ["2026-11-19", "2026-11-20", "2026-11-20 00:00", "2026-11-20 00:00:01", "2026-11-23", ""]
)


@st.composite
def colliding_posts(draw: st.DrawFn) -> dict[str, str]:
    """Draw posts whose dates, updates and withdrawals often collide."""
    texts = {}
    for number in range(draw(st.integers(1, 8))):
        lines = [f"date: {draw(MOMENTS) or '2026-11-18'}"]
        lines += [f"updated: {draw(MOMENTS)}", f"withdrawn: {draw(MOMENTS)}"]
        lines += [f"id: {TAG}{number}"] if draw(st.booleans()) else []
        texts[f"{number}.md"] = post_with(*lines)
    return texts


@settings(deadline=None, max_examples=60)
@given(colliding_posts(), st.integers(0, 4), st.randoms(use_true_random=False))
def test_no_two_times_are_ever_equal(
    texts: dict[str, str], day: int, chance: random.Random
) -> None:
    """All times differ and keep their order, because feed readers drop posts of equal times."""
    at = datetime(2026, 11, 18 + day, 23, 30, tzinfo=UTC)
    found = load(texts, at).posts
    assert len({post.updated for post in found}) == len(found)
    assert len({post.published for post in found}) == len(found)
    later = load(texts, at + timedelta(days=30)).posts
    published = {post.id: post.published for post in later}
    assert all(published[post.id] == post.published for post in found)
    shuffled = list(texts.items())
    chance.shuffle(shuffled)
    assert load(dict(shuffled), at).posts == found


def test_spreading_equal_instants_takes_linear_time() -> None:
    """Spreading equal instants does not visit the same taken seconds again and again."""
    started = time.monotonic()
    taken: dict[datetime, datetime] = {}
    found = [take_instant(AT + timedelta(seconds=n % 2), taken) for n in range(100_000)]
    assert time.monotonic() - started < 5
    assert sorted(found) == [AT + timedelta(seconds=n) for n in range(100_000)]


def test_a_repeated_hour_keeps_its_order() -> None:
    """Half past two of summer time precedes ten past two of winter time."""
    texts = {
        "a.md": post_with("date: 2026-10-25 02:30 +02:00"),
        "b.md": post_with("date: 2026-10-25 02:10 +01:00"),
        "c.md": post_with("date: 2026-10-25 02:30 +01:00"),
    }
    found = load(texts).posts
    assert [post.path for post in found] == ["posts/c.md", "posts/b.md", "posts/a.md"]
    assert [post.published.isoformat() for post in found] == [
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T02:10:00+01:00",
        "2026-10-25T02:30:00+02:00",
    ]
    assert len({post.published for post in found}) == 3


def test_an_offset_with_seconds_can_be_written_in_a_feed() -> None:
    """An offset of 1900 with seconds is rounded, because feeds allow none."""
    (post,) = load(
        {"a.md": post_with("date: 1900-06-01 12:00Z")}, site=site_of(zone="Asia/Shanghai")
    ).posts
    assert post.published.isoformat() == "1900-06-01T20:05:00+08:05"


# --- Identity ---


def test_a_written_id_is_the_id() -> None:
    """A written id does not depend on file name, title and domain."""
    text = post_with("date: 2026-11-20", "id: urn:uuid:1225c695-cfb8-4ebb-aaaa-80da344efa6a")
    moved = parse_settings(SETTINGS.replace("news.example.com/", "example.org/").encode())
    for post in (
        load_post(text, "a.md"),
        load_post(text, "b/c.md"),
        load_post(text, "a.md", moved),
    ):
        assert post.id == "urn:uuid:1225c695-cfb8-4ebb-aaaa-80da344efa6a"
    assert load({"a.md": text}).warnings == ()
    assert load({"a.md": text}).unnamed == ()


@pytest.mark.parametrize(
    ("path", "identity"),
    [
        ("2026-11-20-we-moved.md", f"{TAG}2026-11-20-we-moved.md"),
        ("news/2026-11-20 Über.md", f"{TAG}news/2026-11-20%20%C3%9Cber.md"),
        ("2026-11-20-50%.md", f"{TAG}2026-11-20-50%25.md"),
    ],
)
def test_a_missing_id_is_derived_from_the_path_with_a_warning(path: str, identity: str) -> None:
    """The warning contains the line that keeps this id when the file is renamed."""
    loaded = load({path: "# A\n"})
    assert loaded.posts[0].id == identity
    assert loaded.unnamed == ((f"posts/{path}", identity),)
    assert [str(warning) for warning in loaded.warnings] == [
        f'posts/{path}:1: id: is missing; add id: "{identity}"'
    ]


def test_a_derived_id_written_down_changes_nothing() -> None:
    """Following the hint of the warning gives the same post."""
    before = load_post("# A\n\nHello.\n")
    after = load_post(f'---\nid: "{before.id}"\n---\n# A\n\nHello.\n')
    assert after == before


def test_two_posts_with_one_id_are_both_reported() -> None:
    """The error names both posts."""
    texts = {
        "a.md": post_with("date: 2026-11-20", f"id: {TAG}x", "slug: a"),
        "b.md": post_with("slug: b", "date: 2026-11-20", f"id: {TAG}x"),
    }
    assert problems_of(texts) == [
        (
            f"posts/b.md:5: id: '{TAG}x' is also the id of posts/a.md;"
            " change it in the post that is not published yet"
        )
    ]


def test_two_posts_with_one_url_are_both_reported() -> None:
    """Equal slugs are reported, both from the front matter and from file names."""
    texts = {
        "2026-11-20-we-moved.md": "# A\n",
        "2026-11-19-we-moved.md": "# B\n",
        "c.md": post_with("date: 2026-11-20", "slug: we-moved"),
    }
    tail = "write another slug: … in one of them"
    assert problems_of(texts, site_of()) == [
        (
            "posts/2026-11-19-we-moved.md:1: slug: 'we-moved' makes the same URL as"
            f" posts/2026-11-20-we-moved.md; {tail}"
        ),
        (
            "posts/c.md:4: slug: 'we-moved' makes the same URL as"
            f" posts/2026-11-20-we-moved.md; {tail}"
        ),
    ]


def test_a_day_in_the_permalink_tells_equal_slugs_apart() -> None:
    """Equal slugs are allowed if the URLs differ."""
    site = site_of('pages: {permalink: "/{year}/{month}/{day}/{slug}/"}\n')
    texts = {"2026-11-20-news.md": "# A\n", "2026-11-19-news.md": "# B\n"}
    assert [post.url for post in load(texts, site=site).posts] == [
        "https://news.example.com/2026/11/20/news/",
        "https://news.example.com/2026/11/19/news/",
    ]


def test_drafts_do_not_collide_with_posts() -> None:
    """A draft may share its slug with a post; a future post may not."""
    text = post_with("date: 2026-11-20", "slug: a", "draft: true")
    assert len(load({"a.md": text, "b.md": text.replace("draft: true", "")}).posts) == 1
    waiting = post_with("date: 2026-12-24", "slug: a")
    assert len(problems_of({"a.md": waiting, "b.md": text.replace("draft: true", "")})) == 1


@pytest.mark.parametrize(
    ("permalink", "path", "url"),
    [
        ("/posts/{slug}/", "2026-11-20-we-moved.md", "posts/we-moved/"),
        ("/{path}/", "News/2026-11-20-We moved.md", "news/2026-11-20-we-moved/"),
        ("/{path}.html", "!!!/2026-11-20-a.md", "2026-11-20-a.html"),
        ("/{path}/", "a/!!!/2026-11-20-b.md", "a/2026-11-20-b/"),
        ("/n/{year}-{month}-{day}-{slug}.html", "2026-01-02-a.md", "n/2026-01-02-a.html"),
        ("/{slug}/", "2026-11-20-über uns.md", "%C3%BCber-uns/"),
        (
            "/{slug}/",
            "2026-11-20-हिन्दी.md",
            "%E0%A4%B9%E0%A4%BF%E0%A4%A8%E0%A5%8D%E0%A4%A6%E0%A5%80/",
        ),
    ],
)
def test_a_permalink_is_filled_in(permalink: str, path: str, url: str) -> None:
    """The fields make a percent-encoded URL below that of the site."""
    site = site_of(f'pages: {{permalink: "{permalink}"}}\n')
    assert load_post("# A\n", path, site).url == f"https://news.example.com/{url}"


def test_a_site_may_have_a_path() -> None:
    """URLs are joined to the whole `url`."""
    site = parse_settings(SETTINGS.replace(".com/\n", ".com/news\n").encode())
    post = load_post("# A\n\n[pic](a.png)\n", site=site, sizes={"a.png": 1})
    assert post.url == "https://news.example.com/news/posts/we-moved/"
    assert 'href="https://news.example.com/news/posts/we-moved/a.png"' in post.html
    assert post.attachments == (Attachment("posts/a.png", "posts/we-moved/a.png"),)


# --- Attachments ---

AROUND = {"2026/door.jpg": 3, "2026/pics/a b.png": 4, "logo.svg": 5, "other/ü.pdf": 6}
HOME = "https://news.example.com/"


@pytest.mark.parametrize(
    ("written", "address", "source"),
    [
        ("door.jpg", "posts/we-moved/door.jpg", "posts/2026/door.jpg"),
        ("./door.jpg#top", "posts/we-moved/door.jpg#top", "posts/2026/door.jpg"),
        ("door.jpg?v=2", "posts/we-moved/door.jpg", "posts/2026/door.jpg"),
        ("<pics/a b.png>", "posts/we-moved/pics/a%20b.png", "posts/2026/pics/a b.png"),
        ("pics/a%20b.png", "posts/we-moved/pics/a%20b.png", "posts/2026/pics/a b.png"),
        ("../logo.svg", "posts/we-moved/c2b3a5f0-logo.svg", "posts/logo.svg"),
        ("../other/ü.pdf", "posts/we-moved/6c435ecf-%C3%BC.pdf", "posts/other/ü.pdf"),
        ("../other/%C3%BC.pdf", "posts/we-moved/6c435ecf-%C3%BC.pdf", "posts/other/ü.pdf"),
        ("next.md", "posts/next/", ""),
        ("next.md#why", "posts/next/#why", ""),
        ("../2026/next.md", "posts/next/", ""),
        ("later.md", "posts/later/", ""),
        ("draft.md", "posts/we-moved/draft.md", ""),
        ("gone.md", "posts/we-moved/gone.md", ""),
        ("gone.pdf", "posts/we-moved/gone.pdf", ""),
        ("../../postroom.yaml", "postroom.yaml", ""),
        ("%2e%2e/etc/passwd", "posts/we-moved/%2e%2e/etc/passwd", ""),
        ("/about/", "about/", ""),
        ("#why", "posts/we-moved/#why", ""),
        ("?a=b", "posts/we-moved/?a=b", ""),
    ],
)
def test_a_relative_url_finds_its_target(written: str, address: str, source: str) -> None:
    """Another post's file becomes its page, a file beside is copied, and other URLs are joined."""
    texts = {
        "2026/2026-11-20-we-moved.md": f"# A\n\n[x]({written})\n",
        "2026/next.md": post_with("date: 2026-11-19"),
        "2026/later.md": post_with("date: 2026-12-24"),
        "2026/draft.md": post_with("date: 2026-11-19", "draft: true"),
    }
    post = load(texts, sizes=AROUND).posts[0]
    assert re.findall('href="([^"]*)"', post.html) == [HOME + address]
    assert f"[1] {HOME}{address}" in post.text
    assert [attachment.source for attachment in post.attachments] == ([source] if source else [])


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("//cdn.example.com/a.pdf", "https://cdn.example.com/a.pdf"),
        ("https://example.com/door.jpg", "https://example.com/door.jpg"),
        ("mailto:a@example.com", "mailto:a@example.com"),
    ],
)
def test_an_external_url_stays(written: str, address: str) -> None:
    """A URL of another site is not searched in the folder."""
    post = load_post(f"# A\n\n[x]({written})\n", sizes=AROUND)
    assert re.findall('href="([^"]*)"', post.html) == [address]


def test_attachments_are_copied_with_the_post() -> None:
    """Each file that a post names is copied once, below the post's URL."""
    text = (
        "---\ndate: 2026-11-20\nimage: {src: door.jpg, alt: The door}\n---\n# A\n\n"
        "![Door](door.jpg) <img srcset='door.jpg 1x, ../logo.svg 2x'> [file](pics/a%20b.png)\n"
    )
    post = load_post(text, "2026/we-moved.md", sizes=AROUND)
    assert post.image is not None
    assert (post.image.src, post.image.alt) == (
        "https://news.example.com/posts/we-moved/door.jpg",
        "The door",
    )
    assert sorted(post.attachments, key=lambda load_post: load_post.source) == [
        Attachment("posts/2026/door.jpg", "posts/we-moved/door.jpg"),
        Attachment("posts/2026/pics/a b.png", "posts/we-moved/pics/a b.png"),
        Attachment("posts/logo.svg", "posts/we-moved/c2b3a5f0-logo.svg"),
    ]


def test_attachments_of_a_page_that_is_a_file_have_a_folder() -> None:
    """Attachments of a permalink that ends with .html have a folder of its name."""
    site = site_of('pages: {permalink: "/n/{slug}.html"}\n')
    post = load_post("# A\n\n[x](a.pdf)\n", site=site, sizes={"a.pdf": 1})
    assert post.attachments == (Attachment("posts/a.pdf", "n/we-moved/a.pdf"),)
    assert 'href="https://news.example.com/n/we-moved/a.pdf"' in post.html


@pytest.mark.parametrize(
    ("written", "enclosure"),
    [
        (
            "talk.mp3",
            Enclosure("https://news.example.com/posts/we-moved/talk.mp3", "audio/mpeg", 9),
        ),
        (
            "{url: talk.mp3, type: audio/x-talk, length: 7}",
            Enclosure("https://news.example.com/posts/we-moved/talk.mp3", "audio/x-talk", 7),
        ),
        (
            "talk.m4a",
            Enclosure("https://news.example.com/posts/we-moved/talk.m4a", "audio/mp4", 8),
        ),
        (
            "{url: https://example.com/a.pdf, length: 5}",
            Enclosure("https://example.com/a.pdf", "application/pdf", 5),
        ),
    ],
)
def test_an_enclosure_has_a_type_and_a_length(written: str, enclosure: Enclosure) -> None:
    """Type and length of a file beside the post are found; those of others are written."""
    post = load_post(f"---\nenclosure: {written}\n---\n# A\n", sizes={"talk.mp3": 9, "talk.m4a": 8})
    assert post.enclosure == enclosure


@pytest.mark.parametrize(
    ("written", "missing"),
    [
        ("https://example.com/a.mp3", "the length of 'https://example.com/a.mp3' is unknown"),
        ("https://example.com/a", "the type and the length of 'https://example.com/a' are unknown"),
        ("data.xyz", "the type of 'data.xyz' is unknown"),
        ("empty.mp3", "the length of 'empty.mp3' is unknown"),
    ],
)
def test_an_enclosure_without_type_or_length_is_refused(written: str, missing: str) -> None:
    """RSS requires URL, type and length, so those that cannot be found must be written."""
    text = f"---\nenclosure: {written}\n---\n# A\n"
    repair = "write {url: …, type: audio/mpeg, length: 1234567}, or name a file beside the post"
    assert problems_of({"2026-11-20-a.md": text}, sizes={"data.xyz": 3, "empty.mp3": 0}) == [
        f"posts/2026-11-20-a.md:2: enclosure: {missing}; {repair}"
    ]


@pytest.mark.parametrize("key", ["image", "enclosure"])
@pytest.mark.parametrize("written", ["gone.png", "../gone.png", "javascript:alert(1)"])
def test_a_missing_file_is_refused(key: str, written: str) -> None:
    """A missing image or enclosure is an error."""
    text = f"---\n{key}: {written}\n---\n# A\n"
    assert problems_of({"2026-11-20-a.md": text}) == [
        f"posts/2026-11-20-a.md:2: {key}: {ABSENT.format(written)}"
    ]


# --- On disk ---


def test_folders_are_read_recursively(make_site: MakeSite) -> None:
    """Hidden files and files that begin with an underscore are skipped."""
    folder = make_site(
        {
            "posts/2026-11-20-a.md": "# A\n",
            "posts/2026/x.md/2026-11-19-b.markdown": "# B\n\n[x](door.jpg)\n",
            "posts/2026-11-18-C.MD": "# C\n",
            "posts/2026/x.md/door.jpg": b"123",
            "posts/.hidden.md": "",
            "posts/.git/c.md": "",
            "posts/_index.md": "",
            "posts/_parts/d.md": "",
            "posts/notes.txt": "",
        }
    )
    loaded = loader.load_posts(folder, site_of(), AT)
    assert [post.path for post in loaded.posts] == [
        "posts/2026-11-20-a.md",
        "posts/2026/x.md/2026-11-19-b.markdown",
        "posts/2026-11-18-C.MD",
    ]
    assert loaded.posts[1].attachments == (
        Attachment("posts/2026/x.md/door.jpg", "posts/b/door.jpg"),
    )


def test_links_inside_the_site_are_followed(make_site: MakeSite) -> None:
    """A post or an image may be a symbolic link to another file of the site."""
    folder = make_site({"shared/a.md": "# A\n\n[x](b.txt)\n", "shared/b.txt": "123"})
    (folder / "posts/2026-11-20-a.md").symlink_to("../shared/a.md")
    (folder / "posts/b.txt").symlink_to(folder / "shared/b.txt")
    (post,) = loader.load_posts(folder, site_of(), AT).posts
    assert (post.title, len(post.attachments)) == ("A", 1)


def refusals(folder: Path) -> list[str]:
    """Return the problems of the posts in `folder`."""
    with pytest.raises(ContentError) as caught:
        loader.load_posts(folder, site_of(), AT)
    return [str(problem) for problem in caught.value.problems]


REPLACE = "replace it with a file that can be read"


def test_links_out_of_the_site_are_refused(make_site: MakeSite, tmp_path: Path) -> None:
    """A post can publish neither other files of the machine nor hidden files."""
    (tmp_path / "secret.md").write_text("# Secret\n")
    folder = make_site({".postroom/postroom.db": "addresses"})
    (folder / "posts/a.md").symlink_to(tmp_path / "secret.md")
    (folder / "posts/b.png").symlink_to("../../secret.md")
    (folder / "posts/c.txt").symlink_to("../.postroom/postroom.db")
    (folder / "out").symlink_to(tmp_path)
    (folder / "posts/d.md").symlink_to("../out/secret.md")
    assert refusals(folder) == [
        f"posts/a.md: leads out of the site; {REPLACE}",
        f"posts/b.png: leads out of the site; {REPLACE}",
        f"posts/c.txt: leads to the hidden '.postroom'; {REPLACE}",
        f"posts/d.md: leads out of the site; {REPLACE}",
    ]


def test_an_unreadable_file_is_reported(make_site: MakeSite) -> None:
    """A circular link, a broken link, a folder and a pipe are errors without a traceback."""
    folder = make_site({"shared/x/y.md": "# Y\n"})
    (folder / "posts/a.md").symlink_to("b.md")
    (folder / "posts/b.md").symlink_to("a.md")
    (folder / "posts/c.md").symlink_to("gone.md")
    (folder / "posts/d").symlink_to("../shared/x")
    os.mkfifo(folder / "posts/e.md")
    os.mkfifo(folder / "shared/pipe")
    (folder / "posts/f.md").symlink_to("../shared/pipe")
    assert refusals(folder) == [
        f"posts/a.md: cannot be read: too many levels of symbolic links; {REPLACE}",
        f"posts/b.md: cannot be read: too many levels of symbolic links; {REPLACE}",
        f"posts/c.md: cannot be read: no such file or directory; {REPLACE}",
        f"posts/d: is not a file; {REPLACE}",
        f"posts/e.md: is not a file; {REPLACE}",
        f"posts/f.md: is not a file; {REPLACE}",
    ]


def test_a_file_name_that_is_not_utf_8_is_reported(make_site: MakeSite) -> None:
    """A file name that is not UTF-8 is an error, because no URL can contain it."""
    folder = make_site()
    (Path(os.fsdecode(os.fsencode(folder) + b"/posts/caf\xe9.md"))).write_text("# A\n")
    assert refusals(folder) == [f"posts/caf\udce9.md: has a name that is not UTF-8; {REPLACE}"]


def test_a_file_name_of_two_lines_is_printed_in_one(make_site: MakeSite) -> None:
    """No file name can forge a line of the output."""
    folder = make_site({"posts/a\nerror: b.md": ""})
    assert refusals(folder)[0].startswith("posts/a\\x0aerror: b.md:1: date: is missing")


def test_a_folder_that_cannot_be_listed_is_reported(make_site: MakeSite) -> None:
    """A folder with a path too long for the system is an error, so that no post is lost."""
    folder = make_site()
    home = Path.cwd()
    os.chdir(folder / "posts")
    try:
        for _ in range(18):
            Path("x" * 250).mkdir()
            os.chdir("x" * 250)
    finally:
        os.chdir(home)
    (expected,) = refusals(folder)
    assert expected.endswith(f": cannot be read: file name too long; {REPLACE}")
    shutil.rmtree(folder / "posts")


def test_the_folder_of_posts_is_required_but_may_be_empty(make_site: MakeSite) -> None:
    """A site may have no posts, but a missing folder of posts is an error."""
    folder = make_site()
    assert loader.load_posts(folder, site_of(), AT) == LoadedPosts(())
    (folder / "posts").rmdir()
    assert refusals(folder) == ["posts: is not a folder; create it, or set posts: in postroom.yaml"]


def test_the_folder_of_posts_can_be_set(make_site: MakeSite) -> None:
    """With `posts:`, paths are relative to the site and ids to the folder of the posts."""
    folder = make_site({"content/news/2026-11-20-a.md": "# A\n"})
    (post,) = loader.load_posts(folder, site_of("posts: content/news\n"), AT).posts
    assert (post.path, post.id) == ("content/news/2026-11-20-a.md", f"{TAG}2026-11-20-a.md")
