"""The rules of a good letter: what breaks each is found, and a whole letter has no fault."""

from __future__ import annotations

import re
from pathlib import Path
from time import process_time
from typing import get_args

import pytest
from attrs import evolve, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.lint.email import lint_email, lint_rendered_email
from postroom.mail.unsubscribe import preferences_url, unsubscribe_url
from postroom.markdown.html import resolve_urls, to_html
from postroom.markdown.plaintext import to_text
from postroom.models import DigestFrequency, Frequency, MailSettings, Site
from postroom.newsletter.personalize import prepare_issue
from postroom.newsletter.render import MAX_HTML_BYTES, RenderedEmail, render_email
from postroom.posts import loader
from postroom.rules import KINDS, Rule
from postroom.scheduling.periods import group_by_period
from postroom.settings.site import load_settings
from postroom.theme.environment import Theme
from tests.support import generated_sites, sites
from tests.support.site import AT, ROOT
from tests.support.site import SETTINGS as NEWSROOM

MAIL = MailSettings(
    sender="Example Magnets News <news@example.com>",
    reply_to="press@example.com",
    bounces="bounces@example.com",
    unsubscribe="https://news.example.com",
)
TOKEN = "t" * 22
RULES = {rule.name.removeprefix("email-"): rule for rule in KINDS["Emails"]}
SIGNATURE = (
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=mail;\r\n"
    b" h=From:To:Subject:Date:Message-ID:MIME-Version:Content-Type:List-Id:\r\n"
    b" List-Unsubscribe:List-Unsubscribe-Post; bh=abc=; b=abc=\r\n"
)


@frozen
class Case:
    """A letter of a subscriber, before it is a message, and its settings."""

    letter: RenderedEmail = field(repr=False)
    site: Site = field(repr=False)

    def message(self) -> bytes:
        """Return the subscriber's message."""
        prepared = prepare_issue(self.letter, self.site, AT)
        return prepared.message("reader@example.org", TOKEN, prepared.message_id("0" * 64))


def cases(folder: Path, frequency: Frequency = "month") -> list[Case]:
    """Return the letters of the newsroom in `folder` to those who chose a frequency."""
    every: DigestFrequency = "day" if frequency == "post" else frequency
    settings = load_settings(folder)
    site = evolve(settings, mail=MAIL, digest=evolve(settings.digest, every=every))
    theme, leave, prefer = (
        Theme(folder, site.language),
        unsubscribe_url(site),
        preferences_url(site),
    )
    made = group_by_period(loader.load_posts(folder, site, AT).posts, site)
    if frequency == "post":
        made = tuple(evolve(one, posts=(post,), url=post.url) for one in made for post in one.posts)
    return [
        Case(render_email(digest, site, theme, unsubscribe=leave, preferences=prefer), site)
        for digest in made
    ]


@pytest.fixture(scope="module")
def whole() -> Case:
    """Return a letter of the demonstration."""
    return cases(ROOT)[0]


def found(data: bytes, site: Site) -> list[str]:
    """Return what is wrong with a message, as `rule: what`."""
    return [f"{problem.key}: {problem.message}" for problem in lint_email(data, site)]


# Letters without fault.


ADDRESS = "contact: {name: Example, address: 1 Example Street}\n"
PICTURED: sites.Files = {
    "postroom.yaml": NEWSROOM + "theme: {logo: posts/logo.png}\n" + ADDRESS,
    "posts/2026-11-20-pictures.md": """\
---
title: Pictures of the new office
id: tag:news.example.com,2026:pictures
image: {src: logo.png, alt: The new office from the street}
---
![Its door](logo.png) and [![Its garden](logo.png)](https://garden.example/), in the morning light.
""",
    "posts/logo.png": sites.IMAGE,
}
MANY: sites.Files = {"postroom.yaml": NEWSROOM + ADDRESS} | {
    f"posts/2026-11-{1 + number % 20:02}-{number}.md": f"""\
---
title: News number {number} of a month in which much happened
id: tag:news.example.com,2026:{number}
---
{f"What happened under number {number} takes some words to say. " * 5}
"""
    for number in range(150)
}


@pytest.mark.parametrize("name", ["demo", "german", "arabic", "chinese", "stress", "bare"])
def test_the_letters_of_the_theme_have_no_fault(name: str, tmp_path: Path) -> None:
    """Letters of every frequency keep every rule, with a subscriber's links and without."""
    assert faults(sites.write_all(tmp_path)[name]) == []


def test_letters_of_posts_with_pictures_have_no_fault(tmp_path: Path) -> None:
    """Pictures at the top of a post, in it and round a link are links in its letter."""
    assert faults(sites.write(tmp_path, PICTURED)) == []


def test_a_letter_cut_to_its_size_has_no_fault(tmp_path: Path) -> None:
    """A letter of more posts than it can hold leads to the rest, in both parts."""
    (case, *_) = cases(sites.write(tmp_path, MANY))
    assert len(re.findall("<h2", case.letter.html)) < len(MANY) - 1
    assert faults(tmp_path) == []


