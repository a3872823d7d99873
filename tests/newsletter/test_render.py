"""Letters as everyone sees them: what they hold, and the rules that mail programs make."""

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
from postroom.models import Digest, Site, ThemeSettings
from postroom.newsletter.render import (
    MAX_HTML_BYTES,
    RenderedEmail,
    render_email,
    render_preheader,
    render_subject,
)
from postroom.posts import loader
from postroom.scheduling.periods import group_by_period
from postroom.settings.site import load_settings
from postroom.theme.environment import PAPER, PAPER_DARK, Theme, theme_colours
from tests.support import sites
from tests.support.site import AT, ROOT, CommandResult, MakeSite

GOLDEN = Path(__file__).parents[1] / "golden" / "demo"
ADDRESS = re.compile(r"(?:https?://|mailto:|tel:)\S+[^\s.,;:)\]]")


@frozen
class Letter:
    """A letter, what it was made of, and its HTML as a browser's parser reads it."""

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

    def one(self, path: str) -> lxml_html.HtmlElement:
        """Return the only element at an XPath."""
        (element,) = self.all(path)
        return element

    @property
    def links(self) -> list[str]:
        """The address of every link of the HTML part."""
        return [link.get("href", "") for link in self.all("//a")]


def letters_of(site_dir: Path) -> dict[str, Letter]:
    """Return the letter of every period of a newsroom."""
    site = load_settings(site_dir)
    theme = Theme(site_dir, site.language)
    found = {}
    for digest in group_by_period(loader.load_posts(site_dir, site, AT).posts, site):
        rendered = render_email(digest, site, theme)
        tree = lxml_html.document_fromstring(rendered.html)
        found[digest.period] = Letter(site, digest, rendered, tree)
    return found


def words(element: lxml_html.HtmlElement) -> str:
    """Return the words of an element on one line."""
    return " ".join(element.text_content().split())


