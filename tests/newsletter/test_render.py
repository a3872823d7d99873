"""Rendered emails: their content, and the limits of mail programs."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from urllib.parse import urldefrag

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html as lxml_html

from postroom.contrast import contrast
from postroom.mail.unsubscribe import preferences_url, unsubscribe_url
from postroom.models import Cursor, Digest, Issue, Site, ThemeSettings
from postroom.newsletter.render import (
    MAX_HTML_BYTES,
    RenderedEmail,
    render_email,
    render_issue,
    render_preheader,
    render_subject,
)
from postroom.posts import loader
from postroom.scheduling.periods import digest_of_issue, group_by_period, issues_by_period
from postroom.settings.site import load_settings
from postroom.theme.environment import PAPER, PAPER_DARK, Theme, theme_colours
from tests.support import sites
from tests.support.site import AT, ROOT, CommandResult, MakeSite

GOLDEN = Path(__file__).parents[1] / "golden" / "demo"
ADDRESS = re.compile(r"(?:https?://|mailto:|tel:)\S+[^\s.,;:)\]]")


@frozen
class Email:
    """A rendered email, its digest and its parsed HTML."""

    site: Site
    digest: Digest
    rendered: RenderedEmail
    tree: lxml_html.HtmlElement

    @property
    def html(self) -> str:
        """The HTML part."""
        return self.rendered.html

    @property
    def text(self) -> str:
        """The text part."""
        return self.rendered.text

    def all(self, path: str) -> list[lxml_html.HtmlElement]:
        """Return the elements at an XPath."""
        return list(self.tree.xpath(path))

    def get(self, path: str) -> lxml_html.HtmlElement:
        """Return the only element at an XPath."""
        (element,) = self.all(path)
        return element

    @property
    def links(self) -> list[str]:
        """The URL of every link of the HTML part."""
        return [link.get("href", "") for link in self.all("//a")]


def emails_of(site_dir: Path) -> dict[str, Email]:
    """Return the email of every period of a site."""
    site = load_settings(site_dir)
    theme = Theme(site_dir, site.language)
    found = {}
    posts = {post.id: post for post in loader.load_posts(site_dir, site, AT).posts}
    for issue in issues_by_period(posts.values(), site):
        digest = digest_of_issue(issue, posts, site)
        rendered = render_email(digest, site, theme)
        tree = lxml_html.document_fromstring(rendered.html)
        found[digest.period] = Email(site, digest, rendered, tree)
    return found


def text_of(element: lxml_html.HtmlElement) -> str:
    """Return the text of an element on one line."""
    return " ".join(element.text_content().split())


CASES = [
    "demo 2023-12",
    "demo 2024-01",
    "demo 2024-02",
    "german 2026-11",
    "arabic 2026-11",
    "chinese 2026-11",
    "bare 2026-11",
    "stress 2026-W46",
    "stress 2026-W47",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of every sample site by its name."""
    return sites.write_all(tmp_path_factory.mktemp("emails"))


@pytest.fixture(scope="module")
def emails(folders: dict[str, Path]) -> dict[str, Email]:
    """Return the emails of those sites by site and period."""
    return {
        f"{name} {period}": email
        for name, folder in folders.items()
        for period, email in emails_of(folder).items()
    }


@pytest.fixture(params=CASES)
def email(request: pytest.FixtureRequest, emails: dict[str, Email]) -> Email:
    """Return one of the emails for each case."""
    return emails[request.param]


def test_the_cases_cover_every_email(emails: dict[str, Email]) -> None:
    """The cases are all emails of all sample sites."""
    assert sorted(emails) == sorted(CASES)


# Content.


def test_several_posts_are_summaries(emails: dict[str, Email]) -> None:
    """An email of several posts has the title, link and summary of each, newest first."""
    email = emails["demo 2024-02"]
    headings = [(text_of(h2), h2.xpath("string(a/@href)")) for h2 in email.all("//h2[a]")]
    summaries = [text_of(p) for p in email.all("//p[contains(@class, 'summary')]")]
    expected = email.digest.posts
    assert (headings, summaries) == (
        [(post.title, post.url) for post in expected],
        [post.summary for post in expected],
    )


