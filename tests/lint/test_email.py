"""The rules for emails: each finds its fault, and a correct email has no finding."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    """A subscriber's email before it is a message, and its settings."""

    rendered: RenderedEmail = field(repr=False)
    site: Site = field(repr=False)

    def message(self) -> bytes:
        """Return the subscriber's message."""
        prepared = prepare_issue(self.rendered, self.site, AT)
        return prepared.message("reader@example.org", TOKEN, prepared.message_id("0" * 64))


def cases(folder: Path, frequency: Frequency = "month") -> list[Case]:
    """Return an email of the site in `folder` for each frequency."""
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
        made = tuple(
            evolve(digest, posts=(post,), url=post.url) for digest in made for post in digest.posts
        )
    return [
        Case(render_email(digest, site, theme, unsubscribe=leave, preferences=prefer), site)
        for digest in made
    ]


@pytest.fixture(scope="module")
def demo_email() -> Case:
    """Return a correct email of the demonstration."""
    return cases(ROOT)[0]


def found(data: bytes, site: Site) -> list[str]:
    """Return the findings about a message, as `rule: message`."""
    return [f"{problem.key}: {problem.message}" for problem in lint_email(data, site)]


# Correct emails.


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
def test_emails_of_the_theme_have_no_finding(name: str, tmp_path: Path) -> None:
    """Emails of every frequency pass every rule, with personal links and without."""
    assert faults(sites.write_all(tmp_path)[name]) == []


def test_emails_of_posts_with_images_have_no_finding(tmp_path: Path) -> None:
    """Images of a post become links in its email, which passes every rule."""
    assert faults(sites.write(tmp_path, PICTURED)) == []


def test_an_email_cut_to_its_size_has_no_finding(tmp_path: Path) -> None:
    """An email with too many posts links to the rest in both parts."""
    (case, *_) = cases(sites.write(tmp_path, MANY))
    assert len(re.findall("<h2", case.rendered.html)) < len(MANY) - 1
    assert faults(tmp_path, ["month"]) == []


FREQUENCIES: tuple[Frequency, ...] = get_args(Frequency)


def faults(folder: Path, frequencies: Sequence[Frequency] = FREQUENCIES) -> list[str]:
    """Return the findings about a site's emails; a site without an address sends none."""
    made = [case for frequency in frequencies for case in cases(folder, frequency)]
    assert made
    shown = [
        str(finding) for case in made for finding in lint_rendered_email(case.rendered, case.site)
    ]
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
def test_emails_of_any_post_have_no_finding(chosen: list[str]) -> None:
    """Every element of a post is in both parts and passes the rules."""
    site = generated_sites.site_with()
    (post,) = generated_sites.read(generated_sites.short_posts([1]), site)
    written, resolve = "\n\n".join(chosen), resolve_urls(post.url)
    html = to_html(written, resolve)
    post = evolve(post, html=html, text=to_text(html))
    (digest,) = group_by_period([post], site)
    rendered = render_email(digest, site, Theme(ROOT, site.language))
    wrong = [
        problem for problem in lint_rendered_email(rendered, site) if problem.key != "heading-order"
    ]
    assert list(map(str, wrong)) == []


def test_the_public_email_needs_no_unsubscribe_link(demo_email: Case) -> None:
    """The public email has no subscriber, so it passes without an unsubscribe link."""
    (digest, *_) = group_by_period(
        loader.load_posts(ROOT, demo_email.site, AT).posts, demo_email.site
    )
    rendered = render_email(digest, demo_email.site, Theme(ROOT, demo_email.site.language))
    assert lint_rendered_email(rendered, demo_email.site) == []
    assert found(evolve(demo_email, rendered=rendered).message(), demo_email.site) == [
        "unsubscribe: the HTML part has no link to the unsubscribe page",
        "unsubscribe: the text part has no link to the unsubscribe page",
    ]


