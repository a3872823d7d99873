"""Markdown becomes safe HTML with absolute URLs, and readable plain text."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html as parser

from postroom.markdown.html import (
    DepthError,
    add_image_sizes,
    resolve_urls,
    sanitize,
    shift_headings,
    to_html,
)
from postroom.markdown.inline import inline_text
from postroom.markdown.plaintext import first_heading, to_text
from postroom.markdown.summary import first_paragraph
from postroom.markdown.unclosed import HIDDEN
from postroom.models import Html
from postroom.text import shorten, wrap

HERE = "https://news.example.com/posts/a/"
RESOLVE = resolve_urls(HERE)


def page(markdown: str) -> str:
    """Return the HTML of `markdown`."""
    return to_html(markdown, RESOLVE).strip()


def text(markdown: str) -> str:
    """Return the plain text of `markdown`."""
    return to_text(to_html(markdown, RESOLVE))


def summary(markdown: str) -> str:
    """Return the summary of `markdown`."""
    return first_paragraph(to_html(markdown, RESOLVE))


# --- HTML: URLs ---


@pytest.mark.parametrize(
    ("markdown", "address"),
    [
        ("[x](b)", f"{HERE}b"),
        ("[x](../b)", "https://news.example.com/posts/b"),
        ("[x](/b)", "https://news.example.com/b"),
        ("[x](#b)", f"{HERE}#b"),
        ("[x](?b=c)", f"{HERE}?b=c"),
        ("[x]()", HERE),
        ("[x](//example.org/b)", "https://example.org/b"),
        ("[x](<a b>)", f"{HERE}a%20b"),
        ("[x](ü)", f"{HERE}%C3%BC"),
        ("[x](1:2)", f"{HERE}1:2"),
        ("[x][1]\n\n[1]: b 'Title'", f"{HERE}b"),
        ("[x]\n\n[x]: b", f"{HERE}b"),
        ("<a href=b>x</a>", f"{HERE}b"),
        ("<A HREF='b'>x</A>", f"{HERE}b"),
        ("<a href=' b '>x</a>", f"{HERE}b"),
        ("<a href='a b\"ü'>x</a>", f"{HERE}a%20b%22%C3%BC"),
        ("<https://example.org/>", "https://example.org/"),
        ("<a@example.org>", "mailto:a@example.org"),
        ("[x](mailto:a@example.org?subject=b)", "mailto:a@example.org?subject=b"),
        ("[x](tel:+49301234)", "tel:+49301234"),
        ("[x](HTTPS://example.org/)", "HTTPS://example.org/"),
    ],
)
def test_every_link_is_absolute(markdown: str, address: str) -> None:
    """Links lead to the same place wherever the HTML is read."""
    assert parser.fromstring(page(markdown)).xpath("//a/@href") == [address]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("![x](b.png 'T')", f'<p><img src="{HERE}b.png" alt="x" title="T"></p>'),
        ("<img src=b.png>", f'<img src="{HERE}b.png">'),
        (
            "<img srcset='a.png 1x,b.png 2x'>",
            f'<img srcset="{HERE}a.png 1x, {HERE}b.png 2x">',
        ),
        (
            "<img srcset=' a.png , b.png   640w , //example.org/c.png 2.5x, '>",
            f'<img srcset="{HERE}a.png, {HERE}b.png 640w, https://example.org/c.png 2.5x">',
        ),
        ("<img srcset='a,b.png 1x'>", f'<img srcset="{HERE}a,b.png 1x">'),
        ("<img srcset='data:image/png;base64,AA 1x, a.png 2x'>", f'<img srcset="{HERE}a.png 2x">'),
        ("<img srcset='a.png 1x onerror=b, javascript:c'>", "<img>"),
        ("<img srcset=''>", "<img>"),
        (
            "<video src=a.mp4 poster=b.png controls></video>",
            f'<video src="{HERE}a.mp4" poster="{HERE}b.png" controls=""></video>',
        ),
        (
            "<picture><source srcset='a.webp 1x'><img src=b.png></picture>",
            f'<picture><source srcset="{HERE}a.webp 1x"><img src="{HERE}b.png"></picture>',
        ),
        ("<q cite=b>x</q>", f'<q cite="{HERE}b">x</q>'),
        ("<del cite='javascript:b'>x</del>", "<del>x</del>"),
    ],
)
def test_every_other_url_is_absolute_too(markdown: str, expected: str) -> None:
    """Images in all sizes, posters, videos and sources of quotations have absolute URLs."""
    assert page(markdown).removeprefix("<p>").removesuffix("</p>") == (
        expected.removeprefix("<p>").removesuffix("</p>")
    )


# --- HTML: removed content ---

TRICKS = {
    "script": "<script>alert(1)</script>",
    "script in capitals": "<SCRIPT SRC=https://evil.example/>alert(1)</SCRIPT>",
    "script in script": "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "script never closed": "a\n\n<script>alert(1)",
    "style": "<style>p{background:url(//evil.example/)}</style>",
    "style attribute": "<p style='position:fixed;background:url(//evil.example/)'>a</p>",
    "style of a cell": "<table><td style='position:fixed;text-align:center'>a</table>",
    "handlers": "<img src=a onerror=alert(1) ONLOAD='alert(1)'><b onclick=alert(1)>a</b>",
    "handler without blank": "<img/src=a/onerror=alert(1)>",
    "form": "<form action=//evil.example/><input name=a><button>b</button></form>",
    "fields": "<textarea>a</textarea><select><option>b</select><input type=password>",
    "javascript": "[a](javascript:alert(1)) <a href=javascript:alert(1)>b</a>",
    "javascript in capitals": "<a href='  JaVaScRiPt:alert(1)'>a</a>",
    "javascript as entities": "<a href='&#106;avascript&#x3A;alert(1)'>a</a>",
    "javascript with breaks": "<a href='java&#10;scr&#9;ipt:alert(1)'>a</a>",
    "javascript behind a control": "<a href='&#1;javascript:alert(1)'>a</a>",
    "vbscript": "<a href=vbscript:a>a</a>",
    "data": "[a](data:text/html,<script>alert(1)</script>) ![b](data:image/svg+xml,c)",
    "file": "[a](file:///etc/passwd)",
    "half an address": "[a](https:evil.example) [b](http:/evil.example)",
    "base": "<base href=//evil.example/><link rel=stylesheet href=//evil.example/>",
    "refresh": "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    "svg": "<svg onload=alert(1)><script>alert(1)</script><a xlink:href=javascript:a>b</a></svg>",
    "svg by slash": "<p><svg/onload=alert(1)></p>",
    "math": "<math><mtext><table><mglyph><style><img src=a onerror=alert(1)></style></math>",
    "math by title": (
        "<math><mtext><table><mglyph><style><!--</style>"
        '<img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">'
    ),
    "noscript": '<noscript><p title="</noscript><img src=a onerror=alert(1)>"></noscript>',
    "template": "<template><img src=a onerror=alert(1)></template>",
    "objects": "<object data=a><embed src=b></object><applet code=c></applet>",
    "frames": "<frameset><frame src=javascript:alert(1)></frameset>",
    "frame in a frame": "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "frame with javascript": "<iframe src='javascript:alert(1)'></iframe>",
    "frame that breaks out": "<iframe src='a\" onmouseover=\"alert(1)'></iframe>",
    "frame title that breaks out": "<iframe src=a title='&lt;/a>&lt;img src=a>'></iframe>",
    "title": "<title><img src=a onerror=alert(1)></title>",
    "old raw text": "<xmp><script>alert(1)</script></xmp><plaintext><script>",
    "comment": "<!-- <script> --><!--><img src=a onerror=alert(1)>-->",
    "cdata": "<![CDATA[<script>alert(1)</script>]]>",
    "attribute from markdown": '![a"onerror="alert(1)](b"onerror="alert(1) "c\\"onerror=\\"d")',
    "address of a form": "<a ping=//evil.example/ href=a target=_top>a</a>",
}

TAGS = frozenset(
    "a abbr b bdi bdo blockquote br caption cite code col colgroup dd del details dfn div dl dt em "
    "figcaption figure h2 h3 h4 h5 h6 hr i img input ins kbd li mark ol p picture pre q rp rt "
    "ruby s samp section small source span strong sub summary sup table tbody td tfoot th thead "
    "time tr u ul var audio video track".split()
)
ATTRIBUTES = frozenset(
    "id class lang dir title href hreflang src srcset sizes alt width height loading media type "
    "controls poster kind srclang label checked disabled start reversed value colspan rowspan "
    "scope style datetime cite".split()
)


def assert_harmless(made: str) -> None:
    """Check every element, attribute and URL of `made` as a browser parses it."""
    for element in parser.fromstring(f"<div>{made}</div>").iter():
        assert element.tag in TAGS
        for name, value in element.attrib.items():
            assert name in ATTRIBUTES
            if name in {"href", "src", "poster", "cite"}:
                parts = urlsplit(value)
                assert parts.scheme.lower() in {"http", "https", "mailto", "tel"}
                assert parts.netloc or parts.scheme in {"mailto", "tel"}
            if name == "srcset":
                assert all(
                    candidate.startswith(("https://", "http://")) for candidate in value.split(", ")
                )
            if name == "style":
                assert re.fullmatch(r"text-align:\s*(left|center|right|justify|start|end);?", value)
            if (element.tag, name) == ("input", "type"):
                assert value == "checkbox"
        assert element.tag != "input" or "type" in element.attrib


@pytest.mark.parametrize("markdown", TRICKS.values(), ids=TRICKS)
def test_active_content_is_removed(markdown: str) -> None:
    """Scripts, styles, forms, frames, event handlers and dangerous URLs are removed."""
    made = page(markdown)
    assert_harmless(made)
    assert "evil.example" not in made


@pytest.mark.parametrize("tag", sorted(HIDDEN))
def test_an_unclosed_tag_hides_no_text(tag: str) -> None:
    """An unquoted tag without an end hides none of the text after it."""
    markdown = f"# Two <{tag}>\n\nOne <{tag}> three.\n\nFour <{tag} a=b>\n"
    shown = parser.fromstring(page(markdown)).text_content()
    words = f"Two <{tag}> One <{tag}> three. Four <{tag} a=b>".split()
    assert shown.split() == words
    assert [word for word in text(markdown).split() if "---" not in word] == words
    assert first_heading(markdown)[0] == f"Two <{tag}>"
    assert summary(markdown) == f"One <{tag}> three."
    assert_harmless(page(markdown))


@pytest.mark.parametrize("tag", sorted(HIDDEN))
def test_invisible_elements_are_removed_with_their_content(tag: str) -> None:
    """The code of a script is in neither the HTML nor the text."""
    markdown = (
        f"One.\n\nTwo <{tag}>hidden</{tag.upper()}>three.\n\n<{tag}>hidden</{tag}>\n\nFour.\n"
    )
    shown = parser.fromstring(page(markdown)).text_content()
    assert shown.split() == text(markdown).split() == ["One.", "Two", "three.", "Four."]
    assert inline_text(page(f"Two <{tag}>hidden</{tag}>three")) == "Two three"


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("**b** *i* ~~s~~ `c`", "<p><strong>b</strong> <em>i</em> <del>s</del> <code>c</code></p>"),
        (
            "<p id=a class=b dir=rtl lang=he title=t data-x=y role=z>p</p>",
            '<p id="a" class="b" dir="rtl" lang="he" title="t">p</p>',
        ),
        (
            "<ol start=3 reversed><li value=4>x</ol>",
            '<ol start="3" reversed=""><li value="4">x</li></ol>',
        ),
        (
            "```html\n<script>\n```",
            '<pre><code class="language-html">&lt;script&gt;\n</code></pre>',
        ),
        (
            "| l | c | r | n |\n|:--|:-:|--:|---|\n| 1 | 2 | 3 | 4 |",
            (
                '<table><thead><tr><th style="text-align:left">l</th>'
                '<th style="text-align:center">c</th><th style="text-align:right">r</th>'
                "<th>n</th></tr></thead><tbody>\n"
                '<tr><td style="text-align:left">1</td><td style="text-align:center">2</td>'
                '<td style="text-align:right">3</td><td>4</td></tr>\n</tbody></table>'
            ),
        ),
        (
            "- [x] a\n- [ ] b",
            (
                '<ul>\n<li><input disabled="" type="checkbox" checked="">\na</li>\n'
                '<li><input disabled="" type="checkbox">\nb</li>\n</ul>'
            ),
        ),
        ("Fish & chips < 5 > 4", "<p>Fish &amp; chips &lt; 5 &gt; 4</p>"),
        ("<details><summary>s</summary>b</details>", "<details><summary>s</summary>b</details>"),
    ],
    ids=["inline", "attributes", "list", "code", "table", "tasks", "signs", "details"],
)
def test_ordinary_markup_survives(markdown: str, expected: str) -> None:
    """Emphasis, lists, code, aligned tables and task lists keep their meaning."""
    assert page(markdown) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        (
            '<iframe src="https://film.example/1" title="Our film" allowfullscreen></iframe>',
            '<a href="https://film.example/1">Our film</a>',
        ),
        ("<IFRAME SRC=/film></IFRAME>", '<a href="https://news.example.com/film">/film</a>'),
        (
            "<iframe data-src=lazy src='film'>no frames</iframe>",
            f'<a href="{HERE}film">film</a>',
        ),
        ("a <iframe src=b></iframe> c", f'<p>a <a href="{HERE}b">b</a> c</p>'),
        ("<iframe></iframe>", ""),
    ],
)
def test_a_frame_becomes_a_link(markdown: str, expected: str) -> None:
    """A frame, which no feed reader shows, becomes a link."""
    assert page(markdown) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# A\n\n## B\n\n###### C", '<h2 id="a">A</h2>\n<h3 id="b">B</h3>\n<h6 id="c">C</h6>'),
        ("## B\n\n### C", '<h2 id="b">B</h2>\n<h3 id="c">C</h3>'),
        ("<H1 id=a>A</H1>\n\n## B", '<h2 id="a">A</h2>\n<h3 id="b">B</h3>'),
    ],
)
def test_headings_are_moved_below_the_title(markdown: str, expected: str) -> None:
    """A first-level heading in the text moves all headings one level down."""
    assert page(markdown) == expected


def test_headings_stop_at_the_sixth_level() -> None:
    """Headings have six levels at most."""
    assert shift_headings(Html("<h2 id='a'>A</h2><h5>B</h5>"), 2) == "<h4 id='a'>A</h4><h6>B</h6>"


def test_images_of_known_size_have_width_and_height() -> None:
    """Images get width and height, unless the author wrote a size."""
    made = Html('<img src="a?b&amp;c" alt="x"><img src="d" width="1">')
    assert add_image_sizes(made, {"a?b&c": (30, 20), "d": (3, 2)}) == (
        '<img src="a?b&amp;c" width="30" height="20" alt="x"><img src="d" width="1">'
    )


PIECES = st.sampled_from(
    [
        *"\n\n\n    *_`~#>-|[]()!<>&\"'=/:;",
        "[a](b)",
        "![a](b 'c')",
        "[a](https:b)",
        "<a href='",
        "<img src=x onerror=y ",
        "<img srcset='a 1x,b' ",
        "javascript:alert(1)",
        "java&#10;script:",
        "data:text/html,",
        "//evil.example/",
        "<script>",
        "</script>",
        "<style>",
        "<svg>",
        "<math>",
        "<iframe src=",
        "</iframe>",
        "<form>",
        "<input ",
        "<td style='color:red;text-align:left'>",
        "<table>",
        "<!--",
        "-->",
        "<![CDATA[",
        "&lt;script&gt;",
        "&#60;",
        "```\n",
        "\n- ",
        "\n1. ",
        "\n> ",
        "\n# ",
        "| a | b |\n|---|---|\n",
        "[^1]",
        "\n[^1]: ",
        "word ",
        "ünï ",
        "中文",
        "https://example.org/a ",
    ]
)
MARKDOWN = st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=80)


@settings(deadline=None, max_examples=100)
@given(MARKDOWN)
def test_any_text_becomes_harmless_html(markdown: str) -> None:
    """Any text becomes HTML of allowed elements only, and cleaning it again changes nothing."""
    made = sanitize(page(markdown), RESOLVE)
    assert_harmless(made)
    assert sanitize(made, RESOLVE) == made


# --- Text ---

GOLDEN = """\
# Ignored as it is the title?

