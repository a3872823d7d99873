"""Names of files that differ in Unicode form or in case."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest

from tests.support.site import POST, CommandResult, MakeSite

Postroom = Callable[..., CommandResult]
NFC = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
NFD = unicodedata.normalize("NFD", NFC)


def post(number: int, body: str) -> str:
    """Return a post with an id and a date of its own."""
    text = POST.replace("we-moved", f"post-{number}").replace("We moved", f"Move {number}")
    return text.replace("11-20", f"11-{number}") + body


@pytest.mark.parametrize(("linked", "named"), [(NFC, NFD), (NFD, NFC), (NFC, NFC)])
def test_a_link_finds_a_file_in_any_unicode_form(
    make_site: MakeSite, postroom: Postroom, linked: str, named: str
) -> None:
    """Programs of macOS store decomposed names, and people type composed ones."""
    body = f"\n[The menu]({linked}.pdf), [a day]({linked}.md) and ![The house]({linked}.svg)\n"
    folder = make_site(
        {
            "posts/a.md": post(10, body),
            f"posts/{named}.md": post(11, ""),
            f"posts/{named}.pdf": b"%PDF",
            f"posts/{named}.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>',
        }
    )
    checked = postroom(folder, "check")
    assert (checked.code, checked.errors, checked.warnings) == (0, [], [])
    assert postroom(folder, "build").code == 0
    assert (folder / f"public/posts/a/{named}.pdf").read_bytes() == b"%PDF"
    assert 'width="4"' in (folder / "public/posts/a/index.html").read_text()


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        ("Map.svg", "map.svg", "case"),
        (f"{NFD}.pdf", f"{NFC}.pdf", "the form of its characters"),
        ("a/B.png", "a/b.png", "case"),
        ("News.md", "news.md", "case"),
    ],
)
def test_names_that_some_systems_cannot_tell_apart_are_an_error(
    make_site: MakeSite, postroom: Postroom, first: str, second: str, differs: str
) -> None:
    """On macOS and Windows a checkout keeps only one of the two files."""
    files = {f"posts/{first}": post(10, ""), f"posts/{second}": post(11, "")}
    folder = make_site({"posts/z.md": post(12, ""), **files})
    line = f"posts/{second}: differs from '{first}' only in {differs}; rename one of them"
    for command in ("build", "check"):
        outcome = postroom(folder, command)
        assert (outcome.code, line in outcome.errors) == (1, True)


def test_equal_names_in_different_folders_are_no_error(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """Only whole paths are compared."""
    files = {"posts/a/map.svg": b"<svg/>", "posts/b/Map.svg": b"<svg/>"}
    assert postroom(make_site({"posts/z.md": post(12, ""), **files}), "build").code == 0
