"""`init` creates a site, and `new` a post."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import ContentError, UseError
from postroom.posts import edit, front_matter, loader, scaffold
from postroom.settings import site
from postroom.settings.yaml_reader import forbidden_characters
from postroom.text import slugify
from tests.support.site import AT, SETTINGS, CommandResult, MakeSite
from tests.support.sites import contents

Postroom = Callable[..., CommandResult]
TODAY = AT.date()
LISTS = "# Lists of subscribers and emails contain email addresses.\n/*.csv\n/*.eml\n"
SITE = site.parse_settings(SETTINGS.encode())


def test_a_new_site_builds_at_once(tmp_path: Path, postroom: Postroom) -> None:
    """A new site builds without errors; the only warning is the missing id of the plain post."""
    made = postroom(tmp_path, "init", "my-news")
    names = [
        ".gitignore",
        "postroom.yaml",
        "posts/2026-11-22-a-post-is-one-file.md",
        "posts/2026-11-22-welcome.md",
    ]
    assert (made.code, made.err) == (0, "")
    last = "Next: cd my-news && postroom build"
    assert made.out.splitlines() == [*(f"my-news/{name}" for name in names), last]
    assert sorted(contents(tmp_path / "my-news")) == names
    built = postroom(tmp_path / "my-news", "build")
    assert (built.code, built.errors, len(built.warnings)) == (0, [], 1)
    plain = "posts/2026-11-22-a-post-is-one-file.md:1: id: is missing; add id: "
    assert built.warnings[0].startswith(plain)
    assert "2 posts → public/: " in built.out


def test_git_ignores_generated_files(tmp_path: Path, postroom: Postroom) -> None:
    """Git ignores the output, Postroom's own folder, and files with email addresses."""
    postroom(tmp_path, "init", "my-news")
    lines = (tmp_path / "my-news/.gitignore").read_text().splitlines()
    assert [line for line in lines if line[0] != "#"] == [
        "public/",
        ".postroom/",
        "/*.csv",
        "/*.eml",
    ]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("my-news", "My News"),
        ("our_press_room", "Our Press Room"),
        ('The "Daily" News', 'The "Daily" News'),
        ("back\\slash", "Back\\Slash"),
        ("100% #1: {new}", "100% #1: {New}"),
        ("新闻", "新闻"),
        ("'quoted'", "'Quoted'"),
        ("- --", "Our News"),
        ("no", "No"),
        ("@TODAY@", "@Today@"),
        ("two\nlines\x07", "Two Lines"),
    ],
)
def test_any_folder_name_makes_a_title(
    tmp_path: Path, postroom: Postroom, name: str, title: str
) -> None:
    """A site has the name of its folder, with any characters, and builds."""
    assert postroom(tmp_path, "init", "--", name).code == 0
    assert site.load_settings(tmp_path / name).title == title
    assert postroom(tmp_path / name, "build").errors == []


def test_a_folder_name_of_another_encoding_makes_a_title(
    tmp_path: Path, postroom: Postroom
) -> None:
    """A site in a folder whose name is not UTF-8 has the readable part as its name."""
    name = b"caf\xe9 news".decode(errors="surrogateescape")
    assert postroom(tmp_path, "init", name).code == 0
    assert site.load_settings(tmp_path / name).title == "Caf News"


@pytest.mark.parametrize("place", ["a/b/c", "./here/", "a/../b"])
def test_parent_folders_are_created(tmp_path: Path, postroom: Postroom, place: str) -> None:
    """`init` creates the folders above the site."""
    (tmp_path / "a").mkdir()
    assert postroom(tmp_path, "init", place).code == 0
    assert postroom(tmp_path / place, "build").code == 0


