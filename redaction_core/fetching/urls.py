"""URLs of strangers: what they point at, and how they may be written down."""

import re
from base64 import b64encode
from dataclasses import dataclass, replace
from typing import Final, Self
from urllib.parse import unquote_plus

from yarl import URL

from redaction_core.errors import Failure
from redaction_core.fetching.addresses import canonical_host, is_address, is_public
from redaction_core.fetching.outcome import FetchError

LONGEST_URL: Final = 16_384
"""Characters; servers take half of it."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SCHEME: Final = re.compile(r"(https?)://", re.IGNORECASE)
# Sent as it stands: a URL may be signed, and quoting it anew would change its text.
_CLEAN: Final = re.compile(r"(?!.*/\.)(?:[!$&'()*+,\-./0-9:;=?@A-Z\[\]_a-z|~]|%[0-9A-Fa-f]{2})*")

_BEFORE_AUTHORITY: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_AUTHORITY: Final = re.compile(r"[^/?#]*")
_PLAIN_AUTHORITY: Final = re.compile(r"(?:\[[^\]@]*\]|[^:@]*)(?::\d*)?")
# What follows is searched by hand: an expression that looks for ":" and "@" takes quadratic time.
_NESTED: Final = re.compile(r"(//|%2f%2f)([^/?#&]+)", re.IGNORECASE)
_PARAMETER: Final = re.compile(r"(?<=[?&;#])([^=&;#?]*)=([^&;#]*)")
_SECRET_ENDS: Final = (
    *("token", "secret", "password", "passwd", "signature", "credential", "credentials"),
    *("apikey", "accesskey", "accesskeyid", "accessid", "authorization"),
)
_SECRETS: Final = frozenset(
    {
        *("key", "sig", "auth", "pass", "pwd", "jwt", "sid", "sas", "session", "sessionid"),
        *("hmac", "hdnts", "hdnea", "policy", "keypairid"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where one request goes."""

    url: URL
    """Without user and password."""
    host: str
    """In its one spelling."""
    port: int
    free: bool
    """Whether the host is one of those that may be private and carry no limits."""
    authorization: str | None
    """The header made of user and password."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.url.scheme, self.host, self.port

    @property
    def robots_url(self) -> URL:
        """Where the rules of its origin lie."""
        return self.url.with_path("/robots.txt")

    def with_authorization(self, authorization: str | None) -> Self:
        """Give the same with another header, or none."""
        if authorization == self.authorization:
            return self
        return replace(self, authorization=authorization)


def parse_url(text: str, free_hosts: frozenset[str] = frozenset()) -> Target:
    """Read a URL as it will be asked for; what is malformed is never guessed at.

    Raises:
        FetchError: `BAD_URL`, or `PRIVATE_ADDRESS` for an address that is not public; the text
            repeats nothing of the URL but its host.
    """
    text = text.strip(" \t\r\n")
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise FetchError(Failure.BAD_URL, "not an http or https URL")
    if len(text) > LONGEST_URL:
        raise FetchError(Failure.BAD_URL, f"longer than {LONGEST_URL} characters")
    if _CONTROL.search(text):
        raise FetchError(Failure.BAD_URL, "it has control characters")
    try:
        url = URL(text)
        user, password, port, raw_host = url.user, url.password, url.port, url.raw_host
    except ValueError:
        # The parser's words repeat parts of the URL, which may be credentials.
        raise FetchError(Failure.BAD_URL, "its host or port is malformed") from None
    rest = text[scheme.end() :]
    if not raw_host or not port or ("[" in _authority(rest) and ":" not in raw_host):
        raise FetchError(Failure.BAD_URL, "it has no host, or no port, that there can be")
    try:
        host = canonical_host(raw_host)
    except ValueError as error:
        failure = Failure.PRIVATE_ADDRESS if "scoped" in str(error) else Failure.BAD_URL
        raise FetchError(failure, str(error)) from None
    free = host in free_hosts
    if not free and is_address(host) and not is_public(host):
        raise FetchError(Failure.PRIVATE_ADDRESS, f"{host} is not a public address")
    tail = _tail(rest, url)
    shown = f"[{host}]" if ":" in host else host
    place = shown if port == (80 if url.scheme == "http" else 443) else f"{shown}:{port}"
    authorization = None
    if user or password:
        pair = f"{user or ''}:{password or ''}".encode("utf-8", "surrogateescape")
        authorization = f"Basic {b64encode(pair).decode()}"
    return Target(
        url=URL(f"{url.scheme}://{place}{tail}", encoded=True),
        host=host,
        port=port,
        free=free,
        authorization=authorization,
    )


def _authority(rest: str) -> str:
    match = _AUTHORITY.match(rest)
    return match[0] if match else ""


def _tail(rest: str, url: URL) -> str:
    """Give path and query as they stand where they can be sent so, else quoted."""
    tail = rest[len(_authority(rest)) :].partition("#")[0]
    if _CLEAN.fullmatch(tail) is None:
        return url.raw_path_qs
    return tail if tail.startswith("/") else f"/{tail}"


def host_of(url: str) -> str:
    """Give the host by which requests are counted and limited; "" if there is none."""
    try:
        # Private addresses have hosts as well: which are refused is not asked here.
        raw_host = URL(url.strip(" \t\r\n")).raw_host
        return canonical_host(raw_host) if raw_host else ""
    except ValueError:
        return ""


def printable_url(url: str) -> str:
    """Write a URL so that it can be shown and stored: one line, without credentials.

    User and password are left out, and so are the values of parameters that look like secrets;
    control characters are escaped. Where the URL is malformed, so that one cannot tell what is
    user and password, everything before the last `@` is left out.
    """
    plain = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in url.strip(" \t\r\n")
    )
    scheme = _BEFORE_AUTHORITY.match(plain)
    start = scheme.end() if scheme else 0
    odd = scheme is None or "\\" in plain or any(char.isspace() for char in plain)
    where = _authority(plain[start:])
    rest = plain[start + len(where) :]
    where = where.rpartition("@")[2]
    if (odd or _PLAIN_AUTHORITY.fullmatch(where) is None) and "@" in plain:
        start, where, rest = 0, "***@", plain.rpartition("@")[2]
    rest = _NESTED.sub(_hide_user, rest)
    return plain[:start] + where + _PARAMETER.sub(_hide, rest)


def _hide_user(nested: re.Match[str]) -> str:
    """Leave out user and password of a URL within a URL, quoted or not."""
    lower = nested[2].lower()
    end = max(lower.rfind("@") + 1, lower.rfind("%40") + 3 * ("%40" in lower))
    if ":" not in lower[:end] and "%3a" not in lower[:end]:
        return nested[0]
    return f"{nested[1]}***@{nested[2][end:]}"


def _hide(parameter: re.Match[str]) -> str:
    name = re.sub(r"[^a-z0-9]", "", unquote_plus(parameter[1]).lower())
    secret = name in _SECRETS or name.endswith(_SECRET_ENDS)
    return f"{parameter[1]}=***" if secret and parameter[2] else parameter[0]
