"""A length of time on the command line."""

from __future__ import annotations

import re
from datetime import timedelta

import click

from postroom.errors import Problem, UseError

_FORM = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class Duration(click.ParamType[timedelta]):
    """Minutes, hours or days of 24 hours, such as 90m, 6h or 2d."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, _ctx: click.Context | None
    ) -> timedelta:
        """Return the length that `value` writes; raises `UseError`."""
        if isinstance(value, timedelta):
            return value
        found = _FORM.fullmatch(str(value))
        if found is None:
            where = param.opts[0] if param else ""
            what, repair = f"'{value}' is no length of time", "write 90m, 6h or 2d"
            raise UseError([Problem(where, what=what, repair=repair)])
        return int(found[1]) * _UNITS[found[2]]
