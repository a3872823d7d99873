"""What the web is given of the world: rows, the time, and a place for its journal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attrs import frozen

from postroom.subscribe import Leavers


@frozen
class Outside:
    """`clock` tells the present, `write` takes the lines of the journal, one a call."""

    book: Leavers
    clock: Callable[[], datetime]
    write: Callable[[str], None]
