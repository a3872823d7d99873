"""`postroom ping`: notify the WebSub hub."""

from __future__ import annotations

import time
from pathlib import Path

import click

from postroom.cli.context import build_instant
from postroom.errors import Problem, UseError
from postroom.markdown.html import resolve_urls
from postroom.models import Site
from postroom.posts import loader
from postroom.publish.build import feed_urls
from postroom.publish.websub import ping_hub
from postroom.settings.site import FILE_NAME, find_site, load_settings
from postroom.settings.validation import did_you_mean


@click.command("ping")
@click.argument("feeds", metavar="[FEED]...", nargs=-1)
def command(feeds: tuple[str, ...]) -> int:
    """Tell the hub that FEEDs have changed, by default all feeds.

    Call it after the output is published. The hub (feeds.hub in the settings) then fetches the
    feeds and notifies everyone who subscribed through it, so feed readers need not poll.

    \b
    Example:
      postroom ping
      postroom ping atom.xml topics/policy/atom.xml
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    if not site.feeds.hub:
        hint = "set feeds: {hub: https://…}"
        raise UseError([Problem(FILE_NAME, key="feeds.hub", message="is missing", hint=hint)])
    loaded = loader.load_posts(site_dir, site, build_instant(None))
    chosen = _chosen_urls(feeds, feed_urls(site_dir, site, loaded.posts), site)
    failed = 0
    for result in ping_hub(site.feeds.hub, chosen, time.sleep):
        tries = f" after {result.tries} tries" if result.tries > 1 else ""
        word = "told" if result.accepted else "failed"
        click.echo(f"{word}: {result.feed} ({result.detail}{tries})", err=not result.accepted)
        failed += not result.accepted
    return int(failed > 0)


def _chosen_urls(feeds: tuple[str, ...], known: tuple[str, ...], site: Site) -> tuple[str, ...]:
    urls = tuple(map(resolve_urls(site.url), feeds))
    unknown = [
        Problem(
            "FEED",
            message=f"'{feed}' is not a feed of this site",
            hint=f"see feeds.opml{did_you_mean(url, known)}",
        )
        for feed, url in zip(feeds, urls, strict=True)
        if url not in known
    ]
    if unknown:
        raise UseError(unknown)
    return urls or known
