"""Validate YAML nodes and convert them to values, with all errors of a document at once.

A *validator* takes a node and returns a value, or raises `ValidationError`. Validators are built
from other validators, so that a section of the settings is one table (see `settings.site`). Every
message names the place, the key, the value that was found and what to write instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, unquote, urlsplit

from attrs import evolve, frozen

from postroom.contrast import is_colour
from postroom.settings.yaml_reader import ListNode, MapNode, Node, ScalarNode

T = TypeVar("T")
Validator: TypeAlias = Callable[[Node], T]


@frozen
class ValidationFault:
    """One invalid value and its place."""

    line: int
    column: int
    message: str
    hint: str
    key: str = ""


class ValidationError(Exception):
    """All invalid values below one node."""

    def __init__(self, faults: Iterable[ValidationFault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)

    def under(self, key: str) -> list[ValidationFault]:
        """Return the faults with `key` in front of their own keys."""
        return [evolve(f, key=f"{key}.{f.key}" if f.key else key) for f in self.faults]


def error_at(node: Node, hint: str, message: str = "") -> ValidationError:
    """Return an error at `node`; the default message names the value that was found."""
    message = message or f"found {_describe(node)}"
    return ValidationError([ValidationFault(node.line, node.column, message, hint)])


def _describe(node: Node) -> str:
    if isinstance(node, ScalarNode):
        text = " ".join(node.text.split())
        text = text if len(text) <= 60 else text[:59] + "…"
        return f"'{text}'" if text else "nothing"
    return "a list" if isinstance(node, ListNode) else "a mapping"


def text(node: Node) -> str:
    """Read one line of text; line breaks and runs of white space become single spaces."""
    if not isinstance(node, ScalarNode):
        raise error_at(node, "write one line of text")
    return " ".join(node.text.split())


def non_empty(node: Node) -> str:
    """Read a text that is not empty."""
    if not (value := text(node)):
        raise error_at(node, "write some text")
    return value


def matching(pattern: str, hint: str) -> Validator[str]:
    """Return a validator of texts that `pattern` matches in full."""
    compiled = re.compile(pattern)

    def read(node: Node) -> str:
        value = text(node)
        if not compiled.fullmatch(value):
            raise error_at(node, hint)
        return value

    return read


def boolean(node: Node) -> bool:
    """Read true or false, written in any way that YAML 1.1 or 1.2 allows."""
    value = text(node).casefold()
    if value in {"true", "yes", "on"}:
        return True
    if value in {"false", "no", "off"}:
        return False
    raise error_at(node, "write true or false")


def number(lowest: int, highest: int) -> Validator[int]:
    """Return a validator of whole numbers from `lowest` to `highest`."""

    def read(node: Node) -> int:
        value = text(node)
        if re.fullmatch(r"[0-9]{1,12}", value) and lowest <= int(value) <= highest:
            return int(value)
        raise error_at(node, f"write a whole number from {lowest} to {highest}")

    return read


def one_of(*words: str) -> Validator[str]:
    """Return a validator that accepts one of `words`."""

    def read(node: Node) -> str:
        value = text(node)
        if value not in words:
            raise error_at(node, f"write {either(words)}{did_you_mean(value, words)}")
        return value

    return read


def either(words: tuple[str, ...]) -> str:
    """Return `words` as an enumeration, such as `one, two or three`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def list_of(read_item: Validator[T]) -> Validator[tuple[T, ...]]:
    """Return a validator of a list; a scalar is a list of one item."""

    def read(node: Node) -> tuple[T, ...]:
        if isinstance(node, MapNode):
            raise error_at(node, "write a list: [one, two]")
        nodes = node.values if isinstance(node, ListNode) else (node,)
        values: list[T] = []
        faults: list[ValidationFault] = []
        for index, item in enumerate(nodes):
            try:
                values.append(read_item(item))
            except ValidationError as error:
                faults += (
                    error.under(str(index + 1)) if isinstance(node, ListNode) else error.faults
                )
        if faults:
            raise ValidationError(faults)
        return tuple(dict.fromkeys(values))

    return read


