"""The Atom feed follows RFC 4287, and feed readers read it."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import feedparser
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree, html

from postroom.errors import ContentError
from postroom.publish.build import make_outputs
from tests.support import generated_sites
from tests.support.feed_readers import serving
from tests.support.site import SETTINGS, CommandResult, MakeSite

Postroom = Callable[..., CommandResult]
Build = Callable[..., bytes]
ATOM = "{http://www.w3.org/2005/Atom}"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"
# RFC 4287 §3.3: a date and time of RFC 3339 with its offset.
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def note(identity: str, date: str = "2026-11-20", text: str = "Text.", more: str = "") -> str:
    """Return a post."""
    head = f"title: Note {identity}\ndate: {date}\nid: tag:news.example.com,2026:{identity}\n"
    return f"---\n{head}{more}---\n{text}\n"


def children(element: etree._Element, name: str) -> list[etree._Element]:
    """Return the Atom elements called `name` directly below `element`."""
    return list(element.findall(ATOM + name))


def value(element: etree._Element, name: str) -> str:
    """Return the text of the only Atom element called `name` directly below `element`."""
    (found,) = children(element, name)
    return found.text or ""


def links(element: etree._Element) -> list[dict[str, str]]:
    """Return the attributes of each link of `element`."""
    return [{str(k): str(v) for k, v in link.attrib.items()} for link in children(element, "link")]


def seconds(element: etree._Element, name: str) -> datetime:
    """Return the instant in the only element called `name`."""
    text = value(element, name)
    assert INSTANT.fullmatch(text)
    return datetime.fromisoformat(text)


@pytest.fixture
def build(make_site: MakeSite, postroom: Postroom) -> Build:
    """Return a function that builds a site and returns its Atom feed."""

    def make(files: dict[str, str | bytes], more: str = "") -> bytes:
        # Without pages it is quicker.
        folder = make_site(files, f"{more}pages: {{enabled: false}}\n")
        outcome = postroom(folder, "build")
        assert outcome.code == 0, outcome.err
        return (folder / "public/atom.xml").read_bytes()

    return make


def test_the_newest_twenty_posts_come_newest_first(build: Build) -> None:
    """The feed holds the twenty newest posts by default, in order of their dates."""
    days = [f"2026-{month:02}-{day:02}" for month in range(1, 6) for day in (3, 9, 14, 20, 28)]
    feed = etree.fromstring(build({f"posts/{day}.md": note(day, day) for day in days}))
    ids = [value(entry, "id") for entry in children(feed, "entry")]
    assert ids == [f"tag:news.example.com,2026:{day}" for day in reversed(days[5:])]


def test_the_number_of_entries_can_be_set(build: Build) -> None:
    """`feeds.entries` says how many posts the feed holds."""
    days = [f"2026-11-{day:02}" for day in range(1, 8)]
    files: dict[str, str | bytes] = {f"posts/{day}.md": note(day, day) for day in days}
    feed = etree.fromstring(build(files, "feeds: {entries: 3}\n"))
    ids = [value(entry, "id")[-2:] for entry in children(feed, "entry")]
    assert ids == ["07", "06", "05"]


def test_required_elements_occur_once(build: Build) -> None:
    """A feed and each entry have one id, title and time (RFC 4287 §4.1)."""
    feed = etree.fromstring(build({"posts/a.md": note("a"), "posts/b.md": note("b")}))
    assert feed.tag == f"{ATOM}feed"
    entries = children(feed, "entry")
    assert len(entries) == 2
    for element in (feed, *entries):
        for name in ("id", "title", "updated"):
            assert value(element, name)
    for entry in entries:
        for name in ("published", "summary", "content"):
            assert len(children(entry, name)) == 1
    assert feed.get(LANG) == "en"
    assert value(feed, "id") == "tag:news.example.com,2026:"
    assert value(feed, "title") == "Example News"


def test_the_feeds_time_is_that_of_its_newest_entry(build: Build) -> None:
    """The feed's time is the latest of its entries, not the time of the build."""
    files = {
        "posts/a.md": note("a", "2026-11-01", more="updated: 2026-11-21 10:00\n"),
        "posts/b.md": note("b", "2026-11-20"),
    }
    feed = etree.fromstring(build(files))
    times = [seconds(entry, "updated") for entry in children(feed, "entry")]
    assert seconds(feed, "updated") == max(times)
    assert seconds(feed, "updated") == datetime.fromisoformat("2026-11-21T10:00:00+01:00")