def test_a_single_post_is_complete(emails: dict[str, Email]) -> None:
    """An email of a single post contains its whole text in both parts."""
    email = emails["stress 2026-W47"]
    (post,) = email.digest.posts
    cells = [text_of(cell) for cell in email.all("//th")]
    assert (cells[:2], post.text in email.text) == (["A", "table"], True)


def test_headings_of_a_post_are_below_its_title(emails: dict[str, Email]) -> None:
    """The title of a single post is the title of the email; its headings are one level lower."""
    headings = emails["stress 2026-W47"].all("//h1 | //h2 | //h3 | //h4 | //h5 | //h6")
    assert [(heading.tag, text_of(heading)[:14]) for heading in headings] == [
        ("h1", "One post with "),
        ("h2", "A heading of t"),
        ("h3", "Rindfleischeti"),
        ("h2", "Contact"),
    ]


def test_a_long_digest_is_cut(make_site: MakeSite) -> None:
    """An email shows as many of 200 posts as fit in 90 KB; a link names the number of others."""
    files = {
        f"posts/2026-11-{day:02}-{day}-{number}.md": f"# Post {day}.{number}\n\n{'Words. ' * 40}"
        for day in range(1, 21)
        for number in range(10)
    }
    email = emails_of(make_site(files))["2026-11"]
    shown = [text_of(h2) for h2 in email.all("//h2[a]")]
    (more,) = [a for a in email.all("//a") if text_of(a).endswith("more posts on the web")]
    size = len(email.html.encode())
    assert (text_of(more), more.get("href")) == (
        f"{200 - len(shown)} more posts on the web",
        "https://news.example.com/digest/2026-11/",
    )
    assert f"{text_of(more)}\n{more.get('href')}\n" in email.text
    assert shown == [post.title for post in email.digest.posts[: len(shown)]]
    assert MAX_HTML_BYTES - 2_000 < size <= MAX_HTML_BYTES


def test_a_long_post_becomes_its_summary(make_site: MakeSite) -> None:
    """A single post that is too long for an email becomes its summary and a link."""
    post = f"---\nsummary: In short.\n---\n# A long story\n\n{'Many words. ' * 10_000}"
    email = emails_of(make_site({"posts/2026-11-20-long.md": post}))["2026-11"]
    summaries = [text_of(p) for p in email.all("//p[contains(@class, 'summary')]")]
    assert (summaries, "Many words" in email.html + email.text) == (["In short."], False)
    assert "https://news.example.com/posts/long/" in email.links


def test_a_withdrawn_post_is_in_no_email(emails: dict[str, Email]) -> None:
    """Neither part contains a withdrawn post, and a period without other posts has no email."""
    email = emails["stress 2026-W46"]
    assert "Withdrawn" not in email.html + email.text
    assert "This text stands nowhere" not in email.html + email.text
    assert "german 2026-10" not in emails


def test_the_introduction_is_in_both_parts(emails: dict[str, Email]) -> None:
    """The introduction of the settings is in the HTML and the text."""
    email = emails["demo 2024-02"]
    intro = "Here is what we have published since our last email."
    assert (email.site.digest.intro, intro in email.html, f"\n{intro}\n" in email.text) == (
        intro,
        True,
        True,
    )


def test_no_contact_block_without_contact_data(emails: dict[str, Email]) -> None:
    """Emails of a site without contact data have no contact block."""
    email = emails["bare 2026-11"]
    headings = email.all("//h1 | //h2")
    assert [text_of(heading) for heading in headings] == ["A title is all there is"]
    assert "Contact" not in email.text


@pytest.mark.parametrize("name", ["demo 2024-02", "german 2026-11", "stress 2026-W46"])
def test_build_and_digest_show_the_same_email(
    folders: dict[str, Path], name: str, tmp_path: Path, postroom: Callable[..., CommandResult]
) -> None:
    """`build` writes the same HTML and text that `digest` prints."""
    site_dir, period = folders[name.partition(" ")[0]], name.partition(" ")[2]
    written = sites.build(site_dir, tmp_path / "out") / "digest" / period
    shown = [postroom(site_dir, "digest", period, form).out for form in ("--html", "--text")]
    assert [(written / f"email.{kind}").read_text() for kind in ("html", "txt")] == shown


