"""Headings and footnotes have ids, which never repeat and are never those of the theme."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree
from lxml import html as parser

from postroom.markdown.anchors import THEME_IDS
from postroom.markdown.extract import extract_places
from postroom.markdown.html import resolve_urls, to_html
from postroom.markdown.plaintext import first_heading, to_text
from postroom.markdown.summary import first_paragraph
from tests.support.site import ROOT, CommandResult, MakeSite

Run = Callable[..., CommandResult]
HERE = "https://news.example.com/a/"
RESOLVE = resolve_urls(HERE)


def made(markdown: str) -> parser.HtmlElement:
    """Return the HTML of `markdown`, parsed."""
    return parser.fromstring(f"<div>{to_html(markdown, RESOLVE)}</div>")


def ids(markdown: str) -> list[str]:
    """Return the ids in the HTML of `markdown`, in its order."""
    return [str(identity) for identity in made(markdown).xpath("//@id")]


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ("Opening hours", "opening-hours"),
        ("What's *new* in `v1.2`?", "whats-new-in-v12"),
        ("Before & after", "before--after"),
        ("snake_case - and C++", "snake_case---and-c"),
        ("Über uns", "über-uns"),
        ("新闻", "新闻"),
        ("नमस्ते", "नमस्ते"),
        ("[A link](b)", "a-link"),
        ("Prices[^1]", "prices"),
        ("🎉", "section"),
        ("Use {braces}", "use-braces"),
    ],
)
def test_a_heading_has_the_id_that_code_hosts_give(heading: str, slug: str) -> None:
    """The id of a heading is its text: lower case, with hyphens for spaces and no other signs."""
    assert slug in ids(f"## {heading}\n\n[^1]: Note.\n")
    assert made(f"<h2>{slug}</h2>").xpath("//h2/@id") == [slug]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("## A\n\n## A\n\n## A", ["a", "a-1", "a-2"]),
        ("## A\n\n## A-1\n\n## A", ["a", "a-1", "a-2"]),
        ("## A {#b}\n\n## B\n\n## A", ["b", "b-1", "a"]),
        ("## A {#a}\n\n## B {#a}", ["a", "b"]),
        ("A {#b .c}\n===\n", ["b"]),
        ('## A\n\n<p id="a">x</p>', ["a-1", "a"]),
        ('<p id="x">a</p><p id="x">b</p>', ["x"]),
        ('Text id="x" and `<p id="y">`', []),
        ("## Main\n\n## Main\n\n## Topics", ["post-main", "main-1", "post-topics"]),
        ('<p id="main">a</p>\n\n## Post main', ["post-main", "post-main-1"]),
        ("a[^x]\n\n## x\n\n## fn-1\n\n[^x]: b", ["fnref-1", "x", "fn-1-1", "fn-1"]),
    ],
)
def test_no_id_occurs_twice_or_belongs_to_the_theme(markdown: str, expected: list[str]) -> None:
    """A repeated id gets a number, an id of the theme a prefix; written ids come first."""
    assert ids(markdown) == expected


def test_every_id_of_the_theme_is_known() -> None:
    """The ids that posts must avoid are those that the theme's pages have."""
    pages = [*(ROOT / "templates").glob("pages/*.html"), *(ROOT / "templates").glob("partials/*")]
    found = {found for page in pages for found in re.findall(r' id="([^"]*)"', page.read_text())}
    assert found == THEME_IDS


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("# Set {a, b}", "Set {a, b}"),
        ("# Set {x} ##", "Set {x}"),
        ("Set {x}\n===", "Set {x}"),
        ("# {x}", "{x}"),
        ("# {#x}", "{#x}"),
        ("# Set {}", "Set {}"),
        ("# Set {% x %}", "Set {% x %}"),
        ("# Set {{ x }}", "Set {{ x }}"),
        (r"# Set \{#x}", "Set {#x}"),
        ("# Set `{x}`", "Set {x}"),
        ("# Set {#x}", "Set"),
        ("# Set {#x .y z=1}", "Set"),
    ],
)
def test_braces_that_are_no_id_stay_in_a_heading(heading: str, title: str) -> None:
    """No text of a heading is taken for attributes and lost: not in HTML, text or title."""
    assert first_heading(f"{heading}\n\nText.") == (
        title,
        "\n" * (heading.count("\n") + 2) + "Text.",
    )
    assert made(f"## A\n\n{heading}").xpath("string(//*[2])") == title
    html = to_html(heading, RESOLVE)
    assert to_text(html).splitlines()[0] == title
    assert first_paragraph(html) == title


def test_findings_after_such_braces_name_the_written_column() -> None:
    """Places of links are those in the file, also where the parser gets another text."""
    places = extract_places("## Set [a](b) {x}\n\nMore {y} [c](d)\n")
    assert [(link.line, link.column) for link in places.links] == [(1, 8), (3, 10)]
    places = extract_places("> # ü {x}\n> ## [c](d) {ü}\n")
    assert [(link.line, link.column) for link in places.links] == [(2, 6)]


NOTES = """\
Text[^main] and more[^content], and again[^main].

> Quoted[^in].
>
> [^in]: Written in the quotation.

[^content]: The second, with `code`.

    And a second paragraph.

[^main]: The first note.
"""


