"""Sets up .venv and runs Postroom's demonstration, tests, checks and proofs in it.

Needs nothing but Python itself, so that a fresh clone needs nothing but this file.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

# Before the first function, whose annotations an old Python would already stumble over.
if sys.version_info < (3, 11):  # noqa: UP036 -- this very file tells people that theirs is too old
    sys.stderr.write(
        "Postroom needs Python 3.11 or newer, and {} is {}.{}; name another one: "
        "make demo PYTHON=python3.11\n".format(sys.executable, *sys.version_info[:2])
    )
    sys.exit(2)

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
STAMP = VENV / "postroom-stamp.json"
# There while pip works: found at the start of a run, it tells of one that was killed.
UNFINISHED = VENV / "postroom-unfinished"
# Run from an activated .venv, sys.executable may be the very thing that must be replaced.
BASE = getattr(sys, "_base_executable", sys.executable)
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
USAGE = """\
usage: python3 run.py COMMAND

  demo            build the newsroom in this folder
  test [ARGS]     run the tests (ARGS go to pytest)
  lint            check style, types, which part may import which, and workflows
  proofs [ARGS]   run the slow tests (ARGS go to pytest)
"""
NOTICE = "Setting up .venv (this takes a moment, and only now) ...\n"
NO_VENV = (
    "This Python has neither venv's ensurepip nor pip; install one, on Debian and Ubuntu with: "
    "apt install python3-venv"
)
PYTEST_FOUND_NOTHING = 5
ZIZMOR = ("--offline", "--quiet", "--no-progress", "--strict-collection", "--persona=pedantic")


class SetupError(Exception):
    """Set-up cannot go on; holds what to print and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def call(*command: str | Path) -> int:
    """Run a command as if .venv were activated and return its exit code."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(VENV)}
    interrupts: list[int] = []
    # Ctrl-C reaches the child too: let it end its own way, and print what it has, before we end.
    usual = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        code = subprocess.call(command, cwd=ROOT, env=environment)  # noqa: S603 -- our own
    finally:
        signal.signal(signal.SIGINT, usual)
    if interrupts:
        raise KeyboardInterrupt
    return code if code >= 0 else 128 - code


def quietly(*command: str | Path) -> None:
    """Run a step of the set-up; its output is shown, whole, only if it fails."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run(  # noqa: S603 -- our own
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        words = " ".join(str(word) for word in command)
        raise SetupError(f"{done.stdout}Set-up stopped at: {words}", done.returncode)


def runs(python: str | Path, code: str) -> bool:
    """Tell whether this Python can run this code."""
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, check=False)  # noqa: S603
    except OSError:
        return False
    return done.returncode == 0


def here() -> str:
    """Name what a .venv is tied to: this Python and this folder."""
    return f"{sys.version} {sys.base_prefix} {ROOT}"


def wanted() -> str:
    """Name what was asked of pip: changed files change this text."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt", "run.py"):
        digest.update(hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()


def read_stamp() -> dict[str, object]:
    """Return what the last finished set-up noted."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_sound(stamp: dict[str, object]) -> bool:
    """Tell whether .venv can be kept: made here by us, or by hand with this very Python."""
    if UNFINISHED.exists():
        return False
    if STAMP.exists():
        return stamp.get("here") == here() and (BIN / "python").exists()
    return runs(BIN / "python", f"import pip, sys; sys.exit(sys.version != {sys.version!r})")


def create() -> None:
    """Make an empty .venv that has pip, also on a Debian without python3-venv."""
    complete = runs(BASE, "import ensurepip")
    if not complete and not runs(BASE, "import pip"):
        raise SetupError(NO_VENV, 2)
    sys.stderr.write(NOTICE)
    # First, or a .venv half cleared away could still pass for a finished one.
    STAMP.unlink(missing_ok=True)
    if complete:
        quietly(BASE, "-m", "venv", "--clear", VENV)
    else:
        quietly(BASE, "-m", "venv", "--clear", "--without-pip", VENV)
        quietly(BASE, "-m", "pip", "--python", BIN / "python", "install", "-U", "pip")


def install(extras: set[str]) -> None:
    """Install Postroom, editable, with these extras, and stamp .venv when all is there."""
    UNFINISHED.touch()
    target = f".[{','.join(sorted(extras))}]" if extras else "."
    try:
        quietly(BIN / "python", "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", target)
    except SetupError as error:
        # Without a network pip fails before it touches anything; only a signal leaves ruins.
        if error.code > 0:
            UNFINISHED.unlink()
        raise
    note = {"here": here(), "wanted": wanted(), "extras": sorted(extras)}
    STAMP.write_text(json.dumps(note), encoding="utf-8")
    UNFINISHED.unlink()


def set_up(*asked: str) -> None:
    """Bring .venv to what is asked, and do nothing where it already is."""
    stamp = read_stamp()
    noted = stamp.get("extras")
    had = set(noted) if isinstance(noted, list) else set()
    sound = is_sound(stamp)
    if sound and stamp.get("wanted") == wanted() and had.issuperset(asked):
        return
    if sound:
        sys.stderr.write(NOTICE)
    else:
        create()
    install(had.union(asked))


def browser() -> list[str]:
    """Name the extra of the browser tests, where they can run or must."""
    found = os.environ.get("CI") or any(shutil.which(name) for name in CHROMIUMS)
    return ["browser"] if found else []


def demo() -> int:
    """Build the newsroom in this folder and say where to look."""
    set_up()
    code = call(BIN / "postroom", "build")
    if code == 0:
        letters = sorted((ROOT / "public" / "digest").glob("*/email.html"))
        newest = f"; the newest letter is {letters[-1].relative_to(ROOT)}" if letters else ""
        print(f"Open public/index.html, or subscribe to public/atom.xml{newest}.")  # noqa: T201
    return code


def pytest(marked: str, arguments: list[str]) -> int:
    """Run the tests that are marked so, on all processors."""
    set_up("test", *browser())
    options = ["-n", "auto", "--dist", "worksteal", "-m", marked]
    return call(BIN / "python", "-m", "pytest", *options, *arguments)


def test(arguments: list[str]) -> int:
    """Run every test that is not slow."""
    return pytest("not slow", arguments)


def proofs(arguments: list[str]) -> int:
    """Run the slow tests."""
    code = pytest("slow", arguments)
    if code == PYTEST_FOUND_NOTHING and not arguments:
        print("No test is marked slow: there was nothing to prove.")  # noqa: T201
        return 0
    return code


def lint() -> int:
    """Run every checker, also after one has failed, so that one run shows all there is."""
    # mypy reads the browser tests too, and can only check them against the real package.
    set_up("test", "browser", "lint")
    codes = [
        call(BIN / "ruff", "check", "."),
        call(BIN / "ruff", "format", "--check", "."),
        call(BIN / "mypy", "src", "tests", "run.py", "action.py"),
        call(BIN / "lint-imports"),
        call(BIN / "zizmor", *ZIZMOR, *workflows()),
    ]
    return max(codes)


def workflows() -> list[str]:
    """Name all that GitHub would run: our own, and what docs/ gives people to copy."""
    found = [*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("docs/workflows/*.yml")]
    return ["action.yml", *(str(path.relative_to(ROOT)) for path in sorted(found))]


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    plain = {"demo": demo, "lint": lint}
    with_arguments = {"test": test, "proofs": proofs}
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    try:
        if name in plain and not rest:
            return plain[name]()
        if name in with_arguments:
            return with_arguments[name](rest)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return error.code if error.code > 0 else 128 - error.code
    except KeyboardInterrupt:
        return 130
    sys.stderr.write(USAGE)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
