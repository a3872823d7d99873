"""Which addresses elsewhere led somewhere when they were last asked, and when that was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

FRESH = 7 * 86_400
"""Seconds for which an answer holds; what led nowhere is asked again each time."""


@frozen
class Asked:
    """Addresses that led somewhere, each with the time of its answer in seconds since 1970."""

    file: Path
    well: dict[str, float] = field(factory=dict)

    def write(self) -> None:
        """Keep the answers for the next run."""
        self.file.parent.mkdir(exist_ok=True)
        staged = self.file.with_suffix(".tmp")
        staged.write_text(json.dumps(self.well, indent=0, sort_keys=True) + "\n", "utf-8")
        staged.replace(self.file)


def asked(file: Path, now: float) -> Asked:
    """Return the answers that are kept in `file` and still hold; none of a damaged one."""
    try:
        kept = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return Asked(file)
    well = kept if isinstance(kept, Mapping) else {}
    times = ((str(address), time) for address, time in well.items())
    return Asked(
        file,
        {
            address: float(time)
            for address, time in times
            if isinstance(time, (int, float)) and now - FRESH < time <= now
        },
    )
