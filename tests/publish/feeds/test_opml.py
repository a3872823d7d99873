"""feeds.opml: the list of feeds that a feed reader imports."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lxml import etree

from postroom.publish.feeds.opml import write_opml
from tests.support.feed_readers import items
from tests.support.generated_sites import site_files
from tests.support.site import CommandResult, MakeSite

SETTINGS = "topics: [Company news, R&D, 新闻]\n"


def outlines(data: bytes) -> list[dict[str, str]]:
    """Return the attributes of every outline."""
    return [
        {str(name): str(value) for name, value in outline.attrib.items()}
        for outline in etree.fromstring(data).iter("outline")
    ]


def test_lists_each_feed_once(make_site: MakeSite, postroom: Callable[..., CommandResult]) -> None:
    """The main feed comes first, then topics, then languages, each in one format."""
    folder = make_site(site_files(5), SETTINGS)
    postroom(folder, "build")
    listed = outlines((folder / "public/feeds.opml").read_bytes())
    base = "https://news.example.com/"
    assert [outline["xmlUrl"].removeprefix(base) for outline in listed] == [
        "atom.xml",
        "topics/company-news/atom.xml",
        "topics/r-and-d/atom.xml",
        "topics/%E6%96%B0%E9%97%BB/atom.xml",
        "topics/100-percent/atom.xml",
        "topics/c-plus-plus/atom.xml",
        "topics/c-sharp/atom.xml",
        "topics/%D8%A3%D8%AE%D8%A8%D8%A7%D8%B1/atom.xml",
        "lang/ar/atom.xml",
        "lang/de/atom.xml",
        "lang/en/atom.xml",
        "lang/zh-Hant/atom.xml",
    ]
    assert {outline["type"] for outline in listed} == {"rss"}
    assert all(outline["title"] == outline["text"] for outline in listed)
    assert listed[0] == {
        "type": "rss",
        "text": "Example News",
        "title": "Example News",
        "xmlUrl": base + "atom.xml",
        "htmlUrl": base,
    }


@pytest.mark.parametrize(
    ("formats", "file"),
    [("atom, rss", "atom.xml"), ("json, rss", "rss.xml"), ("json", "feed.json")],
    ids=["atom", "rss", "json"],
)
def test_lists_the_first_enabled_format(
    make_site: MakeSite, postroom: Callable[..., CommandResult], formats: str, file: str
) -> None:
    """The list names the first format that is enabled, and every file exists."""
    folder = make_site(site_files(3), f"feeds: {{formats: [{formats}]}}\n")
    postroom(folder, "build")
    listed = outlines((folder / "public/feeds.opml").read_bytes())
    paths = [outline["xmlUrl"].removeprefix("https://news.example.com/") for outline in listed]
    assert {path.rpartition("/")[2] for path in paths} == {file}
    assert len(items((folder / "public" / paths[0]).read_bytes())) == 3


def test_is_well_formed_with_any_title() -> None:
    """A title with markup is escaped, and a list without feeds is empty."""
    root = etree.fromstring(write_opml('A & <b> "c"', ()))
    assert (root.tag, root.get("version")) == ("opml", "2.0")
    assert root.findtext("head/title") == 'A & <b> "c"'
    assert list(root.iter("outline")) == []
