"""Make every output file of a site from its posts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from attrs import evolve, field, frozen

from postroom.errors import OutputError, Problem, SettingsError
from postroom.models import Html, Post, Site
from postroom.newsletter.render import render_email
from postroom.posts.loader import group_by_topic
from postroom.publish.feeds.catalog import STYLESHEET, FeedCatalog, FeedDocument
from postroom.publish.feeds.opml import write_opml
from postroom.publish.output import Contents
from postroom.publish.pages import FeedLink, PageBuilder, output_path
from postroom.scheduling.periods import digest_of_issue, group_by_period, issues_by_period
from postroom.theme.environment import Theme, logo_problem, read_logo, theme_colours
from postroom.theme.i18n import Translations
from postroom.theme.icon import Icon, draw_icon, find_icon, read_own_icons


@frozen
class Outputs:
    """The files of a build, by their paths below the output folder.

    For messages, the class remembers what each file was made for: a post or "the stylesheet".
    """

    files: dict[str, Contents] = field(factory=dict)
    makers: dict[str, str] = field(factory=dict)
    problems: list[Problem] = field(factory=list)

    def add(self, path: str, contents: Contents | str, maker: str) -> None:
        """Add a file to the output.

        If another file has the same path, or a path that differs only in case, add a problem.
        """
        first = self.makers.setdefault(path.casefold(), maker)
        if first != maker or path in self.files:
            message = f"would be written to {path}, which {first} makes already"
            self.problems.append(Problem(maker, message=message, hint="give it another slug"))
        self.files[path] = contents.encode() if isinstance(contents, str) else contents

    def report_files_as_folders(self) -> None:
        """Add a problem for each file whose path needs a folder where another file is."""
        for path, maker in self.makers.items():
            folder = path
            while folder := folder.rpartition("/")[0]:
                if folder in self.makers:
                    message = f"would be written to {path}, but {folder} is a file"
                    problem = Problem(maker, message=message, hint="give it another slug")
                    self.problems.append(problem)


def make_outputs(site_dir: Path, site: Site, posts: tuple[Post, ...]) -> dict[str, Contents]:
    """Return every output file of the site in the folder `site_dir`.

    Raises `TemplateError`, `SettingsError` if the logo or an icon is not an image of the site, and
    `OutputError` if two files have one path.
    """
    theme = Theme(site_dir, site.language)
    icon = find_icon(site_dir, site)
    posts = tuple(_replace_withdrawn(post, theme.translations) for post in posts)
    outputs = Outputs()
    topics = group_by_topic(posts, site)
    catalog = FeedCatalog(site, theme.translations.language_name, icon.url)
    documents = list(catalog.documents(posts, topics))
    _add_feeds(documents, site, theme, outputs)
    links = tuple(
        FeedLink(each.feed.title, each.feed.url, each.format.media_type, each.format.name)
        for each in documents
        if each.listed
    )
    digests = group_by_period(posts, site)
    for page in PageBuilder(site, theme, icon, links, posts, topics, digests).all():
        outputs.add(page.path, page.text, page.maker)
    by_id = {post.id: post for post in posts}
    for issue in issues_by_period(posts, site):
        digest = digest_of_issue(issue, by_id, site)
        email = render_email(digest, site, theme)
        folder = output_path(digest.url, site).removesuffix("index.html")
        outputs.add(f"{folder}email.html", email.html, f"the digest {digest.period}")
        outputs.add(f"{folder}email.txt", email.text, f"the digest {digest.period}")
    for post in posts:
        for attachment in post.attachments:
            outputs.add(attachment.output, site_dir / attachment.source, post.path)
    if site.theme.logo:
        outputs.add(site.theme.logo, _read_logo(site_dir, site), "the logo")
    _add_icons(site_dir, site, icon, theme, outputs)
    outputs.report_files_as_folders()
    if outputs.problems:
        raise OutputError(outputs.problems)
    return outputs.files


def _add_icons(site_dir: Path, site: Site, icon: Icon, theme: Theme, outputs: Outputs) -> None:
    """Add the icons; a logo that is the icon has been added already."""
    for path, data in read_own_icons(site_dir, site).items():
        outputs.add(path, data, "the icon")
    if icon.is_drawn:
        outputs.add(icon.path, draw_icon(site, theme), "the icon")


def _read_logo(site_dir: Path, site: Site) -> bytes:
    data = read_logo(site_dir, site)
    if data is None:
        message, hint = "is missing", "put it there, or correct the path"
        raise SettingsError([logo_problem(site_dir, site, message, hint)])
    return data


def _replace_withdrawn(post: Post, translations: Translations) -> Post:
    """Return `post`; if it is withdrawn, its content is replaced by a notice."""
    if not post.withdrawn:
        return post
    notice = translations.withdrawn.format(translations.date(post.withdrawn))
    return evolve(
        post,
        html=Html(f"<p>{escape(notice)}</p>"),
        text=notice,
        summary=notice,
        image=None,
        enclosure=None,
        attachments=(),
    )


def feed_urls(site_dir: Path, site: Site, posts: tuple[Post, ...]) -> tuple[str, ...]:
    """Return the URL of each feed that is offered to subscribers, the main feeds first."""
    translations = Theme(site_dir, site.language).translations
    catalog = FeedCatalog(site, translations.language_name)
    documents = catalog.documents(posts, group_by_topic(posts, site))
    return tuple(document.feed.url for document in documents if document.listed)


def _add_feeds(
    documents: Sequence[FeedDocument], site: Site, theme: Theme, outputs: Outputs
) -> None:
    for each in documents:
        outputs.add(output_path(each.feed.url, site), each.write(site), "the feeds")
    # Each feed once, in its first format: a program that imports the list would add all of them.
    listed = {each.feed.id: each.feed for each in reversed(documents) if each.listed}
    outputs.add(
        "feeds.opml", write_opml(site.title, reversed(listed.values())), "the list of feeds"
    )
    values = {"colours": theme_colours(site.theme), "site": site, "t": theme.translations}
    outputs.add(STYLESHEET, theme.render(STYLESHEET, values), "the feeds")
