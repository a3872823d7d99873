"""Request links to other sites, and remember those that work."""

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
from urllib.parse import quote, unquote, urljoin, urlsplit

from attrs import define, field, frozen

from postroom import __version__
from postroom.files import link_fault, replace_file

CACHE_LIFETIME = 7 * 86_400
"""The seconds for which a working link is not requested again; broken links are not cached."""


@frozen
class LinkCache:
    """URLs that worked when last requested, and need no new request yet.

    Each URL is stored with the time of its last response, in seconds since 1970.
    """

    file: Path
    ok: dict[str, float] = field(factory=dict)

    def write(self) -> None:
        """Write the cache for the next run, unless its folder is a symbolic link."""
        folder = self.file.parent
        if link_fault(folder.parent, folder):
            return
        folder.mkdir(exist_ok=True)
        data = json.dumps(self.ok, indent=0, sort_keys=True) + "\n"
        replace_file(self.file, data.encode())


def load_link_cache(file: Path, now: float) -> LinkCache:
    """Return the cache in `file` without expired URLs; a damaged file is an empty cache."""
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return LinkCache(file)
    rows = data if isinstance(data, Mapping) else {}
    times = ((str(url), time) for url, time in rows.items())
    return LinkCache(
        file,
        {
            url: float(time)
            for url, time in times
            if isinstance(time, (int, float)) and now - CACHE_LIFETIME < time <= now
        },
    )


NetworkAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_TIMEOUT = 10.0
_MAX_ATTEMPTS = 3
"""IP addresses tried for each host; each one that does not respond takes `_TIMEOUT` seconds."""
_PAUSE = 1.0
_WORKERS = 8
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Status codes that a page may send to a program although a browser can open it.
_REFUSALS = frozenset({401, 402, 403, 407, 408, 425, 429, 451, 503, 999})
_HEADERS = {"User-Agent": f"Postroom/{__version__} (checks whether links work)"}


class _RefusedError(OSError):
    """A URL that must not be requested."""


def is_public(address: NetworkAddress) -> bool:
    """Tell whether `address` belongs to the public internet."""
    return address.is_global and not address.is_multicast


@define
class HostThrottle:
    """Limits requests to one a second for each host; `clock` and `sleep` count in seconds."""

    clock: Callable[[], float]
    sleep: Callable[[float], None]
    _next: dict[str, float] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def wait(self, host: str) -> None:
        """Sleep until a request to `host` is allowed."""
        with self._lock:
            now = self.clock()
            start = max(now, self._next.get(host, now))
            self._next[host] = start + _PAUSE
        if start > now:
            self.sleep(start - now)


@frozen
class LinkChecker:
    """Requests URLs to find broken links; `admits` tells which IP addresses may be connected to."""

    throttle: HostThrottle
    admits: Callable[[NetworkAddress], bool] = is_public
    _silent: set[str] = field(init=False, factory=set)
    """Hosts that timed out; they are not requested again."""

    def faults(self, urls: Iterable[str]) -> Mapping[str, str]:
        """Return what is wrong with each URL, by URL; the text is empty if the URL works."""
        ordered = _interleave_hosts(urls)
        pool = ThreadPoolExecutor(_WORKERS)
        try:
            return dict(zip(ordered, pool.map(self.fault, ordered), strict=True))
        finally:
            # After Ctrl-C only the requests that have started are awaited.
            pool.shutdown(cancel_futures=True)

    def fault(self, url: str) -> str:
        """Return what is wrong with `url`, or an empty string.

        The first request is a HEAD; if the response is an error, a GET follows.
        """
        found = ""
        for method in ("HEAD", "GET"):
            try:
                found = self._follow(method, url)
            except (_RefusedError, socket.gaierror) as error:
                return _describe(error)
            except (OSError, http.client.HTTPException, ValueError) as error:
                found = _describe(error)
            if not found:
                return ""
        return found

    def _follow(self, method: str, url: str) -> str:
        for _ in range(_MAX_REDIRECTS):
            status, target = self._request(method, url)
            if status in _REDIRECTS and target:
                url = urljoin(url, target)
            elif status < 400 or status in _REFUSALS:
                return ""
            else:
                return f"responds {status} {http.client.responses.get(status, '')}".strip()
        return f"redirects more than {_MAX_REDIRECTS} times"

    def _request(self, method: str, url: str) -> tuple[int, str]:
        parts = urlsplit(url)
        host = unquote(parts.hostname or "").encode("idna").decode()
        if parts.scheme not in {"http", "https"} or not host:
            raise _RefusedError("does not redirect to a web page")
        if parts.netloc in self._silent:
            raise TimeoutError
        self.throttle.wait(host)
        connection = self._connection(parts.scheme, host, parts.port)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.connect()
            with _deadline(connection.sock):
                connection.request(method, target, headers=_HEADERS)
                response = connection.getresponse()
            return response.status, _encode_location(response.getheader("Location", ""))
        except TimeoutError:
            if method == "GET":  # some hosts do not support HEAD
                self._silent.add(parts.netloc)
            raise
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "https":
            return _Secure(host, port, self.admits)
        return _Plain(host, port, self.admits)


