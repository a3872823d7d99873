"""Paths in the settings stay inside the site and are never hidden, links included."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.errors import ContentError, SettingsError
from postroom.posts import loader
from postroom.settings.site import load_settings
from postroom.theme.environment import Theme
from postroom.web.pages import render_service_pages
from tests.support import sites, web_server
from tests.support.site import AT, POST, SETTINGS, CommandResult, MakeSite
from tests.support.web_server import EmptyStore

Postroom = Callable[..., CommandResult]
FOLDER = "write a folder inside the site, such as"
OWN = "write into a folder of its own, such as public"
LOGO = "write an image inside the site, such as logo.svg"
SECRET = b"subscriber@example.com"


def problems(folder: Path) -> list[str]:
    """Return the problems of the settings of the site in `folder`."""
    with pytest.raises(SettingsError) as caught:
        load_settings(folder)
    return [str(problem) for problem in caught.value.problems]


def write_secrets(folder: Path) -> None:
    """Write a database, a repository, and files beside the site, which must stay secret."""
    for path in (".postroom/postroom.db", ".postroom/logo.png", ".git/config", "data/people.csv"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(SECRET)
    (folder.parent / "outside").mkdir()
    (folder.parent / "outside/logo.png").write_bytes(SECRET)


# Folders as written


@pytest.mark.parametrize("key", ["posts", "output"])
@pytest.mark.parametrize(
    ("path", "step"),
    [
        (".git", ".git"),
        (".postroom", ".postroom"),
        ("./.git", ".git"),
        (".//.git/", ".git"),
        ("a/.git/b", ".git"),
        ("a/./.b/c", ".b"),
        (".GIT", ".GIT"),
        ("...", "..."),
    ],
)
def test_a_hidden_folder_is_refused(make_site: MakeSite, key: str, path: str, step: str) -> None:
    """A part of a path that begins with a dot is refused anywhere in the path."""
    folder = make_site({}, f"{key}: {path}\n")
    what = f"'{path}' leads to the hidden '{step}'"
    example = {"posts": "posts", "output": "public"}[key]
    line = f"postroom.yaml:6:{len(key) + 3}: {key}: {what}; {FOLDER} {example}"
    assert problems(folder) == [line]


@pytest.mark.parametrize(
    ("written", "meant"), [(".", "."), ("./", "."), ("./content", "content"), ("a//b/./c", "a/b/c")]
)
def test_a_path_is_normalised_first(make_site: MakeSite, written: str, meant: str) -> None:
    """The dot of the current folder does not count as a hidden part."""
    assert load_settings(make_site({}, f"posts: {written}\n")).posts == meant


def test_the_site_is_not_its_own_output(make_site: MakeSite) -> None:
    """The site itself is refused as output, because its settings and drafts would be served."""
    folder = make_site({}, "output: .\n")
    assert problems(folder) == [f"postroom.yaml:6:9: output: found '.'; {FOLDER} public"]


def test_no_post_has_a_hidden_url(make_site: MakeSite) -> None:
    """A permalink in a hidden folder is refused, because it could write to public/.git."""
    folder = make_site({}, "pages: {permalink: '/.git/{slug}/'}\n")
    what = "'/.git/{slug}/' leads to the hidden '.git'"
    assert problems(folder) == [
        f"postroom.yaml:6:20: pages.permalink: {what}; write it without names that begin with '.'"
    ]


# Folders as links resolve


@pytest.mark.parametrize(
    ("setting", "target", "what"),
    [
        ("output: pub", ".git", "leads to the hidden '.git'"),
        ("output: pub/x", ".postroom", "leads to the hidden '.postroom'"),
        ("output: pub", "../outside", "leads out of the site"),
        ("output: pub/x", "/etc", "leads out of the site"),
        ("output: pub", ".", "contains the site itself"),
        ("output: pub", "posts", "is inside posts/, a folder of sources"),
        ("output: pub", "templates", "is inside templates/, a folder of sources"),
        ("posts: pub", ".git", "leads to the hidden '.git'"),
        ("posts: pub", ".postroom", "leads to the hidden '.postroom'"),
        ("posts: pub", "../outside", "leads out of the site"),
    ],
)
def test_a_link_counts_as_its_target(
    make_site: MakeSite, setting: str, target: str, what: str
) -> None:
    """A folder in the settings that is a link is judged by its target."""
    folder = make_site({}, f"{setting}\n")
    write_secrets(folder)
    (folder / "pub").symlink_to(target)
    key, path = setting.split(": ")
    hint = {"posts": f"{FOLDER} posts", "output": OWN}[key]
    line = f"postroom.yaml:6:{len(key) + 3}: {key}: '{path}' {what}; {hint}"
    assert problems(folder) == [line]


def test_the_default_folder_is_checked_too(make_site: MakeSite) -> None:
    """The default output folder can be a link, too, and is checked."""
    folder = make_site()
    write_secrets(folder)
    (folder / "public").symlink_to(".postroom")
    what = f"'public' leads to the hidden '.postroom'; {OWN}"
    assert problems(folder) == [f"postroom.yaml: output: {what}"]


def test_a_link_inside_the_site_is_allowed(make_site: MakeSite, postroom: Postroom) -> None:
    """Posts and output can be links to other folders of the site."""
    folder = make_site({"content/a.md": POST}, "posts: news\n")
    (folder / "releases/42").mkdir(parents=True)
    (folder / "public").symlink_to("releases/42")
    (folder / "news").symlink_to("content")
    assert postroom(folder, "build").code == 0
    assert (folder / "releases/42/atom.xml").is_file()


def test_a_site_can_be_in_a_hidden_folder(make_site: MakeSite, postroom: Postroom) -> None:
    """Only parts of the path below the site are checked."""
    folder = make_site({"posts/a.md": POST}, name=".sites/news")
    assert postroom(folder, "build").code == 0


# Output and git


def git(folder: Path, *arguments: str) -> None:
    """Run git in `folder`."""
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


GIT = "is, contains or is inside a git directory"


@pytest.mark.parametrize("output", ["mirror", "mirror/info", "clone", "link"])
@pytest.mark.parametrize("by", ["setting", "option"])
def test_no_output_goes_into_a_git_directory(
    make_site: MakeSite,
    postroom: Postroom,
    program: Callable[[str], str],
    output: str,
    by: str,
) -> None:
    """A bare repository, a folder in one and a clone are refused under any name."""
    program("git")
    folder = make_site({"posts/a.md": POST}, f"output: {output}\n" if by == "setting" else "")
    git(folder, "init", "--bare", "mirror")
    git(folder, "init", "clone")
    (folder / "link").symlink_to("mirror")
    before = all_paths(folder)
    outcome = postroom(folder, "build", *(["--output", output] if by == "option" else []))
    place = "postroom.yaml:6:9: output" if by == "setting" else "--output"
    assert (outcome.code, outcome.errors) == (2, [f"{place}: '{output}' {GIT}; {OWN}"])
    assert all_paths(folder) == before


def all_paths(folder: Path) -> set[str]:
    """Return the paths of everything in `folder`."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_worktree_for_a_pages_branch_is_allowed(
    make_site: MakeSite, postroom: Postroom, program: Callable[[str], str]
) -> None:
    """The output can be a git worktree, which contains a file named .git."""
    program("git")
    folder = make_site({"posts/a.md": POST})
    git(folder, "init")
    who = ["-c", "user.name=Example", "-c", "user.email=me@example.com"]
    git(folder, *who, "commit", "--allow-empty", "-m", "Begin")
    git(folder, "worktree", "add", "-b", "pages", "public")
    assert (folder / "public/.git").is_file()
    assert postroom(folder, "build").code == 0
    assert (folder / "public/.git").is_file()


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (".postroom", "leads to the hidden '.postroom'"),
        ("pub", "leads to the hidden '.git'"),
        ("out", "leads out of the site"),
    ],
)
def test_the_output_option_follows_the_same_rules(
    make_site: MakeSite, postroom: Postroom, output: str, fault: str
) -> None:
    """No link redirects an `--output` inside the site to another place."""
    folder = make_site({"posts/a.md": POST})
    write_secrets(folder)
    (folder / "pub").symlink_to(".git")
    (folder / "out").symlink_to("../outside")
    outcome = postroom(folder, "build", "--output", output)
    line = f"--output: '{output}' {fault}; {OWN}"
    assert (outcome.code, outcome.errors) == (2, [line])


