"""The positions of the links, images and headings of a text."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postroom.markdown.extract import MarkdownHeading, MarkdownImage, MarkdownLink, extract_places


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ('See [our *new* house](b.md#x "T").', [MarkdownLink("b.md#x", "our new house", 1, 5)]),
        ("<https://a.example> <ann@a.example>",
         [MarkdownLink("https://a.example", "https://a.example", 1, 1),
          MarkdownLink("mailto:ann@a.example", "ann@a.example", 1, 21)]),
        ("Ünïcödé 新闻 [a](b)", [MarkdownLink("b", "a", 1, 12)]),
        ("One\n\ntwo [a\nb][r] and [r]\n\n[r]: there",
         [MarkdownLink("there", "a b", 3, 5), MarkdownLink("there", "r", 4, 11)]),
        ("- a\n  - [b](c)\n\n> | a |\n> |---|\n> | [d](e) |\n",
         [MarkdownLink("c", "b", 2, 5), MarkdownLink("e", "d", 6, 5)]),
        ("A note[^1].\n\n[^1]: See [there](a).\n", [MarkdownLink("a", "there", 3, 11)]),
        ("`[a](b)` \\[c](d)\n\n    [e](f)\n\n```\n[g](h)\n```\n", []),
        ('An <a class="x" href="b?c&amp;d">old <b>house</b></a>',
         [MarkdownLink("b?c&d", "old house", 1, 4)]),
        ("<p>\n<A\n HREF=b>old &amp; new</A></p>", [MarkdownLink("b", "old & new", 2, 1)]),
        ("<p><a name='x'>no link</a> <a href=''>one</a></p>", [MarkdownLink("", "one", 1, 28)]),
        ("<!-- <a href='b'>c</a> --> <i>d</i>\n", []),
        ('<iframe src="f" title="A film"></iframe><video src=v></video>',
         [MarkdownLink("f", "A film", 1, 1), MarkdownLink("v", "v", 1, 41)]),
        ("[![A plan](p.png)](b)", [MarkdownLink("b", "A plan", 1, 1)]),
        ('<a href="b"><img src="p" alt="A plan"></a>', [MarkdownLink("b", "A plan", 1, 1)]),
        ("[a <a href=b> c](d) e</a>", [MarkdownLink("d", "a c", 1, 1)]),
        ("[a</a>](b) <a href=c>[d](e)",
         [MarkdownLink("b", "a", 1, 1), MarkdownLink("e", "d", 1, 22)]),
        ("", []),
    ],
)  # fmt: skip
def test_links_are_found_with_their_positions(text: str, links: list[MarkdownLink]) -> None:
    """Every way to write a link is found, with its text and the position in an editor."""
    assert list(extract_places(text).links) == links


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("A ![new *house*](p.png)", [MarkdownImage("p.png", "new house", 1, 3)]),
        ("![](p.png)", [MarkdownImage("p.png", "", 1, 1)]),
        ('<img src="p.png">', [MarkdownImage("p.png", "", 1, 1)]),
        ('<img src="p.png" alt="">', [MarkdownImage("p.png", "", 1, 1, decorative=True)]),
        ('Text <img alt="A > B" src=p.png width=1 height="2"/>',
         [MarkdownImage("p.png", "A > B", 1, 6, sized=True)]),
        ("<figure>\n<img src='p.png' alt='A'>\n</figure>", [MarkdownImage("p.png", "A", 2, 1)]),
    ],
)  # fmt: skip
def test_images_are_found_with_their_positions(text: str, images: list[MarkdownImage]) -> None:
    """Every image is found, with its description and size."""
    assert list(extract_places(text).images) == images


def test_headings_are_found_with_their_positions() -> None:
    """Headings of Markdown and HTML are found with their levels and positions."""
    text = "# One\n\nTwo\n---\n\n> ### Three\n\n<h4 id='x'>Four</h4>\n\n    # code\n"
    found = [
        MarkdownHeading(1, 1, 1),
        MarkdownHeading(2, 3, 1),
        MarkdownHeading(3, 6, 3),
        MarkdownHeading(4, 8, 1),
    ]
    assert list(extract_places(text).headings) == found


@given(st.text(st.sampled_from("ab[]()!<>/\"'=&;#*_`~^|:- \n\\äé新"), max_size=60))
@example("[</a>](a)")
@example("<a href=b><a href=c>![</a>](d)</a>")
def test_no_text_is_too_odd(text: str) -> None:
    """The positions of links in any text are inside the text."""
    found = extract_places(text)
    lines = text.split("\n")
    everything: tuple[MarkdownLink | MarkdownImage | MarkdownHeading, ...] = (
        *found.links, *found.images, *found.headings,
    )  # fmt: skip
    for place in everything:
        assert 1 <= place.line <= len(lines)
        assert 1 <= place.column <= len(lines[place.line - 1]) + 1
