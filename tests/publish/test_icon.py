"""The icon of a site, on its pages and in its feeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree, html

from postroom.errors import SettingsError
from postroom.settings.site import load_settings
from postroom.theme.environment import Theme
from postroom.theme.icon import find_initial
from postroom.web.pages import render_service_pages
from tests.support import sites, web_server
from tests.support.site import POST, SETTINGS, CommandResult, MakeSite
from tests.support.web_server import EmptyStore

Postroom = Callable[..., CommandResult]
HOME = "https://news.example.com/"
ATOM = "{http://www.w3.org/2005/Atom}"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="8" height="8"/></svg>'
LOGO = "theme: {logo: art/our logo.png}\n"


def icon_links(page: Path) -> list[dict[str, str]]:
    """Return the attributes of the links to icons in a page."""
    found = html.fromstring(page.read_bytes()).findall(".//link[@rel='icon']")
    return [dict(link.attrib) for link in found]


def atom(folder: Path, name: str) -> str | None:
    """Return the text of an element of the site's Atom feed."""
    text: str | None = etree.parse(folder / "public/atom.xml").findtext(ATOM + name)
    return text


def test_the_theme_draws_an_icon_with_the_initial(make_site: MakeSite, postroom: Postroom) -> None:
    """Without a logo all pages and feeds link an SVG that the theme draws."""
    folder = make_site({"posts/a.md": POST})
    assert postroom(folder, "build").code == 0
    (post,) = (folder / "public/posts").glob("*/index.html")
    for page, href in ((folder / "public/index.html", "favicon.svg"), (post, "../../favicon.svg")):
        assert icon_links(page) == [
            {"rel": "icon", "href": href, "type": "image/svg+xml", "sizes": "any"}
        ]
    drawing = etree.parse(folder / "public/favicon.svg").getroot()
    assert drawing.findtext("{http://www.w3.org/2000/svg}text") == "E"
    assert "prefers-color-scheme: dark" in (folder / "public/favicon.svg").read_text()
    assert (atom(folder, "icon"), atom(folder, "logo")) == (f"{HOME}favicon.svg", None)
    feed = json.loads((folder / "public/feed.json").read_text())
    assert (feed["icon"], feed["favicon"]) == (f"{HOME}favicon.svg",) * 2
    assert etree.parse(folder / "public/rss.xml").find("channel/image") is None


def test_the_logo_is_the_icon(make_site: MakeSite, postroom: Postroom) -> None:
    """Pages and feeds link the logo of the settings, by a URL in which the path is encoded."""
    folder = make_site({"posts/a.md": POST, "art/our logo.png": sites.IMAGE}, LOGO)
    assert postroom(folder, "build").code == 0
    assert not (folder / "public/favicon.svg").exists()
    page = folder / "public/index.html"
    assert icon_links(page) == [{"rel": "icon", "href": "art/our%20logo.png", "type": "image/png"}]
    images = html.fromstring(page.read_bytes()).findall(".//header//img")
    assert [image.get("src") for image in images] == ["art/our%20logo.png"]
    url = f"{HOME}art/our%20logo.png"
    assert (atom(folder, "icon"), atom(folder, "logo")) == (url, url)
    feed = json.loads((folder / "public/feed.json").read_text())
    assert (feed["icon"], feed["favicon"]) == (url, url)


@pytest.mark.parametrize(
    ("suffix", "is_listed"),
    [("png", True), ("gif", True), ("jpeg", True), ("svg", False), ("webp", False)],
)
def test_rss_lists_only_images_that_it_allows(
    make_site: MakeSite, postroom: Postroom, suffix: str, *, is_listed: bool
) -> None:
    """The image of an RSS feed is a GIF, JPEG or PNG, with the title and link of the channel."""
    name = f"logo.{suffix}"
    folder = make_site({"posts/a.md": POST, name: sites.IMAGE}, f"theme: {{logo: {name}}}\n")
    assert postroom(folder, "build").code == 0
    channel = etree.parse(folder / "public/rss.xml").find("channel")
    assert channel is not None
    image = channel.find("image")
    assert (image is not None) is is_listed
    if image is not None:
        assert {child.tag: child.text for child in image} == {
            "url": HOME + name,
            "title": channel.findtext("title"),
            "link": channel.findtext("link"),
        }


@pytest.mark.parametrize(
    ("names", "linked"),
    [
        (["favicon.ico"], "favicon.ico"),
        (["favicon.svg"], "favicon.svg"),
        (["favicon.ico", "favicon.svg"], "favicon.svg"),
    ],
)
def test_own_icons_are_copied(
    make_site: MakeSite, postroom: Postroom, names: list[str], linked: str
) -> None:
    """A site's own icons are copied, and one of them is linked instead of the logo."""
    files = {"posts/a.md": POST, "art/our logo.png": sites.IMAGE, **dict.fromkeys(names, SVG)}
    folder = make_site(files, LOGO)
    assert postroom(folder, "build").code == 0
    assert {path.name for path in (folder / "public").glob("favicon*")} == set(names)
    assert all((folder / "public" / name).read_bytes() == SVG for name in names)
    assert [link["href"] for link in icon_links(folder / "public/index.html")] == [linked]
    assert (atom(folder, "icon"), atom(folder, "logo")) == (
        HOME + linked,
        f"{HOME}art/our%20logo.png",
    )
    feed = json.loads((folder / "public/feed.json").read_text())
    assert (feed["icon"], feed["favicon"]) == (f"{HOME}art/our%20logo.png", HOME + linked)