class _Plain(http.client.HTTPConnection):
    """An unencrypted HTTP connection, only to an IP address that `admits` allows."""

    def __init__(
        self, host: str, port: int | None, admits: Callable[[NetworkAddress], bool]
    ) -> None:
        super().__init__(host, port, timeout=_TIMEOUT)
        self._admits = admits

    def connect(self) -> None:
        """Connect to the first IP address of the host that `admits` allows."""
        self.sock = _connect(self.host, self.port, self._admits)


class _Secure(http.client.HTTPSConnection):
    """An HTTPS connection, only to an IP address that `admits` allows."""

    def __init__(
        self, host: str, port: int | None, admits: Callable[[NetworkAddress], bool]
    ) -> None:
        super().__init__(host, port, timeout=_TIMEOUT)
        self._admits = admits

    def connect(self) -> None:
        """Connect to the first IP address that `admits` allows, and verify the certificate."""
        plain = _connect(self.host, self.port, self._admits)
        self.sock = ssl.create_default_context().wrap_socket(
            plain, server_hostname=self.host, do_handshake_on_connect=False
        )
        with _deadline(self.sock):
            self.sock.do_handshake()


@contextmanager
def _deadline(connection: socket.socket) -> Iterator[None]:
    """Close `connection` and raise `TimeoutError` if the block takes longer than `_TIMEOUT`.

    A timeout of the socket would limit only the wait for the next bytes, not the whole response.
    """
    expired = threading.Event()

    def close() -> None:
        expired.set()
        with suppress(OSError):
            # SSLSocket.shutdown would discard the TLS state that the other thread is using.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    watch = threading.Timer(_TIMEOUT, close)
    watch.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not expired.is_set():
            raise
    finally:
        watch.cancel()
    # Truncated header fields would look complete.
    if expired.is_set():
        raise TimeoutError


def _encode_location(target: str) -> str:
    """Return the target of a redirect with bytes outside ASCII percent-encoded, as browsers do."""
    return quote(target.encode("latin-1"), safe="%/:?#[]@!$&'()*+,;=~")


def _connect(host: str, port: int, admits: Callable[[NetworkAddress], bool]) -> socket.socket:
    """Return a connection to `host` at an IP address that `admits` allows.

    The name is looked up only once. A second lookup might return an address that was not checked.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    places = [place[4] for place in found if admits(ipaddress.ip_address(str(place[4][0])))]
    if not places:
        raise _RefusedError("leads to this computer or a private network")
    last: OSError | None = None
    for place in places[:_MAX_ATTEMPTS]:
        try:
            return socket.create_connection((str(place[0]), port), _TIMEOUT)
        except OSError as error:
            last = error
    raise last or OSError("no response")


def _describe(error: Exception) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    if isinstance(error, socket.gaierror):
        return "has an unknown host"
    if isinstance(error, ssl.SSLError):
        return f"is not secure: {(error.reason or 'no TLS').replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return f"does not respond within {_TIMEOUT:.0f} seconds"
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return "does not respond with HTTP"  # its text may hold anything, so it is not shown
    reason = getattr(error, "strerror", "") or str(error) or type(error).__name__
    return f"does not respond: {reason.lower()}"


def _interleave_hosts(urls: Iterable[str]) -> list[str]:
    """Return `urls` in an order in which URLs of the same host are far apart."""
    by_host: dict[str, list[str]] = {}
    for url in dict.fromkeys(urls):
        by_host.setdefault(urlsplit(url).netloc, []).append(url)
    rows = chain.from_iterable(zip_longest(*by_host.values()))
    return [url for url in rows if url]
