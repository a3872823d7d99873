"""Feed readers show no post twice, even if its URL changes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from reader import Reader

from tests.support.feed_readers import (
    FORMATS,
    NAMES,
    Item,
    PollResult,
    items,
    let_time_pass,
    newsboat,
    poll,
    serving,
    shown_entries,
    subscribed,
)
from tests.support.generated_sites import FIRST_DAY, SETTINGS, feeds, short_post, short_posts
from tests.support.site import CommandResult, MakeSite

Run = Callable[..., CommandResult]
COUNT = 6


@pytest.fixture
def old(make_site: MakeSite, postroom: Run) -> Path:
    """Return a built site whose posts got their ids from `check --fix`."""
    files = {f"posts/2026-01-0{n}-news-{n}.md": f"# News {n}\n\nText {n}.\n" for n in range(1, 6)}
    files["posts/deep/er/six.md"] = "---\ntitle: Six\ndate: 2026-01-06\ntopics: [A]\n---\nText.\n"
    folder = make_site(files)
    assert postroom(folder, "check", "--fix").code == 0
    assert postroom(folder, "build").code == 0
    let_time_pass(folder / "public")
    return folder


def move_everything(folder: Path) -> dict[str, tuple[str, str]]:
    """Rename all files, retitle all posts and move the site; return the new values."""
    now = {}
    for number, path in enumerate(sorted((folder / "posts").rglob("*.md"))):
        text = path.read_text("utf-8")
        found = re.search(r'^id: "(.*)"$', text, re.MULTILINE)
        assert found
        head = f"title: Moved {number}\ndate: 2026-01-{number + 1:02}\nid: {found[1]}\n"
        path.unlink()
        (folder / f"posts/moved-{number}.md").write_text(f"---\n{head}---\nOther words.\n")
        url = f"https://moved.example.net/2026/01/moved-{number}.html"
        now[found[1]] = (f"Moved {number}", url)
    settings = (folder / "postroom.yaml").read_text("utf-8")
    settings = settings.replace("https://news.example.com/", "https://moved.example.net/")
    settings += 'pages: {permalink: "/{year}/{month}/{slug}.html"}\n'
    (folder / "postroom.yaml").write_text(settings)
    return now


@contextmanager
def feed_readers(folder: Path) -> Iterator[list[Reader]]:
    """Serve `folder` and yield a feed reader for each format before its first poll."""
    with serving(folder) as server, ExitStack() as stack:
        yield [stack.enter_context(subscribed(server.url + file)) for file in FORMATS]


def mark_all_as_read(reader: Reader) -> None:
    """Mark every entry as read."""
    for entry in reader.get_entries():
        reader.mark_entry_as_read(entry)


def test_a_feed_reader_sees_no_new_entry_after_a_move(old: Path, postroom: Run) -> None:
    """A feed reader sees no new entry after every file, title, URL and the domain changed."""
    with feed_readers(old / "public") as readers:
        for reader in readers:
            assert poll(reader) == PollResult(new=COUNT, modified=0, unmodified=0)
            mark_all_as_read(reader)
        now = move_everything(old)
        assert postroom(old, "build").code == 0
        for reader in readers:
            assert poll(reader) == PollResult(new=0, modified=COUNT, unmodified=0)
            assert shown_entries(reader) == now
            assert list(reader.get_entries(read=False)) == []


def test_newsboat_sees_no_new_entry_after_a_move(
    old: Path, postroom: Run, program: Callable[[str], str], tmp_path: Path
) -> None:
    """Newsboat shows the new titles and URLs of the same posts."""
    path = program("newsboat")
    homes = {file: tmp_path / f"newsboat-{file}" for file in FORMATS[:2]}
    for home in homes.values():
        home.mkdir()
    with serving(old / "public") as server:
        before = [newsboat(path, home, server.url + file) for file, home in homes.items()]
        now = move_everything(old)
        assert postroom(old, "build").code == 0
        after = [newsboat(path, home, server.url + file) for file, home in homes.items()]
    assert all(entries.keys() == now.keys() and entries != now for entries in before)
    assert after == [now, now]


def test_without_written_ids_a_renamed_post_is_new(make_site: MakeSite, postroom: Run) -> None:
    """A renamed file without a written id is another post."""
    folder = make_site({"posts/2026-01-01-a.md": "# One\n\nText.\n"})
    postroom(folder, "build")
    let_time_pass(folder / "public")
    with serving(folder / "public") as server, subscribed(server.url + "atom.xml") as reader:
        assert poll(reader).new == 1
        (folder / "posts/2026-01-01-a.md").rename(folder / "posts/2026-01-01-b.md")
        postroom(folder, "build")
        assert poll(reader).new == 1


def test_written_ids_are_the_published_ones(make_site: MakeSite, postroom: Run) -> None:
    """Writing the missing ids changes no byte of any feed."""
    names = ("2026-01-01-a.md", "sub folder/2026-01-02-b c.md", "2026-01-03-新闻.md")
    folder = make_site({f"posts/{name}": "# Title\n\nText.\n" for name in names})
    postroom(folder, "build")
    before = [(folder / "public" / file).read_bytes() for file in FORMATS]
    warnings = postroom(folder, "check", "--fix").warnings
    assert [warning for warning in warnings if " id: " in warning] == []
    outcome = postroom(folder, "build")
    assert outcome.out.endswith(": 0 files written, " + outcome.out.rsplit("written, ")[-1])
    assert [(folder / "public" / file).read_bytes() for file in FORMATS] == before
    for document in before:
        assert [item.id for item in items(document)] == [
            "tag:news.example.com,2026:2026-01-03-%E6%96%B0%E9%97%BB.md",
            "tag:news.example.com,2026:sub%20folder/2026-01-02-b%20c.md",
            "tag:news.example.com,2026:2026-01-01-a.md",
        ]


def test_an_edit_makes_nothing_unread(old: Path, postroom: Run) -> None:
    """A corrected text is read, but no entry is new, unread or has another time."""
    with feed_readers(old / "public") as readers:
        for reader in readers:
            poll(reader)
            mark_all_as_read(reader)
        times = [entry_times(reader) for reader in readers]
        path = old / "posts/2026-01-03-news-3.md"
        path.write_text(path.read_text("utf-8").replace("Text 3", "Corrected"))
        postroom(old, "build")
        for reader, before in zip(readers, times, strict=True):
            polled = poll(reader)
            assert (polled.new, polled.modified + polled.unmodified) == (0, COUNT)
            assert entry_times(reader) == before
            edited = [e.title for e in reader.get_entries() if "Corrected" in str(e.content)]
            assert edited == ["News 3"]
            assert list(reader.get_entries(read=False)) == []


def entry_times(reader: Reader) -> dict[str, tuple[object, object]]:
    """Return the times of each entry, by its id."""
    return {entry.id: (entry.published, entry.updated) for entry in reader.get_entries()}


def test_an_update_changes_only_its_own_time(old: Path, postroom: Run) -> None:
    """`updated:` changes the time of that entry and of the feed, and no other."""
    before = items((old / "public/atom.xml").read_bytes())
    path = old / "posts/2026-01-03-news-3.md"
    text = path.read_text("utf-8")
    path.write_text(text.replace("---\n", "---\nupdated: 2026-02-01 09:00\n", 1))
    postroom(old, "build")
    after = items((old / "public/atom.xml").read_bytes())
    changed = [now.title for was, now in zip(before, after, strict=True) if was != now]
    assert changed == ["News 3"]
    feed = (old / "public/atom.xml").read_text("utf-8")
    assert feed.count("<updated>2026-02-01T09:00:00+01:00</updated>") == 2


@given(
    days=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    times=st.lists(
        st.sampled_from(["", " 00:00", " 09:00", " 09:00:01", " 09:00 +02:00"]), min_size=12
    ),
    updated=st.lists(st.sampled_from(["", "2024-01-05", "2024-01-05 09:00"]), min_size=12),
)
@settings(deadline=None, max_examples=40)
def test_no_two_entries_share_a_time(
    *, days: list[int], times: list[str], updated: list[str]
) -> None:
    """Every entry has a unique `updated` and a unique `published`, whatever the dates of posts."""
    texts = {}
    for number, day in enumerate(days):
        extra = f"updated: {updated[number]}\n" if updated[number] else ""
        moment = FIRST_DAY.replace(day=1 + day)
        text = short_post(number, moment, extra)
        texts[f"{number}.md"] = text.replace(f"{moment}\n", f"{moment}{times[number]}\n", 1)
    known = items(feeds(texts).files["atom.xml"])
    assert len({item.updated for item in known}) == len(days)
    assert len({item.published for item in known}) == len(days)


def test_a_withdrawn_post_is_the_same_post(make_site: MakeSite, postroom: Run) -> None:
    """A withdrawn post keeps id, title and date; a notice replaces all its content."""
    head = "title: Wrong\ndate: 2026-01-01\nid: tag:a.example,2026:1\nsummary: Secret summary\n"
    head += "image: {src: secret.png, alt: Secret}\nenclosure: secret.mp3\n"
    body = "---\n\nSecret text with a [file](secret.pdf).\n"
    beside = {f"posts/secret.{end}": b"Secret" for end in ("png", "mp3", "pdf")}
    folder = make_site({"posts/a.md": f"---\n{head}{body}", **beside})
    postroom(folder, "build")
    before = [items((folder / "public" / file).read_bytes()) for file in FORMATS]
    let_time_pass(folder / "public")
    with feed_readers(folder / "public") as readers:
        assert [poll(reader) for reader in readers] == [PollResult(1, 0, 0)] * len(FORMATS)
        (folder / "posts/a.md").write_text(f"---\n{head}withdrawn: 2026-02-01\n{body}")
        postroom(folder, "build")
        assert [poll(reader) for reader in readers] == [PollResult(0, 1, 0)] * len(FORMATS)
    for file, (old_item,) in zip(FORMATS, before, strict=True):
        data = (folder / "public" / file).read_bytes()
        (item,) = items(data)
        assert identity(item) == identity(old_item)
        assert item.updated is None or item.updated.date().isoformat() == "2026-02-01"
        assert re.search(r"withdr|February 1, 2026|1 February 2026", item.content)
        assert b"ecret" not in data
    assert list((folder / "public").rglob("secret.*")) == []


def identity(item: Item) -> tuple[object, ...]:
    """Return the values that must not change."""
    return item.id, item.title, item.url, item.published


@pytest.mark.parametrize(
    ("lang", "folders"),
    [
        (["", ""], []),
        (["", "en"], []),
        (["de", "de"], []),
        (["", "de"], ["de", "en"]),
        (["EN", "en"], []),
        (["zh-Hant", "zh-hant", "de"], ["de", "zh-Hant"]),
    ],
    ids=["none", "the-same", "one", "two", "case", "case-of-three"],
)
def test_two_languages_have_feeds(lang: list[str], folders: list[str]) -> None:
    """Sites of two or more languages have feeds per language; spellings of a tag are one."""
    texts = {
        f"{number}.md": short_post(number, FIRST_DAY.replace(day=9 - number), f"lang: {tag}\n")
        for number, tag in enumerate(lang)
    }
    made = feeds(texts)
    expected = [f"lang/{folder}/{file}" for folder in folders for file in FORMATS]
    assert [path for path in made.files if path.startswith("lang/")] == expected


def test_a_feed_of_a_language_names_it() -> None:
    """A language's feed names that language, so its entries do not."""
    made = feeds({**short_posts(range(2)), "de.md": short_post(9, FIRST_DAY, "lang: de\n")}).files
    assert json.loads(made["lang/de/feed.json"])["language"] == "de"
    assert made["lang/de/atom.xml"].count(b'xml:lang="de"') == 1
    assert made["atom.xml"].count(b'<entry xml:lang="de">') == 1
    assert b"<language>de</language>" in made["lang/de/rss.xml"]
    assert b"dc:language" not in made["lang/de/rss.xml"]
    assert len(items(made["lang/de/rss.xml"])) == 1


