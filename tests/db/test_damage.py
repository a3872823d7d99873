"""A database that is damaged or cannot be used is one line that says what to do."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postroom.db.engine import DEFAULT_PATH
from postroom.db.migrate import open_database
from postroom.errors import DatabaseError
from tests.support.processes import plain
from tests.support.sending_site import KEY, SENDER
from tests.support.site import POST, ROOT, CommandResult, MakeSite
from tests.support.smtp_server import scripted

Postroom = Callable[..., CommandResult]
# Every command that opens the database, but `serve`, which goes on until it is stopped.
COMMANDS = [
    ("plan",),
    ("send", "--keep-ledger-here"),
    ("send", "--keep-ledger-here", "--resend-uncertain"),
    ("status",),
    ("status", "--acknowledge"),
    ("subscribers", "list"),
    ("subscribers", "export"),
    ("subscribers", "add", "--confirmed", "someone@example.com"),
    ("subscribers", "import", "people.csv", "--confirmed"),
    ("subscribers", "forget", "reader1@example.com"),
    ("bounces", str(ROOT / "tests/messages/challenge.eml")),
    ("db", "upgrade"),
]
RESTORE = "stop Postroom, keep a copy of the file, and restore a backup"
DAMAGED = f"is damaged; {RESTORE}"
FOREIGN = f"is damaged, or is not a database; correct its path, or {RESTORE}"
PAGE = 4096


@pytest.fixture(scope="module")
def databases() -> list[bytes]:
    """Return a list for the bytes of the database that the first test makes, for all tests."""
    return []


@pytest.fixture
def folder(
    make_site: MakeSite,
    postroom: Postroom,
    databases: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """Return a site whose first issue was sent to half of its subscribers."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
    site = make_site({"posts/a.md": POST, "people.csv": "email\na@example.com\n"}, SENDER)
    path = site / DEFAULT_PATH
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        if not databases:
            _send_to_half(site, postroom)
            databases.append(path.read_bytes())
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(databases[0])
        yield site


