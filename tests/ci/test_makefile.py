"""The Makefile in a copy of its folder, with real environments and a pip that logs its calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import plain
from tests.support.site import ROOT, CommandResult

# Log the arguments, and "install" a postroom that runs script.sh.
PIP = """\
import os, pathlib, signal, sys
root = pathlib.Path.cwd()
with (root / "pip.log").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
failure = (root / "failure").read_text() if (root / "failure").exists() else ""
if failure == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if failure == "offline":
    sys.exit("no network")
script = root / ".venv" / "bin" / "postroom"
script.write_text("#!/bin/sh\\n. ./script.sh\\n")
script.chmod(0o755)
"""
MISSING = "raise ImportError\n"
TOOLS = ("make", "sh", "ls", "tail", "mv", "touch")
WHERE = "Open public/index.html, or subscribe to public/atom.xml"
INSTALL = "install -q -c constraints.txt -e"


class Checkout:
    """A folder with only the files that the Makefile reads, and a PATH of a few programs."""

    def __init__(self, home: Path) -> None:
        self.root = home / "checkout"
        self.fakes = home / "fakes"
        self.bin = home / "bin"

    def create(self) -> None:
        """Write the files, and a pip that precedes the real one on PATH."""
        self.root.mkdir(parents=True)
        (self.fakes / "pip").mkdir(parents=True)
        (self.fakes / "pip" / "__init__.py").touch()
        (self.fakes / "pip" / "__main__.py").write_text(PIP)
        (self.fakes / "ensurepip.py").write_text(MISSING)
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found
            (self.bin / tool).symlink_to(found)
        (self.bin / "python3").symlink_to(sys.executable)
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root)
        (self.root / "script.sh").write_text("echo built\n")

    def make(self, *arguments: str, **variables: str) -> CommandResult:
        """Run make with only these variables."""
        done = subprocess.run(
            ["make", *arguments],
            cwd=self.root,
            env={"PATH": str(self.bin), "PYTHONPATH": str(self.fakes), **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def pip_calls(self) -> list[str]:
        """Return the arguments of pip's calls since the last time."""
        log = self.root / "pip.log"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls

    def change(self, name: str) -> None:
        """Make a file newer than everything that was made from it."""
        later = time.time() + 5
        os.utime(self.root / name, (later, later))


@pytest.fixture
def fresh(tmp_path: Path) -> Checkout:
    """Return a checkout without an environment."""
    checkout = Checkout(tmp_path)
    checkout.create()
    return checkout


@pytest.fixture
def ready(fresh: Checkout) -> Checkout:
    """Return a checkout in which `make demo` has run once."""
    assert fresh.make("demo").code == 0
    fresh.pip_calls()
    return fresh


@pytest.mark.parametrize("python", ["python9", "python2"])
def test_missing_or_old_python_is_one_line(fresh: Checkout, python: str) -> None:
    """A missing or old Python is a one-line error that says how to name another one."""
    (fresh.bin / "python2").write_text("#!/bin/sh\nexit 1\n")
    (fresh.bin / "python2").chmod(0o755)
    result = fresh.make("demo", f"PYTHON={python}")
    assert (result.code, result.out) == (2, "")
    assert f"needs Python 3.11 or newer, and {python} is missing or older" in result.err
    assert "make demo PYTHON=python3.11" in result.err
    assert result.err.count("\n") == 1
    assert not (fresh.root / ".venv").exists()


def test_missing_ensurepip_and_pip_name_the_package(fresh: Checkout) -> None:
    """Without ensurepip and pip, the error names the package to install."""
    (fresh.fakes / "pip" / "__init__.py").write_text(MISSING)
    result = fresh.make("demo")
    assert result.code == 2
    assert "install one: apt install python3-venv" in result.err
    assert not (fresh.root / ".venv").exists()


def test_pip_installs_pip_without_ensurepip(fresh: Checkout) -> None:
    """Without ensurepip, as on Debian without python3-venv, pip itself installs pip."""
    assert fresh.make("demo").code == 0
    assert fresh.pip_calls() == [
        "--python .venv/bin/python install -q -U pip",
        f"{INSTALL} .",
    ]
    assert not list((fresh.root / ".venv").rglob("site-packages/pip"))


def test_demo_prints_the_pages(ready: Checkout) -> None:
    """A second `make demo` calls no pip, and prints the path of the newest email of a digest."""
    for period in ("2026-10", "2026-11"):
        (ready.root / "public" / "digest" / period).mkdir(parents=True)
        (ready.root / "public" / "digest" / period / "email.html").touch()
    result = ready.make("demo")
    newest = "the newest digest email is public/digest/2026-11/email.html"
    assert result == CommandResult(0, f"built\n{WHERE}; {newest}.\n", "")
    assert ready.pip_calls() == []


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_a_changed_file_installs_again(ready: Checkout, name: str) -> None:
    """A change of a file that set-up depends on causes one more installation in the same .venv."""
    (ready.root / ".venv" / "kept").touch()
    ready.change(name)
    ready.make("demo")
    assert ready.pip_calls() == [f"{INSTALL} ."]
    assert (ready.root / ".venv" / "kept").exists()