def test_a_finding_has_place_rule_and_hint(demo_email: Case) -> None:
    """A finding is one line with the place, the rule, the message and the hint."""
    rendered = evolve(
        demo_email.rendered,
        html=demo_email.rendered.html.replace("<h1", "<h2").replace("h1>", "h2>"),
    )
    (problem,) = lint_rendered_email(rendered, demo_email.site, "public/digest/2024-02/email.html")
    assert str(problem) == (
        "public/digest/2024-02/email.html: first-heading: has no first-level heading; "
        "write one, for the title"
    )


# Messages with one fault each.

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
    """Return the name of a case."""
    return str(value)[:30]


@pytest.mark.parametrize(("rule", "expected", "pattern", "put"), MESSAGES, ids=short)
def test_a_broken_message_is_found(
    demo_email: Case, rule: str, expected: str, pattern: bytes, put: bytes
) -> None:
    """A message that breaks a rule has a finding of that rule."""
    broken, count = re.subn(pattern, put, demo_email.message(), count=1)
    assert count == 1
    assert findings_with(rule, expected, found(broken, demo_email.site))


# Parts with one fault each, in the HTML or in the text.


def image_html(source: str = "https://news.example.com/a.png", more: str = "") -> str:
    """Return an image at the end of the title, correct by default."""
    return f'<img src="{source}" alt="A" width="9" height="9" {more}></h1>'


def link(address: str, text: str = "A page") -> str:
    """Return a link at the end of the title."""
    return f'</h1><p><a href="{address}">{text}</a></p>'


