"""Pages and letters in Chromium: for all eyes, all widths, the keyboard, paper and the disk."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, frozen

from postroom.theme.environment import PAPER, PAPER_DARK
from tests.support import browser, sites

pytestmark = pytest.mark.slow  # a browser takes its time

try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Browser, ConsoleMessage, Page, Route
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("Playwright is not installed", allow_module_level=True)

DOCUMENTS = {
    "demo": {
        "letter": "digest/2024-02/email.html",
        "index": "index.html",
        "post": "posts/magnets-outside-asia/index.html",
        "digest": "digest/2024-02/index.html",
    },
    "german": {
        "letter": "digest/2026-11/email.html",
        "index": "index.html",
        "post": "posts/preise/index.html",
        "post taken back": "posts/lehrling/index.html",
        "digest": "digest/2026-11/index.html",
        "topic": "topics/aus-der-werkstatt/index.html",
        "year": "archive/2026/index.html",
        "subscribe": "subscribe/index.html",
        "contact": "contact/index.html",
    },
    "arabic": {
        "letter": "digest/2026-11/email.html",
        "index": "index.html",
        "post": "posts/berth/index.html",
        "English post": "posts/notice/index.html",
        "digest": "digest/2026-11/index.html",
    },
    "stress": {
        "letter": "digest/2026-W46/email.html",
        "letter of one post": "digest/2026-W47/email.html",
        "index": "index.html",
        "post": "posts/whole/index.html",
    },
}
VIEWS = [f"{name}: {kind}" for name, kinds in DOCUMENTS.items() for kind in kinds]
LETTERS = [view for view in VIEWS if ": letter" in view]
PAGES = [view for view in VIEWS if view not in LETTERS]
# Without any style, what cannot be broken is as wide as it is: long addresses, words and code.
BROAD = {"german: post", "german: subscribe", *(view for view in VIEWS if "stress" in view)}
UNSTYLED = [view for view in VIEWS if view not in BROAD]


@frozen
class View:
    """A document in the browser, and what it asked for and complained of while it was opened."""

    page: Page
    output: Path
    is_letter: bool
    requests: list[str] = Factory(list)
    complaints: list[str] = Factory(list)

    def show(self, width: int, scheme: browser.Scheme = "light") -> None:
        """Look at the document in a window of this width, by day or by night."""
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.emulate_media(color_scheme=scheme)

    def ask(self, script: str, argument: object = None) -> Any:
        """Return what a script says of the document."""
        return self.page.evaluate(script, argument)

    def faults(self) -> list[str]:
        """Return what axe finds, each as `rule: element`."""
        # A letter stands inside a mail program, which has the landmarks.
        landmarks = {"landmark-one-main", "region"}
        rules = {rule: {"enabled": not self.is_letter} for rule in landmarks}
        # WCAG 2.2, SC 2.5.8: 24 pixels, or as much room around; not asked for by default.
        rules["target-size"] = {"enabled": True}
        settings = {"rules": rules, "resultTypes": ["violations"], "preload": False}
        found = self.ask("settings => axe.run(settings)", settings)
        return [
            f"{fault['id']}: {node['html'][:160]}"
            for fault in found["violations"]
            for node in fault["nodes"]
        ]

    def runs_sideways(self, width: int) -> bool:
        """Tell whether something is wider than a window of this width."""
        self.show(width)
        return bool(
            self.ask("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        )


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return where each newsroom is built."""
    folder = tmp_path_factory.mktemp("browser")
    sources = sites.write_all(folder / "sources")
    return {name: sites.build(sources[name], folder / name) for name in DOCUMENTS}


@pytest.fixture(scope="module")
def chromium(program: Callable[[str], str]) -> Iterator[Browser]:
    """Return a browser for all tests of this module."""
    with browser.start(browser.find_browser() or program("chromium")) as started:
        yield started


@pytest.fixture(scope="module")
def view(
    request: pytest.FixtureRequest, chromium: Browser, outputs: dict[str, Path]
) -> Iterator[View]:
    """Return a document, opened from the disk."""
    name, _, kind = request.param.partition(": ")
    with browser.open_tab(chromium) as page:
        view = View(page, outputs[name], request.param in LETTERS)
        page.on("request", lambda asked: view.requests.append(asked.url))
        page.on("pageerror", lambda error: view.complaints.append(str(error)))
        page.on("console", lambda message: view.complaints.extend(_complaint(message)))
        page.goto((view.output / DOCUMENTS[name][kind]).as_uri())
        page.evaluate(Axe().axe_script)
        yield view


def _complaint(message: ConsoleMessage) -> list[str]:
    return [message.text] if message.type in {"error", "warning"} else []


def each(views: list[str]) -> pytest.MarkDecorator:
    """Run a test with each of these documents."""
    return pytest.mark.parametrize("view", views, indirect=True)