def test_rendering_is_deterministic(folders: dict[str, Path]) -> None:
    """The same posts make the same emails, to the byte."""
    first, second = emails_of(folders["stress"]), emails_of(folders["stress"])
    assert [email.rendered for email in first.values()] == [
        email.rendered for email in second.values()
    ]


# Subject and preheader.


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", "Example Magnets News: February 2024"),
        (
            "{headline} ({period})",
            "Magnet makers outside Asia get ready to produce more (February 2024)",
        ),
        ("{title} {titles} {}", "Example Magnets News {titles} {}"),
        ("{period} & more", "February 2024 & more"),
    ],
    ids=["none", "headline", "unknown fields", "period"],
)
def test_the_subject_is_filled_in(emails: dict[str, Email], pattern: str, expected: str) -> None:
    """Known fields of the subject are filled in; all other text is unchanged."""
    email = emails["demo 2024-02"]
    site = evolve(email.site, digest=evolve(email.site.digest, subject=pattern))
    assert render_subject(email.digest, site, Theme(ROOT, "en")) == expected


def test_a_title_is_not_filled_in_again(emails: dict[str, Email]) -> None:
    """A field inside a title is not filled in."""
    email = emails["demo 2024-02"]
    site = evolve(email.site, title="The {period} News")
    assert (
        render_subject(email.digest, site, Theme(ROOT, "en")) == "The {period} News: February 2024"
    )


def test_the_preheader_of_a_single_post_is_its_summary(emails: dict[str, Email]) -> None:
    """The preheader of a single post is its summary."""
    (post,) = emails["stress 2026-W47"].digest.posts
    assert render_preheader((post,)) == post.summary


def test_the_preheader_of_several_posts_has_their_titles(emails: dict[str, Email]) -> None:
    """The preheader of several posts lists titles, cut at a word within 130 characters."""
    assert render_preheader(emails["demo 2024-02"].digest.posts) == (
        "Magnet makers outside Asia get ready to produce more · What two European magnet makers"
        " ask for · US Department of Defense backs…"
    )


def test_a_preheader_without_spaces_is_cut(emails: dict[str, Email]) -> None:
    """A long Chinese summary, which has no spaces, is cut at 130 characters."""
    (post,) = emails["chinese 2026-11"].digest.posts
    long = evolve(post, summary="港口新泊位启用" * 40)
    assert render_preheader((long,)) == ("港口新泊位启用" * 40)[:129] + "…"


# HTML part.


def test_an_email_is_small(email: Email) -> None:
    """The HTML has at most 90 KB, because Gmail clips longer emails."""
    assert len(email.html.encode()) <= 90_000


def test_an_email_loads_and_runs_nothing(email: Email) -> None:
    """No element of an email loads, runs or sends anything."""
    forbidden = (
        "img script form input button select textarea link iframe frame object embed applet audio "
        "video source track svg math picture canvas base"
    ).split()
    found = [element.tag for element in email.tree.iter() if element.tag in forbidden]
    assert found == []


def test_no_style_loads_or_places_anything(email: Email) -> None:
    """Styles use no flex, grid, position or images, which mail programs lack or would load."""
    styles = "\n".join([*email.tree.xpath("//@style"), *email.tree.xpath("//style/text()")])
    unsafe = r"\b(?:flex|grid|position|float|url|@import|background-image|expression)\b\s*[:(;]?"
    assert [match for match in re.findall(unsafe, styles) if match] == []


def test_no_attribute_is_a_script(email: Email) -> None:
    """No attribute of an email is an event handler or a source."""
    names = Counter(name for element in email.tree.iter() for name in element.attrib)
    assert [name for name in names if str(name).startswith("on") or name in {"src", "srcset"}] == []


def test_every_link_is_absolute(email: Email) -> None:
    """Every link works in a mail program."""
    assert [link for link in email.links if not ADDRESS.fullmatch(link)] == []


def test_every_link_has_a_text_of_its_own(email: Email) -> None:
    """No link has an empty text such as `here` or `read more`."""
    empty = {"", "click here", "here", "read more", "more", "link"}
    assert [link.get("href") for link in email.all("//a") if text_of(link).lower() in empty] == []


