"""Draws the pictures of docs/: python tests/pictures.py, with the extras test and browser."""

from __future__ import annotations

import base64
import struct
import sys
import tempfile
import zlib
from collections import Counter
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.support import browser, sites, web_server
from tests.support.site import ROOT
from tests.support.web_server import Nobody

PICTURES = ROOT / "docs/pictures"
HEIGHTS = {375: 812, 800: 1000}
"""Pixels that are shown of a page, for each width of the window; a letter is shown whole."""
DEMO = {
    "index": "index.html",
    "post": "posts/magnets-outside-asia/index.html",
    "letter": "digest/2024-02/email.html",
}
ARABIC = {"letter-rtl": "digest/2026-11/email.html", "post-rtl": "posts/berth/index.html"}
_PIXELS = """async address => {
  const image = await createImageBitmap(await (await fetch(address)).blob());
  const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  let text = '';
  for (let start = 0; start < pixels.length; start += 32768)
    text += String.fromCharCode(...pixels.subarray(start, start + 32768));
  return [image.width, image.height, btoa(text)];
}"""


def draw(chromium: Browser, address: str, name: str, schemes: tuple[browser.Scheme, ...]) -> None:
    """Draw the head of a page, or a whole letter, for every width and these colour schemes."""
    # What makes a picture small is a script, and a page that was served runs none.
    with browser.tab(chromium) as page, browser.tab(chromium) as empty:
        page.goto(address)
        for width, height in HEIGHTS.items():
            page.set_viewport_size({"width": width, "height": height})
            for scheme in schemes:
                page.emulate_media(color_scheme=scheme)
                picture = page.screenshot(full_page="letter" in name)
                (PICTURES / f"{name}-{width}-{scheme}.png").write_bytes(small(picture, empty))


def small(picture: bytes, page: Page) -> bytes:
    """Return a PNG picture with 256 colours: a third of the bytes, and no eye sees it."""
    address = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    width, height, text = page.evaluate(_PIXELS, address)
    data = base64.b64decode(text)
    pixels = [data[start : start + 3] for start in range(0, len(data), 4)]
    palette = [colour for colour, _ in Counter(pixels).most_common(256)]
    places = {colour: palette.index(_nearest(colour, palette)) for colour in set(pixels)}
    points = bytes(map(places.__getitem__, pixels))
    lines = b"".join(b"\0" + points[at : at + width] for at in range(0, len(points), width))
    # PNG 3rd edition §11.2: eight bits a pixel, each a place in the palette.
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
    body = _chunk(b"PLTE", b"".join(palette)) + _chunk(b"IDAT", zlib.compress(lines, 9))
    return b"\x89PNG\r\n\x1a\n" + head + body + _chunk(b"IEND", b"")


def _nearest(colour: bytes, palette: list[bytes]) -> bytes:
    return min(palette, key=lambda one: sum((a - b) ** 2 for a, b in zip(one, colour, strict=True)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def main() -> int:
    """Draw every picture anew and return an exit code."""
    executable = browser.installed()
    if executable is None:
        sys.stderr.write(f"No browser is installed; install one of {', '.join(browser.NAMES)}\n")
        return 1
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, browser.started(executable) as chromium:
        folder = Path(name)
        arabic = sites.write(folder / "source", sites.ARABIC)
        demo, port = (
            sites.build(ROOT, folder / "demo"),
            sites.build(arabic, folder / "rtl"),
        )
        for kind, path in DEMO.items():
            draw(chromium, (demo / path).as_uri(), kind, browser.SCHEMES)
        for kind, path in ARABIC.items():
            draw(chromium, (port / path).as_uri(), kind, ("light",))
        with web_server.serving(ROOT, Nobody()) as served:
            draw(chromium, f"{served.url}list/unsubscribe/token", "leave", browser.SCHEMES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
