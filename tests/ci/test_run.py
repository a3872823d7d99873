"""run.py on a copy of its files, with real Python environments and a pip that only takes notes."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Process

ROOT = Path(__file__).resolve().parents[2]

# Stands in for pip: writes down what it is asked, and "installs" a postroom that only speaks.
PIP = """\
import os, pathlib, signal, sys
root = pathlib.Path.cwd()
with (root / "pip.log").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
mood = (root / "mood").read_text() if (root / "mood").exists() else ""
print("pip's chatter")
if mood == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if mood == "offline":
    print("no network", file=sys.stderr)
    sys.exit(3)
if "-e" in sys.argv:
    script = root / ".venv" / "bin" / "postroom"
    script.write_text("#!/bin/sh\\n" + (root / "script.sh").read_text())
    script.chmod(0o755)
"""
MISSING = "raise ImportError\n"
OPEN = "Open public/index.html, or subscribe to public/atom.xml.\n"


class Folder:
    """A fresh clone with nothing in it but what run.py reads."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "clone"
        self.fakes = home / "fakes"

    def fill(self) -> None:
        """Put run.py and what it reads there, beside a pip that is found before the real one."""
        self.root.mkdir(parents=True)
        (self.fakes / "pip").mkdir(parents=True)
        (self.fakes / "pip" / "__init__.py").touch()
        (self.fakes / "pip" / "__main__.py").write_text(PIP)
        (self.fakes / "ensurepip.py").write_text(MISSING)
        for name in ("run.py", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root)
        self.script("echo made it")

    def script(self, text: str) -> None:
        """Say what the program that set-up installs shall do."""
        (self.root / "script.sh").write_text(text + "\n")
        for script in (self.root / ".venv" / "bin").glob("postroom"):
            script.write_text(f"#!/bin/sh\n{text}\n")

    def start(self, *arguments: str, **variables: str) -> Process[str]:
        """Start run.py with these arguments and with no other variables than these."""
        environment = {"PATH": os.defpath, "PYTHONPATH": str(self.fakes), **variables}
        return Process(
            [sys.executable, "run.py", *arguments],
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Run run.py and return its exit code, output and errors."""
        with self.start(*arguments, **variables) as process:
            output, errors = process.communicate(timeout=30)
        return process.returncode, output, errors

    def pip_calls(self) -> list[str]:
        """Return what pip was asked since the last look."""
        log = self.root / "pip.log"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Give a test a clone of its own, in which nothing has run."""
    folder = Folder(tmp_path)
    folder.fill()
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run `demo` once, in a place that the tests take turns to use: a .venv knows its address."""
    folder = Folder(tmp_path_factory.mktemp("home"))
    folder.fill()
    assert folder.run("demo")[0] == 0
    folder.pip_calls()
    return folder.home


@pytest.fixture
def ready(home: Path, tmp_path: Path) -> Iterator[Folder]:
    """Give a test a clone in which `demo` has run once."""
    shutil.copytree(home, tmp_path / "kept", symlinks=True)
    yield Folder(home)
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "kept", home, symlinks=True)


def test_old_python_gets_one_line() -> None:
    """A Python below 3.11 is named as such in one line, with exit code 2."""
    code = "import runpy, sys; sys.version_info = (3, 9, 2); runpy.run_path('run.py')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Postroom needs Python 3.11 or newer, and ")
    assert " is 3.9; " in done.stderr
    assert done.stderr.count("\n") == 1


def test_old_python_can_read_it() -> None:
    """run.py holds no syntax that a Python below 3.11 would trip over before it can say so."""
    ast.parse((ROOT / "run.py").read_text(encoding="utf-8"), feature_version=(3, 7))


def test_neither_ensurepip_nor_pip(folder: Folder) -> None:
    """Without ensurepip and pip, one line names the package to install, with exit code 2."""
    (folder.fakes / "pip" / "__init__.py").write_text(MISSING)
    code, output, errors = folder.run("demo")
    assert (code, output) == (2, "")
    assert "apt install python3-venv" in errors
    assert errors.count("\n") == 1
    assert not (folder.root / ".venv").exists()


def test_fresh_without_ensurepip(folder: Folder) -> None:
    """Without ensurepip, the .venv gets its pip from the Python that makes it, in silence."""
    code, output, errors = folder.run("demo")
    assert code == 0, errors
    python = folder.root / ".venv" / "bin" / "python"
    assert folder.pip_calls() == [
        f"--python {python} install -U pip",
        "install -q -c constraints.txt -e .",
    ]
    assert not list((folder.root / ".venv").rglob("site-packages/pip"))
    assert "chatter" not in output + errors
    assert errors.count("\n") == 1


def test_demo_says_where_to_look(ready: Folder) -> None:
    """The second `demo` prints what the build says and one line that names the newest letter."""
    for period in ("2026-10", "2026-11"):
        (ready.root / "public" / "digest" / period).mkdir(parents=True)
        (ready.root / "public" / "digest" / period / "email.html").touch()
    where = OPEN.replace(".\n", "; the newest letter is public/digest/2026-11/email.html.\n")
    assert ready.run("demo") == (0, f"made it\n{where}", "")


def test_unchanged_needs_no_pip(ready: Folder) -> None:
    """A second run does not call pip at all."""
    assert ready.run("demo")[0] == 0
    assert ready.pip_calls() == []


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml", "run.py"])
def test_changed_file_installs_again(ready: Folder, name: str) -> None:
    """A change of what set-up depends on brings one more installation, and only one."""
    with (ready.root / name).open("a") as file:
        file.write("# changed\n")
    for expected in (["install -q -c constraints.txt -e ."], []):
        assert ready.run("demo")[0] == 0
        assert ready.pip_calls() == expected


def test_extras_accumulate(ready: Folder) -> None:
    """The tests' extra is installed when first asked for, and stays."""
    ready.run("test", PATH=str(ready.root))
    assert ready.pip_calls() == ["install -q -c constraints.txt -e .[test]"]
    (ready.root / "constraints.txt").write_text("# changed\n")
    ready.run("demo")
    assert ready.pip_calls() == ["install -q -c constraints.txt -e .[test]"]


def test_browser_extra_under_ci(ready: Folder) -> None:
    """Under CI the browser tests' extra is installed, whether or not there is a browser."""
    ready.run("test", PATH=str(ready.root), CI="true")
    assert ready.pip_calls() == ["install -q -c constraints.txt -e .[browser,test]"]


def test_browser_extra_beside_chromium(ready: Folder) -> None:
    """Where a Chromium is on the PATH, the browser tests' extra is installed."""
    chromium = ready.root / "chromium"
    chromium.write_text("#!/bin/sh\n")
    chromium.chmod(0o755)
    ready.run("test", PATH=str(ready.root))
    assert ready.pip_calls() == ["install -q -c constraints.txt -e .[browser,test]"]


def test_killed_set_up_is_repaired(ready: Folder) -> None:
    """After pip was killed half-way, the next run makes .venv anew."""
    left_over = ready.root / ".venv" / "left-over"
    left_over.touch()
    (ready.root / "constraints.txt").write_text("# changed\n")
    (ready.root / "mood").write_text("killed")
    assert ready.run("demo")[0] == 128 + signal.SIGKILL
    (ready.root / "mood").unlink()
    assert left_over.exists()
    assert ready.run("demo")[0] == 0
    assert not left_over.exists()


def test_failed_installation(ready: Folder) -> None:
    """When pip fails, its words are shown, its exit code is passed on, and .venv is kept."""
    changed = ready.root / "constraints.txt"
    before = changed.read_text()
    changed.write_text("# changed\n")
    (ready.root / "mood").write_text("offline")
    code, _, errors = ready.run("demo")
    assert code == 3
    assert "pip's chatter" in errors
    assert "no network" in errors
    changed.write_text(before)
    assert ready.run("demo") == (0, "made it\n" + OPEN, "")


@pytest.mark.parametrize("damage", ["moved", "other python", "python gone"])
def test_broken_venv_is_rebuilt(ready: Folder, damage: str) -> None:
    """A .venv that was moved, or belongs to another Python, or lost its own, is made anew."""
    venv = ready.root / ".venv"
    (venv / "left-over").touch()
    if damage == "moved":
        ready.root = ready.root.rename(ready.root.with_name("moved"))
    elif damage == "other python":
        stamp = venv / "postroom-stamp.json"
        note = json.loads(stamp.read_text())
        stamp.write_text(json.dumps({**note, "here": note["here"].replace(sys.version, "3.11.0")}))
    else:
        for python in (venv / "bin").glob("python*"):
            python.unlink()
    assert ready.run("demo")[:2] == (0, "made it\n" + OPEN)
    assert not (ready.root / ".venv" / "left-over").exists()


def test_venv_made_by_hand_is_kept(folder: Folder) -> None:
    """A .venv that someone made with this very Python is used, not wiped."""
    venv = folder.root / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (venv / "left-over").touch()
    assert folder.run("demo")[:2] == (0, "made it\n" + OPEN)
    assert (venv / "left-over").exists()


def test_exit_code_is_passed_on(ready: Folder) -> None:
    """What the build ends with is what `demo` ends with, and it claims nothing."""
    ready.script("exit 7")
    assert ready.run("demo") == (7, "", "")


def test_interrupt(ready: Folder) -> None:
    """Ctrl-C ends with 130 and without a trace, and not before the child has ended its own way."""
    ready.script("trap 'sleep 0.6; touch ended; exit 1' INT\necho started\nwhile :; do :; done")
    with ready.start("demo") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert (ready.root / "ended").exists()
        assert process.communicate() == ("", "")


def test_unknown_command(folder: Folder) -> None:
    """An unknown command gets the list of commands, exit code 2, and no set-up."""
    code, output, errors = folder.run("dmeo")
    assert (code, output) == (2, "")
    assert errors.startswith("usage: ")
    assert not (folder.root / ".venv").exists()
