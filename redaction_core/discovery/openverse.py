"""A client of the Openverse API: one request at a time, paced, patient, and honest about itself.

Source: the API's documentation and, for what it leaves out (headers, errors, tokens), its code at
github.com/WordPress/openverse.
"""

import asyncio
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp

from redaction_core.discovery.answers import Page, not_documented, parse, plain_text
from redaction_core.discovery.limits import ANONYMOUS_PER_MINUTE, APPLICATION_PER_MINUTE
from redaction_core.discovery.rates import retry_after_s, stated_rates
from redaction_core.errors import Failure, InputError, UsageError

_ATTEMPTS: Final = 5
_TIMEOUT_S: Final = 30.0  # one attempt, all in all
_LONGEST_BACKOFF_S: Final = 30.0
_MAX_BYTES: Final = 2**24  # a page of 240 results has less than 1 MB
_EXPIRES_EARLY_S: Final = 60.0
_LONGEST_DETAIL: Final = 200
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_TOO_MANY: Final = 429
_TIMED_OUT: Final = 408
_TRANSIENT: Final = {_TIMED_OUT, _TOO_MANY}
_REDIRECTS: Final = range(300, 400)
_SERVER_FAILS: Final = range(500, 600)
_REFUSED: Final = {_UNAUTHORIZED, 402, 403, 407, 451}
_ID, _SECRET = "OPENVERSE_CLIENT_ID", "OPENVERSE_CLIENT_SECRET"


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What an application registered with Openverse has; neither part is ever shown."""

    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)

    @classmethod
    def of_environment(cls) -> Self | None:
        """Take OPENVERSE_CLIENT_ID and OPENVERSE_CLIENT_SECRET; None where neither is set.

        Raises:
            UsageError: only one of them is set.
        """
        client_id, secret = os.environ.get(_ID), os.environ.get(_SECRET)
        if not client_id and not secret:
            return None
        if not client_id or not secret:
            raise UsageError(f"set both {_ID} and {_SECRET}, or neither")
        return cls(client_id=client_id, client_secret=secret)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manners:
    """How the client behaves towards the service."""

    contact: str | None = None
    """For the User-Agent: an address or page where the service can reach who runs this."""
    requests_per_minute: float | None = None
    """Default: what the API allows, 20, or 100 with credentials."""
    max_wait_s: float = 120.0
    """A longer wait that the API asks for ends the search."""
    backoff_s: float = 1.0
    """First pause before another attempt where the API names none; doubled each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@asynccontextmanager