def test_there_is_one_title(email: Email) -> None:
    """An email has one first-level heading and skips no level below it."""
    headings = email.all(
        "//*[self::h1 or self::h2 or self::h3 or self::h4 or self::h5 or self::h6]"
    )
    levels = [int(str(heading.tag)[1]) for heading in headings]
    skipped = [lower for upper, lower in pairwise(levels) if lower > upper + 1]
    assert (levels.count(1), levels[0], skipped) == (1, 1, [])


def test_an_email_names_its_language(email: Email) -> None:
    """Language and direction are set on the document and on the wrapper."""
    direction = "rtl" if email.site.language == "ar" else "ltr"
    wrapper = email.get("//*[@role='article']")
    found = [(element.get("lang"), element.get("dir")) for element in (email.tree, wrapper)]
    assert found == [(email.site.language, direction)] * 2


def test_an_email_has_a_title(email: Email) -> None:
    """The title and the label of the wrapper are the subject."""
    label = email.get("//*[@role='article']").get("aria-label")
    assert (text_of(email.get("//title")), label) == (email.rendered.subject,) * 2


def test_screen_readers_ignore_layout_tables(email: Email) -> None:
    """Only tables without headings have the role `presentation`."""
    roles = {
        (bool(table.xpath("tr/th | */tr/th")), table.get("role")) for table in email.all("//table")
    }
    assert roles - {(False, "presentation"), (True, None)} == set()


def test_no_text_is_small(email: Email) -> None:
    """No text is smaller than 13 pixels, not even in conditional comments."""
    sizes = re.findall(r"font-size:\s*([^;}\"]+)", email.html)
    assert [
        size for size in sizes if not re.fullmatch(r"(1[3-9]|[2-9][0-9])px", size.strip())
    ] == []


def test_the_preheader_comes_first(email: Email) -> None:
    """The first element of an email is the hidden preheader of 40 to 130 characters."""
    first = email.get("//body/*[1]")
    hidden = "display:none;max-height:0;overflow:hidden;mso-hide:all;"
    assert "".join(first.get("style", "").split()) == hidden
    assert text_of(first).startswith(render_preheader(email.digest.posts))
    assert columns(text_of(first)) >= 40
    assert len(text_of(first)) <= 130


def test_a_short_preheader_is_extended(make_site: MakeSite, emails: dict[str, Email]) -> None:
    """A short preheader is extended with texts of the site until it is long enough."""
    assert text_of(emails["bare 2026-11"].get("//body/*[1]")) == (
        "A title is all there is · News · November 2026"
    )
    site_dir = make_site(
        {"posts/2026-11-20-a.md": "# An apprentice"}, "digest: {intro: Our month.}"
    )
    assert text_of(emails_of(site_dir)["2026-11"].get("//body/*[1]")) == (
        "An apprentice · Our month. · Example News"
    )


def test_the_preheader_is_not_in_the_text(email: Email) -> None:
    """The text part does not contain the preheader."""
    several = len(email.digest.posts) > 1
    line = text_of(email.get("//body/*[1]"))
    assert not (several and line in email.text)


def test_conditional_comments_are_complete(email: Email) -> None:
    """Conditional comments survive the inlining of styles, and tables in them are closed."""
    begun, ended = email.html.count("<!--[if "), email.html.count("<![endif]-->")
    inside = "".join(re.findall(r"<!--\[if mso\]>(.*?)<!\[endif\]-->", email.html, re.DOTALL))
    opened = [inside.count(f"<{tag}") for tag in ("table", "tr", "td")]
    closed = [inside.count(f"</{tag}>") for tag in ("table", "tr", "td")]
    assert (begun, opened) == (ended, closed)
    assert min(opened) > 0


@pytest.mark.parametrize(
    "rule", ["@media (prefers-color-scheme: dark)", "[data-ogsc] ", "[data-ogsb] ", ":root"]
)
def test_dark_mode_rules_survive_the_inlining(email: Email, rule: str) -> None:
    """The rules of dark mode stay in a style element, because attributes cannot hold them."""
    assert rule in str(email.tree.xpath("string(//head/style)"))


def test_styles_are_inlined(email: Email) -> None:
    """Every heading, paragraph and link has its styles in an attribute."""
    bare = [p for p in email.all("//h1 | //h2 | //p | //a") if not p.get("style")]
    assert bare == []


# Text direction and the contact block.