A paragraph that is *long* enough to be **broken** at the seventy-second column, with a
[link](b) and the [same link](b), an address <https://example.org/x>, a mail <a@example.org>
and ![a picture](c.png)![](d.png).

- one
- two
  with a second line
  - deep [x](e)

    second paragraph
  - deeper

    ```
    code  in a list
    ```
- [x] done

3. three
4. four
   > quoted

> A quotation[^1]
>
> > within another

```python
def f():
    return  "kept as it is, even where the line is much too long for any reader of plain text"
```

| Name | Size |
|------|-----:|
| a    | **1** |

One\\
two<BR/>three<br>four

* * *

[^1]: A note
    of two lines.

<p>Raw <b>HTML</b><br>too.</p>
"""
GOLDEN_TEXT = """\
Ignored as it is the title?
---------------------------

A paragraph that is long enough to be broken at the seventy-second
column, with a link [1] and the same link [1], an address
https://example.org/x, a mail a@example.org and [a picture].

- one
- two with a second line
  - deep x [2]

    second paragraph
  - deeper
        code  in a list

- [x] done

3. three
4. four

   > quoted

> A quotation[^1]

> > within another

    def f():
        return  "kept as it is, even where the line is much too long for any reader of plain text"

Name | Size
a | 1

One
two
three
four