def struct(
    make: Callable[..., T], validators: Mapping[str, Validator[Any]], required: tuple[str, ...] = ()
) -> Validator[T]:
    """Return a validator of a mapping that passes its values to `make` as keyword arguments.

    A key without a value counts as absent. Unknown keys are faults.
    """

    def read(node: Node) -> T:
        if not isinstance(node, MapNode):
            raise error_at(node, "write a mapping: key: value lines")
        values, faults = _values(node, validators)
        for key in required:
            if key not in values and not any(f.key.split(".")[0] == key for f in faults):
                faults.append(ValidationFault(node.line, 0, "is missing", f"add {key}: …", key))
        if faults:
            raise ValidationError(faults)
        return make(**values)

    return read


def _values(
    node: MapNode, validators: Mapping[str, Validator[Any]]
) -> tuple[dict[str, Any], list[ValidationFault]]:
    values: dict[str, Any] = {}
    faults: list[ValidationFault] = []
    for name, (key, value) in node.pairs.items():
        validator = validators.get(name)
        if validator is None:
            hint = f"delete it{did_you_mean(name, validators)}"
            faults.append(ValidationFault(key.line, key.column, "is not a known key", hint, name))
        elif not (isinstance(value, ScalarNode) and value.is_null):
            try:
                values[name] = validator(value)
            except ValidationError as error:
                faults += error.under(name)
    return values, faults


def mapping(read_value: Validator[T]) -> Validator[dict[str, T]]:
    """Return a validator of a mapping with any keys."""

    def read(node: Node) -> dict[str, T]:
        keys = node.pairs if isinstance(node, MapNode) else {}
        return struct(dict, dict.fromkeys(keys, read_value))(node)

    return read


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return the text `, or did you mean 'title'?` if one of `words` is similar, else ""."""
    near = near_match(word, words)
    return f", or did you mean '{near}'?" if near else ""


def near_match(word: str, words: Iterable[str]) -> str:
    """Return the word among `words` that `word` probably misspells, or an empty string."""
    by_folded = {known.casefold(): known for known in words}
    near = difflib.get_close_matches(word.casefold(), by_folded, 1, 0.75)
    return by_folded[near[0]] if near else ""


def to_plain(node: Node) -> object:
    """Return the node as strings, lists and dictionaries."""
    if isinstance(node, ScalarNode):
        return node.text
    if isinstance(node, ListNode):
        return [to_plain(value) for value in node.values]
    return {name: to_plain(value) for name, (_, value) in node.pairs.items()}


# RFC 3986 §2: the characters of a URI; '#' occurs only once.
_IN_URI = r"(?:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})"
_URI = re.compile(rf"{_IN_URI}+(?:#{_IN_URI}*)?")
# RFC 4151 §2.1
_TAG = re.compile(r"tag:[^,:]+,[0-9]{4}(-[0-9]{2}){0,2}:.*")
# RFC 8141 §2
_URN = re.compile(r"urn:[A-Za-z0-9][A-Za-z0-9-]{0,30}[A-Za-z0-9]:.+", re.IGNORECASE)


# RFC 3986 §3.3: the characters of a path, query or fragment besides letters, digits and "-._".
_PUNCTUATION = "%/:?@!$&'()*+,;=~"
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_AUTHORITY = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.\-]*:)?//)([^/?#]*)")
_MAILTO = re.compile(r"mailto:[^?]*", re.IGNORECASE)
_MAIL_HOST = re.compile(r"(?<=@)[^@,]+")


def normalize_url(url: str) -> str:
    """Return `url` in the form that all output has: percent-encoded, with its host in ASCII.

    Characters that are not allowed in their place are percent-encoded (RFC 3986 §2.1, RFC 3987
    §3.1), such as brackets in a path or a second `#`. A host beyond ASCII is written as RFC 5891
    says. The result of this function is a URL that it does not change.
    """
    address, hash_, fragment = url.partition("#")
    if found := _AUTHORITY.match(address):
        begin = found[1] + _encode_authority(found[2])
    elif found := _MAILTO.match(address):
        begin = _encode(_MAIL_HOST.sub(lambda host: _encode_host(host[0]), found[0]))
    else:
        begin = ""
    rest = address[found.end() :] if found else address
    return begin + _encode(rest) + hash_ + _encode(fragment)


def _encode(part: str) -> str:
    return quote(_LONE_PERCENT.sub("%25", part), safe=_PUNCTUATION)


def _encode_authority(authority: str) -> str:
    user, at, place = authority.rpartition("@")
    host, colon, port = place.rpartition(":")
    if not port.isdecimal():
        host, colon, port = place, "", ""
    return _encode(user) + at + _encode_host(host) + colon + port


def _encode_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):  # RFC 3986 §3.2.2: an IPv6 address
        return f"[{_encode(host[1:-1])}]"
    plain = unquote(host)
    if not plain.isascii():
        # Imported here because few sites need its large tables.
        import idna  # noqa: PLC0415

        with suppress(idna.IDNAError, UnicodeError):
            return idna.encode(plain, uts46=True).decode("ascii")
    return _encode(host)


def is_uri(value: str) -> bool:
    """Tell whether `value` is a URI with a scheme (RFC 3986).

    `tag:` and `urn:` URIs must have the form that their own RFCs define.
    """
    if not _URI.fullmatch(value) or not re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:.", value):
        return False
    lowered = value.casefold()
    if lowered.startswith("tag:"):
        return bool(_TAG.fullmatch(value))
    if lowered.startswith("urn:"):
        return bool(_URN.fullmatch(value))
    return not lowered.startswith(("http:", "https:")) or is_web_address(value)


def is_web_address(value: str) -> bool:
    """Tell whether `value` is an http or https URL with a host and no password."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    has_host = bool(parts.hostname) and "@" not in parts.netloc
    return parts.scheme in {"http", "https"} and has_host and bool(_URI.fullmatch(value))