def test_a_phone_number_reads_from_left_to_right(email: Email) -> None:
    """Phone numbers are `tel:` links with the direction `ltr`, even in a right-to-left text."""
    contact = email.site.contact
    found = [
        (text_of(a), a.get("dir"), a.get("href"))
        for a in email.all("//a[starts-with(@href, 'tel:') and @dir]")
    ]
    assert found == [
        (number, "ltr", "tel:+" + re.sub(r"\(0\)|\D", "", number))
        for number in (contact.phone, contact.tel)
        if number
    ]


def test_a_postal_address_keeps_its_lines(email: Email) -> None:
    """Both parts keep the lines of the postal address, from left to right."""
    lines = email.site.contact.address.splitlines()
    found = [
        [line.strip() for line in element.xpath("text()")]
        for element in email.all("//span[@dir='ltr']")
    ]
    in_text = [line.strip() for line in email.text.splitlines() if line.startswith("  ")]
    assert (found, in_text[-len(lines) :] if lines else []) == ([lines] if lines else [], lines)


def test_posts_have_the_direction_of_their_language(email: Email) -> None:
    """Title, text and summary of a post have the direction of its language."""
    directions = {"": "rtl" if email.site.language == "ar" else "ltr", "ar": "rtl"}
    found = [
        (element.get("lang") or "", element.get("dir"))
        for element in email.all(
            "//h2[a] | //*[@class='body'] | //div[h1]"
            " | //p[contains(@class, 'summary') and not(contains(@class, 'soft'))]"
        )
    ]
    assert found
    assert found == [(lang, directions.get(lang, "ltr")) for lang, _ in found]


def test_an_arabic_title_may_begin_with_a_latin_name(make_site: MakeSite) -> None:
    """The first character of a title does not decide its direction."""
    title = "Example Magnets توقع اتفاقية"
    files = {f"posts/2026-11-0{day}-a{day}.md": f"# {title}\n\nText.\n" for day in (1, 2)}
    folder = make_site({"posts/2026-10-01-b.md": f"# {title}\n\nText.\n", **files})
    settings = folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("language: en", "language: ar"))
    made = emails_of(folder)
    titles = made["2026-11"].all("//h2[a]") + made["2026-10"].all("//h1/..")
    assert [element.get("dir") for element in titles] == ["rtl", "rtl", "rtl"]


def test_contact_data_has_automatic_direction(email: Email) -> None:
    """Names and email addresses in the contact block have the direction `auto`."""
    data = email.all(
        "//td[contains(@class, 'contact')]//a[contains(., '@')]"
        " | //*[@class='half']//b | //*[@class='half']//p[1]/span"
    )
    other = [text_of(element) for element in data if element.get("dir") != "auto"]
    assert [label for label in other if label not in _labels(email)] == []


def _labels(email: Email) -> set[str]:
    texts = Theme(ROOT, email.site.language).translations.texts
    return {texts[name] for name in ("phone", "tel", "email", "postal_address", "leave_message")}


@pytest.mark.parametrize(
    "field", ["organization", "name", "phone", "tel", "email", "address", "message"]
)
def test_the_contact_block_is_complete(email: Email, field: str) -> None:
    """Both parts contain every contact field of the settings."""
    value = str(getattr(email.site.contact, field))
    if field == "message" and value.startswith("/"):
        value = email.site.url + value[1:]
    foot = email.all("//td[contains(@class, 'contact')]")
    seen = "\n".join(
        [*map(text_of, foot), *(a.get("href", "") for td in foot for a in td.iter("a"))]
    )
    flat = " ".join(email.text.rpartition("-" * 72)[2].split())
    missing = [line for line in value.splitlines() if line not in seen or line not in flat]
    assert missing == []


# Text part, and content of both parts.


def test_lines_of_text_are_short(email: Email) -> None:
    """No line has more than 72 columns, except code and text that cannot be broken."""
    long = [line for line in email.text.splitlines() if columns(line) > 72]
    assert [line for line in long if not line.startswith("    ") and len(line.split()) > 2] == []


