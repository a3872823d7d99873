"""Run templates with limits: a pull request may contain one that never ends or fills the memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import nodes, pass_environment
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_STEPS = 5_000_000
"""The steps of one rendering: each round of a loop is one. A page of 10,000 posts has 100,000."""
MOST_CHARACTERS = 50_000_000
"""The length of an output, and of each text on the way to it."""
_WIDEST = 10_000
# The steps of a call, which takes ten times as long as a round of a loop.
_CALL = 10
# With a width, a number of columns or of digits as an argument.
_WIDE_FILTERS = ("batch", "center", "indent", "round", "slice", "tojson", "wordwrap")
_WIDE_METHODS = frozenset("center expandtabs ljust rjust zfill".split())
_COUNTED, _BOUNDED = "_counted", "_bounded"
_LONG_NUMBER = re.compile(r"[0-9]{5}")
_FORMAT = re.compile(r"%[^a-zA-Z%]*[a-zA-Z]")
_FIELD = re.compile(r"\{[^{}]*:[^{}]*")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox in which loops, calls and the length of texts are limited."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the options of jinja2.Environment
        super().__init__(**options)
        self.steps = 0
        for name in _WIDE_FILTERS:
            self.filters[name] = _checked(self.filters[name], _require_small_arguments)
        self.filters["format"] = _checked(self.filters["format"], _require_narrow_format)
        self.filters["replace"] = _checked(self.filters["replace"], _require_short_replacement)
        self.filters |= {_COUNTED: _counted, _BOUNDED: _bounded}
        # It makes text of any length.
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse a template; its loops count their rounds, its assignments check the length."""
        template = super()._parse(source, name, filename)
        for loop in list(template.find_all(nodes.For)):
            loop.iter = _filtered(loop.iter, _COUNTED)
        for assignment in list(template.find_all(nodes.Assign)):
            assignment.node = _filtered(assignment.node, _BOUNDED)
        return template

    def count_steps(self, number: int = 1) -> None:
        """Count steps of a rendering; raise `SecurityError` beyond the limit."""
        self.steps += number
        if self.steps > MOST_STEPS:
            raise SecurityError(f"takes more than {MOST_STEPS:,} steps")

    def call(
        self,
        context: Context,
        obj: Any,  # noqa: ANN401 - anything in a template
        *args: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Call `obj` and count the call; raise `SecurityError` for arguments beyond the limits."""
        self.count_steps(_CALL)
        for value in (*args, *options.values()) if options else args:
            if isinstance(value, str) and len(value) > MOST_CHARACTERS:
                _bounded(value)
        if isinstance(obj, BuiltinMethodType) and isinstance(obj.__self__, str):
            if obj.__name__ in _WIDE_METHODS:
                _require_small_numbers((*args, *options.values()))
            elif obj.__name__ == "replace":
                _require_short_replacement(None, obj.__self__, *args)
        return super().call(context, obj, *args, **options)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401
        """Tell whether a template may read this attribute.

        Objects of Postroom are frozen and no functions or classes, so only their private names are
        hidden. This saves a tenth of the time of a build.
        """
        if type(obj).__module__.startswith("postroom."):
            return not attr.startswith("_")
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(
        self,
        context: Context,
        operator: str,
        left: Any,  # noqa: ANN401
        right: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Compute `left operator right`; raise `SecurityError` if the result may be too large."""
        if operator == "*":
            _require_short_product(left, right)
        elif operator == "**":
            _require_small_numbers((left, right), 1000)
        elif isinstance(left, str):
            _require_narrow(left, _FORMAT)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401
        """Wrap `str.format`; raise `SecurityError` for a width that is large or a variable."""
        # It is asked for each attribute that a template reads.
        if not isinstance(value, (BuiltinMethodType, MethodType)):
            return None
        wrapped = super().wrap_str_format(value)
        if wrapped:
            text = str(value.__self__)
            _require_narrow(text, _FIELD)
            if re.search(r":[^{}]*\{", text):
                raise SecurityError("formats with a width that is a variable")
        return wrapped

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Join the pieces of an output, a macro or a block."""
        found, length = [], 0
        for piece in pieces:
            length += len(piece)
            if length > MOST_CHARACTERS:
                raise SecurityError(f"makes more than {MOST_CHARACTERS:,} characters")
            found.append(piece)
        return "".join(found)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


@pass_environment
def _counted(environment: BoundedEnvironment, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        environment.count_steps()
        yield item


def _bounded(value: Any) -> Any:  # noqa: ANN401 - anything in a template
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        raise SecurityError(f"makes a text of more than {MOST_CHARACTERS:,} characters")
    return value


def _checked(function: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    """Return a filter that calls `check` with its arguments first."""

    @wraps(function)
    def checked(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        check(*args, **options)
        return function(*args, **options)

    return checked


def _require_small_arguments(*args: object, **options: object) -> None:
    # The first one is the value, or the environment for filters that need it.
    _require_small_numbers((*args[1:], *options.values()))


def _require_narrow_format(text: object, *_args: object, **_options: object) -> None:
    _require_narrow(str(text), _FORMAT)


def _require_short_replacement(
    _context: object, text: object, old: object = "", new: object = "", *_count: object
) -> None:
    found = str(text).count(str(old))
    if len(str(text)) + found * len(str(new)) > MOST_CHARACTERS:
        raise SecurityError(f"makes a text of more than {MOST_CHARACTERS:,} characters")


def _require_small_numbers(values: Iterable[object], most: int = _WIDEST) -> None:
    for value in values:
        size = len(value) if isinstance(value, str) else value
        if isinstance(size, int | float) and not -most <= size <= most:
            raise SecurityError(f"uses a number or text beyond {most:,}")


def _require_short_product(left: Any, right: Any) -> None:  # noqa: ANN401
    for items, number in ((left, right), (right, left)):
        is_product = isinstance(items, str | list | tuple) and isinstance(number, int)
        if is_product and len(items) * number > MOST_CHARACTERS:
            raise SecurityError(f"makes more than {MOST_CHARACTERS:,} characters")


def _require_narrow(text: str, placeholder: re.Pattern[str]) -> None:
    for match in placeholder.finditer(text):
        if _LONG_NUMBER.search(match[0]) or "*" in match[0]:
            raise SecurityError(f"formats with a width beyond {_WIDEST:,}")