@pytest.mark.parametrize(
    ("target", "variables", "programs", "extras"),
    [
        ("test", {}, (), "test"),
        ("proofs", {}, (), "test"),
        ("test", {"CI": "true"}, (), "test,browser"),
        ("test", {}, ("chromium",), "test,browser"),
        ("lint", {}, (), "test,browser,lint"),
    ],
)
def test_targets_install_their_extras(
    ready: Checkout,
    target: str,
    variables: dict[str, str],
    programs: tuple[str, ...],
    extras: str,
) -> None:
    """Each target installs the extras that it needs, unless they are installed already."""
    for program in programs:
        (ready.bin / program).write_text("#!/bin/sh\n")
        (ready.bin / program).chmod(0o755)
    ready.make(target, **variables)
    assert ready.pip_calls() == [f"{INSTALL} .[{extras}]"]
    assert ready.make("demo").code == 0
    assert ready.pip_calls() == []


def test_arguments_go_to_pytest(ready: Checkout) -> None:
    """`ARGS` is added to pytest's arguments."""
    (ready.fakes / "pytest.py").write_text("import sys\nprint(sys.argv[1:])\n")
    printed = ready.make("test", "ARGS=-k feed").out
    assert "'-m', 'not slow', '-k', 'feed'" in printed
    assert "'-m', 'slow'" in ready.make("proofs").out


def test_a_killed_set_up_is_repaired(ready: Checkout) -> None:
    """A .venv is made again after pip was killed half-way."""
    left_over = ready.root / ".venv" / "left-over"
    left_over.touch()
    ready.change("constraints.txt")
    (ready.root / "failure").write_text("killed")
    assert ready.make("demo").code == 2
    (ready.root / "failure").unlink()
    assert left_over.exists()
    assert ready.make("demo").code == 0
    assert not left_over.exists()


def test_a_failed_installation_is_shown(ready: Checkout) -> None:
    """A failed pip shows its error, and the next run tries again in the same .venv."""
    (ready.root / ".venv" / "kept").touch()
    ready.change("constraints.txt")
    (ready.root / "failure").write_text("offline")
    result = ready.make("demo")
    assert (result.code, "no network" in result.err) == (2, True)
    (ready.root / "failure").unlink()
    ready.pip_calls()
    assert ready.make("demo").code == 0
    assert ready.pip_calls() == [f"{INSTALL} ."]
    assert (ready.root / ".venv" / "kept").exists()


@pytest.mark.parametrize("change", ["moved", "other interpreter"])
def test_moved_environment_is_made_again(ready: Checkout, change: str) -> None:
    """A .venv that was moved, or belongs to another interpreter, is made again."""
    (ready.root / ".venv" / "left-over").touch()
    if change == "moved":
        ready.root = ready.root.rename(ready.root.with_name("moved"))
    else:
        (made,) = (ready.root / ".venv").glob("made-*[0-9]")
        made.rename(made.with_name("made-1"))
    assert ready.make("demo").code == 0
    assert not (ready.root / ".venv" / "left-over").exists()


def test_activated_environment_can_be_made_again(ready: Checkout) -> None:
    """The base interpreter makes the new .venv if `python3` is that of the old one."""
    path = os.pathsep.join([str(ready.root / ".venv" / "bin"), str(ready.bin)])
    for made in (ready.root / ".venv").glob("made-*"):
        made.unlink()
    assert ready.make("demo", PATH=path).code == 0


def test_a_failed_build_fails(ready: Checkout) -> None:
    """`make demo` fails after a failed build, and prints no page."""
    (ready.root / "script.sh").write_text("exit 7\n")
    result = ready.make("demo")
    assert (result.code, result.out) == (2, "")


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Path]:
    """Return a copy of this repository's files, without generated ones."""
    made = shutil.ignore_patterns(".*", "public", "build", "dist", "__pycache__", "tests")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=made)
    yield tmp_path / "copy"
    shutil.rmtree(tmp_path / "copy")


@pytest.mark.slow
def test_demo_with_the_real_pip(copy: Path) -> None:
    """`make demo` sets up and builds with an almost empty environment; again, in under 5 s."""
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        done = subprocess.run(
            ["make", "demo", f"PYTHON={sys.executable}"],
            cwd=copy,
            env=plain(**pip),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds.append(time.monotonic() - began)
        assert done.returncode == 0, done.stderr
        assert WHERE in done.stdout
    assert (copy / "public" / "atom.xml").exists()
    assert seconds[1] < 5