def test_the_current_folder_can_become_a_site(tmp_path: Path, postroom: Postroom) -> None:
    """`init .` creates a site in the current folder and keeps the files there."""
    (tmp_path / "README.md").write_text("mine")
    assert postroom(tmp_path, "init", ".").code == 0
    assert (tmp_path / "README.md").read_text() == "mine"
    assert postroom(tmp_path, "build").code == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"public/\n.postroom/\n{LISTS}"),
        ("*.pyc\n", f"*.pyc\npublic/\n.postroom/\n{LISTS}"),
        ("*.pyc", f"*.pyc\npublic/\n.postroom/\n{LISTS}"),
        ("/public\r\n", f"/public\r\n.postroom/\n{LISTS}"),
        ("# not ours: public/\n.postroom", f"# not ours: public/\n.postroom\npublic/\n{LISTS}"),
        (f"public/\n.postroom/\n{LISTS}", f"public/\n.postroom/\n{LISTS}"),
        ("public/\n.postroom/\n*.csv\n*.eml", "public/\n.postroom/\n*.csv\n*.eml"),
    ],
)
def test_a_repository_can_become_a_site(
    tmp_path: Path, postroom: Postroom, before: str, after: str
) -> None:
    """An existing .gitignore keeps its lines and gets those for generated files."""
    (tmp_path / ".gitignore").write_text(before, newline="")
    made = postroom(tmp_path, "init", ".")
    assert (made.code, made.out.splitlines()[-1]) == (0, "Next: postroom build")
    assert (tmp_path / ".gitignore").read_bytes() == after.encode()
    assert (".gitignore" in made.out.splitlines()) == (before != after)


@pytest.mark.parametrize("name", [".gitignore/a", "postroom.yaml", "posts/2026-11-22-welcome.md"])
def test_nothing_is_overwritten(tmp_path: Path, postroom: Postroom, name: str) -> None:
    """A file that exists already is reported, and nothing is written."""
    (tmp_path / "news" / name).parent.mkdir(parents=True)
    (tmp_path / "news" / name).write_text("mine")
    outcome = postroom(tmp_path, "init", "news")
    line = f"news/{name.removesuffix('/a')}: exists already; choose another folder"
    assert (outcome.code, outcome.out, outcome.errors) == (2, "", [line])
    assert contents(tmp_path) == {f"news/{name}": b"mine"}


def test_a_second_init_changes_nothing(tmp_path: Path, postroom: Postroom) -> None:
    """A second `init` reports each file that exists."""
    postroom(tmp_path, "init", "news")
    before = contents(tmp_path)
    outcome = postroom(tmp_path, "init", "news")
    assert (outcome.code, len(outcome.errors)) == (2, 3)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "reason"), [("file", "file exists"), ("file/x", "not a directory")]
)
def test_a_file_in_place_of_the_folder_is_reported(
    tmp_path: Path, postroom: Postroom, name: str, reason: str
) -> None:
    """`init` with the path of a file prints one line and returns exit code 1."""
    (tmp_path / "file").write_text("mine")
    outcome = postroom(tmp_path, "init", name)
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert outcome.errors[0].endswith(f"cannot be written: {reason}")


def test_a_folder_name_that_is_too_long_is_reported(tmp_path: Path, postroom: Postroom) -> None:
    """A name too long for the file system is one line and exit code 1."""
    outcome = postroom(tmp_path, "init", "x" * 256)
    assert (outcome.code, len(outcome.err.splitlines())) == (1, 1)
    assert outcome.errors[0].endswith(": file name too long")


def test_a_new_post_is_a_draft_with_an_id(make_site: MakeSite, postroom: Postroom) -> None:
    """`new` writes a draft of today with its title and an id of the site's id and the file name."""
    folder = make_site({})
    outcome = postroom(folder, "new", "We moved: “again”!")
    path = "posts/2026-11-22-we-moved-again.md"
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{path}\n", "")
    assert (folder / path).read_text() == (
        "---\n"
        'title: "We moved: “again”!"\n'
        "date: 2026-11-22\n"
        "id: tag:news.example.com,2026:2026-11-22-we-moved-again\n"
        "summary: \n"
        "topics: []\n"
        "draft: true\n"
        "---\n\n"
    )
    assert "0 posts → public/, 1 draft: " in postroom(folder, "build").out


def test_without_its_draft_line_a_new_post_is_published(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """A new post without its draft line builds without a warning."""
    folder = make_site({})
    path = folder / postroom(folder, "new", "We moved").out.strip()
    path.write_text(path.read_text().replace("draft: true\n", "") + "To a new office.\n")
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.err) == (0, "")
    assert b"We moved" in (folder / "public/posts/we-moved/index.html").read_bytes()


