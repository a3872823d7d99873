"""Paths that settings name: inside the site, never hidden, as written and as links resolve."""

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


def plant(folder: Path) -> None:
    """Make a site's secrets: its database, its repository, and files beside the site."""
    for path in (".postroom/postroom.db", ".postroom/logo.png", ".git/config", "data/people.csv"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(SECRET)
    (folder.parent / "outside").mkdir()
    (folder.parent / "outside/logo.png").write_bytes(SECRET)


# Folders as they are written


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
def test_no_hidden_folder_is_named(make_site: MakeSite, key: str, path: str, step: str) -> None:
    """A step that begins with a dot is refused wherever it stands in the path."""
    folder = make_site({}, f"{key}: {path}\n")
    what = f"'{path}' leads to the hidden '{step}'"
    example = {"posts": "posts", "output": "public"}[key]
    line = f"postroom.yaml:6:{len(key) + 3}: {key}: {what}; {FOLDER} {example}"
    assert problems(folder) == [line]


@pytest.mark.parametrize(
    ("written", "meant"), [(".", "."), ("./", "."), ("./content", "content"), ("a//b/./c", "a/b/c")]
)
def test_a_path_is_normalised_first(make_site: MakeSite, written: str, meant: str) -> None:
    """Dots that mean the folder itself are no hidden steps."""
    assert load_settings(make_site({}, f"posts: {written}\n")).posts == meant


def test_the_site_is_not_its_own_output(make_site: MakeSite) -> None:
    """An output folder that is the site would be served with settings, drafts and exports."""
    folder = make_site({}, "output: .\n")
    assert problems(folder) == [f"postroom.yaml:6:9: output: found '.'; {FOLDER} public"]


def test_no_post_has_a_hidden_address(make_site: MakeSite) -> None:
    """A permalink through a hidden folder would plant files in public/.git, and is never served."""
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
def test_no_link_leads_a_folder_astray(
    make_site: MakeSite, setting: str, target: str, what: str
) -> None:
    """A folder of the settings that is reached through a link is judged by where it is."""
    folder = make_site({}, f"{setting}\n")
    plant(folder)
    (folder / "pub").symlink_to(target)
    key, path = setting.split(": ")
    hint = {"posts": f"{FOLDER} posts", "output": OWN}[key]
    line = f"postroom.yaml:6:{len(key) + 3}: {key}: '{path}' {what}; {hint}"
    assert problems(folder) == [line]


def test_the_default_folder_is_checked_too(make_site: MakeSite) -> None:
    """The output folder of a site without `output:` may be a link as well."""
    folder = make_site()
    plant(folder)
    (folder / "public").symlink_to(".postroom")
    what = f"'public' leads to the hidden '.postroom'; {OWN}"
    assert problems(folder) == [f"postroom.yaml: output: {what}"]


def test_a_link_inside_the_site_is_fine(make_site: MakeSite, postroom: Postroom) -> None:
    """Posts and output may be links to other folders of the site, as with releases."""
    folder = make_site({"content/a.md": POST}, "posts: news\n")
    (folder / "releases/42").mkdir(parents=True)
    (folder / "public").symlink_to("releases/42")
    (folder / "news").symlink_to("content")
    assert postroom(folder, "build").code == 0
    assert (folder / "releases/42/atom.xml").is_file()


def test_a_site_may_lie_in_a_hidden_folder(make_site: MakeSite, postroom: Postroom) -> None:
    """Only steps below the site count, not those that lead to it."""
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
    """Return the paths of all that lies in `folder`."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_worktree_for_a_pages_branch_is_fine(
    make_site: MakeSite, postroom: Postroom, program: Callable[[str], str]
) -> None:
    """The output may be a worktree of git's, which holds a file called .git."""
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
def test_the_option_for_output_is_held_to_the_same(
    make_site: MakeSite, postroom: Postroom, output: str, fault: str
) -> None:
    """A link that a branch brings turns no `--output` inside the site into another place."""
    folder = make_site({"posts/a.md": POST})
    plant(folder)
    (folder / "pub").symlink_to(".git")
    (folder / "out").symlink_to("../outside")
    outcome = postroom(folder, "build", "--output", output)
    line = f"--output: '{output}' {fault}; {OWN}"
    assert (outcome.code, outcome.errors) == (2, [line])


# The whole site as the folder of posts


def test_posts_may_be_the_whole_site(make_site: MakeSite, postroom: Postroom) -> None:
    """Neither hidden folders nor the output are read as posts, in a second build either."""
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
    plant(folder)
    for _ in range(2):
        outcome = postroom(folder, "build")
        assert (outcome.code, outcome.out.partition(":")[0]) == (0, "1 post → public/"), outcome.err
    made = [path for path in (folder / "public").rglob("*") if path.is_file()]
    assert (folder / "public/posts/a/b.txt").read_text() == "beside"
    assert [path for path in made if path.name == "c.txt"] == [folder / "public/c.txt"]
    assert not [path for path in made if SECRET in path.read_bytes()]


def test_paths_count_from_the_whole_site(make_site: MakeSite) -> None:
    """A post at the top is named without a folder before it."""
    folder = make_site({"a.md": POST, "sub/b.txt": "1", "sub/bad.md": "x"}, "posts: .\n")
    with pytest.raises(ContentError) as caught:
        loader.load_posts(folder, load_settings(folder), AT)
    assert {problem.path for problem in caught.value.problems} == {"sub/bad.md"}
    (folder / "sub/bad.md").unlink()
    (post,) = loader.load_posts(folder, load_settings(folder), AT).posts
    assert post.path == "a.md"


def test_check_knows_posts_of_the_whole_site(make_site: MakeSite, postroom: Postroom) -> None:
    """`check` finds the post behind a page, and `new` writes beside the settings."""
    folder = make_site({"a.md": POST + "\n[gone](gone.md)\n"}, "posts: .\n")
    found = postroom(folder, "check").errors
    assert any(line.startswith("a.md:") for line in found), found
    assert postroom(folder, "new", "A day").out == "2026-11-22-a-day.md\n"


def test_an_output_that_is_a_link_is_not_read_as_posts(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """Neither the link nor the folder that it leads to holds posts."""
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
def test_the_settings_name_an_image_of_the_site(make_site: MakeSite, logo: str, what: str) -> None:
    """A logo is an image inside the site by its path already."""
    folder = make_site({}, f"theme: {{logo: {logo}}}\n")
    plant(folder)
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
    """`build` and `serve` judge a logo by the file that it is in the end."""
    folder = make_site({"posts/a.md": POST}, "theme: {logo: logo.png}\n")
    plant(folder)
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


def test_a_folder_that_is_a_link_hides_no_logo(make_site: MakeSite, postroom: Postroom) -> None:
    """A link in the middle of the path counts as one at its end."""
    folder = make_site({"posts/a.md": POST}, "theme: {logo: art/logo.png}\n")
    plant(folder)
    (folder / "art").symlink_to(".postroom")
    line = f"postroom.yaml:6:15: theme.logo: 'art/logo.png' leads to the hidden '.postroom'; {LOGO}"
    assert postroom(folder, "build").errors == [line]


def test_a_logo_that_is_missing_stops_a_build(make_site: MakeSite, postroom: Postroom) -> None:
    """Pages are not built with an image that is not there."""
    folder = make_site({"posts/a.md": POST}, "theme: {logo: gone.png}\n")
    line = (
        "postroom.yaml:6:15: theme.logo: 'gone.png' is missing; put it there, or correct the path"
    )
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.errors) == (2, [line])


def test_a_missing_logo_prevents_no_unsubscribing(tmp_path: Path) -> None:
    """Where the output was built elsewhere the logo may be missing: the pages do without it."""
    folder = sites.write(
        tmp_path, {"postroom.yaml": SETTINGS + "theme: {logo: gone.png}\n", "posts/a.md": POST}
    )
    with web_server.serve_site(folder, EmptyStore()) as running:
        answer = running.ask("/list/unsubscribe/x")
        assert (answer.status, b"<img" in answer.body) == (200, False)
        assert running.ask("/list/logo.png").status == 404


def test_a_link_to_an_image_of_the_site_is_fine(make_site: MakeSite, postroom: Postroom) -> None:
    """A logo may be a link to another image of the site."""
    files = {"posts/a.md": POST, "art/v2.PNG": sites.IMAGE}
    folder = make_site(files, "theme: {logo: ./logo.png}\n")
    (folder / "logo.png").symlink_to("art/v2.PNG")
    assert postroom(folder, "build").code == 0
    assert (folder / "public/logo.png").read_bytes() == sites.IMAGE
    with web_server.serve_site(folder, EmptyStore()) as running:
        assert running.ask("/list/logo.png").body == sites.IMAGE


def test_serve_warns_of_a_missing_logo(make_site: MakeSite, postroom: Postroom) -> None:
    """The line says where the logo is named; the service starts all the same."""
    folder = make_site({"public/x.html": ""}, "theme: {logo: gone.png}\n")
    # No machine has this address (RFC 5737), so the command ends after its warnings.
    outcome = postroom(folder, "serve", "--host", "192.0.2.1")
    what = "'gone.png' does not exist, so the pages of the service show no logo"
    line = f"postroom.yaml:6:15: theme.logo: {what}; add the file, or remove theme.logo"
    assert line in outcome.warnings


def test_check_names_a_bad_logo_on_its_line(make_site: MakeSite, postroom: Postroom) -> None:
    """`check` says what `build` would."""
    folder = make_site({"posts/a.md": POST}, "theme: {logo: logo.png}\n")
    (folder / "logo.png").symlink_to("/etc/passwd")
    outcome = postroom(folder, "check")
    line = f"postroom.yaml:6:15: theme.logo: 'logo.png' leads out of the site; {LOGO}"
    assert (outcome.code, outcome.errors) == (2, [line])
