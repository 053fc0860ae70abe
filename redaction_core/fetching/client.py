"""Requests by the rules: turns, limits, redirects by hand, attempts."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from types import TracebackType
from typing import Final, Protocol, Self
from urllib.parse import quote, urljoin

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from redaction_core.errors import Failure
from redaction_core.fetching import answers
from redaction_core.fetching.bodies import Bodies
from redaction_core.fetching.hosts import Hosts
from redaction_core.fetching.outcome import Errand, FetchError
from redaction_core.fetching.policy import FetchPolicy
from redaction_core.fetching.resolver import CheckedResolver, Lookup
from redaction_core.fetching.urls import Target, parse_url

_KEPT_ALIVE_S: Final = 15.0
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))


class Pace(Protocol):
    """What robots.txt says of how fast its host may be asked."""

    turn: asyncio.Lock
    delay_s: float


Check = Callable[[Target, Errand], Awaitable[Pace | None]]
"""Raises FetchError where a host's rules forbid a URL; gives a pace where there is one."""

Room = Callable[[], Awaitable[None]]
"""Waits until there is room in memory for one more body."""


class Client:
    """One pool of connections, which lead to checked addresses alone.

    No proxies of the environment, no cookies; one request at a time goes to a host with a pace.
    """

    def __init__(
        self, policy: FetchPolicy, hosts: Hosts, lookup: Lookup | None, room: Room | None
    ) -> None:
        self.policy = policy
        self._room = room
        self.free_hosts = policy.free_hosts
        self._hosts = hosts
        self._lookup = lookup
        self._places = asyncio.Semaphore(policy.in_flight)
        self._bodies = Bodies()

    async def __aenter__(self) -> Self:
        self._resolver = CheckedResolver(self.free_hosts, self._lookup)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,  # the resolver keeps what it checked
                limit=0,  # in_flight bounds them
                keepalive_timeout=_KEPT_ALIVE_S,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self.policy.idle_timeout_s,
                sock_read=self.policy.idle_timeout_s,
            ),
            headers={
                "User-Agent": self.policy.user_agent,
                "Accept": "image/*,*/*;q=0.8",
                "Accept-Encoding": "identity",
            },
        )
        # aiohttp would ask again by itself, uncounted, when a kept connection breaks.
        self._session._retry_connection = False  # noqa: SLF001
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()
        await self._resolver.close()

    async def run(self, target: Target, errand: Errand, check: Check | None = None) -> bytes:
        """Give the body, after as many attempts as it takes and the policy allows.

        A further attempt starts at the URL itself, not where its redirects led.

        Raises:
            FetchError: it is not to be had.
        """
        while True:
            try:
                return await self._attempt(target, errand, check)
            except FetchError as error:
                wait_s = max(error.wait_s, self._backoff_s(errand.attempts))
                last = not error.transient or errand.attempts >= self.policy.attempts
                if last or wait_s >= errand.clock.left_s:
                    raise
            await asyncio.sleep(wait_s)
            errand.clock.charge(wait_s)

    def _backoff_s(self, attempts: int) -> float:
        """Draw a pause: exponential, with full jitter."""
        longest = min(self.policy.max_backoff_s, self.policy.backoff_s * 2.0 ** (attempts - 1))
        return random.uniform(0.0, longest)  # noqa: S311 - spreads load, hides nothing

    async def _attempt(self, target: Target, errand: Errand, check: Check | None) -> bytes:
        seen = {target.url}
        counted = False
        while True:
            pace = None if check is None else await check(target, errand)
            if not counted:
                errand.attempts += 1
                counted = True
            answer = await self._request(target, errand, pace)
            if isinstance(answer, bytes):
                return answer
            target = self._follow(target, answer.location, errand)
            if target.url in seen:
                raise _bad_redirect("a loop of redirects", errand)
            if len(seen) > errand.max_redirects:
                raise _bad_redirect(f"more than {errand.max_redirects} redirects", errand)
            seen.add(target.url)

    def _follow(self, here: Target, location: str, errand: Errand) -> Target:
        try:
            # Bytes that are not UTF-8 arrive as surrogates.
            location.encode()
        except UnicodeEncodeError:
            location = quote(location.encode("utf-8", "surrogateescape"), safe=_PRINTABLE)
        try:
            there = parse_url(urljoin(str(here.url), location), self.free_hosts)
        except ValueError:
            raise _bad_redirect("a redirect to no URL", errand) from None
        except FetchError as error:
            private = error.failure is Failure.PRIVATE_ADDRESS
            failure = error.failure if private else Failure.BAD_REDIRECT
            detail = f"redirected: {error.detail}"
            raise FetchError(failure, detail, status=errand.status) from None
        # What a URL's user and password open is its own host, nobody else's.
        same = there.origin == here.origin
        return there.with_authorization(here.authorization if same else None)

    async def _request(
        self, target: Target, errand: Errand, pace: Pace | None
    ) -> "bytes | _Redirect":
        if target.free:
            return await self._placed(target, errand)
        if self._room is not None:
            await self._room()  # a turn that one waits with is one that others lack
        async with nullcontext() if pace is None else pace.turn:
            await self._hosts.enter(target.host)
            pause_s = 0.0 if pace is None else pace.delay_s
            try:
                return await self._placed(target, errand)
            except FetchError as error:
                pause_s = max(pause_s, error.pause_s)
                raise
            finally:
                self._hosts.leave(target.host, pause_s=pause_s)

    async def _placed(self, target: Target, errand: Errand) -> "bytes | _Redirect":
        async with self._places:
            if self._room is not None:
                await self._room()
            limit = errand.clock.start()
            try:
                async with limit:
                    return await self._ask(target, errand)
            except TimeoutError:
                idle = not limit.expired()
                what = f"nothing arrived for {self.policy.idle_timeout_s:g} s"
                what = what if idle else f"no end within {self.policy.timeout_s:g} s"
                status = errand.status
                raise FetchError(Failure.TIMEOUT, what, transient=idle, status=status) from None
            except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
                raise answers.fault_of(error, errand.status) from None
            finally:
                errand.clock.stop()

    async def _ask(self, target: Target, errand: Errand) -> "bytes | _Redirect":
        errand.status = None
        headers = {"Authorization": target.authorization} if target.authorization else None
        response = await self._session.get(target.url, headers=headers, allow_redirects=False)
        try:
            status = errand.status = response.status
            if self.policy.robots and errand.is_image:
                answers.check_tags(response.headers.getall("X-Robots-Tag", ()))
            if status in answers.WITH_IMAGE:
                return await self._bodies.read(response, errand)
            await self._bodies.skip(response)
            if status not in answers.REDIRECTS:
                raise answers.refusal(status, response.headers, self.policy)
            location = response.headers.get("Location", "").strip()
            if not location:
                raise _bad_redirect("a redirect that leads nowhere", errand)
            return _Redirect(location)
        except FetchError as error:
            error.status = errand.status
            raise
        finally:
            errand.bytes += response.content.total_bytes
            response.release()  # closes the connection if something was not read


class _Redirect:
    __slots__ = ("location",)

    def __init__(self, location: str) -> None:
        self.location = location


def _bad_redirect(detail: str, errand: Errand) -> FetchError:
    return FetchError(Failure.BAD_REDIRECT, detail, status=errand.status)
