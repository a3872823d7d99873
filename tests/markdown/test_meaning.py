"""Plain text keeps the meaning of markup: in titles, in summaries and in text parts."""

from __future__ import annotations

import pytest

from postroom.markdown.html import resolve_urls, to_html
from postroom.markdown.plaintext import first_heading, to_text
from postroom.markdown.summary import first_paragraph

HERE = "https://news.example.com/posts/a/"


def text(markdown: str) -> str:
    """Return the text part of `markdown`."""
    return to_text(to_html(markdown, resolve_urls(HERE)))


def summary(markdown: str) -> str:
    """Return the summary of `markdown`."""
    return first_paragraph(to_html(markdown, resolve_urls(HERE)))


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("10<sup>6</sup> units", "10⁶ units"),
        ("10<sup>-6</sup> and 10<SUP> +3 </SUP>", "10⁻⁶ and 10⁺³"),
        ("30 m<sup>3</sup>, x<sup>n</sup>", "30 m³, xⁿ"),
        ("H<sub>2</sub>O, CO<sub>2</sub>", "H₂O, CO₂"),
        ("2<sup>x</sup>, 2<sup>x + 1</sup>", "2^x, 2^(x + 1)"),
        ("v<sub>max</sub>, v<sub>a b</sub>", "v_max, v_(a b)"),
        ("2<sup>10<sup>2</sup></sup>", "2^(10²)"),
        ("the 1<sup>st</sup>, the n<sup>th</sup>", "the 1st, the nth"),
        ("le 2<sup>e</sup>, M<sup>lle</sup> Roux", "le 2e, Mlle Roux"),
        ("Gadget<sup>TM</sup> by Maker<sup>®</sup>", "Gadget™ by Maker®"),
        ("so they said<sup>[3]</sup>", "so they said[3]"),
        ("it is <q>good <q>and</q> cheap</q>", "it is “good ‘and’ cheap”"),  # noqa: RUF001
        ("<ruby>漢字<rt>かんじ</rt></ruby>", "漢字(かんじ)"),
        ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp> 字 <rt>じ</rt></ruby>", "漢(かん)字(じ)"),
        ("<abbr title='European Union'>EU</abbr>: <abbr>EU</abbr>", "EU (European Union): EU"),
        ("<abbr title='a'>A</abbr> <abbr title='a'>A</abbr>", "A (a) A"),
        ("press <kbd>Ctrl</kbd><kbd>C</kbd>, or <kbd>F</kbd>1", "press Ctrl C, or F1"),
        ("<tt>make</tt> &amp; <TT>run</TT>", "make & run"),
    ],
)
def test_marks_of_meaning_become_signs(written: str, plain: str) -> None:
    """Titles, summaries and text parts say the same."""
    assert first_heading(f"# {written}\n\nWords.")[0] == plain
    assert summary(written) == plain
    assert text(written) == plain


@pytest.mark.parametrize(
    ("written", "short", "full"),
    [
        ("Price: ~~100~~ 80 euros", "Price: 80 euros", "Price: ~~100~~ 80 euros"),
        ("It was ~~new~~, then old", "It was, then old", "It was ~~new~~, then old"),
        ("<del>closed</del> <ins>open</ins>", "open", "~~closed~~ open"),
        ("<s>a</s>b", "b", "~~a~~b"),
        ("<strike>a</strike> b", "b", "~~a~~ b"),
        ("<STRIKE class=x>a</STRIKE> b", "b", "~~a~~ b"),
        ("~~a 10<sup>6</sup>~~ b", "b", "~~a 10⁶~~ b"),
        ("~~Cancelled~~", "~~Cancelled~~", "~~Cancelled~~"),
    ],
)
def test_deleted_text_is_never_read_as_valid(written: str, short: str, full: str) -> None:
    """Deleted text is left out of titles and summaries, and marked in text parts."""
    assert first_heading(f"# {written}\n\nWords.")[0] == short
    assert summary(written) == short
    assert text(written) == full


def test_text_deleted_across_paragraphs_is_marked_in_each() -> None:
    """A mark of deleted text does not end with its first paragraph."""
    assert (
        text("<div><del><p>one</p><p>two</p></del></div>\n\nthree") == "~~one~~\n\n~~two~~\n\nthree"
    )


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("<video controls src='talk%20one.mp4'></video>", "talk one.mp4 [1]"),
        ("<audio src='talk%20one.mp4' title='Our talk'></audio>", "Our talk [1]"),
        (
            (
                "<div><video><source src='talk%20one.mp4'><source src=b.webm>"
                "<p>Your browser is <a href=c>old</a>.</p></video></div>"
            ),
            "talk one.mp4 [1]",
        ),
        ("<iframe src='talk%20one.mp4' title='Our talk'></iframe>", "Our talk [1]"),
        ("See <video src='talk%20one.mp4'>no *video*</video> here", "See talk one.mp4 [1] here"),
    ],
)
def test_media_become_links(written: str, words: str) -> None:
    """A text part names audio, video and frames, and links to them."""
    assert text(written) == f"{words}\n\n[1] {HERE}talk%20one.mp4"


