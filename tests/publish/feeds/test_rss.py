"""RSS 2.0: the order and form that feed readers and validators require."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import feedparser
import pytest
from lxml import etree, html

from postroom.lint.feeds import lint_feed
from tests.support.feed_readers import NAMES, items
from tests.support.generated_sites import (
    FIRST_DAY,
    PIXEL,
    SETTINGS,
    feeds,
    short_post,
    site_files,
)
from tests.support.site import CommandResult, MakeSite


def channel(extra: str = "", settings: str = "") -> etree._Element:
    """Return the channel of an RSS feed of one post with `extra` lines in its front matter."""
    texts = {"a.md": short_post(1, FIRST_DAY, extra)}
    found = etree.fromstring(feeds(texts, settings).files["rss.xml"]).find("channel")
    assert found is not None
    return found


def test_a_channel_links_to_the_site_and_itself() -> None:
    """The channel's link is the site, and its self link is its own URL."""
    found = channel()
    assert [link.text for link in found.findall("link")] == ["https://news.example.com/"]
    (own,) = found.findall("a:link[@rel='self']", NAMES)
    assert dict(own.attrib) == {
        "rel": "self",
        "href": "https://news.example.com/rss.xml",
        "type": "application/rss+xml",
    }


def test_a_channel_has_rights_licence_hub_and_language() -> None:
    """The channel contains the settings about the feed."""
    found = channel(settings=SETTINGS)
    links = {link.get("rel"): link.get("href") for link in found.findall("a:link", NAMES)}
    assert (links["hub"], links["license"]) == (
        "https://hub.example.com/",
        "https://example.com/by",
    )
    assert found.findtext("copyright") == "© Us & <you>"
    assert found.findtext("language") == "en"
    assert found.findtext("description") == "What happens at Example &amp; Sons"


def test_the_description_comes_before_the_content() -> None:
    """An item has its summary as description, then its content in full."""
    (item,) = channel("summary: In short & quick.\n").findall("item")
    names = [child.tag for child in item]
    encoded = f"{{{NAMES['c']}}}encoded"
    assert names.index("description") < names.index(encoded)
    assert item.findtext("description") == "In short &amp; quick."
    assert item.findtext(encoded) == "<p>Text 1.</p>\n"


def test_a_summary_stands_alone() -> None:
    """With `content: {rss: summary}` an item has its description only."""
    (item,) = channel("summary: In short.\n", "feeds: {content: {rss: summary}}\n").findall("item")
    assert item.findtext("description") == "In short."
    assert item.find("c:encoded", NAMES) is None


def test_titles_have_hex_references() -> None:
    """&, < and > in titles are hex references, which all feed readers read alike."""
    title = "R&D: a < b > c &amp; d"
    text = f"---\ntitle: '{title}'\ndate: 2026-01-01\nid: tag:a.example,2026:1\n---\nx & y\n"
    data = feeds({"a.md": text}, 'title: "P&L"\n'.replace("title", "description")).files["rss.xml"]
    assert b"<title>R&#x26;D: a &#x3C; b &#x3E; c &#x26;amp; d</title>" in data
    assert etree.fromstring(data).findtext("channel/item/title") == title
    assert feedparser.parse(data).bozo is False


PLAIN_TEXTS = {
    "tag": "How `code <tag>` works",
    "handler": "<img src=x onerror=alert(1)>",
    "generic": "Vec<T> and Map<K, V>",
    "reference": "write &lt; or &amp;amp; for <",
    "ampersand": "R&D & co; AT&T",
    "comment": "a <!-- b --> c ]]> d",
    "quotes": "\"double\" and 'single'",
    "comparison": "a < b > c",
}


def visible_text(markup: str) -> str:
    """Return the visible text of HTML without elements."""
    assert not re.search(r"<[A-Za-z/!?]", markup)
    return html.fragment_fromstring(markup, create_parent="div").text_content()


@pytest.mark.parametrize("text", PLAIN_TEXTS.values(), ids=PLAIN_TEXTS.keys())
@pytest.mark.parametrize("content", ["full", "summary"])
def test_feed_readers_show_descriptions_as_written(text: str, content: str) -> None:
    """Summaries and the site's texts are HTML in RSS and text elsewhere, and never markup."""
    quoted = json.dumps(text)
    settings = f"description: {quoted}\nfeeds: {{content: {content}}}\n"
    files = feeds({"a.md": short_post(1, FIRST_DAY, f"summary: {quoted}\n")}, settings).files
    assert lint_feed(files["rss.xml"], "rss.xml") == []
    rss = feedparser.parse(files["rss.xml"])
    assert rss.entries[0].summary_detail.type == "text/html"
    assert (visible_text(rss.entries[0].summary), visible_text(rss.feed.subtitle)) == (text, text)
    atom = feedparser.parse(files["atom.xml"])
    assert (atom.entries[0].summary, atom.entries[0].summary_detail.type) == (text, "text/plain")
    assert (atom.feed.subtitle, atom.feed.subtitle_detail.type) == (text, "text/plain")
    document = json.loads(files["feed.json"])
    assert (document["description"], document["items"][0]["summary"]) == (text, text)


def test_code_in_a_first_paragraph_stays_in_the_description() -> None:
    """A description made from the post's own text keeps what looks like a tag."""
    text = short_post(1, FIRST_DAY).replace("Text 1.", "Write `<tag>` and `&lt;` here.")
    rss = feedparser.parse(feeds({"a.md": text}).files["rss.xml"])
    assert visible_text(rss.entries[0].summary) == "Write <tag> and &lt; here."