CASES = [
    "demo 2023-12",
    "demo 2024-01",
    "demo 2024-02",
    "german 2026-10",
    "german 2026-11",
    "arabic 2026-11",
    "chinese 2026-11",
    "bare 2026-11",
    "stress 2026-W46",
    "stress 2026-W47",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of every newsroom that there is to look at."""
    return sites.write_all(tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def letters(folders: dict[str, Path]) -> dict[str, Letter]:
    """Return the letters of those newsrooms."""
    return {
        f"{name} {period}": letter
        for name, folder in folders.items()
        for period, letter in letters_of(folder).items()
    }


@pytest.fixture(params=CASES)
def letter(request: pytest.FixtureRequest, letters: dict[str, Letter]) -> Letter:
    """Return each letter in turn."""
    return letters[request.param]


def test_no_letter_is_left_out(letters: dict[str, Letter]) -> None:
    """Every letter of every newsroom is looked at below."""
    assert sorted(letters) == sorted(CASES)


# What a letter holds.


def test_several_posts_stand_as_summaries(letters: dict[str, Letter]) -> None:
    """A letter of several posts has the title, the link and the summary of each, newest first."""
    letter = letters["demo 2024-02"]
    headings = [(words(h2), h2.xpath("string(a/@href)")) for h2 in letter.all("//h2[a]")]
    summaries = [words(p) for p in letter.all("//p[contains(@class, 'summary')]")]
    expected = letter.digest.posts
    assert (headings, summaries) == (
        [(post.title, post.url) for post in expected],
        [post.summary for post in expected],
    )


def test_one_post_stands_whole(letters: dict[str, Letter]) -> None:
    """A letter of one post holds its whole text, in both parts."""
    letter = letters["stress 2026-W47"]
    (post,) = letter.digest.posts
    cells = [words(cell) for cell in letter.all("//th")]
    assert (cells[:2], post.text in letter.text) == (["A", "table"], True)


def test_headings_of_a_post_stand_below_its_title(letters: dict[str, Letter]) -> None:
    """The title of a lone post is the letter's, and the post's own headings come below."""
    headings = letters["stress 2026-W47"].all("//h1 | //h2 | //h3 | //h4 | //h5 | //h6")
    assert [(heading.tag, words(heading)[:14]) for heading in headings] == [
        ("h1", "One post with "),
        ("h2", "A heading of t"),
        ("h3", "Rindfleischeti"),
        ("h2", "Contact"),
    ]


def test_a_digest_too_long_is_cut(make_site: MakeSite) -> None:
    """Of 200 posts as many are shown as fit in 90 KB; a link says how many more there are."""
    files = {
        f"posts/2026-11-{day:02}-{day}-{number}.md": f"# Post {day}.{number}\n\n{'Words. ' * 40}"
        for day in range(1, 21)
        for number in range(10)
    }
    letter = letters_of(make_site(files))["2026-11"]
    shown = [words(h2) for h2 in letter.all("//h2[a]")]
    (more,) = [a for a in letter.all("//a") if words(a).endswith("more posts on the web")]
    size = len(letter.html.encode())
    assert (words(more), more.get("href")) == (
        f"{200 - len(shown)} more posts on the web",
        "https://news.example.com/digest/2026-11/",
    )
    assert f"{words(more)}\n{more.get('href')}\n" in letter.text
    assert shown == [post.title for post in letter.digest.posts[: len(shown)]]
    assert MAX_HTML_BYTES - 2_000 < size <= MAX_HTML_BYTES


def test_a_post_too_long_stands_as_its_summary(make_site: MakeSite) -> None:
    """A lone post that is too long for a letter stands with its summary and the link to it."""
    post = f"---\nsummary: In short.\n---\n# A long story\n\n{'Many words. ' * 10_000}"
    letter = letters_of(make_site({"posts/2026-11-20-long.md": post}))["2026-11"]
    summaries = [words(p) for p in letter.all("//p[contains(@class, 'summary')]")]
    assert (summaries, "Many words" in letter.html + letter.text) == (["In short."], False)
    assert "https://news.example.com/posts/long/" in letter.links


def test_a_post_taken_back_is_a_notice(letters: dict[str, Letter]) -> None:
    """Of a withdrawn post a letter has the title and the notice, in both parts, and no more."""
    letter = letters["stress 2026-W46"]
    notice = "This post was withdrawn on 20 November 2026."
    assert (notice in letter.html, notice in letter.text) == (True, True)
    assert "This text stands nowhere" not in letter.html + letter.text


def test_a_lone_post_taken_back_is_a_notice(letters: dict[str, Letter]) -> None:
    """A withdrawn post that is alone in its letter leaves nothing of its text either."""
    letter = letters["german 2026-10"]
    assert "Dieser Text steht nirgends mehr" not in letter.html + letter.text
    assert words(letter.one("//body/*[1]")).startswith("Ein neuer Lehrling · ")


def test_the_introduction_stands_in_both_parts(letters: dict[str, Letter]) -> None:
    """The settings' introduction opens the HTML and the text."""
    letter = letters["demo 2024-02"]
    intro = "Here is what we have published since our last email."
    assert (letter.site.digest.intro, intro in letter.html, f"\n{intro}\n" in letter.text) == (
        intro,
        True,
        True,
    )


def test_without_contact_data_there_is_no_contact_block(letters: dict[str, Letter]) -> None:
    """A newsroom that names no contact has no empty block at the foot of its letters."""
    letter = letters["bare 2026-11"]
    headings = letter.all("//h1 | //h2")
    assert [words(heading) for heading in headings] == ["A title is all there is"]
    assert "Contact" not in letter.text


@pytest.mark.parametrize("name", ["demo 2024-02", "german 2026-10", "german 2026-11"])
def test_build_and_digest_show_the_same_letter(
    folders: dict[str, Path], name: str, tmp_path: Path, postroom: Callable[..., CommandResult]
) -> None:
    """The files that `build` writes are what `digest` shows."""
    site_dir, period = folders[name[:-8]], name[-7:]
    written = sites.build(site_dir, tmp_path / "out") / "digest" / period
    shown = [postroom(site_dir, "digest", period, form).out for form in ("--html", "--text")]
    assert [(written / f"email.{kind}").read_text() for kind in ("html", "txt")] == shown


def test_composing_twice_gives_the_same_letter(folders: dict[str, Path]) -> None:
    """The same posts make the same letters, to the byte."""
    first, second = letters_of(folders["stress"]), letters_of(folders["stress"])
    assert [one.rendered for one in first.values()] == [one.rendered for one in second.values()]


# The subject and the line beside it.


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
def test_the_subject_is_filled_in(letters: dict[str, Letter], pattern: str, expected: str) -> None:
    """The settings' subject has its fields filled in, and everything else stays as written."""
    letter = letters["demo 2024-02"]
    site = evolve(letter.site, digest=evolve(letter.site.digest, subject=pattern))
    assert render_subject(letter.digest, site, Theme(ROOT, "en")) == expected


def test_a_title_is_not_filled_in_again(letters: dict[str, Letter]) -> None:
    """A title that looks like a field is a title."""
    letter = letters["demo 2024-02"]
    site = evolve(letter.site, title="The {period} News")
    assert (
        render_subject(letter.digest, site, Theme(ROOT, "en")) == "The {period} News: February 2024"
    )


def test_a_lone_post_is_announced_by_its_summary(letters: dict[str, Letter]) -> None:
    """Beside the subject a mailbox shows the summary of a lone post."""
    (post,) = letters["stress 2026-W47"].digest.posts
    assert render_preheader((post,)) == post.summary


def test_several_posts_are_announced_by_their_titles(letters: dict[str, Letter]) -> None:
    """Beside the subject a mailbox shows the titles, cut at a word after 130 characters at most."""
    assert render_preheader(letters["demo 2024-02"].digest.posts) == (
        "Magnet makers outside Asia get ready to produce more · What two European magnet makers"
        " ask for · US Department of Defense backs…"
    )


def test_a_line_without_blanks_is_cut_too(letters: dict[str, Letter]) -> None:
    """A Chinese summary, which has no blanks to be cut at, fills the line beside the subject."""
    (post,) = letters["chinese 2026-11"].digest.posts
    long = evolve(post, summary="港口新泊位启用" * 40)
    assert render_preheader((long,)) == ("港口新泊位启用" * 40)[:129] + "…"


# The rules of the HTML part.


def test_a_letter_is_small(letter: Letter) -> None:
    """The HTML has at most 90 KB, or Gmail would cut it."""
    assert len(letter.html.encode()) <= 90_000


def test_a_letter_loads_and_runs_nothing(letter: Letter) -> None:
    """No element of a letter loads, runs or sends anything."""
    forbidden = (
        "img script form input button select textarea link iframe frame object embed applet audio "
        "video source track svg math picture canvas base"
    ).split()
    found = [element.tag for element in letter.tree.iter() if element.tag in forbidden]
    assert found == []


def test_no_style_loads_or_places_anything(letter: Letter) -> None:
    """Styles use nothing that mail programs lack or that loads: no flex, grid, position, images."""
    styles = "\n".join([*letter.tree.xpath("//@style"), *letter.tree.xpath("//style/text()")])
    unsafe = r"\b(?:flex|grid|position|float|url|@import|background-image|expression)\b\s*[:(;]?"
    assert [one for one in re.findall(unsafe, styles) if one] == []


def test_no_event_is_handled(letter: Letter) -> None:
    """No attribute of a letter holds a script."""
    names = Counter(name for element in letter.tree.iter() for name in element.attrib)
    assert [name for name in names if str(name).startswith("on") or name in {"src", "srcset"}] == []


def test_every_link_is_absolute(letter: Letter) -> None:
    """Every link leads somewhere from inside a mail program."""
    assert [link for link in letter.links if not ADDRESS.fullmatch(link)] == []


def test_every_link_has_words_of_its_own(letter: Letter) -> None:
    """Every link says where it leads, none says `here` or `read more`."""
    empty = {"", "click here", "here", "read more", "more", "link"}
    assert [link.get("href") for link in letter.all("//a") if words(link).lower() in empty] == []


def test_there_is_one_title(letter: Letter) -> None:
    """A letter has one first-level heading, and below it no level is skipped."""
    headings = letter.all(
        "//*[self::h1 or self::h2 or self::h3 or self::h4 or self::h5 or self::h6]"
    )
    levels = [int(str(heading.tag)[1]) for heading in headings]
    skipped = [two for one, two in pairwise(levels) if two > one + 1]
    assert (levels.count(1), levels[0], skipped) == (1, 1, [])


def test_a_letter_names_its_language(letter: Letter) -> None:
    """Language and direction stand on the document and on its wrapper, which mail programs keep."""
    direction = "rtl" if letter.site.language == "ar" else "ltr"
    wrapper = letter.one("//*[@role='article']")
    found = [(one.get("lang"), one.get("dir")) for one in (letter.tree, wrapper)]
    assert found == [(letter.site.language, direction)] * 2


def test_a_letter_has_a_title(letter: Letter) -> None:
    """The title and the wrapper's name are the subject."""
    label = letter.one("//*[@role='article']").get("aria-label")
    assert (words(letter.one("//title")), label) == (letter.rendered.subject,) * 2


def test_layout_is_no_table_to_a_screen_reader(letter: Letter) -> None:
    """A table without headings is layout and says so; one with headings is a post's own."""
    roles = {
        (bool(table.xpath("tr/th | */tr/th")), table.get("role")) for table in letter.all("//table")
    }
    assert roles - {(False, "presentation"), (True, None)} == set()


def test_no_text_is_small(letter: Letter) -> None:
    """No text is smaller than 13 pixels, also what only some mail programs see."""
    sizes = re.findall(r"font-size:\s*([^;}\"]+)", letter.html)
    assert [
        size for size in sizes if not re.fullmatch(r"(1[3-9]|[2-9][0-9])px", size.strip())
    ] == []


def test_the_line_beside_the_subject_comes_first(letter: Letter) -> None:
    """The first words of a letter are the hidden line that mailboxes show: 40 letters to 130."""
    first = letter.one("//body/*[1]")
    hidden = "display:none;max-height:0;overflow:hidden;mso-hide:all;"
    assert "".join(first.get("style", "").split()) == hidden
    assert words(first).startswith(render_preheader(letter.digest.posts))
    assert columns(words(first)) >= 40
    assert len(words(first)) <= 130


def test_a_short_line_beside_the_subject_is_filled(letters: dict[str, Letter]) -> None:
    """What is short goes on with what the newsroom says of itself, and no further than needed."""
    assert words(letters["bare 2026-11"].one("//body/*[1]")) == (
        "A title is all there is · News · November 2026"
    )
    assert words(letters["german 2026-10"].one("//body/*[1]")) == (
        "Ein neuer Lehrling · Das war der Monat in unserer Werkstatt."
    )


def test_the_hidden_line_is_hidden_from_the_text(letter: Letter) -> None:
    """The line that only mailboxes show does not stand in the text part."""
    several = len(letter.digest.posts) > 1
    line = words(letter.one("//body/*[1]"))
    assert not (several and line in letter.text)


def test_what_is_for_outlook_alone_is_whole(letter: Letter) -> None:
    """Conditional comments outlive the inlining, and the tables in them are closed."""
    begun, ended = letter.html.count("<!--[if "), letter.html.count("<![endif]-->")
    inside = "".join(re.findall(r"<!--\[if mso\]>(.*?)<!\[endif\]-->", letter.html, re.DOTALL))
    opened = [inside.count(f"<{tag}") for tag in ("table", "tr", "td")]
    closed = [inside.count(f"</{tag}>") for tag in ("table", "tr", "td")]
    assert (begun, opened) == (ended, closed)
    assert min(opened) > 0


@pytest.mark.parametrize(
    "rule", ["@media (prefers-color-scheme: dark)", "[data-ogsc] ", "[data-ogsb] ", ":root"]
)
def test_rules_for_the_night_outlive_the_inlining(letter: Letter, rule: str) -> None:
    """Dark mode stands in a style element, for it cannot stand in attributes."""
    assert rule in str(letter.tree.xpath("string(//head/style)"))


def test_styles_stand_in_attributes(letter: Letter) -> None:
    """A mail program that drops style elements still shows the letter as it was designed."""
    bare = [p for p in letter.all("//h1 | //h2 | //p | //a") if not p.get("style")]
    assert bare == []


# Lines of data, and the foot.


def test_a_phone_number_reads_from_left_to_right(letter: Letter) -> None:
    """Phone numbers are links that dial, and keep their order in a text from right to left."""
    contact = letter.site.contact
    found = [
        (words(a), a.get("dir"), a.get("href"))
        for a in letter.all("//a[starts-with(@href, 'tel:') and @dir]")
    ]
    assert found == [
        (number, "ltr", "tel:+" + re.sub(r"\(0\)|\D", "", number))
        for number in (contact.phone, contact.tel)
        if number
    ]


def test_a_postal_address_keeps_its_lines(letter: Letter) -> None:
    """Each line of the postal address stands on its own, from left to right, in both parts."""
    lines = letter.site.contact.address.splitlines()
    found = [
        [line.strip() for line in element.xpath("text()")]
        for element in letter.all("//span[@dir='ltr']")
    ]
    in_text = [line.strip() for line in letter.text.splitlines() if line.startswith("  ")]
    assert (found, in_text[-len(lines) :] if lines else []) == ([lines] if lines else [], lines)


def test_what_is_written_runs_as_its_language_does(letter: Letter) -> None:
    """Title, text and summary of a post run as its language does, whatever they begin with."""
    directions = {"": "rtl" if letter.site.language == "ar" else "ltr", "ar": "rtl"}
    found = [
        (one.get("lang") or "", one.get("dir"))
        for one in letter.all(
            "//h2[a] | //*[@class='body'] | //div[h1]"
            " | //p[contains(@class, 'summary') and not(contains(@class, 'soft'))]"
        )
    ]
    assert found
    assert found == [(lang, directions.get(lang, "ltr")) for lang, _ in found]


def test_an_arabic_title_may_begin_with_a_latin_name(make_site: MakeSite) -> None:
    """The first letter of a title does not decide which way the title runs."""
    title = "Example Magnets توقع اتفاقية"
    files = {f"posts/2026-11-0{day}-a{day}.md": f"# {title}\n\nText.\n" for day in (1, 2)}
    folder = make_site({"posts/2026-10-01-b.md": f"# {title}\n\nText.\n", **files})
    settings = folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("language: en", "language: ar"))
    made = letters_of(folder)
    titles = made["2026-11"].all("//h2[a]") + made["2026-10"].all("//h1/..")
    assert [one.get("dir") for one in titles] == ["rtl", "rtl", "rtl"]