# The whole site as the folder of posts


def test_posts_can_be_the_whole_site(make_site: MakeSite, postroom: Postroom) -> None:
    """Hidden folders and the output are not read as posts, not even in a second build."""
    files = {
        "a.md": POST + "\n[x](b.txt), [y](public/c.txt), [z](.postroom/postroom.db)\n",
        "b.txt": "beside",
        "public/c.txt": "not Postroom's",
        "public/old.md": "no post",
        ".postroom/x.md": "no post",
        ".git/x.md": "no post",
        "sub/.hidden/x.md": "no post",
    }
    folder = make_site(files, "posts: .\n")
    write_secrets(folder)
    for _ in range(2):
        outcome = postroom(folder, "build")
        assert (outcome.code, outcome.out.partition(":")[0]) == (0, "1 post → public/"), outcome.err
    made = [path for path in (folder / "public").rglob("*") if path.is_file()]
    assert (folder / "public/posts/a/b.txt").read_text() == "beside"
    assert [path for path in made if path.name == "c.txt"] == [folder / "public/c.txt"]
    assert not [path for path in made if SECRET in path.read_bytes()]


def test_paths_are_relative_to_the_whole_site(make_site: MakeSite) -> None:
    """A post in the top folder has no folder in its path."""
    folder = make_site({"a.md": POST, "sub/b.txt": "1", "sub/bad.md": "x"}, "posts: .\n")
    with pytest.raises(ContentError) as caught:
        loader.load_posts(folder, load_settings(folder), AT)
    assert {problem.path for problem in caught.value.problems} == {"sub/bad.md"}
    (folder / "sub/bad.md").unlink()
    (post,) = loader.load_posts(folder, load_settings(folder), AT).posts
    assert post.path == "a.md"


