"""Notify the hub that feeds have changed (WebSub, W3C Recommendation of 23 January 2018, §6).

WebSub leaves open how a publisher notifies its hub. Hubs accept the "new content notification" of
PubSubHubbub 0.3 §7.1: a form with hub.mode and hub.url.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator

from attrs import frozen

_TRIES = 3
_TIMEOUT = 20.0
_LONGEST_WAIT = 60.0
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, since most would turn the POST request into a GET request."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


@frozen
class PingResult:
    """The result of one notification; `detail` is the response of the hub, or the error."""

    feed: str
    accepted: bool
    detail: str
    tries: int


def ping_hub(
    hub: str, feeds: Iterable[str], sleep: Callable[[float], None]
) -> Iterator[PingResult]:
    """Notify `hub` of each of `feeds`, one after the other, and yield the results.

    After a temporary error (no connection, 429, 5xx) a notification is repeated, up to three tries
    in all. The pauses between them grow, unless the hub sends Retry-After. After other refusals
    and redirects it is not repeated.
    """
    for feed in feeds:
        yield _notify(hub, feed, sleep)


def _notify(hub: str, feed: str, sleep: Callable[[float], None]) -> PingResult:
    detail = ""
    for number in range(1, _TRIES + 1):
        answer = _post(hub, feed)
        detail = answer.detail
        if answer.accepted or not answer.temporary or number == _TRIES:
            return PingResult(feed, answer.accepted, detail, number)
        sleep(min(_LONGEST_WAIT, answer.wait or 2.0**number))
    return PingResult(feed, accepted=False, detail=detail, tries=_TRIES)


@frozen
class _Answer:
    accepted: bool
    detail: str
    temporary: bool = False
    wait: float = 0.0


def _post(hub: str, feed: str) -> _Answer:
    form = urllib.parse.urlencode({"hub.mode": "publish", "hub.url": feed}).encode()
    request = urllib.request.Request(hub, form, method="POST")  # noqa: S310 - settings allow http(s)
    try:
        with _OPENER.open(request, timeout=_TIMEOUT) as answer:
            return _Answer(accepted=True, detail=f"{answer.status} {answer.reason}".strip())
    except urllib.error.HTTPError as error:
        with error:
            wait = error.headers.get("Retry-After", "")
            moved = error.headers.get("Location", "")
            detail = f"{error.code} {error.reason}".strip()
            detail += f": the hub has moved to {moved}" if moved else ""
        # RFC 9110 §10.2.3: seconds, or a date, for which the usual pause is used.
        seconds = float(wait) if wait.isdecimal() else 0.0
        return _Answer(
            accepted=False, detail=detail, temporary=error.code in _TEMPORARY, wait=seconds
        )
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return _Answer(accepted=False, detail=f"no answer: {reason}", temporary=True)
