"""Pages and emails in Chromium: accessibility, widths, dark mode, keyboard and print."""

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

pytestmark = pytest.mark.slow  # a browser is slow

try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Browser, ConsoleMessage, Page, Route
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("Playwright is not installed", allow_module_level=True)

DOCUMENTS = {
    "demo": {
        "email": "digest/2024-02/email.html",
        "index": "index.html",
        "post": "posts/magnets-outside-asia/index.html",
        "digest": "digest/2024-02/index.html",
    },
    "german": {
        "email": "digest/2026-11/email.html",
        "index": "index.html",
        "post": "posts/preise/index.html",
        "withdrawn post": "posts/lehrling/index.html",
        "digest": "digest/2026-11/index.html",
        "topic": "topics/aus-der-werkstatt/index.html",
        "year": "archive/2026/index.html",
        "subscribe": "subscribe/index.html",
        "contact": "contact/index.html",
    },
    "arabic": {
        "email": "digest/2026-11/email.html",
        "index": "index.html",
        "post": "posts/berth/index.html",
        "English post": "posts/notice/index.html",
        "digest": "digest/2026-11/index.html",
    },
    "stress": {
        "email": "digest/2026-W46/email.html",
        "email of a single post": "digest/2026-W47/email.html",
        "index": "index.html",
        "post": "posts/whole/index.html",
    },
}
VIEWS = [f"{name}: {kind}" for name, kinds in DOCUMENTS.items() for kind in kinds]
EMAILS = [view for view in VIEWS if ": email" in view]
PAGES = [view for view in VIEWS if view not in EMAILS]
# Without any style, long URLs, words and code cannot be broken.
BROAD = {"german: post", "german: subscribe", *(view for view in VIEWS if "stress" in view)}
UNSTYLED = [view for view in VIEWS if view not in BROAD]


