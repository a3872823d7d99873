"""`postroom check --against`: what readers of an earlier output, or feed, would lose."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from postroom.cli.main import main
from tests.support.site import AT, SETTINGS, CommandResult, MakeSite

Run = Callable[..., CommandResult]
CHECKS = "feeds: {entries: 2}\nchecks: {email-preheader: off, post-summary: off}\n"
FEEDS = ("atom.xml", "rss.xml", "feed.json")


def post(number: int, day: str, **lines: str) -> str:
    """Return a post with its own id, dated on a day of November."""
    head = {
        "title": f"Number {number}",
        "date": f"2026-11-{day}",
        "id": f"tag:x.example,2026:{number}",
    }
    head |= lines
    return "---\n" + "".join(f"{key}: {value}\n" for key, value in head.items()) + "---\nText.\n"


@pytest.fixture
def site_dir(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a newsroom of five posts, built: its archive has two documents of two posts."""
    files = {f"posts/{n}.md": post(n, f"1{n}") for n in range(5)}
    folder = make_site(files, CHECKS)
    monkeypatch.chdir(folder)
    assert main(["build", "--at", AT.isoformat()]) == 0
    assert sorted(path.name for path in (folder / "public/history").glob("*.json")) == [
        "1.json", "2.json",
    ]  # fmt: skip
    return folder


def found(folder: Path, postroom: Run, against: str = "public") -> list[str]:
    """Return what is said of the newsroom as it is now, the repairs left out."""
    outcome = postroom(folder, "check", "--against", against)
    return [
        line.partition(";")[0] + line[line.rfind(" [") :]
        for line in outcome.errors + outcome.warnings
    ]


@pytest.mark.parametrize("against", ["public", *(f"public/{name}" for name in FEEDS)])
def test_nothing_is_said_of_what_stayed(site_dir: Path, postroom: Run, against: str) -> None:
    """The same posts with a new one on top, or at another domain, change nothing for readers."""
    assert found(site_dir, postroom, against) == []
    (site_dir / "posts/5.md").write_text(post(5, "20"))
    assert found(site_dir, postroom, against) == []
    moved = (SETTINGS + CHECKS).replace("https://news.example.com/", "https://new.example.org/")
    (site_dir / "postroom.yaml").write_text(moved)
    assert found(site_dir, postroom, against) == []


@pytest.mark.parametrize("against", ["public", *(f"public/{name}" for name in FEEDS)])
def test_a_new_id_at_an_old_address_is_an_error(
    site_dir: Path, postroom: Run, against: str
) -> None:
    """A post whose id changed would be shown anew; the repair is to write the old one."""
    (site_dir / "posts/4.md").write_text(post(4, "14", id="tag:x.example,2026:four"))
    outcome = postroom(site_dir, "check", "--against", against)
    assert outcome.code == 1
    assert outcome.errors == [
        (
            f"posts/4.md:4: id: is tag:x.example,2026:four, but was tag:x.example,2026:4 in"
            f' {Path(against).name}; write id: "tag:x.example,2026:4" [earlier-id]'
        )
    ]


def test_a_moved_post_is_named(site_dir: Path, postroom: Run) -> None:
    """A post that keeps its id and stands elsewhere breaks links; its old slug is the repair."""
    (site_dir / "posts/4.md").rename(site_dir / "posts/four.md")
    (line,) = postroom(site_dir, "check", "--against", "public/atom.xml").warnings
    url = "https://news.example.com/posts"
    assert line == (
        f"posts/four.md:1: slug: was published at {url}/4/ in atom.xml, and is at {url}/four/ now;"
        " write slug: 4, or redirect the old URL on the web server [earlier-address]"
    )


@pytest.mark.parametrize("change", ["deleted", "draft", "waits"])
def test_a_post_that_is_gone_is_named(site_dir: Path, postroom: Run, change: str) -> None:
    """Deleted, a draft again or put off: readers have it, and its address answers no more."""
    path = site_dir / "posts/4.md"
    if change == "deleted":
        path.unlink()
    else:
        path.write_text(
            post(4, "14", **({"draft": "true"} if change == "draft" else {"date": "2027-01-01"}))
        )
    (line,) = found(site_dir, postroom, "public/feed.json")
    address = "https://news.example.com/posts/4/ (tag:x.example,2026:4)"
    assert line == f"feed.json: {address} is no longer published [earlier-gone]"


def test_a_withdrawn_post_is_not_gone(site_dir: Path, postroom: Run) -> None:
    """A post that is taken back as Postroom does it keeps its id, its address and its slot."""
    (site_dir / "posts/1.md").write_text(post(1, "11", withdrawn="2026-11-20"))
    assert found(site_dir, postroom) == []