def test_check_finds_posts_of_the_whole_site(make_site: MakeSite, postroom: Postroom) -> None:
    """`check` finds the post of a page, and `new` writes beside the settings."""
    folder = make_site({"a.md": POST + "\n[gone](gone.md)\n"}, "posts: .\n")
    found = postroom(folder, "check").errors
    assert any(line.startswith("a.md:") for line in found), found
    assert postroom(folder, "new", "A day").out == "2026-11-22-a-day.md\n"


def test_an_output_that_is_a_link_is_not_read_as_posts(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """Neither the link nor its target is read as posts."""
    folder = make_site({"a.md": POST, "releases/42/x.md": "no post"}, "posts: .\n")
    (folder / "public").symlink_to("releases/42")
    assert postroom(folder, "build").code == 0
    assert postroom(folder, "build").code == 0


# The logo


@pytest.mark.parametrize(
    ("logo", "what"),
    [
        (".git/config", "'.git/config' leads to the hidden '.git'"),
        (".postroom/postroom.db", "'.postroom/postroom.db' leads to the hidden '.postroom'"),
        ("./.postroom/logo.png", "'./.postroom/logo.png' leads to the hidden '.postroom'"),
        (".logo.png", "'.logo.png' leads to the hidden '.logo.png'"),
        ("data/people.csv", "'data/people.csv' has no ending of an image"),
        ("postroom.yaml", "'postroom.yaml' has no ending of an image"),
        (".", "found '.'"),
        ("/etc/passwd", "found '/etc/passwd'"),
        ("../outside/logo.png", "found '../outside/logo.png'"),
    ],
)
def test_the_logo_is_an_image_of_the_site(make_site: MakeSite, logo: str, what: str) -> None:
    """The path of a logo is that of an image inside the site."""
    folder = make_site({}, f"theme: {{logo: {logo}}}\n")
    write_secrets(folder)
    assert problems(folder) == [f"postroom.yaml:6:15: theme.logo: {what}; {LOGO}"]


@pytest.mark.parametrize(
    ("target", "what"),
    [
        (".postroom/postroom.db", "leads to the hidden '.postroom'"),
        (".postroom/logo.png", "leads to the hidden '.postroom'"),
        ("/etc/passwd", "leads out of the site"),
        ("../outside/logo.png", "leads out of the site"),
        ("data/people.csv", "is a link to a file that has no ending of an image"),
        ("postroom.yaml", "is a link to a file that has no ending of an image"),
        ("folder.png", "is not a file"),
        ("logo.png", "is not a file"),
    ],
)
@pytest.mark.parametrize("command", ["build", "serve"])
def test_no_link_publishes_a_secret_as_a_logo(
    make_site: MakeSite, postroom: Postroom, target: str, what: str, command: str
) -> None:
    """`build` and `serve` judge a logo by the target of its links."""
    folder = make_site({"posts/a.md": POST}, "theme: {logo: logo.png}\n")
    write_secrets(folder)
    (folder / "folder.png").mkdir()
    (folder / "logo.png").symlink_to(target)
    line = f"postroom.yaml:6:15: theme.logo: 'logo.png' {what}; {LOGO}"
    if command == "build":
        outcome = postroom(folder, "build")
        assert (outcome.code, outcome.errors) == (2, [line])
        assert not (folder / "public").exists()
        return
    site = load_settings(folder)
    with pytest.raises(SettingsError) as caught:
        render_service_pages(site, Theme(folder, site.language), folder)
    assert str(caught.value) == line


def test_a_link_in_the_path_of_a_logo_is_followed(make_site: MakeSite, postroom: Postroom) -> None:
    """A link in the middle of the path counts like one at its end."""
    folder = make_site({"posts/a.md": POST}, "theme: {logo: art/logo.png}\n")
    write_secrets(folder)
    (folder / "art").symlink_to(".postroom")
    line = f"postroom.yaml:6:15: theme.logo: 'art/logo.png' leads to the hidden '.postroom'; {LOGO}"
    assert postroom(folder, "build").errors == [line]


def test_a_missing_logo_stops_a_build(make_site: MakeSite, postroom: Postroom) -> None:
    """Pages are not built with a missing image."""
    folder = make_site({"posts/a.md": POST}, "theme: {logo: gone.png}\n")
    line = (
        "postroom.yaml:6:15: theme.logo: 'gone.png' is missing; put it there, or correct the path"
    )
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.errors) == (2, [line])


