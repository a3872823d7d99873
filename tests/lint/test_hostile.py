"""`postroom check` reports hostile posts in lines, in bounded time and without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lint.test_site_rules import SETTINGS, post
from tests.support.generated_sites import PIXEL
from tests.support.site import CommandResult, MakeSite

Run = Callable[..., CommandResult]
# The capability by which root reads any file.
RIGHTS = "-dac_override,-dac_read_search"
REPLACE = "replace it with a file that can be read"
HUGE = "".join(f"Number {n} of many paragraphs, [each](/) with a link.\n\n" for n in range(38_000))
LINKS = "".join(f"[page {n}](/nowhere/{n}/)\n" for n in range(10_000))
DEEP = "has more than 100 nested elements, such as lists or quotes; nest fewer of them"


@pytest.fixture
def check(
    make_site: MakeSite, postroom: Run
) -> Callable[[bytes | Callable[[Path], None]], CommandResult]:
    """Return a function that checks a site with a post or with other files in posts/."""

    def checked(bad: bytes | Callable[[Path], None]) -> CommandResult:
        folder = make_site({"posts/good.md": post()}, SETTINGS)
        if callable(bad):
            bad(folder / "posts")
        else:
            (folder / "posts/bad.md").write_bytes(bad)
        began = time.process_time()
        outcome = postroom(folder, "check")
        assert time.process_time() - began < 30
        assert "Traceback" not in outcome.err
        return outcome

    return checked


Check = Callable[[bytes | Callable[[Path], None]], CommandResult]


def another(body: str) -> bytes:
    """Return a second post with this text."""
    title = "Another piece of news that comes from the house at the harbour"
    return post(body, title=title, id="tag:news.example.com,2026:another").encode()


@pytest.mark.parametrize(
    "contents", [PIXEL, b"\x00" * 999, bytes(range(256)) * 99, b"\x7fELF\x02\x01\x00"]
)
def test_a_post_of_bytes_is_one_line(check: Check, contents: bytes) -> None:
    """A binary file with the extension of a post is reported in one line."""
    outcome = check(contents)
    assert outcome.code == 1
    (line,) = outcome.errors
    assert line.startswith("posts/bad.md:")


@pytest.mark.slow
def test_a_post_of_two_megabytes_is_read(check: Check) -> None:
    """A post of 2 MB is read; its feeds are too large and its links are checked."""
    assert len(HUGE) > 2_000_000
    outcome = check(another(HUGE))
    assert outcome.code == 0
    assert "[email-" not in outcome.err


def test_ten_thousand_links_are_ten_thousand_lines(check: Check) -> None:
    """Each broken link is reported once, with its line."""
    outcome = check(another(LINKS))
    assert outcome.code == 1
    assert outcome.out == "10,000 errors, 0 warnings\n"
    assert outcome.errors[-1].startswith("posts/bad.md:10006:1: '/nowhere/9999/' leads to nowhere/")


def make_circular_links(posts: Path) -> None:
    """Make links to each other, to themselves, to their folder and to nothing."""
    for name, target in (("a.md", "b.md"), ("b.md", "a.md"), ("c.md", "c.md"), ("d", "../posts")):
        (posts / name).symlink_to(target)
    (posts / "e.md").symlink_to("gone.md")
    os.mkfifo(posts / "f.md")


def test_circular_links_are_reported(check: Check) -> None:
    """A circular link is not followed and is reported."""
    loop = f"cannot be read: too many levels of symbolic links; {REPLACE}"
    assert check(make_circular_links).errors == [
        f"posts/a.md: {loop}",
        f"posts/b.md: {loop}",
        f"posts/c.md: {loop}",
        f"posts/d: is not a file; {REPLACE}",
        f"posts/e.md: cannot be read: no such file or directory; {REPLACE}",
        f"posts/f.md: is not a file; {REPLACE}",
    ]


def test_an_unreadable_post_is_reported(make_site: MakeSite, program: Callable[[str], str]) -> None:
    """A file without read permission is reported with the error of the system."""
    folder = make_site({"posts/good.md": post(), "posts/bad.md": ""}, SETTINGS)
    (folder / "posts/bad.md").chmod(0)
    # Root can read everything unless it drops that capability.
    drop = [program("setpriv"), f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"]
    command = [sys.executable, "-m", "postroom", "check"]
    done = subprocess.run(
        [*drop, *command] if os.geteuid() == 0 else command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"error: posts/bad.md: cannot be read: permission denied; {REPLACE}" in done.stderr


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("Words.\n\n" + "<div>" * 101 + "deep", 9),
        ("<section>\n" * 100_000, 107),
        ("Words\n\n" + "> " * 101 + "deep", 9),
        ("".join(f"{'  ' * n}- x\n" for n in range(60)), 57),
        ("<b></i>" * 200, 7),
        ("Words " + "<q>" * 101 + "</q>" * 101, 7),
        ("<table><tr><td>" * 34, 7),
    ],
    ids=["div", "100,000 sections", "quotes", "lists", "crossed", "in a line", "tables"],
)
def test_too_deep_nesting_is_reported(check: Check, body: str, line: int) -> None:
    """Nesting deeper than parsers follow is an error at its line, found in bounded time."""
    began = time.process_time()
    assert check(another(body)).errors == [f"posts/bad.md:{line}: {DEEP}"]
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "body",
    [
        "<div>" * 100 + "deep" + "</div>" * 100,
        "> " * 98 + "deep",
        "".join(f"{'  ' * n}- x\n" for n in range(49)),
        "<table><tr><td>" * 33 + "deep" + "</td></tr></table>" * 33,
        "<p>One.\n\n" * 500,
        "<br>" * 500,
    ],
    ids=["div", "quotes", "lists", "tables", "open paragraphs", "breaks"],
)
def test_allowed_nesting_passes(make_site: MakeSite, postroom: Run, body: str) -> None:
    """Pages, feeds and emails contain the text inside the deepest allowed nesting."""
    folder = make_site({"posts/a.md": another(body)}, SETTINGS)
    outcome = postroom(folder, "check")
    assert (outcome.code, outcome.err) == (0, "")
