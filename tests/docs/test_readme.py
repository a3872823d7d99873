"""README.md and docs/: every command runs, every name is known, every link leads somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pyromark
import pytest
from babel import Locale

from postroom.cli.main import cli
from tests.support import postgresql
from tests.support.processes import Process, plain
from tests.support.repository import create_repository
from tests.support.site import ROOT
from tests.support.sites import write
from tests.support.smtp_server import scripted

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LARGEST = 150_000
KEY = "a-secret-key-of-the-tests"

CI = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
SENDING = (ROOT / "docs/sending.md").read_text(encoding="utf-8")
START = (ROOT / "docs/start.md").read_text(encoding="utf-8")


def blocks(kind: str, page: str = README) -> list[str]:
    """Return the fenced blocks of a page that are marked `sh KIND`, also those of a list."""
    return fenced(f"sh {kind}", page)


def fenced(mark: str, page: str) -> list[str]:
    """Return the fenced blocks of a page with this mark, without the indentation of a list."""
    found = re.findall(rf"^( *)```{mark}\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def test_the_commands_for_a_first_feed_and_a_first_email_run(tmp_path: Path) -> None:
    """The README's commands make a site with feeds and send its newest issue to oneself."""
    (settings,) = fenced("yaml mail", README)
    (to,) = re.findall(r"--to (\S+)", "".join(blocks("send")))
    with scripted({}) as server:
        url = f"export POSTROOM_SMTP_URL=smtp://127.0.0.1:{server.port}\n"
        sending = re.sub(r"export POSTROOM_SMTP_URL=.*\n", url, "".join(blocks("send")))
        commands = "".join(blocks("site")) + append(settings) + sending
        assert run_in(tmp_path, commands) == (0, [])
    assert f"RCPT TO:<{to}>" in server.commands
    made = ["postroom.yaml", "posts", "public/atom.xml", "public/index.html"]
    assert [name for name in made if not (tmp_path / "my-news" / name).exists()] == []


def append(settings: str) -> str:
    """Return a command that adds `settings` to the end of postroom.yaml."""
    return f"cat >> postroom.yaml <<'END'\n{settings}END\n"


@pytest.mark.slow
def test_the_commands_of_the_start_page_bring_two_emails(tmp_path: Path) -> None:
    """The commands of docs/start.md run in order, against the mail server that the page starts.

    A test email and an issue arrive in the Maildir of that server.
    """
    (settings,) = fenced("yaml mail", START)
    (starts,) = blocks("mailserver", START)
    command = shlex.split(starts.splitlines()[-1])
    host, port, inbox = "127.0.0.1", str(free_port()), tmp_path / "inbox"
    (documented,) = (word for word in command if word.startswith(f"{host}:"))
    changed = {command[0]: sys.executable, documented: f"{host}:{port}", "~/inbox": str(inbox)}
    before, after = START.split(settings)
    commands = "".join(blocks("site", before)) + append(settings) + "".join(blocks("site", after))
    assert documented in commands
    with Process([changed.get(word, word) for word in command], env=plain()) as server:
        try:
            wait_for_port(host, int(port))
            outcome = run_in(tmp_path, commands.replace(documented, f"{host}:{port}"))
        finally:
            server.terminate()
    assert outcome == (0, [])
    messages = [path.read_bytes() for path in (inbox / "new").iterdir()]
    to = b"To: you@example.com"
    assert [to in message.splitlines() for message in messages] == [True, True]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def wait_for_port(host: str, port: int) -> None:
    """Wait until something listens on a port; raise `OSError` after 30 seconds."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def run_in(folder: Path, commands: str) -> tuple[int, list[str]]:
    """Run commands as a person at home does; return the exit code and what went wrong."""
    code, errors, _ = run_all(folder, f"unset CI\n{commands}")
    return code, re.findall(r"^error: .+|^Traceback.*|^Usage: .+", errors, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checks.md", "ci.md"])
def test_the_commands_of_a_page_run(tmp_path: Path, name: str) -> None:
    """Every command that a page gives for a site runs in the demonstration site."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    shutil.copytree(ROOT / "posts", tmp_path / "posts")
    for each in ("templates", "postroom.yaml"):
        (tmp_path / each).symlink_to(ROOT / each)
    code, errors, _ = run_all(tmp_path, "".join(blocks("site", page)))
    assert (code, errors) == (0, "")
    assert json.loads((tmp_path / "findings.json").read_bytes())["findings"] == []