def faults(folder: Path) -> list[str]:
    """Return what is wrong with letters of a newsroom, which sends none without an address."""
    made = [case for frequency in get_args(Frequency) for case in cases(folder, frequency)]
    assert made
    shown = [str(one) for case in made for one in lint_rendered_email(case.letter, case.site)]
    sent = [case for case in made if case.site.contact.address]
    return shown + [line for case in sent for line in found(case.message(), case.site)]


PIECES = [
    "Words with *emphasis*, `code`, [a link](https://a.example/b?c=d&e=f#g) and <https://a.example/>.",
    "Write to <press@example.com>, <mailto:news@example.com> or [call](tel:+442079460000).",
    "[a link](b)中文新闻、见[这里的页面](c)。\n中文  \n新闻",
    "هاتف ‎+44 20 7946 0000 في [المدينة](d).",
    "# One\n\n## Two with [a link](e)\n\n### Three ![and a picture](f.png)",
    "###### Six\n\nSeven\n---",
    "- one\n  1. two\n     > three\n- [x] four\n- [ ] five\n\n7. seven\n8. eight",
    "> A quotation.\n>\n> > Another [in it](g).",
    "A note[^n], another[^m], the first[^n].\n\n[^m]: Of *two* words.\n\n[^n]: See [a source](h).",
    "| A | B |\n|:-:|--:|\n| 1 | [in a cell](i) |\n| | 3 |",
    "| A long head of a column | Another | And a third |\n|-|-|-|\n| " + "word " * 30 + "| a | b |",
    "```python\nprint('https://a.example/code')  # " + "long " * 30 + "\n```",
    "![A picture](j.png) ![](k.png) ![Without an ending](l) [![Linked](m.png)](n)",
    "[![](o.png)](p) [![](q.png)](https://a.example/q)",
    '<p>HTML with <a href="r">a link</a>,<br>a <b>break</b> and <img src="s.png" alt="one"></p>',
    'In a line <a href="t">a link</a>, <img src="u.png" alt="a picture"> and <sup>2</sup>.',
    '<iframe src="https://film.example/1" title="A film"></iframe>',
    '<figure><img src="v.png" alt="Seen"><figcaption>Said</figcaption></figure>',
    "<details><summary>More</summary>\n\nHidden words.\n\n</details>",
    '<video src="w.mp4" controls></video> <audio src="x.mp3"></audio>',
    '<form action="y"><input name="a"><button>Send</button></form> <script>z()</script> after',
    "<table><tr><td>a</td><td>b</td></tr></table>",
    '<p style="color:#fff;font-size:1px;position:fixed" onclick="x()" id="a">Styled</p>',
    "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz &amp; <b>&lt;b&gt;</b>\n\n***",
]


@settings(deadline=None, max_examples=40)
@given(chosen=st.lists(st.sampled_from(PIECES), max_size=8))
def test_whatever_a_post_holds_its_letter_has_no_fault(chosen: list[str]) -> None:
    """All that can stand in a post stands in both parts, and keeps the rules of letters."""
    site = generated_sites.site_with()
    (post,) = generated_sites.read(generated_sites.short_posts([1]), site)
    written, resolve = "\n\n".join(chosen), resolve_urls(post.url)
    post = evolve(post, html=to_html(written, resolve), text=to_text(written, resolve))
    (digest,) = group_by_period([post], site)
    letter = render_email(digest, site, Theme(ROOT, site.language))
    wrong = [
        problem for problem in lint_rendered_email(letter, site) if problem.key != "heading-order"
    ]
    assert list(map(str, wrong)) == []


def test_a_letter_for_everyone_need_not_say_how_to_leave(whole: Case) -> None:
    """The letter as everyone sees it has no subscriber who could leave, and is well."""
    (digest, *_) = group_by_period(loader.load_posts(ROOT, whole.site, AT).posts, whole.site)
    letter = render_email(digest, whole.site, Theme(ROOT, whole.site.language))
    assert lint_rendered_email(letter, whole.site) == []
    assert found(evolve(whole, letter=letter).message(), whole.site) == [
        "unsubscribe: the HTML part has no link to the unsubscribe page",
        "unsubscribe: the text part has no link to the unsubscribe page",
    ]


def test_a_problem_says_where_and_how(whole: Case) -> None:
    """A fault is one line with the place, the rule's name, what is wrong and the repair."""
    letter = evolve(
        whole.letter, html=whole.letter.html.replace("<h1", "<h2").replace("h1>", "h2>")
    )
    (problem,) = lint_rendered_email(letter, whole.site, "public/digest/2024-02/email.html")
    assert str(problem) == (
        "public/digest/2024-02/email.html: first-heading: has no first-level heading; "
        "write one, for the title"
    )


# Messages with a fault each.

NESTED = [
    b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(999)
]
TRACKED = b'<a href=3D"https://a.example/a?b=3D%s">A page</a><h1'

