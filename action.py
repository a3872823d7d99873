"""The steps of action.yml: they install Postroom on a runner, run one of its commands, say so.

    python action.py cache      name what pip's downloads are kept under
    python action.py install    install the Postroom of this folder
    python action.py run        run a command; annotations, a summary and the letter come of it

All they are told comes from the environment: GITHUB_* and RUNNER_TEMP as GitHub's runners set them,
and what action.yml adds. Only `run` needs Postroom; what comes before installs it.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import platform
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMANDS = ("check", "build", "digest", "plan", "send")
# Those that read the subscribers' database.
KNOWING = ("plan", "send")
LETTER = ("email.html", "email.txt", "letter.eml")
# A step's summary may have 1 MiB; a page that long nobody reads.
MOST_SHOWN = 60_000
# What `postroom` prints: error: posts/a.md:4:9: what was found; click's errors have a capital.
PLACED = re.compile(r"([eE]rror|warning): (?:([^\s:][^:]*):(\d+):(?:(\d+):)? )?(.+)")
# What it prints for GitHub: ::error file=posts/a.md,line=4,col=9,title=rule::what was found
ANNOTATION = re.compile(r"::(error|warning) ([^:]*)::(.*)")

Environment = Mapping[str, str]


def main(arguments: Sequence[str], environment: Environment) -> int:
    """Run one step and return its exit code."""
    match arguments:
        case ["cache"]:
            return name_cache(environment)
        case ["install"]:
            return install(environment)
        case ["run"]:
            return run(environment)
    sys.stderr.write(f"{__doc__}\n")
    return 2


def name_cache(environment: Environment) -> int:
    """Name the folder of pip's downloads, and a key that changes when others are needed."""
    pins = b"".join((HERE / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    system = f"{platform.system()}-{platform.machine()}-{platform.python_version()}"
    key = f"postroom-pip-{system}-{hashlib.sha256(pins).hexdigest()[:16]}"
    output(environment, path=downloads(environment), key=key)
    return 0


def downloads(environment: Environment) -> str:
    """Return the folder in which pip keeps what it loads."""
    return str(Path(environment["RUNNER_TEMP"], "postroom-pip"))


def output(environment: Environment, **values: object) -> None:
    """Hand values to the steps that follow."""
    with Path(environment["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())


def install(environment: Environment) -> int:
    """Install Postroom from this folder, in an environment of its own; return pip's exit code."""
    home = Path(environment["RUNNER_TEMP"], "postroom")
    extra = "[postgres]" if environment["COMMAND"] in KNOWING else ""
    pip = [str(home / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    target = ["install", "--quiet", "-c", str(HERE / "constraints.txt"), f"{HERE}{extra}"]
    kept = {**environment, "PIP_CACHE_DIR": downloads(environment)}
    made = subprocess.call([sys.executable, "-m", "venv", home])  # noqa: S603 - our own
    return made or subprocess.call([*pip, *target], env=kept)  # noqa: S603 - our own


def run(environment: Environment) -> int:
    """Run the command, and write what came of it; return its exit code."""
    newsroom = Path(environment["GITHUB_WORKSPACE"], environment["NEWSROOM"])
    command = environment["COMMAND"]
    if fault := wrong(command, newsroom, environment["ARGUMENTS"]):
        annotate([f"error: {fault}"], "")
        return 2
    kept = Path(environment["RUNNER_TEMP"], "postroom-kept", command)
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    postroom = Postroom(newsroom, environment)
    code, said = postroom.told(words(command, postroom, kept))
    if command == "check":
        said = [read_back(line) for line in said]
    else:
        annotate(said, os.path.relpath(newsroom, environment["GITHUB_WORKSPACE"]))
    shown = [heading(command, code), *block(said)]
    if command != "send":
        shown += looked_at(postroom, kept)
    with Path(environment["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in shown)
    if any(kept.iterdir()):
        output(environment, kept=kept)
    return code


def wrong(command: str, newsroom: Path, arguments: str) -> str:
    """Return what is wrong with what the action was given, or nothing."""
    if command not in COMMANDS:
        return f"command: '{command}' is none; write one of {', '.join(COMMANDS)}"
    if not newsroom.is_dir():
        return f"newsroom: '{newsroom}' is no folder; name the one with postroom.yaml"
    try:
        shlex.split(arguments)
    except ValueError as error:
        return f"arguments: {error}; write them as in a shell"
    return ""


def words(command: str, postroom: Postroom, kept: Path) -> list[str]:
    """Return the words of the command, and hand on how many letters a plan has."""
    environment = postroom.environment
    more = shlex.split(environment["ARGUMENTS"])
    if command == "check":
        return ["check", "--format", "github", *more]
    if command == "send":
        window, plan = environment["WINDOW"], environment["PLAN"]
        # Seen from the root of the repository, as the newsroom is.
        frozen = ["--plan", str(Path(environment["GITHUB_WORKSPACE"], plan))] if plan else []
        return ["send", *(["--window", window] if window else []), *frozen, *more]
    if command == "plan":
        letters = owed(postroom, more)
        output(environment, letters=letters)
        sample = ["--received", str(kept / "first.eml")] if letters else []
        return ["plan", "--out", str(kept / "plan.json"), *sample, *more]
    return [command, *more]


def owed(postroom: Postroom, more: Sequence[str]) -> int:
    """Return how many subscribers would get a letter; 0 where no plan can be made."""
    code, made = postroom.quiet("plan", "--json", *more)
    return sum(one["subscribers"] for one in json.loads(made)["letters"]) if code == 0 else 0


class Postroom:
    """The program that `install` put there, called in a newsroom."""

    def __init__(self, newsroom: Path, environment: Environment) -> None:
        self.newsroom = newsroom
        self.environment = {**environment, "PYTHONUTF8": "1", "NO_COLOR": "1"}
        self._program = Path(environment["RUNNER_TEMP"], "postroom/bin/postroom")

    def quiet(self, *arguments: str) -> tuple[int, bytes]:
        """Run a command; return its exit code and what it printed."""
        done = subprocess.run(  # noqa: S603 - our own
            [self._program, *arguments],
            cwd=self.newsroom,
            env=self.environment,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout

    def told(self, arguments: Sequence[str]) -> tuple[int, list[str]]:
        """Run a command whose lines are seen as they come; return its exit code and its lines.

        A signal goes on to it, so that it can finish what is under way.
        """
        with subprocess.Popen(  # noqa: S603 - our own
            [self._program, *arguments],
            cwd=self.newsroom,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda number, _: process.send_signal(number))
            lines = shown_live(arguments[0], process.stdout or ())
        return process.returncode, lines


def shown_live(command: str, lines: Iterable[str]) -> list[str]:
    """Print the lines of a command as they come, and return them.

    Only those of `check` are meant for the runner: elsewhere the title of a post could look like
    one of its commands. What knows subscribers names none, whatever a mail server or a fault of
    ours puts into a line.
    """
    from postroom.mail.address import mask_address  # noqa: PLC0415 - `install` comes before it is there

    mark = "" if command == "check" else secrets.token_hex(16)
    said = []
    say(f"::stop-commands::{mark}" if mark else "")
    for line in lines:
        text = line.rstrip("\n")
        said.append(mask_address(text) if command in KNOWING else text)
        say(said[-1])
    say(f"::{mark}::" if mark else "")
    return said


def say(line: str) -> None:
    """Print a line at once."""
    if line:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def annotate(said: Iterable[str], folder: str) -> None:
    """Let GitHub show errors and warnings at their lines; `folder` is the newsroom's."""
    from postroom.errors import Problem  # noqa: PLC0415
    from postroom.lint.runner import LintFinding, format_annotations  # noqa: PLC0415 - as above

    found = []
    for line in said:
        if match := PLACED.fullmatch(line):
            kind, path, row, column, what = match.groups()
            problem = Problem(path or "", int(row or 0), int(column or 0), message=what)
            found.append(LintFinding(problem, "warning" if kind == "warning" else "error"))
    say(format_annotations(found, folder).rstrip("\n"))


def read_back(line: str) -> str:
    """Return an annotation as a person reads it, any other line as it is."""
    match = ANNOTATION.fullmatch(line)
    if not match:
        return line
    kind, properties, message = match.groups()
    known = dict(each.partition("=")[::2] for each in properties.split(","))
    place = ":".join(known[name] for name in ("file", "line", "col") if name in known)
    text = f"{kind}: {place}: {message} [{known['title']}]" if place else f"{kind}: {message}"
    for code, character in (("%3A", ":"), ("%2C", ","), ("%0A", " "), ("%0D", " "), ("%25", "%")):
        text = text.replace(code, character)
    return text


def heading(command: str, code: int) -> str:
    """Return the summary's first line."""
    return f"## postroom {command}: {'fine' if code == 0 else f'failed with exit code {code}'}\n"


def looked_at(postroom: Postroom, kept: Path) -> Iterator[str]:
    """Yield what would be published, how large it is, and the letter, which is kept as well."""
    from postroom.models import FORMATS  # noqa: PLC0415 - as above

    site = kept.parent / "site"
    shutil.rmtree(site, ignore_errors=True)
    code, made = postroom.quiet("build", "--output", str(site))
    if code:
        yield "Nothing can be published until this is repaired.\n"
        return
    keep_letter(postroom, site, kept)
    yield "### What would be published\n"
    yield from block(made.decode().splitlines())
    yield from table([*(site / form.file for form in FORMATS), *map(kept.joinpath, LETTER)])
    text = kept / "email.txt"
    if text.exists():
        yield "<details><summary>The letter</summary>\n"
        yield from block(text.read_text("utf-8").splitlines())
        yield "</details>\n"


def keep_letter(postroom: Postroom, site: Path, kept: Path) -> None:
    """Keep the newest letter in its three forms, if there is one."""
    # Periods are named so that the newest is the last: 2026-11, 2026-W47, 2026-11-22.
    for folder in sorted(site.glob("digest/*/"))[-1:]:
        for name in ("email.html", "email.txt"):
            shutil.copy(folder / name, kept)
        _, message = postroom.quiet("digest", "--eml", folder.name)
        (kept / "letter.eml").write_bytes(message)


def block(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines as text in which nothing of a post is taken for Markdown or HTML."""
    text = html.escape("\n".join(lines))
    cut = "\n…" if len(text) > MOST_SHOWN else ""
    yield f"<pre>\n{text[:MOST_SHOWN]}{cut}\n</pre>\n"


def table(files: Iterable[Path]) -> Iterator[str]:
    """Yield the sizes of those files that are there."""
    yield "| file | KB |"
    yield "|---|--:|"
    for path in files:
        if path.exists():
            yield f"| `{path.name}` | {path.stat().st_size / 1000:.1f} |"
    yield ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
