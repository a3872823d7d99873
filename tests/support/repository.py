"""Real git repositories: an origin, the working copy of an author, and fresh clones for CI jobs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from attrs import Factory, frozen

# Neither the name nor the settings of the developer who runs the tests.
_AUTHOR: Mapping[str, str] = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Editor",
    "GIT_AUTHOR_EMAIL": "editor@example.com",
    "GIT_COMMITTER_NAME": "Editor",
    "GIT_COMMITTER_EMAIL": "editor@example.com",
}
# A git hook that runs the tests sets variables that name its own repository.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` and return its output; fail with its error message."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**_ENVIRONMENT, **_AUTHOR},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@frozen
class Origin:
    """A bare repository, in a folder with its clones."""

    folder: Path
    _numbers: Iterator[int] = Factory(count)

    @property
    def url(self) -> str:
        """The URL; given a path, git would link files instead of fetching them."""
        return (self.folder / "origin.git").as_uri()

    def checkout(self, branch: str = "main") -> Path:
        """Return a fresh shallow clone, as a runner makes for each job."""
        clone = self.folder / f"runner-{next(self._numbers)}"
        git(self.folder, "clone", "-q", "--depth=1", f"--branch={branch}", self.url, clone.name)
        return clone


@frozen
class WorkingCopy:
    """The clone in which an author works."""

    folder: Path

    @contextmanager
    def branch(self, name: str) -> Iterator[None]:
        """Work on a new branch for a block, and merge it into main unless the block fails."""
        git(self.folder, "switch", "-qc", name)
        yield
        git(self.folder, "switch", "-q", "main")
        git(self.folder, "merge", "-q", "--no-ff", "-m", f"Merge {name}", name)
        git(self.folder, "push", "-q", "origin", "main")

    def push(self, message: str) -> None:
        """Commit all changes and push them."""
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "-qm", message)
        git(self.folder, "push", "-q", "origin", "HEAD")

    def changes(self) -> list[str]:
        """Return the lines that were added and removed since the last commit."""
        lines = git(self.folder, "diff", "--unified=0", "--no-prefix").splitlines()
        return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def create_repository(folder: Path) -> tuple[Origin, WorkingCopy]:
    """Create an empty repository in `folder`, and a clone of it to work in."""
    git(folder, "init", "-q", "--bare", "--initial-branch=main", "origin.git")
    origin = Origin(folder)
    copy = folder / "copy"
    git(folder, "init", "-q", "--initial-branch=main", copy.name)
    git(copy, "remote", "add", "origin", origin.url)
    return origin, WorkingCopy(copy)
