"""Where the links, pictures and headings of a text stand."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postroom.markdown.places import Heading, Link, Picture, places


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ('See [our *new* house](b.md#x "T").', [Link("b.md#x", "our new house", 1, 5)]),
        ("<https://a.example> <ann@a.example>",
         [Link("https://a.example", "https://a.example", 1, 1),
          Link("mailto:ann@a.example", "ann@a.example", 1, 21)]),
        ("Ünïcödé 新闻 [a](b)", [Link("b", "a", 1, 12)]),
        ("One\n\ntwo [a\nb][r] and [r]\n\n[r]: there",
         [Link("there", "a b", 3, 5), Link("there", "r", 4, 11)]),
        ("- a\n  - [b](c)\n\n> | a |\n> |---|\n> | [d](e) |\n",
         [Link("c", "b", 2, 5), Link("e", "d", 6, 5)]),
        ("A note[^1].\n\n[^1]: See [there](a).\n", [Link("a", "there", 3, 11)]),
        ("`[a](b)` \\[c](d)\n\n    [e](f)\n\n```\n[g](h)\n```\n", []),
        ('An <a class="x" href="b?c&amp;d">old <b>house</b></a>',
         [Link("b?c&d", "old house", 1, 4)]),
        ("<p>\n<A\n HREF=b>old &amp; new</A></p>", [Link("b", "old & new", 2, 1)]),
        ("<p><a name='x'>no link</a> <a href=''>one</a></p>", [Link("", "one", 1, 28)]),
        ("<!-- <a href='b'>c</a> --> <i>d</i>\n", []),
        ('<iframe src="f" title="A film"></iframe><video src=v></video>',
         [Link("f", "A film", 1, 1), Link("v", "v", 1, 41)]),
        ("[![A plan](p.png)](b)", [Link("b", "A plan", 1, 1)]),
        ('<a href="b"><img src="p" alt="A plan"></a>', [Link("b", "A plan", 1, 1)]),
        ("[a <a href=b> c](d) e</a>", [Link("d", "a c", 1, 1)]),
        ("[a</a>](b) <a href=c>[d](e)", [Link("b", "a", 1, 1), Link("e", "d", 1, 22)]),
        ("", []),
    ],
)  # fmt: skip
def test_links_are_found_where_they_stand(text: str, links: list[Link]) -> None:
    """Every way to write a link is found, with its words, at the place where an editor shows it."""
    assert list(places(text).links) == links


@pytest.mark.parametrize(
    ("text", "pictures"),
    [
        ("A ![new *house*](p.png)", [Picture("p.png", "new house", 1, 3)]),
        ("![](p.png)", [Picture("p.png", "", 1, 1)]),
        ('<img src="p.png">', [Picture("p.png", "", 1, 1)]),
        ('<img src="p.png" alt="">', [Picture("p.png", "", 1, 1, decorative=True)]),
        ('Text <img alt="A > B" src=p.png width=1 height="2"/>',
         [Picture("p.png", "A > B", 1, 6, sized=True)]),
        ("<figure>\n<img src='p.png' alt='A'>\n</figure>", [Picture("p.png", "A", 2, 1)]),
    ],
)  # fmt: skip
def test_pictures_are_found_where_they_stand(text: str, pictures: list[Picture]) -> None:
    """Every picture is found, with what its author says of it."""
    assert list(places(text).pictures) == pictures


def test_headings_are_found_where_they_stand() -> None:
    """Both kinds of Markdown's headings and those of HTML are found with their levels."""
    text = "# One\n\nTwo\n---\n\n> ### Three\n\n<h4 id='x'>Four</h4>\n\n    # code\n"
    found = [Heading(1, 1, 1), Heading(2, 3, 1), Heading(3, 6, 3), Heading(4, 8, 1)]
    assert list(places(text).headings) == found


@given(st.text(st.sampled_from("ab[]()!<>/\"'=&;#*_`~^|:- \n\\äé新"), max_size=60))
@example("[</a>](a)")
@example("<a href=b><a href=c>![</a>](d)</a>")
def test_no_text_is_too_odd(text: str) -> None:
    """Whatever somebody writes, what is found stands in the text."""
    found = places(text)
    lines = text.split("\n")
    everything: tuple[Link | Picture | Heading, ...] = (
        *found.links, *found.pictures, *found.headings,
    )  # fmt: skip
    for place in everything:
        assert 1 <= place.line <= len(lines)
        assert 1 <= place.column <= len(lines[place.line - 1]) + 1
