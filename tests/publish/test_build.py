"""Builds are reproducible, depend on the given instant, and write only to the output folder."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import ContentError
from postroom.posts import loader
from postroom.posts.source import SourceFolder
from postroom.publish.output import MANIFEST
from postroom.publish.pages import output_path
from postroom.settings.site import parse_settings
from tests.support.processes import plain
from tests.support.site import AT, POST, CommandResult, MakeSite

Postroom = Callable[..., CommandResult]
NOTE = "---\ntitle: {title}\ndate: {date}\nid: tag:news.example.com,2026:{id}\n---\n{text}\n"


def note(
    identity: str, date: str = "2026-11-20", *, title: str = "A note", text: str = "Text."
) -> str:
    """Return a post."""
    return NOTE.format(title=title, date=date, id=identity, text=text)


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder` but the manifest."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the time of change of everything in the output."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {str(path): (status.st_ino, status.st_mtime_ns) for path, status in found}


RICH = {
    "posts/2026-11-20-we-moved.md": POST,
    "posts/2026-11-20-zwei.md": "---\nlang: de\ntopics: [Über uns, News]\n---\n# Zwei\n\nJa.\n",
    "posts/sub/2026-10-01 Third.md": "# Third\n\n![](plan.png) [1](../2026-11-20-we-moved.md)\n",
    "posts/sub/plan.png": b"\x89PNG\r\n",
    "posts/2026-12-24-later.md": "# Later\n",
}
RICH_SETTINGS = """\
description: All that is new — und mehr
topics: [Money, Company news]
contact: {name: Ada, phone: "+49 30 1234567", address: "1 Street, Town"}
digest: {every: week, intro: Hello}
"""
VARIATIONS: Mapping[str, Mapping[str, str]] = {
    "here": {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
    "far east": {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
    "ouest ü": {"TZ": "Pacific/Pago_Pago", "LC_ALL": "de_DE.UTF-8", "PYTHONHASHSEED": "4242"},
}


def test_the_same_site_makes_the_same_bytes_everywhere(make_site: MakeSite) -> None:
    """The output does not depend on time zone, locale, hash order or folder."""
    builds = []
    for name, variables in VARIATIONS.items():
        folder = make_site(RICH, RICH_SETTINGS, name=name)
        command = [sys.executable, "-m", "postroom", "build", "--at", "2026-11-22T12:00:00Z"]
        builds.append((folder, subprocess.Popen(command, cwd=folder, env=plain(**variables))))
    assert [build.wait(60) for _, build in builds] == [0, 0, 0]
    first, *others = [tree(folder / "public") for folder, _ in builds]
    assert len(first) > 10
    for other in others:
        assert other == first


def test_an_unchanged_site_touches_no_file(make_site: MakeSite, postroom: Postroom) -> None:
    """A second build changes no file or folder of the output, so that feed readers get a 304."""
    folder = make_site(RICH, RICH_SETTINGS)
    postroom(folder, "build")
    before = stamps(folder / "public")
    again = postroom(folder, "build")
    assert stamps(folder / "public") == before
    count = len(tree(folder / "public"))
    assert again.out.endswith(f": 0 files written, {count} unchanged, 0 removed\n")


def test_another_instant_changes_nothing(make_site: MakeSite, postroom: Postroom) -> None:
    """A build at another instant changes nothing unless a post is due."""
    folder = make_site(RICH, RICH_SETTINGS)
    postroom(folder, "build", "--at", "2026-11-22T12:00:00Z")
    before = stamps(folder / "public")
    postroom(folder, "build", "--at", "2026-12-20T01:02:03Z")
    assert stamps(folder / "public") == before


@pytest.mark.parametrize(
    ("date", "before", "after"),
    [
        ("2026-12-01", "2026-11-30T22:59:59Z", "2026-11-30T23:00:00Z"),
        ("2026-12-01 09:30", "2026-12-01T08:29:59Z", "2026-12-01T08:30:00Z"),
        ("2026-12-01 09:30 +05:00", "2026-12-01T04:29:59Z", "2026-12-01T04:30:00Z"),
    ],
    ids=["day", "time", "offset"],
)
def test_a_post_appears_at_its_date(
    make_site: MakeSite, postroom: Postroom, date: str, before: str, after: str
) -> None:
    """A post appears at its second, or when its day begins in the time zone of the site."""
    folder = make_site({"posts/a.md": POST, "posts/due.md": note("due", date, title="Due")})
    assert "1 post → public/, 1 waiting" in postroom(folder, "build", "--at", before).out
    waiting = tree(folder / "public")
    assert not [path for path, data in waiting.items() if "due" in path or b"Due" in data]
    assert "2 posts → public/: " in postroom(folder, "build", "--at", after).out
    published = tree(folder / "public")
    assert b"Due" in published["posts/due/index.html"]
    assert b"<title>Due</title>" in published["atom.xml"]


def test_at_goes_before_the_environment(make_site: MakeSite, postroom: Postroom) -> None:
    """`--at` overrides SOURCE_DATE_EPOCH, which overrides the current time."""
    folder = make_site({"posts/a.md": POST, "posts/b.md": note("b", "2026-12-01")})
    assert "1 post → public/, 1 waiting" in postroom(folder, "build").out
    later = postroom(folder, "build", "--at", "2026-12-02T00:00:00+01:00")
    assert "2 posts → public/: " in later.out
    earlier = postroom(folder, "build", "--at", "2026-01-01T00:00:00Z")
    assert "0 posts → public/, 2 waiting" in earlier.out


@pytest.mark.parametrize("epoch", [None, ""], ids=["unset", "empty"])
def test_the_default_instant_is_now(
    make_site: MakeSite,
    postroom: Postroom,
    monkeypatch: pytest.MonkeyPatch,
    epoch: str | None,
) -> None:
    """Without `--at` and SOURCE_DATE_EPOCH the current time counts."""
    if epoch is None:
        monkeypatch.delenv("SOURCE_DATE_EPOCH")
    else:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    past, future = note("past", "2001-01-01"), note("future", "2999-01-01")
    folder = make_site({"posts/past.md": past, "posts/future.md": future})
    assert "1 post → public/, 1 waiting" in postroom(folder, "build").out


@pytest.mark.parametrize(
    "epoch", ["soon", "1.5", "9" * 12, "9" * 40, "253402300799", "-" + "9" * 11]
)
def test_an_invalid_epoch_is_reported(
    make_site: MakeSite, postroom: Postroom, monkeypatch: pytest.MonkeyPatch, epoch: str
) -> None:
    """An invalid SOURCE_DATE_EPOCH is one line and exit code 2."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    outcome = postroom(make_site({"posts/a.md": POST}), "build")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert outcome.errors[0].startswith(f"SOURCE_DATE_EPOCH: found '{epoch}'; ")