@each(VIEWS)
def test_axe_finds_nothing(view: View) -> None:
    """No document has a fault of accessibility, on a phone or a screen, by day or by night."""
    found = []
    for width in (375, 800):
        for scheme in browser.SCHEMES:
            view.show(width, scheme)
            found += [f"{width} {scheme} {fault}" for fault in view.faults()]
    assert found == []


@each(VIEWS)
def test_nothing_is_asked_of_another_host(view: View) -> None:
    """A document loads nothing but what lies beside it, and a letter nothing at all."""
    home = view.output.as_uri() + "/"
    away = [url for url in view.requests if not url.startswith(home)]
    assert (away, len(view.requests) == 1) == ([], view.is_letter)


@each(VIEWS)
def test_the_browser_complains_of_nothing(view: View) -> None:
    """No error and no warning appears in the browser's console."""
    assert view.complaints == []


@each(VIEWS)
def test_paper_is_dark_at_night(view: View) -> None:
    """A document opened from the disk has its styles, by day and by night."""
    seen = []
    for scheme in browser.SCHEMES:
        view.show(800, scheme)
        seen.append(view.ask("getComputedStyle(document.body).backgroundColor"))
    assert seen == [_as_rgb(PAPER), _as_rgb(PAPER_DARK)]


def _as_rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*bytes.fromhex(colour[1:]))


@each(VIEWS)
def test_nothing_runs_sideways(view: View) -> None:
    """No document is wider than the window, be it a narrow phone."""
    assert [width for width in (320, 375, 800) if view.runs_sideways(width)] == []


@each(PAGES)
def test_paper_has_no_navigation(view: View) -> None:
    """In print there is the text and no way to go: a sheet has no links to click."""
    view.page.emulate_media(media="print")
    try:
        navigation = view.page.locator("nav, .skip").all()
        assert [one.inner_text() for one in navigation if one.is_visible()] == []
        assert view.page.locator("h1").is_visible()
    finally:
        view.page.emulate_media(media="screen")


@each([view for view in PAGES if "index" in view or "post" in view])
def test_the_keyboard_skips_to_the_text(view: View) -> None:
    """The first stop of the keyboard is a link that can be seen, and leads to the text."""
    view.show(375)
    view.page.keyboard.press("Tab")
    link = view.page.locator(":focus")
    box = link.bounding_box()
    assert (link.get_attribute("href"), box is not None and box["x"] >= 0 <= box["y"]) == (
        "#main",
        True,
    )
    view.page.keyboard.press("Enter")
    assert view.ask("document.querySelector(':target').localName") == "main"


# The order of words on the screen: how far to the right each of them begins.
WHERE = """texts => texts.map(text => {
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let place = -1;
  while (words.nextNode()) {
    const start = words.currentNode.data.indexOf(text);
    const range = document.createRange();
    if (start < 0) continue;
    range.setStart(words.currentNode, start);
    range.setEnd(words.currentNode, start + text.length);
    if (range.getClientRects().length) place = range.getBoundingClientRect().x;
  }
  return place;
})"""


@each([view for view in VIEWS if "arabic" in view])
@pytest.mark.parametrize(
    "words", [("14", "Quayside", "Row"), ("+971", "123", "4567")], ids=["address", "phone"]
)
def test_latin_data_keeps_its_order(view: View, words: tuple[str, ...]) -> None:
    """Between Arabic lines an address and a phone number still read from left to right."""
    view.show(800)
    places = view.ask(WHERE, words)
    assert (min(places) > 0, places) == (True, sorted(places))


@each([view for view in VIEWS if "arabic" in view and "English" not in view])
def test_arabic_begins_on_the_right(view: View) -> None:
    """An Arabic document runs from right to left, its title at the right edge of the column."""
    view.show(375)
    assert view.ask("""() => {
      const range = document.createRange();
      range.selectNodeContents(document.querySelector('h1'));
      return [getComputedStyle(document.querySelector('h1')).direction,
              range.getBoundingClientRect().right > innerWidth - 40];
    }""") == ["rtl", True]


def test_the_page_for_missing_pages_works_anywhere(
    chromium: Browser, outputs: dict[str, Path]
) -> None:
    """A host shows the page for missing pages at any address, where it is styled and sound."""

    def answer(route: Route) -> None:
        path = outputs["german"] / route.request.url.removeprefix("https://werkstatt.example/")
        route.fulfill(path=path if path.is_file() else outputs["german"] / "404.html")

    with browser.open_tab(chromium) as page:
        page.route("https://werkstatt.example/**", answer)
        page.goto("https://werkstatt.example/no/such/page/")
        page.evaluate(Axe().axe_script)
        view = View(page, outputs["german"], is_letter=False)
        view.show(375, "dark")
        shown = view.ask("getComputedStyle(document.body).backgroundColor")
        assert (view.faults(), shown) == ([], _as_rgb(PAPER_DARK))