def test_a_logo_may_be_an_own_icon(make_site: MakeSite, postroom: Postroom) -> None:
    """One file can be both, and is written once."""
    folder = make_site({"posts/a.md": POST, "favicon.svg": SVG}, "theme: {logo: favicon.svg}\n")
    assert postroom(folder, "build").code == 0
    assert (folder / "public/favicon.svg").read_bytes() == SVG


@pytest.mark.parametrize(
    ("target", "what"),
    [
        (".postroom/postroom.db", "leads to the hidden '.postroom'"),
        ("/etc/passwd", "leads out of the site"),
        ("postroom.yaml", "is a link to a file that has no ending of an image"),
    ],
)
@pytest.mark.parametrize("command", ["build", "check", "serve"])
def test_no_link_publishes_a_secret_as_an_icon(
    make_site: MakeSite, postroom: Postroom, target: str, what: str, command: str
) -> None:
    """`build`, `check` and `serve` judge an icon by the target of its links."""
    folder = make_site({"posts/a.md": POST, ".postroom/postroom.db": "secret"})
    (folder / "favicon.ico").symlink_to(target)
    line = f"favicon.ico: {what}; replace it by the image itself, or remove it"
    if command != "serve":
        outcome = postroom(folder, command)
        assert (outcome.code, outcome.errors) == (2, [line])
        assert not (folder / "public").exists()
        return
    site = load_settings(folder)
    with pytest.raises(SettingsError) as caught:
        render_service_pages(site, Theme(folder, site.language), folder)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("files", "settings", "path"),
    [
        ({}, "", "/list/favicon.svg"),
        ({"favicon.ico": SVG}, "", "/list/favicon.ico"),
        ({"art/our logo.png": SVG}, LOGO, "/list/logo.png"),
        # The logo may be missing on the machine that serves.
        ({}, LOGO, "/list/favicon.svg"),
    ],
)
def test_the_service_has_its_own_copy(
    tmp_path: Path, files: dict[str, bytes], settings: str, path: str
) -> None:
    """The pages of the service link an icon that the service sends."""
    folder = sites.write(
        tmp_path, {"postroom.yaml": SETTINGS + settings, "posts/a.md": POST, **files}
    )
    with web_server.serve_site(folder, EmptyStore()) as running:
        page = tmp_path / "page.html"
        page.write_bytes(running.ask("/list/unsubscribe/x").body)
        assert [link["href"] for link in icon_links(page)] == [path]
        answer = running.ask(path)
        assert answer.status == 200
        assert SVG in answer.body or answer.body.startswith(b"<svg")


def test_a_template_of_the_site_draws_its_own(make_site: MakeSite, postroom: Postroom) -> None:
    """A site replaces the drawing as it replaces any template."""
    template = "<svg xmlns='http://www.w3.org/2000/svg'><text>{{ initial }}</text></svg>"
    folder = make_site({"posts/a.md": POST, "templates/favicon.svg": template})
    assert postroom(folder, "build").code == 0
    written = (folder / "public/favicon.svg").read_text()
    assert written == "<svg xmlns='http://www.w3.org/2000/svg'><text>E</text></svg>"


@pytest.mark.parametrize(
    ("title", "initial"),
    [
        ("news", "N"),
        ("“Quoted” news", "Q"),
        ("3D print", "3"),
        ("élan", "É"),
        ("e\N{COMBINING ACUTE ACCENT}lan", "E\N{COMBINING ACUTE ACCENT}"),
        ("ßharp", "ß"),
        ("新闻", "新"),
        ("\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-3}", None),
        ("أخبار", "أ"),
        ("<&>", "<"),
    ],
)
def test_the_initial_is_one_letter(title: str, initial: str | None) -> None:
    """The initial is the first letter or digit as a capital, in any script."""
    assert find_initial(title) == (initial or title)


def test_any_title_makes_a_well_formed_drawing(make_site: MakeSite, postroom: Postroom) -> None:
    """A title of characters that XML reserves is escaped."""
    folder = make_site({"posts/a.md": POST})
    settings = folder / "postroom.yaml"
    lines = settings.read_text().splitlines()
    changed = ['title: "<&>"' if line.startswith("title:") else line for line in lines]
    settings.write_text("\n".join(changed) + "\n")
    assert postroom(folder, "build").code == 0
    drawing = etree.parse(folder / "public/favicon.svg").getroot()
    assert drawing.findtext("{http://www.w3.org/2000/svg}text") == "<"
