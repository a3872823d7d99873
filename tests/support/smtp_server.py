"""Mail servers for the tests: one that misbehaves as told, and what a real one needs for TLS."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SILENCE = b"(says nothing)"
CLOSE = b"(closes)"
DRIP = b"(a byte at a time)"
_DRIPS = 0.03
_USUAL: Mapping[str, bytes] = {
    "connect": b"220 ready\r\n",
    "EHLO": b"250-hello\r\n250 SIZE 1000000\r\n",
    "DATA": b"354 go on\r\n",
    "QUIT": b"221 bye\r\n",
}


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@define
class Scripted:
    """A server that answers each command as its script says, else as servers do.

    The script's keys are `connect`, commands, `data` (once the data begins to come) and `.`.
    A list is used up one answer a time. Each answer comes after `pause` seconds. Who says nothing
    for `idle` seconds is told so, and left.
    """

    script: dict[str, bytes | list[bytes]]
    port: int = 0
    pause: float = 0.0
    idle: float = 10.0
    commands: list[str] = field(factory=list)
    messages: list[bytes] = field(factory=list)
    times: list[float] = field(factory=list)
    """When each of the messages was whole, by the steady clock."""
    envelopes: list[tuple[str, str]] = field(factory=list)
    """Sender and last recipient of each of the messages, whichever connection it came on."""
    _came: threading.Event = field(factory=threading.Event)
    _answering: threading.Event = field(factory=_set)
    _now: threading.local = field(factory=threading.local)
    _connections: list[tuple[socket.socket, threading.Thread]] = field(factory=list)

    @contextmanager
    def holding(self) -> Iterator[threading.Event]:
        """Take letters but answer none for a block; the event given is set once one has come."""
        self._came.clear()
        self._answering.clear()
        try:
            yield self._came
        finally:
            self._answering.set()

    def serve(self, listening: socket.socket, stopped: threading.Event) -> None:
        """Hold conversations, many at once, until the listening socket is closed."""
        while not stopped.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.settimeout(self.idle)
            # Many may speak at once, and one that hears nothing must not hold up the others.
            words = (connection, stopped)
            thread = threading.Thread(target=self._converse, args=words, daemon=True)
            self._connections.append((connection, thread))
            thread.start()

    def end(self) -> None:
        """Wait until all that was said is read, and every connection has ended."""
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            for connection, thread in self._connections:
                # Closed by now, most of them; what has arrived on the others is still read.
                with suppress(OSError):
                    connection.shutdown(how)
                thread.join(10)
        assert not any(thread.is_alive() for _, thread in self._connections)

    def _converse(self, connection: socket.socket, stopped: threading.Event) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                going = self._answer(connection, "connect", stopped)
                while going and (line := self._next(connection, lines.readline)):
                    going = self._command(connection, lines.readline, line, stopped)
        except OSError:
            return

    def _next(self, connection: socket.socket, readline: Callable[[], bytes]) -> bytes:
        try:
            return readline()
        except TimeoutError:
            connection.sendall(b"421 4.4.2 idle for too long\r\n")
            return b""

    def _command(
        self,
        connection: socket.socket,
        readline: Callable[[], bytes],
        line: bytes,
        stopped: threading.Event,
    ) -> bool:
        text = line.decode("ascii", "replace").strip()
        self.commands.append(text)
        word = text.partition(" ")[0].upper()
        if word in {"MAIL", "RCPT"}:
            setattr(self._now, word, text.partition("<")[2].partition(">")[0])
        if not self._answer(connection, word, stopped):
            return False
        if word != "DATA" or not self._now.said.startswith(b"354"):
            return word != "QUIT"
        if self.script.get("data"):
            # The rest is never read.
            connection.recv(1000)
            return self._answer(connection, "data", stopped)
        received: list[bytes] = []
        while (read := readline()) not in (b".\r\n", b""):
            received.append(read)
        self.envelopes.append((self._now.MAIL, self._now.RCPT))
        self.messages.append(b"".join(received))
        self.times.append(time.monotonic())
        self._came.set()
        self._answering.wait(60)
        return self._answer(connection, ".", stopped)

    def _answer(self, connection: socket.socket, word: str, stopped: threading.Event) -> bool:
        answer = self.script.get(word, _USUAL.get(word, b"250 ok\r\n"))
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else _USUAL.get(word, b"250 ok\r\n")
        self._now.said = answer
        if answer == SILENCE:
            stopped.wait(10)
            return False
        if answer == CLOSE:
            # Seconds of lingering 0: the other side is told by a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        stopped.wait(self.pause)
        said = answer.removesuffix(CLOSE)
        if said.startswith(DRIP):
            for byte in said.removeprefix(DRIP):
                connection.sendall(bytes([byte]))
                stopped.wait(_DRIPS)
        else:
            connection.sendall(said)
        return not answer.endswith(CLOSE)


@contextmanager
def scripted(
    script: Mapping[str, bytes | list[bytes]], *, pause: float = 0.0, idle: float = 10.0
) -> Iterator[Scripted]:
    """Run a `Scripted` server on a port of 127.0.0.1 for a block."""
    server = Scripted(dict(script), pause=pause, idle=idle)
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.port = listening.getsockname()[1]
        thread = threading.Thread(target=server.serve, args=(listening, stopped), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            stopped.set()
            # Wakes whoever waits for a connection.
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(15)
            server.end()


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """Write a fresh certificate for `host`, signed by itself, and its key; return both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    today = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    address: x509.GeneralName = x509.DNSName(host)
    if host[0].isdigit():
        address = x509.IPAddress(ipaddress.ip_address(host))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - day)
        .not_valid_after(today + day)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / f"{host}.crt", folder / f"{host}.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file