def test_the_day_is_in_the_sites_time_zone(
    make_site: MakeSite, postroom: Postroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new post has the current date in the time zone of the site, not of the machine."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1796079600")  # 2026-11-30T23:00:00Z
    folder = make_site({})
    assert postroom(folder, "new", "x").out == "posts/2026-12-01-x.md\n"


def test_new_works_in_any_folder_of_a_site(make_site: MakeSite, postroom: Postroom) -> None:
    """A new post is written to the folder of the settings from any folder of the site."""
    folder = make_site({"some/where/x.txt": ""}, "posts: content/news\n")
    outcome = postroom(folder / "some/where", "new", "A b")
    assert outcome.out == "content/news/2026-11-22-a-b.md\n"
    assert (folder / "content/news/2026-11-22-a-b.md").is_file()


def test_a_post_is_not_written_twice(make_site: MakeSite, postroom: Postroom) -> None:
    """A second post of the same name on one day is refused, and the first one stays."""
    folder = make_site({"posts/2026-11-22-we-moved.md": "mine"})
    outcome = postroom(folder, "new", "We moved!")
    what = "exists already; open it, or choose another title"
    assert (outcome.code, outcome.errors) == (2, [f"posts/2026-11-22-we-moved.md: {what}"])
    assert (folder / "posts/2026-11-22-we-moved.md").read_text() == "mine"


@pytest.mark.parametrize("title", ["", "   ", "!?…", "🎉", "---", "\n"])
def test_a_title_without_letters_is_refused(
    make_site: MakeSite, postroom: Postroom, title: str
) -> None:
    """A title that gives no file name is wrong use, and nothing is written."""
    folder = make_site({})
    outcome = postroom(folder, "new", "--", title)
    shown = " ".join(title.split())
    line = f"TITLE: found '{shown}'; use letters or digits"
    assert (outcome.code, outcome.errors) == (2, [line])
    assert list((folder / "posts").iterdir()) == []


@pytest.mark.parametrize("character", ["\x01", "\x1b", "\ufffe", "\udce9"])
def test_a_title_with_a_control_character_is_refused(
    make_site: MakeSite, postroom: Postroom, character: str
) -> None:
    """A character that XML forbids is reported when the post is created."""
    folder = make_site({})
    outcome = postroom(folder, "new", f"a{character}b")
    code = f"U+{ord(character):04X}"
    line = f"TITLE: found the character {code}, which no feed can hold; remove it"
    assert (outcome.code, outcome.errors) == (2, [line])
    assert list((folder / "posts").iterdir()) == []


@pytest.mark.parametrize("title", ["新" * 200, "word " * 100, "é" * 300], ids=["zh", "en", "fr"])
def test_a_long_title_makes_a_short_name(
    make_site: MakeSite, postroom: Postroom, title: str
) -> None:
    """The file name of a long title is cut; the title is not."""
    folder = make_site({})
    outcome = postroom(folder, "new", title)
    assert outcome.code == 0
    assert len(Path(outcome.out.strip()).name.encode()) <= 255
    (post,) = loader.load_posts(folder, SITE, AT, drafts=True).posts
    assert post.title == title.strip()
    assert postroom(folder, "build", "--drafts").code == 0


LETTERS = st.characters(exclude_categories=["Cs"])
TITLES = st.text(LETTERS, max_size=60).map(lambda text: f"a{text}") | st.lists(
    st.sampled_from(["it's", '"so"', "\\", "a: b", "#1", "🎉", "{x}", "[y]", "- ", "%", "---", "é"])
).map(lambda parts: "Title " + " ".join(parts))


@settings(deadline=None, max_examples=100)
@given(title=TITLES)
def test_every_title_reads_back(tmp_path_factory: pytest.TempPathFactory, title: str) -> None:
    """A new post reads back with its title, its id and the slug of its file."""
    folder = tmp_path_factory.mktemp("newsroom")
    shown = " ".join(title.split())
    if any(forbidden_characters(shown)):
        with pytest.raises(UseError, match="which no feed can hold"):
            scaffold.create_post(folder, SITE, title, TODAY)
        return
    path = scaffold.create_post(folder, SITE, title, TODAY)
    loaded = loader.load_posts(folder, SITE, AT, drafts=True)
    (post,) = loaded.posts
    assert (post.title, post.day, loaded.warnings) == (shown, TODAY, ())
    assert post.id == SITE.id + quote(path.stem)
    parts = front_matter.split_post(path.read_text("utf-8"))
    assert parts is not None
    assert (parts.body.strip(), (parts.head or "").count("\n")) == ("", 6)


