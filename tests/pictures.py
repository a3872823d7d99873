"""Draws the pictures of docs/: python tests/pictures.py, with the extras test and browser."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

import browser
import newsrooms
from conftest import ROOT

PICTURES = ROOT / "docs/pictures"
HEIGHTS = {375: 812, 800: 1000}
"""Pixels that are shown of a document, for each width of the window."""
DEMO = {
    "index": "index.html",
    "post": "posts/magnets-outside-asia/index.html",
    "letter": "digest/2024-02/letter.html",
}
ARABIC = {"letter-rtl": "digest/2026-11/letter.html", "post-rtl": "posts/berth/index.html"}


def draw(chromium: Browser, document: Path, name: str, schemes: tuple[browser.Scheme, ...]) -> None:
    """Draw the head of a document for every width and these colour schemes."""
    with browser.tab(chromium) as page:
        page.goto(document.as_uri())
        for width, height in HEIGHTS.items():
            page.set_viewport_size({"width": width, "height": height})
            for scheme in schemes:
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png")


def main() -> int:
    """Draw every picture anew and return an exit code."""
    executable = browser.installed()
    if executable is None:
        sys.stderr.write(f"No browser is installed; install one of {', '.join(browser.NAMES)}\n")
        return 1
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, browser.started(executable) as chromium:
        folder = Path(name)
        arabic = newsrooms.write(folder / "source", newsrooms.ARABIC)
        demo, port = (
            newsrooms.build(ROOT, folder / "demo"),
            newsrooms.build(arabic, folder / "rtl"),
        )
        for kind, path in DEMO.items():
            draw(chromium, demo / path, kind, browser.SCHEMES)
        for kind, path in ARABIC.items():
            draw(chromium, port / path, kind, ("light",))
    return 0


if __name__ == "__main__":
    sys.exit(main())
