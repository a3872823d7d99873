"""The pages of `postroom serve` in Chromium, under their content security policy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from postroom.db.engine import make_engine
from postroom.db.migrate import require_tables
from postroom.db.store import Store, make_store
from postroom.mail.tokens import new_token
from postroom.models import Cursor, Subscriber
from postroom.theme.environment import PAPER, PAPER_DARK
from tests.publish.test_browser import DOCUMENTS, View
from tests.support import browser, sites, web_server
from tests.support.web_server import Served

pytestmark = pytest.mark.slow  # starts a browser

try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Browser, Page
    from playwright.sync_api import Error as PlaywrightError
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("Playwright is not installed", allow_module_level=True)

NAMES = ["demo", "german", "arabic", "stress"]
PREFIX = {"stress": "company/"}
TOKEN = "A" * 22
DRAWING = b"""<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8">
<style>rect { fill: #00ff00 }</style><rect width="8" height="8"/></svg>"""
ACTIVE = DRAWING.replace(
    b"</svg>", b"<script>document.querySelector('rect').style.fill = '#ff0000'</script></svg>"
)
EVIL = b"""<!doctype html><html lang="en"><title>Evil</title><p id="a">quiet</p>
<script>document.getElementById("a").textContent = "loud"</script>
<img src="none.png" alt="" onerror="document.getElementById('a').textContent = 'loud'">
<iframe src="/" title="A frame"></iframe>"""


@frozen
class ServedSite:
    """A served site and its store."""

    served: Served
    store: Store
    prefix: str

    def at(self, path: str) -> str:
        """Return the URL of a path of the site."""
        return f"{self.served.url}{self.prefix}{path}"


@pytest.fixture(scope="module")
def all_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServedSite]]:
    """Build and serve every site."""
    folder = tmp_path_factory.mktemp("service")
    sources = sites.write_all(folder)
    # Copy the demonstration, so that nothing is written to the checkout.
    home = shutil.copytree(sources["demo"] / "posts", folder / "demo/posts").parent
    shutil.copy(sources["demo"] / "postroom.yaml", home)
    with ExitStack() as stack:
        yield {name: _served(folder / name, PREFIX.get(name, ""), stack) for name in NAMES}


def _served(folder: Path, prefix: str, stack: ExitStack) -> ServedSite:
    public = sites.build(folder, folder / "public")
    (public / "drawing.svg").write_bytes(DRAWING)
    (public / "active.svg").write_bytes(ACTIVE)
    (public / "evil.html").write_bytes(EVIL)
    database = stack.enter_context(closing(make_engine(None, folder)))
    require_tables(database)
    store = make_store(database)
    return ServedSite(
        stack.enter_context(web_server.serve_site(folder, store.subscribers)), store, prefix
    )


@pytest.fixture(scope="module")
def chromium(program: Callable[[str], str]) -> Iterator[Browser]:
    """Return a browser for all tests of this module."""
    with browser.start(browser.find_browser() or program("chromium")) as started:
        yield started


@pytest.fixture(params=NAMES)
def site_dir(request: pytest.FixtureRequest, all_served: dict[str, ServedSite]) -> ServedSite:
    """Return each site in turn."""
    return all_served[request.param]


@pytest.fixture
def view(chromium: Browser) -> Iterator[View]:
    """Return an empty page that records its requests and errors."""
    with browser.open_tab(chromium) as page:
        view = View(page, Path(), is_email=False)
        page.on("request", lambda asked: view.requests.append(asked.url))
        page.on("pageerror", lambda error: view.messages.append(str(error)))
        page.on("console", lambda message: view.messages.append(message.text))
        yield view


def policy_errors(view: View) -> list[str]:
    """Return the browser's messages about violations of the policy."""
    return [text for text in view.messages if "ontent Security Policy" in text]


def press(page: Page) -> None:
    """Press the button of the page and wait for the next one."""
    with page.expect_navigation():
        page.get_by_role("button").click()


def find_errors(view: View) -> list[str]:
    """Return the accessibility and layout errors of the current page at all widths."""
    view.page.evaluate(Axe().axe_script)
    faults = [f"is too wide at {width}" for width in (320, 375, 800) if view.overflows(width)]
    for width in (375, 800):
        for scheme, paper in zip(browser.SCHEMES, (PAPER, PAPER_DARK), strict=True):
            view.show(width, scheme)
            faults += [f"{width} {scheme} {fault}" for fault in view.violations()]
            shown = view.evaluate("getComputedStyle(document.body).backgroundColor")
            if shown != "rgb({}, {}, {})".format(*bytes.fromhex(paper[1:])):
                faults.append(f"{width} {scheme} paper is {shown}")
    return faults


@pytest.mark.parametrize("path", [f"list/unsubscribe/{TOKEN}", "list/no", "no/such/page"])
def test_page_is_accessible(site_dir: ServedSite, view: View, path: str) -> None:
    """Pages have no violations, no overflow, both colour schemes and no foreign requests."""
    view.page.goto(site_dir.at(path))
    assert find_errors(view) == []
    assert policy_errors(view) == []
    assert [url for url in view.requests if not url.startswith(site_dir.served.url)] == []