@frozen
class View:
    """A document in the browser, with its requests and console messages."""

    page: Page
    output: Path
    is_email: bool
    requests: list[str] = Factory(list)
    messages: list[str] = Factory(list)

    def show(self, width: int, scheme: browser.Scheme = "light") -> None:
        """Set the width of the window and the colour scheme."""
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.emulate_media(color_scheme=scheme)

    def evaluate(self, script: str, argument: object = None) -> Any:
        """Evaluate a script in the document."""
        return self.page.evaluate(script, argument)

    def violations(self) -> list[str]:
        """Return the violations that axe finds, each as `rule: element`."""
        # An email is shown inside a mail program, which has the landmarks.
        landmarks = {"landmark-one-main", "region"}
        rules = {rule: {"enabled": not self.is_email} for rule in landmarks}
        # WCAG 2.2, SC 2.5.8: 24 pixels, or the same spacing; off by default.
        rules["target-size"] = {"enabled": True}
        settings = {"rules": rules, "resultTypes": ["violations"], "preload": False}
        result = self.evaluate("settings => axe.run(settings)", settings)
        return [
            f"{fault['id']}: {node['html'][:160]}"
            for fault in result["violations"]
            for node in fault["nodes"]
        ]

    def overflows(self, width: int) -> bool:
        """Tell whether the document is wider than a window of this width."""
        self.show(width)
        return bool(
            self.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
        )


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build each site and return its output folder by name."""
    folder = tmp_path_factory.mktemp("browser")
    sources = sites.write_all(folder / "sources")
    return {name: sites.build(sources[name], folder / name) for name in DOCUMENTS}


@pytest.fixture(scope="module")
def chromium(program: Callable[[str], str]) -> Iterator[Browser]:
    """Return one browser for all tests of this module."""
    with browser.start(browser.find_browser() or program("chromium")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def view(
    request: pytest.FixtureRequest, chromium: Browser, outputs: dict[str, Path]
) -> Iterator[View]:
    """Return a document opened as a file."""
    name, _, kind = request.param.partition(": ")
    with browser.open_tab(chromium) as page:
        view = View(page, outputs[name], request.param in EMAILS)
        page.on("request", lambda request: view.requests.append(request.url))
        page.on("pageerror", lambda error: view.messages.append(str(error)))
        page.on("console", lambda message: view.messages.extend(_warning(message)))
        page.goto((view.output / DOCUMENTS[name][kind]).as_uri())
        page.evaluate(Axe().axe_script)
        yield view


def _warning(message: ConsoleMessage) -> list[str]:
    return [message.text] if message.type in {"error", "warning"} else []


def each(views: list[str]) -> pytest.MarkDecorator:
    """Run a test for each of these documents."""
    return pytest.mark.parametrize("view", views, indirect=True)


@each(VIEWS)
def test_axe_finds_no_violation(view: View) -> None:
    """No document violates accessibility rules, at two widths and in both colour schemes."""
    found = []
    for width in (375, 800):
        for scheme in browser.SCHEMES:
            view.show(width, scheme)
            found += [f"{width} {scheme} {fault}" for fault in view.violations()]
    assert found == []


@each(VIEWS)
def test_no_request_goes_to_another_host(view: View) -> None:
    """A page loads only files of the output, and an email loads nothing."""
    root = view.output.as_uri() + "/"
    others = [url for url in view.requests if not url.startswith(root)]
    assert (others, len(view.requests) == 1) == ([], view.is_email)


@each(VIEWS)
def test_the_console_is_empty(view: View) -> None:
    """The console shows no error and no warning."""
    assert view.messages == []


@each(VIEWS)
def test_the_background_follows_the_colour_scheme(view: View) -> None:
    """A document opened as a file has its styles in both colour schemes."""
    colours = []
    for scheme in browser.SCHEMES:
        view.show(800, scheme)
        colours.append(view.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == [_as_rgb(PAPER), _as_rgb(PAPER_DARK)]


def _as_rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*bytes.fromhex(colour[1:]))


@each(VIEWS)
def test_no_document_overflows(view: View) -> None:
    """No document is wider than the window, not even at 320 pixels."""
    assert [width for width in (320, 375, 800) if view.overflows(width)] == []


@each(PAGES)
def test_print_has_no_navigation(view: View) -> None:
    """Print shows the title and hides the navigation."""
    view.page.emulate_media(media="print")
    try:
        navigation = view.page.locator("nav, .skip").all()
        assert [link.inner_text() for link in navigation if link.is_visible()] == []
        assert view.page.locator("h1").is_visible()
    finally:
        view.page.emulate_media(media="screen")


@each([view for view in PAGES if "index" in view or "post" in view])
def test_the_first_tab_stop_skips_to_the_text(view: View) -> None:
    """The first tab stop is a visible link to the main text."""
    view.show(375)
    view.page.keyboard.press("Tab")
    link = view.page.locator(":focus")
    box = link.bounding_box()
    assert (link.get_attribute("href"), box is not None and box["x"] >= 0 <= box["y"]) == (
        "#main",
        True,
    )
    view.page.keyboard.press("Enter")
    assert view.evaluate("document.querySelector(':target').localName") == "main"


# The horizontal position of each text on the screen.
POSITIONS = """texts => texts.map(text => {
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
    "texts", [("14", "Quayside", "Row"), ("+971", "123", "4567")], ids=["address", "phone"]
)
def test_latin_data_keeps_its_order(view: View, texts: tuple[str, ...]) -> None:
    """A postal address and a phone number in an Arabic page read from left to right."""
    view.show(800)
    places = view.evaluate(POSITIONS, texts)
    assert (min(places) > 0, places) == (True, sorted(places))


@each([view for view in VIEWS if "arabic" in view and "English" not in view])
def test_arabic_starts_on_the_right(view: View) -> None:
    """An Arabic document is right-to-left, with the title at the right edge."""
    view.show(375)
    assert view.evaluate("""() => {
      const range = document.createRange();
      range.selectNodeContents(document.querySelector('h1'));
      return [getComputedStyle(document.querySelector('h1')).direction,
              range.getBoundingClientRect().right > innerWidth - 40];
    }""") == ["rtl", True]


def test_the_404_page_works_at_any_url(chromium: Browser, outputs: dict[str, Path]) -> None:
    """The 404 page has its styles and no violations at any URL of the host."""

    def answer(route: Route) -> None:
        path = outputs["german"] / route.request.url.removeprefix("https://werkstatt.example/")
        route.fulfill(path=path if path.is_file() else outputs["german"] / "404.html")

    with browser.open_tab(chromium) as page:
        page.route("https://werkstatt.example/**", answer)
        page.goto("https://werkstatt.example/no/such/page/")
        page.evaluate(Axe().axe_script)
        view = View(page, outputs["german"], is_email=False)
        view.show(375, "dark")
        shown = view.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (view.violations(), shown) == ([], _as_rgb(PAPER_DARK))


# Documents without styles.


@each(EMAILS)
def test_an_email_without_style_elements_does_not_overflow(view: View) -> None:
    """An email without its style elements fits into the window."""
    assert overflowing_without("style", view) == []


@each(UNSTYLED)
def test_a_document_without_styles_does_not_overflow(view: View) -> None:
    """Ordinary posts without any style fit into the window."""
    assert overflowing_without("style, link[rel=stylesheet], [style]", view) == []


def overflowing_without(selector: str, view: View) -> list[int]:
    """Return the widths at which a document overflows without these styles."""
    try:
        view.evaluate(
            """selector => document.querySelectorAll(selector).forEach(
                 e => e.hasAttribute('style') ? e.removeAttribute('style') : e.remove())""",
            selector,
        )
        return [width for width in (320, 375, 800) if view.overflows(width)]
    finally:
        view.page.reload()
        view.page.evaluate(Axe().axe_script)


# The checks find faults.

FAULTY = """<!doctype html><html lang="en"><title>Faulty</title><main><h1>Faulty</h1>
<p style="color: #bbbbbb; width: 2000px">Too pale and too wide.</p><h4>Skipped</h4>
<button style="width: 9px; height: 9px; padding: 0; border: 0" aria-label="a"></button
><button style="width: 9px; height: 9px; padding: 0; border: 0" aria-label="b"></button>
<a href="https://news.example.com/"></a></main>"""


def test_violations_are_found(chromium: Browser, tmp_path: Path) -> None:
    """The checks find the violations of a faulty document."""
    with browser.open_tab(chromium) as page:
        view = View(page, tmp_path, is_email=False)
        page.set_content(FAULTY)
        page.evaluate(Axe().axe_script)
        found = {fault.partition(":")[0] for fault in view.violations()}
        wide = view.overflows(800)
    assert (found, wide) == (
        {"color-contrast", "heading-order", "target-size", "link-name"},
        True,
    )


@pytest.mark.parametrize("width", [320, 375])
def test_an_email_that_overflows_is_found(
    width: int, chromium: Browser, outputs: dict[str, Path], tmp_path: Path
) -> None:
    """The check finds an email that is too wide, which no lint rule finds."""
    email = (outputs["demo"] / DOCUMENTS["demo"]["email"]).read_text("utf-8")
    planted = email.replace("</h1>", '</h1><p style="width: 700px">Contact</p>')
    with browser.open_tab(chromium) as page:
        view = View(page, tmp_path, is_email=True)
        wide = []
        for contents in (email, planted):
            page.set_content(contents)
            wide.append(view.overflows(width))
    assert wide == [False, True]


# Feeds in a browser.

FEEDS = [f"{name}: {feed}" for name in ("demo", "arabic") for feed in ("atom.xml", "rss.xml")]


def _screenshot(page: Page) -> bytes:
    """Take a screenshot; the method of Playwright waits for fonts that an XML page lacks."""
    session = page.context.new_cdp_session(page)
    result: dict[str, str] = session.send("Page.captureScreenshot", {"format": "png"})
    return b64decode(result["data"])


def _opened(page: Page, feed: Path, width: int, scheme: browser.Scheme) -> bytes:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto(feed.as_uri(), wait_until="commit")
    page.wait_for_function("document.readyState === 'complete'")
    return _screenshot(page)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("width", [375, 800])
def test_a_feed_is_readable_in_a_browser(
    feed: str, width: int, chromium: Browser, outputs: dict[str, Path], tmp_path: Path
) -> None:
    """A feed shows titles and summaries but no contents, and does not overflow."""
    name, _, file = feed.partition(": ")
    source = outputs[name] / file
    bare = tmp_path / file
    bare.write_bytes(re.sub(rb"<\?xml-stylesheet[^>]*\?>", b"", source.read_bytes()))
    with browser.open_tab(chromium) as page:
        unstyled = _opened(page, bare, width, "light")
        images = {scheme: _opened(page, source, width, scheme) for scheme in browser.SCHEMES}
        shown = page.evaluate("""() => {
          const of = name => [...document.getElementsByTagName(name)];
          const seen = element => getComputedStyle(element).display !== "none";
          const hidden = [...of("content"), ...of("content:encoded"), ...of("id"), ...of("guid")];
          return [of("title").every(seen), hidden.length > 0 && !hidden.some(seen),
                  document.documentElement.scrollWidth <= innerWidth,
                  document.getElementsByTagName("script").length];
        }""")
    assert shown == [True, True, True, 0]
    assert len({unstyled, *images.values()}) == 3
