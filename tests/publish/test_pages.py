"""The pages of the archive: their paths, their contents and the links between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html

from postroom.models import Html, Site
from postroom.publish.pages import (
    find_neighbours,
    output_path,
    relative_html,
    relative_root,
    relative_url,
    wrap_short_cells,
)
from postroom.settings.site import parse_settings
from tests.support import sites
from tests.support.site import POST, SETTINGS, CommandResult, MakeSite

Postroom = Callable[..., CommandResult]
BELOW = "https://example.org/press/news/"


def site_at(address: str) -> Site:
    """Return the settings of a site at a URL."""
    return parse_settings(SETTINGS.replace("https://news.example.com/", address).encode())


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
def test_a_url_has_its_path_in_the_output(site: Site, place: str, path: str, root: str) -> None:
    """The page of a folder is its index.html, at any path of the site on its host."""
    assert output_path(site.url + place, site) == path
    assert relative_root(site.url + place, site) == root


@given(here=PLACES, there=PLACES, site=st.sampled_from(SITES))
def test_a_relative_url_has_the_same_target(here: str, there: str, site: Site) -> None:
    """A relative URL has the same target from any page and names no host."""
    page, target = site.url + here, site.url + there
    seen = relative_url(target, site, relative_root(page, site))
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
def test_external_urls_stay(address: str) -> None:
    """Only URLs of the site become relative."""
    assert relative_url(address, SITES[0], "../") == address
    assert relative_html(Html(f'<a href="{address}">x</a>'), SITES[0], "../") == (
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
def test_only_urls_change_in_html(written: str, seen: str | None) -> None:
    """URLs in HTML attributes become relative; URLs in text stay as the author wrote them."""
    assert relative_html(Html(written), SITES[0], "../") == (seen or written)


@given(st.lists(st.integers(), max_size=6))
def test_each_item_has_its_neighbours(items: list[int]) -> None:
    """The previous item of a newest-first list is newer and the next one is older."""
    rows = list(find_neighbours(items))
    assert [item for item, _, _ in rows] == items
    assert [newer for _, newer, _ in rows[1:]] == items[:-1]
    assert [older for _, _, older in rows[:-1]] == items[1:]
    if rows:
        assert (rows[0][1], rows[-1][2]) == (None, None)


OWN = {
    "templates/pages/index.html": (
        "{{ page.kind }} {{ page.url }} {{ posts|length }}"
        "{% for post in posts %} {{ relative_url(post.url) }}{% endfor %}"
        "{% for digest in digests %} {{ relative_url(digest.url) }}{% endfor %}"
    ),
    "templates/pages/post.html": (
        "{{ page.kind }} {{ page.lang }} {{ direction }} {{ post.title }}"
        " {{ newer.title if newer }}/{{ older.title if older }} {{ relative_url(site.url) }}"
    ),
    "templates/pages/digest.html": (
        "{{ page.title }} {{ newer.period if newer }}/{{ older.period if older }}"
        "{% for post in posts %} {{ post.title }}{% endfor %}"
    ),
}


def note(date: str, title: str, more: str = "", text: str = "Text.") -> str:
    """Return a post without an id of its own."""
    return f"---\ntitle: {title}\ndate: {date}\n{more}---\n{text}\n"


def test_pages_have_posts_and_neighbours(make_site: MakeSite, postroom: Postroom) -> None:
    """Index, posts and digests get their posts newest first, their neighbours and breadcrumbs."""
    files = {
        "posts/a.md": note("2026-09-01", "A"),
        "posts/b.md": note("2026-09-30", "B", "lang: de\n"),
        "posts/c.md": note("2026-11-02", "C"),
    }
    folder = make_site({**files, **OWN})
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


def test_the_index_shows_the_newest_ten(make_site: MakeSite, postroom: Postroom) -> None:
    """The front page shows ten posts; digests and pages show the older ones."""
    days = [f"2026-10-{day:02}" for day in range(1, 26)]
    files = {f"posts/{day}-note.md": note(day, f"N{day}", f"slug: n{day}\n") for day in days}
    folder = make_site({**files, **OWN})
    postroom(folder, "build")
    shown = " ".join(f"posts/n{day}/" for day in reversed(days[15:]))
    assert (folder / "public/index.html").read_text() == (
        f"index https://news.example.com/ 10 {shown} digest/2026-10/"
    )


def local_links(page: Path, public: Path, root: str) -> Iterator[Path]:
    """Yield each file below `public`, which is at the path `root`, that the page links to."""
    tree = html.parse(page).getroot()
    for _, attribute, address, _ in tree.iterlinks():
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or attribute == "xmlns":
            continue
        path = unquote(parts.path)
        folder = public if path.startswith("/") else page.parent
        place = (folder / path.removeprefix(root)).resolve() if path else page
        assert place.is_relative_to(public), f"{page} leads to {address}"
        yield place / "index.html" if place.is_dir() else place


@pytest.mark.parametrize("address", ["https://news.example.com/", BELOW], ids=["root", "below"])
@pytest.mark.parametrize("permalink", ["/posts/{slug}/", "/{year}/{slug}.html"])
def test_no_page_has_a_broken_link(
    make_site: MakeSite, postroom: Postroom, address: str, permalink: str
) -> None:
    """Every relative URL on every page leads to a file of the output."""
    text = "![p](ü.png) [b](b.md) [top](#top)\n\n| a |\n|---|\n| [c](c.md#x) |\n"
    files: dict[str, str | bytes] = {
        "posts/a.md": note("2026-09-01", "Ä", "enclosure: a.mp3\nimage: ü.png\n", text),
        "posts/a.mp3": b"ID3",
        "posts/ü.png": b"png",
        "posts/b.md": note("2026-09-30", "B", "lang: ar\n"),
        "posts/c.md": note("2026-11-02", "C"),
        "posts/d.md": POST,
    }
    folder = make_site(files, f"pages: {{permalink: '{permalink}'}}\n")
    settings = folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("https://news.example.com/", address))
    assert postroom(folder, "build").code == 0
    public = (folder / "public").resolve()
    pages = [path for path in public.rglob("*.html") if path.name != "email.html"]
    assert len(pages) >= 7
    met = {target for page in pages for target in local_links(page, public, urlsplit(address).path)}
    assert [str(target) for target in met if not target.is_file()] == []
    assert {path.suffix for path in met} >= {".html", ".css", ".png", ".mp3"}
    assert set(pages) <= met


def text_of(page: Path, path: str) -> list[str]:
    """Return the text of each element of a page at an XPath."""
    found = html.parse(page).getroot().xpath(path)
    return [" ".join(element.text_content().split()) for element in found]


def test_the_404_page_works_at_any_depth(make_site: MakeSite, postroom: Postroom) -> None:
    """The links of the 404 page begin at the root of the host, because it appears at any URL."""
    folder = make_site({"posts/a.md": POST})
    settings = folder / "postroom.yaml"
    settings.write_text(settings.read_text().replace("https://news.example.com/", BELOW))
    assert postroom(folder, "build").code == 0
    tree = html.parse(folder / "public/404.html").getroot()
    own = [a for _, _, a, _ in tree.iterlinks() if not urlsplit(a).scheme and a != "#main"]
    feeds = [a for _, _, a, _ in tree.iterlinks() if a.startswith(BELOW)]
    assert [address for address in own if not address.startswith("/press/news/")] == []
    assert {address.rpartition("/")[2] for address in feeds} <= {"atom.xml", "rss.xml", "feed.json"}


def test_the_index_links_to_years_and_topics(make_site: MakeSite, postroom: Postroom) -> None:
    """The navigation of each page and the list of posts link to all older posts."""
    files = {
        "posts/a.md": note("2025-09-01", "A", "topics: [Ships]\n"),
        "posts/b.md": note("2026-09-30", "B", "topics: [Ships]\nimage: p.png\n"),
        "posts/p.png": sites.IMAGE,
    }
    public = make_site(files) / "public"
    assert postroom(public.parent, "build").code == 0
    index = html.parse(public / "index.html").getroot()
    links = [(a.text_content(), a.get("href")) for a in index.iter("a")]
    assert links[1:3] == [("Archive", "archive/2026/"), ("Topics", "#topics")]
    assert ("All news of 2026", "archive/2026/") in links
    assert links.count(("Ships", "topics/ships/")) == 3
    assert [img.get("src") for img in index.iter("img")] == ["posts/b/p.png"]
    assert text_of(public / "archive/2025/index.html", "//main//a") == ["2026", "2025", "A"]


def test_without_pages_topics_are_no_links(make_site: MakeSite, postroom: Postroom) -> None:
    """A topic without a page is text without a link."""
    files = {"posts/a.md": note("2026-09-01", "A", "topics: [Ships]\n")}
    folder = make_site(files, "pages: {enabled: false, permalink: '/{slug}/'}\n")
    assert postroom(folder, "build").code == 0
    page = folder / "public/digest/2026-09/index.html"
    assert text_of(page, "//*[@class='topic']") == ["Ships"]
    assert text_of(page, "//*[@class='topic']/a") == []


def test_the_page_to_follow_has_one_row_for_each_feed(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """The main feed has the first row with its URL, then each topic and language has one."""
    files = {
        "posts/a.md": note("2026-09-01", "A", "topics: [Ships, الميناء]\n"),
        "posts/b.md": note("2026-09-30", "B", "lang: ar\n"),
    }
    folder = make_site(files)
    assert postroom(folder, "build").code == 0
    page = folder / "public/subscribe/index.html"
    assert text_of(page, "//code") == ["https://news.example.com/atom.xml"]
    assert text_of(page, "//main//li") == [
        f"{name} Atom · RSS · JSON Feed" for name in ("Ships", "الميناء", "العربية", "English")
    ]
    assert text_of(page, "//main//p[@class='links']/a") == [
        "All feeds (OPML)",
        "See the newest digest",
    ]


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("<table><td>2 June 2025</td></table>", '<td class="short">2 June 2025</td>'),
        (
            '<table><th style="text-align: right">Price</th></table>',
            '<th style="text-align: right" class="short">Price</th>',
        ),
        ("<table><td>A cell of more letters</td></table>", "<td>A cell of more letters</td>"),
        ("<table><td><b>Bold</b></td></table>", "<td><b>Bold</b></td>"),
        ('<table><td class="x">A</td></table>', '<td class="x">A</td>'),
        ("<p>td</p>", "<p>td</p>"),
    ],
)
def test_a_short_cell_stands_on_one_line(written: str, made: str) -> None:
    """Only short cells get the class, and the author's own class stays."""
    assert made in wrap_short_cells(Html(written))


