"""The command line: one module a command, imported when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import click

from postroom import __version__
from postroom.cli.console import print_problems
from postroom.errors import PostroomError, Problem

_COMMANDS = {
    "init": "Make a new newsroom that builds at once.",
    "new": "Write a new post with its id.",
    "build": "Build feeds, pages and digests into the output folder.",
    "check": "Look for what is wrong in all that goes out, and repair it.",
    "digest": "Show the letter of a period: HTML, text or a whole message.",
    "doctor": "Look at all that letters need to arrive, and say what to do.",
    "ping": "Tell the hub that feeds have changed.",
    "plan": "Show who would get what, and why.",
    "send": "Send every subscriber the letter they are owed, once.",
    "status": "Show what was sent, what was not, and what to do about it.",
    "subscribers": "List, add, import, export and forget subscribers.",
    "bounces": "Read what came back, and take off the list who must get no more.",
    "serve": "Serve the output and the page to leave the list.",
    "db": "Bring the database up to this version.",
}


class _Commands(click.Group):
    """Knows each command's name and line; imports its module only when it is wanted."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"postroom.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)  # noqa: S101 - our own modules
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="postroom", message="%(prog)s %(version)s")
def cli() -> None:
    """Turn a folder of Markdown news posts into feeds, pages and an email digest.

    A newsroom is a folder with postroom.yaml and posts/. Commands work on the newsroom they are
    called in, from any folder of it.

    \b
    Exit codes:
      0  fine, also with warnings
      1  problems found, each named; a build then changes nothing
      2  wrong use, or wrong settings
      130, 143  stopped by a signal
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, write out all that it printed, and return its exit code."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return _flush(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        result = cli.main(args=arguments, prog_name="postroom", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except SystemExit as end:
        # From click when the reader of a pipe has gone, from `serve` when a signal stops it.
        return end.code if isinstance(end.code, int) else 1
    except click.ClickException as error:
        return _answer(error.show, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except PostroomError as error:
        return _answer(partial(print_problems, error.problems), error.exit_code)
    except OSError as error:
        return _answer(partial(print_problems, [_problem(error)]), 1)


def _answer(show: Callable[[], None], code: int) -> int:
    """Print an error and return its exit code, also if standard error cannot be written."""
    with suppress(OSError):
        show()
    return code


def _problem(error: OSError) -> Problem:
    what = (error.strerror or "cannot be read or written").lower()
    return Problem(str(error.filename or ""), message=what)


def _open_closed_streams() -> None:
    """Open /dev/null in place of standard streams that are closed, as by `>&-`.

    Otherwise the next file that is opened takes the number of the stream, and the stream's output.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, stream)


def _flush(code: int) -> int:
    """Write out what the standard streams still hold and return the exit code.

    Drop what cannot be written: Python would try again at its end, fail, and print a trace.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
            stream.flush()
            # After another error this one is printed already, or is not the one to mend first.
            if not code and not isinstance(error, BrokenPipeError):
                _answer(partial(print_problems, [_problem(error)]), 1)
            code = code or 1
    return code
