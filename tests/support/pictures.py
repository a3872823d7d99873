"""Draw the images of docs/: python -m tests.support.pictures, with the extras test and browser."""

from __future__ import annotations

import base64
import struct
import sys
import tempfile
import zlib
from collections import Counter
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from postroom.settings.site import load_settings
from tests.support import browser, sites, web_server
from tests.support.site import ROOT
from tests.support.web_server import EmptyStore

PICTURES = ROOT / "docs/pictures"
HEIGHTS = {375: 812, 800: 1000}
"""Height of a screenshot for each width in pixels; those of emails show the whole email."""
DEMO = {
    "index": "index.html",
    "post": "posts/magnets-outside-asia/index.html",
    "email": "digest/2024-02/email.html",
}
ARABIC = {"email-rtl": "digest/2026-11/email.html", "post-rtl": "posts/berth/index.html"}
WIDTH, HEIGHT = 640, 800
"""Width and height in pixels of the page and of the email in `page-and-email.png`."""
_BESIDE = """
body { display: flex; gap: 24px; margin: 0; padding: 20px; background: #eef1f3; }
div { width: 640px; height: 800px; border: 1px solid #c9d0d5; border-radius: 6px;
  overflow: hidden; }
p { box-sizing: border-box; margin: 0; padding: 11px 20px; border-bottom: 1px solid #dde2e5;
  background: #f7f9fa; color: #57616a; font: 15px/24px "Noto Sans", sans-serif; }
b { color: #15191c; }
img { display: block; }
"""
_PIXELS = """async url => {
  const image = await createImageBitmap(await (await fetch(url)).blob());
  const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  let text = '';
  for (let start = 0; start < pixels.length; start += 32768)
    text += String.fromCharCode(...pixels.subarray(start, start + 32768));
  return [image.width, image.height, btoa(text)];
}"""


def draw(chromium: Browser, url: str, name: str, schemes: tuple[browser.Scheme, ...]) -> None:
    """Draw the top of a page, or a whole email, for every width and these colour schemes."""
    # A script makes the image small, and pages of the server run no scripts: use an empty page.
    with browser.open_tab(chromium) as page, browser.open_tab(chromium) as empty:
        page.goto(url)
        for width, height in HEIGHTS.items():
            page.set_viewport_size({"width": width, "height": height})
            for scheme in schemes:
                page.emulate_media(color_scheme=scheme)
                image = page.screenshot(full_page="email" in name)
                (PICTURES / f"{name}-{width}-{scheme}.png").write_bytes(
                    reduce_colours(image, empty)
                )


def draw_beside(chromium: Browser, demo: Path) -> None:
    """Draw the front page of the demonstration beside the newest email, with its header fields."""
    shots = {
        "page": screenshot(chromium, demo / DEMO["index"], (WIDTH, HEIGHT - 46)),
        "email": screenshot(chromium, demo / DEMO["email"], (WIDTH, HEIGHT - 72)),
    }
    images = {
        name: f'<img src="data:image/png;base64,{base64.b64encode(shot).decode()}">'
        for name, shot in shots.items()
    }
    site = load_settings(ROOT)
    title = browser_title(chromium, demo / DEMO["email"])
    bars = {
        "page": f"<span>{urlsplit(site.url).hostname}</span>",
        "email": f"<b>{escape(title)}</b><br>{escape(site.mail.sender)}",
    }
    panes = "".join(f"<div><p>{bars[name]}</p>{images[name]}</div>" for name in shots)
    with browser.open_tab(chromium) as page, browser.open_tab(chromium) as empty:
        page.set_viewport_size({"width": 2 * WIDTH + 68, "height": HEIGHT + 42})
        page.set_content(f"<style>{_BESIDE}</style>{panes}")
        image = reduce_colours(page.screenshot(), empty)
    (PICTURES / "page-and-email.png").write_bytes(image)


def screenshot(chromium: Browser, path: Path, size: tuple[int, int]) -> bytes:
    """Return the top of a page in a light window of `size` pixels, as PNG."""
    with browser.open_tab(chromium) as page:
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme="light")
        page.goto(path.as_uri())
        return page.screenshot()


def browser_title(chromium: Browser, path: Path) -> str:
    """Return the title of a page; that of an email is its subject."""
    with browser.open_tab(chromium) as page:
        page.goto(path.as_uri())
        return page.title()


def reduce_colours(image: bytes, page: Page) -> bytes:
    """Return a PNG image with 256 colours: a third of the bytes, without a visible difference."""
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    width, height, text = page.evaluate(_PIXELS, url)
    data = base64.b64decode(text)
    pixels = [data[start : start + 3] for start in range(0, len(data), 4)]
    palette = [colour for colour, _ in Counter(pixels).most_common(256)]
    indexes = {colour: palette.index(_nearest(colour, palette)) for colour in set(pixels)}
    points = bytes(map(indexes.__getitem__, pixels))
    lines = b"".join(b"\0" + points[at : at + width] for at in range(0, len(points), width))
    # PNG 3rd edition §11.2: eight bits a pixel, each an index into the palette.
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
    body = _chunk(b"PLTE", b"".join(palette)) + _chunk(b"IDAT", zlib.compress(lines, 9))
    return b"\x89PNG\r\n\x1a\n" + header + body + _chunk(b"IEND", b"")


def _nearest(colour: bytes, palette: list[bytes]) -> bytes:
    return min(
        palette, key=lambda near: sum((a - b) ** 2 for a, b in zip(near, colour, strict=True))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def main() -> int:
    """Draw every image again and return an exit code."""
    executable = browser.find_browser()
    if executable is None:
        sys.stderr.write(f"No browser is installed; install one of {', '.join(browser.NAMES)}\n")
        return 1
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, browser.start(executable) as chromium:
        folder = Path(name)
        arabic = sites.write(folder / "source", sites.ARABIC)
        demo, port = (
            sites.build(ROOT, folder / "demo"),
            sites.build(arabic, folder / "rtl"),
        )
        draw_beside(chromium, demo)
        for kind, path in DEMO.items():
            draw(chromium, (demo / path).as_uri(), kind, browser.SCHEMES)
        for kind, path in ARABIC.items():
            draw(chromium, (port / path).as_uri(), kind, ("light",))
        with web_server.serve_site(ROOT, EmptyStore()) as served:
            draw(chromium, f"{served.url}list/unsubscribe/token", "unsubscribe", browser.SCHEMES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