@pytest.mark.parametrize(
    ("name", "kinds"), [("checks.md", {"site"}), ("ci.md", {"site", "database"})]
)
def test_every_block_of_a_page_is_run_here(name: str, kinds: set[str]) -> None:
    """A page has no other commands than those that a test runs."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page.count("```sh") == sum(len(blocks(kind, page)) for kind in kinds)


def test_the_commands_for_a_database_run(
    tmp_path: Path, postgresql_server: postgresql.Server
) -> None:
    """The commands that docs/ci.md gives bring subscribers into a database that is elsewhere."""
    (commands,) = blocks("database", CI)
    here = f"export POSTROOM_DATABASE_URL='{postgresql_server.emptied()}'\n"
    commands, count = re.subn(r"export POSTROOM_DATABASE_URL=.*\n", here, commands)
    (tmp_path / "people.csv").write_text("email\nsubscriber@example.com\n")
    make = "postroom init .\npostroom check --fix\n"
    code, errors, printed = run_all(tmp_path, make + commands)
    assert (code, count) == (0, 1), errors
    assert "1 subscriber" in printed
    assert not (tmp_path / ".postroom/postroom.db").exists()


def run_all(folder: Path, commands: str) -> tuple[int, str, str]:
    """Run commands as a job does; return the exit code, the errors and what was printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    done = subprocess.run(
        ["bash", "-eu", "-c", commands],
        cwd=folder,
        env=plain(PATH=path, **pip),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, done.stdout


@pytest.mark.slow
def test_the_line_of_cron_sends(tmp_path: Path, program: Callable[[str], str]) -> None:
    """The line for cron does its work in the bare shell that cron gives it."""
    assert program("git")
    (line,) = fenced("cron", SENDING)
    *when, command = line.split(maxsplit=5)
    assert when == ["5", "*", "*", "*", "*"]
    (settings,) = fenced("yaml mail", README)
    day = (datetime.now(UTC) - timedelta(days=10)).date()
    origin, clone = create_repository(tmp_path)
    write(clone.folder, {f"posts/{day}-old.md": "# An old post\n", "more.yaml": settings})
    make = "postroom init . && postroom check --fix && cat more.yaml >> postroom.yaml"
    assert run_in(clone.folder, make) == (0, [])
    clone.push("A site")
    origin.checkout().rename(tmp_path / "news")
    add = "postroom subscribers add --confirmed --frequency post"
    key = f"export POSTROOM_SECRET_KEY={KEY}\n"
    assert run_in(tmp_path / "news", f"{key}{add} --from {day} subscriber@example.com") == (0, [])
    with scripted({}) as server:
        secrets = f"POSTROOM_SMTP_URL=smtp://127.0.0.1:{server.port}\nPOSTROOM_SECRET_KEY={KEY}\n"
        (tmp_path / "env").write_text(secrets)
        done = subprocess.run(
            ["/bin/sh", "-c", _moved(command, tmp_path)],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr
    assert [b"To: subscriber@example.com" in message for message in server.messages] == [True]


def test_the_units_of_systemd_are_sound(tmp_path: Path, program: Callable[[str], str]) -> None:
    """The service and the timer of the docs have no fault that systemd could find."""
    service, timer = fenced("ini", SENDING)
    (tmp_path / "postroom-send.service").write_text(_moved(service, tmp_path))
    (tmp_path / "postroom-send.timer").write_text(timer)
    units = [str(tmp_path / f"postroom-send.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    # It reads the machine's own units, too, and has things to say of them.
    assert [line for line in done.stderr.splitlines() if "postroom" in line] == []
    assert done.returncode == 0, done.stderr


def _moved(text: str, folder: Path) -> str:
    """Return commands or a unit with this machine's places instead of those of the docs."""
    places = {
        "/etc/postroom.env": folder / "env",
        "/opt/postroom": sys.prefix,
        "/srv/news": folder / "news",
    }
    assert any(place in text for place in places)
    for place, here in places.items():
        text = text.replace(place, str(here))
    return text


def test_every_block_of_commands_is_run_somewhere() -> None:
    """A block of commands says where it is run: here, in a fresh checkout, or at installation."""
    known = {README: {"checkout", "install", "site", "send"}, START: {"site", "mailserver"}}
    for page, expected in known.items():
        kinds = re.findall(r"^```sh *(.*)$", page, re.MULTILINE)
        assert set(kinds) == expected
        assert len(kinds) == sum(len(blocks(kind, page)) for kind in expected)


def test_every_template_is_named() -> None:
    """docs/templates.md names each file of the theme, and no file that the theme does not have."""
    page = (ROOT / "docs/templates.md").read_text(encoding="utf-8")
    table = page.partition("## Files")[2].partition("## Variables")[0]
    named = re.findall(r"[\w-]+\.(?:html|xml|txt|css|svg)", re.sub(r"<.*?>", "", table))
    folder = ROOT / "templates"
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".yaml"]
    partials = {path.name for path in files if path.parent.name == "partials"}
    assert sorted(named) == sorted({path.name for path in files} - partials)


def test_every_variable_that_is_named_is_used_by_the_theme() -> None:
    """docs/templates.md names no variable of templates that has another name by now."""
    page = (ROOT / "docs/templates.md").read_text(encoding="utf-8")
    tables = page.partition("## Variables")[2].partition("A post has")[0]
    rows = "".join(re.findall(r"^\|[^|]+\|", tables, re.MULTILINE))
    named = set(re.findall(r"`(\w+)", rows)) | set(re.findall(r"`(\w+\.\w+)", tables))
    texts = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "templates").rglob("*")
        if path.is_file() and path.suffix != ".yaml"
    )
    assert {name for name in named if not re.search(rf"\b{re.escape(name)}\b", texts)} == set()


def test_every_command_is_in_the_table_of_commands() -> None:
    """docs/commands.md has one row for each command that `postroom` has."""
    rows = re.findall(r"^\| `([a-z ]+)` \|", COMMANDS, re.MULTILINE)
    assert rows == [name for name, _ in leaf_commands()]


def leaf_commands() -> Iterator[tuple[str, click.Command]]:
    """Yield each command by its name, those of a group as `group name`."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            for below, leaf in command.commands.items():
                yield f"{name} {below}", leaf
        else:
            yield name, command


def test_the_commands_of_a_checkout_are_those_of_make() -> None:
    """Each make target that the README names exists."""
    (targets,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = set(targets.split())
    named = set(re.findall(r"^make (\w+)", "".join(blocks("checkout")), re.MULTILINE))
    assert (named - known, len(named)) == (set(), 2)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    """A page never tells people to call a command that Postroom does not have."""
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    named = set(re.findall(r"(?<![\w./-])postroom ([a-z]+)", code))
    assert named - set(cli.list_commands(click.Context(cli))) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page: Path) -> None:
    """A page never names an option that the command does not have."""
    named = re.findall(r"postroom ([a-z]+)([^\n`]*)", page.read_text(encoding="utf-8"))
    wrong = [
        f"{name} {option}"
        for name, rest in named
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest.partition("#")[0])
        if option not in options(name)
    ]
    assert wrong == []


def options(name: str) -> set[str]:
    """Return the options of a command and of the commands below it."""
    command = cli.get_command(click.Context(cli), name)
    below = command.commands.values() if isinstance(command, click.Group) else ()
    known = [entry for entry in (command, *below) if entry]
    return {option for entry in known for parameter in entry.params for option in parameter.opts}


def links(page: Path) -> list[str]:
    """Return the URL of every link and image of a page."""
    found = []
    for event in pyromark.events(page.read_text(encoding="utf-8")):
        match event:
            case {"Start": {"Link": {"dest_url": str(url)}}}:
                found.append(url)
            case {"Start": {"Image": {"dest_url": str(url)}}}:
                found.append(url)
            case _:
                pass
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    """Each relative link or image of a page leads to a file of this repository."""
    relative = [link.partition("#")[0] for link in links(page) if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in relative if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_heading(page: Path) -> None:
    """A relative link with a fragment leads to a heading of its page."""
    missing = []
    for link in links(page):
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        if fragment and not re.match("[a-z]+:", link) and fragment not in anchors(target):
            missing.append(link)
    assert missing == []


def anchors(page: Path) -> set[str]:
    """Return the fragments that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    texts = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w -]", "", text).replace(" ", "-") for text in texts}