* * *

Raw HTML
too.

[^1] A note of two lines.

[1] https://news.example.com/posts/a/b
[2] https://news.example.com/posts/a/e"""


def test_a_long_text_reads_well_as_text() -> None:
    """Headings, lists, quotations, code, tables, notes and links keep their order and sense."""
    assert text(GOLDEN) == GOLDEN_TEXT


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("", ""),
        ("a\nb", "a b"),
        ("a\\\nb  \nc", "a\nb\nc"),
        ("a\tb", "a b"),
        ("a&nbsp;b &amp; c", "a\xa0b & c"),
        ("- > q", "- > q"),
        ("- a\n  > q", "- a\n\n  > q"),
        ("- a\n  # h", "- a\n  h\n  -"),
        ("- a\n  ***\n  b", "- a\n  * * *\n\n  b"),
        ("- ```\n  c\n  ```\n- d", "-     c\n\n- d"),
        ("- - a\n  - b", "- - a\n  - b"),
        ("- a\n  - b\n- c\n\nd", "- a\n  - b\n- c\n\nd"),
        ("- a\n\n- b\n\n  c\n\nd", "- a\n- b\n\n  c\n\nd"),
        ("1. a\n1. b", "1. a\n2. b"),
        ("9. a\n10. b\n    c", "9. a\n10. b c"),
        ("> # h\n> t", "> h\n> -\n\n> t"),
        ("> | a |\n> |---|\n> | b |", "> a\n> b"),
        ("    code\n      more\n\n    end", "    code\n      more\n\n    end"),
        ("x[^a]\n\n[^a]: - l\n    - m", "x[^1]\n\n[^1] - l\n    - m"),
        ("x[^b] y[^a] z[^b]\n\n[^a]: m\n\n[^b]: n", "x[^1] y[^2] z[^1]\n\n[^1] n\n\n[^2] m"),
        ("[^a]: m\n\nx[^b]\n\n[^b]: n", "x[^2]\n\n[^1] m\n\n[^2] n"),
        ("![](a.png)", ""),
        ("[![alt](a.png)](b)", f"[alt] [1]\n\n[1] {HERE}b"),
        ("[b](mailto:b)", "b"),
        ("<mailto:b@c.example> <b@c.example>", "mailto:b@c.example b@c.example"),
        ("[https://a.example/](https://a.example/)", "https://a.example/"),
        ("[x](javascript:alert(1)) [y](data:z)", "x y"),
        ("[x](//b.example)", "x [1]\n\n[1] https://b.example"),
        ('a <a href="b">link</a> on', f"a link [1] on\n\n[1] {HERE}b"),
        (
            '<a href="b">link\n\nnext</A> [c](c)',
            f"link [1]\n\nnext [1] c [2]\n\n[1] {HERE}b\n[2] {HERE}c",
        ),
        ("<A HREF=b>*link*</A> [c](b)", f"link [1] c [1]\n\n[1] {HERE}b"),
        ('[x <a href="b">y](c) z</a>', f"x [1] y [2] z\n\n[1] {HERE}c\n[2] {HERE}b"),
        ('a <a href="javascript:x()">link</a> </a> on', "a link on"),
        (
            '<p><a href="b">link</a>\nand\n<a name="c">none</a></p>',
            f"link [1] and none\n\n[1] {HERE}b",
        ),
        ('<p>mail <a href="mailto:b@c.example">b@c.example</a></p>', "mail b@c.example"),
        ('a <img src="a.png" alt="picture &gt; b"> <img src="a.png"> c', "a [picture > b] c"),
        ('<img src="a.png" alt="picture">', "[picture]"),
        ('<iframe src="b" title="A film"></iframe>', f"A film [1]\n\n[1] {HERE}b"),
        ('a <iframe src="b" title="A film"></iframe> c', f"a A film [1] c\n\n[1] {HERE}b"),
        ('<iframe src="https://b.example/"></iframe>', "https://b.example/"),
        ("<iframe></iframe>", ""),
        ("a <script>alert(1)</script> b", "a b"),
        ("a <script>alert(1)\n\nb", "a <script>alert(1)\n\nb"),
        ("On <title> and <b>more</b>.", "On <title> and more."),
        ("<select><option>a</select>b", "b"),
        ("<div>On <title> and\nmore.</div>", "On <title> and more."),
        ("<script>\nalert(1)\n</script>\n\nb", "b"),
        ("<b>bold</b><br>x", "bold\nx"),
        ("<table><tr><td>a</td><td>b &amp; c</td></tr></table>", "a | b & c"),
        ("<table><tr><th>a</th></tr>\n<tr><td>b</td></tr></table>", "a\nb"),
        ("<div><p>a</p><p>b\nc</p>\n</div>", "a\n\nb c"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("<ul>\n<li>a</li>\n<li><b>b</b></li></ul>", "- a\n- b"),
        (
            '<p><a>none</a> <a href="b">link</a> <img> &lt;a&gt;</p>',
            f"none link [1] <a>\n\n[1] {HERE}b",
        ),
    ],
)
def test_small_things_read_well_as_text(markdown: str, expected: str) -> None:
    """No word is lost, none joins another, and invisible HTML stays invisible."""
    assert text(markdown) == expected