@pytest.mark.parametrize(
    "instant", ["", "soon", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]
)
def test_an_invalid_instant_is_reported(
    make_site: MakeSite, postroom: Postroom, instant: str
) -> None:
    """An invalid `--at` is wrong use."""
    outcome = postroom(make_site({"posts/a.md": POST}), "build", "--at", instant)
    assert outcome.code == 2
    assert f"Error: Invalid value for '--at': '{instant}' is " in outcome.err


@pytest.mark.parametrize("written", ["2026-11-22", "2026-11-22T09:00", "2026-11-22 09:00:30"])
def test_an_instant_without_offset_has_a_hint(
    make_site: MakeSite, postroom: Postroom, written: str
) -> None:
    """The hint for an `--at` without offset is a valid way to write it."""
    folder = make_site({"posts/a.md": POST})
    outcome = postroom(folder, "build", "--at", written)
    assert outcome.code == 2
    assert "has no UTC offset; write " in outcome.err
    advice = outcome.err.strip().rpartition("write ")[2]
    assert postroom(folder, "build", "--at", advice).code == 0


def test_drafts_are_built_only_on_demand(make_site: MakeSite, postroom: Postroom) -> None:
    """A draft is published with `--drafts` and removed by the next build without it."""
    draft = note("draft").replace("---\n", "---\ndraft: true\n", 1)
    folder = make_site({"posts/a.md": POST, "posts/draft.md": draft})
    page = folder / "public/posts/draft/index.html"
    assert "1 post → public/, 1 draft: " in postroom(folder, "build").out
    assert not page.exists()
    assert "2 posts → public/" in postroom(folder, "build", "--drafts").out
    assert page.exists()
    postroom(folder, "build")
    assert not page.parent.exists()


