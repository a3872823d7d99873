"""Every rule of check: a site that breaks it has a finding; a site that nearly does has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from attrs import frozen

from postroom.errors import Problem
from postroom.lint.context import LintContext
from postroom.lint.runner import LintTarget, run_rules
from postroom.posts import loader
from postroom.posts.source import scan_folder
from postroom.publish.build import make_outputs
from postroom.publish.output import replace_output
from postroom.rules import RULES
from postroom.settings.site import load_settings
from tests.support.generated_sites import PIXEL
from tests.support.site import AT, CommandResult, MakeSite
from tests.support.site import SETTINGS as REQUIRED

Run = Callable[..., CommandResult]
Files = Mapping[str, str | bytes]
SUMMARY = "Our office has a new address, and we look forward to seeing you there."
LINES = {
    "title": "We moved to a house of our own at the harbour",
    "date": "2026-11-20",
    "id": "tag:news.example.com,2026:moved",
    "summary": SUMMARY,
}
OTHER = {
    "title": "Our second workshop opens its doors in spring",
    "date": "2026-11-02",
    "id": "tag:news.example.com,2026:second",
    "summary": "A second workshop comes, with room for twenty people and for two machines.",
}
FOLLOWS = {"email-preheader"}
"""What a letter of several posts says of titles that are short."""
SETTINGS = "contact: {organization: Example Company}\n"


def post(body: str = "Words.\n", **lines: str | None) -> str:
    """Return a post that is correct except for `lines` and `body`."""
    head = {**LINES, **lines}
    written = "".join(f"{key}: {value}\n" for key, value in head.items() if value is not None)
    return f"---\n{written}---\n{body}"


def other(body: str = "Words.\n", **lines: str) -> str:
    """Return a second post that is correct except for `lines` and `body`."""
    return post(body, **{**OTHER, **lines})


Look = Callable[..., list[Problem]]


@pytest.fixture
def check_site(make_site: MakeSite, tmp_path: Path) -> Look:
    """Return a function that builds a site and runs all rules on it."""

    def problems(
        files: Files | None = None,
        settings: str = "",
    ) -> list[Problem]:
        files = {"posts/a.md": post(), "posts/b.md": other(), **(files or {})}
        folder = make_site(files, settings or SETTINGS)
        site = load_settings(folder)
        scanned = scan_folder(folder, site.posts)
        loaded, drafts = loader.read_every_post(scanned, site, AT)
        output = tmp_path / "output"
        replace_output(output, make_outputs(folder, site, loaded.posts))
        return run_rules(LintContext(site, AT, scanned, loaded, drafts), LintTarget(output))

    return problems


def test_a_correct_site_has_no_finding(check_site: Look) -> None:
    """The site that the broken examples are made of has no finding."""
    assert check_site() == []


@frozen
class Case:
    """A rule, a site that breaks it, and a site that nearly breaks it."""

    rule: str
    broken: Files
    near: Files
    says: str


def a(body: str = "Words.\n", **lines: str | None) -> Files:
    """Return the first post with other lines or another text."""
    return {"posts/a.md": post(body, **lines)}


def beside(body: str, **more: str | bytes) -> Files:
    """Return the first post with `body`, and files beside it (`_` stands for the dot)."""
    return {**a(body), **{f"posts/{name.replace('_', '.')}": data for name, data in more.items()}}


LATER = other(date="2027-01-05")
GONE = other(withdrawn="2026-11-10")
DRAFT = other(draft="true")
UNLISTED = other(unlisted="true")
HELD = other(publishDate="2026-11-23")
OVER = other(expiryDate="2026-11-22")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'
SIZED = b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"></svg>'
POSTS = (
    Case("post-id", a(id=None), a(), "posts/a.md:1: id: is missing"),
    Case("post-key", a(titel="x"), a(weather="x"), "posts/a.md:6:1: titel: is not a key"),
    Case("post-summary", a(summary=None), a(), "posts/a.md:1: summary: is missing"),
    Case("post-summary", a(summary="''"), a(summary=None, draft="true"), "summary: is missing"),
    Case("post-title", a(title="x" * 71), a(title="x" * 70), "posts/a.md:2: title: has 71"),
    Case("post-topic", {**a(topics="[Our news]"), "posts/b.md": other(topics="[our news]")},
         {**a(topics="[Our news]"), "posts/b.md": other(topics="[Our news]")},
         "posts/a.md:6: topics: found 'Our news'; others write 'our news'"),
    Case("post-date-ahead", a(date="2027-05-26"), a(date="2027-05-22"),
         "posts/a.md:3: date: 2027-05-26 is more than half a year ahead"),
    Case("post-date-ahead", a(withdrawn="2062-11-20"), a(withdrawn="2027-01-01"),
         "posts/a.md:6: withdrawn: 2062-11-20 is more than half a year ahead"),
    Case("post-date-ahead", a(updated="2062-11-20"), a(updated="2026-11-21"),
         "posts/a.md:6: updated: 2062-11-20 is more than half a year ahead"),
    Case("post-date-early", a(date="2025-12-31"), a(date="2026-01-01"),
         "posts/a.md:3: date: 2025-12-31 is before 2026-01-01"),
    Case("post-date-order", a(date="2026-11-20", updated="2026-11-19"),
         a(date="2026-11-20 10:00", updated="2026-11-20"),
         "posts/a.md:6: updated: 2026-11-19 is before the date of the post, 2026-11-20"),
    Case("post-date-order", a(date="2026-11-20 10:00", updated="2026-11-20 08:59Z"),
         a(date="2026-11-20 10:00", updated="2026-11-20 09:00Z"),
         "updated: 2026-11-20 is before the date of the post, 2026-11-20"),
    Case("post-date-twin",
         {**a(date="2026-11-20 09:00"), "posts/b.md": other(date="2026-11-20 08:00Z")},
         {**a(date="2026-11-20"), "posts/b.md": other(date="2026-11-20")},
         "posts/b.md:3: date: is the same as that of posts/a.md"),
    Case("post-alt", beside("Words\n\n![](p.png)\n", p_png=PIXEL),
         beside('![A pixel](p.png) <img src="p.png" alt="">\n', p_png=PIXEL),
         "posts/a.md:9:1: 'p.png' has no description"),
    Case("post-alt", {**a(image="p.png"), "posts/p.png": PIXEL},
         {**a(image="{src: p.png, alt: A pixel}"), "posts/p.png": PIXEL},
         "posts/a.md:6: image: 'p.png' has no description"),
    Case("post-image", a("![A pixel](p.png)\n"), beside("![A pixel](p.png)\n", p_png=PIXEL),
         "posts/a.md:7:1: 'p.png' leads to posts/a/p.png, which does not exist"),
    Case("post-image", a("<p>A <img src=p.png alt='A pixel'></p>\n"),
         beside("<p>A <img src='p.png' alt='A pixel'></p>\n", p_png=PIXEL),
         "posts/a.md:7:6: 'p.png'"),
    Case("post-image", beside('<img src="p.png" alt="A" srcset="p.png, q.png 2x">\n', p_png=PIXEL),
         beside('<img src="p.png" alt="A" srcset="p.png 1x,p.png 2x">\n', p_png=PIXEL),
         "'q.png' leads to"),
    Case("post-image-size", beside("![A pixel](p.png)\n", p_png=PIXEL.ljust(1_000_001)),
         beside("![A pixel](p.png)\n", p_png=PIXEL.ljust(1_000_000)), "'p.png' has 1.0 MB"),
    Case("post-image-size",
         {**a(image="{src: p.png, alt: A}"), "posts/p.png": PIXEL.ljust(2_000_000)},
         {**a(image="{src: p.png, alt: A}"), "posts/p.png": PIXEL},
         "posts/a.md:6: image: 'p.png' has 2.0 MB"),
    Case("post-image-pixels", beside("![A](p.svg)\n", p_svg=SVG),
         beside("![A](p.svg)\n", p_svg=SIZED), "'p.svg' has no width"),
    Case("post-image-pixels", a("![A](https://pictures.example/a.png)\n"),
         a('<img src="https://pictures.example/a.png" alt="A" width="1" height="1">\n'),
         "is on another site"),
    Case("post-heading", a("### Deep\n"), a("## Fine\n\n### Deep\n\n## Up\n"),
         "posts/a.md:7:1: the first heading is of level 3; write it with ##"),
    Case("post-heading", a("# One\n\n### Deep\n"), a("# One\n\n## Deep\n"),
         "posts/a.md:9:1: a heading of level 3 follows one of level 1; write it with ##"),
    Case("post-heading", a("<h2>One</h2>\n\n<h4>Deep</h4>\n"), a("<h2>A</h2>\n\n### B\n"),
         "posts/a.md:9:1: a heading of level 4 follows one of level 2"),
    Case("post-link-words", a("See *also* [here](https://a.example/).\n"),
         a("See [our report](https://a.example/), <https://b.example/>.\n"),
         "posts/a.md:7:12: the link to 'https://a.example/' says 'here'"),
    Case("post-link-words", a("[Click **here**!](https://a.example/)\n"),
         a("[Here we stand](https://a.example/)\n"), "says 'Click here!'"),
    Case("post-link-words", a('<a href="https://a.example/">Hier klicken</a>\n'),
         a('<a href="https://a.example/">Hier klicken <b>Sie nicht</b></a>\n'), "posts/a.md:7:1:"),
    Case("post-link-words",
         beside('<a href="https://a.example/"><img src="p.png" alt=""></a>\n', p_png=PIXEL),
         beside("[![A plan](p.png)](https://a.example/)\n", p_png=PIXEL), "says ''"),
    Case("post-link", a("Words\nand [more of it](nothing.md).\n"), a("[More of it](b.md).\n"),
         "posts/a.md:8:5: 'nothing.md' is not a file in posts/"),
    Case("post-link", a("[More of it](2026-11-02-b.md).\n"), a("[More of it](./b.md).\n"),
         "did you mean 'b.md'?"),
    Case("post-link", a("[Our past](/past/).\n"), a("[Our year](/archive/2026/).\n"),
         "posts/a.md:7:1: '/past/' leads to past/index.html, which does not exist"),
    Case("post-link", a("[Our past](https://news.example.com/past/).\n"),
         a("[Past](https://news.example.com/posts/b) [left](/list/x) [home](/) [f](/atom.xml)\n"),
         "leads to past/index.html"),
    Case("post-link", a("[A script](javascript:x())\n"), a("[Call us](tel:+49301234567)\n"),
         "'javascript:x()' is left out of the output"),
    Case("post-link", a("[Odd one](http://[odd)\n"), a("[Even one](http://even.example)\n"),
         "is not a valid URL"),
    Case("post-link", a("[Our map](https://)\n"), a("[Our town](https://a.example/Köln#Mitte)\n"),
         "posts/a.md:7:1: 'https://' is not a valid URL; correct it"),
    Case("post-link", a("[Call us](tel:soon)\n"), a("[Write](mailto:a@b.example?subject=A b)\n"),
         "'tel:soon' is not a phone number"),
    Case("post-link", a("[Our map]()\n"), a("[Our map](/)\n"), "the link has no URL"),
    Case("post-link", a('<iframe src="/film" title="A film"></iframe>\n'),
         a('<iframe src="https://films.example/" title="A film"></iframe>\n'), "'/film' leads to"),
    Case("post-link-unpublished", {**a("[More of it](b.md)\n"), "posts/b.md": DRAFT},
         {**a("[More of it](b.md)\n"), "posts/b.md": other()},
         "posts/a.md:7:1: 'b.md' leads to posts/b.md, which is a draft"),
    Case("post-link-unpublished", {**a("[More of it](/posts/b/)\n"), "posts/b.md": LATER},
         {**a("[More of it](b.md)\n", date="2027-01-06"), "posts/b.md": LATER},
         "'/posts/b/' leads to posts/b.md, which is scheduled for 2027-01-05"),
    Case("post-link-unpublished", {**a("[More of it](b.md)\n"), "posts/b.md": UNLISTED},
         {**a("[More of it](b.md)\n"), "posts/b.md": other(unlisted="false")},
         "posts/a.md:7:1: 'b.md' leads to posts/b.md, which is a draft"),
    Case("post-link-unpublished", {**a("[More of it](b.md)\n"), "posts/b.md": HELD},
         {**a("[More of it](b.md)\n", publish_date="2026-11-23"), "posts/b.md": HELD},
         "'b.md' leads to posts/b.md, which is scheduled for 2026-11-23"),
    Case("post-link-expired", {**a("[More of it](b.md#why)\n"), "posts/b.md": OVER},
         {**a("[More of it](b.md)\n"), "posts/b.md": other(expiryDate="2026-11-23")},
         "posts/a.md:7:1: 'b.md#why' leads to posts/b.md, which expires on 2026-11-22"),
    Case("post-link-expired",
         {**a("[More of it](/posts/b/)\n", date="2026-11-23"),
          "posts/b.md": other(expiryDate="2026-11-23")},
         {**a("[More of it](/posts/b/)\n", date="2026-11-23"),
          "posts/b.md": other(expiryDate="2026-11-23 01:00")},
         "'/posts/b/' leads to posts/b.md, which expires on 2026-11-23"),
    Case("post-date-ahead", a(publishDate="2027-08-01"), a(publishDate="2027-05-01"),
         "publishDate: 2027-08-01 is more than half a year ahead"),
    Case("post-link-withdrawn", {**a("[More of it](b.md)\n"), "posts/b.md": GONE},
         {**a(), "posts/b.md": other("[Not shown](nothing.md)\n", withdrawn="2026-11-10")},
         "posts/b.md, which was withdrawn on 2026-11-10"),
    Case("post-character", a("Wor\x0bds.\n"), a("Wor\x85ds.\n"),
         "posts/a.md:7:4: the character U+000B is left out, because no feed can hold it"),
    *(Case("post-emphasis", a(f"{written}\n"), a(f"{near}\n"),
           f"posts/a.md:7:{column}: the signs of '{shown}' are shown")
      for written, near, column, shown in (
          ("请注意**“特价”**优惠。", "请注意 **“特价”** 优惠。**特价**优惠。", 4, "**“特价”**"),
          ("これは**「大事」**です", "「**大事**」 `**「大事」**`です", 4, "**「大事」**"),
          ("旧~~“价”~~格", "2**3**4 and \\*\\*“价”\\*\\*格", 2, "~~“价”~~"))),
    *(Case("attachment-active", beside(f"[Our map]({name.replace('_', '.')})\n", **{name: data}),
           beside("[Our map](map.svg)\n", map_svg=SIZED),
           f"posts/a.md:7:1: '{name.replace('_', '.')}' may run scripts on the site")
      for name, data in (("map_html", "<p>Our map"), ("map_js", "alert()"), ("map_xhtml", "<p/>"),
                         ("map_svg", '<svg onload="alert()"/>'), ("map_xml", "<script/>"))),
    Case("post-anchor", {**a("[Why](b.md#why)\n"), "posts/b.md": other("Words.\n")},
         {**a("[Why](b.md#why)\n"), "posts/b.md": other('<a id="why"></a>Because.\n')},
         "posts/a.md:7:1: 'b.md#why' leads to '#why', which posts/b/index.html does not have"),
    Case("post-anchor", a("[Why](#why)\n"), a('[Why](#why) [up](#top) <p id="why">So.</p>\n'),
         "'#why' leads to '#why'"),
    Case("page-title", {**a(), "posts/b.md": other(title=LINES["title"])}, a(),
         "posts/a.md:2: title: is also the title of posts/b.md"),
)  # fmt: skip


@pytest.mark.parametrize("case", POSTS, ids=lambda case: case.rule)
def test_faults_in_posts_are_found(case: Case, check_site: Look) -> None:
    """A post that breaks a rule is reported with its line, and by that rule alone."""
    found = check_site(case.broken)
    assert {problem.rule for problem in found} - FOLLOWS == {case.rule}
    findings = [str(problem) for problem in found if problem.rule == case.rule]
    assert any(case.says in line for line in findings), findings


@pytest.mark.parametrize("case", POSTS, ids=lambda case: case.rule)
def test_posts_that_nearly_break_a_rule_pass(case: Case, check_site: Look) -> None:
    """A post that nearly breaks a rule has no finding of it."""
    assert [str(problem) for problem in check_site(case.near) if problem.rule == case.rule] == []


ENTRY = "<id>tag:news.example.com,2026:second</id>"
FEED = "atom.xml"
OUTPUT = {
    "feed-xml": (FEED, "</feed>", ""),
    "feed-json": ("feed.json", "{", "["),
    "feed-size": (FEED, "<entry>", f"<entry><!--{'x' * 5_000_000}-->"),
    "feed-id": (FEED, ENTRY, ENTRY.replace("second", "moved")),
    "feed-guid": ("rss.xml", 'isPermaLink="false"', ""),
    "feed-title": (FEED, "<title>We", "<title>&lt;b&gt;We&lt;/b&gt;"),
    "feed-updated": ("atom.xml", "<updated>", "<updated>2026-11-20T00:00:00Z</updated><updated>"),
    "feed-author": (FEED, "author>", "who>"),
    "feed-link": ("rss.xml", "<link>https://news.example.com/posts/a/", "<link>/posts/a/"),
    "feed-url": ("feed.json", '"url": "https://news.example.com/posts/a/', '"url": "/posts/a/'),
    "feed-language": (FEED, 'xml:lang="en"', 'xml:lang="en_US"'),
    "feed-summary": (FEED, "summary>", "short>"),
    "feed-description": ("rss.xml", "<item>", "<item><content:encoded>C</content:encoded>"),
    "feed-enclosure": ("rss.xml", "</item>", '<enclosure url="https://a.example/"/></item>'),
    "feed-content": (FEED, "&lt;p&gt;", "&lt;script&gt;&lt;/script&gt;&lt;p&gt;"),
    "page-id": ("index.html", '<section id="archive">', '<section id="main">'),
    "page-title": ("posts/b/index.html", OTHER["title"], LINES["title"]),
    "page-language": ("posts/b/index.html", '<html lang="en"', '<html lang=" "'),
    "page-heading": ("index.html", "<h2", "<h3"),
    "page-alt": ("contact/index.html", "</main>", '<img src="/style.css"></main>'),
    "page-empty-link": (
        "contact/index.html",
        "</main>",
        '<a href="/"><img src="/" alt=""></a></main>',
    ),
    "page-link": ("index.html", 'href="subscribe/"', 'href="subscribe-here/"'),
    "page-anchor": ("index.html", 'href="#main"', 'href="#content"'),
    "page-contrast": ("style.css", "--soft: #57616a", "--soft: #b0b8be"),
    "email-language": ("digest/2026-11/email.html", '<html lang="en"', "<html"),
    "email-contact": ("digest/2026-11/email.txt", "Example Company", "Nobody"),
}
"""A rule → a file of the output, what stands in it, and what breaks the rule instead."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[LintContext, Path]:
    """Return a site without a finding, and the folder of its output."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "posts").mkdir()
    (folder / "posts/a.md").write_text(post(), "utf-8")
    (folder / "posts/b.md").write_text(other(), "utf-8")
    (folder / "postroom.yaml").write_text(REQUIRED + SETTINGS, "utf-8")
    site = load_settings(folder)
    scanned = scan_folder(folder, site.posts)
    loaded, sources = loader.read_every_post(scanned, site, AT)
    replace_output(folder / "output", make_outputs(folder, site, loaded.posts))
    return LintContext(site, AT, scanned, loaded, sources), folder / "output"


@pytest.mark.parametrize("rule", OUTPUT)
def test_faults_in_the_output_are_found(rule: str, built: tuple[LintContext, Path]) -> None:
    """A problem in a feed, page, stylesheet or email has the path of the file."""
    name, old, new = OUTPUT[rule]
    context, output = built
    before = (output / name).read_text("utf-8")
    assert old in before
    (output / name).write_text(before.replace(old, new), "utf-8")
    try:
        found = run_rules(context, LintTarget(output))
    finally:
        (output / name).write_text(before, "utf-8")
    findings = {problem.rule: problem.path for problem in found}
    place = f"public/{name.replace('.txt', '.html')}"
    assert findings.get(rule) == ("posts/a.md" if rule == "page-title" else place)


def test_every_rule_has_a_broken_example() -> None:
    """Each rule has an example here, or in the tests of emails."""
    known = {case.rule for case in POSTS} | OUTPUT.keys() | {"settings-url", "settings-language"}
    others = {"post-link-outside", "earlier-id", "earlier-address", "earlier-gone"}
    missing = RULES.keys() - known - others - {"earlier-history"}
    assert {name for name in missing if not name.startswith("email-")} == set()


def test_a_broken_link_of_a_post_is_reported_once(check_site: Look) -> None:
    """A broken link of a post is reported at the post, however many pages show it."""
    files = a("[One](nothing.md), [two](/past/), [three](#why), [four](b.md), [five](c.md)\n")
    over = OVER.replace(OTHER["id"], "urn:x-c:c")
    found = check_site({**files, "posts/b.md": DRAFT, "posts/c.md": over})
    assert {problem.path for problem in found} == {"posts/a.md"}
    assert len(found) == 5


def test_a_broken_link_of_a_template_is_reported_once(check_site: Look) -> None:
    """A fault of a template is one finding with the number of its pages."""
    base = (Path(__file__).parents[2] / "templates/pages/base.html").read_text("utf-8")
    broken = base.replace("<footer", '<a href="{{ relative_url(site.url) }}jobs/">Jobs</a><footer')
    (problem,) = check_site({"templates/pages/base.html": broken})
    # Index, two posts, a year, a digest, subscribe, contact, 404.
    assert str(problem) == (
        "public/404.html: a link leads to jobs/index.html, which does not exist, on 8 pages;"
        " correct the template"
    )


def test_urls_of_another_generator_are_not_checked(check_site: Look) -> None:
    """If another program makes the pages, only certain faults are reported."""
    settings = f"{SETTINGS}pages: {{enabled: false}}\n"
    text = "[About us](/about/) [More of it](nothing.md) [The draft](/posts/b/)\n"
    found = check_site({**a(text), "posts/b.md": DRAFT}, settings)
    assert [problem.rule for problem in found] == ["post-link", "post-link-unpublished"]


def test_links_may_lead_to_foreign_files_in_the_output(make_site: MakeSite, postroom: Run) -> None:
    """Links to foreign files in public/ work, unless the next build removes the file."""
    text = post("[Our map](/map.pdf) and [our past](/old.html)\n")
    folder = make_site({"posts/a.md": text, "public/map.pdf": b"%PDF"}, SETTINGS)
    (folder / "public/.postroom.json").write_text('{"files": {"old.html": ["x"]}}')
    (folder / "public/old.html").write_text("<p>")
    outcome = postroom(folder, "check")
    assert [line.partition(";")[0] for line in outcome.errors] == [
        "posts/a.md:7:25: '/old.html' leads to old.html, which does not exist"
    ]


def test_attachments_are_not_checked(check_site: Look) -> None:
    """A page, a feed or an email that is attached to a post is not checked."""
    body = "[A page](x.html), [a feed](feed.json), [a style](style.css)\n"
    twice = b"<title>We</title><p id=a><p id=a><a href=/nothing></a>"
    files = {"posts/x.html": twice, "posts/feed.json": b"[]", "posts/style.css": b"p { color: red"}
    (found,) = check_site({**a(body), **files})
    assert found.rule == "attachment-active"


def test_a_page_may_be_empty(check_site: Look) -> None:
    """A template of a site may make an empty page."""
    pages = {"contact": "\n", "404": "", "subscribe": "<!-- nothing -->"}
    assert check_site({f"templates/pages/{name}.html": text for name, text in pages.items()}) == []


@pytest.mark.parametrize(
    ("css", "says"),
    [
        ("body { color: #777777; }", "'body' is #777777 on #ffffff in light mode, a contrast"),
        ("body { color: #888; background: white }", "'body' is #888888 on #ffffff in light"),
        (":root { --a: #999999; } p { color: var(--a) }", "'p' is #999999 on #ffffff in light"),
        (":root { --a: #999; } p { color: var(--b, #999) }", ""),
        ("body { color: black } a { color: inherit } p { background: none; color: #999 }", ""),
        ("body { color: black } @media (prefers-color-scheme: dark) { body { background: #222 } }",
         "'body' is #000000 on #222222 in dark mode"),
        ("a{color:#00f}@media (prefers-color-scheme:dark){html{background:#000}a{color:#99f}}",
         "'html' is #000000 on #000000 in dark mode"),
        ("a{color:#00f}@media (color: dark){html{background:#000;color:#fff}a{color:#99f}}", ""),
        ("body { color: black } /* p { color: #999 } */ @media print { body { color: #aaa } }",
         "'body' is #aaaaaa on #ffffff in print"),
        ("body { color: black } b, i:is(b, i) { color: #aaa !important }",
         "'i:is(b, i)' is #aaaaaa"),
        ("body { color: black } .button { color: #fff }", "'.button' is #ffffff on #ffffff"),
        ("}{ ; : { { body {", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_contrast_of_stylesheets_is_checked(css: str, says: str, check_site: Look) -> None:
    """Low contrast of a site's stylesheet is found in both colour schemes."""
    findings = [str(problem) for problem in check_site({"templates/style.css": css})]
    assert any(says in line for line in findings) if says else findings == []


