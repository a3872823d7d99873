"""Posts that are held back with the keys of any generator are neither published nor sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from postroom.posts import front_matter, loader
from postroom.posts.loader import LoadedPosts
from postroom.posts.source import SourceFolder
from postroom.settings.site import parse_settings
from tests.support.sending_site import KEY, MAIL, SiteWithServer
from tests.support.site import AT, POST, SETTINGS, CommandResult, MakeSite
from tests.support.sites import contents
from tests.support.smtp_server import scripted

Postroom = Callable[..., CommandResult]
# AT is noon of the 22nd in UTC, 13:00 on the site's clock.
DRAFTS = [
    "draft: true",
    "Draft: true",
    "DRAFT: yes",
    "published: false",
    "published: False",
    "published: no",
    "Published: 'false'",
    "publish: false",
    "status: draft",
    "status: Draft",
    "Status: private",
    "status: pending",
    "status: future",
    "status: scheduled",
    "status: in review",
    "status: unpublished",
    "status: trash",
    "visibility: private",
    "unlisted: true",
    "hidden: true",
    "private: on",
    "headless: true",
    "draft: false\npublished: false",
    "published: true\nstatus: draft",
    "status: published\nhidden: true",
    "draft: false\nDraft: true",
]
WAITING = [
    "publishDate: 2026-11-23",
    "publishdate: 2026-11-22 13:01",
    "publish_date: 2026-11-22T12:00:01Z",
    "publish-date: 2027-01-01",
    "PublishDate: 2026-11-23",
    "pubDate: 2026-11-23",
    "published: 2026-11-23",
    "publish: 2026-11-23 09:00",
    "published: true\npublishDate: 2026-11-23",
    "publishDate: 2026-11-21\npublish_date: 2026-11-23",
]
EXPIRED = [
    "expiryDate: 2026-11-21",
    "expirydate: 2026-11-22",
    "expiry_date: 2026-11-22 13:00",
    "expiry-date: 2026-11-22T12:00:00Z",
    "ExpiryDate: 2026-11-20",
    "unpublishDate: 2026-11-21",
    "unpublishdate: 2026-11-21",
    "unpublish_date: 2026-11-21",
    "expiryDate: 2027-01-01\nunpublish_date: 2026-11-21",
    "published: true\nexpiryDate: 2026-11-21",
]
PUBLISHED = [
    "draft: false",
    "published: true",
    "published: Yes",
    "published: 2026-01-01",
    "published: 2026-11-22",
    "publishDate: 2026-11-22 13:00",
    "publish_date: 2026-11-22T12:00:00Z",
    "status: published",
    "status: Publish",
    "status: public",
    "visibility: public",
    "unlisted: false",
    "hidden: no",
    "private: false",
    "expiryDate: 2026-11-23",
    "expiry_date: 2026-11-22 13:01",
    "published:",
    "status: ~",
]
KINDS = [
    "published: false",
    "status: draft",
    "unlisted: true",
    "hidden: true",
    "publishDate: 2026-11-23",
    "expiryDate: 2026-11-22",
]


def held_back(lines: str) -> str:
    """Return a post with these lines in its front matter."""
    return POST.replace("id: tag:news.example.com,2026:we-moved", f"id: urn:x-held:1\n{lines}")


def shown(site_dir: Path, postroom: Postroom, *options: str, at: datetime = AT) -> set[str]:
    """Build; return the names of the files that hold a word of the post."""
    outcome = postroom(site_dir, "build", *options, at=at)
    assert outcome.code == 0, outcome.err
    assert outcome.warnings == []
    return {name for name, data in contents(site_dir / "public").items() if b"We moved" in data}


def load(lines: str, at: datetime = AT, *, drafts: bool = False) -> LoadedPosts:
    """Return what a site of this one post has at an instant."""
    text = held_back(lines).replace("\ndate: 2026-11-20", "\ndate: 2026-11-19")
    site = parse_settings(SETTINGS.encode())
    return loader.read_posts(SourceFolder({"a.md": text.encode()}), site, at, drafts=drafts)


@pytest.mark.parametrize("lines", DRAFTS)
def test_every_word_for_a_draft_makes_one(lines: str) -> None:
    """It is out, without a warning, counted as a draft, and shown to those who ask for drafts."""
    loaded = load(lines)
    assert (loaded.posts, loaded.drafts, loaded.warnings) == ((), ("posts/a.md",), ())
    assert len(load(lines, drafts=True).posts) == 1


@pytest.mark.parametrize("lines", WAITING)
def test_every_word_for_later_lets_a_post_wait(lines: str) -> None:
    """It is out, without a warning, until its date has come."""
    loaded = load(lines)
    assert (loaded.posts, loaded.waiting, loaded.warnings) == ((), ("posts/a.md",), ())
    assert len(load(lines, datetime(2027, 1, 2, tzinfo=UTC)).posts) == 1


@pytest.mark.parametrize("lines", EXPIRED)
def test_every_word_for_an_end_ends_a_post(lines: str) -> None:
    """It is out, without a warning, and `--drafts` does not show it; before, it was there."""
    loaded = load(lines, drafts=True)
    assert (loaded.posts, loaded.expired, loaded.warnings) == ((), ("posts/a.md",), ())
    assert len(load(lines, datetime(2026, 11, 19, 12, tzinfo=UTC)).posts) == 1


@pytest.mark.parametrize("lines", PUBLISHED)
def test_the_other_answer_changes_nothing(lines: str) -> None:
    """The same keys, with the value that holds nothing back."""
    loaded = load(lines)
    assert (len(loaded.posts), loaded.warnings) == (1, ())


@pytest.mark.parametrize("lines", KINDS)
def test_a_post_that_is_held_back_is_nowhere(
    make_site: MakeSite, postroom: Postroom, lines: str
) -> None:
    """Neither page, list, feed, digest nor email holds a word of it, and no warning is needed."""
    site_dir = make_site({"posts/a.md": held_back(lines)}, MAIL)
    assert shown(site_dir, postroom) == set()
    assert not (site_dir / "public/digest").exists()
    assert postroom(site_dir, "digest", "--text").code == 2
    assert postroom(site_dir, "check").code == 0


def test_a_post_that_is_not_held_back_is_everywhere(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """The places in which nothing of the other posts was found."""
    lines = "published: 2026-11-22\nstatus: publish\nexpiryDate: 2026-11-23"
    site_dir = make_site({"posts/a.md": held_back(lines)}, MAIL)
    expected = {"atom.xml", "rss.xml", "feed.json", "posts/a/index.html", "index.html"}
    assert shown(site_dir, postroom) >= {*expected, "digest/2026-11/email.html"}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("published: false", "1 draft"),
        ("published: 2026-11-23", "1 waiting for their date"),
        ("expiryDate: 2026-11-22", "1 expired"),
    ],
)
def test_the_build_counts_what_it_holds_back(
    make_site: MakeSite, postroom: Postroom, lines: str, says: str
) -> None:
    """A person who wonders where a post is reads why it is not there."""
    site_dir = make_site({"posts/a.md": held_back(lines)})
    assert postroom(site_dir, "build").out.startswith(f"0 posts → public/, {says}: ")


@pytest.mark.parametrize("lines", ["publishDate: 2026-11-23", "expiryDate: 2026-11-21"])
def test_the_instant_of_the_build_decides(
    make_site: MakeSite, postroom: Postroom, lines: str
) -> None:
    """The instant of the build, not the clock, decides whether a post waits or has expired."""
    site_dir = make_site({"posts/a.md": held_back(lines)})
    there = "2026-11-24T00:00Z" if "publish" in lines else "2026-11-20T12:00Z"
    assert "atom.xml" in shown(site_dir, postroom, "--at", there)
    for days in (-900, 900):
        at = AT + timedelta(days=days)
        assert shown(site_dir, postroom, "--at", AT.isoformat(), at=at) == set()


def test_a_day_alone_begins_on_the_sites_clock(make_site: MakeSite, postroom: Postroom) -> None:
    """A post comes, and another one goes, as the day begins in the site's timezone."""
    midnight = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
    coming = make_site({"posts/a.md": held_back("publishDate: 2026-11-23")}, name="coming")
    going = make_site({"posts/a.md": held_back("expiryDate: 2026-11-23")}, name="going")
    for at, there in ((midnight - timedelta(seconds=1), False), (midnight, True)):
        assert ("atom.xml" in shown(coming, postroom, at=at)) == there
        assert ("atom.xml" in shown(going, postroom, at=at)) != there


