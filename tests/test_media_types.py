"""One table of media types serves the build and the web server."""

from __future__ import annotations

import mimetypes

import pytest

from postroom.media_types import content_type, may_run_scripts, media_type
from postroom.settings import paths


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("posts/talk.m4a", "audio/mp4"),
        ("book.m4b", "audio/mp4"),
        ("film.M4V", "video/mp4"),
        ("talk.mp3", "audio/mpeg"),
        ("film.mp4", "video/mp4"),
        ("talk.ogg", "audio/ogg"),
        ("talk.oga", "audio/ogg"),
        ("talk.opus", "audio/ogg"),
        ("talk.flac", "audio/flac"),
        ("talk.wav", "audio/wav"),
        ("film.webm", "video/webm"),
        ("photo.webp", "image/webp"),
        ("photo.avif", "image/avif"),
        ("logo.svg", "image/svg+xml"),
        ("favicon.ico", "image/vnd.microsoft.icon"),
        ("book.epub", "application/epub+zip"),
        ("paper.pdf", "application/pdf"),
        ("files.tar.gz", "application/gzip"),
        ("files.zip", "application/zip"),
        ("prices.csv", "text/csv"),
        ("fair.ics", "text/calendar"),
        ("captions.vtt", "text/vtt"),
        ("font.woff2", "font/woff2"),
        ("data.xyz", ""),
        ("zip", ""),
        (".zip", ""),
        ("a.mp3/readme", ""),
    ],
)
def test_the_ending_of_a_name_tells_the_media_type(path: str, kind: str) -> None:
    """An ending counts in any case; a name without a known ending has no media type."""
    assert media_type(path) == kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("atom.xml", "application/xml; charset=utf-8"),
        ("feed.json", "application/json"),
        ("talk.m4a", "audio/mp4"),
        ("data", "application/octet-stream"),
    ],
)
def test_the_content_type_of_text_names_its_encoding(path: str, kind: str) -> None:
    """The server sends text as UTF-8 and files of an unknown type as bytes."""
    assert content_type(path) == kind


def test_the_table_of_the_machine_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python reads types from files such as /etc/mime.types, which differ between machines."""
    monkeypatch.setitem(mimetypes.types_map, ".m4a", "audio/other")
    monkeypatch.setitem(mimetypes.types_map, ".xyz", "chemical/x-xyz")
    assert (media_type("a.m4a"), media_type("a.xyz")) == ("audio/mp4", "")


def test_each_image_that_a_site_may_name_has_an_image_type() -> None:
    """The list of image endings and the table agree."""
    assert all(media_type(f"logo{ending}").startswith("image/") for ending in paths.IMAGES)


XMLNS = 'xmlns="http://www.w3.org/2000/svg"'


@pytest.mark.parametrize(
    "text",
    [
        f"<svg {XMLNS}><script>alert()</script></svg>",
        f'<svg {XMLNS} onload="alert()"/>',
        f'<svg {XMLNS}><a href=" java&#9;script:alert()"/></svg>',
        f'<svg {XMLNS}><set attributeName="href" to="javascript:alert()"/></svg>',
        f"<svg {XMLNS}><foreignObject/></svg>",
        f'<svg {XMLNS}><h:script xmlns:h="http://www.w3.org/1999/xhtml"/></svg>',
        f"<!DOCTYPE svg [<!ENTITY a '<script/>'>]><svg {XMLNS}>&a;</svg>",
        f'<?xml-stylesheet href="a.xsl" type="text/xsl"?><svg {XMLNS}/>',
        f"<svg {XMLNS}>",
        "",
    ],
)
def test_an_image_with_a_script_is_active(text: str) -> None:
    """An SVG image is active if any part of it can run, also in UTF-16, or if nobody can tell."""
    assert may_run_scripts("a.svg", text.encode())
    assert may_run_scripts("a.svg", text.encode("utf-16"))


@pytest.mark.parametrize(
    "text",
    [
        f'<svg {XMLNS}><style>a {{ fill: red }}</style><a href="https://a.example/"/></svg>',
        f'<?xml version="1.0"?>\n<!-- by a program --><svg {XMLNS}><!-- on="1" --></svg>',
        f'<?xml-stylesheet href="a.css" type="text/css"?><svg {XMLNS}/>',
    ],
)
def test_an_image_without_a_script_is_not_active(text: str) -> None:
    """Styles, links and comments do not make an image active."""
    assert not may_run_scripts("a.svg", text.encode())


@pytest.mark.parametrize(
    ("path", "is_active"),
    [
        *((f"a.{ending}", True) for ending in ("html", "HTM", "xhtml", "js", "mjs")),
        *((f"a.{ending}", False) for ending in ("png", "pdf", "css", "json", "unknown")),
    ],
)
def test_pages_and_programs_are_always_active(path: str, *, is_active: bool) -> None:
    """Files of other types are not active, whatever they hold."""
    assert may_run_scripts(path, b"<script>") is is_active