WIDE = """\
| Town | What the office there does, and for whom | Since |
|---|---|---|
| Example Town | Sales and service for everybody who lives north of the river | 2024 |
| | [Closed](closed) on Mondays | |
"""


@pytest.mark.parametrize("margin", ["", "> ", "- "])
def test_a_wide_table_becomes_a_list_of_rows(margin: str) -> None:
    """Each cell has its own line behind the header of its column, if there is one."""
    written = margin + WIDE.replace("\n|", f"\n{'> ' if '>' in margin else ' ' * len(margin)}|")
    rest = "> " if ">" in margin else " " * len(margin)
    assert text(written).splitlines()[:6] == [
        f"{margin}- Town: Example Town",
        f"{rest}  What the office there does, and for whom: Sales and service for",
        f"{rest}  everybody who lives north of the river",
        f"{rest}  Since: 2024",
        f"{rest}- What the office there does, and for whom: Closed [1] on Mondays",
        "",
    ]


def test_a_wide_table_header_without_rows_keeps_its_words() -> None:
    """A table that is only a header too wide for a line loses no word."""
    head = " | ".join(["many words in a cell"] * 4)
    assert text(f"| {head} |\n|---|---|---|---|\n") == "\n".join(
        ["- many words in a cell"] + 3 * ["  many words in a cell"]
    )


