"""The progress of a run: a bar on a terminal, lines elsewhere, and the final rate."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from attrs import define, field

from postroom.cli import progress
from tests.support.processes import Process
from tests.support.sending import SEND, MakeRoom, Room, surroundings
from tests.support.smtp_server import Scripted, scripted

pytestmark = pytest.mark.slow  # the tests observe real runs
_PIECE = re.compile(r"\x1b\[(?P<numbers>[0-9;?]*)(?P<letter>[A-Za-z])|[\r\n]|[^\x1b\r\n]+")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PROGRESS = re.compile(
    r"(?P<done>\d+) of 30, (?P<rate>\d+\.\d) a second(?:, (?P<left>\d+\.\d) s left)?"
)


@define
class Screen:
    """A terminal of 80 columns: the bytes written to it and its visible rows."""

    written: bytes = b""
    rows: list[str] = field(factory=lambda: [""])
    row: int = 0
    column: int = 0
    shows_cursor: bool = True

    def read(self) -> Screen:
        """Draw the written bytes on the screen."""
        for piece in _PIECE.finditer(self.written.decode()):
            self._put(piece)
        return self

    def _put(self, piece: re.Match[str]) -> None:
        text = piece[0]
        if text == "\r":
            self.column = 0
        elif text == "\n":
            self.row, self.column = self.row + 1, 0
            self.rows += [""] * (self.row + 1 - len(self.rows))
        elif piece["letter"]:
            self._obey(piece["numbers"], piece["letter"])
        else:
            old = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = old[: self.column] + text + old[self.column + len(text) :]
            self.column += len(text)
            assert self.column <= 80

    def _obey(self, numbers: str, letter: str) -> None:
        if letter == "A":
            self.row -= int(numbers or 1)
        elif letter == "K":
            self.rows[self.row] = "" if numbers == "2" else self.rows[self.row][: self.column]
        elif numbers == "?25":
            self.shows_cursor = letter == "h"
        else:
            assert letter == "m", f"unexpected: {numbers}{letter}"


@contextmanager
def on_a_terminal(
    room: Room, server: Scripted, **extra: str
) -> Iterator[tuple[Process[bytes], Screen]]:
    """Run `send` for a block, with a terminal as standard error."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    screen = Screen()

    def listen() -> None:
        # On Linux, EIO means that the other end is closed.
        with suppress(OSError):
            while piece := os.read(ours, 4096):
                screen.written += piece

    environment = {**surroundings(server), "TERM": "xterm-256color", **extra}
    listening = threading.Thread(target=listen, daemon=True)
    try:
        with Process[bytes](
            SEND, cwd=room.folder, env=environment, stdout=subprocess.PIPE, stderr=theirs
        ) as process:
            os.close(theirs)
            listening.start()
            yield process, screen
            process.wait(60)
        listening.join(10)
    finally:
        os.close(ours)


def test_a_bar_on_a_terminal_shows_rate_and_time_left(make_room: MakeRoom) -> None:
    """The bar counts up, its numbers agree, and it is erased before the summary."""
    room = make_room(30, rate=15)
    with scripted({}) as server, on_a_terminal(room, server) as (process, screen):
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(rb"^30 emails in \d+\.\d s, \d+\.\d a second$", out, re.MULTILINE)
    reports = list(_PROGRESS.finditer(_COLOUR.sub("", screen.written.decode())))
    counts = [int(report["done"]) for report in reports]
    assert counts == sorted(counts)
    assert len(set(counts)) > 4
    # The remaining time is unknown before the first email and after the last.
    for report in (report for report in reports if 0 < int(report["done"]) < 30):
        done, rate, left = (float(report[name]) for name in ("done", "rate", "left"))
        assert left == pytest.approx((30 - done) / rate, rel=0.2, abs=0.2)
    assert "━" in screen.written.decode()
    assert _COLOUR.search(screen.written.decode())
    screen.read()
    assert "".join(screen.rows).strip() == ""
    assert screen.shows_cursor


def test_no_color_removes_colours(make_room: MakeRoom) -> None:
    """NO_COLOR shows the bar without colours."""
    room = make_room(30, rate=30)
    with scripted({}) as server, on_a_terminal(room, server, NO_COLOR="1") as (process, screen):
        process.communicate(timeout=60)
    codes = {
        part for code in _COLOUR.findall(screen.written.decode()) for part in code[2:-1].split(";")
    }
    # Bold and faint are not colours.
    assert codes <= {"", "0", "1", "2"}
    assert _PROGRESS.search(_COLOUR.sub("", screen.written.decode()))


def test_a_terminal_that_cannot_erase_gets_lines(make_room: MakeRoom) -> None:
    """A terminal with TERM=dumb receives no control characters."""
    room = make_room(5, rate=100)
    with scripted({}) as server, on_a_terminal(room, server, TERM="dumb") as (process, screen):
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert screen.written == b""


def test_the_message_after_a_signal_replaces_the_bar(make_room: MakeRoom) -> None:
    """The message after Ctrl-C is on its own line, and the bar is erased."""
    room = make_room(30, rate=10)
    with scripted({}) as server, on_a_terminal(room, server) as (process, screen):
        deadline = time.monotonic() + 30
        while not _PROGRESS.search(_COLOUR.sub("", screen.written.decode("utf-8", "replace"))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    message = "finishing the emails in flight; interrupt again to stop at once"
    assert [row.strip() for row in screen.read().rows if row.strip()] == [message]


@pytest.fixture
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print a line every 0.2 seconds."""
    monkeypatch.setattr(progress, "_LINE_INTERVAL", 0.2)


@pytest.mark.usefixtures("short_interval")
def test_a_log_gets_lines(make_room: MakeRoom) -> None:
    """Each line of a log is complete and has the numbers of the bar; the summary is last."""
    room = make_room(30, rate=20)
    with scripted({}) as server:
        outcome = room.send(server)
    reports = [_PROGRESS.fullmatch(line) for line in outcome.err.splitlines()]
    assert len(reports) >= 3
    assert all(reports)
    assert outcome.out.splitlines()[0] == "30 emails to send"
    assert re.fullmatch(r"30 emails in \d+\.\d s, \d+\.\d a second", outcome.out.splitlines()[1])


def test_a_short_run_prints_no_progress(make_room: MakeRoom) -> None:
    """A run shorter than ten seconds prints only the summary."""
    room = make_room(5, rate=20)
    with scripted({}) as server:
        outcome = room.send(server)
    assert outcome.err == ""


def test_the_final_rate_is_correct(make_room: MakeRoom) -> None:
    """The final rate is the number of emails divided by the duration."""
    room = make_room(21, rate=20)
    with scripted({}) as server:
        outcome = room.send(server)
    found = re.search(r"^21 emails in (\d+\.\d) s, (\d+\.\d) a second$", outcome.out, re.MULTILINE)
    assert found
    assert float(found[2]) == pytest.approx(21 / float(found[1]), rel=0.1)
