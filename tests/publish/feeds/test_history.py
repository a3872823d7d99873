"""The complete history: archives that never change, and a head document (RFC 5005)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from postroom.lint.feeds import lint_feed
from tests.support.feed_readers import FORMATS, NAMES, Item, items
from tests.support.generated_sites import (
    FIRST_DAY,
    Feeds,
    feeds,
    read,
    short_post,
    short_posts,
    site_with,
)

BASE = "https://news.example.com/"
BACKDATED = {"old.md": short_post(900, FIRST_DAY + timedelta(hours=36))}


def made_with(texts: Mapping[str, str], entries: int) -> Feeds:
    """Return the feeds of `texts` with so many entries in each."""
    return feeds(texts, f"feeds: {{entries: {entries}}}\n")


def chain(folder: Path, file: str) -> list[str]:
    """Return the paths from the head `file` along its links to the oldest archive."""
    paths = [file]
    while further := older((folder / paths[-1]).read_bytes()):
        assert further not in paths
        paths.append(further)
    return paths


def older(data: bytes) -> str:
    """Return the path of the next older archive, if any."""
    if data.startswith(b"{"):
        address = str(json.loads(data).get("next_url", ""))
    else:
        links = etree.fromstring(data).findall(".//a:link[@rel='prev-archive']", NAMES)
        address = "".join(link.get("href", "") for link in links)
    return address.removeprefix(BASE)


def merged(documents: list[bytes]) -> dict[str, Item]:
    """Return the entries after merging all documents by id: the newest `updated` wins."""
    known: dict[str, Item] = {}
    for data in documents:
        found = items(data)
        assert len({item.id for item in found}) == len(found)
        for item in found:
            there = known.get(item.id)
            newer = there and item.updated and there.updated and item.updated > there.updated
            if there is None or newer:
                known[item.id] = item
    return known


@given(
    count=st.integers(0, 75),
    entries=st.integers(3, 20),
    deleted=st.sets(st.integers(0, 74), max_size=5),
    withdrawn=st.sets(st.integers(0, 74), max_size=5),
    backdated=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_the_chain_holds_every_post(
    *, count: int, entries: int, deleted: set[int], withdrawn: set[int], backdated: bool
) -> None:
    """The chain from the head to the oldest archive has exactly the published posts."""
    texts = short_posts(range(count))
    for number in withdrawn & set(range(count)):
        day = FIRST_DAY + timedelta(days=number)
        texts[f"{number:03}.md"] = short_post(number, day, f"withdrawn: {day}\n")
    texts = {path: text for path, text in texts.items() if int(path[:3]) not in deleted}
    texts |= BACKDATED if backdated else {}
    made = made_with(texts, entries)
    expected = {post.id: post for post in read(texts, site_with())}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "history").mkdir()
        for path, data in made.files.items():
            (folder / path).write_bytes(data)
        for file in FORMATS:
            paths = chain(folder, file)
            known = merged([(folder / path).read_bytes() for path in paths])
            assert {i: (entry.title, entry.url) for i, entry in known.items()} == {
                i: (post.title, post.url) for i, post in expected.items()
            }
            assert len(paths) - 1 == (len(texts) // entries if len(texts) > entries else 0)
            assert all(len(items(made.files[path])) == entries for path in paths[1:])


@pytest.mark.parametrize("file", FORMATS[:2])
@pytest.mark.parametrize(("count", "complete"), [(0, True), (1, True), (5, True), (6, False)])
def test_a_complete_feed_is_marked(file: str, count: int, *, complete: bool) -> None:
    """Up to `entries` posts the feed is marked complete and there are no archives."""
    files = made_with(short_posts(range(count)), 5).files
    assert (b"<fh:complete/>" in files[file]) is complete
    assert any(path.startswith("history/") for path in files) is not complete
    assert (older(files[file]) == "") is complete


@pytest.mark.parametrize("file", ["atom.xml", "rss.xml"])
def test_an_archive_is_marked(file: str) -> None:
    """Each archive is marked, names the current feed, and never the archive after it."""
    files = made_with(short_posts(range(15)), 4).files
    for number in (1, 2, 3):
        path = f"history/{number}.{file}"
        root = etree.fromstring(files[path])
        assert len(root.findall(".//fh:archive", NAMES)) == 1
        assert root.findall(".//fh:complete", NAMES) == []
        links = {link.get("rel"): link.get("href") for link in root.iterfind(".//a:link", NAMES)}
        assert (links["self"], links["current"]) == (BASE + path, BASE + file)
        assert links.get("prev-archive") == (
            f"{BASE}history/{number - 1}.{file}" if number > 1 else None
        )
        assert not {"next-archive", "next", "prev"} & links.keys()
        assert lint_feed(files[path], path) == []


def test_other_feeds_have_no_history() -> None:
    """Feeds of topics and languages have only the newest entries and no history."""
    texts = short_posts(range(9))
    texts = {path: text.replace("\n---", "\ntopics: [A]\n---") for path, text in texts.items()}
    texts["de.md"] = short_post(99, date(2024, 3, 1), "lang: de\n")
    files = made_with(texts, 3).files
    for path in ("topics/a/atom.xml", "lang/en/atom.xml", "lang/de/rss.xml"):
        assert older(files[path]) == ""
        assert b"<fh:" not in files[path]
    assert len(items(files["topics/a/atom.xml"])) == 3


def test_history_can_be_turned_off() -> None:
    """With `history: false` there is only the head, which is not marked complete."""
    files = feeds(short_posts(range(9)), "feeds: {entries: 3, history: false}\n").files
    assert set(files) == set(FORMATS)
    assert all(older(files[file]) == "" for file in FORMATS)
    assert b"<fh:" not in files["atom.xml"] + files["rss.xml"]


def changed(before: Feeds, after: Feeds) -> set[str]:
    """Return the paths of all documents that differ, are new or are gone."""
    paths = before.files.keys() | after.files.keys()
    return {path for path in paths if before.files.get(path) != after.files.get(path)}


@pytest.mark.parametrize("count", [0, 3, 4, 7, 8, 9, 11, 12, 39])
def test_publishing_changes_only_the_head(count: int) -> None:
    """A new post changes the heads; every `entries`-th adds one archive in each format."""
    before = made_with(short_posts(range(count)), 4)
    after = made_with(short_posts(range(count + 1)), 4)
    expected = set(FORMATS)
    if (count + 1) % 4 == 0 and count > 4:
        expected |= {f"history/{(count + 1) // 4}.{end}" for end in ("atom.xml", "rss.xml", "json")}
    elif count == 4:
        # The next post moves the four before it into the first archive.
        expected |= {f"history/1.{end}" for end in ("atom.xml", "rss.xml", "json")}
    assert changed(before, after) == expected


@pytest.mark.parametrize(("day", "first"), [(0, 1), (5, 2), (9, 3)])
def test_backdating_changes_only_later_archives(day: int, first: int) -> None:
    """A backdated post changes its own and all later archives."""
    texts = short_posts(range(14))
    moment = FIRST_DAY + timedelta(days=day)
    late = {"late.md": short_post(900, moment).replace(f"{moment}\n", f"{moment} 12:00\n")}
    touched = changed(made_with(texts, 4), made_with(texts | late, 4))
    archives = {int(path.split("/")[1].split(".")[0]) for path in touched if "/" in path}
    assert archives == set(range(first, 4))


def test_a_withdrawn_post_keeps_its_slot() -> None:
    """Withdrawing an archived post changes only its own archive and the head."""
    texts = short_posts(range(14))
    day = FIRST_DAY + timedelta(days=20)
    taken = {"005.md": short_post(5, FIRST_DAY + timedelta(days=5), f"withdrawn: {day}\n")}
    before, after = made_with(texts, 4), made_with(texts | taken, 4)
    endings = ("atom.xml", "rss.xml", "json")
    # RSS has no `updated`; the notice itself, which changes it, is put in by the build.
    assert changed(before, after) - {"history/2.rss.xml"} == {
        *FORMATS,
        *(f"history/2.{end}" for end in endings if end != "rss.xml"),
    }
    assert [item.id for item in items(after.files["history/2.json"])] == [
        item.id for item in items(before.files["history/2.json"])
    ]


@pytest.mark.parametrize(("days", "stands"), [(0, True), (30, True), (31, False)])
@pytest.mark.parametrize("key", ["withdrawn", "updated"])
@pytest.mark.parametrize("file", FORMATS)
def test_a_change_is_in_the_head_for_a_month(
    file: str, key: str, days: int, *, stands: bool
) -> None:
    """A changed post is in the head until a post is dated more than 30 days after the change."""
    change = date(2024, 6, 1)
    texts = short_posts(range(1, 10))
    texts["000.md"] = short_post(0, FIRST_DAY, f"{key}: {change}\n")
    texts["new.md"] = short_post(99, change + timedelta(days=days))
    found = items(made_with(texts, 3).files[file])
    assert ("tag:news.example.com,2026:0" in {item.id for item in found}) is stands
    assert len(found) == 3 + stands
    assert [item.published for item in found] == sorted(
        (item.published for item in found), reverse=True
    )


def test_an_update_changes_the_archive_of_its_post() -> None:
    """An archive has the current text of its posts; only their archive and the head change."""
    texts = short_posts(range(14))
    edited = short_post(5, FIRST_DAY + timedelta(days=5), "updated: 2024-06-01\n")
    before = made_with(texts, 4)
    after = made_with(texts | {"005.md": f"{edited}\nBetter words.\n"}, 4)
    endings = ("atom.xml", "rss.xml", "json")
    assert changed(before, after) == {*FORMATS, *(f"history/2.{end}" for end in endings)}
    assert all(b"Better words." in after.files[path] for path in changed(before, after))
