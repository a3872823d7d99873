"""Run `postroom` in processes of their own, as people and schedulers do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import AnyStr

from tests.support.site import CommandResult

# Nearly the environment of a cron job: no locale, no time zone, no setting of Python's.
_PLAIN = ("PATH", "HOME", "TMPDIR")


def plain(**more: str) -> dict[str, str]:
    """Return an environment that does not depend on the developer's, with `more` in it.

    It contains the variables that a test sets with `monkeypatch` for Postroom or Python.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in _PLAIN or name.startswith(("POSTROOM_", "PYTHON"))
    }
    return {**inherited, **more}


class Process(subprocess.Popen[AnyStr]):
    """A process that does not outlive its `with` block when the block fails."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill the process if the test failed or timed out."""
        if kind:
            self.kill()
        super().__exit__(kind, error, trace)


def start(folder: Path, environment: Mapping[str, str], *arguments: str) -> Process[str]:
    """Start a command in `folder`; the caller ends it."""
    return Process(
        [sys.executable, "-m", "postroom", *arguments],
        cwd=folder,
        env=plain(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: Process[str]) -> CommandResult:
    """Wait for a command to end and return its result."""
    with process:
        out, err = process.communicate(timeout=60)
    return CommandResult(process.returncode, out, err)


def run(folder: Path, environment: Mapping[str, str], *arguments: str) -> CommandResult:
    """Run a command and return its result."""
    return wait_for(start(folder, environment, *arguments))
