"""Read `postroom.yaml` as a `Site`, or report every error in it."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin
from zoneinfo import ZoneInfo

from postroom.errors import Problem, SettingsError
from postroom.models import (
    FORMATS,
    Contact,
    DigestSettings,
    FeedSettings,
    MailSettings,
    PageSettings,
    Severity,
    Site,
    ThemeSettings,
)
from postroom.rules import RULES
from postroom.settings import paths, validation
from postroom.settings.validation import ValidationError, error_at
from postroom.settings.yaml_reader import MapNode, Node, ScalarNode, YamlError, parse

FILE_NAME = "postroom.yaml"
LIMIT = 64 * 1024
PERMALINK_FIELDS = ("year", "month", "day", "slug", "path")


def find_site(start: Path) -> Path:
    """Return the nearest folder, `start` or one above it, that holds `postroom.yaml`.

    Raises `SettingsError` if there is none.
    """
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    message = "is neither in this folder nor in one above it"
    hint = "change to the folder of a site, or create one with: postroom init my-news"
    raise SettingsError([Problem(FILE_NAME, message=message, hint=hint)])


def load_settings(site_dir: Path) -> Site:
    """Read and check the settings of the site in the folder `site_dir`.

    Raises `SettingsError` with every error.
    """
    try:
        data = (site_dir / FILE_NAME).read_bytes()
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        message, hint = f"cannot be read: {reason}", "replace it with a file that can be read"
        raise SettingsError([Problem(FILE_NAME, message=message, hint=hint)]) from None
    site = parse_settings(data)
    if problems := list(_misplaced(site_dir, site, data)):
        raise SettingsError(problems)
    return site


def _misplaced(site_dir: Path, site: Site, data: bytes) -> Iterator[Problem]:
    """Yield a problem for each folder in the settings that is a link to a forbidden place."""
    if message := paths.astray(site_dir, site_dir / site.posts):
        yield path_problem(data, "posts", site.posts, message, _INSIDE.format("posts"))
    if message := paths.output_fault(site_dir, site_dir / site.output, sources(site)):
        yield path_problem(data, "output", site.output, message, OUTPUT_HINT)


def path_problem(data: bytes, key: str, path: str, message: str, hint: str) -> Problem:
    """Return a problem with `path`, which is the value of the setting `key`.

    `data` are the bytes of `postroom.yaml`, in which the line of the value is found.
    """
    return Problem(FILE_NAME, *_place(data, key), key, f"'{path}' {message}", hint)


def _place(data: bytes, key: str) -> tuple[int, int]:
    """Return line and column of the value of `key`, such as `theme.logo`, or zeros if absent."""
    node = parse(data.decode("utf-8-sig"), limit=LIMIT)
    for name in key.split("."):
        if not isinstance(node, MapNode) or name not in node.pairs:
            return 0, 0
        node = node.pairs[name][1]
    return node.line, node.column


def sources(site: Site) -> tuple[str, ...]:
    """Return the folders of a site that must not contain the output folder.

    If the folder of the posts is the site itself, it is left out: it may contain the output folder,
    which is not read as posts.
    """
    return ("templates",) if site.posts == "." else (site.posts, "templates")


def parse_settings(data: bytes) -> Site:
    """Parse `data`, the bytes of a `postroom.yaml`.

    Raises `SettingsError` with every error.
    """
    try:
        return _SITE(parse(data.decode("utf-8-sig"), limit=LIMIT))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem(FILE_NAME, line, message="is not UTF-8 text", hint="save it as UTF-8")
        raise SettingsError([problem]) from None
    except YamlError as fault:
        problem = Problem(
            FILE_NAME, fault.line, fault.column, message=fault.message, hint=fault.hint
        )
        raise SettingsError([problem]) from None
    except ValidationError as error:
        raise SettingsError(
            Problem(FILE_NAME, f.line, f.column, f.key, f.message, f.hint) for f in error.faults
        ) from None


def key_lines(site_dir: Path) -> Mapping[str, int]:
    """Return the line of each first-level key of the settings in `site_dir`."""
    text = (site_dir / FILE_NAME).read_bytes().decode("utf-8-sig")
    node = parse(text, limit=LIMIT)
    return (
        {name: key.line for name, (key, _) in node.pairs.items()}
        if isinstance(node, MapNode)
        else {}
    )


def _site_url(node: Node) -> str:
    value = validation.web_address(node)
    if "?" in value or "#" in value:
        raise error_at(node, "write it without '?' and '#'")
    # In the form of all URLs that are joined to it: a lower-case scheme, no dot segments.
    return urljoin(value if value.endswith("/") else value + "/", ".")


def _timezone(node: Node) -> ZoneInfo:
    name = validation.text(node)
    try:
        # IANA names begin with a capital; `localtime` differs between machines.
        if name[:1].isupper():
            return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        pass
    raise error_at(node, f"write an IANA name such as Europe/Berlin{_zone_like(name)}")


def _zone_like(name: str) -> str:
    zones = sorted(zone for zone in zoneinfo.available_timezones() if zone[0].isupper())
    ending = "/" + name.replace(" ", "_").casefold()
    cities = [zone for zone in zones if zone.casefold().endswith(ending)]
    return validation.did_you_mean(cities[0] if cities else name, zones)


_INSIDE = "write a folder inside the site, such as {}"
IMAGE_HINT = "write an image inside the site, such as logo.svg"
OUTPUT_HINT = "write into a folder of its own, such as public"


def _path(node: Node, hint: str) -> str:
    value = validation.text(node)
    path = PurePosixPath(value)
    if not value or value[0] in "/~" or ".." in path.parts or "\\" in value:
        raise error_at(node, hint)
    if message := paths.hidden(str(path)):
        raise error_at(node, hint, f"'{value}' {message}")
    return str(path)


def _posts(node: Node) -> str:
    return _path(node, _INSIDE.format("posts"))


def _output(node: Node) -> str:
    hint = _INSIDE.format("public")
    if (path := _path(node, hint)) == ".":
        raise error_at(node, hint)
    return path


def _logo(node: Node) -> str:
    if (path := _path(node, IMAGE_HINT)) == ".":
        raise error_at(node, IMAGE_HINT)
    if not path.lower().endswith(paths.IMAGES):
        raise error_at(node, IMAGE_HINT, f"'{path}' {paths.NO_IMAGE}")
    return path


_phone_text = validation.matching(
    r"\+[0-9][0-9 ()./-]*", "write it with + and the country code, such as +86 180 7235 8327"
)


def _phone(node: Node) -> str:
    value = _phone_text(node)
    # ITU-T E.164 §6: at most 15 digits.
    if not 7 <= sum(character.isdigit() for character in value) <= 15:
        raise error_at(node, "write 7 to 15 digits, with + and the country code")
    return value


_ADDRESS = r"[^@\s<>\"(),:;\[\]\\]+@[^@\s<>\"(),:;\[\]\\]+\.[^@\s<>\"(),:;\[\]\\.]+"
_email = validation.matching(_ADDRESS, "write an email address such as news@example.com")
_mailbox = validation.matching(
    rf"{_ADDRESS}|[^<>]*<{_ADDRESS}>", "write Example News <news@example.com>"
)


def _message(node: Node) -> str:
    value = validation.text(node)
    local = value.startswith("/") and not value.startswith("//")
    if local and validation.is_web_address(f"https://example.com{value}"):
        return value
    if validation.is_web_address(value):
        return value
    if re.fullmatch(rf"mailto:{_ADDRESS}", value.partition("?")[0]) and validation.is_uri(value):
        return value
    raise error_at(node, "write mailto:news@example.com, an https:// URL or /list/message")


def _postal(node: Node) -> str:
    if not isinstance(node, ScalarNode):
        raise error_at(node, "write the postal address as text")
    return "\n".join(line.strip() for line in node.text.strip().splitlines())


def _permalink(node: Node) -> str:
    value = validation.text(node)
    names = re.findall(r"\{([^{}]*)\}", value)
    if not value.startswith("/") or not value.endswith(("/", ".html")):
        raise error_at(node, "begin it with / and end it with / or .html")
    if unknown := [name for name in names if name not in PERMALINK_FIELDS]:
        fields = ", ".join(f"{{{name}}}" for name in PERMALINK_FIELDS)
        raise error_at(node, f"use {fields}", f"found {{{unknown[0]}}}")
    if not {"slug", "path"} & set(names):
        raise error_at(node, "add {slug} or {path}, so that each post has its own URL")
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", re.sub(r"\{[a-z]+\}", "", value)):
        raise error_at(node, "use letters, digits, '-', '_', '/' and the fields")
    if "//" in value or {".", ".."} & set(value.split("/")):
        raise error_at(node, "write it without '//', '/./' and '/../'")
    if message := paths.hidden_in_public(value):
        raise error_at(node, "write it without names that begin with '.'", f"'{value}' {message}")
    return value


_FORMAT_KEYS = tuple(form.key for form in FORMATS)


def _content(node: Node) -> dict[str, str]:
    read = validation.one_of("full", "summary")
    if isinstance(node, ScalarNode):
        return dict.fromkeys(_FORMAT_KEYS, read(node))
    return validation.struct(dict, dict.fromkeys(_FORMAT_KEYS, read))(node)


def _mail(**values: Any) -> MailSettings:  # noqa: ANN401 - validators gave them their types
    return MailSettings(sender=values.pop("from", ""), **values)


_CONTACT = validation.struct(
    Contact,
    {
        "name": validation.text,
        "organization": validation.text,
        "phone": _phone,
        "tel": _phone,
        "email": _email,
        "address": _postal,
        "message": _message,
    },
)
_font = validation.matching(r"[\w ,'\"-]+", "write names of fonts, such as Georgia, serif")


_THEME = validation.struct(
    ThemeSettings, {"accent": validation.colour, "font": _font, "logo": _logo}
)
_PAGES = validation.struct(PageSettings, {"enabled": validation.boolean, "permalink": _permalink})
_FEEDS = validation.struct(
    FeedSettings,
    {
        "entries": validation.number(1, 200),
        "content": _content,
        "formats": validation.list_of(validation.one_of(*_FORMAT_KEYS)),
        "topics": validation.boolean,
        "languages": validation.boolean,
        "history": validation.boolean,
        "hub": validation.web_address,
        "license": validation.web_address,
        "rights": validation.text,
    },
)
_DIGEST = validation.struct(
    DigestSettings,
    {
        "every": validation.one_of("day", "week", "month"),
        "offer": validation.list_of(validation.one_of("post", "day", "week", "month")),
        "send_at": validation.matching(
            r"([01][0-9]|2[0-3]):[0-5][0-9]", 'write a time such as "09:00"'
        ),
        "subject": validation.text,
        "intro": validation.text,
        "welcome": validation.boolean,
    },
)
_MAIL = validation.struct(
    _mail,
    {
        "from": _mailbox,
        "reply_to": _mailbox,
        "bounces": _email,
        "unsubscribe": validation.web_address,
        "rate": validation.number(1, 100_000),
        "connections": validation.number(1, 100),
        "per_connection": validation.number(0, 1_000_000),
        "dkim_selector": validation.matching(r"[A-Za-z0-9_.-]+", "write the selector's name"),
    },
)
_severity = validation.one_of("off", "warning", "error")
_CHECKS: validation.Validator[dict[str, Severity]] = validation.struct(
    dict, dict.fromkeys(RULES, _severity)
)
_SITE = validation.struct(
    Site,
    {
        "title": validation.non_empty,
        "url": _site_url,
        "id": validation.uri,
        "language": validation.language,
        "timezone": _timezone,
        "description": validation.text,
        "posts": _posts,
        "output": _output,
        "topics": validation.list_of(validation.non_empty),
        "theme": _THEME,
        "checks": _CHECKS,
        "contact": _CONTACT,
        "feeds": _FEEDS,
        "pages": _PAGES,
        "digest": _DIGEST,
        "mail": _MAIL,
    },
    required=("title", "url", "id", "language", "timezone"),
)
