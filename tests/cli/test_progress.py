"""How far a run has come: a bar on a terminal, lines elsewhere, and the rate at the end."""

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
from tests.support.sending import SEND, MakeSendingSite, SendingSite, surroundings
from tests.support.smtp_server import Scripted, scripted

pytestmark = pytest.mark.slow  # a run is watched while it works
_PIECE = re.compile(r"\x1b\[(?P<numbers>[0-9;?]*)(?P<letter>[A-Za-z])|[\r\n]|[^\x1b\r\n]+")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SAID = re.compile(
    r"(?P<done>\d+) of 30, (?P<rate>\d+\.\d) a second(?:, (?P<left>\d+\.\d) s left)?"
)


@define
class Screen:
    """A terminal of 80 columns: all that was written to it, and what stands on it."""

    written: bytes = b""
    rows: list[str] = field(factory=lambda: [""])
    row: int = 0
    column: int = 0
    shows_cursor: bool = True

    def read(self) -> Screen:
        """Put on the screen what was written to it."""
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
    site: SendingSite, server: Scripted, **extra: str
) -> Iterator[tuple[Process[bytes], Screen]]:
    """Run `send` for a block with a terminal for standard error; then what it wrote is known."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    screen = Screen()

    def listen() -> None:
        # Linux says with EIO that nobody holds the other end any more.
        with suppress(OSError):
            while piece := os.read(ours, 4096):
                screen.written += piece

    environment = {**surroundings(server), "TERM": "xterm-256color", **extra}
    listening = threading.Thread(target=listen, daemon=True)
    try:
        with Process[bytes](
            SEND, cwd=site.folder, env=environment, stdout=subprocess.PIPE, stderr=theirs
        ) as process:
            os.close(theirs)
            listening.start()
            yield process, screen
            process.wait(60)
        listening.join(10)
    finally:
        os.close(ours)


def test_a_bar_on_a_terminal_tells_rate_and_time_left(make_sending_site: MakeSendingSite) -> None:
    """It counts up, its numbers agree, and nothing of it stays; the summary is no part of it."""
    site = make_sending_site(30, rate=15)
    with scripted({}) as server, on_a_terminal(site, server) as (process, screen):
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(rb"^30 emails in \d+\.\d s, \d+\.\d a second$", out, re.MULTILINE)
    told = list(_SAID.finditer(_COLOUR.sub("", screen.written.decode())))
    counts = [int(one["done"]) for one in told]
    assert counts == sorted(counts)
    assert len(set(counts)) > 4
    # Nothing can be said of the time before the first letter, nor after the last.
    for one in (one for one in told if 0 < int(one["done"]) < 30):
        done, rate, left = (float(one[name]) for name in ("done", "rate", "left"))
        assert left == pytest.approx((30 - done) / rate, rel=0.2, abs=0.2)
    assert "━" in screen.written.decode()
    assert _COLOUR.search(screen.written.decode())
    screen.read()
    assert "".join(screen.rows).strip() == ""
    assert screen.shows_cursor


def test_no_color_means_none(make_sending_site: MakeSendingSite) -> None:
    """NO_COLOR leaves the bar, without colours."""
    site = make_sending_site(30, rate=30)
    with scripted({}) as server, on_a_terminal(site, server, NO_COLOR="1") as (process, screen):
        process.communicate(timeout=60)
    codes = {
        part for one in _COLOUR.findall(screen.written.decode()) for part in one[2:-1].split(";")
    }
    # Bold and its kin are no colours.
    assert codes <= {"", "0", "1", "2"}
    assert _SAID.search(_COLOUR.sub("", screen.written.decode()))


def test_a_terminal_that_cannot_erase_gets_lines(make_sending_site: MakeSendingSite) -> None:
    """No control characters on TERM=dumb."""
    site = make_sending_site(5, rate=100)
    with scripted({}) as server, on_a_terminal(site, server, TERM="dumb") as (process, screen):
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert screen.written == b""


def test_a_signal_is_answered_in_place_of_the_bar(make_sending_site: MakeSendingSite) -> None:
    """What Ctrl-C makes it say stands on a line of its own, and the bar is gone."""
    site = make_sending_site(30, rate=10)
    with scripted({}) as server, on_a_terminal(site, server) as (process, screen):
        deadline = time.monotonic() + 30
        while not _SAID.search(_COLOUR.sub("", screen.written.decode("utf-8", "replace"))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    said = "finishing the emails in flight; interrupt again to stop at once"
    assert [row.strip() for row in screen.read().rows if row.strip()] == [said]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a line come every fifth of a second."""
    monkeypatch.setattr(progress, "_LINE_INTERVAL", 0.2)


@pytest.mark.usefixtures("often")
def test_elsewhere_a_line_now_and_then(make_sending_site: MakeSendingSite) -> None:
    """In a log each line is whole and says the same as the bar; the last words are the summary."""
    site = make_sending_site(30, rate=20)
    with scripted({}) as server:
        outcome = site.send(server)
    told = [_SAID.fullmatch(line) for line in outcome.err.splitlines()]
    assert len(told) >= 3
    assert all(told)
    assert outcome.out.splitlines()[0] == "30 emails to send"
    assert re.fullmatch(r"30 emails in \d+\.\d s, \d+\.\d a second", outcome.out.splitlines()[1])


def test_a_short_run_says_nothing_in_between(make_sending_site: MakeSendingSite) -> None:
    """A line comes each ten seconds; the summary says the rest."""
    site = make_sending_site(5, rate=20)
    with scripted({}) as server:
        outcome = site.send(server)
    assert outcome.err == ""


def test_the_rate_at_the_end_is_the_rate(make_sending_site: MakeSendingSite) -> None:
    """It is what was sent by the time it took."""
    site = make_sending_site(21, rate=20)
    with scripted({}) as server:
        outcome = site.send(server)
    found = re.search(r"^21 emails in (\d+\.\d) s, (\d+\.\d) a second$", outcome.out, re.MULTILINE)
    assert found
    assert float(found[2]) == pytest.approx(21 / float(found[1]), rel=0.1)
