"""The whole action on an empty machine: pip downloads and installs everything as on a runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

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
    assert any(Path(ran.outputs["path"]).rglob("*")), "pip kept nothing where the cache looks"
