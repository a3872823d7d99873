"""The command `postroom doctor`."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from postroom.cli.console import pluralize
from postroom.db.engine import DEFAULT_PATH, make_engine
from postroom.db.faults import damage_problem
from postroom.doctor import dkim, environment, findings
from postroom.doctor.dns import SystemResolver
from postroom.doctor.findings import Diagnosis, DiagnosisSection
from postroom.doctor.received import MAX_BYTES, check_received
from postroom.errors import DatabaseError, PostroomError, Problem, SettingsError, UseError
from postroom.mail.tokens import SECRET_KEY_VAR
from postroom.models import Site
from postroom.posts import loader
from postroom.settings import urls
from postroom.settings.site import FILE_NAME, find_site, load_settings
from postroom.smtp import connection, transaction

_MARKS = {"ok": ("✓", "green"), "advice": ("!", "yellow"), "problem": ("✗", "red")}
_TIMEOUTS = transaction.Timeouts(connect=20, reply=15, end=15)


@click.command("doctor")
@click.option(
    "--received",
    "file",
    type=click.File("rb"),
    metavar="FILE",
    help="Check this received email (.eml).",
)
def command(file: BinaryIO | None) -> int:
    """Check everything that sending needs, and say how to fix problems.

    It checks the settings and secrets, the SMTP server (by connecting and logging in), the DNS
    records of the domains in mail.from and mail.bounces (SPF, DKIM, DMARC, MX), the clock and the
    database. It changes nothing and sends nothing.

    With --received it checks an email in FILE instead: fields, unsubscribe fields, parts, signature
    and the results of the receiver. Subscribe an address at another provider, and save an email
    that arrives there with its source. Verifying the signature needs dkimpy.

    Each line begins with a mark: ✓ for correct, ! for advice, ✗ for a problem. The exit code is 1
    if there are problems.

    \b
    Example:
        postroom doctor
        postroom doctor --received email.eml
    """
    levels = Counter[str]()
    for section in _check_email(file) if file else _check_site():
        levels.update(_print(section))
    advice = pluralize(levels["advice"], "recommendation")
    click.echo(f"{pluralize(levels['problem'], 'problem')}, {advice}")
    return int(levels["problem"] > 0)


def _print(section: DiagnosisSection) -> Iterator[str]:
    if section.findings:
        click.secho(section.title, bold=True)
    for finding in section.findings:
        mark, colour = _MARKS[finding.level]
        click.echo(f"  {click.style(mark, fg=colour)} {finding}")
        yield finding.level


def _check_email(file: BinaryIO) -> Iterator[DiagnosisSection]:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        message = f"is larger than {MAX_BYTES} bytes"
        raise UseError(
            [Problem(file.name, message=message, hint="name a file that holds one email")]
        )
    return check_received(data, SystemResolver(), dkim.verify_signatures)


def _check_site() -> Iterator[DiagnosisSection]:
    """Yield the sections of the report one by one, because some checks take seconds."""
    folder = find_site(Path.cwd())
    site = load_settings(folder)
    yield DiagnosisSection("Settings", environment.check_settings(site))
    yield DiagnosisSection("Secrets", environment.check_secrets(os.environ.get(SECRET_KEY_VAR)))
    yield DiagnosisSection("Mail server", _check_relay())
    yield DiagnosisSection("Domains", tuple(environment.check_domains(site.mail, SystemResolver())))
    yield DiagnosisSection("This machine", (*_check_clock(folder, site), *_check_database(folder)))


def _check_relay() -> tuple[Diagnosis, ...]:
    try:
        server = urls.parse_smtp_url(os.environ.get(urls.SMTP_URL_VAR))
    except SettingsError as error:
        return findings.as_findings(error.problems)
    return environment.check_relay(
        connection.SmtpConnection(server, timeouts=_TIMEOUTS), str(server)
    )


def _check_clock(folder: Path, site: Site) -> tuple[Diagnosis, ...]:
    now = datetime.now(UTC)
    try:
        loaded = loader.load_posts(folder, site, now)
    except PostroomError as error:
        return findings.as_findings(error.problems)
    files = [folder / FILE_NAME, *(folder / post.path for post in loaded.posts)]
    changed = max(_change_times(files), default=0.0)
    newest = datetime.fromtimestamp(changed, UTC)
    return environment.check_clock(now, newest, len(loaded.posts), len(loaded.waiting))


def _change_times(files: Iterable[Path]) -> Iterator[float]:
    for file in files:
        if file.is_file():
            yield file.stat().st_mtime


def _check_database(folder: Path) -> tuple[Diagnosis, ...]:
    return environment.check_database(lambda: _try_write(folder))


def _try_write(folder: Path) -> str:
    """Try a write transaction and roll it back; return the name of the database.

    Raises `DatabaseError`, also if the database is damaged.
    """
    url = os.environ.get("POSTROOM_DATABASE_URL")
    if not url and not (folder / DEFAULT_PATH).exists():
        # Do not create the database: a temporary file shows whether that is possible.
        existing = (folder / DEFAULT_PATH).parent
        with tempfile.TemporaryFile(dir=existing if existing.exists() else folder):
            return DEFAULT_PATH
    database = make_engine(url, folder)
    with closing(database):
        with database.writing():
            pass
        if database.find_damage():
            raise DatabaseError([damage_problem(database.name)])
        return database.name