def _send_to_half(site: Path, postroom: Postroom) -> None:
    """Make the database of the site: 40 subscribers, and 20 deliveries."""
    add = ("subscribers", "add", "--confirmed", "--frequency", "post", "--from", "2026-11-01")
    for start in (0, 20):
        names = [f"reader{number}@example.com" for number in range(start, start + 20)]
        assert postroom(site, *add, *names).code == 0
        if not start:
            assert postroom(site, "send", "--keep-ledger-here").code == 0
    with closing(sqlite3.connect(site / DEFAULT_PATH)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def require_one_line(outcome: CommandResult, line: str) -> None:
    """Check that a command failed with this line alone."""
    assert (outcome.code, outcome.errors) == (1, [f"{DEFAULT_PATH}: {line}"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_names_the_damage(
    folder: Path, postroom: Postroom, command: tuple[str, ...]
) -> None:
    """Each command gives one line for each kind of damage, and overwrites nothing."""
    path = folder / DEFAULT_PATH
    good = path.read_bytes()
    noise = random.Random(1)  # noqa: S311 - the same in every run
    kinds = {
        b"a diary, " * 500: FOREIGN,
        good[:50]: DAMAGED,
        good[: PAGE + 100]: DAMAGED,
        b"": "is empty; restore a backup, or delete the file to begin a new database",
        noise.randbytes(100) + good[100:]: FOREIGN,
        # The first page also holds the names of the tables.
        good[:100] + noise.randbytes(PAGE - 100) + good[PAGE:]: DAMAGED,
        good[:PAGE] + noise.randbytes(len(good) - PAGE): DAMAGED,
    }
    for content, line in kinds.items():
        path.write_bytes(content)
        require_one_line(postroom(folder, *command), line)
        assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_one_line(folder: Path, postroom: Postroom) -> None:
    """A folder at the path of the database is named as such by each command."""
    (folder / DEFAULT_PATH).unlink()
    (folder / DEFAULT_PATH).mkdir()
    for command in COMMANDS:
        require_one_line(postroom(folder, *command), "is not a file; correct its path")


# Without these capabilities root is refused what other users are refused.
RIGHTS = "-dac_override,-dac_read_search"


def test_a_file_without_permission_is_one_line(folder: Path, program: Callable[[str], str]) -> None:
    """A file that this user cannot read and write is one line with the reason."""
    drop = [program("setpriv"), f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"]
    (folder / DEFAULT_PATH).chmod(0o400)
    command = [sys.executable, "-m", "postroom", "subscribers", "list"]
    done = subprocess.run(
        [*drop, *command] if os.geteuid() == 0 else command,
        cwd=folder,
        env=plain(),
        capture_output=True,
        text=True,
        check=False,
    )
    reason = "cannot be opened (permission denied)"
    hint = "check its path, its permissions and the free space"
    assert done.returncode == 1
    assert done.stderr == f"error: {DEFAULT_PATH}: {reason}; {hint}\n"


def test_a_damaged_index_is_one_line(folder: Path, postroom: Postroom) -> None:
    """An index whose pages are damaged is found when a query needs it."""
    path = folder / DEFAULT_PATH
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'deliveries_state_id'"
        ).fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * PAGE : page * PAGE] = bytes([255]) * PAGE
    path.write_bytes(content)
    assert postroom(folder, "subscribers", "list").code == 0
    for command in (("status",), ("send", "--keep-ledger-here")):
        require_one_line(postroom(folder, *command), DAMAGED)


@pytest.mark.parametrize(
    ("statement", "command"),
    [
        ("UPDATE subscribers SET cursor_date = '2026-1a-01'", "plan"),
        ("UPDATE subscribers SET cursor_date = 5", "subscribers list"),
        ("UPDATE subscribers SET topics = '[\"'", "plan"),
        ("UPDATE subscribers SET frequency = 'pos'", "plan"),
        ("UPDATE subscribers SET address = CAST(x'f0656d' AS TEXT)", "subscribers list"),
        ("UPDATE deliveries SET changed = '2026-13-01'", "status --acknowledge"),
        ("UPDATE run_state SET clock = 'noon'", "plan"),
        ("DROP TABLE issue_posts", "plan"),
        ("ALTER TABLE subscribers DROP COLUMN start", "subscribers list"),
    ],
)
def test_a_damaged_value_is_one_line(
    folder: Path, postroom: Postroom, statement: str, command: str
) -> None:
    """A value that Postroom cannot have written is damage, and no address is printed."""
    with closing(sqlite3.connect(folder / DEFAULT_PATH)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute("UPDATE deliveries SET state = 'uncertain'")
        connection.execute(statement)
        connection.commit()
    require_one_line(postroom(folder, *command.split()), DAMAGED)


@pytest.mark.parametrize("examples", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_damage_by_chance_is_never_a_traceback(
    folder: Path, postroom: Postroom, examples: int
) -> None:
    """Random bytes anywhere in the file give a result or one line, never a traceback."""
    path = folder / DEFAULT_PATH
    good = path.read_bytes()
    for seed in range(examples):
        noise = random.Random(seed)  # noqa: S311 - the same in every run
        content = bytearray(good)
        page = noise.randrange(len(good) // PAGE) * PAGE
        for _ in range(20):
            content[page + noise.randrange(PAGE)] = noise.randrange(256)
        path.write_bytes(content)
        outcome = postroom(folder, *noise.choice(COMMANDS[:5]))
        path.with_name("postroom.db-wal").unlink(missing_ok=True)
        path.with_name("postroom.db-shm").unlink(missing_ok=True)
        assert "reader" not in "".join(outcome.errors)


# No file may grow beyond this size, as on a full disk.
FULL = """\
import resource, sys
from postroom.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


def test_a_disk_that_cannot_be_written_is_one_line(folder: Path) -> None:
    """A file that cannot grow, and a new one that cannot be made, are one line."""
    add = ["subscribers", "add", "--confirmed", "someone@example.com"]

    def add_one(limit: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", "-c", FULL, str(limit), *add],
            cwd=folder,
            env=plain(POSTROOM_SECRET_KEY=KEY),
            capture_output=True,
            text=True,
            check=False,
        )

    done = add_one(200)
    hint = "check the disk and its free space, and run this again"
    line = f"error: {DEFAULT_PATH}: cannot be read or written (disk I/O error); {hint}\n"
    assert (done.returncode, done.stderr) == (1, line)
    (folder / DEFAULT_PATH).unlink()
    done = add_one(200)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {DEFAULT_PATH}: cannot be opened (file too large); ")
    assert list((folder / ".postroom").glob("*.db")) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """SQLite's own error of a full disk says what to do."""
    database = open_database(None, tmp_path)

    def fill() -> None:
        with database.writing() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1")
            connection.exec_driver_sql("CREATE TABLE many AS SELECT zeroblob(100000)")

    with closing(database), pytest.raises(DatabaseError) as caught:
        fill()
    (problem,) = caught.value.problems
    text = "cannot be written, because the disk is full; free some space, and run this again"
    assert str(problem) == f"{DEFAULT_PATH}: {text}"


def test_an_error_of_ours_is_not_taken_for_damage(
    folder: Path, postroom: Postroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sound database an internal error stays what it is."""
    monkeypatch.setattr("postroom.cli.status._read", lambda *_: int("none"))
    with pytest.raises(ValueError, match="invalid literal"):
        postroom(folder, "status")


def test_the_doctor_finds_damage(folder: Path, postroom: Postroom) -> None:
    """`doctor` reads all of the file, also the parts that the next command would not need."""
    with closing(sqlite3.connect(folder / DEFAULT_PATH)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'deliveries_state_id'")
        connection.commit()
    outcome = postroom(folder, "doctor")
    assert f"✗ {DEFAULT_PATH}: {DAMAGED}" in outcome.out