def test_lines_of_data_find_their_own_direction(letter: Letter) -> None:
    """Names and addresses in the contact block run in the direction of their own letters."""
    data = letter.all(
        "//td[contains(@class, 'contact')]//a[contains(., '@')]"
        " | //*[@class='half']//b | //*[@class='half']//p[1]/span"
    )
    other = [words(one) for one in data if one.get("dir") != "auto"]
    assert [one for one in other if one not in _labels(letter)] == []


def _labels(letter: Letter) -> set[str]:
    texts = Theme(ROOT, letter.site.language).translations.texts
    return {texts[name] for name in ("phone", "tel", "email", "postal_address", "leave_message")}


@pytest.mark.parametrize(
    "field", ["organization", "name", "phone", "tel", "email", "address", "message"]
)
def test_the_foot_names_every_contact(letter: Letter, field: str) -> None:
    """Whatever the settings name as contact stands at the foot of both parts."""
    value = str(getattr(letter.site.contact, field))
    if field == "message" and value.startswith("/"):
        value = letter.site.url + value[1:]
    foot = letter.all("//td[contains(@class, 'contact')]")
    seen = "\n".join([*map(words, foot), *(a.get("href", "") for td in foot for a in td.iter("a"))])
    flat = " ".join(letter.text.rpartition("-" * 72)[2].split())
    missing = [line for line in value.splitlines() if line not in seen or line not in flat]
    assert missing == []


