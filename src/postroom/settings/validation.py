"""YAML nodes → checked values of our own types; all faults of a document at once.

A *reader* takes a node and returns a value, or raises `Faults`. Readers are built from readers, so
the shape of a settings section reads as one table (see `config`), and every message names the
place, the key, what was found and what to write instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

from attrs import evolve, frozen

from postroom.contrast import is_colour
from postroom.settings.yaml_reader import ListNode, MapNode, Node, ScalarNode

T = TypeVar("T")
Reader: TypeAlias = Callable[[Node], T]


@frozen
class ValidationFault:
    """One value that cannot be taken, and where it stands."""

    line: int
    column: int
    message: str
    hint: str
    key: str = ""


class ValidationError(Exception):
    """Everything that is wrong below one node."""

    def __init__(self, faults: Iterable[ValidationFault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)

    def under(self, key: str) -> list[ValidationFault]:
        """Return the faults with `key` put before their own keys."""
        return [evolve(f, key=f"{key}.{f.key}" if f.key else key) for f in self.faults]


def error_at(node: Node, repair: str, what: str = "") -> ValidationError:
    """Return the exception that says what was found at `node` and what to write."""
    return ValidationError(
        [ValidationFault(node.line, node.column, what or f"found {_shown(node)}", repair)]
    )


def _shown(node: Node) -> str:
    if isinstance(node, ScalarNode):
        text = " ".join(node.text.split())
        text = text if len(text) <= 60 else text[:59] + "…"
        return f"'{text}'" if text else "nothing"
    return "a list" if isinstance(node, ListNode) else "a mapping"


def text(node: Node) -> str:
    """Read one line of text; line breaks and runs of blanks become single blanks."""
    if not isinstance(node, ScalarNode):
        raise error_at(node, "write one line of text")
    return " ".join(node.text.split())


def non_empty(node: Node) -> str:
    """Read a text that is not empty."""
    if not (value := text(node)):
        raise error_at(node, "write some text")
    return value


def matching(pattern: str, repair: str) -> Reader[str]:
    """Return a reader of texts that match `pattern` as a whole."""
    compiled = re.compile(pattern)

    def read(node: Node) -> str:
        value = text(node)
        if not compiled.fullmatch(value):
            raise error_at(node, repair)
        return value

    return read


def boolean(node: Node) -> bool:
    """Read true or false, in the words of YAML 1.1 and 1.2."""
    value = text(node).casefold()
    if value in {"true", "yes", "on"}:
        return True
    if value in {"false", "no", "off"}:
        return False
    raise error_at(node, "write true or false")


def number(lowest: int, highest: int) -> Reader[int]:
    """Return a reader of whole numbers from `lowest` to `highest`."""

    def read(node: Node) -> int:
        value = text(node)
        if re.fullmatch(r"[0-9]{1,12}", value) and lowest <= int(value) <= highest:
            return int(value)
        raise error_at(node, f"write a whole number from {lowest} to {highest}")

    return read


def one_of(*words: str) -> Reader[str]:
    """Return a reader of one of `words`."""

    def read(node: Node) -> str:
        value = text(node)
        if value not in words:
            raise error_at(node, f"write {either(words)}{did_you_mean(value, words)}")
        return value

    return read


def either(words: tuple[str, ...]) -> str:
    """Return `one, two or three`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def list_of(read_one: Reader[T]) -> Reader[tuple[T, ...]]:
    """Return a reader of a list; one scalar alone counts as a list of one."""

    def read(node: Node) -> tuple[T, ...]:
        if isinstance(node, MapNode):
            raise error_at(node, "write a list: [one, two]")
        nodes = node.values if isinstance(node, ListNode) else (node,)
        values: list[T] = []
        faults: list[ValidationFault] = []
        for index, item in enumerate(nodes):
            try:
                values.append(read_one(item))
            except ValidationError as error:
                faults += (
                    error.under(str(index + 1)) if isinstance(node, ListNode) else error.faults
                )
        if faults:
            raise ValidationError(faults)
        return tuple(dict.fromkeys(values))

    return read