def test_urls_are_never_broken() -> None:
    """A URL longer than a line has its own line."""
    address = f"https://example.org/{'x' * 80}?a-b=c,d"
    assert text(f"See <{address}> now, or [here]({address}).") == (
        f"See\n{address}\nnow, or here [1].\n\n[1] {address}"
    )


def test_links_are_numbered_once() -> None:
    """The same URL has the same number wherever it is linked."""
    assert text("[a](x) [b](y) **[c](x)** [d](./x)").splitlines() == [
        "a [1] b [2] c [1] d [1]",
        "",
        f"[1] {HERE}x",
        f"[2] {HERE}y",
    ]


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("", []),
        ("one two three", ["one two", "three"]),
        ("one   two", ["one two"]),
        ("unbreakable-word", ["unbreakable-word"]),
        ("a unbreakable-word b", ["a", "unbreakable-word", "b"]),
        ("no\xa0break here", ["no\xa0break", "here"]),
        ("中文新闻中文", ["中文新闻", "中文"]),
        ("中文新闻。中文", ["中文新", "闻。中文"]),
        ("中文新「闻」", ["中文新", "「闻」"]),
        ("中https://a.example。文", ["中", "https://a.example。", "文"]),
        ("한국어 소식", ["한국어", "소식"]),
    ],
)
def test_lines_break_between_words(written: str, lines: list[str]) -> None:
    """Lines break between words and between ideographs, which are two columns wide."""
    assert wrap(written, 9) == lines