def test_times_have_offsets_and_differ(build: Build) -> None:
    """Times are whole seconds and differ, since feed readers drop entries of equal times."""
    names = "abcdef"
    feed = etree.fromstring(build({f"posts/{name}.md": note(name) for name in names}))
    entries = children(feed, "entry")
    times = [seconds(entry, "published") for entry in entries]
    assert times == [seconds(entry, "updated") for entry in entries]
    assert len(set(times)) == len(names)
    midnight = datetime.fromisoformat("2026-11-20T00:00:00+01:00")
    assert all(midnight <= time < midnight + timedelta(hours=2) for time in times)


def test_links_say_what_they_are(build: Build) -> None:
    """The feed names itself and its page, an entry its page and its enclosure, with all they are.

    An enclosure without relation, type and length is taken for the post's own link by feed readers.
    """
    enclosure = "enclosure: talk.mp3\n"
    files = {"posts/a.md": note("a", more=enclosure), "posts/talk.mp3": b"ID3" * 1000}
    feed = etree.fromstring(build(files))
    own = "https://news.example.com/"
    assert {"rel": "alternate", "href": own, "type": "text/html"} in links(feed)
    itself = {"rel": "self", "href": own + "atom.xml", "type": "application/atom+xml"}
    assert [link for link in links(feed) if link["rel"] == "self"] == [itself]
    assert links(children(feed, "entry")[0]) == [
        {"rel": "alternate", "href": own + "posts/a/", "type": "text/html"},
        {
            "rel": "enclosure",
            "href": own + "posts/a/talk.mp3",
            "type": "audio/mpeg",
            "length": "3000",
        },
    ]


def test_a_remote_enclosure_is_unchanged(build: Build) -> None:
    """An enclosure on another host keeps its URL, type and length."""
    there = "{url: https://cdn.example.org/a%20b.mp3, type: audio/x-own, length: 7}"
    feed = etree.fromstring(build({"posts/a.md": note("a", more=f"enclosure: {there}\n")}))
    assert links(children(feed, "entry")[0])[1] == {
        "rel": "enclosure",
        "href": "https://cdn.example.org/a%20b.mp3",
        "type": "audio/x-own",
        "length": "7",
    }


@pytest.mark.parametrize(
    ("contact", "publisher"),
    [("", "Example News"), ("contact: {organization: A & B GmbH}\n", "A & B GmbH")],
    ids=["title", "organization"],
)
def test_authors_are_named(build: Build, contact: str, publisher: str) -> None:
    """The publisher is the feed's author; an entry names the post's own authors in order."""
    files = {"posts/a.md": note("a", more="authors: [Zoë, Adam]\n"), "posts/b.md": note("b")}
    feed = etree.fromstring(build(files, contact))
    assert [value(author, "name") for author in children(feed, "author")] == [publisher]
    names = {
        value(entry, "id")[-1]: [value(author, "name") for author in children(entry, "author")]
        for entry in children(feed, "entry")
    }
    assert names == {"a": ["Zoë", "Adam"], "b": []}


def test_topics_are_categories(build: Build) -> None:
    """A post's topics are its categories, in their order and spelling."""
    topics = "topics: [Zebra & Co, 'Über <uns>', apples]\n"
    feed = etree.fromstring(build({"posts/a.md": note("a", more=topics)}))
    categories = children(children(feed, "entry")[0], "category")
    assert [category.get("term") for category in categories] == [
        "Zebra & Co",
        "Über <uns>",
        "apples",
    ]


def test_the_summary_precedes_the_content(build: Build) -> None:
    """The summary, written or the first paragraph, precedes the content."""
    own = note("a", "2026-11-21", more="summary: A < B & C\n")
    plain = note("b", text="First *one*\nhere.\n\nSecond.")
    feed = etree.fromstring(build({"posts/a.md": own, "posts/b.md": plain}))
    entries = children(feed, "entry")
    assert [value(entry, "summary") for entry in entries] == ["A < B & C", "First one here."]
    for entry in entries:
        names = [str(child.tag) for child in entry]
        assert names.index(f"{ATOM}summary") < names.index(f"{ATOM}content")


