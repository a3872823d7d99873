"""`postroom doctor`."""

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

from postroom.db.engine import DEFAULT_PATH, make_engine
from postroom.doctor import dkim, environment, findings, report
from postroom.doctor.dns import SystemResolver
from postroom.doctor.findings import Diagnosis, DiagnosisSection
from postroom.doctor.received import LIMIT, check_received
from postroom.errors import PostroomError, Problem, SettingsError, UseError
from postroom.mail.tokens import SECRET_KEY_VAR
from postroom.models import Site
from postroom.posts import loader
from postroom.settings import urls
from postroom.settings.site import FILE_NAME, find_site, load_settings
from postroom.smtp import connection, transaction

_MARKS = {"ok": ("✓", "green"), "advice": ("!", "yellow"), "problem": ("✗", "red")}
_TIMEOUTS = transaction.Timeouts(connect=10, reply=15, end=15)


@click.command("doctor")
@click.option(
    "--received", "file", type=click.File("rb"), help="Look at this received letter (.eml)."
)
def command(file: BinaryIO | None) -> int:
    """Look at everything that letters need to arrive, and say what to do about what is wrong.

    These are the settings and secrets, the mail server (it is connected to and logged in to, and
    nothing is sent), what the DNS says of the domains in mail.from and mail.bounces (SPF, DKIM,
    DMARC, MX), the clock and the database. Nothing is changed.

    With --letter, the letter in FILE is looked at instead. Subscribe yourself with an address at
    another provider, save what arrives there with its whole source, and see what became of it on
    the way: fields, parts, the ways to leave, the signature, and what the receiver made of it. The
    signature itself is verified if dkimpy is installed.

    \b
    ✓ is well    ! is advice    ✗ is a problem, and the exit code is 1

    \b
    postroom doctor
    postroom doctor --received received.eml
    """
    found = Counter[str]()
    for section in _letter(file) if file else _site():
        found.update(_print(section))
    problems, advised = found["problem"], found["advice"]
    click.echo(f"{problems} problem{'s' * (problems != 1)}, {advised} to consider")
    return int(problems > 0)


def _print(section: DiagnosisSection) -> Iterator[str]:
    if section.findings:
        click.secho(section.title, bold=True)
    for one in section.findings:
        mark, colour = _MARKS[one.level]
        click.echo(f"  {click.style(mark, fg=colour)} {one}")
        yield one.level


def _letter(file: BinaryIO) -> Iterator[DiagnosisSection]:
    data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        what, repair = f"has more than {LIMIT} bytes", "choose a letter"
        raise UseError([Problem(file.name, message=what, hint=repair)])
    return check_received(data, SystemResolver(), dkim.verify_signatures)


def _site() -> Iterator[DiagnosisSection]:
    """Yield the sections one by one, since some take seconds."""
    folder = find_site(Path.cwd())
    site = load_settings(folder)
    yield DiagnosisSection("Settings", environment.check_settings(site))
    yield DiagnosisSection("Secrets", environment.check_secrets(os.environ.get(SECRET_KEY_VAR)))
    yield DiagnosisSection("Mail server", _relay())
    yield DiagnosisSection("Domains", tuple(report.check_domains(site.mail, SystemResolver())))
    yield DiagnosisSection("This machine", (*_clock(folder, site), *_database(folder)))


def _relay() -> tuple[Diagnosis, ...]:
    try:
        server = urls.parse_smtp_url(os.environ.get(urls.SMTP_URL_VAR))
    except SettingsError as error:
        return findings.as_findings(error.problems)
    return environment.check_relay(
        connection.SmtpConnection(server, timeouts=_TIMEOUTS), str(server)
    )


def _clock(folder: Path, site: Site) -> tuple[Diagnosis, ...]:
    now = datetime.now(UTC)
    try:
        loaded = loader.load_posts(folder, site, now)
    except PostroomError as error:
        return findings.as_findings(error.problems)
    files = [folder / FILE_NAME, *(folder / post.path for post in loaded.posts)]
    changed = max(_changed(files), default=0.0)
    newest = datetime.fromtimestamp(changed, UTC)
    return environment.check_clock(now, newest, len(loaded.posts), len(loaded.waiting))


def _changed(files: Iterable[Path]) -> Iterator[float]:
    for file in files:
        if file.is_file():
            yield file.stat().st_mtime


def _database(folder: Path) -> tuple[Diagnosis, ...]:
    return environment.check_database(lambda: _write(folder))


def _write(folder: Path) -> str:
    """Begin a change of the ledger and take it back; return where the ledger is."""
    url = os.environ.get("POSTROOM_DATABASE_URL")
    if not url and not (folder / DEFAULT_PATH).exists():
        # Nothing is made before it is needed; a file beside it tells whether it could be.
        existing = (folder / DEFAULT_PATH).parent
        with tempfile.TemporaryFile(dir=existing if existing.exists() else folder):
            return DEFAULT_PATH
    database = make_engine(url, folder)
    with closing(database), database.writing():
        return database.name
