"""Real git repositories: a bare one, the clone that somebody writes in, fresh clones of jobs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from attrs import Factory, frozen

# Nothing of whoever runs the tests: neither their name nor their settings.
_NOBODY: Mapping[str, str] = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Editor",
    "GIT_AUTHOR_EMAIL": "editor@example.com",
    "GIT_COMMITTER_NAME": "Editor",
    "GIT_COMMITTER_EMAIL": "editor@example.com",
}
# A hook that runs the tests names its own repository in these.
_OURS = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` and return what it printed; a failure is raised with its words."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**_OURS, **_NOBODY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@frozen
class Origin:
    """A bare repository in a folder of its own, where its clones lie, too."""

    folder: Path
    _numbers: Iterator[int] = Factory(count)

    @property
    def url(self) -> str:
        """Its address; by a path alone git would link files instead of fetching them."""
        return (self.folder / "origin.git").as_uri()

    def checkout(self, branch: str = "main") -> Path:
        """Return a fresh clone of the newest commit alone, as a runner makes one for each job."""
        clone = self.folder / f"runner-{next(self._numbers)}"
        git(self.folder, "clone", "-q", "--depth=1", f"--branch={branch}", self.url, clone.name)
        return clone


@frozen
class Desk:
    """The clone in which somebody writes."""

    folder: Path

    @contextmanager
    def branch(self, name: str) -> Iterator[None]:
        """Write on a new branch for a block, and merge it into main when that went well."""
        git(self.folder, "switch", "-qc", name)
        yield
        git(self.folder, "switch", "-q", "main")
        git(self.folder, "merge", "-q", "--no-ff", "-m", f"Merge {name}", name)
        git(self.folder, "push", "-q", "origin", "main")

    def push(self, message: str) -> None:
        """Commit all that changed and push it."""
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "-qm", message)
        git(self.folder, "push", "-q", "origin", "HEAD")

    def changes(self) -> list[str]:
        """Return the lines that were added and taken away since the last commit."""
        lines = git(self.folder, "diff", "--unified=0", "--no-prefix").splitlines()
        return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def begin(folder: Path) -> tuple[Origin, Desk]:
    """Make an empty repository in `folder`, and a clone of it to write in."""
    git(folder, "init", "-q", "--bare", "--initial-branch=main", "origin.git")
    origin = Origin(folder)
    desk = folder / "desk"
    git(folder, "init", "-q", "--initial-branch=main", desk.name)
    git(desk, "remote", "add", "origin", origin.url)
    return origin, Desk(desk)
