"""Fixtures that all tests share: temporary sites, the command line, and real programs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import pytest
import time_machine

from postroom.cli.main import main
from postroom.models import Site
from postroom.settings.site import parse_settings
from tests.support import postgresql
from tests.support.site import AT, SETTINGS, CommandResult, MakeSite

# Remove variables of the developer that change the output of programs or the code that they run. TZ
# and the locale stay: the tests pass in every zone and locale, and CI runs them in an unusual one.
_LEAKS = re.compile(
    "PYTHON|GIT_|POSTROOM_(?!GOLDEN$)|(SOURCE_DATE_EPOCH|COLUMNS|LINES|(NO|FORCE|CLI)_?COLOR)$"
)
for name in filter(_LEAKS.match, list(os.environ)):
    del os.environ[name]

pytest_plugins = ["tests.support.sending"]
SLOW_LIMIT = 900


@pytest.fixture
def make_site(tmp_path: Path) -> MakeSite:
    """Return a function that writes a site of the given files and returns its folder.

    `settings` are added to the five required ones; the keys of `files` are paths, their values
    text or bytes.
    """

    def make(
        files: Mapping[str, str | bytes] | None = None,
        settings: str = "",
        *,
        name: str = "site",
    ) -> Path:
        folder = tmp_path / name
        everything = {"postroom.yaml": SETTINGS + settings, **(files or {})}
        (folder / "posts").mkdir(parents=True)
        for path, contents in everything.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            data = contents.encode() if isinstance(contents, str) else contents
            target.write_bytes(data)
        return folder

    return make


@pytest.fixture
def postroom(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CommandResult]:
    """Return a function that calls the command line in a folder, at a fixed instant or `at`."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(AT.timestamp())))

    def call(folder: Path, *arguments: str, at: datetime | None = None) -> CommandResult:
        capfd.readouterr()
        with monkeypatch.context() as patch, time_machine.travel(at or AT):
            patch.chdir(folder)
            if at:
                patch.setenv("SOURCE_DATE_EPOCH", str(int(at.timestamp())))
            code = main(arguments)
        printed = capfd.readouterr()
        return CommandResult(code, printed.out, printed.err)

    return call


@pytest.fixture
def site() -> Site:
    """Return the settings that `make_site` writes."""
    return parse_settings(SETTINGS.encode())


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Return a function that finds a program; without it, fail in CI and skip elsewhere."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    """Run a PostgreSQL server for the session; without one, fail in CI and skip elsewhere."""
    try:
        with postgresql.running() as server:
            yield server
    except postgresql.MissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database; the test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'news.db'}"
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    return server.emptied()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of processes for `-n auto`.

    It is one more than the processors for the fast tests, which wait for servers and other
    processes a sixth of their time. Proofs measure times, so each of them gets a processor.
    """
    return (os.cpu_count() or 1) + int(config.option.markexpr == "not slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than others, but not for ever: a hang must name its test."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_LIMIT))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables of proofs, also of tests that ran in other processes."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, table in getattr(report, "user_properties", ()):
                if name == "table" and getattr(report, "when", "") == "call":
                    terminalreporter.write_line(f"\n{report.nodeid}\n{table}")