MESSAGES = [
    ("fields", "X-Mailer is not a field", rb"\ATo", b"X-Mailer: Example\r\nTo"),
    (
        "control-characters",
        "Subject contains an encoded",
        rb"Subject: ",
        b"Subject: =?utf-8?q?=0A?= ",
    ),
    (
        "control-characters",
        "From contains an encoded",
        rb"From: Example",
        b"From: =?utf-8?q?=0D?= Example",
    ),
    (
        "encoded-fields",
        "List-Unsubscribe is encoded",
        rb"ubscribe:\s+<",
        b"ubscribe: =?utf-8?q?=3C?= <",
    ),
    (
        "encoded-fields",
        "Message-ID is encoded",
        rb"Message-ID: <",
        b"Message-ID: =?utf-8?q?=3C?= <",
    ),
    ("sender", "From is 'Magnets <news@", rb"From: Example Magnets News", b"From: Magnets"),
    ("parts", "found multipart/mixed, text/", rb"multipart/alternative", b"multipart/mixed"),
    (
        "parts",
        "alternative, text/html, text/plain",
        rb"(?s)text/plain(.*)text/html",
        rb"text/html\1text/plain",
    ),
    ("parts", "the text/plain part is not UTF-8", rb'text/plain; charset="utf-8"', b"text/plain"),
    ("body-lines", "a line of the body is longer", rb"<h1", b" " * 80 + b"<h1"),
    ("one-recipient", "Bcc sends somebody a copy", rb"\ATo", b"Bcc: other@example.com\r\nTo"),
    ("one-recipient", "Cc sends somebody a copy", rb"\ATo", b"Cc: other@example.com\r\nTo"),
    ("identity", "To occurs 2 times", rb"\ATo", b"To: other@example.com\r\nTo"),
    ("identity", "To occurs 0 times", rb"\ATo: .*\r\n", b""),
    ("one-recipient", "To does not have exactly one", rb"\ATo: ", b"To: other@example.com, "),
    ("identity", "Date occurs 0 times", rb"Date: .*\r\n", b""),
    ("identity", "MIME-Version occurs 0 times", rb"MIME-Version: .*\r\n", b""),
    (
        "message-id",
        "Message-ID is not <…@example.com>",
        rb"@example.com>\r\nFrom",
        b"@host.local>\r\nFrom",
    ),
    ("date", "Date cannot be parsed", rb"Date: ", b"Date: yesterday, "),
    ("list-fields", "List-Id occurs 0 times", rb"List-Id: .*\r\n", b""),
    (
        "list-fields",
        "List-Unsubscribe-Post occurs 2",
        rb"(List-Unsubscribe-Post: .*\r\n)",
        rb"\1\1",
    ),
    (
        "signature",
        "the DKIM signature does not cover list-unsubscribe-post",
        rb"\A",
        SIGNATURE.replace(b"-Post", b""),
    ),
    ("one-click", "List-Unsubscribe has 0 https", rb"<https://", b"<http://"),
    ("one-click", "List-Unsubscribe has 2 https", rb"<mailto:", b"<https://example.com/"),
    ("opaque-token", "does not end with an opaque token", rb"tttt>,", b"?id=7>,"),
    ("opaque-token", "contains the email address", rb"<mailto:", b"<mailto:reader%40example.org"),
    ("one-click", "is not List-Unsubscribe=One-Click", rb"=One-Click", b"=One-click"),
    ("own-page", "not that of List-Unsubscribe", rb"(unsubscribe/)t(.*>,)", rb"\1s\2"),
    ("head-lines", "a line of the header is longer", rb"Subject: ", b"Subject: " + b"x" * 999),
    ("one-sender", "From has several addresses", rb"From: ", b"From: other@example.com, "),
    (
        "list-id",
        "List-Id is '<old.example.com>', not <news.news.",
        rb"(List-Id: )<.*>",
        rb"\1<old.example.com>",
    ),
    ("reply-address", "replies reach nobody", rb"Reply-To: press", b"Reply-To: no-reply"),
    ("line-breaks", "there is a bare CR or LF", rb"\r\nSubject", b"\nSubject"),
    ("line-breaks", "there is a bare CR or LF", rb"<h1", b"\0<h1"),
    ("subject", "Subject is empty", rb"Subject: .*\r\n", b"Subject: \r\n"),
    ("tracking", "/a?b=tttttttttttttttttttttt identifies", rb"<h1", TRACKED % (b"t" * 22)),
    (
        "tracking",
        "/a?b=reader%40example.org identifies",
        rb"<h1",
        TRACKED % b"reader%40example.org",
    ),
    ("readable", "cannot be parsed", rb"(?s).+", b"".join(NESTED)),
]


def short(value: object) -> str:
    """Return a name for a case."""
    return str(value)[:30]


@pytest.mark.parametrize(("rule", "said", "pattern", "put"), MESSAGES, ids=short)
def test_a_broken_message_is_found(
    whole: Case, rule: str, said: str, pattern: bytes, put: bytes
) -> None:
    """What breaks a rule of messages is found under the rule's name."""
    broken, count = re.subn(pattern, put, whole.message(), count=1)
    assert count == 1
    assert of(rule, said, found(broken, whole.site))


# Parts with a fault each: in the HTML, or in the text.


def picture(source: str = "https://news.example.com/a.png", more: str = "") -> str:
    """Return a picture at the end of the title, whole unless told otherwise."""
    return f'<img src="{source}" alt="A" width="9" height="9" {more}></h1>'


