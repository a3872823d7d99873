"""The command `postroom serve`."""

from __future__ import annotations

import signal
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from postroom.cli.console import print_problems
from postroom.cli.context import open_site_store
from postroom.errors import Problem
from postroom.models import Site
from postroom.settings.site import FILE_NAME, find_site, load_settings
from postroom.theme.environment import Theme, logo_problem
from postroom.web.app import make_app
from postroom.web.http import AppDeps
from postroom.web.pages import ServicePages, logo_path, render_service_pages
from postroom.web.server import make_server, open_socket, parse_trusted_proxies


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen on this IP address.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Listen on this port; 0 means any free port.",
)
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="NETWORK",
    help="Trust this proxy's X-Forwarded headers; may be repeated.",
)
def command(host: str, port: int, proxies: tuple[str, ...]) -> None:
    """Serve the built site, and the page to unsubscribe.

    Emails link to that page at the URL in mail.unsubscribe, below list/unsubscribe/. Run this
    behind a web server that speaks HTTPS, such as nginx or Caddy, and pass its IP address with
    --proxy. The access log goes to standard error, without tokens, email addresses and queries.

    \b
    Example:
        postroom serve --port 8080 --proxy 127.0.0.1
    """
    networks = parse_trusted_proxies(proxies)
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    public = site_dir / site.output
    pages = render_service_pages(site, Theme(site_dir, site.language), site_dir)
    print_problems(
        [*_missing_settings(site, public), *_missing_logo(site_dir, site, pages)], "warning"
    )
    with open_site_store(site_dir) as store, open_socket(host, port) as listener:
        app = make_app(site, public, pages, AppDeps(store.subscribers, _now, _log))
        click.echo(f"{_url(listener)} serves {site.output}/ and list/; Ctrl-C stops it")
        # The server stops on a signal, then raises it again for these handlers.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        make_server(app, networks).run([listener])


def _now() -> datetime:
    """Return the current time, also under SOURCE_DATE_EPOCH: it is recorded in the database."""
    return datetime.now(UTC)


def _log(line: str) -> None:
    click.echo(line, err=True)


def _missing_settings(site: Site, public: Path) -> list[Problem]:
    problems = []
    if not public.is_dir():
        problems.append(
            Problem(f"{site.output}/", message="does not exist yet", hint="run postroom build")
        )
    if not site.mail.unsubscribe:
        message = "is missing, and emails need it to link here"
        hint = "set it to the URL of this service"
        problems.append(Problem(FILE_NAME, key="mail.unsubscribe", message=message, hint=hint))
    return problems


def _missing_logo(site_dir: Path, site: Site, pages: ServicePages) -> list[Problem]:
    if not site.theme.logo or logo_path(site) in pages.files:
        return []
    message = "does not exist, so the pages of the service show no logo"
    return [logo_problem(site_dir, site, message, "add the file, or remove theme.logo")]


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