def columns(line: str) -> int:
    """Return the width of a line in columns (UAX #11)."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line)


def test_the_text_is_plain(email: Email) -> None:
    """The text part has no mark-up, no double blank lines and no trailing spaces."""
    ends = [line for line in email.text.splitlines() if line != line.rstrip()]
    marks = re.findall(r"</?(?:p|a|div|br|b|span|table)\b|&(?:amp|lt|gt|quot|#\d+);", email.text)
    assert (ends, marks, "\n\n\n" in email.text, email.text[-1]) == ([], [], False, "\n")


# The text part names these by a description, without their URL.
ONLY_DESCRIBED = {
    "https://news.example.com/company/posts/whole/picture.png",
    "https://video.example/1",
}


def test_both_parts_have_the_same_links(email: Email) -> None:
    """Every link of one part is in the other, except those to images and videos."""
    links = {urldefrag(link.get("href", ""))[0]: text_of(link) for link in email.all("//a")}
    missing = {address for address, shown in links.items() if not _in_text(address, shown, email)}
    written = {urldefrag(address)[0] for address in ADDRESS.findall(email.text)}
    assert (missing - ONLY_DESCRIBED, written - set(links)) == (set(), set())


def _in_text(address: str, shown: str, email: Email) -> bool:
    says_it = address in {f"mailto:{shown}", "tel:+" + re.sub(r"\(0\)|\D", "", shown)}
    return (shown if says_it else address) in email.text


def test_every_title_is_in_both_parts(email: Email) -> None:
    """Every heading of the HTML is in the text."""
    flat = " ".join(email.text.split())
    headings = email.all("//h1 | //h2 | //h3 | //h4")
    assert [text_of(element) for element in headings if text_of(element) not in flat] == []


# Images.


def email_with(make_site: MakeSite, markdown: str) -> Email:
    """Return the email of a post with this Markdown and an image."""
    files: dict[str, str | bytes] = {
        "posts/2026-11-20-post.md": f"# A post\n\n{markdown}\n",
        "posts/a.png": sites.IMAGE,
    }
    return emails_of(make_site(files))["2026-11"]


IMAGE = "https://news.example.com/posts/post/a.png"


@pytest.mark.parametrize(
    ("markdown", "links"),
    [
        ('![A "view" > sea & sky](a.png)', [(IMAGE, 'A "view" > sea & sky')]),
        ("![](a.png)", []),
        ("[![Ship](a.png)](https://ship.example/)", [("https://ship.example/", "Ship")]),
        ("[![](a.png)](https://ship.example/)", [("https://ship.example/", "a.png")]),
        ("[A ![ship](a.png)](https://ship.example/)", [("https://ship.example/", "A ship")]),
    ],
    ids=["described", "not described", "linked", "linked, not described", "in the text of a link"],
)
def test_an_image_becomes_its_alternative_text(
    make_site: MakeSite, markdown: str, links: list[tuple[str, str]]
) -> None:
    """An image becomes a link with its alternative text, or the text of the link around it."""
    email = email_with(make_site, markdown)
    body = email.get("//div[@class='body']")
    assert [(a.get("href"), text_of(a)) for a in body.iter("a")] == links


def test_an_image_is_labelled(make_site: MakeSite) -> None:
    """The link that replaces an image is labelled, so that it does not read as text."""
    email = email_with(make_site, "Words ![A ship](a.png) and words.")
    assert text_of(email.get("//span[@class='image']")) == "Image: A ship"


def test_a_single_post_names_its_authors_and_its_enclosure(make_site: MakeSite) -> None:
    """An email of a single post names the authors and links the enclosure."""
    head = "authors: [Ann Lee, Bo Li]\nenclosure: talk.mp3\n"
    files: dict[str, str | bytes] = {
        "posts/2026-11-20-post.md": f"---\ntitle: A post\n{head}---\nText.\n",
        "posts/talk.mp3": b"ID3",
    }
    email = emails_of(make_site(files))["2026-11"]
    assert text_of(email.get("//p[contains(@class, 'byline')]")) == "By Ann Lee · Bo Li"
    file = "https://news.example.com/posts/post/talk.mp3"
    assert (file in email.links, "https://news.example.com/posts/post/" in email.links) == (
        True,
        True,
    )
    assert f"Attachment:\n{file}\n" in email.text
    assert "\nBy Ann Lee · Bo Li\n" in email.text


# Personal links.


UNSUBSCRIBE, PREFERENCES = (
    "https://list.example/list/unsubscribe/x",
    "https://list.example/list/prefer/x",
)


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "ar", "he", "zh"])
def test_a_subscriber_can_unsubscribe(make_site: MakeSite, language: str) -> None:
    """Both parts of a subscriber's email say why it came, and link both personal pages."""
    site_dir = make_site({"posts/2026-11-20-post.md": "# A post\n\nText.\n"})
    site = evolve(load_settings(site_dir), language=language)
    (digest,) = group_by_period(loader.load_posts(site_dir, site, AT).posts, site)
    theme = Theme(site_dir, language)
    own = render_email(digest, site, theme, unsubscribe=UNSUBSCRIBE, preferences=PREFERENCES)
    foot = lxml_html.document_fromstring(own.html).xpath("//td[contains(@class, 'personal')]")[0]
    texts = theme.translations.texts
    why = texts["because"].format(site.title)
    assert [(a.get("href"), text_of(a)) for a in foot.iter("a")] == [
        (UNSUBSCRIBE, texts["unsubscribe"]),
        (PREFERENCES, texts["preferences"]),
    ]
    assert why in text_of(foot)
    assert why in " ".join(own.text.split())
    assert (
        f"{texts['unsubscribe']}:\n{UNSUBSCRIBE}\n{texts['preferences']}:\n{PREFERENCES}\n"
        in own.text
    )