def test_links_are_found() -> None:
    """The test above sees the README's links and images."""
    found = links(ROOT / "README.md")
    assert {"docs/start.md", "docs/pictures/page-and-email.png", "LICENSE"} <= set(found)


def test_images_are_small() -> None:
    """Images in docs/ are small files, since every clone contains them."""
    images = (ROOT / "docs/pictures").glob("*.png")
    assert [image.name for image in images if image.stat().st_size > LARGEST] == []


def test_the_exit_codes_are_those_of_the_help() -> None:
    """The table of exit codes in docs/commands.md says what `postroom --help` says."""
    table = COMMANDS.partition("| exit code | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
    told = [tuple(re.findall(r"\| ([^|]+?) (?=\|)", row)) for row in table.splitlines()]
    help_text = str(cli.help).partition("Exit codes:\n")[2]
    known = [
        tuple(re.split(r"  +", line.strip())) for line in help_text.splitlines() if line.strip()
    ]
    assert told == known


def test_the_theme_speaks_the_languages_that_are_named() -> None:
    """The README names the languages that the theme has words for, one each."""
    (named,) = re.findall(r"The theme speaks ([^;]+);", " ".join(README.split()))
    languages = re.split(r", | and ", named)
    files = (ROOT / "templates/translations").glob("*.yaml")
    assert sorted(languages) == sorted(
        str(Locale.parse(path.stem).get_language_name("en")) for path in files
    )
