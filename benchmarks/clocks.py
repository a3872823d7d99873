"""Run `postroom` with timers around a few of its methods, for `send.py`.

    python benchmarks/clocks.py FILE send …

Adds one line of JSON to FILE: by name the number of calls, and the seconds that they took of the
processor and of the clock on the wall, in all threads together.
"""

from __future__ import annotations

import functools
import importlib
import json
import runpy
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SEAMS = (
    ("a message is made", "postroom.newsletter.personalize", "PreparedIssue", "message"),
    ("SMTP", "postroom.smtp.connection", "SmtpConnection", "begin"),
    ("SMTP", "postroom.smtp.connection", "SmtpConnection", "advance"),
    ("waiting for answers", "selectors", "DefaultSelector", "select"),
    ("ledger", "postroom.db.deliveries", "DeliveryTable", "record_and_claim"),
    ("ledger", "postroom.db.deliveries", "DeliveryTable", "record"),
    ("  of it, the database", "sqlalchemy.engine.default", "DefaultDialect", "do_execute"),
    ("  of it, the database", "sqlalchemy.engine.default", "DefaultDialect", "do_executemany"),
    ("  of it, the disk", "sqlalchemy.engine.default", "DefaultDialect", "do_commit"),
)


class Clocks:
    """The time spent in some methods, of the processor and of the clock on the wall, by name."""

    def __init__(self) -> None:
        self.spent = {name: [0.0, 0.0, 0.0] for name, *_ in SEAMS}
        self._lock = threading.Lock()

    def wind_up(self) -> None:
        """Put a clock around each of `SEAMS`."""
        for name, module, owner, method in SEAMS:
            class_ = getattr(importlib.import_module(module), owner)
            setattr(class_, method, self._timed(name, getattr(class_, method)))

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def timed(*args: object, **options: object) -> object:
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
                with self._lock:
                    totals = self.spent[name]
                    totals[:] = totals[0] + 1, totals[1] + cpu, totals[2] + wall

        return timed


def run(target: Path, words: Sequence[str]) -> None:
    """Run `postroom` with these arguments and timers; append the totals to `target`."""
    clocks = Clocks()
    clocks.wind_up()
    sys.argv = ["postroom", *words]
    try:
        runpy.run_module("postroom", run_name="__main__", alter_sys=True)
    finally:
        with target.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clocks.spent) + "\n")


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
