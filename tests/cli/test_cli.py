"""The command line as a whole: what it prints, how it ends, and that it never shows a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from email import policy
from email.parser import BytesParser
from pathlib import Path

import click
import pytest

from postroom import __version__
from postroom.cli.main import cli
from tests.support.processes import Process, plain
from tests.support.site import AT, POST, SETTINGS, CommandResult, MakeSite

Postroom = Callable[..., CommandResult]
COMMANDS = cli.list_commands(click.Context(cli))
OLDER = POST.replace("2026-11-20", "2026-09-05").replace("we-moved", "older").replace("We m", "M")
NEWS = {"posts/a.md": POST, "posts/b.md": OLDER}


def start(
    folder: Path, *arguments: str, stdout: int, stderr: int = subprocess.PIPE
) -> Process[bytes]:
    """Start the program in a process of its own."""
    # A shell that starts tests in the background has them, and all below, ignore Ctrl-C.
    code = "import signal as s, sys; s.signal(s.SIGINT, s.default_int_handler);"
    code += "from postroom.__main__ import main; main()"
    return Process(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=plain(SOURCE_DATE_EPOCH=str(int(AT.timestamp()))),
        stdout=stdout,
        stderr=stderr,
    )


def test_builds_a_site(make_site: MakeSite, postroom: Postroom) -> None:
    """A post in a newsroom becomes a feed, pages and a letter."""
    folder = make_site({"posts/2026-11-20-we-moved.md": POST})
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.err) == (0, "")
    names = ["atom.xml", "index.html", "posts/we-moved/index.html", "digest/2026-11/email.txt"]
    assert [name for name in names if not (folder / "public" / name).is_file()] == []
    count = sum(path.is_file() for path in (folder / "public").rglob("*")) - 1
    assert outcome.out == (f"1 post → public/: {count} files written, 0 unchanged, 0 removed\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_worth_reading(tmp_path: Path, postroom: Postroom, command: str) -> None:
    """Every command explains itself, with an example to copy, wherever it is asked."""
    outcome = postroom(tmp_path, command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith(f"Usage: postroom {command} ")
    assert any(line.strip().startswith(f"postroom {command}") for line in lines)
    assert len(outcome.out) > 300
    assert postroom(tmp_path, command, "-h") == outcome


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command_and_exit_code(
    tmp_path: Path, postroom: Postroom, flag: str
) -> None:
    """The program's own help lists its commands and what its exit codes mean."""
    outcome = postroom(tmp_path, flag)
    assert outcome.code == 0
    words = [line.split()[0] for line in outcome.out.splitlines() if line.startswith("  ")]
    assert [word for word in words if word in COMMANDS] == COMMANDS
    assert [word for word in words if word[0].isdigit()] == ["0", "1", "2", "130,"]


