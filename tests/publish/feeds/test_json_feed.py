"""JSON Feed 1.1: the members of the feed and its items, and the validity of every document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.generated_sites import (
    FIRST_DAY,
    PIXEL,
    SETTINGS,
    feeds,
    short_post,
    short_posts,
    site_files,
)
from tests.support.site import CommandResult, MakeSite

SCHEMA = json.loads(Path(__file__).parents[2].joinpath("jsonfeed-1.1.schema.json").read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
WHOLE: dict[str, Any] = {
    "version": "https://jsonfeed.org/version/1.1",
    "title": "News",
    "items": [{"id": "tag:example.com,2026:1", "content_html": ""}],
}


def document(extra: str = "", settings: str = "") -> dict[str, Any]:
    """Return the JSON Feed of one post with `extra` lines in its front matter."""
    text = short_post(1, FIRST_DAY, extra)
    if "date:" in extra:
        text = text.replace(f"date: {FIRST_DAY}\n", "")
    texts = {"a.md": text}
    return dict(json.loads(feeds(texts, settings).files["feed.json"]))


@pytest.mark.parametrize(
    "change",
    [
        {"version": "https://jsonfeed.org/version/1"},
        {"title": ""},
        {"feed_url": "/feed.json"},
        {"rights": "all"},
        {"items": [{"id": "tag:example.com,2026:1"}]},
        {"items": [{"content_html": ""}]},
        {"items": [{"id": "1", "content_html": "", "date_published": "2026-11-22"}]},
        {"items": [{"id": "1", "content_html": "", "attachments": [{"url": "https://a.b/c"}]}]},
    ],
    ids=[
        "version", "title", "relative", "unknown", "contentless", "nameless", "date", "attachment",
    ],
)  # fmt: skip
def test_the_schema_refuses_invalid_feeds(change: dict[str, Any]) -> None:
    """The schema of these tests accepts a valid feed and no invalid one."""
    assert VALIDATOR.is_valid(WHOLE)
    assert not VALIDATOR.is_valid(WHOLE | change)


def test_every_document_is_valid(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """Every JSON Feed of a large site, archives included, follows JSON Feed 1.1."""
    settings = SETTINGS.replace("feeds: {", "feeds: {entries: 15, content: {json: summary}, ")
    folder = make_site(site_files(70), settings)
    assert postroom(folder, "build").code == 0
    paths = sorted((folder / "public").rglob("*.json"))
    documents = [path for path in paths if path.name != ".postroom.json"]
    assert len([path for path in documents if path.parent.name == "history"]) == 4
    assert len(documents) == 1 + 4 + 9 + 4
    faults = [
        (path.relative_to(folder).as_posix(), fault.message)
        for path in documents
        for fault in VALIDATOR.iter_errors(json.loads(path.read_bytes()))
    ]
    assert faults == []


def test_a_small_feed_is_complete() -> None:
    """A feed has its URL, publisher and language, and its item has every other member."""
    found = document(
        "date: 2024-01-01 09:30\nsummary: In short.\ntopics: [R&D]\nauthors: [Ann, Bob]\nlang: de\n"
    )
    (item,) = found.pop("items")
    assert found == {
        "version": "https://jsonfeed.org/version/1.1",
        "title": "Example News",
        "home_page_url": "https://news.example.com/",
        "feed_url": "https://news.example.com/feed.json",
        "language": "en",
        "authors": [{"name": "Example News"}],
    }
    assert item == {
        "id": "tag:news.example.com,2026:1",
        "url": "https://news.example.com/posts/a/",
        "title": "Number 1",
        "content_html": "<p>Text 1.</p>\n",
        "summary": "In short.",
        "date_published": "2024-01-01T09:30:00+01:00",
        "date_modified": "2024-01-01T09:30:00+01:00",
        "authors": [{"name": "Ann"}, {"name": "Bob"}],
        "tags": ["R&D"],
        "language": "de",
    }


def test_names_the_organisation_and_the_hub() -> None:
    """The publisher is the organisation, and a hub is named as WebSub."""
    hub = 'feeds: {hub: "https://hub.example.com/"}\ncontact: {organization: Ann & Sons}\n'
    found = document(settings=hub)
    assert found["authors"] == [{"name": "Ann & Sons"}]
    assert found["hubs"] == [{"type": "WebSub", "url": "https://hub.example.com/"}]


def test_a_summary_stands_alone_as_text() -> None:
    """With `content: summary` an item has only its summary, as text."""
    (item,) = document("summary: In short.\n", "feeds: {content: {json: summary}}\n")["items"]
    assert (item["content_text"], "content_html" in item) == ("In short.", False)


def test_an_image_and_a_file_have_absolute_urls(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """The lead image is the item's image and begins its content; a file is an attachment."""
    extra = "image: {src: p.png, alt: A & B}\nenclosure: talk.mp3\n"
    text = short_post(1, FIRST_DAY, extra)
    folder = make_site({"posts/a.md": text, "posts/p.png": PIXEL, "posts/talk.mp3": b"12345"})
    postroom(folder, "build")
    (item,) = json.loads((folder / "public/feed.json").read_bytes())["items"]
    place = "https://news.example.com/posts/a"
    assert item["image"] == f"{place}/p.png"
    assert f'<img src="{place}/p.png" alt="A &amp; B"' in item["content_html"].splitlines()[0]
    assert item["attachments"] == [
        {"url": f"{place}/talk.mp3", "mime_type": "audio/mpeg", "size_in_bytes": 5}
    ]
    assert (folder / "public/posts/a/talk.mp3").read_bytes() == b"12345"


def test_next_leads_to_the_newest_archive() -> None:
    """`next_url` links the head and all archives to the oldest, which has none."""
    files = feeds(short_posts(range(9)), "feeds: {entries: 3}\n").files
    names = ("feed.json", "history/3.json", "history/2.json", "history/1.json")
    base = "https://news.example.com/"
    assert [json.loads(files[name]).get("next_url") for name in names] == [
        base + "history/3.json",
        base + "history/2.json",
        base + "history/1.json",
        None,
    ]