def test_a_deleted_post_leaves_no_page(make_site: MakeSite, postroom: Postroom) -> None:
    """The page, folder and attachments of a deleted post are removed."""
    folder = make_site(RICH, RICH_SETTINGS)
    postroom(folder, "build")
    assert (folder / "public/posts/third/plan.png").exists()
    (folder / "posts/sub/2026-10-01 Third.md").unlink()
    assert postroom(folder, "build").code == 0
    assert not (folder / "public/posts/third").exists()


def test_attachments_are_copied(make_site: MakeSite, postroom: Postroom) -> None:
    """A file that a post names is copied beside its page, and again when it changes."""
    files = {"posts/a.md": note("a", text="![x](img/ä%20b.png)"), "posts/img/ä b.png": b"\x00\xff1"}
    folder = make_site({**files, "posts/img/unused.png": b"2"})
    postroom(folder, "build")
    copy = folder / "public/posts/a/img/ä b.png"
    assert copy.read_bytes() == b"\x00\xff1"
    assert not (folder / "public/posts/a/img/unused.png").exists()
    (folder / "posts/img/ä b.png").write_bytes(b"3")
    postroom(folder, "build")
    assert copy.read_bytes() == b"3"


@pytest.mark.parametrize(
    ("permalink", "name", "clash"),
    [
        ("/{slug}.html", "index", "index.html, which the index makes already"),
        (
            "/digest/{slug}/",
            "2026-11",
            "digest/2026-11/index.html, which the digest 2026-11 makes already",
        ),
        ("/atom.xml/{slug}/", "a", "atom.xml/a/index.html, but atom.xml is a file"),
        ("/style.css/{slug}.html", "a", "style.css/a.html, but style.css is a file"),
    ],
    ids=["index", "digest", "feed as folder", "style as folder"],
)
def test_a_post_cannot_replace_a_page_of_postroom(
    make_site: MakeSite, postroom: Postroom, permalink: str, name: str, clash: str
) -> None:
    """A post with the URL of a page that Postroom makes is reported, and nothing is written."""
    folder = make_site({f"posts/{name}.md": note("a")}, f"pages: {{permalink: '{permalink}'}}\n")
    outcome = postroom(folder, "build")
    line = f"posts/{name}.md: would be written to {clash}; give it another slug"
    assert (outcome.code, outcome.errors) == (1, [line])
    assert not (folder / "public").exists()


def test_an_attachment_cannot_replace_a_page_of_postroom(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """A file beside a post cannot replace the email of a digest."""
    files = {"posts/digest.md": note("a", text="[x](2026-11/email.txt)")}
    folder = make_site(
        {**files, "posts/2026-11/email.txt": "Spam"}, "pages: {permalink: '/{slug}/'}\n"
    )
    outcome = postroom(folder, "build")
    what = "would be written to digest/2026-11/email.txt, which the digest 2026-11 makes already"
    line = f"posts/digest.md: {what}; give it another slug"
    assert (outcome.code, outcome.errors) == (1, [line])
    assert not (folder / "public").exists()


def test_the_logo_is_copied(make_site: MakeSite, postroom: Postroom) -> None:
    """The logo has the same path in the output as in the site."""
    folder = make_site({"art/logo.png": b"\x89PNG"}, "theme: {logo: art/logo.png}\n")
    assert postroom(folder, "build").code == 0
    assert (folder / "public/art/logo.png").read_bytes() == b"\x89PNG"


def test_a_post_may_have_the_slug_digest(make_site: MakeSite, postroom: Postroom) -> None:
    """A post with the slug `digest` does not replace the pages of digests."""
    folder = make_site(
        {"posts/digest.md": note("a", title="My digest")}, "pages: {permalink: '/{slug}/'}\n"
    )
    assert postroom(folder, "build").code == 0
    made = tree(folder / "public")
    assert b"My digest" in made["digest/index.html"]
    assert {"digest/2026-11/index.html", "digest/2026-11/email.txt"} <= made.keys()


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1)
PATTERNS = ["/{slug}/", "/{path}/", "/{year}/{month}/{day}/{slug}.html", "/a/{path}.html"]