def link(address: str, words: str = "A page") -> str:
    """Return a link at the end of the title."""
    return f'</h1><p><a href="{address}">{words}</a></p>'


HTML = [
    ("size", "bytes, and Gmail cuts it", "</h1>", "x" * 90_000 + "</h1>"),
    ("remote-load", "<img> loads from a.example", "</h1>", picture("https://a.example/a.png")),
    ("remote-load", "<img srcset> loads", "</h1>", picture("", 'srcset="a.png 2x"')),
    ("image-alt", "a.png has no alt", "</h1>", picture().replace('alt="A"', "")),
    ("image-size", "has no width and height", "</h1>", picture().replace('width="9"', "")),
    ("image-size", "has no width and height", "</h1>", picture().replace('"9"', '"100%"')),
    ("image-address", "has no https URL", "</h1>", picture("http://news.example.com/a.png")),
    ("image-address", "'data:image/png;base64,' has", "</h1>", picture("data:image/png;base64,")),
    ("image-address", "'a.png' has no https", "</h1>", picture("a.png")),
    ("pixel", "is too small to see", "</h1>", picture().replace('"9"', '"1"')),
    ("pixel", "is hidden", "</h1>", picture(more='style="display: none"')),
    (
        "background-image",
        "<td background> loads",
        "<td",
        '<td background="https://a.example/a.png"',
    ),
    ("remote-load", "with url(", "</h1>", '<p style="list-style:url(//a.example)">x</p></h1>'),
    (
        "background-image",
        "'background:url(//a.example)'",
        "</h1>",
        '<p style="background:url(//a.example)">x</p></h1>',
    ),
    (
        "remote-load",
        "loads a resource with @import",
        "</head>",
        "<style>@import 'a.css';</style></head>",
    ),
    ("same-words", "the text part lacks 'Another'", "</h1>", "</h1><h2>Another</h2>"),
    ("first-heading", "has no first-level heading", "h1", "h2"),
    ("first-heading", "has 2 first-level headings", "</h1>", "</h1><h1>x</h1>"),
    ("heading-order", "<h4> follows <h2>", "<h2", "<h2>x</h2><h4>x</h4><h2"),
    ("language", "<html> has no lang", '<html lang="en"', "<html"),
    ("direction", "<html> has no dir", '<html lang="en" dir="ltr"', '<html lang="en"'),
    ("wrapper", "role=article has no dir", ' dir="ltr" role="article"', ' role="article"'),
    ("wrapper", "there is no role=article", 'role="article"', ""),
    ("title", "there is no title", "<title>.*</title>", ""),
    ("layout-table", "a table without header", 'role="presentation"', ""),
    ("first-heading", "<h2> stands before the title", "<h1", "<h2>x</h2><h1"),
    (
        "style-syntax",
        "a style attribute cannot be parsed",
        "</h1>",
        '</h1><b class="paper" style="color;">x</b>',
    ),
    ("contrast", "'x' is #999999 on #ffffff in light", "</h1>", '<b style="color:#999">x</b></h1>'),
    (
        "contrast",
        "'x' is #111111 on #14171a in dark mode",
        "</h1>",
        '<b style="color: #111111">x</b></h1>',
    ),
    (
        "contrast",
        "'x' is #ffffff on #fafafa",
        "</h1>",
        '<b style="color:white;background:#fafafa">x</b></h1>',
    ),
    ("font-size", "a text has the size 12px", "</h1>", '<b style="font-size:12px">x</b></h1>'),
    (
        "font-size",
        "a text has the size 0",
        "</h1>",
        '<b style="font-size: 0 !important">x</b></h1>',
    ),
    ("font-size", "a text has the size 0.8em", "</h1>", '<b style="font-size:0.8em">x</b></h1>'),
    (
        "font-size",
        "a text has the size 11px",
        "</h1>",
        '<b style="font:bold 11px/1 Arial">x</b></h1>',
    ),
    (
        "font-size",
        "a text has the size 9px",
        r"<!--\[if mso\]>",
        '<!--[if mso]><p style="font-size:9px"></p>',
    ),
    ("script", "remove <script>", "</h1>", "</h1><script>x()</script>"),
    ("dropped-element", "remove <form>", "</h1>", "</h1><form></form>"),
    (
        "dropped-element",
        "remove <link>",
        "</head>",
        '<link rel="stylesheet" href="a.css"></head>',
    ),
    ("script", "<p onclick> contains a script", "</h1>", '</h1><p onclick="x()">x</p>'),
    ("flex-or-grid", "remove 'display:flex'", "</h1>", '<b style="display:flex">x</b></h1>'),
    (
        "flex-or-grid",
        "remove 'display: inline-grid'",
        "</h1>",
        '<b style="display: inline-grid">x</b></h1>',
    ),
    ("position", "remove 'position:fixed'", "</h1>", '<b style="position:fixed">x</b></h1>'),
    (
        "background-image",
        "'background-image:none'",
        "</h1>",
        '<b style="background-image:none">x</b></h1>',
    ),
    ("duplicate-id", "id='a' occurs 2 times", "</h1>", '<b id="a">x</b><b id="a">x</b></h1>'),
    ("bad-href", "'', which is not an absolute URL", "</h1>", link("")),
    ("bad-href", "'/a/', which is not an absolute URL", "</h1>", link("/a/")),
    ("bad-href", "'//a.example', which is not an", "</h1>", link("//a.example")),
    ("bad-href", "which is not an id in this email", "</h1>", link("#a")),
    ("bad-href", "which has a scheme that", "</h1>", link("javascript:alert(1)")),
    ("bad-href", "'https://', which is not a valid URL", "</h1>", link("https://")),
    ("bad-href", "which is not a valid URL", "</h1>", link("https://a b.example/")),
    ("bad-href", "which is not a valid URL", "</h1>", link("https://a.example:x/")),
    ("bad-href", "which is not a valid URL", "</h1>", link("https://a.example/%zz")),
    ("bad-href", "'mailto:', which", "</h1>", link("mailto:")),
    ("bad-href", "'mailto:news', which has no email address", "</h1>", link("mailto:news")),
    ("bad-href", "'tel:example', which is not a phone number", "</h1>", link("tel:example")),
    (
        "contrast",
        "computed from 'hsl(0,0%,0%)' in light mode",
        "</h1>",
        '<b style="color:hsl(0,0%,0%)">x</b></h1>',
    ),
    (
        "contrast",
        "'x' is #808080 on #ffffff",
        "</h1>",
        '<b style="color:rgb(128, 128, 128)">x</b></h1>',
    ),
    (
        "contrast",
        "'x' is #0000ee on #000080",
        "</h1>",
        '<p style="background:navy"><a href="https://a.example">x</a></p></h1>',
    ),
    ("contrast", "'x' is #999999", "</h1>", '<b style="color:#999"><!-- y -->x</b></h1>'),
    ("contrast", "computed from 'var(--a)'", "</h1>", '<p style="background:var(--a)">x</p></h1>'),
    ("preheader", "there is no preheader", "<body[^>]*>", "<body><!-- a -->Hello"),
    ("font-size", "<font size> is not", "</h1>", '<font size="1">x</font></h1>'),
    ("layout-table", "table for Outlook", '(if mso.><table) role="presentation"', r"\1"),
    (
        "same-words",
        "the text part lacks 'A new paragraph",
        "</h1>",
        "</h1><p>A new paragraph stands here.</p>",
    ),
    ("preferences", "the HTML part has no link to the pref", "/list/preferences/[a-z-]*", "/"),
    ("link-words", "says 'Hier'", "</h1>", link("https://news.example.com/", "Hier")),
    (
        "link-words",
        "says 'click here'",
        "</h1>",
        '<a href="https://news.example.com/">click here</a></h1>',
    ),
    (
        "link-words",
        "says 'Read more …'",
        "</h1>",
        '<a href="https://news.example.com/">Read more …</a></h1>',
    ),
    ("empty-link", "has no text", "</h1>", '<a href="https://news.example.com/"></a></h1>'),
    ("conditional-comments", "an [if has no [endif]", r"<!\[endif\]-->", "-->"),
    (
        "conditional-comments",
        "a <td> for Outlook is not closed",
        r"</td></tr></table><!\[endif",
        "</tr></table><![endif",
    ),
    ("dark-mode", "no rules for dark mode", "prefers-color-scheme: dark", "min-width: 1px"),
    ("dark-mode", "no rules for Outlook's dark mode", r"\[data-ogsc\]", ".none"),
    ("dark-mode", "no meta element color-scheme", '<meta name="color-scheme"', '<meta name="x"'),
    ("preheader", "there is no preheader", '<body class="paper"[^>]*>', "<body>Hello"),
    ("preheader", "there is no preheader", "(?s)<body.*</body>", "<body></body>"),
    ("preheader", "lacks display:none", "display: none", "display: block"),
    ("preheader-length", "the preheader is 1", "(mso-hide: all[^>]*>)[^<]*", r"\1x"),
    ("data-direction", "'+86-18072358327' has no dir=ltr", '(href="tel:[^"]*") dir="ltr"', r"\1"),
    ("data-direction", "China' has no dir=ltr", '<span dir="ltr"[^>]*>(?=YIWU)', "<span>"),
    ("data-direction", "'Daniel Wong' has no dir", '<span dir="auto"[^>]*>(?=Daniel)', "<span>"),
    ("contact", "the HTML part lacks contact.name", "Daniel Wong", "Somebody"),
    ("contact", "not link contact.phone as tel:+8618072358327", r'href="tel:[^"]*"', 'href="#a"'),
    (
        "contact",
        "the HTML part lacks contact.message",
        r"mailto:news@example\.com\?",
        "mailto:a@b.c?",
    ),
    ("unsubscribe", "the HTML part has no link to the unsub", "/list/unsubscribe/[a-z-]*", "/"),
    ("postal-address", "the HTML part lacks 'YIWU County", "YIWU County", "County"),
    (
        "same-links",
        "lacks the link https://a.example",
        "</h1>",
        '<a href="https://a.example">x</a></h1>',
    ),
]
TEXT = [
    ("same-words", "the text part lacks 'Contact'", "Contact", "Imprint"),
    ("preheader", "begins with the preheader", r"\A", "{preheader}\n"),
    ("contact", "the text part lacks contact.organization", "Example Magnets", "Our"),
    ("contact", "the text part lacks contact.phone", r"\+86-18072358327", "+86-1"),
    ("contact", "the text part lacks contact.email", "news@example.com", "news@example.org"),
    ("unsubscribe", "the text part has no link to the unsub", "/list/unsubscribe/[a-z-]*", "/"),
    ("postal-address", "the text part lacks 'YIWU County", "Province", "Land"),
    ("same-links", "the text part lacks the link https://news.", "/digest/", "/letters/"),
    (
        "same-links",
        "the HTML part lacks the link https://a.example/b",
        r"\Z",
        "https://a.example/b.\n",
    ),
]
TEXT += [
    ("text-part", "is empty", "(?s).+", " "),
    ("preferences", "the text part has no link to the pref", "/list/preferences/[a-z-]*", "/"),
]
SETTINGS = [
    ("postal-address", "the settings have no postal address", {"address": ""}),
    ("signed", "the settings name no organization or person", {"organization": "", "name": ""}),
]