# The text part, and what both parts share.


def test_lines_of_text_are_short(letter: Letter) -> None:
    """No line has more than 72 columns, but for code and what cannot be broken."""
    long = [line for line in letter.text.splitlines() if columns(line) > 72]
    assert [line for line in long if not line.startswith("    ") and len(line.split()) > 2] == []


def columns(line: str) -> int:
    """Return how many columns a line takes (UAX #11)."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line)


def test_the_text_is_plain(letter: Letter) -> None:
    """The text part has no mark-up, no blank lines in rows and no blanks at the ends of lines."""
    ends = [line for line in letter.text.splitlines() if line != line.rstrip()]
    marks = re.findall(r"</?(?:p|a|div|br|b|span|table)\b|&(?:amp|lt|gt|quot|#\d+);", letter.text)
    assert (ends, marks, "\n\n\n" in letter.text, letter.text[-1]) == ([], [], False, "\n")


# The text part describes these and says where the post is.
WORDS_ALONE = {
    "https://news.example.com/company/posts/whole/picture.png",
    "https://video.example/1",
}


def test_both_parts_have_the_same_links(letter: Letter) -> None:
    """Every link of one part stands in the other; of pictures and films the text has the words."""
    links = {urldefrag(link.get("href", ""))[0]: words(link) for link in letter.all("//a")}
    missing = {address for address, shown in links.items() if not _in_text(address, shown, letter)}
    written = {urldefrag(address)[0] for address in ADDRESS.findall(letter.text)}
    assert (missing - WORDS_ALONE, written - set(links)) == (set(), set())


def _in_text(address: str, shown: str, letter: Letter) -> bool:
    says_it = address in {f"mailto:{shown}", "tel:+" + re.sub(r"\(0\)|\D", "", shown)}
    return (shown if says_it else address) in letter.text


def test_every_title_stands_in_both_parts(letter: Letter) -> None:
    """Every title of the HTML stands in the text."""
    flat = " ".join(letter.text.split())
    headings = letter.all("//h1 | //h2 | //h3 | //h4")
    assert [words(one) for one in headings if words(one) not in flat] == []


# Pictures in a letter.


def in_letter(make_site: MakeSite, markdown: str) -> Letter:
    """Return the letter of one post with this text and two pictures beside it."""
    files: dict[str, str | bytes] = {
        "posts/2026-11-20-post.md": f"# A post\n\n{markdown}\n",
        "posts/a.png": sites.IMAGE,
    }
    return letters_of(make_site(files))["2026-11"]


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
    ids=["described", "not described", "linked", "linked, not described", "in a link's words"],
)
def test_a_picture_becomes_its_description(
    make_site: MakeSite, markdown: str, links: list[tuple[str, str]]
) -> None:
    """A letter shows a picture's description as a link to it, or as the words of its link."""
    letter = in_letter(make_site, markdown)
    body = letter.one("//div[@class='body']")
    assert [(a.get("href"), words(a)) for a in body.iter("a")] == links