async def open_api(
    api: str,
    manners: Manners,
    *,
    credentials: Credentials | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator["Openverse"]:
    """Open a client of the service at an address that `checked_api` let pass.

    `say` tells people why they wait.

    Raises:
        UsageError: credentials would go unencrypted to another machine.
    """
    parts = urlsplit(api)
    here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if credentials is not None and parts.scheme == "http" and not here:
        raise UsageError(f"{_ID} and {_SECRET} are sent over https only: check --api")
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    headers = {"User-Agent": user_agent(manners.contact), "Accept": "application/json"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        yield Openverse(session, api, manners, credentials, say)


def checked_api(api: str) -> str:
    """Return the address without a slash at its end.

    Raises:
        UsageError: it is no http or https URL with a host, or has more than a path.
    """
    try:
        parts = urlsplit(api)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or "@" in parts.netloc or parts.query or parts.fragment or not api.isprintable():
        # The text may hold credentials, so it is not shown.
        raise UsageError("--api is no http or https address of a server, without credentials")
    return api.rstrip("/")


def user_agent(contact: str | None) -> str:
    """Name this program, its version, and where to reach who runs it.

    Raises:
        UsageError: the contact cannot stand in a header.
    """
    if contact is not None and not (contact.isascii() and contact.isprintable()):
        raise UsageError("--contact is an e-mail address or a URL, in ASCII")
    try:
        name = f"redaction-audit/{version('redaction-audit')}"
    except PackageNotFoundError:  # run from its source, on a cluster
        name = "redaction-audit"
    return f"{name} (+{contact})" if contact else name


class Openverse:
    """The API, with a pace of its own; not for several tasks at once."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        api: str,
        manners: Manners,
        credentials: Credentials | None,
        say: Callable[[str], None],
    ) -> None:
        """Take an open session; `open_api` makes one."""
        self.requests = 0
        """How many were sent, failed ones and those for tokens too; not those that aiohttp sends
        once more where a connection breaks before an answer."""
        self._session = session
        self._api = api
        self._manners = manners
        self._credentials = credentials
        self._say = say
        allowed = APPLICATION_PER_MINUTE if credentials else ANONYMOUS_PER_MINUTE
        self._gap_s = 60 / (manners.requests_per_minute or allowed)
        self._next = 0.0
        self._token = ""
        self._token_until = 0.0

    async def search(
        self, query: str, *, licenses: tuple[str, ...], page: int, page_size: int
    ) -> Page:
        """Ask for one page of the images that a query finds; pages count from 1.

        Raises:
            InputError: the API refuses or fails after all attempts, or answers in another shape.
        """
        asked = {"q": query, "page": str(page), "page_size": str(page_size)}
        if licenses:
            asked["license"] = ",".join(licenses)
        answer = await self._authorized(asked)
        if answer.status == _UNAUTHORIZED and self._credentials:
            self._token_until = 0.0  # it may have been withdrawn
            answer = await self._authorized(asked)
        if answer.status != _OK:
            raise self._refusal(answer)
        return Page.of_answer(answer.body, page)

    async def _authorized(self, asked: Mapping[str, str]) -> _Answer:
        headers = {}
        if self._credentials is not None:
            await self._renew_token(self._credentials)
            headers["Authorization"] = f"Bearer {self._token}"
        return await self._ask("GET", "/v1/images/", params=asked, headers=headers)

    async def _renew_token(self, credentials: Credentials) -> None:
        if time.monotonic() < self._token_until:
            return
        form = {
            "grant_type": "client_credentials",
            "client_id": credentials.client_id,
            "client_secret": credentials.client_secret,
        }
        answer = await self._ask("POST", "/v1/auth_tokens/token/", data=form)
        if answer.status != _OK:
            # Its text is not shown: it may repeat what was sent.
            raise InputError(
                Failure.FORBIDDEN,
                f"the API gives no token for {_ID} and {_SECRET} (HTTP {answer.status}): "
                "check them, or unset both",
            )
        found = parse(answer.body)
        token = found.get("access_token") if isinstance(found, dict) else None
        lasts_s = found.get("expires_in") if isinstance(found, dict) else None
        if not isinstance(token, str) or re.fullmatch(r"[!-~]+", token) is None:
            raise not_documented("a token without 'access_token'")
        if not isinstance(lasts_s, (int, float)):
            raise not_documented("a token without 'expires_in'")
        self._token = token
        self._token_until = time.monotonic() + lasts_s - _EXPIRES_EARLY_S

    async def _ask(self, method: str, path: str, **arguments: Any) -> _Answer:  # noqa: ANN401 - aiohttp's
        """Send a request until it is answered for good, or attempts or patience are at an end."""
        for attempt in range(1, _ATTEMPTS + 1):
            await self._keep_pace()
            wait_s: float | None = None
            try:
                answer = await self._once(method, path, arguments)
            except aiohttp.ClientConnectorCertificateError as error:
                raise self._failed(Failure.CONNECTION, "has no valid certificate") from error
            except TimeoutError:
                failed = self._failed(Failure.TIMEOUT, f"does not answer in {_TIMEOUT_S:g} s")
            except aiohttp.ClientError as error:
                failed = self._failed(Failure.CONNECTION, f"breaks off ({type(error).__name__})")
            else:
                if answer.status not in _TRANSIENT and answer.status not in _SERVER_FAILS:
                    return answer
                failed = self._refusal(answer)
                wait_s = retry_after_s(answer.headers.get("Retry-After"))
            if attempt == _ATTEMPTS:
                raise failed
            await self._wait(wait_s, attempt, failed)
        raise AssertionError  # the last attempt returned or raised

    async def _once(self, method: str, path: str, arguments: Mapping[str, Any]) -> _Answer:
        self.requests += 1
        # A redirect could lead credentials elsewhere; the documented addresses have none.
        async with self._session.request(
            method, self._api + path, allow_redirects=False, **arguments
        ) as response:
            body = bytearray()
            async for piece in response.content.iter_chunked(2**16):
                body += piece
                if len(body) > _MAX_BYTES:
                    raise not_documented(f"more than {_MAX_BYTES} bytes")
            self._slow_down(response.headers)
            return _Answer(status=response.status, headers=response.headers, body=bytes(body))

    async def _keep_pace(self) -> None:
        now = time.monotonic()
        start = max(now, self._next)
        self._next = start + self._gap_s
        if start > now:
            await asyncio.sleep(start - now)

    def _slow_down(self, headers: Mapping[str, str]) -> None:
        """Go no faster than the limits a second or minute that an answer states."""
        self._gap_s = max([self._gap_s, *(rate.gap_s for rate in stated_rates(headers))])

    async def _wait(self, asked_s: float | None, attempt: int, failed: InputError) -> None:
        """Wait as long as the API asks, else longer each time, and by chance a little less."""
        if asked_s is not None and asked_s > self._manners.max_wait_s:
            raise InputError(
                failed.failure,
                f"{failed.detail}; it asks to wait {asked_s:.0f} s: the same command goes on "
                "then, and with a larger --max-wait-s it waits itself",
            )
        backoff_s = min(self._manners.backoff_s * 2 ** (attempt - 1), _LONGEST_BACKOFF_S)
        wait_s = backoff_s * random.uniform(0.5, 1) if asked_s is None else asked_s  # noqa: S311
        self._say(f"{failed.detail}: again in {wait_s:.0f} s")
        await asyncio.sleep(wait_s)

    def _refusal(self, answer: _Answer) -> InputError:
        status = answer.status
        if status == _TOO_MANY:
            rates = ", ".join(sorted(rate.text for rate in stated_rates(answer.headers)))
            limits = f" (limits: {rates})" if rates else ""
            return self._failed(Failure.RATE_LIMITED, f"has had enough requests{limits}")
        if status == _TIMED_OUT:
            return self._failed(Failure.TIMEOUT, f"gives up (HTTP {status})")
        if status in _SERVER_FAILS:
            return self._failed(Failure.SERVER_ERROR, f"fails (HTTP {status})")
        if status in _REDIRECTS:
            return self._failed(
                Failure.CLIENT_ERROR, f"has moved (HTTP {status}): give --api its new address"
            )
        failure = Failure.FORBIDDEN if status in _REFUSED else Failure.CLIENT_ERROR
        return self._failed(failure, f"refuses the search (HTTP {status}){_detail(answer.body)}")

    def _failed(self, failure: Failure, what: str) -> InputError:
        return InputError(failure, f"the API at {self._api} {what}")


def _detail(body: bytes) -> str:
    """Tell what the API gives as its reason, where it does."""
    try:
        found = parse(body)
    except InputError:
        return ""
    detail = found.get("detail") if isinstance(found, dict) else None
    text = plain_text(detail if isinstance(detail, str) else str(detail or ""))
    return f": {text[:_LONGEST_DETAIL]}" if text else ""