def with_part(case: Case, part: str, pattern: str, put: str) -> Case:
    """Return the letter with every match of a pattern in one of its parts replaced."""
    hidden = re.findall("mso-hide: all[^>]*>([^<]*)", case.letter.html)[0]
    before = str(getattr(case.letter, part))
    after, count = re.subn(pattern, put.replace("{preheader}", hidden), before)
    assert count
    return evolve(case, letter=evolve(case.letter, **{part: after}))


def of(rule: str, said: str, lines: list[str]) -> list[str]:
    """Return the lines of a rule that hold some words."""
    return [line for line in lines if line.startswith(f"{rule}: ") and said in line]


@pytest.mark.parametrize(("rule", "said", "pattern", "put"), HTML, ids=short)
def test_broken_html_is_found(whole: Case, rule: str, said: str, pattern: str, put: str) -> None:
    """What breaks a rule of HTML, or of both parts, is found under the rule's name."""
    case = with_part(whole, "html", pattern, put)
    assert of(rule, said, found(case.message(), case.site))


@pytest.mark.parametrize(("rule", "said", "pattern", "put"), TEXT, ids=short)
def test_a_broken_text_is_found(whole: Case, rule: str, said: str, pattern: str, put: str) -> None:
    """What the text says otherwise than the HTML is found under the rule's name."""
    case = with_part(whole, "text", pattern, put)
    assert of(rule, said, found(case.message(), case.site))