@settings(deadline=None, max_examples=60)
@given(
    name=st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    permalink=st.sampled_from(PATTERNS),
    address=st.sampled_from(["https://news.example.com/", "https://example.com/our/news/"]),
)
def test_no_name_leads_out_of_the_output(name: str, permalink: str, address: str) -> None:
    """A page is below the output folder whatever the name of the post's file, or it is an error."""
    text = (
        f"title: News\nurl: {address}\nid: 'tag:example.com,2026:'\nlanguage: en\ntimezone: UTC\n"
        f"pages: {{permalink: '{permalink}'}}\n"
    )
    site = parse_settings(text.encode())
    try:
        loaded = loader.read_posts(SourceFolder({f"{name}.md": note("a").encode()}, {}), site, AT)
    except ContentError as error:
        assert [problem.path for problem in error.problems] == [f"posts/{name}.md"]  # noqa: PT017
        return
    path = output_path(loaded.posts[0].url, site)
    parts = PurePosixPath(path).parts
    assert parts
    assert not path.startswith("/")
    assert not {"..", ".", "", "~"} & set(parts)
    assert not any(part.startswith(".postroom") for part in parts)
    assert path.endswith(".html")


def test_without_pages_the_feed_and_digests_stay(make_site: MakeSite, postroom: Postroom) -> None:
    """With `pages.enabled: false` the build keeps foreign pages and writes feeds and digests."""
    theirs = {"public/index.html": "theirs", "public/posts/we-moved/index.html": "theirs"}
    folder = make_site(
        {"posts/2026-11-20-we-moved.md": POST, **theirs}, "pages: {enabled: false}\n"
    )
    assert postroom(folder, "build").code == 0
    made = tree(folder / "public")
    assert {"atom.xml", "digest/2026-11/index.html", "digest/2026-11/email.html"} <= made.keys()
    assert [made[path.removeprefix("public/")] for path in theirs] == [b"theirs", b"theirs"]
    assert b"https://news.example.com/posts/we-moved/" in made["atom.xml"]


def test_an_invalid_post_changes_nothing(make_site: MakeSite, postroom: Postroom) -> None:
    """A build with an invalid post writes nothing and keeps the old output."""
    folder = make_site({"posts/a.md": POST})
    postroom(folder, "build")
    before = stamps(folder / "public")
    (folder / "posts/b.md").write_text("---\ntitle: B\ndate: tomorrow\n---\n")
    (folder / "posts/a.md").write_text(POST.replace("We moved", "We stayed"))
    outcome = postroom(folder, "build")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert outcome.errors[0].startswith("posts/b.md:3:7: date: found 'tomorrow'; ")
    assert stamps(folder / "public") == before


def test_a_foreign_file_in_the_output_stops_the_build(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """A file of another program in place of a page is one line and exit code 1."""
    folder = make_site({"posts/a.md": POST, "public/atom.xml": "theirs"})
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.errors) == (
        1,
        ["public/atom.xml: was not made by Postroom; move it away, delete it, or build elsewhere"],
    )
    assert tree(folder / "public") == {"atom.xml": b"theirs"}


