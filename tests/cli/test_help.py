"""The help text of every command, compared with tests/golden/help/."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from postroom.cli.main import cli
from tests.support.site import ROOT

GOLDEN = ROOT / "tests" / "golden" / "help"


def command_paths(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names that lead to a command and to each command below it."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below
            yield from command_paths(below, (*path, name))


PATHS = list(command_paths(cli))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: " ".join(path) or "postroom")
def test_help_equals_the_golden_file(path: tuple[str, ...]) -> None:
    """Each help text equals its reviewed golden file."""
    result = CliRunner().invoke(
        cli, [*path, "--help"], prog_name="postroom", terminal_width=80, max_content_width=80
    )
    assert result.exit_code == 0
    file = GOLDEN / f"{'-'.join(('postroom', *path))}.txt"
    if os.environ.get("POSTROOM_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(result.output, "utf-8")
    hint = "review the difference; if it is intended, run again with POSTROOM_GOLDEN=write"
    assert result.output == file.read_text("utf-8"), hint


def test_every_golden_file_belongs_to_a_command() -> None:
    """Each golden file belongs to an existing command."""
    expected = {f"{'-'.join(('postroom', *path))}.txt" for path in PATHS}
    assert {file.name for file in GOLDEN.glob("*.txt")} == expected


@pytest.mark.parametrize("path", PATHS, ids=lambda path: " ".join(path) or "postroom")
def test_help_of_a_command_has_an_example(path: tuple[str, ...]) -> None:
    """The help of each command that is not a group has an example."""
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        below = command.get_command(click.Context(command), name)
        assert below
        command = below
    if not isinstance(command, click.Group):
        call = " ".join(("postroom", *path))
        assert any(line.strip().startswith(call) for line in (command.help or "").splitlines())