def test_margins_count_as_columns() -> None:
    """The indents of the first and the other lines count as columns."""
    assert wrap("aa bb cc dd", 7, "- ", "  ") == ["- aa bb", "  cc dd"]


WORDS = st.sampled_from(
    ["a", "word", "*emphasis*", "[link](b)", "`code`", "https://example.org/" + "x" * 70, "x" * 80]
)
SENTENCES = st.lists(WORDS, min_size=1, max_size=30).map(" ".join)
BLOCKS = st.sampled_from(["", "# ", "- ", "  - ", "1. ", "> ", "> > ", "- > "])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(BLOCKS, SENTENCES), max_size=6))
def test_no_line_is_too_long(blocks: list[tuple[str, str]]) -> None:
    """No line exceeds 72 columns unless it is a single word, and no word is lost."""
    written = "\n\n".join(mark + sentence for mark, sentence in blocks)
    lines = text(written).split("\n")
    long = [re.sub(r"^([-> ]|\d+\. )+", "", line) for line in lines if len(line) > 72]
    assert [line for line in long if " " in line] == []
    wanted = sum(len(sentence.split()) for _, sentence in blocks)
    body = "\n".join(line for line in lines if line != f"[1] {HERE}b")
    assert len(re.findall(r"word|emphasis|link\b|code|x{70,}|\ba\b", body)) == wanted


