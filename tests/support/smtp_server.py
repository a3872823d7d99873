"""An SMTP server that follows a script, and certificates for servers with TLS."""

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
    """An SMTP server that answers each command by its script, or by the usual reply.

    The keys of the script are `connect`, commands, `data` (when the data begin to arrive) and `.`.
    Of a list, each reply is used once. Each reply comes after `pause` seconds. A connection that is
    idle for `idle` seconds gets 421 and is closed.
    """

    script: dict[str, bytes | list[bytes]]
    port: int = 0
    pause: float = 0.0
    idle: float = 10.0
    commands: list[str] = field(factory=list)
    messages: list[bytes] = field(factory=list)
    times: list[float] = field(factory=list)
    """The monotonic time at which each message was complete."""
    envelopes: list[tuple[str, str]] = field(factory=list)
    """The sender and the last recipient of each message."""
    _received: threading.Event = field(factory=threading.Event)
    _answering: threading.Event = field(factory=_set)
    _now: threading.local = field(factory=threading.local)
    _connections: list[tuple[socket.socket, threading.Thread]] = field(factory=list)

    @contextmanager
    def holding(self) -> Iterator[threading.Event]:
        """Receive messages without replying for a block; the event is set when one has arrived."""
        self._received.clear()
        self._answering.clear()
        try:
            yield self._received
        finally:
            self._answering.set()

    def serve(self, listening: socket.socket, stopped: threading.Event) -> None:
        """Accept connections and serve each in a thread, until the listening socket is closed."""
        while not stopped.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.settimeout(self.idle)
            # A connection that waits must not hold up the others.
            arguments = (connection, stopped)
            thread = threading.Thread(target=self._serve_connection, args=arguments, daemon=True)
            self._connections.append((connection, thread))
            thread.start()

    def end(self) -> None:
        """Read the input that has arrived, and wait until every connection has ended."""
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            for connection, thread in self._connections:
                # Most are closed by now; input that has arrived on the others is still read.
                with suppress(OSError):
                    connection.shutdown(how)
                thread.join(10)
        assert not any(thread.is_alive() for _, thread in self._connections)

    def _serve_connection(self, connection: socket.socket, stopped: threading.Event) -> None:
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
        if word != "DATA" or not self._now.reply.startswith(b"354"):
            return word != "QUIT"
        if self.script.get("data"):
            # The rest of the data is never read.
            connection.recv(1000)
            return self._answer(connection, "data", stopped)
        received: list[bytes] = []
        while (read := readline()) not in (b".\r\n", b""):
            received.append(read)
        self.envelopes.append((self._now.MAIL, self._now.RCPT))
        self.messages.append(b"".join(received))
        self.times.append(time.monotonic())
        self._received.set()
        self._answering.wait(60)
        return self._answer(connection, ".", stopped)

    def _answer(self, connection: socket.socket, word: str, stopped: threading.Event) -> bool:
        answer = self.script.get(word, _USUAL.get(word, b"250 ok\r\n"))
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else _USUAL.get(word, b"250 ok\r\n")
        self._now.reply = answer
        if answer == SILENCE:
            stopped.wait(10)
            return False
        if answer == CLOSE:
            # With a linger time of 0 the connection is reset.
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
            # Wake the thread that waits for a connection.
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(15)
            server.end()


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """Write a self-signed certificate for `host` and its key; return both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    today = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    address: x509.GeneralName = x509.DNSName(host)
    if host[0].isdigit():
        address = x509.IPAddress(ipaddress.ip_address(host))
    signed = (
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
    certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file