def test_media_without_a_file_are_their_words() -> None:
    """A video that leads nowhere shows the words in it."""
    assert text("<video>See <a href=b>here</a></video>") == f"See here [1]\n\n[1] {HERE}b"


def test_an_image_that_is_a_link_has_a_name() -> None:
    """A link that shows an image without a description shows the name of its file."""
    assert text("[![](a%20b.png)](c)") == f"[a b.png] [1]\n\n[1] {HERE}c"


def test_the_image_for_readers_without_scripts_is_kept() -> None:
    """Scripts never run here, so what stands in <noscript> is shown."""
    written = "<img data-src=a.png class=lazy><noscript><img src=a.png alt='The door'></noscript>"
    assert to_html(written, resolve_urls(HERE)).strip() == (
        f'<p><img class="lazy"><img src="{HERE}a.png" alt="The door"></p>'
    )
    assert text(written) == "[The door]"


def test_a_url_is_shown_as_it_is_linked() -> None:
    """A link whose text is its URL has no number; the URL has the form that HTML has."""
    assert text("<https://example.org/ü>") == "https://example.org/%C3%BC"
    assert text("https://bücher.example/") == "https://bücher.example/"
    assert text("<https://bücher.example/>") == "https://xn--bcher-kva.example/"


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("4. d\n5. e", ["4. d", "5. e"]),
        ("<ol type=a start=3><li>c</li><li>d</li></ol>", ["c. c", "d. d"]),
        ("<ol type=A start=26><li>z<li>aa<li value=0>none</ol>", ["Z. z", "AA. aa", "0. none"]),
        ("<ol type=I start=3><li>c<li>d<li value=9>i</ol>", ["III. c", "IV. d", "IX. i"]),
        ("<ol type=i start=1998><li>x</ol>", ["mcmxcviii. x"]),
        ("<ol reversed><li>b<ul><li>x</ul><li>a</ol>", ["2. b", "   - x", "1. a"]),
        ("<ol reversed type=a><li>b<li value=7>g<li>f</ol>", ["c. b", "g. g", "f. f"]),
        ("<ol reversed start=9><li>i<li>h</ol>", ["9. i", "8. h"]),
        ("<ol start=-1><li>x<li>y</ol>", ["-1. x", "0. y"]),
        ("<ol start=x><li>x</ol>", ["1. x"]),
        ("<ul><li value=3>x</ul>", ["- x"]),
    ],
)
def test_lists_are_numbered_as_on_the_page(written: str, lines: list[str]) -> None:
    """Start, type, order and values of a numbered list are those of the page."""
    assert text(written).split("\n") == lines


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("<tr><th colspan=2>a<th>b<tr><td>c<td>d<td>e", ["a | | b", "c | d | e"]),
        ("<tr><td rowspan=2>a<td>b<tr><td>c<tr><td>d<td>e", ["a | b", "a | c", "d | e"]),
        ("<tr><td>a<td rowspan=2>b<tr><td>c", ["a | b", "c | b"]),
        ("<caption>Sizes</caption><tr><td>a<td><ul><li>b<li>c</ul>", ["Sizes", "a | b c"]),
        ("<tr><td colspan=0 rowspan=x>a<td>b", ["a | b"]),
    ],
)
def test_cells_that_span_others_stay_in_their_columns(written: str, lines: list[str]) -> None:
    """A cell that covers several rows stands in each, and the others stay in their columns."""
    assert text(f"<table>{written}</table>").split("\n") == lines


def test_a_huge_span_makes_no_huge_text() -> None:
    """A cell cannot cover more columns than a table has."""
    written = "<table><tr><td colspan=100000000 rowspan=65534>a<td>b</table>"
    assert len(text(written)) < 1000


def test_no_paragraph_is_empty() -> None:
    """Nothing stands between two paragraphs but one empty line."""
    written = "a\n\n<p></p>\n\n![](b.png)\n\n<div><p> </p></div>\n\n<script>x</script>\n\nb"
    assert text(written) == "a\n\nb"