@settings(deadline=None, max_examples=100)
@given(MARKDOWN)
def test_any_text_becomes_plain_text(markdown: str) -> None:
    """Any text has a plain text, a line and a heading."""
    assert isinstance(text(markdown), str)
    assert "\n" not in inline_text(page(markdown))
    assert "\n" not in summary(markdown)
    assert len(summary(markdown)) <= 200
    title, rest = first_heading(markdown)
    assert "\n" not in title
    assert rest.count("\n") == markdown.count("\n")
    assert title or rest == markdown


# --- Title and summary ---


@pytest.mark.parametrize(
    ("markdown", "title", "rest"),
    [
        ("# We moved\n\nHello.", "We moved", "\n\nHello."),
        ("# We moved", "We moved", ""),
        ("\n \n   # We *moved* `now` ##\nHello.", "We moved now", "\n \n   \nHello."),
        ("We moved\n===\nHello.", "We moved", "\n\nHello."),
        ("We\nmoved\n=\n", "We moved", "\n\n\n"),
        ("# 1. One", "1. One", ""),
        ("[a]: /b\n# [a] too\n\n[a]", "a too", "[a]: /b\n\n\n[a]"),
        ("#No blank", "", "#No blank"),
        ("## Second level", "", "## Second level"),
        ("#\n\nHello.", "", "#\n\nHello."),
        ("    # Code", "", "    # Code"),
        ("Hello.\n\n# Later", "", "Hello.\n\n# Later"),
        ("- item\n===", "", "- item\n==="),
        ("", "", ""),
    ],
)
def test_a_heading_at_the_top_is_the_title(markdown: str, title: str, rest: str) -> None:
    """The title is taken out of the text, which keeps its number of lines."""
    assert first_heading(markdown) == (title, rest)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("Hello *you*,\nhow are you?\n\nMore.", "Hello you, how are you?"),
        ("## Heading\n\nHello.", "Hello."),
        ("## Heading\nHello.", "Hello."),
        ("![Door](a.png)\n\nHello.", "Hello."),
        ("![Door](a.png) Hello.", "Hello."),
        ("- item\n\n  of a list\n\nHello.", "Hello."),
        ("> Quoted.\n\nHello.", "Hello."),
        ("```\ncode\n\nmore code\n```\n\nHello.", "Hello."),
        ("~~~\ncode\n~~~\n\nHello.", "Hello."),
        ("| a |\n|---|\n| b |\n\nHello.", "Hello."),
        ("[^1]: Note.\n\nHello[^1].", "Hello."),
        ("<div>\n\nHello.\n\n</div>", "Hello."),
        ("Hello <script>alert(1)</script>you.", "Hello you."),
        ("***\n\n[a]: /b\n\nHello [a].", "Hello a."),
        ("- only\n- a list", "only a list"),
        ("1. a\n2. b", "a b"),
        ("![Only a picture](a.png)", "Only a picture"),
        ("", ""),
    ],
)
def test_the_first_paragraph_is_the_summary(markdown: str, expected: str) -> None:
    """The summary skips headings, images, lists, quotations, notes and code."""
    assert summary(markdown) == expected


@pytest.mark.parametrize(
    ("written", "short"),
    [
        ("Hello you", "Hello you"),
        ("Hello  you all", "Hello…"),
        ("Hello-you-all", "Hello-yo…"),
        ("公司新闻公司新闻公司新闻", "公司新闻公司新闻…"),
        ("A 公司新闻公司新闻", "A 公司新闻公司…"),
    ],
)
def test_a_long_line_is_cut_at_a_word(written: str, short: str) -> None:
    """A long line is cut at a near space, or else anywhere, and ends with an ellipsis."""
    assert shorten(written, 9) == short


COUPLE = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}"
THUMB = "\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-3}"


@pytest.mark.parametrize(
    ("written", "length", "short"),
    [
        (COUPLE * 5, 8, COUPLE * 2),
        ("e\N{COMBINING ACUTE ACCENT}" * 9, 10, "e\N{COMBINING ACUTE ACCENT}" * 4),
        ("\U0001f1e9\U0001f1ea" * 9, 6, "\U0001f1e9\U0001f1ea" * 2),
        (THUMB * 9, 4, THUMB),
    ],
)  # fmt: skip
def test_no_character_is_cut(written: str, length: int, short: str) -> None:
    """UAX 29: a cut never leaves a part of what people see as one character."""
    assert shorten(written, length) == f"{short}…"