def test_the_version_is_said(tmp_path: Path, postroom: Postroom) -> None:
    """`--version` prints name and version."""
    assert postroom(tmp_path, "--version").out == f"postroom {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["biuld"], "Error: No such command 'biuld'."),
        (["build", "--outptu", "x"], "Error: No such option"),
        (["build", "extra"], "Error: Got unexpected extra argument"),
        (["new"], "Error: Missing argument 'TITLE'."),
        (["init"], "Error: Missing argument 'DIRECTORY'."),
        (["digest", "--at"], "Error: Option '--at' requires an argument."),
        ([], "Usage: postroom [OPTIONS] COMMAND"),
    ],
    ids="command option extra title directory value nothing".split(),
)
def test_wrong_use_is_exit_code_2(
    make_site: MakeSite, postroom: Postroom, arguments: list[str], complaint: str
) -> None:
    """What the program does not know it says, changes nothing, and ends with 2."""
    folder = make_site(NEWS)
    outcome = postroom(folder, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert complaint in outcome.err
    assert not (folder / "public").exists()


@pytest.mark.parametrize("arguments", [["build"], ["new", "Title"], ["digest"]])
def test_outside_of_a_site_one_line_says_so(
    tmp_path: Path, postroom: Postroom, arguments: list[str]
) -> None:
    """A command that needs a newsroom tells where it looked and what to do."""
    line = "postroom.yaml: is neither in this folder nor in one above it"
    repair = "change to the folder of a site, or create one with: postroom init my-news"
    assert postroom(tmp_path, *arguments) == CommandResult(2, "", f"error: {line}; {repair}\n")


def test_a_site_is_found_from_any_folder_of_it(make_site: MakeSite, postroom: Postroom) -> None:
    """Commands work on the newsroom around the folder they are called in."""
    folder = make_site({"posts/deep/er/a.md": POST})
    assert postroom(folder / "posts/deep/er", "build").code == 0
    assert (folder / "public/atom.xml").is_file()
    assert postroom(folder / "posts/deep/er", "digest").code == 0


def test_of_two_sites_the_inner_one_counts(make_site: MakeSite, postroom: Postroom) -> None:
    """Within a newsroom inside of another one, the nearest is meant."""
    folder = make_site({"inner/postroom.yaml": SETTINGS, "inner/posts/a.md": POST})
    assert "1 post" in postroom(folder / "inner/posts", "build").out
    assert (folder / "inner/public").is_dir()
    assert not (folder / "public").exists()


def test_all_faults_of_the_settings_are_said_at_once(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """Wrong settings are exit code 2, a line for each fault with its place."""
    folder = make_site({}, "titel: x\noutput: ../up\nfeeds: {entries: many}\n")
    outcome = postroom(folder, "build")
    assert outcome.code == 2
    places = [line.split(": ")[:2] for line in outcome.errors]
    assert places == [
        ["postroom.yaml:6:1", "titel"],
        ["postroom.yaml:7:9", "output"],
        ["postroom.yaml:8:18", "feeds.entries"],
    ]


@pytest.mark.parametrize(
    ("arguments", "period"),
    [([], "November 2026"), (["2026-11"], "November 2026"), (["2026-09"], "September 2026")],
    ids=["newest", "named", "older"],
)
@pytest.mark.parametrize("form", ["--text", "--html", None])
def test_digest_shows_the_letter_of_the_build(
    make_site: MakeSite,
    postroom: Postroom,
    arguments: list[str],
    period: str,
    form: str | None,
) -> None:
    """`digest` prints the very letter that `build` writes: of the newest period, or of one."""
    folder = make_site(NEWS)
    postroom(folder, "build")
    outcome = postroom(folder, "digest", *arguments, *([form] if form else []))
    name = "2026-09" if "September" in period else "2026-11"
    ending = "html" if form == "--html" else "txt"
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (folder / f"public/digest/{name}/email.{ending}").read_text("utf-8")
    assert period in outcome.out


def test_digest_as_a_message_can_be_opened(make_site: MakeSite, postroom: Postroom) -> None:
    """`digest --eml` is a whole message of both letters, the same at the same instant."""
    folder = make_site(NEWS, "mail: {from: Über News <news@example.com>}\n")
    outcome = postroom(folder, "digest", "--eml")
    assert (outcome.code, outcome.err) == (0, "")
    mail = BytesParser(policy=policy.default).parsebytes(outcome.out.encode())
    assert mail.get_content_type() == "multipart/alternative"
    assert str(mail["From"]) == "Über News <news@example.com>"
    assert str(mail["Subject"]) == "Example News: November 2026"
    assert str(mail["Date"]) == "Sun, 22 Nov 2026 13:00:00 +0100"
    assert mail["Message-ID"]
    text, html = [part.get_content() for part in mail.iter_parts()]
    assert text.splitlines() == postroom(folder, "digest").out.splitlines()
    assert html.splitlines() == postroom(folder, "digest", "--html").out.splitlines()
    assert postroom(folder, "digest", "--eml") == outcome


@pytest.mark.parametrize("period", ["2026-10", "2026-W47", "2026-11-20", "latest", ""])
def test_a_period_without_posts_gets_the_choice(
    make_site: MakeSite, postroom: Postroom, period: str
) -> None:
    """A period that is not there is wrong use; the message lists those that are."""
    outcome = postroom(make_site(NEWS), "digest", period)
    line = f"digest: the period '{period}' has no posts; choose one of 2026-11, 2026-09"
    assert (outcome.code, outcome.out, outcome.errors) == (2, "", [line])


def test_without_posts_there_is_no_letter(make_site: MakeSite, postroom: Postroom) -> None:
    """In an empty newsroom `digest` says how to write a post."""
    outcome = postroom(make_site(), "digest")
    line = "digest: no post is published yet; write one with: postroom new TITLE"
    assert (outcome.code, outcome.out, outcome.errors) == (2, "", [line])


def test_digest_looks_at_the_instant(make_site: MakeSite, postroom: Postroom) -> None:
    """`digest --at` shows the newest letter as it stood then."""
    folder = make_site(NEWS)
    outcome = postroom(folder, "digest", "--at", "2026-10-01T00:00:00Z")
    assert "September 2026" in outcome.out
    assert "November" not in outcome.out


@pytest.mark.parametrize("arguments", [["build"], ["digest"], ["digest", "--html"], ["--help"]])
def test_a_reader_that_goes_away_is_no_fault(make_site: MakeSite, arguments: list[str]) -> None:
    """When nobody reads the output any more, as in `| head -0`, the program ends in silence."""
    folder = make_site(NEWS)
    reading, writing = os.pipe()
    os.close(reading)
    with start(folder, *arguments, stdout=writing) as process:
        os.close(writing)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (1, b"")


@pytest.mark.parametrize(
    "arguments", [["digest"], ["digest", "--html"], ["--help"], ["--version"], ["build"]]
)
def test_a_full_disk_behind_the_output_is_one_line(
    make_site: MakeSite, arguments: list[str]
) -> None:
    """Output that cannot be printed for want of space is one line, and exit code 1."""
    with Path("/dev/full").open("wb") as full:
        process = start(make_site(NEWS), *arguments, stdout=full.fileno())
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (1, b"error: no space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["digest", "2001-01"], 2), (["nonesuch"], 2), (["--no-such-option"], 2), (["digest"], 0)],
    ids=["period", "command", "option", "none"],
)
def test_errors_that_cannot_be_printed_keep_their_exit_code(
    make_site: MakeSite, arguments: list[str], code: int
) -> None:
    """An exit code says what happened, also where standard error is on a full disk."""
    with Path("/dev/full").open("wb") as full:
        process = start(
            make_site(NEWS), *arguments, stdout=subprocess.DEVNULL, stderr=full.fileno()
        )
        assert process.wait(30) == code


def test_warnings_that_cannot_be_printed_are_a_fault(make_site: MakeSite) -> None:
    """Standard output and standard error may both be on a full disk: exit code 1, not 120."""
    folder = make_site({"posts/2026-11-20-a.md": "# Without an id\n\nText.\n"})
    with Path("/dev/full").open("wb") as full:
        process = start(folder, "build", stdout=full.fileno(), stderr=full.fileno())
        assert process.wait(30) == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_fault(make_site: MakeSite, closed: str) -> None:
    """Where a stream is closed, what would be printed there is dropped, and all else works."""
    code = "import os, sys; from postroom.cli.main import main; code = main(['digest']);"
    # A file that took the number of a closed stream would get what others print.
    code += "print(os.open(os.devnull, 0) > 2, code, file=open('result', 'w'))"
    folder = make_site(NEWS)
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code],
        cwd=folder,
        env=plain(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert (folder / "result").read_text() == "True 0\n"


def test_what_is_only_buffered_is_written_out_before_the_end(make_site: MakeSite) -> None:
    """Whatever printed it and did not flush: what cannot be written is one line, exit code 1."""
    code = "import sys; from postroom.cli.main import cli, main; cli.main = lambda **_: print('x');"
    code += "sys.exit(main([]))"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=make_site(NEWS),
            env=plain(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"error: no space left on device\n")


def test_any_encoding_will_do(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that knows few letters gets the others written out, not a trace."""
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    with start(make_site(NEWS), "build", stdout=subprocess.PIPE) as process:
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
    assert output.startswith(b"2 posts \\u2192 public/")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_signal_stops_the_program_without_a_trace(
    make_site: MakeSite, number: signal.Signals, code: int
) -> None:
    """Ctrl-C ends a build with 130 and a terminating signal as ever; nothing half stays behind."""
    endless = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"
    warned = "# Without an id\n\nText.\n"
    folder = make_site({"posts/2026-11-20-a.md": warned, "templates/pages/post.html": endless})
    with start(folder, "build", stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"warning: posts/2026-11-20-a.md:1: id: ")
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.strip()) == (code, b"")
    assert not (folder / "public").exists()


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    """Called in a folder that somebody has deleted, the program says so in one line."""
    folder = tmp_path / "gone"
    folder.mkdir()
    code = "import os; os.rmdir(os.getcwd()); from postroom.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "build"], cwd=folder, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        b"error: no such file or directory\n",
    )


def test_says_that_the_theme_lacks_a_language(make_site: MakeSite, postroom: Postroom) -> None:
    """A newsroom in a language that the theme does not know is built, with advice."""
    folder = make_site({"posts/2026-11-20-we-moved.md": POST})
    settings = folder / "postroom.yaml"
    settings.write_text(
        settings.read_text("utf-8").replace("language: en", "language: eo"), "utf-8"
    )
    outcome = postroom(folder, "build")
    assert outcome.code == 0
    advice = "translate templates/translations/en.yaml as templates/translations/eo.yaml"
    what = "the theme has no translations for 'eo', so it uses English"
    assert outcome.warnings == [f"postroom.yaml: language: {what}; {advice}"]
