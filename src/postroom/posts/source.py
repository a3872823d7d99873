"""Read the files below `posts/`: the source of each post, and its attachments."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date as calendar_date
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import imagesize
from attrs import Factory, evolve, field, frozen

from postroom.errors import Problem
from postroom.markdown.anchors import own_id
from postroom.markdown.plaintext import first_heading
from postroom.media_types import may_run_scripts, media_type
from postroom.models import Attachment, Site
from postroom.posts import front_matter
from postroom.posts.front_matter import FrontMatter, WrittenDate, day_of, instant_of, start_of
from postroom.settings import paths
from postroom.settings.validation import is_web_address, normalize_url
from postroom.settings.yaml_reader import forbidden_characters, line_and_column
from postroom.text import slugify

# Traces of programs that wrote the text. NUL is none: with it the file is probably no text.
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f]")
_MOST_NAMED = 20
_SUFFIXES = (".md", ".markdown")


@frozen
class SourceFolder:
    """The files below `posts/`, keyed by their paths relative to it, with forward slashes."""

    texts: Mapping[str, bytes]
    sizes: Mapping[str, int] = Factory(dict)
    problems: tuple[Problem, ...] = ()
    root: Path = Path()
    _by_form: Mapping[str, str] = field(init=False, repr=False)

    @_by_form.default
    def _paths_by_form(self) -> Mapping[str, str]:
        return {_one_form(path): path for path in (*self.texts, *self.sizes)}

    def find(self, path: str) -> str:
        """Return the path of the file that `path` names, or `path` itself if there is none.

        The two may differ in their Unicode form: macOS writes `é` as two characters (UAX 15).
        """
        return self._by_form.get(_one_form(path), path)

    def pixels(self, path: str) -> tuple[int, int]:
        """Return width and height of the image at `path`, or zeros if they cannot be read."""
        if not media_type(path).startswith("image/"):
            return 0, 0
        try:
            width, height = imagesize.get(self.root / path)
        except (OSError, ValueError):
            return 0, 0
        return max(0, int(width)), max(0, int(height))

    def may_run_scripts(self, path: str) -> bool:
        """Tell whether a browser that opens the file at `path` may run a script of the file."""
        try:
            data = (self.root / path).read_bytes() if media_type(path).endswith("xml") else b""
        except OSError:
            return False
        return may_run_scripts(path, data)


def _one_form(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def scan_folder(site_dir: Path, posts: str, output: str = "") -> SourceFolder:
    """Read the files below the folder `posts`, except those below `output`.

    Symbolic links to hidden files or to files outside the site are problems, and so are files
    whose names differ only in case or in the Unicode form.
    """
    texts: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    problems: list[Problem] = []
    root = site_dir / posts
    if not root.is_dir():
        hint = "create it, or set posts: in postroom.yaml"
        return SourceFolder({}, problems=(Problem(posts, message="is not a folder", hint=hint),))
    for path in sorted(_files(root, _excluded_paths(site_dir, root, output), problems)):
        try:
            if reason := _unfit_reason(root / path, site_dir):
                problems.append(_unreadable(path, reason))
            elif path.lower().endswith(_SUFFIXES):
                texts[path] = (root / path).read_bytes()
            else:
                sizes[path] = (root / path).stat().st_size
        except OSError as error:
            problems.append(_unreadable(path, _reason(error)))
    problems += _equal_names(sorted((*texts, *sizes)))
    named = (evolve(each, path=paths.below(posts, each.path)) for each in problems)
    return SourceFolder(texts, sizes, tuple(named), root)


def _equal_names(names: Iterable[str]) -> Iterator[Problem]:
    """Yield a problem for each file that the checkout of another machine would overwrite."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(_one_form(name).casefold(), name)
        if other != name:
            differs = (
                "case" if _one_form(other) != _one_form(name) else "the form of its characters"
            )
            message = f"differs from '{other}' only in {differs}"
            yield Problem(name, message=message, hint="rename one of them")


def _excluded_paths(site_dir: Path, root: Path, output: str) -> frozenset[str]:
    """Return the paths, below `root`, of the output folder, which is not read as posts.

    If the output folder is a symbolic link, the path of its target is returned, too.
    """
    if not output:
        return frozenset()
    home, real = os.path.realpath(site_dir), os.path.realpath(root)
    places = (posixpath.join(home, output), os.path.realpath(site_dir / output))
    return frozenset(posixpath.relpath(place, real) for place in places)


def _files(root: Path, excluded: Collection[str], problems: list[Problem]) -> Iterator[str]:
    """Yield the path of each file below `root`; add unreadable folders to `problems`."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            problems.append(_unreadable(folder, _reason(error)))
            continue
        for entry in entries:
            path = posixpath.join(folder, entry.name)
            if entry.name.startswith((".", "_")) or path in excluded:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            else:
                yield path


def _unfit_reason(path: Path, site_dir: Path) -> str:
    """Return why the file at `path` must not be read, or an empty string if it may be read."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    # Hidden files, such as the database and those of git, are private.
    if path.is_symlink() and (fault := paths.astray(site_dir, path)):
        return fault
    return "" if stat.S_ISREG(path.stat().st_mode) else "is not a file"