@pytest.mark.parametrize(("rule", "said", "contact"), SETTINGS, ids=short)
def test_broken_settings_are_found(
    whole: Case, rule: str, said: str, contact: dict[str, str]
) -> None:
    """A letter of nobody, or from nowhere, is found under the rule's name."""
    site = evolve(whole.site, contact=evolve(whole.site.contact, **contact))
    assert found(whole.message(), site) == [f"{rule}: {said}"]
    assert lint_rendered_email(whole.letter, site) == []


def test_every_rule_has_a_broken_letter() -> None:
    """No rule is without a letter that breaks it, and nothing is found under another name."""
    tried = {row[0] for rows in (MESSAGES, HTML, TEXT, SETTINGS) for row in rows}
    assert tried == set(RULES)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_says_why(rule: Rule) -> None:
    """A rule is on unless the settings say otherwise, has a sentence for a reason, and a source."""
    assert rule.severity in {"warning", "error"}
    assert re.fullmatch(r"[A-Z].+\.", rule.reason)
    assert rule.source


def test_rules_have_stable_names() -> None:
    """Settings name rules, so names are words with hyphens between them."""
    assert [name for name in RULES if not re.fullmatch("[a-z]+(-[a-z]+)*", name)] == []


# Sixteen faults that are easily made; the sixteenth, what runs sideways, a browser finds.