HTML = [
    ("size", "bytes, and Gmail cuts it", "</h1>", "x" * 90_000 + "</h1>"),
    ("remote-load", "<img> loads from a.example", "</h1>", image_html("https://a.example/a.png")),
    ("remote-load", "<img srcset> loads", "</h1>", image_html("", 'srcset="a.png 2x"')),
    ("image-alt", "a.png has no alt", "</h1>", image_html().replace('alt="A"', "")),
    ("image-size", "has no width and height", "</h1>", image_html().replace('width="9"', "")),
    ("image-size", "has no width and height", "</h1>", image_html().replace('"9"', '"100%"')),
    ("image-address", "has no https URL", "</h1>", image_html("http://news.example.com/a.png")),
    (
        "image-address",
        "'data:image/png;base64,' has",
        "</h1>",
        image_html("data:image/png;base64,"),
    ),
    ("image-address", "'a.png' has no https", "</h1>", image_html("a.png")),
    ("pixel", "is too small to see", "</h1>", image_html().replace('"9"', '"1"')),
    ("pixel", "is hidden", "</h1>", image_html(more='style="display: none"')),
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
    ("font-size", "a text has the font size 12px", "</h1>", '<b style="font-size:12px">x</b></h1>'),
    (
        "font-size",
        "a text has the font size 0",
        "</h1>",
        '<b style="font-size: 0 !important">x</b></h1>',
    ),
    (
        "font-size",
        "a text has the font size 0.8em",
        "</h1>",
        '<b style="font-size:0.8em">x</b></h1>',
    ),
    (
        "font-size",
        "a text has the font size 11px",
        "</h1>",
        '<b style="font:bold 11px/1 Arial">x</b></h1>',
    ),
    (
        "font-size",
        "a text has the font size 9px",
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
    (
        "data-direction",
        "around '+86-18072358327' has no dir=\"ltr\"",
        '(href="tel:[^"]*") dir="ltr"',
        r"\1",
    ),
    ("data-direction", 'China\' has no dir="ltr"', '<span dir="ltr"[^>]*>(?=YIWU)', "<span>"),
    (
        "data-direction",
        "around 'Daniel Wong' has no attribute dir",
        '<span dir="auto"[^>]*>(?=Daniel)',
        "<span>",
    ),
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
    """Return the email with every match of a pattern in one of its parts replaced."""
    hidden = re.findall("mso-hide: all[^>]*>([^<]*)", case.rendered.html)[0]
    before = str(getattr(case.rendered, part))
    after, count = re.subn(pattern, put.replace("{preheader}", hidden), before)
    assert count
    return evolve(case, rendered=evolve(case.rendered, **{part: after}))


def findings_with(rule: str, expected: str, lines: list[str]) -> list[str]:
    """Return the findings of a rule that contain some words."""
    return [line for line in lines if line.startswith(f"{rule}: ") and expected in line]


@pytest.mark.parametrize(("rule", "expected", "pattern", "put"), HTML, ids=short)
def test_broken_html_is_found(
    demo_email: Case, rule: str, expected: str, pattern: str, put: str
) -> None:
    """HTML that breaks a rule has a finding of that rule."""
    case = with_part(demo_email, "html", pattern, put)
    assert findings_with(rule, expected, found(case.message(), case.site))


@pytest.mark.parametrize(("rule", "expected", "pattern", "put"), TEXT, ids=short)
def test_a_broken_text_is_found(
    demo_email: Case, rule: str, expected: str, pattern: str, put: str
) -> None:
    """A text part that contradicts the HTML has a finding of the rule for it."""
    case = with_part(demo_email, "text", pattern, put)
    assert findings_with(rule, expected, found(case.message(), case.site))


@pytest.mark.parametrize(("rule", "expected", "contact"), SETTINGS, ids=short)
def test_broken_settings_are_found(
    demo_email: Case, rule: str, expected: str, contact: dict[str, str]
) -> None:
    """An email without a sender or a postal address has a finding of the rule for it."""
    site = evolve(demo_email.site, contact=evolve(demo_email.site.contact, **contact))
    assert found(demo_email.message(), site) == [f"{rule}: {expected}"]
    assert lint_rendered_email(demo_email.rendered, site) == []


def test_every_rule_has_a_broken_email() -> None:
    """Each rule has an example that breaks it, and no other rule has a finding in it."""
    tried = {row[0] for rows in (MESSAGES, HTML, TEXT, SETTINGS) for row in rows}
    assert tried == set(RULES)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_has_a_reason(rule: Rule) -> None:
    """A rule is on by default and has a reason and a source."""
    assert rule.severity in {"warning", "error"}
    assert re.fullmatch(r"[A-Z].+\.", rule.reason)
    assert rule.source


def test_rules_have_stable_names() -> None:
    """The names of rules are words with hyphens, because settings use them."""
    assert [name for name in RULES if not re.fullmatch("[a-z]+(-[a-z]+)*", name)] == []


# Sixteen common faults; the sixteenth, horizontal overflow, is found by a browser.

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
def test_the_sixteen_planted_faults(demo_email: Case, fault: str) -> None:
    """Each fault is found only by the rule meant for it, in both kinds of email."""
    rule, pattern, put = PLANTED[fault]
    case = with_part(demo_email, "html", pattern, put)
    assert {problem.key for problem in lint_email(case.message(), case.site)} == {rule}
    assert {problem.key for problem in lint_rendered_email(case.rendered, case.site)} == {rule}


def test_nothing_is_found_before_a_fault_is_planted(demo_email: Case) -> None:
    """The demonstration's newest email, which the faults are planted in, has no finding."""
    assert "February 2024" in demo_email.rendered.subject
    assert found(demo_email.message(), demo_email.site) == []
    assert lint_rendered_email(demo_email.rendered, demo_email.site) == []


# Correct emails that look broken.


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
def test_a_correct_message_has_no_finding(demo_email: Case, pattern: bytes, put: bytes) -> None:
    """Changes that a relay may make, and fields that are optional, are no findings."""
    changed, count = re.subn(pattern, put, demo_email.message(), count=1)
    assert (count, found(changed, demo_email.site)) == (1, [])


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
        '<a href="https://news.example.com/">' + image_html().removesuffix("</h1>") + "</a>",
        '<a name="a"></a><a>Contact</a>',
        '<table role="none"><tr><td>Contact</td></tr></table>',
        '<p style="color:transparent;color:inherit;background:none">Contact</p>',
        '<p style="background:#eee no-repeat center;color:#333">Contact</p>',
        '<table role="none" bgcolor="#000000"><tr><td style="color:white">x</td></tr></table>',
        '<a href="tel:+442079460000;ext=7">Contact</a>',
        '<a href="mailto:?to=a@b.example">Contact</a>',
    ],
)
def test_correct_html_has_no_finding(demo_email: Case, put: str) -> None:
    """HTML that only resembles a fault has no finding."""
    case = with_part(demo_email, "html", BODY, BODY + put)
    assert found(case.message(), case.site) == []


