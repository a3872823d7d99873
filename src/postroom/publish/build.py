"""Posts → every file of the output."""

from __future__ import annotations

from html import escape
from pathlib import Path

from attrs import evolve, field, frozen

from postroom.errors import OutputError, Problem, SettingsError
from postroom.models import Html, Post, Site, Topic
from postroom.newsletter.render import render_email
from postroom.posts.loader import group_by_topic as topics_of
from postroom.publish.feeds.catalog import STYLESHEET, FeedCatalog, FeedDocument
from postroom.publish.feeds.opml import write_opml
from postroom.publish.output import Contents
from postroom.publish.pages import FeedLink, PageBuilder, output_path
from postroom.scheduling.periods import group_by_period as digests_of
from postroom.theme.environment import Theme, theme_colours
from postroom.theme.i18n import Translations
from postroom.theme.logo import logo_problem, read_logo


@frozen
class Outputs:
    """The files of one build, by their paths below the output folder, and what made each."""

    files: dict[str, Contents] = field(factory=dict)
    makers: dict[str, str] = field(factory=dict)
    problems: list[Problem] = field(factory=list)

    def add(self, path: str, contents: Contents | str, maker: str) -> None:
        """Take a file; two at one path, in whatever case of letters, are a problem."""
        first = self.makers.setdefault(path.casefold(), maker)
        if first != maker or path in self.files:
            what = f"leads to {path}, which {first} makes already"
            self.problems.append(Problem(maker, message=what, hint="give it another slug"))
        self.files[path] = contents.encode() if isinstance(contents, str) else contents

    def refuse_files_as_folders(self) -> None:
        """Take a problem for each path that leads through a file."""
        for path, maker in self.makers.items():
            folder = path
            while folder := folder.rpartition("/")[0]:
                if folder in self.makers:
                    what = f"leads to {path}, but {folder} is a file"
                    self.problems.append(Problem(maker, message=what, hint="give it another slug"))


def make_outputs(site_dir: Path, site: Site, posts: tuple[Post, ...]) -> dict[str, Contents]:
    """Return every file that the newsroom in the folder `site_dir` makes of `posts`.

    Raises `TemplateError`, `SettingsError` for a logo that is no image of the site, and
    `OutputError` where two things claim one path.
    """
    theme = Theme(site_dir, site.language)
    posts = tuple(_as_shown(post, theme.translations) for post in posts)
    made = Outputs()
    topics = topics_of(posts, site)
    documents = _add_feeds(posts, topics, site, theme, made)
    links = tuple(
        FeedLink(one.feed.title, one.feed.url, one.format.media_type, one.format.name)
        for one in documents
        if one.listed
    )
    digests = digests_of(posts, site)
    for page in PageBuilder(site, theme, links, posts, topics, digests).all():
        made.add(page.path, page.text, page.maker)
    for digest in digests:
        letter = render_email(digest, site, theme)
        folder = output_path(digest.url, site).removesuffix("index.html")
        made.add(f"{folder}email.html", letter.html, f"the digest {digest.period}")
        made.add(f"{folder}email.txt", letter.text, f"the digest {digest.period}")
    for post in posts:
        for attachment in post.attachments:
            made.add(attachment.output, site_dir / attachment.source, post.path)
    if site.theme.logo:
        made.add(site.theme.logo, _logo(site_dir, site), "the logo")
    made.refuse_files_as_folders()
    if made.problems:
        raise OutputError(made.problems)
    return made.files


def _logo(site_dir: Path, site: Site) -> bytes:
    data = read_logo(site_dir, site)
    if data is None:
        what, repair = "is not there", "put it there, or correct the path"
        raise SettingsError([logo_problem(site_dir, site, what, repair)])
    return data


def _as_shown(post: Post, words: Translations) -> Post:
    """Return `post`, or of a withdrawn one the notice that takes the place of its content."""
    if not post.withdrawn:
        return post
    notice = words.withdrawn.format(words.date(post.withdrawn))
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
    """Return the address of every feed that people can subscribe to, the main ones first."""
    words = Theme(site_dir, site.language).translations
    catalogue = FeedCatalog(site, words.feed_note, words.language_name)
    documents = catalogue.documents(posts, topics_of(posts, site))
    return tuple(one.feed.url for one in documents if one.listed)


def _add_feeds(
    posts: tuple[Post, ...], topics: tuple[Topic, ...], site: Site, theme: Theme, made: Outputs
) -> list[FeedDocument]:
    words = theme.translations
    catalogue = FeedCatalog(site, words.feed_note, words.language_name)
    documents = list(catalogue.documents(posts, topics))
    for one in documents:
        made.add(output_path(one.feed.url, site), one.write(site), "the feeds")
    # Each feed once, in its first format: a reader that imports the list would take all of them.
    listed = {one.feed.id: one.feed for one in reversed(documents) if one.listed}
    made.add("feeds.opml", write_opml(site.title, reversed(listed.values())), "the list of feeds")
    values = {"colours": theme_colours(site.theme), "site": site, "t": words}
    made.add(STYLESHEET, theme.render(STYLESHEET, values), "the feeds")
    return documents