def struct(
    make: Callable[..., T], readers: Mapping[str, Reader[Any]], required: tuple[str, ...] = ()
) -> Reader[T]:
    """Return a reader of a mapping with these keys, given to `make` as keyword arguments.

    A key without a value counts as not written. Keys that are not known are faults.
    """

    def read(node: Node) -> T:
        if not isinstance(node, MapNode):
            raise error_at(node, "write a mapping: key: value lines")
        values, faults = _values(node, readers)
        for key in required:
            if key not in values and not any(f.key.split(".")[0] == key for f in faults):
                faults.append(ValidationFault(node.line, 0, "is missing", f"add {key}: …", key))
        if faults:
            raise ValidationError(faults)
        return make(**values)

    return read


def _values(
    node: MapNode, readers: Mapping[str, Reader[Any]]
) -> tuple[dict[str, Any], list[ValidationFault]]:
    values: dict[str, Any] = {}
    faults: list[ValidationFault] = []
    for name, (key, value) in node.pairs.items():
        reader = readers.get(name)
        if reader is None:
            known = f"delete it{did_you_mean(name, readers)}"
            faults.append(ValidationFault(key.line, key.column, "is not a known key", known, name))
        elif not (isinstance(value, ScalarNode) and value.is_null):
            try:
                values[name] = reader(value)
            except ValidationError as error:
                faults += error.under(name)
    return values, faults


def mapping(read_value: Reader[T]) -> Reader[dict[str, T]]:
    """Return a reader of a mapping whose keys are free."""

    def read(node: Node) -> dict[str, T]:
        keys = node.pairs if isinstance(node, MapNode) else {}
        return struct(dict, dict.fromkeys(keys, read_value))(node)

    return read


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return `, or did you mean 'title'?` where one of `words` is near, else nothing."""
    near = near_match(word, words)
    return f", or did you mean '{near}'?" if near else ""


def near_match(word: str, words: Iterable[str]) -> str:
    """Return the one of `words` that `word` is probably a slip of, or nothing."""
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


# RFC 3986 §2: the characters that may stand in a URI; '#' only once.
_IN_URI = r"(?:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})"
_URI = re.compile(rf"{_IN_URI}+(?:#{_IN_URI}*)?")
# RFC 4151 §2.1
_TAG = re.compile(r"tag:[^,:]+,[0-9]{4}(-[0-9]{2}){0,2}:.*")
# RFC 8141 §2
_URN = re.compile(r"urn:[A-Za-z0-9][A-Za-z0-9-]{0,30}[A-Za-z0-9]:.+", re.IGNORECASE)


def percent_encode(address: str | bytes) -> str:
    """Return `address` with what may not stand in a URI percent-encoded (RFC 3986 §2)."""
    return quote(address, safe="%/:?#[]@!$&'()*+,;=~")


def is_uri(value: str) -> bool:
    """Tell whether `value` is a URI with a scheme (RFC 3986; `tag:`, `urn:` by their own RFCs)."""
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
    named = bool(parts.hostname) and "@" not in parts.netloc
    return parts.scheme in {"http", "https"} and named and bool(_URI.fullmatch(value))


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
        raise error_at(node, _repaired_address(value))
    return value


def _repaired_address(value: str) -> str:
    if "://" not in value and is_web_address(f"https://{value}"):
        return f"write https://{value}"
    if value.startswith(("http://", "https://")):
        if "@" in value:
            return "write it without name and password"
        if strange := re.sub(_IN_URI, "", value.replace("#", "", 1)):
            return f"write '{strange[0]}' percent-encoded, or in a host's name as punycode"
    return "write it whole, such as https://example.com/news"


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
        hyphened = re.split("[.@]", value)[0].replace("_", "-")
        example = hyphened if is_language(hyphened) else "en or en-US"
        raise error_at(node, f"write {example}")
    return value


def colour(node: Node) -> str:
    """Read a colour as CSS writes it in six digits, `#0b6b62`."""
    value = text(node)
    if not is_colour(value):
        raise error_at(node, "write a colour as '#' and six digits, in quotes, such as \"#0b6b62\"")
    return value.lower()
