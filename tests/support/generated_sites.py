"""Generated sites of any number of posts; the same call makes the same files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from attrs import frozen

from postroom.models import Post, Site
from postroom.posts import loader
from postroom.posts.loader import group_by_topic
from postroom.posts.source import SourceFolder
from postroom.publish.feeds.catalog import FeedCatalog
from postroom.publish.pages import output_path
from postroom.settings.site import parse_settings
from tests.support import site as conftest
from tests.support.site import AT

FIRST_DAY = date(2024, 1, 1)
SETTINGS = """\
description: What happens at Example & Sons
topics: [Company news, Nothing yet]
feeds: {hub: "https://hub.example.com/", license: "https://example.com/by", rights: "© Us & <you>"}
"""
PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x04\x00\x00\x00"
    b"\xb5\x1c\x0c\x02\x00\x00\x00\x0bIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00"
    b"\x00\x00IEND\xaeB`\x82"
)
TOPICS = ("Company news", "C++", "C#", "R&D", "新闻", "أخبار", "हिन्दी समाचार", "100 %")
LANGUAGES = ("", "", "de", "zh-Hant", "ar")
TITLES = (
    "R&D spends 3 % more",
    "If a < b and b > c, is a < c?",
    "\"Quoted\" & 'quoted'",
    "公司新闻,我们搬家了",
    "أخبار الشركة",
    "Café — naïve 🎉 …",
    "100% & more; less is more;",
    "C++ is not C#",
    "\u202eright to left\u202c and back",
    "Backslash \\\\ and `tick` and [bracket]",
)
BODY = """\
Number {n} has a [link](#more), a note[^1] and a ![picture](pixel.png).

<script>alert(1)</script> <iframe src="/film" title="Film"></iframe>

- one & two < three
- [another page](/about?a=1&b=2)

| a | b |
|:--|--:|
| 1 | 2 |

## More

<img src="/a.png" srcset="/a.png 1x, /b.png 2x" onerror="x()" style="position:fixed">

[^1]: The note of number {n}.
"""


def site_files(count: int) -> dict[str, str | bytes]:
    """Return the files of a site of `count` posts with every field that a post can have."""
    files: dict[str, str | bytes] = {"posts/pixel.png": PIXEL, "posts/talk.mp3": b"ID3" * 100}
    for number in range(count):
        files[f"posts/{number % 7}/{number:05}.md"] = _post(number)
    return files


def _post(number: int) -> str:
    title = TITLES[number % len(TITLES)].replace("\\\\", "\\").replace("'", "''")
    day = FIRST_DAY + timedelta(days=number * 2 // 3)
    lines = [f"title: '{title} {number}'", f"date: {day}", f"id: tag:example.com,2024:{number}"]
    chosen = sorted({TOPICS[number % 8], TOPICS[number * 5 % 8]})
    lines.append(f"topics: {json.dumps(chosen, ensure_ascii=False)}")
    if language := LANGUAGES[number % 5]:
        lines.append(f"lang: {language}")
    if number % 3 == 0:
        lines.append(f"authors: [Ann & Sons {number % 4}, 王小明]")
    if number % 4 == 0:
        lines.append("image: {src: ../pixel.png, alt: A & B}")
    if number % 9 == 0:
        lines.append("enclosure: ../talk.mp3")
    if number % 10 == 9:
        lines.append("enclosure: {url: https://example.com/a.mp3, type: audio/mpeg, length: 5}")
    if number % 11 == 0:
        lines.append(f"updated: {day + timedelta(days=1)}")
    if number % 13 == 0:
        lines.append(f"withdrawn: {day + timedelta(days=3)}")
    front_matter = "\n".join({line.partition(":")[0]: line for line in lines}.values())
    return f"---\n{front_matter}\n---\n{BODY.format(n=number).replace('pixel.png', '../pixel.png')}"


def site_with(settings: str = "") -> Site:
    """Return the common test settings with `settings` added."""
    return parse_settings((conftest.SETTINGS + settings).encode())


def short_post(number: int, day: date, extra: str = "") -> str:
    """Return a post with its own id, dated `day`; `extra` adds lines to its front matter."""
    identity = f"tag:news.example.com,2026:{number}"
    return f"---\ntitle: Number {number}\ndate: {day}\nid: {identity}\n{extra}---\nText {number}.\n"


def short_posts(numbers: Iterable[int]) -> dict[str, str]:
    """Return a short post for each number, one a day, by its path below `posts/`."""
    return {f"{n:03}.md": short_post(n, FIRST_DAY + timedelta(days=n)) for n in numbers}


def read(texts: Mapping[str, str], site: Site) -> tuple[Post, ...]:
    """Read posts from `texts`, which maps paths below `posts/` to contents."""
    folder = SourceFolder({path: text.encode() for path, text in texts.items()})
    return loader.read_posts(folder, site, AT).posts


@frozen
class Feeds:
    """Feed documents by path, and the paths of the listed ones."""

    files: Mapping[str, bytes]
    listed: tuple[str, ...]


def feeds(texts: Mapping[str, str], settings: str = "") -> Feeds:
    """Return every feed document of the posts `texts` under `settings`."""
    site = site_with(settings)
    posts = read(texts, site)
    documents = list(FeedCatalog(site, str).documents(posts, group_by_topic(posts, site)))
    files = {output_path(item.feed.url, site): item.write(site) for item in documents}
    return Feeds(
        files, tuple(output_path(item.feed.url, site) for item in documents if item.listed)
    )