LINKS = """\
[a](b.html) [c](/d) [e](#f) [g](../h?i#j) <https://other.example/k> [l](//cdn.example.org/m)

![n](pic.png) ![o](missing.png) text[^1]

<img src="/x.png" srcset="y.png 1x, /z.png 2x"> <video src="v.mp4" poster="p.jpg"></video>

<blockquote cite="q.html">quoted</blockquote>

[^1]: A note with a [link](deep/er/).
"""


def test_all_urls_in_the_content_are_absolute(build: Build) -> None:
    """Every URL in the content is absolute, footnotes included."""
    feed = etree.fromstring(build({"posts/a.md": note("a", text=LINKS), "posts/pic.png": b"1"}))
    (content,) = children(children(feed, "entry")[0], "content")
    assert content.get("type") == "html"
    addresses = []
    for element in html.fragment_fromstring(content.text or "", create_parent="div").iter():
        addresses += [element.get(name) for name in ("href", "src", "poster", "cite")]
        addresses += [part.split()[0] for part in (element.get("srcset") or "").split(",") if part]
    found = [address for address in addresses if address]
    assert len(found) > 15
    assert [
        address
        for address in found
        if not re.match(r"https://[a-z.]+\.(com|org|example)/", address)
    ] == []
    assert "https://news.example.com/posts/a/pic.png" in found
    assert "https://news.example.com/posts/a/#f" in found


def test_a_different_language_of_a_post_is_marked(build: Build) -> None:
    """An entry in another language than the feed's has `xml:lang`; others do not."""
    files = {
        "posts/a.md": note("a", "2026-11-03", more="lang: zh-Hant\n"),
        "posts/b.md": note("b", "2026-11-02", more="lang: en\n"),
        "posts/c.md": note("c", "2026-11-01"),
    }
    feed = etree.fromstring(build(files))
    assert [entry.get(LANG) for entry in children(feed, "entry")] == ["zh-Hant", None, None]


TITLES = {
    "ampersand": "R&D & more &amp; less",
    "angle": "a < b > c <b>bold</b> <script>",
    "quotes": """ "double" and 'single' """.strip(),
    "emoji": "Done 🎉 👩‍👩‍👧 ✔︎",
    "marks": "*not bold* `code` [x](y)",
    "cdata": "]]> <![CDATA[",
    "scripts": "新闻 أخبار חדשות नमस्ते",
    "backslash": "C:\\new \\u0041",
}


@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES.keys())
def test_a_title_reads_back(build: Build, title: str) -> None:
    """A title is plain text, which feed readers show as it was written."""
    written = "'" + title.replace("'", "''") + "'"
    text = f"---\ntitle: {written}\ndate: 2026-11-20\nid: tag:example.com,2026:x\n---\nText.\n"
    data = build({"posts/x.md": text})
    (entry,) = children(etree.fromstring(data), "entry")
    (element,) = children(entry, "title")
    assert (element.text, element.get("type", "text")) == (title, "text")


def test_an_empty_feed_is_valid(build: Build) -> None:
    """A feed without posts has an id, a title and a time that never changes."""
    feed = etree.fromstring(build({}))
    assert children(feed, "entry") == []
    assert value(feed, "id")
    assert seconds(feed, "updated") == datetime.fromisoformat("2000-01-01T00:00:00+00:00")


def test_an_edit_changes_no_time(make_site: MakeSite, postroom: Postroom) -> None:
    """An edit of an old post changes its content alone; only `updated:` changes its time."""
    folder = make_site({"posts/a.md": note("a"), "posts/b.md": note("b", "2026-10-01")})

    def entry(text: str) -> dict[str, str]:
        (folder / "posts/a.md").write_text(text)
        assert postroom(folder, "build").code == 0
        feed = etree.parse(folder / "public/atom.xml").getroot()
        return {str(child.tag): child.text or "" for child in children(feed, "entry")[0]}

    first, edited = entry(note("a")), entry(note("a", text="Better text."))
    changed = {name.removeprefix(ATOM) for name in first if first[name] != edited[name]}
    assert changed == {"summary", "content"}
    updated = entry(note("a", text="Better text.", more="updated: 2026-11-22 08:00\n"))
    changed = {name.removeprefix(ATOM) for name in first if updated[name] != edited[name]}
    assert changed == {"updated"}