def test_plain_text_has_hex_references() -> None:
    """Rights, topics and authors are plain text with hex references, as titles are."""
    head = "authors: ['A & <b>']\ntopics: ['R&D <x>']\n"
    settings = "feeds: {rights: '© Us & <you>'}\n"
    data = feeds({"a.md": short_post(1, FIRST_DAY, head)}, settings).files["rss.xml"]
    assert "<copyright>© Us &#x26; &#x3C;you&#x3E;</copyright>".encode() in data
    assert b"<category>R&#x26;D &#x3C;x&#x3E;</category>" in data
    assert b"<dc:creator>A &#x26; &#x3C;b&#x3E;</dc:creator>" in data
    (item,) = etree.fromstring(data).iter("item")
    assert item.findtext("dc:creator", None, NAMES) == "A & <b>"
    assert item.findtext("category") == "R&D <x>"


def test_a_guid_is_no_permalink() -> None:
    """An item's guid is the post's id and is marked as no permalink."""
    (guid,) = channel().iter("guid")
    assert (guid.text, guid.get("isPermaLink")) == ("tag:news.example.com,2026:1", "false")


def test_authors_are_creators() -> None:
    """Names of authors are in dc:creator, because RSS's own author is an email address."""
    found = channel("authors: [Ann, Bob & Co]\n")
    assert found.nsmap["dc"] == NAMES["dc"]
    assert [element.text for element in found.iterfind("item/dc:creator", NAMES)] == [
        "Ann",
        "Bob & Co",
    ]
    assert list(found.iter("author")) == []


@pytest.mark.parametrize(("lang", "expected"), [("de", ["de"]), ("en", [])])
def test_a_different_language_is_marked(lang: str, expected: list[str]) -> None:
    """An item in another language than the feed's names it."""
    found = channel(f"lang: {lang}\n")
    assert [element.text for element in found.iterfind("item/dc:language", NAMES)] == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("talk.mp3", ("https://news.example.com/posts/a/talk.mp3", "audio/mpeg", "5")),
        ("{url: talk.mp3, type: audio/x-own}", (
            "https://news.example.com/posts/a/talk.mp3", "audio/x-own", "5",
        )),
        ("{url: 'https://e.example/t.ogg', type: audio/ogg, length: 9}", (
            "https://e.example/t.ogg", "audio/ogg", "9",
        )),
    ],
    ids=["local", "local-typed", "remote"],
)  # fmt: skip
def test_an_item_has_one_enclosure(
    make_site: MakeSite,
    postroom: Callable[..., CommandResult],
    written: str,
    expected: tuple[str, str, str],
) -> None:
    """A file beside the post or elsewhere is the enclosure, in Atom and RSS alike."""
    text = short_post(1, FIRST_DAY, f"enclosure: {written}\n")
    folder = make_site({"posts/a.md": text, "posts/talk.mp3": b"12345"})
    assert postroom(folder, "build").code == 0
    rss = etree.fromstring((folder / "public/rss.xml").read_bytes())
    (found,) = rss.iter("enclosure")
    assert (found.get("url"), found.get("type"), found.get("length")) == expected
    atom = etree.fromstring((folder / "public/atom.xml").read_bytes())
    (link,) = atom.iterfind(".//a:link[@rel='enclosure']", NAMES)
    assert (link.get("href"), link.get("type"), link.get("length")) == expected


def test_an_image_is_in_media_and_in_the_content(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """The lead image is media:content with a thumbnail and begins the content."""
    text = short_post(1, FIRST_DAY, "image: {src: 'a b.png', alt: A & \"B\"}\n")
    folder = make_site({"posts/a.md": text, "posts/a b.png": PIXEL})
    postroom(folder, "build")
    address = "https://news.example.com/posts/a/a%20b.png"
    for name, path in (("atom.xml", "a:entry/"), ("rss.xml", "channel/item/")):
        root = etree.fromstring((folder / "public" / name).read_bytes())
        (content,) = root.iterfind(f"{path}m:content", NAMES)
        assert (content.get("url"), content.get("medium")) == (address, "image")
        (thumbnail,) = content.iterfind("m:thumbnail", NAMES)
        assert thumbnail.get("url") == address
        (item,) = items((folder / "public" / name).read_bytes())
        assert f'<img src="{address}" alt="A &amp; &quot;B&quot;"' in item.content.splitlines()[0]
    assert (folder / "public/posts/a/a b.png").read_bytes() == PIXEL


def test_an_empty_channel_is_dated_and_valid() -> None:
    """The date of a feed without posts is never the current time."""
    data = feeds({}).files["rss.xml"]
    assert lint_feed(data, "rss.xml") == []
    found = etree.fromstring(data).findtext("channel/lastBuildDate")
    assert found == "Sat, 01 Jan 2000 00:00:00 +0000"


def test_feedparser_reads_every_item(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """A strict parser finds no fault and reads all entries unchanged."""
    folder = make_site(site_files(20), SETTINGS)
    postroom(folder, "build")
    rss = feedparser.parse((folder / "public/rss.xml").read_bytes())
    atom = feedparser.parse((folder / "public/atom.xml").read_bytes())
    assert (rss.bozo, atom.bozo, len(rss.entries)) == (False, False, 20)
    assert [(e.id, e.title, e.link) for e in rss.entries] == [
        (e.id, e.title, e.link) for e in atom.entries
    ]
    assert [[file.href for file in e.enclosures] for e in rss.entries] == [
        [file.href for file in e.enclosures] for e in atom.entries
    ]
