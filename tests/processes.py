"""Commands of `postroom`, each in a process of its own, as people and their machines run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from conftest import Outcome

# Whoever runs the tests may have set these for a newsroom of their own.
_PLAIN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("POSTROOM_") and name not in {"CI", "SOURCE_DATE_EPOCH"}
}


def start(folder: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start a command in `folder`; whoever starts it ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "postroom", *arguments],
        cwd=folder,
        env={**_PLAIN, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> Outcome:
    """Return what a command did, once it has ended."""
    with process:
        out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out, err)


def run(folder: Path, environment: Mapping[str, str], *arguments: str) -> Outcome:
    """Run a command to its end."""
    return ended(start(folder, environment, *arguments))
