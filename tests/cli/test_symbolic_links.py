"""No command writes through a symbolic link that a pull request may have put in the site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.lint.external_links import load_link_cache
from tests.support.sending_site import KEY, MAIL
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.sites import contents

Run = Callable[..., CommandResult]
NAMELESS = POST.replace("id: tag:news.example.com,2026:we-moved\n", "")
RARE = POST.replace("Comp", "comp").replace("moved", "won").replace("-20", "-21")
NOT_FOLLOWED = "which Postroom does not follow when it writes"
NEW = f"posts/{AT.date()}-hello.md"
LINKS = {
    "a post without an id": ("posts/a.md", RARE.replace("id: ", "#"), ("check", "--fix")),
    "a post with a rare topic": ("posts/b.md", RARE, ("check", "--fix")),
    "the former staging file": ("posts/.c.md.tmp", "mine", ("check", "--fix")),
    "a new post": (NEW, None, ("new", "Hello")),
    "a plan": ("plan.json", "mine", ("plan", "--out", "plan.json")),
    "a new plan": ("plan.json", None, ("plan", "--out", "plan.json")),
    "an email": ("a.eml", "mine", ("plan", "--email", "a.eml")),
    "an export": ("list.csv", None, ("subscribers", "export", "--output", "list.csv")),
    "the database": (".postroom/postroom.db", None, ("db", "upgrade")),
    "an empty database": (".postroom/postroom.db", "", ("subscribers", "list")),
    "the output": ("public/atom.xml", "mine", ("build",)),
    "a staged file": ("public/.postroom.tmp/0", "mine", ("build",)),
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)


@pytest.mark.parametrize("kind", LINKS)
def test_the_target_of_a_link_is_not_written(make_site: MakeSite, postroom: Run, kind: str) -> None:
    """The target of a link in the place of a file to write keeps its bytes, or stays absent."""
    path, text, arguments = LINKS[kind]
    other = POST.replace("moved", "grew").replace("-20", "-19")
    post = NAMELESS if "--fix" in arguments else POST
    files = {"posts/c.md": post, "posts/d.md": other.replace("we-moved", "d")}
    folder = make_site(files, MAIL)
    start = ("--confirmed", "--frequency", "post", "--from", "2026-11-01")
    if not path.startswith(".postroom"):
        assert postroom(folder, "subscribers", "add", *start, "reader@example.com").code == 0
    outside = folder / "elsewhere"
    outside.mkdir()
    if text is not None:
        (outside / "victim").write_text(text)
    before = contents(outside)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).symlink_to(outside / "victim")
    postroom(folder, *arguments)
    assert contents(outside) == before


@pytest.mark.parametrize("name", [".gitignore", "postroom.yaml", "posts"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_new_site_follows_no_link(
    postroom: Run, tmp_path: Path, *, name: str, exists: bool
) -> None:
    """`init` writes nothing if a link is in the place of a file, and names the link."""
    folder, target = tmp_path / "news", tmp_path / "target"
    folder.mkdir()
    if exists and name == "posts":
        target.mkdir()
    elif exists:
        target.write_text("mine")
    (folder / name).symlink_to(target)
    before = contents(tmp_path)
    outcome = postroom(tmp_path, "init", "news")
    assert (outcome.code, outcome.out) == (2, "")
    assert all(NOT_FOLLOWED in line for line in outcome.errors)
    assert outcome.errors
    assert contents(tmp_path) == before
    assert target.exists() == exists


def test_a_link_in_place_of_a_file_is_named(make_site: MakeSite, postroom: Run) -> None:
    """The message names the link and what to do instead."""
    folder = make_site({"shared/a.md": NAMELESS})
    (folder / "posts/a.md").symlink_to("../shared/a.md")
    (folder / "plan.json").symlink_to("/nowhere/plan.json")
    (folder / "out").symlink_to("shared")
    fixed = postroom(folder, "check", "--fix")
    hint = 'add id: "tag:news.example.com,2026:a.md" to the file that it leads to'
    message = f"is a symbolic link, {NOT_FOLLOWED}"
    assert (fixed.code, fixed.errors) == (1, [f"posts/a.md: id: {message}; {hint}"])
    written = postroom(folder, "subscribers", "export", "--output", "plan.json")
    assert (written.code, written.errors) == (2, [f"plan.json: {message}; name another file"])
    written = postroom(folder, "subscribers", "export", "--output", "out/list.csv")
    message = f"leads through the symbolic link 'out', {NOT_FOLLOWED}"
    assert (written.code, written.errors) == (2, [f"out/list.csv: {message}; name another file"])


def test_the_cache_of_links_is_not_written_through_a_link(tmp_path: Path) -> None:
    """The cache is neither written into a linked folder nor through a link inside its folder."""
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "linked").symlink_to(target)
    load_link_cache(tmp_path / "linked/links.json", 1e9).write()
    assert contents(target) == {}
    (tmp_path / "real").mkdir()
    for name in ("links.json", "links.tmp"):
        (tmp_path / "real" / name).symlink_to(target / name)
    load_link_cache(tmp_path / "real/links.json", 1e9).write()
    assert contents(target) == {}
    assert (tmp_path / "real/links.json").read_text() == "{}\n"


def test_an_operator_may_write_through_links_elsewhere(
    make_site: MakeSite, postroom: Run, tmp_path: Path
) -> None:
    """A link outside of the site, or a linked folder of the database, is the operator's own."""
    folder = make_site({"posts/a.md": POST}, MAIL)
    (tmp_path / "disk").mkdir()
    (folder / ".postroom").symlink_to(tmp_path / "disk")
    (tmp_path / "plan.json").symlink_to(tmp_path / "disk/plan.json")
    postroom(folder, "db", "upgrade")
    outcome = postroom(folder, "plan", "--out", "../plan.json")
    assert (outcome.code, outcome.errors) == (0, [])
    assert {"plan.json", "postroom.db"} <= set(contents(tmp_path / "disk"))
