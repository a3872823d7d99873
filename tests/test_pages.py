"""The pages of the archive: where they lie, what they know, and how they lead to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html

from conftest import POST, SETTINGS, MakeNewsroom, Outcome
from postroom import config
from postroom.model import Html, Site
from postroom.pages import near, near_html, neighbours, output_path, relative_root

Postroom = Callable[..., Outcome]
BELOW = "https://example.org/press/news/"


def site_at(address: str) -> Site:
    """Return the settings of a newsroom that stands at `address`."""
    return config.read(SETTINGS.replace("https://news.example.com/", address).encode())


SITES = [site_at("https://news.example.com/"), site_at(BELOW)]
SEGMENTS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8).map(quote)
PLACES = st.builds(
    lambda segments, end: "/".join(segments) + (end if segments else ""),
    st.lists(SEGMENTS, max_size=4),
    st.sampled_from(["/", ".html"]),
)


@pytest.mark.parametrize(
    ("place", "path", "root"),
    [
        ("", "index.html", ""),
        ("atom.xml", "atom.xml", ""),
        ("posts/a/", "posts/a/index.html", "../../"),
        ("posts/a.html", "posts/a.html", "../"),
        ("digest/2026-W47/", "digest/2026-W47/index.html", "../../"),
        ("posts/%C3%BCber-uns/", "posts/über-uns/index.html", "../../"),
    ],
)
@pytest.mark.parametrize("site", SITES, ids=["root", "below"])
def test_an_address_has_its_place_in_the_output(
    site: Site, place: str, path: str, root: str
) -> None:
    """A folder's page is its index.html, wherever the newsroom itself stands on its host."""
    assert output_path(site.url + place, site) == path
    assert relative_root(site.url + place, site) == root


@given(here=PLACES, there=PLACES, site=st.sampled_from(SITES))
def test_a_near_address_leads_to_the_same_place(here: str, there: str, site: Site) -> None:
    """Seen from any page, the near form of an address means that address, and names no host."""
    page, target = site.url + here, site.url + there
    seen = near(target, site, relative_root(page, site))
    assert urljoin(page, seen) == target
    assert not urlsplit(seen).netloc
    assert seen


@pytest.mark.parametrize(
    "address",
    [
        "https://news.example.com.evil.example/",
        "https://other.example/",
        "mailto:a@b.example",
        "#x",
    ],
)
def test_addresses_of_others_stay(address: str) -> None:
    """Only addresses of the newsroom are made relative."""
    assert near(address, SITES[0], "../") == address
    assert near_html(Html(f'<a href="{address}">x</a>'), SITES[0], "../") == (
        f'<a href="{address}">x</a>'
    )


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ('<a href="https://news.example.com/b/">x</a>', '<a href="../b/">x</a>'),
        (
            '<img alt="a > b" src="https://news.example.com/p.png" width="1">',
            '<img alt="a > b" src="../p.png" width="1">',
        ),
        ('<q cite="https://news.example.com/">x</q>', '<q cite="../">x</q>'),
        ('<code>href="https://news.example.com/"</code>', None),
        ('<p title="https://news.example.com/">src="https://news.example.com/"</p>', None),
    ],
    ids=["link", "picture", "source", "code", "words"],
)
def test_only_addresses_change_in_html(written: str, seen: str | None) -> None:
    """Addresses in HTML become relative; words that look like them stay as the author wrote."""
    assert near_html(Html(written), SITES[0], "../") == (seen or written)


@given(st.lists(st.integers(), max_size=6))
def test_each_item_has_its_neighbours(items: list[int]) -> None:
    """In a newest-first row the one before is newer and the one after older."""
    rows = list(neighbours(items))
    assert [item for item, _, _ in rows] == items
    assert [newer for _, newer, _ in rows[1:]] == items[:-1]
    assert [older for _, _, older in rows[:-1]] == items[1:]
    if rows:
        assert (rows[0][1], rows[-1][2]) == (None, None)