def test_a_changed_file_that_is_no_longer_needed_is_a_warning(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """A file changed by someone else is kept, with a warning and exit code 0."""
    folder = make_site({"posts/a.md": POST, "posts/b.md": note("b")})
    postroom(folder, "build")
    (folder / "public/posts/b/index.html").write_text("changed")
    (folder / "posts/b.md").unlink()
    outcome = postroom(folder, "build")
    what = "was changed and is no longer made"
    line = f"public/posts/b/index.html: {what}; delete it if nobody needs it"
    assert (outcome.code, outcome.warnings) == (0, [line])
    assert (folder / "public/posts/b/index.html").read_text() == "changed"


def test_two_builds_at_once(make_site: MakeSite, postroom: Postroom) -> None:
    """A build into a folder that another build writes is one line and exit code 1."""
    folder = make_site({"posts/a.md": POST})
    postroom(folder, "build")
    descriptor = os.open(folder / "public", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        outcome = postroom(folder, "build")
    finally:
        os.close(descriptor)
    line = "error: public: another build is writing here; wait until it has finished\n"
    assert (outcome.code, outcome.err) == (1, line)
    assert postroom(folder, "build").code == 0


# Simulates a full disk: no file may grow beyond a few bytes.
FULL = """\
import resource, sys
from postroom.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
sys.exit(main(["build"]))
"""


def test_a_full_disk_is_one_line(make_site: MakeSite, postroom: Postroom) -> None:
    """A full disk is one line, and the old output stays complete."""
    folder = make_site({"posts/a.md": POST})
    postroom(folder, "build")
    before = tree(folder / "public")
    (folder / "posts/a.md").write_text(POST.replace("We moved", "We stayed"))
    done = subprocess.run(
        [sys.executable, "-B", "-c", FULL], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {folder}/public: cannot be written: file too large\n"
    # No temporary file remains.
    assert tree(folder / "public") == before
    assert postroom(folder, "build").code == 0


@pytest.mark.parametrize(
    ("start", "output", "fault"),
    [
        (".", ".", "contains the site itself"),
        (".", "..", "contains the site itself"),
        (".", "/", "contains the site itself"),
        ("posts/sub", "../..", "contains the site itself"),
        (".", "posts", "is inside posts/, a folder of sources"),
        (".", "posts/public", "is inside posts/, a folder of sources"),
        ("posts", "new", "is inside posts/, a folder of sources"),
        (".", "templates/x", "is inside templates/, a folder of sources"),
        (".", "link", "is inside posts/, a folder of sources"),
    ],
    ids="itself parent root up posts below from-posts templates link".split(),
)
def test_output_and_sources_do_not_mix(
    make_site: MakeSite, postroom: Postroom, start: str, output: str, fault: str
) -> None:
    """An `--output` that is, contains or is inside the sources is wrong use."""
    folder = make_site({"posts/a.md": POST, "posts/sub/b.md": note("b")})
    (folder / "link").symlink_to("posts")
    before = tree(folder.parent)
    outcome = postroom(folder / start, "build", "--output", output)
    repair = "write into a folder of its own, such as public"
    assert (outcome.code, outcome.err) == (2, f"error: --output: '{output}' {fault}; {repair}\n")
    assert tree(folder.parent) == before


def test_the_output_setting_has_the_same_limits(make_site: MakeSite, postroom: Postroom) -> None:
    """An `output:` among the posts is refused like the option."""
    folder = make_site({"news/a.md": POST}, "posts: news\noutput: news/public\n")
    outcome = postroom(folder, "build")
    what = "'news/public' is inside news/, a folder of sources"
    line = f"postroom.yaml:7:9: output: {what}; write into a folder of its own, such as public"
    assert (outcome.code, outcome.errors) == (2, [line])


def test_output_may_be_anywhere_else(make_site: MakeSite, postroom: Postroom) -> None:
    """`--output` is relative to the current folder and may be outside the site."""
    folder = make_site({"posts/a.md": POST})
    assert postroom(folder / "posts", "build", "--output", "../site").code == 0
    outside = postroom(folder, "build", "--output", "../elsewhere/public")
    assert (outside.code, outside.out.partition(":")[0]) == (0, "1 post → public/")
    assert tree(folder / "site") == tree(folder.parent / "elsewhere/public")
    assert not (folder / "public").exists()
