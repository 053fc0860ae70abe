"""What an answer's status and headers mean, and what the errors of aiohttp mean."""

import os
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from redaction_core.errors import Failure
from redaction_core.fetching.outcome import FetchError
from redaction_core.fetching.policy import PRODUCT, FetchPolicy

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
WITH_IMAGE: Final = frozenset({200, 203, 204})
"""200 and 203 bring an image, 204 brings no bytes; 206 brings a part nobody asked for."""

_LONGEST_PAUSE_S: Final = 300.0
_SERVER_ERRORS: Final = range(500, 600)
_BY_STATUS: Final = {
    **dict.fromkeys((404, 410), Failure.NOT_FOUND),
    **dict.fromkeys((401, 402, 403, 407, 451), Failure.FORBIDDEN),
    408: Failure.TIMEOUT,
    429: Failure.RATE_LIMITED,
}
_FORBIDDING: Final = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
# Directives that have a colon of their own; any other word before a colon names an agent.
_WITH_VALUE: Final = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)


def refusal(status: int, headers: Mapping[str, str], policy: FetchPolicy) -> FetchError:
    """Say what an answer without an image means, for the URL and for its host."""
    failure = _BY_STATUS.get(status)
    if failure is None:
        failure = Failure.SERVER_ERROR if status in _SERVER_ERRORS else Failure.CLIENT_ERROR
    transient = failure in {Failure.TIMEOUT, Failure.RATE_LIMITED, Failure.SERVER_ERROR}
    asked_s = retry_after(headers.get("Retry-After", "")) if transient else None
    pause_s = asked_s or 0.0
    if failure is Failure.RATE_LIMITED and asked_s is None:
        pause_s = 2 * policy.backoff_s
    return FetchError(
        failure,
        f"HTTP status {status}",
        transient=transient,
        wait_s=pause_s,
        pause_s=min(pause_s, _LONGEST_PAUSE_S),
    )


def retry_after(text: str) -> float | None:
    """Read Retry-After, seconds or a date, as seconds from now; None if it is neither."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def check_tags(values: Iterable[str]) -> None:
    """Refuse what a directive of X-Robots-Tag forbids a data set, or us.

    A directive holds for the agent named before it in the same header, else for everyone.

    Raises:
        FetchError: `ROBOTS_TAG`.
    """
    for value in values:
        ours = True
        for part in value.lower().split(","):
            word, colon, rest = (text.strip() for text in part.partition(":"))
            if colon and word not in _WITH_VALUE:
                ours, word = word in {PRODUCT, "*"}, rest
            if ours and word in _FORBIDDING:
                raise FetchError(Failure.ROBOTS_TAG, f"X-Robots-Tag says {word}")


def fault_of(error: Exception, status: int | None) -> FetchError:
    """Translate what aiohttp raises; its texts hold the URL, so none is repeated."""
    failure, transient = Failure.CONNECTION, True
    if isinstance(error, aiohttp.ClientPayloadError):
        failure, detail = Failure.INCOMPLETE_BODY, "the body ended before its announced end"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        detail, transient = "the host's TLS certificate is not valid", False
    elif isinstance(error, aiohttp.ClientSSLError):
        detail, transient = "the host does not speak TLS as it should", False
    elif isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        # On a kept connection it may be what an earlier answer sent beyond its announced end.
        detail = "the host does not speak HTTP as it should"
    elif isinstance(error, aiohttp.InvalidURL):
        failure, detail, transient = Failure.BAD_URL, "it cannot be asked for", False
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        detail = "the host hung up without an answer"
    elif isinstance(error, OSError) and error.errno:
        detail = f"the connection failed: {os.strerror(error.errno).lower()}"
    else:
        detail = "the connection failed"
    return FetchError(failure, detail, transient=transient, status=status)
