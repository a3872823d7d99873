"""Chromium driven by Playwright, for the browser tests and the images of docs/."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def find_browser() -> str | None:
    """Return the path of the installed browser, None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def start(executable: str) -> Iterator[Browser]:
    """Start a browser, and close it at the end."""
    # Imported here because the tests that need Playwright are skipped without it.
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_tab(browser: Browser) -> Iterator[Page]:
    """Open an empty page in a context of its own, and close it at the end."""
    context = browser.new_context()
    try:
        yield context.new_page()
    finally:
        context.close()
