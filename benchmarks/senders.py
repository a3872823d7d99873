"""The senders that `send.py` compares, each in processes of its own.

    python benchmarks/senders.py PORT EMAILS SIZE CONNECTIONS

This runs the bare loop, which prints the seconds that it took, and those of the processor.
"""

from __future__ import annotations

import os
import pwd
import shutil
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import frozen

# No sender may hang for longer.
LONGEST = 600.0
PROGRAMS = "/usr/sbin:/usr/lib/postfix/sbin:/usr/libexec/postfix"


@frozen
class Run:
    """The speed of a sender: emails a second, and µs of processor time for each."""

    rate: float
    cpu: float
    output: str = ""


@frozen
class Setup:
    """The input of all senders: the server's port, the number of emails, their size, a folder."""

    port: int
    emails: int
    size: int
    folder: Path

    def environment(self, url: str | None = None) -> dict[str, str]:
        """Return the environment of `postroom`, with its database."""
        own = {
            "POSTROOM_SMTP_URL": f"smtp://127.0.0.1:{self.port}",
            "POSTROOM_SECRET_KEY": "a key that is for measuring only",
            **({"POSTROOM_DATABASE_URL": url} if url else {}),
        }
        rest = {k: v for k, v in os.environ.items() if not k.startswith("POSTROOM_")}
        return {**rest, **own}


# Processes


def program(name: str) -> str:
    """Return where a program of Postfix's is."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PROGRAMS}")
    if not found:
        sys.exit(f"{name}: not found; install Debian's package postfix")
    return found


def used(
    command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[float, float, str]:
    """Run a program; return the seconds it took, those of the processor, and what it printed."""
    before = os.times()
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONGEST,
        check=False,
    )
    seconds, after = time.perf_counter() - start, os.times()
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{output[-2000:]}")
    spent = after.children_user + after.children_system
    return seconds, spent - before.children_user - before.children_system, output


@contextmanager
def sink() -> Iterator[int]:
    """Run Postfix's smtp-sink for a block; give its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = ("-u", pwd.getpwuid(65534).pw_name) if os.geteuid() == 0 else ()
    command = [program("smtp-sink"), *user, f"127.0.0.1:{port}", "1000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 10
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("smtp-sink does not answer")
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()


# The senders


def by_postfix(setup: Setup, connections: int) -> Run:
    """Send by smtp-source."""
    options = f"-d -s {connections} -m {setup.emails} -l {setup.size} 127.0.0.1:{setup.port}"
    seconds, spent, _ = used([program("smtp-source"), *options.split()])
    return Run(setup.emails / seconds, spent / setup.emails * 1e6)


def by_smtplib(setup: Setup, connections: int) -> Run:
    """Send by smtplib, in a process of its own."""
    step = f"{setup.port} {setup.emails} {setup.size} {connections}"
    _, _, output = used([sys.executable, __file__, *step.split()])
    seconds, spent = map(float, output.split())
    return Run(setup.emails / seconds, spent / setup.emails * 1e6)


def bare_loop(port: int, emails: int, size: int, connections: int) -> None:
    """Send the same bytes to everybody, over as many connections as threads; print the times."""
    line = b"Words of Koeln and elsewhere, twelve of them in a line, and more to fill it.\r\n"
    message = b"From: news@example.com\r\nSubject: News\r\n\r\n" + line * (size // len(line))
    counter = iter(range(emails))
    servers = [
        smtplib.SMTP("127.0.0.1", port, local_hostname="localhost", timeout=60)
        for _ in range(connections)
    ]

    def send(server: smtplib.SMTP) -> None:
        # One `next` is one step of the interpreter: no two threads get the same number.
        for number in counter:
            server.sendmail("bounces@example.com", [f"reader.{number}@example.com"], message)

    start, before = time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=send, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(time.perf_counter() - start, time.process_time() - before)


def by_postroom(
    setup: Setup, site_dir: Path, url: str | None, command: Sequence[str] = ("-m", "postroom")
) -> Run:
    """Send by `postroom send`, once with all emails due and once with none."""
    words = [sys.executable, *command, "send", "--keep-ledger-here"]
    times = [used(words, cwd=site_dir, env=setup.environment(url)) for _ in range(2)]
    (seconds, spent, output), (idle, idle_spent, _) = times
    taken = sent(site_dir, url)
    if taken != setup.emails:
        sys.exit(f"postroom send sent {taken} emails of {setup.emails}:\n{output[-2000:]}")
    return Run(
        setup.emails / (seconds - idle), (spent - idle_spent) / setup.emails * 1e6, output=output
    )


def sent(site_dir: Path, url: str | None) -> int:
    """Return how many emails the ledger calls sent."""
    from postroom.db.store import open_store  # noqa: PLC0415 - the bare loop's process does not need it

    store = open_store(url, site_dir)
    try:
        return store.deliveries.count_by_state().get("sent", 0)
    finally:
        store.database.close()


if __name__ == "__main__":
    bare_loop(*map(int, sys.argv[1:]))
