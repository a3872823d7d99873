"""An SMTP server in a separate process, which records every message that it accepts.

`python mailserver.py LOG` prints its port, and serves until its standard input is closed. A line of
LOG is the recipient and the Message-ID. It is written after the final dot; the reply follows,
sometimes after a pause. A client that is killed in between has an uncertain delivery.
"""

from __future__ import annotations

import os
import random
import re
import socketserver
import sys
import threading
import time

SLOW, SECONDS = 0.2, 0.02
"""The share of replies to a message that are slow, and their longest delay."""
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^>]+)>", re.MULTILINE | re.IGNORECASE)
_chance = random.Random(20261201)  # noqa: S311 - not for secrets


class Conversation(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Reply to every command until the client disconnects."""
        recipient = b""
        try:
            self._say(b"220 ready")
            while line := self.rfile.readline():
                word = line.strip().upper()
                if word.startswith(b"RCPT TO:"):
                    recipient = line.strip()[len(b"RCPT TO:<") : -1]
                if word == b"QUIT":
                    self._say(b"221 bye")
                    return
                if word == b"DATA":
                    self._say(b"354 go on")
                    if not self._take(recipient):
                        return
                else:
                    self._say(b"250 ok")
        except OSError:
            return

    def _say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")

    def _take(self, recipient: bytes) -> bool:
        received = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return False
            received.append(line)
        found = _MESSAGE_ID.search(b"".join(received))
        # One write, so that lines of several connections do not mix.
        os.write(LOG, recipient + b" " + (found[1] if found else b"-") + b"\n")
        if _chance.random() < SLOW:
            time.sleep(_chance.random() * SECONDS)
        self._say(b"250 taken")
        return True


class Server(socketserver.ThreadingTCPServer):
    """Serve each connection in a thread."""

    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    LOG = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Server(("127.0.0.1", 0), Conversation) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)  # noqa: T201 - whoever started it reads this
        sys.stdin.read()