def _reason(error: OSError) -> str:
    return f"cannot be read: {(error.strerror or 'unknown error').lower()}"


def _unreadable(path: str, message: str) -> Problem:
    return Problem(path, message=message, hint="replace it with a file that can be read")


_DATED_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[-_ ]+(.+))?")


@frozen
class SourcePost:
    """The source of a post: its front matter, its body, and values derived from these.

    `path` is relative to `posts/`. `instant` is the instant of the date of the post. The post is
    visible from `begins` until `ends`, or without end if `ends` is None.
    """

    path: str
    head: FrontMatter
    body: str
    body_line: int
    title: str
    id: str
    slug: str
    date: WrittenDate
    instant: datetime
    day: calendar_date
    url: str
    begins: datetime
    ends: datetime | None

    def has_expired(self, at: datetime) -> bool:
        """Tell whether the post has expired at the instant `at`."""
        return self.ends is not None and self.ends <= at


@frozen
class PostProblems:
    """The errors and warnings of all posts."""

    root: str
    errors: list[Problem] = field(factory=list)
    warnings: list[Problem] = field(factory=list)

    def name(self, path: str) -> str:
        """Return the path of a post, relative to the site."""
        return paths.below(self.root, path)

    def error(self, source: SourcePost, key: str, message: str, hint: str) -> None:
        """Add an error in the front matter of a post, on the line of its key."""
        line = source.head.lines.get(key, 1)
        self.errors.append(Problem(self.name(source.path), line, 0, key, message, hint))

    def warn_missing_id(self, path: str, post_id: str) -> None:
        """Add a warning that the post at `path` has no id of its own and uses `post_id`."""
        hint = f'add id: "{post_id}"'
        problem = Problem(self.name(path), 1, 0, "id", "is missing", hint, rule="post-id")
        self.warnings.append(problem)


def parse_post(path: str, data: bytes, site: Site, report: PostProblems) -> SourcePost | None:
    """Return the post at `path` with the content `data`; if it has errors, report them instead."""
    name = report.name(path)
    text = _decode(data, name, report)
    if text is None:
        return None
    parts = front_matter.split_post(text)
    if parts is None:
        report.errors.append(
            Problem(name, 1, key="front matter", message="is never closed", hint="end it with ---")
        )
        return None
    head = FrontMatter()
    if parts.head is not None:
        head, errors, warnings = front_matter.parse_front_matter(parts.head, name)
        report.errors.extend(errors)
        report.warnings.extend(warnings)
        if errors:
            return None
    return _make_source(path, head, parts, site, report)


def _decode(data: bytes, name: str, report: PostProblems) -> str | None:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02X} is not UTF-8"
        report.errors.append(Problem(name, line, message=message, hint="save the file as UTF-8"))
        return None
    dropped = 0
    for offset, character in forbidden_characters(text):
        line, column = line_and_column(offset, text)
        if not _CONTROL.match(text, offset):
            message = f"found the character {character}, which no feed can hold"
            report.errors.append(Problem(name, line, column, message=message, hint="delete it"))
            return None
        dropped += 1
        if dropped <= _MOST_NAMED:
            message = f"the character {character} is left out, because no feed can hold it"
            problem = Problem(name, line, column, "", message, "delete it", "post-character")
            report.warnings.append(problem)
    return _CONTROL.sub("", text) if dropped else text


def _make_source(
    path: str, head: FrontMatter, parts: front_matter.PostText, site: Site, report: PostProblems
) -> SourcePost | None:
    name = report.name(path)
    stem = posixpath.splitext(posixpath.basename(path))[0]
    dated = _DATED_NAME.fullmatch(stem)
    heading, rest = first_heading(parts.body)
    title = head.title or heading
    moment = head.date or _date_from_name(dated, name, report)
    slug = head.slug or slugify((dated and dated[2]) or stem)
    for key, found, hint in (
        ("title", title, "add title: …, or begin the text with '# Title'"),
        ("date", moment or dated, f"add date: …, or name the file 2026-11-22-{stem}.md"),
        ("slug", slug, "add slug: …, in letters, digits and hyphens"),
    ):
        if not found:
            report.errors.append(Problem(name, 1, key=key, message="is missing", hint=hint))
    if not (title and moment and slug):
        return None
    post_id = head.id or derived_id(site, path)
    if not head.id:
        report.warn_missing_id(path, post_id)
    instant = instant_of(moment, post_id, site)
    day = day_of(moment, instant, site)
    return SourcePost(
        path=path,
        head=head,
        body=rest if title == heading else parts.body,
        body_line=parts.body_line,
        title=title,
        id=post_id,
        slug=slug,
        date=moment,
        instant=instant,
        day=day,
        url=urljoin(site.url, _permalink(site, slug, day, path)),
        begins=max(start_of(each, site) for each in (moment, *head.publish_dates)),
        ends=min((start_of(each, site) for each in head.expiry_dates), default=None),
    )