def test_a_missing_logo_does_not_stop_unsubscribing(tmp_path: Path) -> None:
    """The pages of the service show no logo if the file is missing there."""
    folder = sites.write(
        tmp_path, {"postroom.yaml": SETTINGS + "theme: {logo: gone.png}\n", "posts/a.md": POST}
    )
    with web_server.serve_site(folder, EmptyStore()) as running:
        answer = running.ask("/list/unsubscribe/x")
        assert (answer.status, b"<img" in answer.body) == (200, False)
        assert running.ask("/list/logo.png").status == 404


def test_a_link_to_an_image_of_the_site_is_allowed(make_site: MakeSite, postroom: Postroom) -> None:
    """A logo can be a link to another image of the site."""
    files = {"posts/a.md": POST, "art/v2.PNG": sites.IMAGE}
    folder = make_site(files, "theme: {logo: ./logo.png}\n")
    (folder / "logo.png").symlink_to("art/v2.PNG")
    assert postroom(folder, "build").code == 0
    assert (folder / "public/logo.png").read_bytes() == sites.IMAGE
    with web_server.serve_site(folder, EmptyStore()) as running:
        assert running.ask("/list/logo.png").body == sites.IMAGE


def test_serve_warns_of_a_missing_logo(make_site: MakeSite, postroom: Postroom) -> None:
    """The warning names the line of the setting, and the service starts anyway."""
    folder = make_site({"public/x.html": ""}, "theme: {logo: gone.png}\n")
    # No machine has this address (RFC 5737), so the command ends after its warnings.
    outcome = postroom(folder, "serve", "--host", "192.0.2.1")
    what = "'gone.png' does not exist, so the pages of the service show no logo"
    line = f"postroom.yaml:6:15: theme.logo: {what}; add the file, or remove theme.logo"
    assert line in outcome.warnings


def test_check_reports_a_bad_logo(make_site: MakeSite, postroom: Postroom) -> None:
    """`check` reports the same problem as `build`."""
    folder = make_site({"posts/a.md": POST}, "theme: {logo: logo.png}\n")
    (folder / "logo.png").symlink_to("/etc/passwd")
    outcome = postroom(folder, "check")
    line = f"postroom.yaml:6:15: theme.logo: 'logo.png' leads out of the site; {LOGO}"
    assert (outcome.code, outcome.errors) == (2, [line])