@pytest.mark.parametrize(
    "put", ["See (https://news.example.com/).", "<https://news.example.com/#a>"]
)
def test_a_correct_text_has_no_finding(demo_email: Case, put: str) -> None:
    """Punctuation around a URL in a text is not part of the URL."""
    case = with_part(demo_email, "text", r"\Z", put)
    assert found(case.message(), case.site) == []


def test_html_that_names_its_encoding_is_read(demo_email: Case) -> None:
    """The template of a site may be XHTML."""
    case = with_part(demo_email, "html", r"\A", '<?xml version="1.0" encoding="utf-8"?>\n')
    assert found(case.message(), case.site) == []


# Any input.

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
def test_no_bytes_crash_the_check(demo_email: Case, data: bytes) -> None:
    """Any bytes can be checked as a message, and are found to be none."""
    problems = lint_email(data, demo_email.site)
    assert problems
    assert {problem.key for problem in problems} <= set(RULES)


@settings(deadline=None, max_examples=300)
@given(html=HTML_LIKE, text=HTML_LIKE)
def test_no_parts_crash_the_check(demo_email: Case, html: str, text: str) -> None:
    """Every rule can check any two parts."""
    problems = lint_rendered_email(RenderedEmail("", html, text), demo_email.site)
    assert {problem.key for problem in problems} <= set(RULES) - {"readable"}


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_damaged_message_does_not_crash_the_check(demo_email: Case, data: st.DataObject) -> None:
    """A message that is cut, doubled or garbled anywhere is checked to the end."""
    message = demo_email.message()
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(message))] * 2)))
    middle = data.draw(st.binary(max_size=30) | st.sampled_from(HOSTILE))
    assert isinstance(lint_email(message[:start] + middle + message[end:], demo_email.site), list)


@pytest.mark.parametrize("html", ["", " ", "<!-- -->", "\0", "<h1>", "<style>@media", "x" * 1000])
def test_invalid_html_does_not_crash_the_check(demo_email: Case, html: str) -> None:
    """Text that is not HTML is checked to the end and reported."""
    problems = lint_rendered_email(evolve(demo_email.rendered, html=html), demo_email.site)
    assert {"title", "dark-mode", "preheader", "contact"} <= {problem.key for problem in problems}


def test_a_lone_surrogate_does_not_crash_the_check(demo_email: Case) -> None:
    """A character that UTF-8 cannot encode is a finding like any other."""
    rendered = evolve(
        demo_email.rendered, html=demo_email.rendered.html.replace("<h1", "\ud800<h1")
    )
    assert "readable" in {problem.key for problem in lint_rendered_email(rendered, demo_email.site)}


# How long it takes.


def is_checked_within(seconds: float, rendered: RenderedEmail, site: Site) -> bool:
    """Tell whether one of five checks of an email takes less than this processor time."""
    for _ in range(5):
        start = process_time()
        lint_rendered_email(rendered, site)
        if process_time() - start < seconds:
            return True
    return False


def test_an_email_of_full_size_is_checked_quickly(tmp_path: Path) -> None:
    """A 90 KB email takes about 20 milliseconds; slow machines have some margin."""
    (case, *_) = cases(sites.write(tmp_path, MANY))
    assert 80_000 < len(case.rendered.html) <= MAX_HTML_BYTES
    assert is_checked_within(0.06, case.rendered, case.site)


@pytest.mark.parametrize(
    "piece",
    "<!--[if_mso]> <!-- @media prefers-color-scheme:dark <a/href=x> <p> font: <style> <table> "
    "https://a. background:url( rgb( { a{ <div/style='{'> <b>x mailto: & \0".split(" "),
)
def test_no_email_takes_quadratic_time(demo_email: Case, piece: str) -> None:
    """The time grows no faster than the size of the email, whatever is repeated."""
    opened = f"<style>{piece}" if piece[0] in "@pfbr{a" else f"<body>{piece}"
    rendered = evolve(demo_email.rendered, html=opened + piece * (MAX_HTML_BYTES // len(piece)))
    assert is_checked_within(2, rendered, demo_email.site)