@pytest.mark.parametrize("accent", ["#ffee00", "#ffffff", "#000000", "#ff0000", "#14171a"])
def test_every_accent_is_readable(accent: str, check_site: Look) -> None:
    """The theme makes any colour of the settings readable."""
    assert check_site(settings=f'{SETTINGS}theme: {{accent: "{accent}"}}\n') == []


def test_settings_are_checked(make_site: MakeSite, postroom: Run) -> None:
    """A URL without encryption and a language without translations are reported with their key."""
    folder = make_site({"posts/a.md": post()}, SETTINGS)
    valid = (folder / "postroom.yaml").read_text()
    assert postroom(folder, "check").err == ""
    odd = valid.replace("https:", "http:").replace("language: en", "language: tlh")
    (folder / "postroom.yaml").write_text(odd)
    url, language = postroom(folder, "check").warnings
    assert language == (
        "postroom.yaml:4: language: the theme has no translations for 'tlh', so it uses English;"
        " translate templates/translations/en.yaml as templates/translations/tlh.yaml"
        " [settings-language]"
    )
    assert url == (
        "postroom.yaml:2: url: http://news.example.com/ is not encrypted;"
        " write https://news.example.com/, and let the web server redirect [settings-url]"
    )


@pytest.mark.parametrize(
    ("settings", "code", "out"),
    [
        ("", 0, "0 errors, 1 warning\n"),
        ("checks: {post-link-words: off}\n", 0, "0 errors, 0 warnings\n"),
        ("checks: {post-link-words: error}\n", 1, "1 error, 0 warnings\n"),
    ],
)
def test_the_settings_set_severities(
    make_site: MakeSite, postroom: Run, settings: str, code: int, out: str
) -> None:
    """A rule has the severity of the settings, and no finding if it is off."""
    text = post("[Click here](https://a.example/)\n")
    files = {"posts/a.md": text, "posts/b.md": other()}
    outcome = postroom(make_site(files, SETTINGS + settings), "check")
    assert (outcome.code, outcome.out) == (code, out)