def test_page_after_unsubscribing_is_accessible(site_dir: ServedSite, view: View) -> None:
    """The page after the button has no errors either."""
    view.page.goto(site_dir.at(f"list/unsubscribe/{TOKEN}"))
    press(view.page)
    assert find_errors(view) == []
    assert (policy_errors(view), view.messages) == ([], [])
    assert view.page.get_by_role("button").count() == 0


def test_the_button_is_large(site_dir: ServedSite, view: View) -> None:
    """S2: there is one button, large enough for fingers, visible without scrolling on a phone."""
    view.page.goto(site_dir.at(f"list/unsubscribe/{TOKEN}"))
    view.page.set_viewport_size({"width": 375, "height": 667})
    box = view.page.get_by_role("button").bounding_box()
    assert box
    assert (box["height"] >= 44, box["width"] >= 300, box["y"] + box["height"] <= 667) == (
        True,
        True,
        True,
    )


def test_unsubscribing_works_without_script_and_mouse(
    all_served: dict[str, ServedSite], chromium: Browser
) -> None:
    """The keyboard is enough to unsubscribe, without JavaScript."""
    site_dir = all_served["arabic"]
    reader = Subscriber(
        id=0,
        address="reader@port.example",
        state="active",
        frequency="month",
        topics=frozenset(),
        language="",
        cursor=Cursor(date(2026, 11, 1)),
        start=date(2026, 11, 1),
        token=new_token(),
    )
    site_dir.store.subscribers.add([reader], web_server.now())
    with closing(chromium.new_context(java_script_enabled=False)) as context:
        page = context.new_page()
        page.goto(site_dir.at(f"list/unsubscribe/{reader.token}"))
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.locator("button:focus").count():
                break
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert page.locator("h1").inner_text() == "أُلغي اشتراكك"
        assert context.cookies() == []
    found = site_dir.store.subscribers.with_token(reader.token)
    assert found
    assert found.state == "unsubscribed"


def test_links_lead_back_to_the_site(site_dir: ServedSite, view: View) -> None:
    """Each link from a page of the service to the site leads to a page."""
    view.page.goto(site_dir.at(f"list/unsubscribe/{TOKEN}"))
    links: list[str] = view.evaluate("[...document.querySelectorAll('header a')].map(a => a.href)")
    assert links
    assert [view.page.request.get(link).status for link in links] == [200] * len(links)


# The built output under its policy


@pytest.mark.parametrize("view_of", [f"{n}: {k}" for n, kinds in DOCUMENTS.items() for k in kinds])
def test_site_works_under_the_policy(
    all_served: dict[str, ServedSite], view: View, view_of: str
) -> None:
    """Styles and aligned table cells work as when opened from disk."""
    name, _, kind = view_of.partition(": ")
    site_dir = all_served[name]
    view.page.goto(site_dir.at(DOCUMENTS[name][kind]))
    view.page.emulate_media(color_scheme="dark")
    assert policy_errors(view) == []
    paper = "rgb({}, {}, {})".format(*bytes.fromhex(PAPER_DARK[1:]))
    assert view.evaluate("getComputedStyle(document.body).backgroundColor") == paper
    aligned: list[list[str]] = view.evaluate(
        """[...document.querySelectorAll('[style*="text-align"]')].map(
             cell => [cell.style.textAlign, getComputedStyle(cell).textAlign])"""
    )
    assert all(written == shown for written, shown in aligned)


@pytest.mark.parametrize("feed", ["atom.xml", "rss.xml"])
def test_a_served_feed_is_a_page(all_served: dict[str, ServedSite], view: View, feed: str) -> None:
    """S18: browsers show a feed with its stylesheet."""
    view.page.goto(all_served["demo"].at(feed))
    shown: list[Any] = view.evaluate("""() => {
      const all = name => [...document.getElementsByTagName(name)];
      const display = one => getComputedStyle(one).display;
      const hidden = [...all("content"), ...all("content:encoded")];
      return [all("title").some(one => display(one) === "none"), hidden.length > 0,
              hidden.every(one => display(one) === "none")];
    }""")
    assert shown == [False, True, True]
    assert policy_errors(view) == []


def test_a_script_does_not_run(all_served: dict[str, ServedSite], view: View) -> None:
    """S18: a script in the output does not run, and cannot frame a page of ours."""
    view.page.goto(all_served["demo"].at("evil.html"))
    assert view.page.locator("#a").inner_text() == "quiet"
    assert len(policy_errors(view)) >= 3


def test_svg_image_keeps_its_colours(all_served: dict[str, ServedSite], view: View) -> None:
    """S18: an SVG image may have styles. One with a script is a download, or an image in a page."""
    site_dir = all_served["demo"]
    view.page.goto(site_dir.at("drawing.svg"))
    assert (
        view.evaluate("getComputedStyle(document.querySelector('rect')).fill") == "rgb(0, 255, 0)"
    )
    with view.page.expect_download() as download, suppress(PlaywrightError):
        view.page.goto(site_dir.at("active.svg"))
    assert download.value.suggested_filename == "active.svg"
    view.page.goto(site_dir.at(""))
    pixel = view.evaluate("""async () => {
      const image = new Image();
      image.src = "/active.svg";
      await image.decode();
      const context = new OffscreenCanvas(8, 8).getContext("2d");
      context.drawImage(image, 0, 0);
      return [...context.getImageData(4, 4, 1, 1).data];
    }""")
    assert pixel == [0, 255, 0, 255]