def derived_id(site: Site, path: str) -> str:
    """Return the id of a post without an `id` of its own, made from its `path` below `posts/`."""
    return site.id + quote(path)


def _date_from_name(
    dated: re.Match[str] | None, name: str, report: PostProblems
) -> WrittenDate | None:
    if not dated:
        return None
    try:
        day = calendar_date.fromisoformat(dated[1])
        if day.year in front_matter.YEARS:
            return WrittenDate(day)
    except ValueError:
        pass
    message = f"found {dated[1]} in the file's name"
    hint = f"use a real date, from {front_matter.YEARS[0]} to {front_matter.YEARS[-1]}"
    report.errors.append(Problem(name, key="date", message=message, hint=hint))
    return None


def _permalink(site: Site, slug: str, day: calendar_date, path: str) -> str:
    stem = posixpath.splitext(path)[0]
    segments = (slugify(segment) for segment in stem.split("/"))
    filled = site.pages.permalink.format(
        year=f"{day.year:04}",
        month=f"{day.month:02}",
        day=f"{day.day:02}",
        slug=slug,
        path="/".join(segments),
    )
    return quote(filled.lstrip("/"))


def _with_fragment(url: str, fragment: str) -> str:
    return f"{url}#{fragment}" if fragment else url


@frozen
class Attachments:
    """Resolves the URLs in a post, and finds its attachments.

    An attachment is a file that a URL in the post names. `found` collects them by their paths.
    """

    post: SourcePost
    urls: Mapping[str, str]
    folder: SourceFolder
    site: Site
    found: dict[str, Attachment] = field(factory=dict)

    def resolve(self, url: str) -> str:
        """Return `url` as an absolute URL.

        If `url` names a file beside the post, that file becomes an attachment. If `url` names the
        file of another post, the URL of that post is returned. Links to ids in posts lead to the
        ids that these have on pages.
        """
        try:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or parts.path.startswith("/"):
                return urljoin(self.post.url, url)
        except ValueError:
            return self.post.url
        if not parts.path:
            return urljoin(self.post.url, parts._replace(fragment=own_id(parts.fragment)).geturl())
        path = self.folder.find(
            posixpath.normpath(
                posixpath.join(posixpath.dirname(self.post.path), unquote(parts.path))
            )
        )
        if path in self.urls:
            return _with_fragment(self.urls[path], own_id(parts.fragment))
        if path in self.folder.sizes:
            return _with_fragment(self._attach(path), parts.fragment)
        return urljoin(self.post.url, url)

    def fetchable(self, url: str) -> str:
        """Return `url` as an absolute http or https URL, or an empty string if that is impossible.

        A relative path must name a file beside the post. Characters beyond ASCII are
        percent-encoded (RFC 3987 §3.1).
        """
        absolute = normalize_url(self.resolve(url))
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|/", url) and not self._paths(absolute):
            return ""
        return absolute if is_web_address(absolute) else ""

    def _attach(self, path: str) -> str:
        if path not in self.found:
            below = posixpath.relpath(path, posixpath.dirname(self.post.path) or ".")
            if below.startswith(".."):
                mark = hashlib.sha256(path.encode()).hexdigest()[:8]
                below = f"{mark}-{posixpath.basename(path)}"
            place = self.post.url.removeprefix(self.site.url).removesuffix(".html").rstrip("/")
            output = f"{unquote(place)}/{below}"
            self.found[path] = Attachment(paths.below(self.site.posts, path), output)
        return self._url(self.found[path])

    def size(self, url: str) -> int:
        """Return the size in bytes of the attachment at `url`, or 0 if there is none."""
        return next((self.folder.sizes[path] for path in self._paths(url)), 0)

    def pixels(self, url: str) -> tuple[int, int]:
        """Return width and height of the attached image at `url`, or zeros if not known."""
        return next((self.folder.pixels(path) for path in self._paths(url)), (0, 0))

    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Return width and height in pixels of each attached image, keyed by its absolute URL."""
        sizes = {self._url(file): self.folder.pixels(path) for path, file in self.found.items()}
        return {url: size for url, size in sizes.items() if all(size)}

    def _url(self, attachment: Attachment) -> str:
        return urljoin(self.site.url, quote(attachment.output))

    def _paths(self, url: str) -> list[str]:
        return [path for path, file in self.found.items() if self._url(file) == url]