PLANTED = {
    "missing lang": ("language", '<html lang="en"', "<html"),
    "missing alt": (
        "image-alt",
        "</h1>",
        '<img src="https://news.example.com/a.png" width="9" height="9"></h1>',
    ),
    "empty title": ("title", "<title>.*</title>", "<title> </title>"),
    "empty link": ("empty-link", "</h1>", '<a href="https://news.example.com/"> </a></h1>'),
    "heading skip": ("heading-order", "(</?)h2", r"\1h4"),
    "bad contrast": ("contrast", "</h1>", '</h1><p style="color: #999999">Contact</p>'),
    "duplicate id": ("duplicate-id", "<h1", '<i id="a"></i><i id="a"></i><h1'),
    "bad href": ("bad-href", "</h1>", '</h1><a href="https://">Contact</a>'),
    "display:flex": ("flex-or-grid", 'class="title" style="', r"\g<0>display:flex;"),
    "display:grid": ("flex-or-grid", 'class="title" style="', r"\g<0>display: inline-grid;"),
    "missing role=presentation": (
        "layout-table",
        '(class="layout paper" width="100%") role="presentation"',
        r"\1",
    ),
    "click here": (
        "link-words",
        "our last email",
        'our last email, <a href="https://news.example.com/">Click here!</a>',
    ),
    "script": ("script", "</body>", "<script>document.title = 'x'</script></body>"),
    "second h1": ("first-heading", "(</?)h2(.*)>Contact</h2>", r"\1h1\2>Contact</h1>"),
    "background image": (
        "background-image",
        'class="title" style="',
        r"\g<0>background-image:url(https://news.example.com/a.png);",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_sixteen_planted_faults(whole: Case, fault: str) -> None:
    """Each is found by the rule that is meant for it and by no other, in either kind of letter."""
    rule, pattern, put = PLANTED[fault]
    case = with_part(whole, "html", pattern, put)
    assert {problem.key for problem in lint_email(case.message(), case.site)} == {rule}
    assert {problem.key for problem in lint_rendered_email(case.letter, case.site)} == {rule}


def test_nothing_is_found_where_nothing_was_planted(whole: Case) -> None:
    """The letter in which the faults are planted is the newest of the demonstration, and whole."""
    assert "February 2024" in whole.letter.subject
    assert found(whole.message(), whole.site) == []
    assert lint_rendered_email(whole.letter, whole.site) == []


# Whole letters that look broken.


@pytest.mark.parametrize(
    ("pattern", "put"),
    [
        (rb"\A", b"Return-Path: <bounces+1@example.com>\r\n" + SIGNATURE),
        (rb"Subject: .*\r\n", b"Subject: =?utf-8?b?0K8=?=\r\n"),
        (rb"Reply-To: .*\r\n", b""),
        (rb",\r\n <mailto:[^>]*>", b""),
        (rb"List-Unsubscribe:\s+", b"List-Unsubscribe:\r\n\t"),
        (rb"Message-ID: <", b"Message-ID:\r\n <"),
    ],
    ids=["signed", "encoded subject", "no Reply-To", "no mail to leave", "folded", "folded too"],
)
def test_a_whole_message_has_no_fault(whole: Case, pattern: bytes, put: bytes) -> None:
    """What a relay may do to a letter, and what a letter may lack, is no fault."""
    changed, count = re.subn(pattern, put, whole.message(), count=1)
    assert (count, found(changed, whole.site)) == (1, [])


BODY = "</h1>"
OUTLOOK = (
    '<!--[if mso]><table role="presentation"><tr><td><![endif]-->x'
    "<!--[if mso]></td></tr></table><![endif]-->"
)


@pytest.mark.parametrize(
    "put",
    [
        '<p style="background-position:0 0;display:inline-block">x</p>',
        '<p style="font-size:13px">x</p>',
        '<p style="font: italic 13.5px/20px Georgia">x</p>',
        '<p style="font: inherit">x</p>',
        "<div>font-size: 5px; position: fixed; url(x); @import; &lt;!--[if mso]&gt;</div>",
        "<table><tr><th>A</th></tr><tr><td>x</td></tr></table>",
        '<p style="color:#fff;background-color:#000">x</p>',
        '<p style="color:rgb(1, 2, 3);background:white none">x</p>',
        '<p style="display:none;color:#eee">x</p>',
        "<!-- a comment --><p>x</p>",
        "<p>Daniel Wong</p><p>+86-18072358327</p>",
        '<a href="mailto:news@example.com">news@example.com</a>',
        '<a href="https://news.example.com/a.png">Contact</a>',
        OUTLOOK,
        '<p id="a">Contact</p><a href="#a">Contact</a>',
        '<a href="https://news.example.com/">' + picture().removesuffix("</h1>") + "</a>",
        '<a name="a"></a><a>Contact</a>',
        '<table role="none"><tr><td>Contact</td></tr></table>',
        '<p style="color:transparent;color:inherit;background:none">Contact</p>',
        '<p style="background:#eee no-repeat center;color:#333">Contact</p>',
        '<table role="none" bgcolor="#000000"><tr><td style="color:white">x</td></tr></table>',
        '<a href="tel:+442079460000;ext=7">Contact</a>',
        '<a href="mailto:?to=a@b.example">Contact</a>',
    ],
)
def test_whole_html_has_no_fault(whole: Case, put: str) -> None:
    """What only looks like something forbidden is no fault."""
    case = with_part(whole, "html", BODY, BODY + put)
    assert found(case.message(), case.site) == []


@pytest.mark.parametrize(
    "put", ["See (https://news.example.com/).", "<https://news.example.com/#a>"]
)
def test_a_whole_text_has_no_fault(whole: Case, put: str) -> None:
    """What stands around an address in a text is no part of it."""
    case = with_part(whole, "text", r"\Z", put)
    assert found(case.message(), case.site) == []


def test_html_that_names_its_encoding_is_read(whole: Case) -> None:
    """A newsroom's own template may be XHTML."""
    case = with_part(whole, "html", r"\A", '<?xml version="1.0" encoding="utf-8"?>\n')
    assert found(case.message(), case.site) == []


# Whatever comes in.

HOSTILE = [
    b"\r\n\r\n",
    b"=?utf-8?b?=?=",
    b"=?no-such?q?a?=",
    b"Subject: =?utf-8?b?a?=\r\n",
    b"From: =?x?q?a?= <a\r\n",
    b"To: a, b:;\r\n",
    b"List-Unsubscribe: <https://[>\r\n",
    b"Content-Type: text/html; charset=no-such\r\n",
    b"Content-Type: text/plain; charset*=no-such''%ff\r\n",
    b"Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: x-uuencode\r\n",
    b"Date: 99\r\n",
    b"Date: Thu, 99 Foo 99999999999 25:61:61 +99999\r\n",
    b"<a href=https://[><img src=https://[ width=\xc2\xb2 height=" + b"9" * 5000 + b">",
]
MARKUP = """<html lang="en"> | <body class="paper"> | <p> | </p> | <table> | <a href="http://[">
| <a href="//"> | <a href="https://a:b/"> | <a href="mailto:"> | <img src="https://[::">
| <img width="-1" height="1e9"> | <div style="display: none"> | <p style="color: #12">
| <p style="color: rgb(999,0,0)"> | <p style="{;:">
| <p style="background: url(((; font: 9px/ ; font-size:"> | <h1> | <h6> | </h1> | <title>
| </title> | <div role="article"> | <style>
| @media (prefers-color-scheme: dark) { .paper {color:#fff} } | </style> | <!--[if mso]>
| <![endif]--> | <!-- | --> | <![CDATA[ | ]]> | <?xml ?> | &#0; | &#xD800; | &amp; | \0 | \ufffe
| \u202e | {{ | }} | https://[a | mailto: | 文字 | <svg> | <math> | <template> | <select>
| <frameset> | <plaintext> | <font size="x"> | </body> | </html>"""
HTML_LIKE = st.lists(
    st.sampled_from([piece.strip("\n ") for piece in MARKUP.split("|")]) | st.text()
).map("".join)


@settings(deadline=None, max_examples=200)
@given(data=st.binary() | st.lists(st.sampled_from(HOSTILE) | st.binary()).map(b"".join))
def test_no_bytes_end_a_run(whole: Case, data: bytes) -> None:
    """Whatever bytes there are instead of a letter, they are looked at, and are none."""
    problems = lint_email(data, whole.site)
    assert problems
    assert {problem.key for problem in problems} <= set(RULES)


@settings(deadline=None, max_examples=300)
@given(html=HTML_LIKE, text=HTML_LIKE)
def test_no_parts_end_a_run(whole: Case, html: str, text: str) -> None:
    """Whatever stands in the two parts, every rule looks at all of it."""
    problems = lint_rendered_email(RenderedEmail("", html, text), whole.site)
    assert {problem.key for problem in problems} <= set(RULES) - {"readable"}


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_damaged_message_ends_no_run(whole: Case, data: st.DataObject) -> None:
    """A message cut, doubled or garbled anywhere is looked at to the end."""
    message = whole.message()
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(message))] * 2)))
    middle = data.draw(st.binary(max_size=30) | st.sampled_from(HOSTILE))
    assert isinstance(lint_email(message[:start] + middle + message[end:], whole.site), list)


