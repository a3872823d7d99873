"""The demonstration site of this repository."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.posts import front_matter, loader
from postroom.settings.site import load_settings
from tests.support.site import AT, ROOT, CommandResult

Postroom = Callable[..., CommandResult]
GOLDEN = Path(__file__).parents[1] / "golden/demo"
POSTS = sorted((ROOT / "posts").rglob("*.md"))


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Return a copy of the demonstration's settings and posts."""
    folder = tmp_path / "demo"
    shutil.copytree(ROOT / "posts", folder / "posts")
    shutil.copy(ROOT / "postroom.yaml", folder)
    return folder


def test_the_demo_builds_without_a_warning(demo: Path, postroom: Postroom) -> None:
    """The build of the demonstration publishes every post without a warning."""
    outcome = postroom(demo, "build")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.partition(":")[0] == f"{len(POSTS)} posts → public/"


def test_the_demo_passes_every_check(demo: Path, postroom: Postroom) -> None:
    """The demonstration has no finding."""
    outcome = postroom(demo, "check", "--strict")
    assert (outcome.code, outcome.out, outcome.err) == (0, "0 errors, 0 warnings\n", "")


def test_the_demo_has_posts() -> None:
    """The demonstration has enough posts to fill a page."""
    assert len(POSTS) >= 7


@pytest.mark.parametrize("path", POSTS, ids=lambda path: path.stem)
def test_every_post_of_the_demo_is_complete(path: Path) -> None:
    """Every post has an id, a summary, a title, a date and topics."""
    parts = front_matter.split_post(path.read_text("utf-8"))
    assert parts is not None
    head, errors, warnings = front_matter.parse_front_matter(parts.head or "", path.name)
    assert (errors, warnings, dict(head.extra)) == ([], [], {})
    assert head.id.startswith("tag:news.example.com,2023:")
    for written in (head.title, head.summary, head.date, head.topics, parts.body.strip()):
        assert written
    assert not head.draft


def test_the_demo_uses_the_topics_of_its_settings(demo: Path) -> None:
    """Each topic of the settings has a post, and each post's topics are in the settings."""
    site = load_settings(demo)
    found = {topic for post in loader.load_posts(demo, site, AT).posts for topic in post.topics}
    assert found == set(site.topics)


def test_the_feed_of_the_demo_is_golden(demo: Path, postroom: Postroom) -> None:
    """The Atom feed of the demonstration equals the reviewed one, byte for byte."""
    assert postroom(demo, "build").code == 0
    made = (demo / "public/atom.xml").read_bytes()
    made, marks = re.subn(rb'(<generator\b[^>]* version=")[^"]*', rb"\1VERSION", made)
    assert marks == 1
    golden = GOLDEN / "atom.xml"
    if os.environ.get("POSTROOM_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_bytes(made)
    advice = "look at what changed; if it is meant, run again with POSTROOM_GOLDEN=write"
    assert made == golden.read_bytes(), advice