def test_footnotes_are_at_the_end_and_link_back() -> None:
    """Footnotes follow the text in the order of their numbers; each reference has a way back."""
    page = made(NOTES)
    assert [str(child.get("id", child.tag)) for child in page] == [
        "p", "blockquote", "fn-1", "fn-2", "fn-3"
    ]  # fmt: skip
    assert page.xpath("//blockquote//div") == []
    links = {str(url) for url in page.xpath("//sup/a/@href")}
    assert links == {f"{HERE}#fn-1", f"{HERE}#fn-2", f"{HERE}#fn-3"}
    back = page.xpath("//div[@id='fn-1']//a/@href")
    assert back == [f"{HERE}#fnref-1", f"{HERE}#fnref-1-2"]
    assert [page.get_element_by_id(url.partition("#")[2]).tag for url in back] == ["sup", "sup"]
    assert page.xpath("string(//div[@id='fn-2']/p[2])").startswith("And a second paragraph. ")
    assert "main" not in page.xpath("//@id")


def test_a_footnote_may_end_with_a_list_or_be_defined_twice() -> None:
    """The way back stands behind a list, and a second definition takes no id."""
    page = made("a[^1]\n\n[^1]: - b\n    - c\n\n[^1]: d")
    assert page.xpath("//div/@id") == ["fn-1"]
    assert page.xpath("//div[@id]/ul/following-sibling::a/@href") == [f"{HERE}#fnref-1"]
    forged = '<sup class="footnote-reference"><a href="b">' + "9" * 5000 + "</a></sup>"
    assert made(forged).xpath("//a/@href") == [f"{HERE}b"]


SETTINGS = "contact: {organization: Example Company}\n"
FIRST = """\
---
title: The first of two posts with the same headings
date: 2026-11-20
id: tag:news.example.com,2026:first
summary: A post with headings, with a footnote and with links to all of them.
---
See [main](#main), [raw](#topics), [hours](#hours),
[the second](b.md#main) or [its note](b.md#follow).[^main]

## Hours

## Main

<p id="topics">Raw.</p>

[^main]: Note.
"""
SECOND = """\
---
title: The second of two posts with the same headings
date: 2026-10-02
id: tag:news.example.com,2026:second
summary: Another post with the same headings and with an id that the theme has.
---
## Main

A note.[^1]

[^1]: <b id="follow">Note</b>.
"""


def built(make_site: MakeSite, postroom: Run, first: str = FIRST) -> tuple[Path, CommandResult]:
    """Build a site of two posts; return its output and what `check` says."""
    folder = make_site({"posts/a.md": first, "posts/b.md": SECOND}, SETTINGS)
    assert postroom(folder, "build").code == 0
    return folder / "public", postroom(folder, "check")


def test_links_to_headings_and_ids_of_posts_work(make_site: MakeSite, postroom: Run) -> None:
    """Each id is on its page once, and links in and between posts lead to it."""
    output, checked = built(make_site, postroom)
    assert (checked.code, checked.out, checked.err) == (0, "0 errors, 0 warnings\n", "")
    page = parser.fromstring((output / "posts/a/index.html").read_bytes())
    links = [
        str(url).rpartition("/")[2] for url in page.xpath("//div[@class='prose']/p[1]//a/@href")
    ]
    assert links == [
        "#post-main", "#post-topics", "#hours", "#post-main", "#post-follow", "#fn-1"
    ]  # fmt: skip
    found = [str(identity) for identity in page.xpath("//@id")]
    assert sorted(found) == [
        "fn-1", "fnref-1", "hours", "main", "post-main", "post-topics"
    ]  # fmt: skip
    assert page.xpath("//a[@class='footnote-back']/@aria-label") == ["Back to the text"]


def test_a_link_to_an_id_that_does_not_exist_is_found(make_site: MakeSite, postroom: Run) -> None:
    """The finding names the post's line and an id that is similar."""
    wrong = FIRST.replace("(#hours)", "(#huors)").replace("(b.md#follow)", "(b.md#archive)")
    _, checked = built(make_site, postroom, wrong)
    near, none = checked.warnings
    assert near == (
        "posts/a.md:7:36: '#huors' leads to '#huors', which posts/a/index.html does not have;"
        " did you mean '#hours'? [post-anchor]"
    )
    assert none == (
        "posts/a.md:8:28: 'b.md#archive' leads to '#archive', which posts/b/index.html does not"
        ' have; write <a id="archive"></a> at the target, or link to the page [post-anchor]'
    )


def test_texts_of_several_posts_on_one_page_share_no_id(make_site: MakeSite, postroom: Run) -> None:
    """Feeds and emails hold no id of a post; links to ids lead to the page of the post."""
    output, _ = built(make_site, postroom)
    path = "//*[local-name()='content' or local-name()='encoded']/text()"
    feeds = (etree.parse(output / name) for name in ("atom.xml", "rss.xml"))
    texts = [f"<div>{text}</div>" for feed in feeds for text in feed.xpath(path)]
    assert len(texts) == 4
    texts += [(output / f"digest/2026-{month}/email.html").read_text() for month in (10, 11)]
    for text in texts:
        tree = parser.document_fromstring(text)
        assert tree.xpath("//@id | //a[contains(., '\u21a9')]") == []
        links = [url for url in tree.xpath("//a/@href") if "#" in url]
        assert links
        assert all(url.startswith("https://news.example.com/posts/") for url in links)