@given(title=st.text(LETTERS, max_size=200))
def test_a_file_name_is_plain(tmp_path_factory: pytest.TempPathFactory, title: str) -> None:
    """The name of a new post consists of its date and the words of its title."""
    folder = tmp_path_factory.mktemp("newsroom")
    try:
        path = scaffold.create_post(folder, SITE, title, TODAY)
    except UseError:
        assert not slugify(title) or any(forbidden_characters(" ".join(title.split())))
        assert list(folder.iterdir()) == []
        return
    assert path.parent == folder / "posts"
    assert re.fullmatch(r"2026-11-22-[^\s/.]+\.md", path.name)
    assert len(path.name.encode()) <= 255


ID = "tag:news.example.com,2026:x.md"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# T\n\nText.\n", f'---\nid: "{ID}"\n---\n\n# T\n\nText.\n'),
        ("---\ntitle: T\n---\nText.", f'---\ntitle: T\nid: "{ID}"\n---\nText.'),
        ("---\r\ntitle: T\r\n---\r\nA\r\n", f'---\r\ntitle: T\r\nid: "{ID}"\r\n---\r\nA\r\n'),
        ("\ufeff---\ntitle: T\n---\n", f'\ufeff---\ntitle: T\nid: "{ID}"\n---\n'),
        ("---\nid:\ntitle: T\n---\nA\n", f'---\nid: "{ID}"\ntitle: T\n---\nA\n'),
        ("---\n---\n# T\n", f'---\nid: "{ID}"\n---\n# T\n'),
        ("---\ntitle: T # id:\n---\nid:\n", f'---\ntitle: T # id:\nid: "{ID}"\n---\nid:\n'),
    ],
    ids="plain head windows mark empty bare decoy".split(),
)
def test_an_id_is_written_and_nothing_else(tmp_path: Path, before: str, after: str) -> None:
    """A missing id becomes one line of front matter; every other byte and the mode stay."""
    file = tmp_path / "x.md"
    file.write_bytes(before.encode())
    file.chmod(0o640)
    edit.write_id(file, "posts/x.md", ID)
    assert file.read_bytes().decode() == after
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["x.md"]


@pytest.mark.parametrize(
    "before", ["---\n[title]\n---\nA\n", "---\ntitle: T\n", "---\ntitle: T\n...\n---\nA\n"]
)
def test_an_id_that_cannot_be_written_changes_nothing(tmp_path: Path, before: str) -> None:
    """A file to which the id cannot be added is reported and unchanged."""
    file = tmp_path / "x.md"
    file.write_text(before)
    with pytest.raises(ContentError, match=r"^posts/x\.md:1: id: cannot be written here; add it "):
        edit.write_id(file, "posts/x.md", ID)
    assert file.read_text() == before


@settings(deadline=None, max_examples=80)
@given(
    head=st.none() | st.lists(st.sampled_from(["title: A", "summary: >", "  b", "id: ''", "# x"])),
    body=st.text(st.sampled_from("ab -#:\n'é"), max_size=30),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_written_id_is_the_derived_one(
    tmp_path_factory: pytest.TempPathFactory, head: list[str] | None, body: str, end: str
) -> None:
    """A post with its derived id written down is not shown again by feed readers."""
    folder = tmp_path_factory.mktemp("newsroom")
    file = folder / "posts/2026-11-20-x.md"
    file.parent.mkdir()
    lines = [] if head is None else ["---", *head, "---"]
    text = end.join([*lines, *body.split("\n"), ""])
    file.write_bytes(text.encode())
    try:
        (before,) = loader.load_posts(folder, SITE, AT).posts
        edit.write_id(file, "posts/2026-11-20-x.md", before.id)
    except ContentError:
        assert file.read_bytes() == text.encode()
        return
    after = loader.load_posts(folder, SITE, AT)
    assert after.posts == (before,)
    assert not [warning for warning in after.warnings if warning.key == "id"]
