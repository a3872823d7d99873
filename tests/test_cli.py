"""The command line as a whole."""

from __future__ import annotations

from collections.abc import Callable

from conftest import POST, MakeNewsroom, Outcome


def test_builds_a_newsroom(make_newsroom: MakeNewsroom, postroom: Callable[..., Outcome]) -> None:
    """A post in a newsroom becomes a feed, pages and a letter."""
    folder = make_newsroom({"posts/2026-11-20-we-moved.md": POST})
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.err) == (0, "")
    assert (folder / "public/atom.xml").is_file()
