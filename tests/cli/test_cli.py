"""The command line as a whole: its output, exit codes and errors without a traceback."""

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
    """Start the program in its own process."""
    # A shell that starts tests in the background makes them and their children ignore SIGINT.
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
    """A post becomes a feed, pages and the text of an email."""
    folder = make_site({"posts/2026-11-20-we-moved.md": POST})
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.err) == (0, "")
    names = ["atom.xml", "index.html", "posts/we-moved/index.html", "digest/2026-11/email.txt"]
    assert [name for name in names if not (folder / "public" / name).is_file()] == []
    count = sum(path.is_file() for path in (folder / "public").rglob("*")) - 1
    assert outcome.out == (f"1 post → public/: {count} files written, 0 unchanged, 0 removed\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help_text(tmp_path: Path, postroom: Postroom, command: str) -> None:
    """The help of every command has an example, and works outside of a site."""
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


def test_version_is_printed(tmp_path: Path, postroom: Postroom) -> None:
    """`--version` prints the name and the version."""
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
    """Wrong use is reported, changes nothing and has exit code 2."""
    folder = make_site(NEWS)
    outcome = postroom(folder, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert complaint in outcome.err
    assert not (folder / "public").exists()


@pytest.mark.parametrize("arguments", [["build"], ["new", "Title"], ["digest"]])
def test_outside_of_a_site_the_error_is_one_line(
    tmp_path: Path, postroom: Postroom, arguments: list[str]
) -> None:
    """A command that needs a site prints where it searched and what to do."""
    line = "postroom.yaml: is neither in this folder nor in one above it"
    hint = "change to the folder of a site, or create one with: postroom init my-news"
    assert postroom(tmp_path, *arguments) == CommandResult(2, "", f"error: {line}; {hint}\n")


def test_a_site_is_found_from_any_folder_of_it(make_site: MakeSite, postroom: Postroom) -> None:
    """A command in a folder of a site works on that site."""
    folder = make_site({"posts/deep/er/a.md": POST})
    assert postroom(folder / "posts/deep/er", "build").code == 0
    assert (folder / "public/atom.xml").is_file()
    assert postroom(folder / "posts/deep/er", "digest").code == 0


def test_the_nearest_of_nested_sites_is_used(make_site: MakeSite, postroom: Postroom) -> None:
    """A command in a site inside another site works on the inner site."""
    folder = make_site({"inner/postroom.yaml": SETTINGS, "inner/posts/a.md": POST})
    assert "1 post" in postroom(folder / "inner/posts", "build").out
    assert (folder / "inner/public").is_dir()
    assert not (folder / "public").exists()


def test_all_errors_of_the_settings_are_reported_at_once(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """Each error of the settings is one line with its position; the exit code is 2."""
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
def test_digest_prints_the_email_of_the_build(
    make_site: MakeSite,
    postroom: Postroom,
    arguments: list[str],
    period: str,
    form: str | None,
) -> None:
    """`digest` prints what `build` writes, of the newest period or the given period."""
    folder = make_site(NEWS)
    postroom(folder, "build")
    outcome = postroom(folder, "digest", *arguments, *([form] if form else []))
    name = "2026-09" if "September" in period else "2026-11"
    ending = "html" if form == "--html" else "txt"
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (folder / f"public/digest/{name}/email.{ending}").read_text("utf-8")
    assert period in outcome.out


def test_digest_can_be_printed_as_a_message(make_site: MakeSite, postroom: Postroom) -> None:
    """`digest --eml` prints a complete message with text and HTML, equal at equal instants."""
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


def test_only_a_draft_opens_for_editing(make_site: MakeSite, postroom: Postroom) -> None:
    """`digest --eml` opens as a message to read; `--draft` adds the field that makes it a draft."""
    folder = make_site(NEWS)
    message = postroom(folder, "digest", "--eml").out.splitlines()
    draft = postroom(folder, "digest", "--eml", "--draft").out.splitlines()
    assert [line for line in message if line.startswith("X-")] == []
    assert [line for line in draft if line not in message] == ["X-Unsent: 1"]


@pytest.mark.parametrize("form", [[], ["--text"], ["--html"]])
def test_only_a_message_can_be_a_draft(
    make_site: MakeSite, postroom: Postroom, form: list[str]
) -> None:
    """`--draft` without `--eml` is wrong use, and prints nothing."""
    outcome = postroom(make_site(NEWS), "digest", *form, "--draft")
    line = "digest: --draft: needs --eml; write postroom digest --eml --draft"
    assert (outcome.code, outcome.out, outcome.errors) == (2, "", [line])


@pytest.mark.parametrize("period", ["2026-10", "2026-W47", "2026-11-20", "latest", ""])
def test_a_period_without_posts_is_wrong_use(
    make_site: MakeSite, postroom: Postroom, period: str
) -> None:
    """The error for a period without posts lists the periods that have posts."""
    outcome = postroom(make_site(NEWS), "digest", period)
    line = f"digest: the period '{period}' has no posts; choose one of 2026-11, 2026-09"
    assert (outcome.code, outcome.out, outcome.errors) == (2, "", [line])


def test_without_posts_there_is_no_digest(make_site: MakeSite, postroom: Postroom) -> None:
    """In a site without posts `digest` prints how to write a post."""
    outcome = postroom(make_site(), "digest")
    line = "digest: no post is published yet; write one with: postroom new TITLE"
    assert (outcome.code, outcome.out, outcome.errors) == (2, "", [line])


def test_digest_accepts_an_instant(make_site: MakeSite, postroom: Postroom) -> None:
    """`digest --at` prints the newest digest as of that instant."""
    folder = make_site(NEWS)
    outcome = postroom(folder, "digest", "--at", "2026-10-01T00:00:00Z")
    assert "September 2026" in outcome.out
    assert "November" not in outcome.out


@pytest.mark.parametrize("arguments", [["build"], ["digest"], ["digest", "--html"], ["--help"]])
def test_a_closed_pipe_is_no_error(make_site: MakeSite, arguments: list[str]) -> None:
    """The program ends silently if its output pipe is closed, as by `| head -0`."""
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
def test_output_to_a_full_disk_is_one_line(make_site: MakeSite, arguments: list[str]) -> None:
    """Output to a full disk is an error of one line with exit code 1."""
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
    """The exit code stays the same if standard error is on a full disk."""
    with Path("/dev/full").open("wb") as full:
        process = start(
            make_site(NEWS), *arguments, stdout=subprocess.DEVNULL, stderr=full.fileno()
        )
        assert process.wait(30) == code


def test_warnings_that_cannot_be_printed_are_an_error(make_site: MakeSite) -> None:
    """The exit code is 1, not 120, if standard output and error are on a full disk."""
    folder = make_site({"posts/2026-11-20-a.md": "# Without an id\n\nText.\n"})
    with Path("/dev/full").open("wb") as full:
        process = start(folder, "build", stdout=full.fileno(), stderr=full.fileno())
        assert process.wait(30) == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(make_site: MakeSite, closed: str) -> None:
    """Output to a closed stream is dropped, and everything else works."""
    code = "import os, sys; from postroom.cli.main import main; code = main(['digest']);"
    # A file with the descriptor of a closed stream would receive the printed output.
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


def test_buffered_output_is_flushed_before_exit(make_site: MakeSite) -> None:
    """Buffered output that cannot be written is an error of one line with exit code 1."""
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


def test_any_encoding_works(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Characters outside the encoding of the terminal are escaped."""
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    with start(make_site(NEWS), "build", stdout=subprocess.PIPE) as process:
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
    assert output.startswith(b"2 posts \\u2192 public/")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_signal_stops_the_program_without_a_traceback(
    make_site: MakeSite, number: signal.Signals, code: int
) -> None:
    """Ctrl-C ends a build with 130, SIGTERM ends it as usual, and no partial output remains."""
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


def test_a_deleted_working_directory_is_one_line(tmp_path: Path) -> None:
    """The program reports a deleted working directory in one line."""
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


def test_a_language_without_translations_is_a_warning(
    make_site: MakeSite, postroom: Postroom
) -> None:
    """A site in a language without translations is built, with a warning and a hint."""
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