OWN = {
    "templates/pages/index.html": (
        "{{ page.kind }} {{ page.url }} {{ posts|length }}"
        "{% for post in posts %} {{ here(post.url) }}{% endfor %}"
        "{% for digest in digests %} {{ here(digest.url) }}{% endfor %}"
    ),
    "templates/pages/post.html": (
        "{{ page.kind }} {{ page.lang }} {{ direction }} {{ post.title }}"
        " {{ newer.title if newer }}/{{ older.title if older }} {{ here(site.url) }}"
    ),
    "templates/pages/digest.html": (
        "{{ page.title }} {{ newer.period if newer }}/{{ older.period if older }}"
        "{% for post in posts %} {{ post.title }}{% endfor %}"
    ),
}


def note(date: str, title: str, more: str = "", text: str = "Text.") -> str:
    """Return a post without an id of its own."""
    return f"---\ntitle: {title}\ndate: {date}\n{more}---\n{text}\n"


def test_pages_know_their_place(make_newsroom: MakeNewsroom, postroom: Postroom) -> None:
    """Index, posts and digests get their posts newest first, neighbours, and the way between."""
    files = {
        "posts/a.md": note("2026-09-01", "A"),
        "posts/b.md": note("2026-09-30", "B", "lang: de\n"),
        "posts/c.md": note("2026-11-02", "C"),
    }
    folder = make_newsroom({**files, **OWN})
    assert postroom(folder, "build").code == 0
    pages = {
        "index": "index https://news.example.com/ 3"
        " posts/c/ posts/b/ posts/a/ digest/2026-11/ digest/2026-09/",
        "posts/a/index": "post en ltr A B/ ../../",
        "posts/b/index": "post de ltr B C/A ../../",
        "posts/c/index": "post en ltr C /B ../../",
        "digest/2026-09/index": "September 2026 2026-11/ B A",
        "digest/2026-11/index": "November 2026 /2026-09 C",
    }
    found = {name: (folder / f"public/{name}.html").read_text() for name in pages}
    assert found == pages


def test_the_index_shows_the_newest_twenty(make_newsroom: MakeNewsroom, postroom: Postroom) -> None:
    """The front page shows twenty posts; the older ones have their digests and pages."""
    days = [f"2026-10-{day:02}" for day in range(1, 26)]
    files = {f"posts/{day}-note.md": note(day, f"N{day}", f"slug: n{day}\n") for day in days}
    folder = make_newsroom({**files, **OWN})
    postroom(folder, "build")
    shown = " ".join(f"posts/n{day}/" for day in reversed(days[5:]))
    assert (folder / "public/index.html").read_text() == (
        f"index https://news.example.com/ 20 {shown} digest/2026-10/"
    )


def local_links(page: Path, public: Path) -> Iterator[Path]:
    """Yield each file below `public` that the page leads to or shows."""
    tree = html.parse(page).getroot()
    for _, attribute, address, _ in tree.iterlinks():
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or attribute == "xmlns":
            continue
        place = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert place.is_relative_to(public), f"{page} leads to {address}"
        yield place / "index.html" if place.is_dir() else place


@pytest.mark.parametrize("address", ["https://news.example.com/", BELOW], ids=["root", "below"])
@pytest.mark.parametrize("permalink", ["/posts/{slug}/", "/{year}/{slug}.html"])
def test_no_page_leads_nowhere(
    make_newsroom: MakeNewsroom, postroom: Postroom, address: str, permalink: str
) -> None:
    """Every near address on every page leads to a file of the output, opened from anywhere."""
    text = "![p](ü.png) [b](b.md) [top](#top)\n\n| a |\n|---|\n| [c](c.md#x) |\n"
    files: dict[str, str | bytes] = {
        "posts/a.md": note("2026-09-01", "Ä", "enclosure: a.mp3\nimage: ü.png\n", text),
        "posts/a.mp3": b"ID3",
        "posts/ü.png": b"png",
        "posts/b.md": note("2026-09-30", "B", "lang: ar\n"),
        "posts/c.md": note("2026-11-02", "C"),
        "posts/d.md": POST,
    }
    folder = make_newsroom(files, f"pages: {{permalink: '{permalink}'}}\n")
    settings = folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("https://news.example.com/", address))
    assert postroom(folder, "build").code == 0
    public = (folder / "public").resolve()
    pages = [path for path in public.rglob("*.html") if path.name != "letter.html"]
    assert len(pages) >= 7
    met = {target for page in pages for target in local_links(page, public)}
    assert [str(target) for target in met if not target.is_file()] == []
    assert {path.suffix for path in met} >= {".html", ".css", ".png", ".mp3"}
    assert set(pages) <= met