def test_a_backdated_post_that_rewrites_the_history_is_named(site_dir: Path, postroom: Run) -> None:
    """A post dated among those that are archived is told, with the documents that it changes."""
    told = []
    for day in ("12", "01", "14"):
        (site_dir / "posts/old.md").write_text(post(9, day))
        told.append(found(site_dir, postroom))
    end = "which feed readers do not fetch again [earlier-history]"
    assert told == [
        [f"posts/old.md:3: date: 2026-11-12 changes history/2, {end}"],
        [f"posts/old.md:3: date: 2026-11-01 changes history/1 to 2, {end}"],
        [],
    ]


def test_other_chunks_rewrite_the_history(site_dir: Path, postroom: Run) -> None:
    """Another number of entries, or a deleted post, makes every document after it another one."""
    (site_dir / "postroom.yaml").write_text(SETTINGS + CHECKS.replace("entries: 2", "entries: 3"))
    assert found(site_dir, postroom) == [
        (
            "public: the site changes history/1 to 2, which feed readers do not fetch again"
            " [earlier-history]"
        )
    ]


BOMB = (
    '<!DOCTYPE rss [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in pairwise("abcdefghijkl"))
    + "]><rss><channel><item><guid>&l;</guid></item></channel></rss>"
)


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("empty", None, "contains no feed"),
        ("a.xml", "<html/>", "is neither Atom, RSS nor JSON Feed"),
        ("a.xml", "<feed", "is neither Atom, RSS nor JSON Feed"),
        ("a.xml", "", "is neither Atom, RSS nor JSON Feed"),
        ("a.json", "[]", "is neither Atom, RSS nor JSON Feed"),
        ("a.json", "{}", "is neither Atom, RSS nor JSON Feed"),
        ("a.json", '{"items": [1]}', "is neither Atom, RSS nor JSON Feed"),
        ("a.json", '{"items": ' + "[" * 100_000, "is neither Atom, RSS nor JSON Feed"),
        ("a.json", "\0\x01\x02" * 9_999, "is neither Atom, RSS nor JSON Feed"),
        ("a.xml", f"<rss>{'<a>' * 9_999}", "is neither Atom, RSS nor JSON Feed"),
        ("a.xml", BOMB, "is neither Atom, RSS nor JSON Feed"),
    ],
)
def test_what_is_no_feed_is_wrong_use(
    site_dir: Path, postroom: Run, name: str, text: str | None, what: str
) -> None:
    """Something else than an output or a feed is named, and nothing is looked at."""
    if text is None:
        (site_dir / name).mkdir()
    else:
        (site_dir / name).write_text(text)
    outcome = postroom(site_dir, "check", "--against", name)
    assert outcome.code == 2
    assert outcome.errors == [f"{name}: {what}; name an output folder with a feed, or a feed"]


@pytest.mark.parametrize(
    "text",
    [
        "<rss><channel><item><guid>g</guid><link>http://[</link></item></channel></rss>",
        '{"items": [{"id": {"a": 1}, "url": ["x"]}, {"url": "http://["}, {"id": "\\ud800"}]}',
        '{"items": [{}]}',
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry/><entry><link/></entry></feed>',
    ],
    ids=["bad address", "odd values", "no values", "empty entries"],
)
def test_odd_entries_of_a_feed_are_gone_posts(site_dir: Path, postroom: Run, text: str) -> None:
    """An entry that nobody can make sense of is one that is no longer published, never a trace."""
    name = "a.json" if text.startswith("{") else "a.xml"
    (site_dir / name).write_text(text)
    told = found(site_dir, postroom, name)
    assert told
    assert all(line.endswith("is no longer published [earlier-gone]") for line in told)


def test_a_feed_that_is_not_there_is_wrong_use(site_dir: Path, postroom: Run) -> None:
    """A slip in the name is told with the name."""
    outcome = postroom(site_dir, "check", "--against", "publik")
    assert outcome.code == 2
    assert "'publik' does not exist" in outcome.err


def test_a_feed_that_leads_to_itself_is_no_feed(site_dir: Path, postroom: Run) -> None:
    """A link in a circle where a feed should be is named, and nothing is looked at."""
    (site_dir / "old").mkdir()
    (site_dir / "old/atom.xml").symlink_to("atom.xml")
    outcome = postroom(site_dir, "check", "--against", "old")
    assert (outcome.code, outcome.errors) == (
        2,
        ["old: contains no feed; name an output folder with a feed, or a feed"],
    )


def test_an_entity_is_no_way_to_a_file(site_dir: Path, postroom: Run) -> None:
    """A feed that names a file of this machine gets nothing of it shown."""
    (site_dir / "secret").write_text("hidden words")
    (site_dir / "a.xml").write_text(
        f'<!DOCTYPE rss [<!ENTITY x SYSTEM "file://{site_dir}/secret">]>'
        "<rss><channel><item><guid>&x;</guid><link>/</link></item></channel></rss>"
    )
    outcome = postroom(site_dir, "check", "--against", "a.xml")
    assert "hidden words" not in outcome.out + outcome.err