# What takes styles away, and gives them back by loading the document again.


@each(LETTERS)
def test_a_letter_without_style_elements_does_not_run_sideways(view: View) -> None:
    """A mail program that drops style elements still shows a letter in its window."""
    assert without("style", view) == []


@each(UNSTYLED)
def test_a_document_without_any_style_does_not_run_sideways(view: View) -> None:
    """What shows no styles at all still shows ordinary posts in its window."""
    assert without("style, link[rel=stylesheet], [style]", view) == []


def without(selector: str, view: View) -> list[int]:
    """Return the widths at which a document runs sideways when it has lost these styles."""
    try:
        view.ask(
            """selector => document.querySelectorAll(selector).forEach(
                 one => one.hasAttribute('style') ? one.removeAttribute('style') : one.remove())""",
            selector,
        )
        return [width for width in (320, 375, 800) if view.runs_sideways(width)]
    finally:
        view.page.reload()
        view.page.evaluate(Axe().axe_script)


# Whether these tests can fail at all.

FAULTY = """<!doctype html><html lang="en"><title>Faulty</title><main><h1>Faulty</h1>
<p style="color: #bbbbbb; width: 2000px">Too pale and too wide.</p><h4>Skipped</h4>
<button style="width: 9px; height: 9px; padding: 0; border: 0" aria-label="a"></button
><button style="width: 9px; height: 9px; padding: 0; border: 0" aria-label="b"></button>
<a href="https://news.example.com/"></a></main>"""


def test_planted_faults_are_found(chromium: Browser, tmp_path: Path) -> None:
    """A document with faults in it does not pass for a sound one."""
    with browser.open_tab(chromium) as page:
        view = View(page, tmp_path, is_letter=False)
        page.set_content(FAULTY)
        page.evaluate(Axe().axe_script)
        found = {fault.partition(":")[0] for fault in view.faults()}
        wide = view.runs_sideways(800)
    assert (found, wide) == (
        {"color-contrast", "heading-order", "target-size", "link-name"},
        True,
    )


@pytest.mark.parametrize("width", [320, 375])
def test_what_runs_sideways_in_a_letter_is_found(
    width: int, chromium: Browser, outputs: dict[str, Path], tmp_path: Path
) -> None:
    """Of the sixteen faults planted in letters the one that no rule sees: it is too wide."""
    letter = (outputs["demo"] / DOCUMENTS["demo"]["letter"]).read_text("utf-8")
    planted = letter.replace("</h1>", '</h1><p style="width: 700px">Contact</p>')
    with browser.open_tab(chromium) as page:
        view = View(page, tmp_path, is_letter=True)
        wide = []
        for contents in (letter, planted):
            page.set_content(contents)
            wide.append(view.runs_sideways(width))
    assert wide == [False, True]


# Feeds, which a browser shows as pages.

FEEDS = [f"{name}: {feed}" for name in ("demo", "arabic") for feed in ("atom.xml", "rss.xml")]


def _picture(page: Page) -> bytes:
    """Return what is to be seen; Playwright's own way waits for fonts that an XML page lacks."""
    session = page.context.new_cdp_session(page)
    taken: dict[str, str] = session.send("Page.captureScreenshot", {"format": "png"})
    return b64decode(taken["data"])


def _opened(page: Page, feed: Path, width: int, scheme: browser.Scheme) -> bytes:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto(feed.as_uri(), wait_until="commit")
    page.wait_for_function("document.readyState === 'complete'")
    return _picture(page)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("width", [375, 800])
def test_a_feed_is_a_page_that_people_can_read(
    feed: str, width: int, chromium: Browser, outputs: dict[str, Path], tmp_path: Path
) -> None:
    """Titles and summaries are shown, contents are not, nothing runs sideways, by day and night."""
    name, _, file = feed.partition(": ")
    source = outputs[name] / file
    bare = tmp_path / file
    bare.write_bytes(re.sub(rb"<\?xml-stylesheet[^>]*\?>", b"", source.read_bytes()))
    with browser.open_tab(chromium) as page:
        unstyled = _opened(page, bare, width, "light")
        pictures = {scheme: _opened(page, source, width, scheme) for scheme in browser.SCHEMES}
        shown = page.evaluate("""() => {
          const of = name => [...document.getElementsByTagName(name)];
          const seen = element => getComputedStyle(element).display !== "none";
          const hidden = [...of("content"), ...of("content:encoded"), ...of("id"), ...of("guid")];
          return [of("title").every(seen), hidden.length > 0 && !hidden.some(seen),
                  document.documentElement.scrollWidth <= innerWidth,
                  document.getElementsByTagName("script").length];
        }""")
    assert shown == [True, True, True, 0]
    assert len({unstyled, *pictures.values()}) == 3
