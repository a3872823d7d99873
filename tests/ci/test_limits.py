"""Time limits: a test that hangs fails with its name, and the other tests run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SLOW_LIMIT
from tests.support.processes import Process, plain
from tests.support.site import ROOT

HANGS = """\
import subprocess, sys
from tests.support.processes import Process

def test_hangs():
    with Process([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        process.wait()

def test_is_fine():
    pass
"""


def test_every_test_has_a_limit(request: pytest.FixtureRequest) -> None:
    """Fast tests have two minutes, slow ones fifteen."""
    usual = int(request.config.getini("timeout"))
    limits = {
        item.nodeid: marker.args[0] if marker else usual
        for item in request.session.items
        for marker in [item.get_closest_marker("timeout")]
    }
    slow = {item.nodeid for item in request.session.items if item.get_closest_marker("slow")}
    assert usual == 120
    assert [name for name, limit in limits.items() if name not in slow and limit != usual] == []
    assert [name for name in slow if not usual < limits[name] <= SLOW_LIMIT] == []


@pytest.mark.slow
def test_a_test_that_hangs_fails_and_its_command_ends(tmp_path: Path) -> None:
    """A test that never ends fails with its name, and the next test runs."""
    (tmp_path / "test_it.py").write_text(HANGS)
    options = ["-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "--timeout=2"]
    with Process[str](
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env=plain(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        output, _ = process.communicate(timeout=60)
    assert "FAILED test_it.py::test_hangs" in output
    assert "1 failed, 1 passed" in output