def test_a_picture_is_named_as_one(make_site: MakeSite) -> None:
    """Where a picture was, the letter says so: a link alone would look like a part of the text."""
    letter = in_letter(make_site, "Words ![A ship](a.png) and words.")
    assert words(letter.one("//span[@class='image']")) == "Image: A ship"


def test_a_lone_post_names_its_authors_and_its_file(make_site: MakeSite) -> None:
    """A letter of one post says who wrote it and leads to the file that belongs to it."""
    head = "authors: [Ann Lee, Bo Li]\nenclosure: talk.mp3\n"
    files: dict[str, str | bytes] = {
        "posts/2026-11-20-post.md": f"---\ntitle: A post\n{head}---\nText.\n",
        "posts/talk.mp3": b"ID3",
    }
    letter = letters_of(make_site(files))["2026-11"]
    assert words(letter.one("//p[contains(@class, 'byline')]")) == "By Ann Lee · Bo Li"
    file = "https://news.example.com/posts/post/talk.mp3"
    assert (file in letter.links, "https://news.example.com/posts/post/" in letter.links) == (
        True,
        True,
    )
    assert f"Attachment:\n{file}\n" in letter.text
    assert "\nBy Ann Lee · Bo Li\n" in letter.text


# What is a subscriber's own.


LEAVE, PREFER = "https://list.example/list/unsubscribe/x", "https://list.example/list/prefer/x"


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "ar", "he", "zh"])
def test_a_subscriber_can_leave(make_site: MakeSite, language: str) -> None:
    """A subscriber's letter says why it comes and how to end or change it, in both parts."""
    site_dir = make_site({"posts/2026-11-20-post.md": "# A post\n\nText.\n"})
    site = evolve(load_settings(site_dir), language=language)
    (digest,) = group_by_period(loader.load_posts(site_dir, site, AT).posts, site)
    theme = Theme(site_dir, language)
    own = render_email(digest, site, theme, unsubscribe=LEAVE, preferences=PREFER)
    foot = lxml_html.document_fromstring(own.html).xpath("//td[contains(@class, 'personal')]")[0]
    texts = theme.translations.texts
    why = texts["because"].format(site.title)
    assert [(a.get("href"), words(a)) for a in foot.iter("a")] == [
        (LEAVE, texts["unsubscribe"]),
        (PREFER, texts["preferences"]),
    ]
    assert why in words(foot)
    assert why in " ".join(own.text.split())
    assert f"{texts['unsubscribe']}:\n{LEAVE}\n{texts['preferences']}:\n{PREFER}\n" in own.text