@frozen
class Item:
    """An entry as a feed reader reads it."""

    guid: str
    title: str
    url: str
    enclosure: str = ""


NEWS = {
    "posts/a.md": note("a", "2026-11-03", more="enclosure: a.mp3\nauthors: Ann\ntopics: x\n"),
    "posts/a.mp3": b"ID3",
    "posts/b.md": note("b", "2026-11-02", text="![p](p.png)").replace("Note b", "'B & <b>'"),
    "posts/p.png": b"png",
    "posts/c.md": note("c", "2026-11-01", more="lang: he\nsummary: S & <T>\n"),
}
ITEMS = [
    Item(
        "tag:news.example.com,2026:a",
        "Note a",
        "https://news.example.com/posts/a/",
        "https://news.example.com/posts/a/a.mp3",
    ),
    Item("tag:news.example.com,2026:b", "B & <b>", "https://news.example.com/posts/b/"),
    Item("tag:news.example.com,2026:c", "Note c", "https://news.example.com/posts/c/"),
]


def test_feedparser_agrees(build: Build) -> None:
    """Feedparser finds no fault and reads each id, title, link, summary and enclosure."""
    read = feedparser.parse(build(NEWS))
    assert not read.bozo
    assert (read.version, read.feed.id) == ("atom10", "tag:news.example.com,2026:")
    seen = [
        Item(
            entry.id,
            entry.title,
            entry.link,
            "".join(enclosure.href for enclosure in entry.enclosures),
        )
        for entry in read.entries
    ]
    assert seen == ITEMS
    assert read.entries[0].enclosures[0].length == "3"
    assert read.entries[2].summary == "S & <T>"