def uri(node: Node) -> str:
    """Read an absolute URI, such as an id."""
    value = text(node)
    if not is_uri(value):
        raise error_at(node, "write a URI, such as tag:example.com,2026:first-post")
    return value


def web_address(node: Node) -> str:
    """Read an http or https URL."""
    value = text(node)
    if not is_web_address(value):
        raise error_at(node, _url_hint(value))
    return value


def _url_hint(value: str) -> str:
    if "://" not in value and is_web_address(f"https://{value}"):
        return f"write https://{value}"
    if value.startswith(("http://", "https://")):
        if "@" in value:
            return "write it without user and password"
        if invalid := re.sub(_IN_URI, "", value.replace("#", "", 1)):
            return f"percent-encode '{invalid[0]}', or in a host name write it as punycode"
    return "write the whole URL, such as https://example.com/news"


_LANGUAGE = re.compile(
    r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"
)


def is_language(value: str) -> bool:
    """Tell whether `value` has the form of a language tag: language, script, region, variants.

    RFC 5646 §2.1.
    """
    return bool(_LANGUAGE.fullmatch(value))


def language(node: Node) -> str:
    """Read a language tag, such as `en-US`."""
    value = text(node)
    if not is_language(value):
        hyphenated = re.split("[.@]", value)[0].replace("_", "-")
        example = hyphenated if is_language(hyphenated) else "en or en-US"
        raise error_at(node, f"write {example}")
    return value


def colour(node: Node) -> str:
    """Read a CSS colour of six hexadecimal digits, such as `#0b6b62`."""
    value = text(node)
    if not is_colour(value):
        raise error_at(node, "write a colour as '#' and six digits, in quotes, such as \"#0b6b62\"")
    return value.lower()
