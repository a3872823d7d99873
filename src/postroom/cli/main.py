"""The command group and the entry point: each command has a module, imported on demand."""

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
    "init": "Make a new site, ready to build.",
    "new": "Write a new post with its id.",
    "build": "Build feeds, pages and digests into the output folder.",
    "check": "Find faults in posts, pages, feeds and emails, and fix some.",
    "digest": "Show the email of a period: HTML, text or a whole message.",
    "doctor": "Check everything that emails need to arrive.",
    "ping": "Tell the hub that feeds have changed.",
    "plan": "Show which subscribers would receive what, and why.",
    "send": "Send each subscriber what is due, once.",
    "status": "Show what was sent, what was not, and what to do about it.",
    "subscribers": "List, add, import, export and forget subscribers.",
    "bounces": "Process bounces, complaints and unsubscribe emails.",
    "serve": "Serve the output and the unsubscribe page.",
    "db": "Upgrade the database, or claim it after a move.",
}


class _Commands(click.Group):
    """A click group that knows the summaries, and imports a command's module on first use."""

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

    A site is a folder with postroom.yaml and posts/. Commands work on the site of the current
    folder, or of the nearest folder above it.

    \b
    Example:
      postroom init my-news
      cd my-news
      postroom build

    \b
    Exit codes:
      0  success, also with warnings
      1  problems found, each named; a build then changes nothing
      2  wrong use, or wrong settings
      130, 143  stopped by a signal
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, flush its output, and return the exit code."""
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
        # click raises it if a pipe is closed early, `serve` if a signal stops it.
        return end.code if isinstance(end.code, int) else 1
    except click.ClickException as error:
        return _report(error.show, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except PostroomError as error:
        return _report(partial(print_problems, error.problems), error.exit_code)
    except OSError as error:
        return _report(partial(print_problems, [_problem(error)]), 1)


def _report(show: Callable[[], None], code: int) -> int:
    """Call `show`, which prints an error, and return `code`, even if printing fails."""
    with suppress(OSError):
        show()
    return code


def _problem(error: OSError) -> Problem:
    message = (error.strerror or "cannot be read or written").lower()
    return Problem(str(error.filename or ""), message=message)


def _open_closed_streams() -> None:
    """Open /dev/null in place of standard streams that are closed, as by `>&-`.

    Otherwise the next file that is opened would get the file descriptor of the stream, and with it
    the output meant for the stream.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - until the end
            setattr(sys, name, stream)


def _flush(code: int) -> int:
    """Flush the standard streams and return the exit code.

    Output that cannot be written is dropped. Otherwise Python would try to write it again at exit,
    fail, and print a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            with Path(os.devnull).open("wb") as null:
                os.dup2(null.fileno(), stream.fileno())
            stream.flush()
            # After another error this one is printed already, or is not the first to correct.
            if not code and not isinstance(error, BrokenPipeError):
                _report(partial(print_problems, [_problem(error)]), 1)
            code = code or 1
    return code