def test_the_public_email_has_no_personal_links(email: Email) -> None:
    """The email on the web has no personal block."""
    assert email.all("//td[contains(@class, 'personal')]") == []


def test_nothing_links_to_the_preferences_page(folders: dict[str, Path], tmp_path: Path) -> None:
    """Neither the output nor an issue links to the preferences page, which does not exist yet."""
    site_dir = folders["german"]
    output = sites.build(site_dir, tmp_path / "out")
    site = load_settings(site_dir)
    site = evolve(site, mail=evolve(site.mail, unsubscribe="https://list.example/"))
    posts = {post.id: post for post in loader.load_posts(site_dir, site, AT).posts}
    issue = Issue("month", Cursor(AT.date()), tuple(posts), "")
    email = render_issue(issue, posts, site, Theme(site_dir, site.language))
    page = preferences_url(site, "").removeprefix("https://list.example/")
    files = [path for path in output.rglob("*") if path.is_file()]
    assert [path for path in files if page.encode() in path.read_bytes()] == []
    assert unsubscribe_url(site) in email.html
    assert page not in email.html + email.text


def test_task_list_boxes_are_characters(make_site: MakeSite) -> None:
    """The boxes of a task list are characters and replace the bullets."""
    email = email_with(make_site, "- [x] Done\n- [ ] To do")
    items = [(text_of(item), item.get("class")) for item in email.all("//li")]
    assert items == [("☑ Done", "task"), ("☐ To do", "task")]


# Colours.

COLOUR = st.integers(0, 0xFFFFFF).map("#{:06x}".format)


@settings(deadline=None)
@given(accent=COLOUR)
def test_any_accent_is_readable(accent: str) -> None:
    """Links and buttons have a contrast of 4.5 or more with any accent."""
    colours = theme_colours(ThemeSettings(accent))
    pairs = [
        (colours.accent, PAPER),
        (colours.on_accent, colours.accent),
        (colours.accent_dark, PAPER_DARK),
        (PAPER_DARK, colours.accent_dark),
    ]
    assert [pair for pair in pairs if contrast(*pair) < 4.5] == []


def test_a_readable_accent_is_unchanged() -> None:
    """A colour that is dark enough is used unchanged."""
    assert theme_colours(ThemeSettings("#0b6b62")).accent == "#0b6b62"


# Golden output.


@pytest.mark.parametrize("kind", ["html", "txt"])
def test_the_email_of_the_demonstration_is_golden(emails: dict[str, Email], kind: str) -> None:
    """The email of February 2024 equals the reviewed one, byte for byte."""
    rendered = emails["demo 2024-02"].rendered
    made = {"html": rendered.html, "txt": rendered.text}[kind]
    path = GOLDEN / f"email.{kind}"
    if os.environ.get("POSTROOM_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.encode())
    hint = "if the change is intended: POSTROOM_GOLDEN=write make test, and review the email"
    assert made.encode() == path.read_bytes(), hint
