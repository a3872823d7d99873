"""The rules for feeds: each finds its fault, and no feed that Postroom writes has one."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import feedparser
import jsonschema
import pytest
from attrs import frozen

from postroom import models
from postroom.lint.feeds import CHECKS, is_feed_path, lint_content, lint_feed
from postroom.posts import loader
from postroom.publish.build import make_outputs
from postroom.settings.site import load_settings
from tests.support.feed_readers import (
    FORMATS,
    items,
    newsboat,
    poll,
    serving,
    shown_entries,
    subscribed,
)
from tests.support.generated_sites import SETTINGS, site_files
from tests.support.site import AT, ROOT
from tests.support.site import SETTINGS as REQUIRED

CONTENT = '<p>Whole <a href="https://e.example/">link</a></p>'
ATOM = """\
<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="en">
<id>tag:e.example,2026:</id><title>News</title><updated>2026-01-02T00:00:00Z</updated>
<author><name>Ann</name></author>
<link rel="self" href="https://e.example/atom.xml"/>
<link rel="alternate" type="text/html" href="https://e.example/"/>
<entry><id>tag:e.example,2026:1</id><title>One</title><updated>2026-01-01T00:00:00Z</updated>
<link rel="alternate" type="text/html" href="https://e.example/1"/>
<link rel="enclosure" type="audio/mpeg" length="5" href="https://e.example/1.mp3"/>
<summary>In short</summary><content type="html">C</content></entry>
<entry><id>tag:e.example,2026:2</id><title>Two</title><updated>2026-01-02T00:00:00Z</updated>
<link rel="alternate" type="text/html" href="https://e.example/2"/></entry>
</feed>
"""
RSS = """\
<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom"
 xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel>
