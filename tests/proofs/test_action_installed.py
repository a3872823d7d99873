"""The whole action on an empty machine: pip downloads and installs everything as on a runner."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from action import pip_environment

from tests.support.action_runner import Runner, run_blocks


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "plan"])
def test_the_action_installs_itself(tmp_path: Path, command: str) -> None:
    """The action installs this version with the requirements of its command, which then runs."""
    made = Runner(tmp_path, installed=False)
    ran = made.use(command=command, site="news")
    assert ran.code == 0, ran.log
    assert [*ran.steps] == run_blocks()
    python = made.temp / "postroom/bin/python"
    code = "import importlib.util as u; print(u.find_spec('psycopg') is not None)"
    found = subprocess.check_output([python, "-c", code], text=True)
    assert found == f"{command == 'plan'}\n"
    # Pip keeps nothing of packages in local folders, so pip itself says where it keeps downloads.
    variables = pip_environment({**os.environ, "RUNNER_TEMP": str(made.temp)})
    kept = subprocess.check_output([python, "-m", "pip", "cache", "dir"], env=variables, text=True)
    assert kept == f"{ran.outputs['path']}\n"
