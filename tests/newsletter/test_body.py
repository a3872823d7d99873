"""The page of a post, the HTML of its email and its text part say the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import pytest
from attrs import frozen
from lxml import html as parser

from postroom.models import Post
from postroom.newsletter.render import render_email
from postroom.posts import loader
from postroom.scheduling.periods import group_by_period
from postroom.settings.site import load_settings
from postroom.theme.environment import Theme
from tests.support.site import AT, MakeSite

URL = "https://news.example.com/posts/post/"


@frozen
class Parts:
    """A post, and the body of the email that shows it in full."""

    post: Post
    page: parser.HtmlElement
    email: parser.HtmlElement
    text: str


def parts_of(make_site: MakeSite, markdown: str) -> Parts:
    """Return the page, the email's HTML and the text part of a post."""
    files: dict[str, str | bytes] = {"posts/2026-11-20-post.md": f"# A post\n\n{markdown}\n"}
    folder = make_site(files)
    site = load_settings(folder)
    (digest,) = group_by_period(loader.load_posts(folder, site, AT).posts, site)
    email = render_email(digest, site, Theme(folder, site.language))
    (post,) = digest.posts
    (body,) = parser.document_fromstring(email.html).xpath("//div[@class='body']")
    return Parts(post, parser.fromstring(f"<div>{post.html}</div>"), body, email.text)


BLOCKS = "p li td th dt dd pre h2 h3 caption blockquote".split()


def signs(text: str) -> str:
    """Return the letters and digits of a text, in their plain forms."""
    numbered = re.sub(r"\[\d+\]", "", text)
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", numbered)))


def blocks(tree: parser.HtmlElement) -> Iterator[str]:
    """Yield the innermost blocks of a text, in order."""
    for block in tree.iter(*BLOCKS):
        if not any(inner is not block for inner in block.iter(*BLOCKS)):
            yield signs(block.text_content())


POST = """\
The output of 10<sup>6</sup> units of H<sub>2</sub>O, at ~~100~~ 80 euros, said <q>the <q>old</q>
man</q> <small>in</small> <mark>May</mark> <ins>or</ins> <u>June</u> <tt>now</tt>.

<ruby>漢字<rt>かんじ</rt></ruby> and <cite>one</cite> <dfn>two</dfn> <samp>three</samp>
<var>four</var> <strike>five</strike> <b>six</b> <bdo dir="rtl">seven</bdo> <time>eight</time>

4. Turn the key.
5. Close the lid.

<ol type="a" reversed><li>first point</li><li value="7">seventh point</li></ol>

<dl><dt>Term</dt><dd>Meaning</dd></dl>

<table><caption>Our prices</caption>
<thead><tr><th colspan="2" scope="col">Size</th><th>Price</th></tr></thead>
<tbody><tr><td rowspan="2">Large</td><td>red</td><td>8</td></tr>
<tr><td>blue</td><td>9</td></tr></tbody>
<tfoot><tr><td colspan="3">with tax</td></tr></tfoot></table>

> A quotation[^1]

- [x] done
- [ ] open

<details><summary>More</summary><p>Hidden words.</p></details>

    code of a
    program

<noscript><p>Without scripts</p></noscript>

The <abbr title="European Union">EU</abbr>

[^1]: A note.
"""


def test_the_parts_agree_block_by_block(make_site: MakeSite) -> None:
    """Each block of the page is in both parts of the email, in this order, word by word."""
    parts = parts_of(make_site, POST)
    expected = [block for block in blocks(parts.page) if block]
    assert len(expected) == 25
    assert [block for block in blocks(parts.email) if block] == expected
    text, position = signs(parts.text), 0
    for block in expected:
        position = text.index(block, position) + len(block)


@pytest.mark.parametrize("name", "start type reversed value colspan rowspan scope title".split())
def test_the_email_keeps_numbers_and_spans(make_site: MakeSite, name: str) -> None:
    """Numbers of lists, spans of cells and meanings of abbreviations are those of the page."""
    parts = parts_of(make_site, POST)
    of_page = [(e.tag, e.get(name)) for e in parts.page.iter() if e.get(name) is not None]
    of_email = [(e.tag, e.get(name)) for e in parts.email.iter() if e.get(name) is not None]
    assert [found for found in of_page if found[0] != "input"]
    assert of_email == [found for found in of_page if found[0] != "input"]


def test_lists_have_the_numbers_of_the_page_in_the_text_part(make_site: MakeSite) -> None:
    """The text part shows the numbers that a browser shows."""
    text = parts_of(make_site, POST).text
    for item in ("4. Turn the key.", "5. Close the lid.", "b. first point", "g. seventh point"):
        assert f"\n{item}\n" in text


@pytest.mark.parametrize(
    ("written", "words", "name"),
    [
        ("<video controls src='talk%20one.mp4'></video>", "talk one.mp4", "talk%20one.mp4"),
        ("<audio src=a.mp3 title='Q&amp;A'>Your browser is old.</audio>", "Q&A", "a.mp3"),
        ("<video><source src=a.webm><source src=b.mp4></video>", "a.webm", "a.webm"),
        ("<iframe src=film title='A film'></iframe>", "A film", "film"),
    ],
)
def test_media_are_links_in_both_parts(
    make_site: MakeSite, written: str, words: str, name: str
) -> None:
    """No mail program plays a video, so both parts link to it."""
    parts = parts_of(make_site, f"Here:\n\n{written}\n\nThe end.")
    (link,) = parts.email.iter("a")
    assert (link.text_content(), link.get("href")) == (words, URL + name)
    assert f"\n{words} [1]\n" in parts.text
    assert f"\n[1] {URL}{name}\n" in parts.text
    assert "old" not in parts.email.text_content()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("<q>the <q>old</q> man</q>", "“the ‘old’ man”"),  # noqa: RUF001
        ("<ruby>漢字<rt>かんじ</rt></ruby>", "漢字(かんじ)"),
        ("<ruby>漢字<rp>[</rp><rt>かんじ</rt><rp>]</rp></ruby>", "漢字[かんじ]"),
    ],
)
def test_signs_replace_what_mail_programs_do_not_draw(
    make_site: MakeSite, written: str, expected: str
) -> None:
    """Quotation marks and the brackets of readings are written out."""
    assert parts_of(make_site, written).email.text_content().strip() == expected


def test_the_email_has_no_empty_paragraph(make_site: MakeSite) -> None:
    """An image without a description leaves no gap."""
    parts = parts_of(make_site, "One.\n\n![](a.png)\n\nTwo.")
    assert [p.text_content() for p in parts.email.iter("p")] == ["One.", "Two."]
