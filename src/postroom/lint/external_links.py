"""Which addresses elsewhere led somewhere when they were last asked, and when that was."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, zip_longest
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from attrs import define, field, frozen

from postroom import __version__
from postroom.settings.validation import percent_encode

CACHE_LIFETIME = 7 * 86_400
"""Seconds for which an answer holds; what led nowhere is asked again each time."""


@frozen
class LinkCache:
    """Addresses that led somewhere, each with the time of its answer in seconds since 1970."""

    file: Path
    ok: dict[str, float] = field(factory=dict)

    def write(self) -> None:
        """Keep the answers for the next run."""
        self.file.parent.mkdir(exist_ok=True)
        staged = self.file.with_suffix(".tmp")
        staged.write_text(json.dumps(self.ok, indent=0, sort_keys=True) + "\n", "utf-8")
        staged.replace(self.file)


def load_link_cache(file: Path, now: float) -> LinkCache:
    """Return the answers that are kept in `file` and still hold; none of a damaged one."""
    try:
        kept = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return LinkCache(file)
    well = kept if isinstance(kept, Mapping) else {}
    times = ((str(address), time) for address, time in well.items())
    return LinkCache(
        file,
        {
            address: float(time)
            for address, time in times
            if isinstance(time, (int, float)) and now - CACHE_LIFETIME < time <= now
        },
    )


NetworkAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_TIMEOUT = 10.0
_MACHINES = 3
"""Of one name: a host that has many that do not answer would else be waited for many times."""
_PAUSE = 1.0
_AT_ONCE = 8
_HOPS = 5
_MOVED = frozenset({301, 302, 303, 307, 308})
# What a page may answer to a program though people can read it.
_RESERVED = frozenset({401, 402, 403, 407, 408, 425, 429, 451, 503, 999})
_HEADERS = {"User-Agent": f"Postroom/{__version__} (looks whether links lead somewhere)"}


class _RefusedError(OSError):
    """An address that is not asked."""


def is_public(address: NetworkAddress) -> bool:
    """Tell whether `address` is one of the public internet."""
    return address.is_global and not address.is_multicast


@define
class HostThrottle:
    """Holds each host to one question a second; `clock` and `sleep` count in seconds."""

    clock: Callable[[], float]
    sleep: Callable[[float], None]
    _next: dict[str, float] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def wait(self, host: str) -> None:
        """Return when `host` may be asked; the next one waits for a second more."""
        with self._lock:
            now = self.clock()
            turn = max(now, self._next.get(host, now))
            self._next[host] = turn + _PAUSE
        if turn > now:
            self.sleep(turn - now)


@frozen
class LinkChecker:
    """Asks hosts whether an address leads somewhere; `admits` says which machines are asked."""

    pace: HostThrottle
    admits: Callable[[NetworkAddress], bool] = is_public
    _silent: set[str] = field(init=False, factory=set)
    """Hosts that were waited for in vain: they are not asked again."""

    def faults(self, addresses: Iterable[str]) -> Mapping[str, str]:
        """Return what is wrong with each address: nothing, or a few words."""
        in_turn = _by_turns(addresses)
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            return dict(zip(in_turn, pool.map(self.fault, in_turn), strict=True))
        finally:
            # Whoever stops the run waits for what was asked, and for no more.
            pool.shutdown(cancel_futures=True)

    def fault(self, address: str) -> str:
        """Return what is wrong with `address`, or nothing.

        It is asked for its head, and for the page itself where a host does not answer that well.
        """
        found = ""
        for method in ("HEAD", "GET"):
            try:
                found = self._answered(method, address)
            except (_RefusedError, socket.gaierror) as error:
                return _trouble(error)
            except (OSError, http.client.HTTPException, ValueError) as error:
                found = _trouble(error)
            if not found:
                return ""
        return found

    def _answered(self, method: str, address: str) -> str:
        for _ in range(_HOPS):
            status, target = self._ask(method, address)
            if status in _MOVED and target:
                address = urljoin(address, target)
            elif status < 400 or status in _RESERVED:
                return ""
            else:
                return f"answers {status} {http.client.responses.get(status, '')}".strip()
        return f"leads on more than {_HOPS} times"

    def _ask(self, method: str, address: str) -> tuple[int, str]:
        parts = urlsplit(address)
        host = unquote(parts.hostname or "").encode("idna").decode()
        if parts.scheme not in {"http", "https"} or not host:
            raise _RefusedError("leads on to no web address")
        if parts.netloc in self._silent:
            raise TimeoutError
        self.pace.wait(host)
        connection = self._connection(parts.scheme, host, parts.port)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.connect()
            with _in_time(connection.sock):
                connection.request(method, target, headers=_HEADERS)
                answer = connection.getresponse()
            return answer.status, _ascii(answer.getheader("Location", ""))
        except TimeoutError:
            if method == "GET":  # some do not know HEAD
                self._silent.add(parts.netloc)
            raise
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "https":
            return _Secure(host, port, self.admits)
        return _Plain(host, port, self.admits)


class _Plain(http.client.HTTPConnection):
    """A connection to a machine that may be asked."""

    def __init__(
        self, host: str, port: int | None, admits: Callable[[NetworkAddress], bool]
    ) -> None:
        super().__init__(host, port, timeout=_TIMEOUT)
        self._admits = admits

    def connect(self) -> None:
        """Connect to the first machine of that name that may be asked."""
        self.sock = _reached(self.host, self.port, self._admits)


class _Secure(http.client.HTTPSConnection):
    """The same with TLS."""

    def __init__(
        self, host: str, port: int | None, admits: Callable[[NetworkAddress], bool]
    ) -> None:
        super().__init__(host, port, timeout=_TIMEOUT)
        self._admits = admits

    def connect(self) -> None:
        """Connect to the first machine of that name that may be asked, and verify its name."""
        plain = _reached(self.host, self.port, self._admits)
        self.sock = ssl.create_default_context().wrap_socket(
            plain, server_hostname=self.host, do_handshake_on_connect=False
        )
        with _in_time(self.sock):
            self.sock.do_handshake()


@contextmanager
def _in_time(connection: socket.socket) -> Iterator[None]:
    """Cut a connection whose answer comes drop by drop; raises `TimeoutError` if it was cut."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            # TLS would first forget its keys, which the reader is using.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    watch = threading.Timer(_TIMEOUT, cut)
    watch.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not late.is_set():
            raise
    finally:
        watch.cancel()
    # Half a head that was cut off looks like a whole one.
    if late.is_set():
        raise TimeoutError


