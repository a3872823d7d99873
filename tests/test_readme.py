"""README.md and docs/: every command runs, every name is known, every link leads somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pyromark
import pytest
from babel import Locale

from conftest import ROOT
from postroom.cli import cli
from smtpservers import scripted

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LARGEST = 150_000


CHECKS = (ROOT / "docs/checks.md").read_text(encoding="utf-8")


def blocks(kind: str, page: str = README) -> list[str]:
    """Return the fenced blocks of a page that are marked `sh KIND`."""
    return re.findall(rf"^```sh {kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_commands_for_a_newsroom_run(tmp_path: Path) -> None:
    """Every command that the README gives for a newsroom runs, in the order that it gives them."""
    assert run_in(tmp_path, "".join(blocks("newsroom"))) == (0, [])
    newsroom = tmp_path / "my-news"
    made = ["postroom.yaml", "posts", "public/atom.xml", "public/index.html", "letter.eml"]
    assert [name for name in made if not (newsroom / name).exists()] == []


def test_the_commands_for_sending_run(tmp_path: Path) -> None:
    """The settings and the commands that the README gives for sending bring a letter to oneself."""
    (settings,) = re.findall(r"^```yaml mail\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (to,) = re.findall(r"--to (\S+)", "".join(blocks("send")))
    with scripted({}) as server:
        here = f"export POSTROOM_SMTP_URL=smtp://127.0.0.1:{server.port}\n"
        sending = re.sub(r"export POSTROOM_SMTP_URL=.*\n", here, "".join(blocks("send")))
        add = f"cat >> postroom.yaml <<'END'\n{settings}END\n"
        assert run_in(tmp_path, "".join(blocks("newsroom")) + add + sending) == (0, [])
    assert f"RCPT TO:<{to}>" in server.commands


def run_in(folder: Path, commands: str) -> tuple[int, list[str]]:
    """Run commands as a person at home does; return the exit code and what went wrong."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    home = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        ["bash", "-eu", "-c", commands],
        cwd=folder,
        env={**home, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = re.findall(r"^error: .+|^Traceback.*|^Usage: .+", done.stderr, re.MULTILINE)
    return done.returncode, wrong


def test_the_commands_of_the_page_of_checks_run(tmp_path: Path) -> None:
    """Every command that docs/checks.md gives runs in the newsroom of this repository."""
    for name in ("posts", "templates", "postroom.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    commands = blocks("newsroom", CHECKS)
    assert CHECKS.count("```sh") == len(commands)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-eu", "-c", "".join(commands)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "findings.json").read_bytes())["findings"] == []


def test_every_block_of_commands_is_run_somewhere() -> None:
    """A block of commands says where it is tried: here, in a fresh checkout, or at installation."""
    kinds = re.findall(r"^```sh *(.*)$", README, re.MULTILINE)
    assert set(kinds) == {"checkout", "install", "newsroom", "send"}
    assert len(kinds) == sum(len(blocks(kind)) for kind in set(kinds))


def test_the_commands_of_a_checkout_are_those_of_make() -> None:
    """What the README tells people to make is there to be made."""
    targets = re.findall(r"^([a-z ]+):$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {word for line in targets for word in line.split()}
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
    known = [one for one in (command, *below) if one]
    return {option for one in known for parameter in one.params for option in parameter.opts}


def links(page: Path) -> list[str]:
    """Return the address of every link and picture of a page."""
    found = []
    for event in pyromark.events(page.read_text(encoding="utf-8")):
        match event:
            case {"Start": {"Link": {"dest_url": str(address)}}}:
                found.append(address)
            case {"Start": {"Image": {"dest_url": str(address)}}}:
                found.append(address)
            case _:
                pass
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    """A link or picture of a page that is relative leads to something in this repository."""
    relative = [link.partition("#")[0] for link in links(page) if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in relative if not (page.parent / link).exists()] == []


def test_links_are_found() -> None:
    """The README's links and pictures are among those that are looked at."""
    found = links(ROOT / "README.md")
    assert {"docs/posts.md", "docs/pictures/index-800-light.png", "templates"} <= set(found)


def test_pictures_are_small() -> None:
    """Pictures in docs/ weigh little, for everyone who clones takes them along."""
    pictures = (ROOT / "docs/pictures").glob("*.png")
    assert [one.name for one in pictures if one.stat().st_size > LARGEST] == []


def test_the_exit_codes_are_those_of_the_help() -> None:
    """The README's table of exit codes says what `postroom --help` says."""
    table = README.partition("| exit code | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
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
    files = (ROOT / "templates/words").glob("*.yaml")
    assert sorted(languages) == sorted(
        str(Locale.parse(path.stem).get_language_name("en")) for path in files
    )
