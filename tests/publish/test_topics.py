"""Topics: their URLs, their spellings, and a feed for each in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from postroom.lint.feeds import lint_feed
from postroom.posts.loader import group_by_topic
from postroom.text import topic_slug
from tests.support.feed_readers import FORMATS, NAMES, items
from tests.support.generated_sites import FIRST_DAY, feeds, read, short_post, site_with
from tests.support.site import CommandResult, MakeSite

NAMES_OF_TOPICS = (
    "C",
    "C++",
    "C#",
    "R&D",
    "新闻",
    "أخبار",
    "समाचार",
    "Company news",
    "100 %",
    "a@b",
)


def tagged(*names_of_posts: list[str]) -> dict[str, str]:
    """Return a post for each list of topics, the oldest first."""
    return {
        f"{number:03}.md": short_post(
            number,
            FIRST_DAY + timedelta(days=number),
            f"topics: {json.dumps(names, ensure_ascii=False)}\n",
        )
        for number, names in enumerate(names_of_posts)
    }


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Company news", "company-news"),
        ("C", "c"),
        ("C++", "c-plus-plus"),
        ("C#", "c-sharp"),
        ("R&D", "r-and-d"),
        ("100 %", "100-percent"),
        ("me@work", "me-at-work"),
        ("新闻", "新闻"),
        ("أخبار الشركة", "أخبار-الشركة"),
        ("हिन्दी", "हिन्दी"),
        ("ÄRGER/Straße", "ärger-straße"),
        ("../../etc", "etc"),
        ("Cafe\u0301", "café"),
    ],
)
def test_a_url_is_readable_in_any_script(name: str, slug: str) -> None:
    """The URL of a topic keeps the characters of its script and spells out signs."""
    assert topic_slug(name) == slug


def test_feeds_are_at_their_own_urls(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """Each topic's feeds and page are in the output at the URLs that they name."""
    texts = tagged(*([name] for name in NAMES_OF_TOPICS))
    folder = make_site({f"posts/{path}": text for path, text in texts.items()})
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.err) == (0, "")
    for slug in map(topic_slug, NAMES_OF_TOPICS):
        place = folder / "public/topics" / slug
        assert {path.name for path in place.iterdir()} == {"index.html", *FORMATS}
        for file in FORMATS:
            data = (place / file).read_bytes()
            assert own_url(data).isascii()
            assert unquote(urlsplit(own_url(data)).path) == f"/topics/{slug}/{file}"
            assert len(items(data)) == 1


def own_url(data: bytes) -> str:
    """Return the URL that a feed names as its own."""
    if data.startswith(b"{"):
        return str(json.loads(data)["feed_url"])
    (link,) = etree.fromstring(data).iterfind(".//a:link[@rel='self']", NAMES)
    return link.get("href", "")


@given(others=st.sets(st.sampled_from(NAMES_OF_TOPICS)), settled=st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_url_does_not_depend_on_other_topics(*, others: set[str], settled: bool) -> None:
    """A topic keeps its URL whatever other topics exist."""
    names = sorted(others)
    site = site_with(f"topics: {json.dumps(names, ensure_ascii=False)}\n" if settled else "")
    texts = {} if settled else tagged(*([name] for name in names))
    found = {topic.name: topic.url for topic in group_by_topic(read(texts, site), site)}
    alone = {
        name: group_by_topic((), site_with(f"topics: ['{name}']\n"))[0].url
        for name in NAMES_OF_TOPICS
    }
    assert found == {name: alone[name] for name in names}
    assert len(set(alone.values())) == len(NAMES_OF_TOPICS)


def test_spellings_of_one_topic_are_one_topic() -> None:
    """Names that differ only in case or punctuation share a feed with the oldest name."""
    texts = tagged(["Company news"], ["company News!"], ["COMPANY-NEWS", "company news"])
    known = read(texts, site_with())
    (topic,) = group_by_topic(known, site_with())
    assert (topic.name, topic.slug) == ("Company news", "company-news")
    assert topic.posts == known
    assert len(items(feeds(texts).files["topics/company-news/atom.xml"])) == 3


def test_the_settings_decide_the_spelling_of_a_topic() -> None:
    """A spelling in the settings overrides that of the oldest post."""
    site = site_with("topics: [Company News]\n")
    (topic,) = group_by_topic(read(tagged(["company news"]), site), site)
    assert (topic.name, len(topic.posts)) == ("Company News", 1)


def test_other_spellings_are_reported(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """Each unusual spelling of a topic is reported with its file and the usual one."""
    texts = tagged(["Company news"], ["company news"])
    folder = make_site({f"posts/{path}": text for path, text in texts.items()})
    outcome = postroom(folder, "check")
    assert outcome.code == 0
    assert [line for line in outcome.warnings if "post-topic" in line] == [
        "posts/001.md:5: topics: found 'company news'; others write 'Company news' [post-topic]"
    ]


def test_a_topic_without_a_url_is_reported(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """A topic without an alphanumeric character has no feed and causes a warning."""
    folder = make_site({f"posts/{path}": text for path, text in tagged(["🎉"]).items()})
    outcome = postroom(folder, "check")
    assert [line for line in outcome.warnings if "post-topic" in line] == [
        "posts/000.md:5: topics: '🎉' makes no URL; use letters or digits [post-topic]"
    ]
    assert not (folder / "public/topics").exists()


def test_topics_of_the_settings_come_first() -> None:
    """Topics are in the order of the settings, then those of posts alone by name."""
    site = site_with("topics: [Zebra, Apple]\n")
    known = group_by_topic(read(tagged(["mango"], ["Banana", "Apple"]), site), site)
    assert [topic.name for topic in known] == ["Zebra", "Apple", "Banana", "mango"]


def test_topic_posts_come_newest_first() -> None:
    """A topic has each of its posts once, the newest first."""
    texts = tagged(["A"], ["B"], ["A", "a"], ["A"])
    known = read(texts, site_with())
    (first, second) = group_by_topic(known, site_with())
    assert first.posts == tuple(post for post in known if "A" in post.topics)
    assert second.posts == tuple(post for post in known if "B" in post.topics)


@pytest.mark.parametrize("file", FORMATS)
def test_a_topic_without_posts_has_an_empty_feed(file: str) -> None:
    """A topic of the settings can be subscribed to before its first post."""
    made = feeds({}, "topics: [Nothing yet]\n")
    data = made.files[f"topics/nothing-yet/{file}"]
    assert items(data) == ()
    assert lint_feed(data, file) == []


@pytest.mark.parametrize("file", FORMATS)
def test_topic_feeds_can_be_turned_off(file: str) -> None:
    """`feeds: {topics: false}` leaves only the main feed."""
    made = feeds(tagged(["A"]), "feeds: {topics: false}\n")
    assert [path for path in made.files if path.endswith(file)] == [file]


def test_a_topic_feed_names_itself_and_links_to_its_page() -> None:
    """A topic's feed has its own id and title and links to the topic's page."""
    made = feeds(tagged(["R&D"]))
    root = etree.fromstring(made.files["topics/r-and-d/atom.xml"])
    assert root.findtext("a:id", "", NAMES) == "tag:news.example.com,2026:topics/r-and-d"
    assert root.findtext("a:title", "", NAMES) == "Example News: R&D"
    page = root.find("a:link[@rel='alternate']", NAMES)
    assert page is not None
    assert page.get("href") == "https://news.example.com/topics/r-and-d/"
