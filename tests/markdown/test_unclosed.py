"""Markup that is never closed hides no text."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from postroom.markdown.html import resolve_urls, to_html
from postroom.markdown.plaintext import to_text
from postroom.markdown.unclosed import HIDDEN, find_unclosed, visible_html
from tests.support.site import CommandResult, MakeSite

HERE = "https://news.example.com/posts/a/"


@pytest.mark.parametrize(
    ("markdown", "written", "end", "place"),
    [
        ("One.\n\n<!-- a note -- we forgot the end\n\nTwo.", "<!--", "-->", (3, 1)),
        ("One.\n\n<?php x\n\nTwo.", "<?", "?>", (3, 1)),
        ("One.\n\n<!DOCTYPE html\n\nTwo.", "<!", ">", (3, 1)),
        ("One.\n\n<![CDATA[ x\n\nTwo > one.", "<![CDATA[", "]]>", (3, 1)),
        ("<div>ü <!-- x</div>\n\nTwo.\n\n<!-- y -->", "<!--", "-->", (1, 8)),
        ("<div>\n<!-- x\n\nTwo -->\n</div>", "<!--", "-->", (2, 1)),
        ("> One.\n>\n> <!-- x\n\nTwo.", "<!--", "-->", (3, 3)),
        ("- One.\n\n  <!-- x\n\nTwo.", "<!--", "-->", (3, 3)),
        ("<pre>\nx\n\nTwo.", "<pre>", "</pre>", (1, 1)),
        ("<svg>\n\n<path/>\n\n</svg>\n\n<MATH>\n\nTwo.", "<MATH>", "</MATH>", (7, 1)),
        ("<video src=a.mp4>\n\nTwo.", "<video>", "</video>", (1, 1)),
        *((f"<{tag} a=b>\n\nTwo.", f"<{tag}>", f"</{tag}>", (1, 1)) for tag in sorted(HIDDEN)),
    ],
)
def test_unclosed_markup_is_found_with_its_place(
    markdown: str, written: str, end: str, place: tuple[int, int]
) -> None:
    """Markup that would hide the rest of a post is named with its place and its end."""
    found = find_unclosed(markdown)
    assert found
    assert (found.written, found.end, (found.line, found.column)) == (written, end, place)


@pytest.mark.parametrize(
    "markdown",
    [
        "<!-- a\n\nnote -->\n\nTwo.",
        "<!-->\n\nTwo.\n\n<!--->",
        "A <!-- that is text, as are <? and <!X and <title>.",
        "`<!--` and `<title>`\n\n    <!-- code\n\n```\n<script>\n```",
        "<script>\n<!-- x\n</script>\n\nTwo.",
        "<svg>\n\n<title>x</title>\n\n</svg>",
        "<video src=a.mp4>\n\nold\n\n</video>",
        "<pre>a</pre> <textarea></TEXTAREA >",
        "<?xml version='1.0'?>\n\n<!DOCTYPE html>\n\n<![CDATA[a]]>",
    ],
)
def test_closed_markup_and_text_are_no_fault(markdown: str) -> None:
    """Comments, images and code that are whole are not reported."""
    assert find_unclosed(markdown) is None


def test_unclosed_markup_stops_the_build(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """The error names the line in the file, below the front matter and the title."""
    written = "---\nlang: en\n---\n# Read on\n\nOne.\n\n<!-- a note\n\nTwo.\n"
    folder = make_site({"posts/2026-11-20-a.md": written})
    for command in ("build", "check"):
        result = postroom(folder, command)
        assert (result.code, result.errors) == (
            1,
            [
                (
                    "posts/2026-11-20-a.md:8:1: '<!--' is never closed, and would hide the text"
                    " after it; end it with -->, or put it between ` signs"
                )
            ],
        )


@pytest.mark.parametrize("tag", sorted(HIDDEN | {"audio", "video"}))
@pytest.mark.parametrize(
    ("markdown", "words"),
    [
        ("One <{}> two.\n\nThree.\n\nFour <{}>x</{}> five.", "One <{}> two. Three. Four"),
        ("# One <{}>\n\nThree.\n\n<{}>x</{}>\n\nFour.", "One <{}> Three."),
        ("- One <{}> two\n  - Three\n\n<{}>x</{}>", "One <{}> two Three"),
        ("| One <{}> | two |\n|---|---|\n\nThree.\n\n<{}>x</{}>", "One <{}> two Three."),
    ],
)
def test_a_tag_that_its_paragraph_does_not_close_is_text(
    tag: str, markdown: str, words: str
) -> None:
    """A tag without code quotes hides nothing, even if another of its kind is closed later."""
    html = to_html(markdown.replace("{}", tag), resolve_urls(HERE))
    shown = [word for word in to_text(html).split() if word.strip("-|")]
    expected = words.replace("{}", tag).split()
    assert shown[: len(expected)] == expected


@pytest.mark.parametrize("start", ["<!--", "<!DOCTYPE", "<?php", "<![CDATA["])
def test_text_behind_unclosed_markup_is_shown(start: str) -> None:
    """No word is missing if such a text is rendered all the same."""
    html = to_html(f"One.\n\n{start} two\n\nthree", resolve_urls(HERE))
    assert to_text(html).split() == ["One.", start, "two", "three"]


@pytest.mark.parametrize(
    "markdown",
    [
        "<!-- a -->\n\n" * 20_000,
        "<svg>\n\n" * 20_000 + "</svg>",
        "a " + "<title>" * 50_000 + "\n\n<title></title>",
        "<p>" + "<title></script>" * 30_000 + "</p><title></title>",
        "<p><script>" * 20_000 + "</script>",
        "<?" * 50_000,
    ],
    ids=["comments", "images", "titles", "pairs", "paragraphs", "instructions"],
)
def test_the_search_is_fast(markdown: str) -> None:
    """No text makes the search take a time that grows with the square of its length."""
    started = time.process_time()
    find_unclosed(markdown)
    visible_html(markdown)
    assert time.process_time() - started < 3
