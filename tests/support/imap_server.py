"""A real IMAP server for the tests: Dovecot in a temporary folder, on ports of this machine."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field, frozen

from tests.support.smtp_server import certificate

# Debian installs Dovecot here, which may not be on PATH.
PROGRAM = "/usr/sbin/dovecot"
USER, PASSWORD = "reports@example.com", "pässword/@"
_CONFIGURATION = """\
protocols = imap
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
default_internal_user = {internal}
default_internal_group = {group}
default_login_user = {login}
first_valid_uid = 1
mail_location = maildir:{folder}/mail
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {plain}
  }}
  inet_listener imaps {{
    port = {tls}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


@frozen
class Server:
    """A running server with the mailbox of one user."""

    folder: Path
    plain: int
    tls: int

    @property
    def authority(self) -> Path:
        """The CA certificate of the server."""
        return self.folder / "127.0.0.1.crt"

    def put(self, messages: Mapping[str, bytes]) -> None:
        """Deliver messages, each under a name."""
        for name, data in messages.items():
            path = self.folder / "mail/new" / name
            path.write_bytes(data)
            shutil.chown(path, *_owner())

    def flags(self) -> dict[str, str]:
        """Return the flags of all messages, by name."""
        found = {}
        for path in sorted(self.folder.glob("mail/[nc]*/*")):
            if path.parent.name in {"new", "cur"}:
                name, _, rest = path.name.partition(":2,")
                found[name.partition(",")[0]] = rest
        return found


def _owner() -> tuple[int, int]:
    """Return the owner of the mail: Dovecot refuses root."""
    if os.geteuid():
        return os.geteuid(), os.getegid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def run_server(program: str) -> Iterator[Server]:
    """Run the server `program` for a block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Server(folder, _port(), _port())
        _prepare(server)
        command = [program, "-F", "-c", str(folder / "dovecot.conf")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _wait(server, process)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise


@define
class Scripted:
    """A server that answers each command as its script says, else with OK.

    The script's keys are commands, as in `UID FETCH`; `%` stands for the command's tag.
    """

    script: Mapping[str, bytes]
    port: int = 0
    commands: list[str] = field(factory=list)

    def converse(self, connection: socket.socket) -> None:
        """Serve one connection."""
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"* OK ready\r\n")
            for line in lines:
                tag, _, command = line.decode().strip().partition(" ")
                self.commands.append(command)
                words = command.split()
                name = " ".join(words[:2]) if words[0] == "UID" else words[0]
                answer = self.script.get(name, b"% OK done\r\n")
                connection.sendall(answer.replace(b"%", tag.encode()))
                if name == "LOGOUT":
                    return


@contextmanager
def run_script(script: Mapping[str, bytes]) -> Iterator[Scripted]:
    """Run a `Scripted` server for one connection in a block."""
    usual = {"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n% OK done\r\n"}
    server = Scripted({**usual, **script})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.port = listening.getsockname()[1]
        thread = threading.Thread(target=lambda: server.converse(listening.accept()[0]))
        thread.daemon = True
        thread.start()
        yield server
        thread.join(10)


def _prepare(server: Server) -> None:
    folder, (uid, gid) = server.folder, _owner()
    for name in ("mail", "mail/new", "mail/cur", "mail/tmp"):
        (folder / name).mkdir()
        shutil.chown(folder / name, uid, gid)
    certificate_file, key = certificate(folder, "127.0.0.1")
    users = folder / "users"
    users.write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n", "utf-8")
    # Dovecot's own user must be able to read the files.
    users.chmod(0o644)
    own = pwd.getpwuid(os.geteuid()).pw_name
    is_root = os.geteuid() == 0
    text = _CONFIGURATION.format(
        folder=folder,
        internal="dovecot" if is_root else own,
        group="dovecot" if is_root else grp.getgrgid(os.getegid()).gr_name,
        login="dovenull" if is_root else own,
        certificate=certificate_file,
        key=key,
        uid=uid,
        gid=gid,
        plain=server.plain,
        tls=server.tls,
    )
    (folder / "dovecot.conf").write_text(text, "utf-8")


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", server.tls), 1).close()
        except OSError:
            if process.poll() is not None:
                raise AssertionError(process.communicate()[1].decode()) from None
            time.sleep(0.05)
        else:
            return
    raise AssertionError((server.folder / "log").read_text())