def _ascii(target: str) -> str:
    """Return where an answer leads on, its bytes outside ASCII encoded as browsers do it."""
    return percent_encode(target.encode("latin-1"))


def _reached(host: str, port: int, admits: Callable[[NetworkAddress], bool]) -> socket.socket:
    """Return a connection to `host`; the name is looked up once, so that it cannot change."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    places = [place[4] for place in found if admits(ipaddress.ip_address(str(place[4][0])))]
    if not places:
        raise _RefusedError("leads to this machine or a private network")
    last: OSError | None = None
    for place in places[:_MACHINES]:
        try:
            return socket.create_connection((str(place[0]), port), _TIMEOUT)
        except OSError as error:
            last = error
    raise last or OSError("no answer")


def _trouble(error: Exception) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    if isinstance(error, socket.gaierror):
        return "its host is not known"
    if isinstance(error, ssl.SSLError):
        return f"is not safe: {(error.reason or 'no TLS').replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return f"does not answer within {_TIMEOUT:.0f} seconds"
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return "answers with what is no HTTP"  # whose words are not repeated
    reason = getattr(error, "strerror", "") or str(error) or type(error).__name__
    return f"does not answer: {reason.lower()}"


def _by_turns(addresses: Iterable[str]) -> list[str]:
    """Return addresses so that one host's stand far from each other."""
    by_host: dict[str, list[str]] = {}
    for address in dict.fromkeys(addresses):
        by_host.setdefault(urlsplit(address).netloc, []).append(address)
    rows = chain.from_iterable(zip_longest(*by_host.values()))
    return [address for address in rows if address]