<title>News</title><link>https://e.example/</link><description>All</description>
<language>en</language>
<atom:link rel="self" href="https://e.example/rss.xml"/>
<item><title>A &#x26; B</title><link>https://e.example/1</link><description>In short</description>
<content:encoded>C</content:encoded><guid isPermaLink="false">tag:e.example,2026:1</guid>
<enclosure url="https://e.example/1.mp3" type="audio/mpeg" length="5"/></item>
</channel></rss>
"""
JSON = """\
{"version": "https://jsonfeed.org/version/1.1", "title": "News", "items": [
{"id": "tag:e.example,2026:1", "url": "https://e.example/1", "content_html": "C"}]}
"""


def found(text: str, path: str) -> set[str]:
    """Return the names of the rules with findings."""
    return {problem.key for problem in lint_feed(text.encode(), path)}


@pytest.mark.parametrize(
    ("text", "path"),
    [(ATOM, "atom.xml"), (RSS, "rss.xml"), (JSON, "feed.json")],
    ids=["atom", "rss", "json"],
)
def test_a_correct_feed_has_no_finding(text: str, path: str) -> None:
    """The feeds that the broken examples are made of have no finding."""
    assert lint_feed(text.encode(), path) == []


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("<id>tag:e.example,2026:2<", "<id>tag:e.example,2026:1<", "id"),
        ("<id>tag:e.example,2026:2<", "<id>urn:x:1<", "id"),
        ("<id>tag:e.example,2026:2<", "<id>news/2<", "id"),
        ("<id>tag:e.example,2026:2</id>", "", "id"),
        ("01-01T00", "01-02T00", "updated"),
        ("<updated>2026-01-01T00:00:00Z</updated>", "", "updated"),
        ("<title>Two</title>", "", "title"),
        ("<title>Two<", "<title>&lt;b&gt;Two&lt;/b&gt;<", "title"),
        ("<title>Two<", "<title>A &amp;amp; B<", "title"),
        ('xml:lang="en"', 'xml:lang="en_US"', "language"),
        ("<author><name>Ann</name></author>", "", "author"),
        ('<link rel="self" href="https://e.example/atom.xml"/>', "", "link"),
        ("https://e.example/2", "/2", "link"),
        ('rel="enclosure" type="audio/mpeg" length="5"', 'type="text/html"', "link"),
        (' length="5"', "", "enclosure"),
        ("<summary>In short</summary>", "", "summary"),
        ("</feed>", "", "xml"),
        ("<title>Two", "<title>\x0b", "xml"),
    ],
    ids=[
        "same-id", "urn-x", "relative-id", "no-id", "same-updated", "no-updated", "no-title",
        "tags-in-title", "entity-in-title", "underscore", "no-author", "no-self", "relative-link",
        "two-alternates", "no-length", "no-summary", "not-closed", "forbidden-character",
    ],
)  # fmt: skip
def test_faults_in_atom_are_found(old: str, new: str, rule: str) -> None:
    """Each fault of an Atom feed is found by its rule alone."""
    assert ATOM.count(old) == 1
    assert found(ATOM.replace(old, new), "atom.xml") == {rule}


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("tag:e.example,2026:1", "urn:x:1", "id"),
        (' isPermaLink="false"', "", "guid"),
        ("&#x26;", "&amp;", "title"),
        ("A &#x26; B", "&#x3C;b&#x3E;A&#x3C;/b&#x3E;", "title"),
        ("<language>en<", "<language>en_US<", "language"),
        ('<atom:link rel="self" href="https://e.example/rss.xml"/>', "", "link"),
        ("<link>https://e.example/<", "<link>https://e.example/rss.xml<", "link"),
        ("<link>https://e.example/1<", "<link>/1<", "link"),
        ("<description>In short</description>", "", "description"),
        ("</content:encoded>", "</content:encoded><description>late</description>", ""),
        (">In short<", ">Write &lt;tag&gt;<", "description"),
        (">In short<", ">&lt;img src=x onerror=alert(1)&gt;<", "description"),
        (">In short<", ">a &lt;!-- b<", "description"),
        (">All<", ">All &lt;b&gt;news&lt;/b&gt;<", "description"),
        (">In short<", ">a &lt; b &amp;amp; c, &amp;lt;d&amp;gt;<", ""),
        ("</item>", '<enclosure url="https://e.example/2" type="a/b" length="1"/></item>',
         "enclosure"),
        (' length="5"', "", "enclosure"),
        (' length="5"', ' length="five"', "enclosure"),
        (' type="audio/mpeg"', "", "enclosure"),
        ("</rss>", "", "xml"),
    ],
    ids=[
        "urn-x", "permalink", "named-reference", "tags-in-title", "underscore", "no-self",
        "link-to-feed", "relative-link", "no-description", "description-first", "tag", "handler",
        "comment", "channel", "text", "two-enclosures",
        "no-length", "odd-length", "no-type", "not-closed",
    ],
)  # fmt: skip
def test_faults_in_rss_are_found(old: str, new: str, rule: str) -> None:
    """Each fault of an RSS feed is found by its rule alone."""
    assert RSS.count(old) == 1
    assert found(RSS.replace(old, new), "rss.xml") == ({rule} if rule else set())


def test_a_late_description_is_found() -> None:
    """A description after the content is too late for feed readers that take the first."""
    late = RSS.replace("<description>In short</description>", "").replace(
        "</content:encoded>", "</content:encoded><description>late</description>"
    )
    assert found(late, "rss.xml") == {"description"}


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("tag:e.example,2026:1", "urn:x:1", "id"),
        ("https://e.example/1", "/1", "url"),
        ('"content_html": "C"', '"title": "One"', "content"),
        ('"C"', '"<script>x</script>"', "content"),
        ("]}", "", "json"),
        (JSON, "[]", "json"),
        (JSON, '{"items": [1]}', "json"),
        (JSON, '"\\ud800"', "json"),
    ],
    ids=["urn-x", "relative", "empty", "script", "not-closed", "list", "no-items", "text"],
)
def test_faults_in_json_are_found(old: str, new: str, rule: str) -> None:
    """Each fault of a JSON Feed is found, and other JSON is not a feed."""
    assert JSON.count(old) == 1
    assert found(JSON.replace(old, new), "feed.json") == {rule}


@pytest.mark.parametrize(
    "html",
    [
        CONTENT,
        '<td style="text-align: right">1</td>',
        '<img srcset="https://e.example/a.png 1x, https://e.example/b 2x">',
        '<a href="mailto:ann@e.example">Ann</a>',
        '<input type="checkbox" disabled checked> done',
        "plain words, a < b & c",
        "<!-- a comment -->",
        "",
        " ",
        '<video src="https://e.example/a" poster="https://e.example/b" controls></video>',
    ],
)
def test_harmless_content_passes(html: str) -> None:
    """Content that every feed reader shows has no finding."""
    assert list(lint_content(html)) == []


@pytest.mark.parametrize(
    ("html", "what"),
    [
        ('<a href="/about">a</a>', "'/about' is not an absolute URL"),
        ('<a href="#fn1">1</a>', "'#fn1' is not an absolute URL"),
        ('<a href="">1</a>', "'' is not an absolute URL"),
        ('<img src="a.png">', "'a.png' is not an absolute URL"),
        ('<img src="//e.example/a.png">', "'//e.example/a.png' is not an absolute URL"),
        ('<img srcset="https://e.example/a 1x, b.png 2x">', "'b.png' is not an absolute URL"),
        ('<img srcset="https://e.example/a 1x,b.png 2x">', "'b.png' is not an absolute URL"),
        ('<video poster="a.png"></video>', "'a.png' is not an absolute URL"),
        ('<blockquote cite="b">c</blockquote>', "'b' is not an absolute URL"),
        ("<script>x()</script>", "contains <script>"),
        ("<p><style>p{}</style></p>", "contains <style>"),
        ('<iframe src="https://e.example/"></iframe>', "contains <iframe>"),
        ("<object></object>", "contains <object>"),
        ("<form></form>", "contains <form>"),
        ("<svg></svg>", "contains <svg>"),
        ('<p onclick="x()">a</p>', "contains the event handler onclick"),
        ('<P ONCLICK="x()">a</P>', "contains the event handler onclick"),
        ('<p style="position: fixed">a</p>', "contains the style 'position: fixed'"),
        ('<p style="text-align: left; max-width: 1px">a</p>',
         "contains the style 'text-align: left; max-width: 1px'"),
        ('<a href="javascript:x()">a</a>', "'javascript:x()' runs a script"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", FORMATS)
def test_refused_content_is_found_in_every_format(html: str, what: str, path: str) -> None:
    """Content that a feed reader drops, blocks or resolves wrongly is found in each format."""
    if path == "feed.json":
        text = JSON.replace('"C"', json.dumps(html))
    else:
        escaped = html.replace("&", "&amp;").replace("<", "&lt;")
        text = (ATOM if path == "atom.xml" else RSS).replace(">C<", f">{escaped}<")
    problems = lint_feed(text.encode(), path)
    assert [(problem.path, problem.key, problem.message) for problem in problems] == [
        (path, "content", what)
    ]


def test_every_format_has_a_check() -> None:
    """Each row of `FORMATS` has one check, which finds both kinds of its files."""
    assert CHECKS.keys() == {form.key for form in models.FORMATS}
    for form in models.FORMATS:
        assert is_feed_path(form.file)
        assert is_feed_path(f"topics/news/{form.file}")
        assert is_feed_path(f"history/12.{form.archive_ending}")
    assert not is_feed_path("posts/atom.xml")


def test_an_oversized_feed_is_found() -> None:
    """A feed of more than 5 MB, which validators refuse, is found; the hint names the setting."""
    large = ATOM.replace(">C<", f">{'x' * 5_000_000}<")
    (problem,) = lint_feed(large.encode(), "public/atom.xml")
    assert str(problem) == (
        "public/atom.xml: size: is larger than 5 MB;"
        " lower feeds.entries, or set feeds.content: summary"
    )


@frozen
class Built:
    """The output of a site in a folder, and its number of posts."""

    folder: Path
    feeds: tuple[Path, ...]
    posts: int


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Return a site of more than 500 posts with its feeds."""
    site_dir = tmp_path_factory.mktemp("large")
    for path, contents in site_files(500).items():
        (site_dir / path).parent.mkdir(parents=True, exist_ok=True)
        data = contents.encode() if isinstance(contents, str) else contents
        (site_dir / path).write_bytes(data)
    (site_dir / "postroom.yaml").write_text(REQUIRED + SETTINGS, "utf-8")
    return built(site_dir, tmp_path_factory.mktemp("large-output"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Return the demonstration site of this repository with its feeds."""
    return built(ROOT, tmp_path_factory.mktemp("demo-output"))


def built(site_dir: Path, output: Path) -> Built:
    """Write the feeds of `site_dir` below `output`."""
    site = load_settings(site_dir)
    known = loader.load_posts(site_dir, site, AT).posts
    feeds = []
    for path, contents in make_outputs(site_dir, site, known).items():
        if isinstance(contents, bytes) and re.search(r"(atom|rss)\.xml$|\.json$", path):
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            (output / path).write_bytes(contents)
            feeds.append(output / path)
    return Built(output, tuple(feeds), len(known))


@pytest.fixture(params=["demo", "large"])
def made(request: pytest.FixtureRequest) -> Built:
    """Return each site in turn."""
    result = request.getfixturevalue(request.param)
    assert isinstance(result, Built)
    return result


def test_no_written_feed_has_a_finding(made: Built) -> None:
    """Every feed, archive, topic and language of a site passes every rule."""
    assert len(made.feeds) >= 15
    problems = [str(p) for path in made.feeds for p in lint_feed(path.read_bytes(), path.name)]
    assert problems == []


def test_every_format_has_the_same_entries(made: Built) -> None:
    """Atom, RSS and JSON Feed hold the same ids, titles, URLs, dates and contents."""
    atoms = [path for path in made.feeds if path.name.endswith("atom.xml")]
    assert 3 * len(atoms) == len(made.feeds)
    for atom in atoms:
        known = items(atom.read_bytes())
        rss = atom.with_name(atom.name.replace("atom.xml", "rss.xml"))
        other = "feed.json" if atom.name == "atom.xml" else atom.name.replace("atom.xml", "json")
        in_rss = items(rss.read_bytes())
        assert [(i.id, i.title, i.url, i.published, i.content, i.summary) for i in in_rss] == [
            (i.id, i.title, i.url, i.published, i.content, i.summary) for i in known
        ]
        assert items(atom.with_name(other).read_bytes()) == tuple(known)


def test_no_two_entries_share_a_time(made: Built) -> None:
    """Each `updated` of a site is unique, because feed readers drop entries of equal times."""
    everything = {
        item.id: item.updated
        for path in made.feeds
        if path.name.endswith(".json")
        for item in items(path.read_bytes())
    }
    assert len(everything) == made.posts
    assert len(set(everything.values())) == made.posts


def test_json_feeds_follow_the_schema(made: Built) -> None:
    """Every JSON Feed is valid by our schema of JSON Feed 1.1."""
    schema = json.loads(Path(__file__).parents[1].joinpath("jsonfeed-1.1.schema.json").read_bytes())
    validator = jsonschema.Draft202012Validator(schema)
    documents = [json.loads(path.read_bytes()) for path in made.feeds if path.suffix == ".json"]
    assert [
        fault.message for document in documents for fault in validator.iter_errors(document)
    ] == []


@pytest.mark.parametrize("file", FORMATS[:2])
def test_sfeed_reads_every_entry(made: Built, program: Callable[[str], str], file: str) -> None:
    """Sfeed prints one line for each entry, with its id and URL."""
    data = (made.folder / file).read_bytes()
    done = subprocess.run([program("sfeed")], input=data, capture_output=True, check=True)
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    known = items(data)
    assert [(line[5], line[2]) for line in lines] == [(item.id, item.url) for item in known]
    assert [int(line[0]) for line in lines] == [item.published.timestamp() for item in known]


@pytest.mark.parametrize("file", FORMATS[:2])
def test_feedparser_reads_every_entry(made: Built, file: str) -> None:
    """A strict parser finds the id, title and URL of each entry."""
    data = (made.folder / file).read_bytes()
    parsed = feedparser.parse(data)
    assert parsed.bozo is False
    assert [(e.id, e.title, e.link) for e in parsed.entries] == [
        (item.id, item.title, item.url) for item in items(data)
    ]


@pytest.mark.parametrize("file", FORMATS)
def test_reader_reads_every_entry(made: Built, file: str) -> None:
    """A real feed reader shows each entry with its title and URL."""
    known = items((made.folder / file).read_bytes())
    with serving(made.folder) as server, subscribed(server.url + file) as reader:
        assert poll(reader).new == len(known)
        assert shown_entries(reader) == {item.id: (item.title, item.url) for item in known}


@pytest.mark.parametrize("file", FORMATS[:2])
def test_newsboat_reads_every_entry(
    made: Built, program: Callable[[str], str], tmp_path: Path, file: str
) -> None:
    """Newsboat stores each entry with its title and URL."""
    known = items((made.folder / file).read_bytes())
    with serving(made.folder) as server:
        stored = newsboat(program("newsboat"), tmp_path, server.url + file)
    assert stored == {item.id: (item.title, item.url) for item in known}