def test_the_letter_of_everyone_is_nobodys_own(letter: Letter) -> None:
    """The letter that stands on the web has no place where somebody could leave."""
    assert letter.all("//td[contains(@class, 'personal')]") == []


def test_boxes_of_a_task_list_are_words(make_site: MakeSite) -> None:
    """A task list needs no form: its boxes are characters, and take the place of bullets."""
    letter = in_letter(make_site, "- [x] Done\n- [ ] To do")
    items = [(words(item), item.get("class")) for item in letter.all("//li")]
    assert items == [("☑ Done", "task"), ("☐ To do", "task")]


# Colours.

COLOUR = st.integers(0, 0xFFFFFF).map("#{:06x}".format)


@settings(deadline=None)
@given(accent=COLOUR)
def test_any_accent_can_be_read(accent: str) -> None:
    """Whatever colour a newsroom chooses, links and buttons have a contrast of 4.5 or more."""
    shown = theme_colours(ThemeSettings(accent))
    pairs = [
        (shown.accent, PAPER),
        (shown.on_accent, shown.accent),
        (shown.accent_dark, PAPER_DARK),
        (PAPER_DARK, shown.accent_dark),
    ]
    assert [pair for pair in pairs if contrast(*pair) < 4.5] == []


def test_an_accent_that_can_be_read_stays() -> None:
    """A colour that is dark enough is shown as it was chosen."""
    assert theme_colours(ThemeSettings("#0b6b62")).accent == "#0b6b62"


# The demonstration's letter, whole.


@pytest.mark.parametrize("kind", ["html", "txt"])
def test_the_letter_of_the_demonstration_is_golden(letters: dict[str, Letter], kind: str) -> None:
    """The letter of February 2024 is the one that people have looked at, byte for byte."""
    rendered = letters["demo 2024-02"].rendered
    made = {"html": rendered.html, "txt": rendered.text}[kind]
    path = GOLDEN / f"email.{kind}"
    if os.environ.get("POSTROOM_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.encode())
    hint = "if the change is meant: POSTROOM_GOLDEN=write make test, and look at the letter"
    assert made.encode() == path.read_bytes(), hint