@pytest.mark.parametrize("html", ["", " ", "<!-- -->", "\0", "<h1>", "<style>@media", "x" * 1000])
def test_strange_html_ends_no_run(whole: Case, html: str) -> None:
    """HTML that is none is looked at to the end, and found to be none."""
    problems = lint_rendered_email(evolve(whole.letter, html=html), whole.site)
    assert {"title", "dark-mode", "preheader", "contact"} <= {problem.key for problem in problems}


def test_half_a_character_ends_no_run(whole: Case) -> None:
    """What cannot be written as UTF-8 is a finding like any other."""
    letter = evolve(whole.letter, html=whole.letter.html.replace("<h1", "\ud800<h1"))
    assert "readable" in {problem.key for problem in lint_rendered_email(letter, whole.site)}


# How long it takes.


def seconds(letter: RenderedEmail, site: Site) -> float:
    """Return the processor's time for one letter, the best of five."""
    times = []
    for _ in range(5):
        start = process_time()
        lint_rendered_email(letter, site)
        times.append(process_time() - start)
    return min(times)


def test_a_letter_of_full_size_is_looked_at_at_once(tmp_path: Path) -> None:
    """A letter of 90 KB takes 20 milliseconds, here with room for a slow machine."""
    (case, *_) = cases(sites.write(tmp_path, MANY))
    assert 80_000 < len(case.letter.html) <= MAX_HTML_BYTES
    assert seconds(case.letter, case.site) < 0.06


@pytest.mark.parametrize(
    "piece",
    "<!--[if_mso]> <!-- @media prefers-color-scheme:dark <a/href=x> <p> font: <style> <table> "
    "https://a. background:url( rgb( { a{ <div/style='{'> <b>x mailto: & \0".split(" "),
)
def test_no_letter_takes_for_ever(whole: Case, piece: str) -> None:
    """Whatever is repeated, the time grows with the size of the letter and not faster."""
    opened = f"<style>{piece}" if piece[0] in "@pfbr{a" else f"<body>{piece}"
    letter = evolve(whole.letter, html=opened + piece * (MAX_HTML_BYTES // len(piece)))
    assert seconds(letter, whole.site) < 2
