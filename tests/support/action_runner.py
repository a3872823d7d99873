"""A runner like GitHub's: it runs the `run:` blocks of action.yml in bash, with their files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

from tests.support.processes import Process, run
from tests.support.sending_site import KEY, MAIL
from tests.support.site import AT, POST, ROOT, SETTINGS
from tests.support.sites import write

INSTALL = "Install Postroom"
_INPUT = re.compile(r"\$\{\{ inputs\.([a-z-]+) \}\}")
_FILES = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE")


def read(path: Path) -> dict[str, Any]:
    """Return a YAML file with every value as a string: `on` is not true."""
    # BaseLoader makes nothing but strings, lists and mappings.
    document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    assert isinstance(document, dict)
    return document


ACTION = read(ROOT / "action.yml")


def run_blocks() -> list[str]:
    """Return the names of the action's steps with a `run:` block, in order."""
    return [step["name"] for step in ACTION["runs"]["steps"] if "run" in step]


@frozen
class ActionResult:
    """The result of one use of the action."""

    code: int
    log: str
    summary: str
    outputs: Mapping[str, str]
    steps: tuple[str, ...]

    @property
    def annotations(self) -> list[str]:
        """The workflow commands of the log, without those between `stop-commands` marks."""
        found, mark = [], ""
        for line in self.log.splitlines():
            if mark:
                mark = "" if line == f"::{mark}::" else mark
            elif line.startswith("::stop-commands::"):
                mark = line.removeprefix("::stop-commands::")
            elif line.startswith("::"):
                found.append(line)
        return found

    @property
    def folder(self) -> Path:
        """The folder that becomes the artifact."""
        return Path(self.outputs["folder"])


class Runner:
    """A machine with a checkout of a site; Postroom is installed, or an action step installs it."""

    def __init__(self, home: Path, *, site: str = "news", installed: bool = True) -> None:
        self.workspace, self.temp, self.files = home / "work", home / "temp", home / "files"
        self.site_dir = self.workspace / site
        for folder in (self.site_dir, self.temp, self.files):
            folder.mkdir(parents=True)
        (self.workspace / ".git").mkdir()
        write(self.site_dir, {"postroom.yaml": SETTINGS + MAIL, "posts/a.md": POST})
        self.installed = installed
        if installed:
            (self.temp / "postroom").symlink_to(sys.prefix)

    def add_subscribers(
        self, database_url: str, number: int, *, frequency: str = "post"
    ) -> dict[str, str]:
        """Add subscribers who are due a post of ten days ago; return the secrets as inputs."""
        day = (datetime.now(UTC) - timedelta(days=10)).date()
        write(self.site_dir, {"posts/a.md": POST.replace("2026-11-20", day.isoformat())})
        names = [f"reader{each}@example.com" for each in range(number)]
        options = ["--confirmed", "--frequency", frequency, "--from", str(day - timedelta(days=5))]
        secrets = {"POSTROOM_DATABASE_URL": database_url, "POSTROOM_SECRET_KEY": KEY}
        added = run(self.site_dir, secrets, "subscribers", "add", *options, *names)
        assert added.code == 0, added.err
        return {"database_url": database_url, "secret_key": KEY}

    def use(self, **inputs: str) -> ActionResult:
        """Use the action with these inputs, with `_` for `-`, until a step fails."""
        known = {name: each.get("default", "") for name, each in ACTION["inputs"].items()}
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        assert set(given) <= set(known)
        code, log, steps, outputs = 0, "", [], dict[str, str]()
        summary = ""
        for step in self._steps_to_run():
            process = self.start(step, {**known, **given})
            log += process.communicate(timeout=300)[0]
            code = process.returncode
            steps.append(step["name"])
            outputs |= self._outputs()
            summary += (self.files / "GITHUB_STEP_SUMMARY").read_text(encoding="utf-8")
            if code:
                break
        return ActionResult(code, log, summary, outputs, tuple(steps))

    def _steps_to_run(self) -> Iterator[dict[str, Any]]:
        for step in ACTION["runs"]["steps"]:
            if "run" in step and not (self.installed and step["name"] == INSTALL):
                # This runner cannot evaluate conditions, so no run block may have one.
                assert "if" not in step
                yield step

    def start(self, step: Mapping[str, Any], inputs: Mapping[str, str]) -> Process[str]:
        """Start one step with fresh files, as its `shell: bash` says."""
        assert step["shell"] == "bash"
        script = self.files / "script.sh"
        script.write_text(step["run"], encoding="utf-8")
        for name in _FILES:
            (self.files / name).write_text("", encoding="utf-8")
        return Process(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script],
            cwd=self.workspace,
            env=self._environment(step.get("env", {}), inputs),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _environment(
        self, wanted: Mapping[str, str], inputs: Mapping[str, str]
    ) -> Mapping[str, str]:
        own = {
            name: _INPUT.sub(lambda found: inputs[found[1]], text) for name, text in wanted.items()
        }
        assert not [text for text in own.values() if "${{" in text]
        usual = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        # Settings for the package registry; a runner's pip keeps its downloads.
        pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        pip.pop("PIP_NO_CACHE_DIR", None)
        here = {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.temp),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        if inputs["command"] not in {"plan", "send"}:
            # The day of the test site's posts; `plan` and `send` use the real time.
            here["SOURCE_DATE_EPOCH"] = str(int(AT.timestamp()))
        files = {name: str(self.files / name) for name in _FILES}
        return {**usual, **pip, **here, **files, **own}

    def _outputs(self) -> dict[str, str]:
        lines = (self.files / "GITHUB_OUTPUT").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)
