"""The output folder: complete files, only those of Postroom, and no symbolic links."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import OutputError
from postroom.publish.output import MANIFEST, OutputSummary, replace_output

KILLED = 77


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder` but the manifest."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the time of change of everything below `folder`."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {str(path): (status.st_ino, status.st_mtime_ns) for path, status in found}


def refused(folder: Path, files: Mapping[str, bytes | Path]) -> list[str]:
    """Return the problems of a refused `replace`."""
    with pytest.raises(OutputError) as caught:
        replace_output(folder, files)
    return [str(problem) for problem in caught.value.problems]


def fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` as another program would."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """Return an output folder that does not exist yet."""
    return tmp_path / "public"


def test_writes_files_into_new_folders(public: Path) -> None:
    """Files are written with the folders that their paths need."""
    files = {"a": b"one", "b/c/d.html": b"two", "b/ü.txt": b""}
    assert replace_output(public, files) == OutputSummary(written=3)
    assert tree(public) == files


def test_copies_a_file(public: Path, tmp_path: Path) -> None:
    """The contents of a file may be copied from another file."""
    (tmp_path / "picture").write_bytes(b"\x89PNG")
    assert replace_output(public, {"x.png": tmp_path / "picture"}) == OutputSummary(written=1)
    assert tree(public) == {"x.png": b"\x89PNG"}


def test_an_unchanged_run_touches_nothing(public: Path) -> None:
    """A second run with the same files changes no inode and no time, also of the manifest."""
    files = {"a": b"one", "b/c": b"two"}
    replace_output(public, files)
    before = stamps(public)
    assert replace_output(public, files) == OutputSummary(unchanged=2)
    assert stamps(public) == before


def test_only_changed_files_are_written(public: Path) -> None:
    """An unchanged file keeps its inode and time while others change."""
    replace_output(public, {"same": b"1", "other": b"2"})
    before = stamps(public)[str(public / "same")]
    assert replace_output(public, {"same": b"1", "other": b"3"}) == OutputSummary(
        written=1, unchanged=1
    )
    assert stamps(public)[str(public / "same")] == before
    assert tree(public) == {"same": b"1", "other": b"3"}


def test_files_no_longer_needed_are_removed(public: Path) -> None:
    """A file that is no longer needed is removed with the folders that become empty."""
    replace_output(public, {"a": b"1", "b/c/d": b"2"})
    assert replace_output(public, {"a": b"1"}) == OutputSummary(unchanged=1, removed=1)
    assert [path.name for path in public.iterdir() if path.name != MANIFEST] == ["a"]


def test_foreign_files_are_unchanged(public: Path) -> None:
    """Foreign files stay, also in a folder of removed files."""
    foreign = {"theirs.html": b"<p>", "b/c/theirs": b"1", ".htaccess": b"deny"}
    fill(public, foreign)
    before = {path: stamps(public)[str(public / path)] for path in foreign}
    replace_output(public, {"a": b"1", "b/c/ours": b"2"})
    replace_output(public, {"a": b"3"})
    replace_output(public, {})
    assert tree(public) == foreign
    assert {path: stamps(public)[str(public / path)] for path in foreign} == before


def test_a_foreign_file_with_a_needed_path_is_refused(public: Path) -> None:
    """A foreign file with the path of an output file is an error, and nothing changes."""
    fill(public, {"index.html": b"theirs"})
    assert refused(public, {"index.html": b"ours", "a": b"1"}) == [
        "public/index.html: was not made by Postroom; move it away, delete it, or build elsewhere"
    ]
    assert tree(public) == {"index.html": b"theirs"}


def test_an_equal_foreign_file_is_adopted(public: Path) -> None:
    """A foreign file with the same contents is adopted and may change later."""
    fill(public, {"index.html": b"same"})
    assert replace_output(public, {"index.html": b"same"}) == OutputSummary(unchanged=1)
    assert replace_output(public, {"index.html": b"new"}) == OutputSummary(written=1)


def test_changed_files_are_refused(public: Path) -> None:
    """All files changed after a build are reported at once, and nothing changes."""
    replace_output(public, {"a": b"1", "b": b"2", "c": b"3"})
    fill(public, {"a": b"changed", "b": b"changed"})
    before = stamps(public)
    repair = "move it away, delete it, or build elsewhere"
    assert refused(public, {"a": b"new", "b": b"new", "c": b"new", "d": b"new"}) == [
        f"public/a: was changed since Postroom made it; {repair}",
        f"public/b: was changed since Postroom made it; {repair}",
    ]
    assert stamps(public) == before


def test_a_changed_file_that_is_no_longer_needed_stays(public: Path) -> None:
    """A file changed by someone else causes one warning and is foreign from then on."""
    replace_output(public, {"a": b"1", "b": b"2"})
    fill(public, {"b": b"changed"})
    written = replace_output(public, {"a": b"1"})
    assert [str(problem) for problem in written.warnings] == [
        "public/b: was changed and is no longer made; delete it if nobody needs it"
    ]
    assert tree(public) == {"a": b"1", "b": b"changed"}
    assert replace_output(public, {"a": b"1"}) == OutputSummary(unchanged=1)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"files": 3}',
        b'{"files": ["a"]}',
        b'{"files": {"a": 3}}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids="empty cut null list bare number names no-hashes bytes deep".split(),
)
def test_a_damaged_manifest_is_reported(public: Path, manifest: bytes) -> None:
    """An unreadable manifest stops the run with one line, and nothing changes."""
    replace_output(public, {"a": b"1"})
    fill(public, {MANIFEST: manifest})
    repair = "delete it; the next build will name the files that differ"
    assert refused(public, {"a": b"2"}) == [f"public/.postroom.json: is damaged; {repair}"]
    assert tree(public) == {"a": b"1"}


def test_without_a_manifest_equal_files_are_adopted(public: Path) -> None:
    """Without a manifest each file with the same contents is adopted."""
    replace_output(public, {"a": b"1", "b": b"2"})
    (public / MANIFEST).unlink()
    assert refused(public, {"a": b"1", "b": b"3"})[0].startswith("public/b: was not made")
    assert replace_output(public, {"a": b"1", "b": b"2"}) == OutputSummary(unchanged=2)


@pytest.mark.parametrize("way", ["../victim", "{root}/victim", "link/victim", "link", "a/../x\0"])
def test_a_forged_manifest_removes_nothing_outside(public: Path, tmp_path: Path, way: str) -> None:
    """Files outside the folder or behind a link stay, even if the manifest names them."""
    (tmp_path / "victim").write_bytes(b"mine")
    public.mkdir()
    (public / "link").symlink_to(tmp_path)
    owned = {way.format(root=tmp_path): [sha256(b"mine").hexdigest()]}
    fill(public, {MANIFEST: json.dumps({"files": owned}).encode()})
    assert replace_output(public, {"a": b"1"}) == OutputSummary(written=1)
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert (public / "link").is_symlink()


@pytest.mark.parametrize(
    "path", ["../a", "a/../../b", "/etc/passwd", "", ".", "a\0b", "..", "a\\b", "a/.."]
)
def test_a_path_out_of_the_folder_is_refused(public: Path, path: str) -> None:
    """A path out of the folder is refused before the folder is created."""
    shown = path.replace("\0", "\\x00")
    line = f"{shown}: would lie outside the output folder; rename the post"
    assert refused(public, {path: b"x", "fine": b"y"}) == [line.removeprefix(": ")]
    assert not public.exists()


@pytest.mark.parametrize("path", [MANIFEST, f"{MANIFEST}/x", ".postroom.tmp", ".postroom.tmp/0"])
def test_reserved_names_are_refused(public: Path, path: str) -> None:
    """No file may replace the manifest or the staging folder."""
    assert refused(public, {path: b"x"}) == [
        f"{path}: is a name that Postroom reserves; use another"
    ]


@pytest.mark.parametrize("target", ["elsewhere", "missing"])
def test_nothing_is_written_through_a_folder_that_is_a_link(
    public: Path, tmp_path: Path, target: str
) -> None:
    """A folder of the output that is a symbolic link is refused, whatever its target."""
    (tmp_path / "elsewhere").mkdir()
    public.mkdir()
    (public / "posts").symlink_to(tmp_path / target)
    what = "is a symbolic link, which Postroom does not follow when it writes"
    repair = "move it away, delete it, or build elsewhere"
    assert refused(public, {"posts/a/index.html": b"x", "b": b"y"}) == [
        f"public/posts: {what}; {repair}"
    ]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert tree(public) == {}


def test_nothing_is_written_through_a_file_that_is_a_link(public: Path, tmp_path: Path) -> None:
    """A file of the output that is a symbolic link is refused, and its target is unchanged."""
    (tmp_path / "secret").write_bytes(b"s")
    public.mkdir()
    (public / "a").symlink_to(tmp_path / "secret")
    assert "public/a: is a symbolic link" in refused(public, {"a": b"s"})[0]
    assert (tmp_path / "secret").read_bytes() == b"s"


def test_the_output_folder_itself_may_be_a_link(public: Path, tmp_path: Path) -> None:
    """The output folder may be a symbolic link, and stays one."""
    (tmp_path / "real").mkdir()
    public.symlink_to(tmp_path / "real")
    assert replace_output(public, {"a/b": b"1"}) == OutputSummary(written=1)
    assert replace_output(public, {"c": b"2"}) == OutputSummary(written=1, removed=1)
    assert public.is_symlink()
    assert tree(tmp_path / "real") == {"c": b"2"}


def test_a_folder_where_a_file_is_needed_is_refused(public: Path) -> None:
    """A foreign folder is not replaced by a file."""
    fill(public, {"a/theirs": b"1"})
    assert refused(public, {"a": b"x", "b": b"y"}) == [
        "public/a: is a folder where a file is needed; move it away, delete it, or build elsewhere"
    ]
    assert tree(public) == {"a/theirs": b"1"}


def test_a_file_where_a_folder_is_needed_is_refused(public: Path) -> None:
    """A foreign file is not replaced by a folder."""
    fill(public, {"a": b"1"})
    assert refused(public, {"a/b/c": b"x", "b": b"y"}) == [
        "public/a: is a file where a folder is needed; move it away, delete it, or build elsewhere"
    ]
    assert tree(public) == {"a": b"1"}


def test_an_output_folder_that_is_a_file_is_refused(public: Path) -> None:
    """A file in place of the output folder is one line."""
    public.write_bytes(b"x")
    assert refused(public, {"a": b"1"}) == [f"{public}: cannot be written: file exists"]
    assert public.read_bytes() == b"x"


def test_a_name_that_is_too_long_is_refused(public: Path) -> None:
    """A name too long for the file system is one line, and nothing is written."""
    long = "x" * 256
    assert refused(public, {"a": b"1", long: b"2"}) == [
        f"{public / long}: cannot be written: file name too long"
    ]
    assert tree(public) == {}


OLD = {"same": b"same", "changed": b"old", "gone": b"old", "d/gone": b"old", "e/f/changed": b"old"}
NEW = {"same": b"same", "changed": b"new", "e/f/changed": b"new", "g/h/more": b"new"}
OTHER = {"changed": b"other", "e/f/changed": b"new", "d/gone": b"other", "last": b"other"}
THEIRS = {"d/theirs": b"theirs", "theirs.html": b"theirs"}
STEPS = frozenset("flock mkdir open remove rename replace rmdir unlink write".split())


def killed_after(steps: int, folder: Path, files: Mapping[str, bytes]) -> bool:
    """Run `replace` in a process that dies before file system step number `steps`, if it has one.

    Data written to files that are still open is lost. Return whether the process died.
    """
    done = 0

    def count(_frame: FrameType, event: str, function: object) -> None:
        nonlocal done
        if event == "c_call" and getattr(function, "__name__", "") in STEPS:
            if done == steps:
                os._exit(KILLED)
            done += 1

    child = os.fork()
    if child == 0:
        try:
            sys.setprofile(count)
            replace_output(folder, files)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, KILLED}
    return code == KILLED


def is_complete(folder: Path, *states: Mapping[str, bytes]) -> bool:
    """Tell whether each file is that of one of `states` and foreign files exist."""
    found = {path: data for path, data in tree(folder).items() if ".postroom.tmp" not in path}
    paths = {path for state in states for path in state}
    ours = all(found.get(path) in {state.get(path) for state in states} for path in paths)
    theirs = {path: data for path, data in found.items() if path not in paths}
    return ours and theirs == THEIRS


@pytest.mark.slow
@pytest.mark.parametrize("following", [NEW, OTHER, OLD], ids=["again", "other", "back"])
def test_a_run_may_be_killed_at_any_step(tmp_path: Path, following: dict[str, bytes]) -> None:
    """A run killed at any step leaves complete files, and the next run corrects the folder."""
    steps = 0
    while True:
        public = tmp_path / f"{steps}"
        fill(public, THEIRS)
        replace_output(public, OLD)
        died = killed_after(steps, public, NEW)
        assert is_complete(public, OLD, NEW)
        replace_output(public, following)
        assert tree(public) == {**following, **THEIRS}
        assert replace_output(public, following) == OutputSummary(unchanged=len(following))
        if not died:
            break
        steps += 1
    # Fewer steps would mean that they are no longer counted.
    assert steps > 20


def test_two_runs_may_be_killed(tmp_path: Path) -> None:
    """After two killed runs with different contents the third corrects the folder."""
    for steps in range(0, 60, 3):
        public = tmp_path / f"{steps}"
        fill(public, THEIRS)
        replace_output(public, OLD)
        killed_after(steps, public, NEW)
        killed_after(steps, public, OTHER)
        assert is_complete(public, OLD, NEW, OTHER)
        replace_output(public, OLD)
        assert tree(public) == {**OLD, **THEIRS}


def test_two_runs_at_once(public: Path, tmp_path: Path) -> None:
    """A second run at the same time is refused with one line, and the first one succeeds."""
    os.mkfifo(tmp_path / "pipe")
    child = os.fork()
    if child == 0:
        try:
            replace_output(public, {"a": tmp_path / "pipe"})
            os._exit(0)
        finally:
            os._exit(1)
    # Opens when the child reads in the middle of its run.
    with (tmp_path / "pipe").open("wb") as pipe:
        assert refused(public, {"a": b"second"}) == [
            "public: another build is writing here; wait until it has finished"
        ]
        pipe.write(b"first")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tree(public) == {"a": b"first"}


FILES = st.dictionaries(
    st.builds("{}{}".format, st.sampled_from(["", "d/", "d/e/", "f/"]), st.sampled_from("xyz")),
    st.sampled_from([b"1", b"2", b""]),
)


@settings(deadline=None, max_examples=50)
@given(runs=st.lists(FILES, min_size=1, max_size=5))
def test_the_last_run_decides(
    tmp_path_factory: pytest.TempPathFactory, runs: list[dict[str, bytes]]
) -> None:
    """The folder contains exactly the files of the last run, and foreign files."""
    public = tmp_path_factory.mktemp("public")
    fill(public, {"d/theirs": b"theirs"})
    for files in runs:
        before = set(tree(public)) - {"d/theirs"}
        written = replace_output(public, files)
        assert written.written + written.unchanged == len(files)
        assert written.removed == len(before - set(files))
    assert tree(public) == {**runs[-1], "d/theirs": b"theirs"}
    assert not any(path.is_dir() and not any(path.iterdir()) for path in public.rglob("*"))


@pytest.mark.parametrize(
    "path", [".git/config", "a/.git/HEAD", ".htaccess", "posts/.x", "a/.well-known/x"]
)
def test_nothing_hidden_is_written(tmp_path: Path, path: str) -> None:
    """No file is written to a hidden path, because git runs programs that its settings name."""
    with pytest.raises(OutputError) as caught:
        replace_output(tmp_path, {path: b"x"})
    what = "is hidden, so no host would serve it"
    assert str(caught.value) == f"{path}: {what}; use names that do not begin with '.'"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("link", [".postroom.tmp", ".postroom.json"])
def test_internal_paths_may_not_be_links(tmp_path: Path, link: str) -> None:
    """A staging folder or manifest that is a symbolic link is refused."""
    public, git = tmp_path / "public", tmp_path / ".git"
    public.mkdir()
    git.mkdir()
    (git / "config").write_text("[core]\n")
    (public / link).symlink_to("../.git" if link.endswith("tmp") else "../.git/config")
    for files in ({"a": b"x"}, {}):
        with pytest.raises(OutputError) as caught:
            replace_output(public, files)
        what = "is a symbolic link, which Postroom does not follow when it writes"
        repair = "move it away, delete it, or build elsewhere"
        assert str(caught.value) == f"public/{link}: {what}; {repair}"
    assert [path.name for path in git.iterdir()] == ["config"]