@given(
    st.text(
        alphabet="a é新\u0301\u200d\ufe0f\U0001f468\U0001f3fd\U0001f1e9\u0928\u093f", max_size=60
    )
)
def test_a_short_text_is_not_longer_than_asked(written: str) -> None:
    """A text is cut to the length, and is the beginning of the whole one."""
    short = shorten(written, 12)
    assert len(short) <= 12
    assert " ".join(written.split()).startswith(short.removesuffix("…"))


MONSTERS = {
    "blanks in a heading": "# a" + " " * 200_000 + "x",
    "hashes": "# " + "#" * 200_000 + "x",
    "frames": "<iframe " * 30_000,
    "open frames": "<iframe src=x>" * 20_000,
    "brackets": "[" * 100_000,
    "links": "[a](b) " * 10_000,
    "stars": "*a " * 50_000,
    "comments": "<!--" * 50_000,
    "commas": '<img srcset="' + "," * 100_000 + 'a">',
    "blank commas": '<img srcset="a' + " ," * 50_000 + '">',
    "deep list": "\n".join("  " * n + "- x" for n in range(300)),
    "blank lines": "\n" * 500_000,
    "ideographs": "中" * 100_000,
    "opening marks": "「" * 100_000,
}


@pytest.mark.parametrize("work", [page, text, summary, first_heading])
@pytest.mark.parametrize("markdown", MONSTERS.values(), ids=MONSTERS)
def test_no_text_takes_quadratic_time(markdown: str, work: Callable[[str], object]) -> None:
    """Texts made to be slow are converted in moments."""
    started = time.process_time()
    with suppress(DepthError):
        work(markdown)
    assert time.process_time() - started < 3


def test_an_invalid_url_becomes_the_base_url() -> None:
    """A URL that cannot be joined becomes the base URL."""
    assert resolve_urls(HERE)("http://[") == HERE


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://bücher.example/größe", "https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe"),
        ("https://a.example/a[1]", "https://a.example/a%5B1%5D"),
        ("https://a.example/100%", "https://a.example/100%25"),
        ("https://a.example/#a#b", "https://a.example/#a%23b"),
        ("mailto:news@bücher.example", "mailto:news@xn--bcher-kva.example"),
        ("größe.pdf", f"{HERE}gr%C3%B6%C3%9Fe.pdf"),
        ("https://a.example/?a=1&b=2", "https://a.example/?a=1&amp;b=2"),
    ],
)
def test_a_url_has_one_form_however_it_is_written(written: str, url: str) -> None:
    """Markdown links, raw HTML links and images have the same URL."""
    assert f'href="{url}"' in page(f"[x](<{written}>)")
    assert f'href="{url}"' in page(f'<a href="{written}">x</a>')
    if not written.startswith("mailto:"):
        assert f'src="{url}"' in page(f"![x](<{written}>)")
        assert f'src="{url}"' in page(f'<img src="{written}" alt="x">')
        assert f'poster="{url}"' in page(f'<video poster="{written}"></video>')


@pytest.mark.parametrize(
    ("written", "html", "plain"),
    [
        ("我们的新厂在今天\n开工。", "<p>我们的新厂在今天开工。</p>", "我们的新厂在今天开工。"),
        ("新しい\nテスト", "<p>新しいテスト</p>", "新しいテスト"),
        ("**今天**\n开*业*\n[了](/a)", None, "今天开业了"),
        ("今天\nnews\n开", "<p>今天\nnews\n开</p>", "今天 news 开"),
        ("새 공장이\n오늘", "<p>새 공장이\n오늘</p>", "새 공장이 오늘"),
        ("今天\\\n开", "<p>今天<br>\n开</p>", "今天\n开"),
    ],
)
def test_a_line_break_in_chinese_and_japanese_is_no_space(
    written: str, html: str | None, plain: str
) -> None:
    """These scripts have no spaces between words; Korean and Latin words have."""
    assert html in {None, page(written)}
    assert inline_text(Html(page(written))) in {plain, plain.replace("\n", " ")}


def test_line_breaks_of_code_and_blocks_stay() -> None:
    """A line break in code is meant, and one between blocks is not shown."""
    assert page("```\n今天\n开工\n```") == "<pre><code>今天\n开工\n</code></pre>"
    assert page("- 今天\n- 开工") == "<ul>\n<li>今天</li>\n<li>开工</li>\n</ul>"