def test_names_of_a_site_keep_their_own_direction(make_site: MakeSite, postroom: Postroom) -> None:
    """`C++/C#` reads from left to right on an Arabic site, on its pages and in its emails."""
    post = POST.replace("Company news", "C++/C#")
    other = POST.replace("we-moved", "twin").replace("11-20", "11-19").replace("We", "Soon we")
    folder = make_site({"posts/a.md": post, "posts/b.md": other})
    settings = SETTINGS.replace("language: en", "language: ar").replace("Example News", "C++/C#")
    (folder / "postroom.yaml").write_text(settings + "description: C++/C#\n")
    assert postroom(folder, "build").code == 0
    public = folder / "public"
    globs = ("index.html", "subscribe/*.html", "topics/*/*.html", "digest/*/*.html")
    for path in (path for pattern in globs for path in public.glob(pattern)):
        tree = html.fromstring(path.read_bytes()).find("body")
        assert tree is not None
        named = [node for node in tree.iter() if (node.text or "").strip() == "C++/C#"]
        assert named
        for node in named:
            isolated = next(
                up for up in (node, *node.iterancestors("*")) if up.tag == "bdi" or up.get("dir")
            )
            assert isolated.get("dir", "auto") == "auto"
    (email,) = public.glob("digest/*/email.html")
    assert "<bdi" not in email.read_text()
    assert '<span dir="auto">C++/C#</span>' in email.read_text()