@frozen
class Newsboat:
    """A subscriber of one feed with the feed reader newsboat, in a home of its own."""

    path: str
    home: Path
    feed: str

    def reload(self) -> list[Item]:
        """Fetch the feed and return what stands in newsboat's cache, the newest first."""
        (self.home / "urls").write_text(f"{self.feed}\n")
        cache = self.home / "cache.db"
        command = [self.path, "-u", "urls", "-c", str(cache), "-C", "/dev/null", "-x", "reload"]
        environment = {"HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        subprocess.run(command, cwd=self.home, env=environment, check=True, timeout=30)
        connection = sqlite3.connect(cache)
        columns = "guid, title, url, coalesce(enclosure_url, '')"
        order = "from rss_item where deleted = 0 order by pubDate desc"
        rows = connection.execute(f"select {columns} {order}").fetchall()
        connection.close()
        return [Item(*row) for row in rows]


@pytest.fixture
def newsboat(program: Callable[[str], str], tmp_path: Path) -> Callable[[str], Newsboat]:
    """Return a function that subscribes to a feed with newsboat."""

    def subscribe(feed: str) -> Newsboat:
        home = tmp_path / "home"
        home.mkdir()
        return Newsboat(program("newsboat"), home, feed)

    return subscribe


def test_newsboat_sees_exactly_the_posts(
    make_site: MakeSite, postroom: Postroom, newsboat: Callable[[str], Newsboat]
) -> None:
    """Newsboat lists each post once, with id, title, link and enclosure, also after a rebuild."""
    folder = make_site(NEWS)
    postroom(folder, "build")
    with serving(folder / "public") as server:
        reader = newsboat(server.url + "atom.xml")
        assert reader.reload() == ITEMS
        postroom(folder, "build")
        assert reader.reload() == ITEMS


def test_renaming_retitling_and_moving_make_nothing_new(
    make_site: MakeSite, postroom: Postroom, newsboat: Callable[[str], Newsboat]
) -> None:
    """Newsboat sees no new entry after new file names, new titles and a new domain."""
    folder = make_site(NEWS)
    postroom(folder, "build")
    with serving(folder / "public") as server:
        reader = newsboat(server.url + "atom.xml")
        reader.reload()
        for name in "abc":
            text = (folder / f"posts/{name}.md").read_text()
            (folder / f"posts/{name}.md").unlink()
            retitled = re.sub("title: .*", f"title: New {name}", text)
            (folder / f"posts/2026-renamed-{name}.md").write_text(retitled)
        moved = SETTINGS.replace("https://news.example.com/", "https://new.example.org/press/")
        (folder / "postroom.yaml").write_text(moved)
        postroom(folder, "build")
        new = "https://new.example.org/press/posts/2026-renamed-"
        assert reader.reload() == [
            Item(ITEMS[0].guid, "New a", f"{new}a/", f"{new}a/a.mp3"),
            Item(ITEMS[1].guid, "New b", f"{new}b/"),
            Item(ITEMS[2].guid, "New c", f"{new}c/"),
        ]


SITE = generated_sites.site_with()
MARKUP = (
    "* ` ~ [ ]( ![ [^1] <b> </p> <script> <!-- ]]> <svg><style> &#0; &#11; &nbsp; &lt; |-| ``` > #"
)
ODD = ["\0", "\x0b", "\x85", "\u2028", "\ufffe", "\r", "\t", "\n", "\U0010ffff", "x" * 3000]
PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
TEXT = st.lists(PLAIN | st.sampled_from(MARKUP.split()), max_size=8).map("".join)
ANY = TEXT | TEXT | st.lists(PLAIN | st.sampled_from(ODD), max_size=3).map("".join)
HEADS = st.fixed_dictionaries(
    {
        "title": ANY.map("T".__add__),
        "summary": ANY,
        "topics": st.lists(PLAIN.filter(str.strip), max_size=2),
        "authors": PLAIN.filter(str.strip),
    }
)


def quoted(post_with: object) -> str:
    """Return a value quoted for YAML, valid or not."""
    if isinstance(post_with, list):
        return "[" + ", ".join(map(quoted, post_with)) + "]"
    return "'" + str(post_with).replace("'", "''").replace("\n", " ") + "'"


def post_with(head: dict[str, object], body: str) -> str:
    """Return a post with this front matter and body."""
    lines = "".join(f"{name}: {quoted(value)}\n" for name, value in head.items())
    return f"---\n{lines}date: 2026-11-20\nid: tag:example.com,2026:x\n---\n{body}\n"


@settings(deadline=None, max_examples=100)
@given(head=HEADS, body=ANY)
def test_the_feed_of_any_text_is_well_formed(head: dict[str, object], body: str) -> None:
    """Any text gives a well-formed feed with that post, or an error that names it."""
    texts = {"x.md": post_with(head, body)}
    try:
        (post,) = generated_sites.read(texts, SITE)
    except ContentError as error:
        assert {problem.path for problem in error.problems} == {"posts/x.md"}  # noqa: PT017
        return
    made = generated_sites.feeds(texts).files["atom.xml"]
    (entry,) = children(etree.fromstring(made), "entry")
    assert value(entry, "id") == "tag:example.com,2026:x"
    assert value(entry, "title") == post.title
    assert value(entry, "summary") == (post.summary or post.title)
    assert value(entry, "content") == post.html
    assert urlsplit(links(entry)[0]["href"]).netloc == "news.example.com"
    assert not re.search(r"<(script|style|iframe|form|object|svg)\b", post.html)


@settings(deadline=None, max_examples=12)
@given(head=HEADS, body=TEXT)
def test_any_post_can_be_built(
    tmp_path_factory: pytest.TempPathFactory, head: dict[str, object], body: str
) -> None:
    """Any post that loads can be built: no text breaks a page, a feed or an email."""
    try:
        known = generated_sites.read({"x.md": post_with(head, body)}, SITE)
    except ContentError:
        return
    made = make_outputs(tmp_path_factory.getbasetemp(), SITE, known)
    letter = made["digest/2026-11/email.txt"]
    assert isinstance(letter, bytes)
    assert known[0].url in letter.decode()