def test_a_publish_date_moves_no_date(make_site: MakeSite, postroom: Postroom) -> None:
    """It holds a post back and no more: feeds and pages show the post's own date."""
    site_dir = make_site({"posts/a.md": held_back("publishDate: 2026-11-22")})
    shown(site_dir, postroom)
    feed = json.loads((site_dir / "public/feed.json").read_text("utf-8"))
    assert feed["items"][0]["date_published"].startswith("2026-11-20")


@pytest.mark.parametrize("folder", ["_drafts", "2026/_drafts", "2026/11/_drafts/more", "_Drafts"])
def test_folders_of_drafts_stay_out(make_site: MakeSite, postroom: Postroom, folder: str) -> None:
    """Files in `_drafts` are left out of every output at any depth, also where drafts are shown."""
    site_dir = make_site({f"posts/{folder}/2026-11-20-a.md": "# We moved\n\nWords.\n"})
    assert shown(site_dir, postroom) == set()
    assert shown(site_dir, postroom, "--drafts") == set()


@pytest.fixture
def sending_site(
    make_site: MakeSite, postroom: Postroom, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SiteWithServer]:
    """Yield a site with two subscribers of every post, and the mail server for them."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
    folder = make_site({}, MAIL)
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        sending_site = SiteWithServer(folder, server, postroom)
        sending_site.add("anna@example.com", "ben@example.com")
        yield sending_site


def plan(sending_site: SiteWithServer, at: datetime = AT) -> int:
    """Return how many subscribers `plan` would send an email to."""
    outcome = sending_site.call(sending_site.folder, "plan", "--json", at=at)
    assert outcome.code == 0, outcome.err
    return sum(each["subscribers"] for each in json.loads(outcome.out)["issues"])


@pytest.mark.parametrize("lines", KINDS)
def test_a_post_that_is_held_back_is_not_sent(sending_site: SiteWithServer, lines: str) -> None:
    """`plan` and `send` skip the post; once it is published, each subscriber receives it once."""
    sending_site.write("a.md", held_back(lines))
    assert plan(sending_site) == 0
    assert sending_site.send().code == 0
    assert sending_site.server.messages == []
    sending_site.write("a.md", held_back("published: true"))
    assert plan(sending_site) == 2
    assert [sending_site.send().code for _ in range(2)] == [0, 0]
    assert sending_site.email_counts() == {"anna@example.com": 1, "ben@example.com": 1}


def test_a_post_is_sent_once_its_publish_date_has_come(sending_site: SiteWithServer) -> None:
    """A post whose `date` is days before its `publishDate` is sent to all subscribers."""
    sending_site.write("a.md", held_back("publishDate: 2026-11-25"))
    days = [AT + timedelta(days=each) for each in range(5)]
    sent = []
    for day in days:
        assert sending_site.send(at=day).code == 0
        sent.append(len(sending_site.server.messages))
    assert sent == [0, 0, 0, 2, 2]


def test_a_post_that_expires_after_it_was_sent_is_sent_no_more(
    sending_site: SiteWithServer,
) -> None:
    """Subscribers who have it keep it; later ones, and a digest that is yet to come, lack it."""
    sending_site.write("a.md", held_back("expiryDate: 2026-11-24"))
    sending_site.write("b.md", POST.replace("We moved", "A second post"))
    sending_site.add("carl@example.com", frequency="week")
    assert sending_site.send().code == 0
    assert len(sending_site.server.messages) == 2
    monday = AT + timedelta(days=9)
    assert sending_site.send(at=monday).code == 0
    (last,) = sending_site.server.messages[2:]
    assert b"A second post" in last
    assert b"We moved" not in last


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "status: ready",
            (
                "2:9: status: found 'ready'; write published, publish, public or live, or to hold"
                " the post back draft, private, pending, in review, future, scheduled, hidden,"
                " unlisted, unpublished, archived or trash"
            ),
        ),
        ("published: soon", "2:12: published: found 'soon'; write true, false or a date"),
        ("published: 2026-13-01", "2:12: published: found '2026-13-01'; this day does not exist"),
        ("unlisted: perhaps", "2:11: unlisted: found 'perhaps'; write true or false"),
        ("hidden: [a]", "2:9: hidden: found a list; write one line of text"),
        ("expiry_date: never", "2:14: expiry_date: found 'never'; write a date such as 2026-11-22"),
        ("status: {a: b}", "2:9: status: found a mapping; write one line of text"),
    ],
)
def test_a_word_that_is_not_understood_is_an_error(line: str, fault: str) -> None:
    """Nothing is published by mistake; the error names the words that are understood."""
    _, errors, _ = front_matter.parse_front_matter(f"{line}\n", "posts/a.md")
    assert [str(post).startswith(f"posts/a.md:{fault}") for post in errors] == [True], errors


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("drafts: true", "draft"),
        ("publishd: false", "published"),
        ("statuss: draft", "status"),
        ("unlistd: true", "unlisted"),
        ("expireDate: 2026-11-22", "expiryDate"),
        ("publishDay: 2026-11-22", "publishDate"),
    ],
)
def test_a_slip_in_a_key_that_holds_back_is_warned_of(line: str, near: str) -> None:
    """A key that nearly is one, with a value that it could have, is not passed over in silence."""
    _, errors, warnings = front_matter.parse_front_matter(f"{line}\n", "posts/a.md")
    assert errors == []
    assert [post.hint for post in warnings] == [f"did you mean '{near}'?"]


@pytest.mark.parametrize("line", ["publisher: Example Press", "states: [Ohio]", "private_key: a"])
def test_a_key_with_a_value_of_another_kind_is_no_slip(line: str) -> None:
    """The keys of other programs are kept in silence."""
    assert front_matter.parse_front_matter(f"{line}\n", "posts/a.md")[1:] == ([], [])
