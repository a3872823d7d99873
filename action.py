"""Install Postroom on a runner, run one of its commands, and report the result: action.yml's steps.

    python action.py cache      name the folder of pip's downloads and the key of the cache
    python action.py install    install the Postroom of this folder
    python action.py run        run a command; write annotations, a summary and the newest email

All input comes from the environment: GITHUB_* and RUNNER_TEMP as GitHub's runners set them, and
what action.yml adds. Only `run` needs Postroom; the steps before it install it.
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
# These commands read the database of subscribers.
DATABASE_COMMANDS = ("plan", "send")
EMAIL_FILES = {"email.html": "--html", "email.txt": "--text", "email.eml": "--eml"}
# A step's summary may have 1 MiB; nobody reads a page that long.
MAX_BLOCK = 60_000
# Lines that `postroom` prints: `error: posts/a.md:4:9: message`; click writes `Error: message`.
PROBLEM_LINE = re.compile(r"([eE]rror|warning): (?:([^\s:][^:]*):(\d+):(?:(\d+):)? )?(.+)")
# Lines that it prints for GitHub, as in `::error file=posts/a.md,line=4,col=9,title=rule::message`.
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
    set_output(environment, path=download_folder(environment), key=key)
    return 0


def download_folder(environment: Environment) -> str:
    """Return the folder in which pip keeps its downloads."""
    return str(Path(environment["RUNNER_TEMP"], "postroom-pip"))


def set_output(environment: Environment, **values: object) -> None:
    """Set outputs of this step, which later steps can read."""
    with Path(environment["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())


def install(environment: Environment) -> int:
    """Install Postroom from this folder into an environment of its own; return pip's exit code."""
    home = Path(environment["RUNNER_TEMP"], "postroom")
    extra = "[postgres]" if environment["COMMAND"] in DATABASE_COMMANDS else ""
    pip = [str(home / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    target = ["install", "--quiet", "-c", str(HERE / "constraints.txt"), f"{HERE}{extra}"]
    variables = {**environment, "PIP_CACHE_DIR": download_folder(environment)}
    code = subprocess.call([sys.executable, "-m", "venv", home])  # noqa: S603 - our own
    return code or subprocess.call([*pip, *target], env=variables)  # noqa: S603 - our own


def run(environment: Environment) -> int:
    """Run the command, write its annotations, summary and artifact; return its exit code."""
    site = Path(environment["GITHUB_WORKSPACE"], environment["SITE"])
    command = environment["COMMAND"]
    if message := input_error(command, site, environment["ARGUMENTS"]):
        annotate([f"error: {message}"], "")
        return 2
    artifact = Path(environment["RUNNER_TEMP"], "postroom-artifact", command)
    shutil.rmtree(artifact, ignore_errors=True)
    artifact.mkdir(parents=True)
    postroom = Postroom(site, environment)
    code, lines = postroom.stream(command_line(command, postroom, artifact))
    if command == "check":
        lines = [plain_line(line) for line in lines]
    else:
        annotate(lines, os.path.relpath(site, environment["GITHUB_WORKSPACE"]))
    summary = [heading(command, code), *block(lines)]
    if command != "send":
        summary += preview(postroom, artifact)
    with Path(environment["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in summary)
    if any(artifact.iterdir()):
        set_output(environment, folder=artifact)
    return code


def input_error(command: str, site: Path, arguments: str) -> str:
    """Return the error in the action's inputs, or an empty text."""
    if command not in COMMANDS:
        return f"command: '{command}' is unknown; write one of {', '.join(COMMANDS)}"
    if not site.is_dir():
        return f"site: '{site}' is not a folder; name the folder with postroom.yaml"
    try:
        shlex.split(arguments)
    except ValueError as error:
        return f"arguments: {error}; quote them as in a shell"
    return ""


def command_line(command: str, postroom: Postroom, artifact: Path) -> list[str]:
    """Return the command's arguments; for `plan`, set the number of planned emails as an output."""
    environment = postroom.environment
    more = shlex.split(environment["ARGUMENTS"])
    if command == "check":
        return ["check", "--format", "github", *more]
    if command == "send":
        window, plan = environment["WINDOW"], environment["PLAN"]
        # The path starts at the root of the repository, as the site's does.
        frozen = ["--plan", str(Path(environment["GITHUB_WORKSPACE"], plan))] if plan else []
        return ["send", *(["--window", window] if window else []), *frozen, *more]
    if command == "plan":
        emails = count_planned(postroom, more)
        set_output(environment, emails=emails)
        sample = ["--email", str(artifact / "first.eml")] if emails else []
        return ["plan", "--out", str(artifact / "plan.json"), *sample, *more]
    return [command, *more]


def count_planned(postroom: Postroom, more: Sequence[str]) -> int:
    """Return how many emails `send` would send; 0 if no plan can be made."""
    code, plan = postroom.capture("plan", "--json", *more)
    return sum(issue["subscribers"] for issue in json.loads(plan)["issues"]) if code == 0 else 0


class Postroom:
    """The program that `install` installed, run in the folder of a site."""

    def __init__(self, site: Path, environment: Environment) -> None:
        self.site = site
        self.environment = {**environment, "PYTHONUTF8": "1", "NO_COLOR": "1"}
        self._program = Path(environment["RUNNER_TEMP"], "postroom/bin/postroom")

    def capture(self, *arguments: str) -> tuple[int, bytes]:
        """Run a command; return its exit code and its standard output."""
        done = subprocess.run(  # noqa: S603 - our own
            [self._program, *arguments],
            cwd=self.site,
            env=self.environment,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout

    def stream(self, arguments: Sequence[str]) -> tuple[int, list[str]]:
        """Run a command and print its lines as they come; return its exit code and its lines.

        Signals are forwarded, so that `send` can finish the emails in flight.
        """
        with subprocess.Popen(  # noqa: S603 - our own
            [self._program, *arguments],
            cwd=self.site,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda number, _: process.send_signal(number))
            lines = forward(arguments[0], process.stdout or ())
        return process.returncode, lines


def forward(command: str, lines: Iterable[str]) -> list[str]:
    """Print the lines of a command as they come, and return them.

    The runner may act on the lines of `check` alone: elsewhere the title of a post could look like
    one of the runner's commands. Email addresses are masked in the output of commands that read
    subscribers: an SMTP server's reply or a traceback may contain one.
    """
    from postroom.mail.address import mask_address  # noqa: PLC0415 - not there before `install`

    mark = "" if command == "check" else secrets.token_hex(16)
    printed = []
    echo(f"::stop-commands::{mark}" if mark else "")
    for line in lines:
        text = line.rstrip("\n")
        printed.append(mask_address(text) if command in DATABASE_COMMANDS else text)
        echo(printed[-1])
    echo(f"::{mark}::" if mark else "")
    return printed


def echo(line: str) -> None:
    """Print a line at once, unless it is empty."""
    if line:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def annotate(lines: Iterable[str], folder: str) -> None:
    """Print errors and warnings as annotations of GitHub; `folder` is the site's."""
    from postroom.errors import Problem  # noqa: PLC0415 - as above
    from postroom.lint.runner import LintFinding, format_annotations  # noqa: PLC0415 - as above

    findings = []
    for line in lines:
        if match := PROBLEM_LINE.fullmatch(line):
            kind, path, row, column, message = match.groups()
            problem = Problem(path or "", int(row or 0), int(column or 0), message=message)
            findings.append(LintFinding(problem, "warning" if kind == "warning" else "error"))
    echo(format_annotations(findings, folder).rstrip("\n"))


def plain_line(line: str) -> str:
    """Return an annotation as `postroom` prints it for people, any other line unchanged."""
    match = ANNOTATION.fullmatch(line)
    if not match:
        return line
    kind, properties, message = match.groups()
    known = dict(item.partition("=")[::2] for item in properties.split(","))
    place = ":".join(known[name] for name in ("file", "line", "col") if name in known)
    text = f"{kind}: {place}: {message} [{known['title']}]" if place else f"{kind}: {message}"
    for code, character in (("%3A", ":"), ("%2C", ","), ("%0A", " "), ("%0D", " "), ("%25", "%")):
        text = text.replace(code, character)
    return text


def heading(command: str, code: int) -> str:
    """Return the summary's first line."""
    result = "passed" if code == 0 else f"failed with exit code {code}"
    return f"## postroom {command}: {result}\n"


def preview(postroom: Postroom, artifact: Path) -> Iterator[str]:
    """Yield the files that would be published, their sizes, and the newest email's text.

    The email's files are written into `artifact`.
    """
    from postroom.models import FORMATS  # noqa: PLC0415 - as above

    output = artifact.parent / "site"
    shutil.rmtree(output, ignore_errors=True)
    code, printed = postroom.capture("build", "--output", str(output))
    if code:
        yield "Nothing can be published until the errors above are fixed.\n"
        return
    save_email(postroom, artifact)
    yield "### Output\n"
    yield from block(printed.decode().splitlines())
    feeds = (output / form.file for form in FORMATS)
    yield from table([*feeds, *map(artifact.joinpath, EMAIL_FILES)])
    text = artifact / "email.txt"
    if text.exists():
        yield "<details><summary>The newest email</summary>\n"
        yield from block(text.read_text("utf-8").splitlines())
        yield "</details>\n"


def save_email(postroom: Postroom, artifact: Path) -> None:
    """Save the newest digest's email as HTML, text and message, if there is a digest."""
    for name, form in EMAIL_FILES.items():
        code, contents = postroom.capture("digest", form)
        if code:
            return
        (artifact / name).write_bytes(contents)


def block(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines as preformatted text, escaped so that they cannot act as Markdown or HTML."""
    text = html.escape("\n".join(lines))
    ellipsis = "\n…" if len(text) > MAX_BLOCK else ""
    yield f"<pre>\n{text[:MAX_BLOCK]}{ellipsis}\n</pre>\n"


def table(files: Iterable[Path]) -> Iterator[str]:
    """Yield a table of the files that exist, with their sizes."""
    yield "| file | KB |"
    yield "|---|--:|"
    for path in files:
        if path.exists():
            yield f"| `{path.name}` | {path.stat().st_size / 1000:.1f} |"
    yield ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