def test_a_future_post_is_checked(check_site: Look) -> None:
    """A fault in a post with a future date is reported before it is published."""
    (problem,) = check_site(a("[More of it](nothing.md)\n", date="2026-12-24"))
    assert (problem.path, problem.line, problem.rule) == ("posts/a.md", 7, "post-link")


def test_lines_count_from_the_top_of_the_file(check_site: Look) -> None:
    """Line numbers are those of the editor, with any byte order mark, line ends or title."""
    text = "\ufeff---\r\ndate: 2026-11-20\r\n---\r\n\r\n# We moved\r\n\r\nWörter [hier](/x)\r\n"
    found = check_site({"posts/a.md": text})
    assert {(p.line, p.column) for p in found if p.rule == "post-link"} == {(7, 8)}


MAIL = """\
contact: {organization: Example Company, address: "1 Example Street, Example Town"}
mail: {from: News <news@example.com>, unsubscribe: "https://news.example.com"}
"""


@pytest.mark.parametrize(
    ("old", "new", "rules"),
    [
        ("", "", []),
        (', address: "1 Example Street, Example Town"', "", ["email-postal-address"]),
        ('"https:', '"http:', []),
        ("mail:", "checks: {email-reply-address: off}\nmail:", []),
    ],
)
def test_the_email_of_a_subscriber_is_checked(
    make_site: MakeSite, postroom: Run, old: str, new: str, rules: list[str]
) -> None:
    """The newest email is checked with its header fields if the site can send emails."""
    folder = make_site({"posts/a.md": post()}, MAIL.replace(old, new))
    outcome = postroom(folder, "check")
    assert [line[line.rfind("[") + 1 : -1] for line in outcome.errors] == rules