@pytest.mark.parametrize(
    ("setting", "full"),
    [
        ("full", set(FORMATS)),
        ("summary", set()),
        ("{rss: summary}", {"atom.xml", "feed.json"}),
        ("{atom: summary, json: summary}", {"rss.xml"}),
    ],
)
def test_content_can_be_set_for_each_format(setting: str, full: set[str]) -> None:
    """Each format has the whole text or the summary, as in the settings."""
    made = feeds(
        {"a.md": short_post(1, FIRST_DAY, "summary: In short.\n")},
        f"feeds: {{content: {setting}}}\n",
    ).files
    known = {file: items(made[file])[0] for file in FORMATS}
    assert {file for file, item in known.items() if item.content == "<p>Text 1.</p>\n"} == full
    assert {item.summary for item in known.values()} == {"In short."}


@pytest.mark.parametrize("formats", ["atom", "rss", "json", "rss, json"])
def test_formats_can_be_chosen(formats: str) -> None:
    """Only the formats of the settings are written."""
    made = feeds(short_posts(range(3)), f"feeds: {{formats: [{formats}]}}\n")
    names = {"atom": "atom.xml", "rss": "rss.xml", "json": "feed.json"}
    assert set(made.files) == {names[name] for name in formats.split(", ")}


def test_every_format_names_the_hub_and_xml_the_rights() -> None:
    """Atom and RSS name hub, licence and rights; JSON Feed names the hub alone."""
    made = feeds(short_posts(range(9)), SETTINGS.replace("feeds: {", "feeds: {entries: 4, ")).files
    for path in ("atom.xml", "history/1.atom.xml", "topics/nothing-yet/atom.xml", "rss.xml"):
        root = etree.fromstring(made[path])
        links = {link.get("rel"): link.get("href") for link in root.iterfind(".//a:link", NAMES)}
        assert links["hub"] == "https://hub.example.com/"
        assert links["license"] == "https://example.com/by"
        rights = root.findtext("a:rights", None, NAMES) or root.findtext("channel/copyright")
        assert rights == "© Us & <you>"
    for path in ("feed.json", "history/1.json", "topics/nothing-yet/feed.json"):
        hubs = json.loads(made[path])["hubs"]
        assert hubs == [{"type": "WebSub", "url": "https://hub.example.com/"}]
