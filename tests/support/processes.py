"""Commands of `postroom`, each in a process of its own, as people and their machines run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import AnyStr

from tests.support.site import CommandResult

# The environment of a cron job, nearly: no locale, no zone, no setting of Python's.
_PLAIN = ("PATH", "HOME", "TMPDIR")


def plain(**more: str) -> dict[str, str]:
    """Return an environment in which nothing depends on who runs the tests, with `more` in it.

    What a test sets with `monkeypatch` for Postroom or Python is there, too.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PLAIN or name.startswith(("POSTROOM_", "PYTHON"))
    }
    return {**kept, **more}


class Process(subprocess.Popen[AnyStr]):
    """A command that does not outlive its `with` block when the block fails."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill it if a test failed, or its time ran out: nobody would end it any more."""
        if kind:
            self.kill()
        super().__exit__(kind, error, trace)


def start(folder: Path, environment: Mapping[str, str], *arguments: str) -> Process[str]:
    """Start a command in `folder`; whoever starts it ends it."""
    return Process(
        [sys.executable, "-m", "postroom", *arguments],
        cwd=folder,
        env=plain(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: Process[str]) -> CommandResult:
    """Return what a command did, once it has ended."""
    with process:
        out, err = process.communicate(timeout=60)
    return CommandResult(process.returncode, out, err)


def run(folder: Path, environment: Mapping[str, str], *arguments: str) -> CommandResult:
    """Run a command to its end."""
    return ended(start(folder, environment, *arguments))
