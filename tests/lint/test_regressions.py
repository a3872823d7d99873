"""`postroom check --against`: what feed readers lose compared with an earlier output or feed."""

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
    """Return a site of five posts, built: its archive has two documents of two posts."""
    files = {f"posts/{n}.md": post(n, f"1{n}") for n in range(5)}
    folder = make_site(files, CHECKS)
    monkeypatch.chdir(folder)
    assert main(["build", "--at", AT.isoformat()]) == 0
    assert sorted(path.name for path in (folder / "public/history").glob("*.json")) == [
        "1.json", "2.json",
    ]  # fmt: skip
    return folder


def found(folder: Path, postroom: Run, against: str = "public") -> list[str]:
    """Return the findings about the site, without hints."""
    outcome = postroom(folder, "check", "--against", against)
    return [
        line.partition(";")[0] + line[line.rfind(" [") :]
        for line in outcome.errors + outcome.warnings
    ]


@pytest.mark.parametrize("against", ["public", *(f"public/{name}" for name in FEEDS)])
def test_unchanged_posts_have_no_finding(site_dir: Path, postroom: Run, against: str) -> None:
    """A new post or another domain changes nothing for feed readers."""
    assert found(site_dir, postroom, against) == []
    (site_dir / "posts/5.md").write_text(post(5, "20"))
    assert found(site_dir, postroom, against) == []
    moved = (SETTINGS + CHECKS).replace("https://news.example.com/", "https://new.example.org/")
    (site_dir / "postroom.yaml").write_text(moved)
    assert found(site_dir, postroom, against) == []


@pytest.mark.parametrize("against", ["public", *(f"public/{name}" for name in FEEDS)])
def test_a_new_id_at_an_old_url_is_an_error(site_dir: Path, postroom: Run, against: str) -> None:
    """A post with a changed id would be shown again; the hint is the old id."""
    (site_dir / "posts/4.md").write_text(post(4, "14", id="tag:x.example,2026:four"))
    outcome = postroom(site_dir, "check", "--against", against)
    assert outcome.code == 1
    assert outcome.errors == [
        (
            f"posts/4.md:4: id: is tag:x.example,2026:four, but was tag:x.example,2026:4 in"
            f' {Path(against).name}; write id: "tag:x.example,2026:4" [earlier-id]'
        )
    ]


def test_a_moved_post_is_reported(site_dir: Path, postroom: Run) -> None:
    """A post with the same id at another URL breaks links; the hint is its old slug."""
    (site_dir / "posts/4.md").rename(site_dir / "posts/four.md")
    (line,) = postroom(site_dir, "check", "--against", "public/atom.xml").warnings
    url = "https://news.example.com/posts"
    assert line == (
        f"posts/four.md:1: slug: was published at {url}/4/ in atom.xml, and is at {url}/four/ now;"
        " write slug: 4, or redirect the old URL on the web server [earlier-address]"
    )


@pytest.mark.parametrize("change", ["deleted", "draft", "waits"])
def test_a_missing_post_is_reported(site_dir: Path, postroom: Run, change: str) -> None:
    """A deleted, drafted or postponed post is reported, because its URL stops working."""
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


def test_a_withdrawn_post_is_not_missing(site_dir: Path, postroom: Run) -> None:
    """A post withdrawn with `withdrawn:` keeps its id, its URL and its slot."""
    (site_dir / "posts/1.md").write_text(post(1, "11", withdrawn="2026-11-20"))
    assert found(site_dir, postroom) == []


def test_a_backdated_post_that_changes_archives_is_reported(site_dir: Path, postroom: Run) -> None:
    """A post dated among the archived ones is reported with the documents that it changes."""
    findings = []
    for day in ("12", "01", "14"):
        (site_dir / "posts/old.md").write_text(post(9, day))
        findings.append(found(site_dir, postroom))
    end = "which feed readers do not fetch again [earlier-history]"
    assert findings == [
        [f"posts/old.md:3: date: 2026-11-12 changes history/2, {end}"],
        [f"posts/old.md:3: date: 2026-11-01 changes history/1 to 2, {end}"],
        [],
    ]


def test_another_chunk_size_changes_archives(site_dir: Path, postroom: Run) -> None:
    """Another number of entries or a deleted post changes every later document."""
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
def test_a_file_that_is_no_feed_is_wrong_use(
    site_dir: Path, postroom: Run, name: str, text: str | None, what: str
) -> None:
    """A path that is neither an output nor a feed is reported, and nothing is checked."""
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
def test_invalid_entries_of_a_feed_are_missing_posts(
    site_dir: Path, postroom: Run, text: str
) -> None:
    """An entry that cannot be read counts as no longer published, without a traceback."""
    name = "a.json" if text.startswith("{") else "a.xml"
    (site_dir / name).write_text(text)
    findings = found(site_dir, postroom, name)
    assert findings
    assert all(line.endswith("is no longer published [earlier-gone]") for line in findings)


def test_a_missing_feed_is_wrong_use(site_dir: Path, postroom: Run) -> None:
    """A path that does not exist is reported with its name."""
    outcome = postroom(site_dir, "check", "--against", "publik")
    assert outcome.code == 2
    assert "'publik' does not exist" in outcome.err


def test_a_circular_link_is_no_feed(site_dir: Path, postroom: Run) -> None:
    """A circular link in place of a feed is reported, and nothing is checked."""
    (site_dir / "old").mkdir()
    (site_dir / "old/atom.xml").symlink_to("atom.xml")
    outcome = postroom(site_dir, "check", "--against", "old")
    assert (outcome.code, outcome.errors) == (
        2,
        ["old: contains no feed; name an output folder with a feed, or a feed"],
    )


def test_an_entity_shows_no_local_file(site_dir: Path, postroom: Run) -> None:
    """A feed with an entity of a local file shows nothing of that file."""
    (site_dir / "secret").write_text("hidden words")
    (site_dir / "a.xml").write_text(
        f'<!DOCTYPE rss [<!ENTITY x SYSTEM "file://{site_dir}/secret">]>'
        "<rss><channel><item><guid>&x;</guid><link>/</link></item></channel></rss>"
    )
    outcome = postroom(site_dir, "check", "--against", "a.xml")
    assert "hidden words" not in outcome.out + outcome.err
