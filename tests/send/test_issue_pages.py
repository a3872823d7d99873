"""The heading of an issue names the days of its posts, and its link leads to a page with all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin

import pytest
from lxml import html

from postroom.models import Cursor, Issue, IssueKind, Post
from postroom.newsletter.render import RenderedEmail, render_issue
from postroom.posts import loader
from postroom.publish.build import make_outputs
from postroom.scheduling.periods import digest_of_issue
from postroom.settings.site import load_settings
from postroom.theme.environment import Theme
from tests.support.sending_site import KEY, MAIL, SiteWithServer
from tests.support.site import CommandResult, MakeSite
from tests.support.smtp_server import scripted

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SITE = "https://news.example.com/"


def posts_on(*days: str) -> dict[str, str]:
    """Return the files of a post on each day, named by its day."""
    return {f"posts/{day}.md": f"# Post of {day}\n\nText of {day}.\n" for day in days}


def every_third_day(first: str, count: int) -> list[str]:
    """Return `count` days, each three days after the one before."""
    start = date.fromisoformat(first)
    return [str(start + timedelta(days=3 * number)) for number in range(count)]


def issue_of(
    site_dir: Path, frequency: IssueKind, days: list[str]
) -> tuple[Issue, dict[str, Post]]:
    """Return an issue with the posts of these days, and all posts of the site by id."""
    site = load_settings(site_dir)
    posts = {post.id: post for post in loader.load_posts(site_dir, site, AT).posts}
    chosen = [post.id for post in posts.values() if str(post.day) in days]
    return Issue(frequency, Cursor(AT.date()), tuple(chosen), ""), posts


def links_of(page: bytes, url: str) -> set[str]:
    """Return the absolute URLs that a page links to."""
    found = html.document_fromstring(page.decode()).xpath("//main//a/@href")
    return {urljoin(url, str(link)) for link in found}


JANUARY = ["2026-01-05", "2026-01-20"]
WINTER = ["2025-12-30", "2026-01-05"]
MANY = every_third_day("2025-11-01", 36)
CASES: Mapping[str, tuple[list[str], list[str], str, str]] = {
    "one month": ([], JANUARY, "digest/2026-01/", ""),
    "two months": ([], ["2026-01-20", "2026-02-02"], "archive/2026/", ""),
    "two years": (["2026-02-10"], WINTER, "", ""),
    "two months, among many posts": (MANY, ["2025-11-01", "2025-12-01"], "archive/2025/", ""),
    "one week of two months": ([], ["2026-01-31", "2026-02-01"], "digest/2026-W05/", "week"),
    "one day": ([], ["2026-01-31"], "digest/2026-01-31/", "day"),
}


FREQUENCIES: tuple[IssueKind, ...] = ("post", "day", "week", "month")
# The link of a single post is the post itself.
PAIRS = [
    (name, frequency)
    for name, (_, days, _, _) in CASES.items()
    for frequency in FREQUENCIES
    if frequency != "post" or len(days) > 1
]


@pytest.mark.parametrize(("name", "frequency"), PAIRS)
def test_the_link_leads_to_a_page_with_every_post(
    make_site: MakeSite, name: str, frequency: IssueKind
) -> None:
    """The page behind the link of an issue exists in the build and links all its posts."""
    others, days, path, every = CASES[name]
    files = posts_on(*dict.fromkeys([*others, *days]))
    site_dir = make_site(files, f"digest: {{every: {every or 'month'}}}\n")
    issue, posts = issue_of(site_dir, frequency, days)
    site = load_settings(site_dir)
    digest = digest_of_issue(issue, posts, site)
    assert digest.url == SITE + path
    assert len(digest.posts) == len(days)
    page = make_outputs(site_dir, site, tuple(posts.values()))[f"{path}index.html"]
    assert isinstance(page, bytes)
    assert {post.url for post in digest.posts} <= links_of(page, digest.url)


def test_without_pages_the_link_is_a_digest_or_the_front_page(make_site: MakeSite) -> None:
    """A site that shows its posts itself has only digests as pages of several posts."""
    days = [*JANUARY, "2026-02-02"]
    site_dir = make_site(posts_on(*days), "pages: {enabled: false}\n")
    found = {}
    for chosen in (JANUARY, days):
        issue, posts = issue_of(site_dir, "post", chosen)
        found[len(chosen)] = digest_of_issue(issue, posts, load_settings(site_dir)).url
    assert found == {2: f"{SITE}digest/2026-01/", 3: SITE}


def render(site_dir: Path, days: list[str], language: str = "en") -> RenderedEmail:
    """Render the issue of frequency `post` with the posts of these days."""
    issue, posts = issue_of(site_dir, "post", days)
    return render_issue(issue, posts, load_settings(site_dir), Theme(site_dir, language))


@pytest.mark.parametrize(
    ("days", "heading"),
    [
        (["2026-01-05"], "January 5, 2026"),
        (JANUARY, "January 5, 2026 – January 20, 2026"),  # noqa: RUF001 - a range
        (WINTER, "December 30, 2025 – January 5, 2026"),  # noqa: RUF001 - a range
    ],
    ids=["one day", "one month", "two years"],
)
def test_several_posts_are_headed_by_their_days(
    make_site: MakeSite, days: list[str], heading: str
) -> None:
    """Both parts of an issue of single posts are headed by the first and the last of its days."""
    site_dir = make_site(posts_on(*days), "digest: {subject: 'News: {period}'}\n")
    email = render(site_dir, days)
    assert email.subject == f"News: {heading}"
    assert heading in html.document_fromstring(email.html).text_content()
    assert heading in email.text


def test_several_posts_of_one_day_are_headed_by_that_day(make_site: MakeSite) -> None:
    """A span of one day is that day."""
    files = posts_on("2026-01-05") | {"posts/2026-01-05-b.md": "# Another post\n\nText.\n"}
    email = render(make_site(files), ["2026-01-05"])
    headings = [h1.text_content() for h1 in html.document_fromstring(email.html).iter("h1")]
    assert headings == ["January 5, 2026"]


def test_a_real_email_of_several_posts_has_heading_and_link(
    make_site: MakeSite, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber who gets every single post receives two at once under their days."""
    days = ["2026-01-05", "2026-01-20"]
    files = {
        name: f"---\nid: tag:news.example.com,2026:{name[6:-3]}\n---\n{text}"
        for name, text in posts_on(*days).items()
    }
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        site = SiteWithServer(make_site(files, MAIL), server, postroom)
        options = "--confirmed --frequency post --from 2026-01-01 reader@example.com"
        assert postroom(site.folder, "subscribers", "add", *options.split(), at=AT).code == 0
        assert site.send(at=AT).code == 0
        (sent,) = server.messages
    text = sent.replace(b"=\r\n", b"").decode()
    assert "January 5, 2026 =E2=80=93 January 20, 2026" in text
    assert f"{SITE}digest/2026-01/" in text
